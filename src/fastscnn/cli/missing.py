"""What an installation lacks that only costs time: a sentence for each part, with the fix."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

_LABELS = "fastscnn.upsampling.native"
_KERNELS = {  # module with compiled code -> what happens without it
    _LABELS: "Labels are computed by NumPy, about ten times slower",
    "fastscnn.media.shrinking": "Images are reduced by Pillow, about three times slower",
    "fastscnn.media.label_maps": "Overlays are drawn by Pillow, about five times slower",
}


def slower() -> Iterator[str]:
    """Yield a sentence for each part that is missing."""
    if not find_spec("simplejpeg"):
        yield "simplejpeg is not installed: reading JPEG files takes about twice as long."
    if not find_spec("isal"):
        yield "isal is not installed: writing labels takes about ten times as long."
    yield from filter(None, map(_kernel, _KERNELS))


def slow_labels() -> str:
    """Return the sentence about labels without compiled code, or ""."""
    return _kernel(_LABELS)


def _kernel(name: str) -> str:
    module = import_module(name)
    if module.KERNEL is not None:
        return ""
    state = "does not run here" if module.LIBRARY.is_file() else "is missing"
    return (f"{_KERNELS[name]}: {module.LIBRARY.name} {state}; install a wheel of fastscnn for this system, "
            "or a C compiler and then fastscnn again.")
