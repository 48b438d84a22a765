"""Label maps as people see them: counted, painted, and blended with their image.

Counting and blending are compiled (paint.c), if hatch_build.py could compile them, else by NumPy and Pillow.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from PIL import Image

from fastscnn.base import kernels
from fastscnn.base.types import Int64Array, UInt8Array

LIBRARY = Path(__file__).with_name(f"paint{kernels.SUFFIX}")
_VALUES = 256


class Kernel:
    """The compiled functions. They run without the GIL.

    Args:
        path: the shared library.

    Raises:
        OSError: it is missing, or this process cannot load it.
        AttributeError: it has the interface of another version.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path.resolve()))
        self._count, self._blend = library.fastscnn_count_1, library.fastscnn_blend_1
        data, size = ctypes.c_void_p, ctypes.c_int64
        self._count.argtypes = (data, size, data)
        self._blend.argtypes = (data, data, data, ctypes.c_float, size, data)
        self._count.restype = self._blend.restype = None

    def count(self, labels: UInt8Array) -> Int64Array:
        """Do what `counts` does."""
        labels, found = np.ascontiguousarray(labels, np.uint8), np.empty(_VALUES, np.int64)
        self._count(labels.ctypes.data, labels.size, found.ctypes.data)
        return found

    def blend(
        self, image: UInt8Array, labels: UInt8Array, palette: UInt8Array, opacity: float, result: UInt8Array
    ) -> None:
        """Do what `blend` does."""
        image, labels, palette = (np.ascontiguousarray(array, np.uint8) for array in (image, labels, palette))
        self._blend(image.ctypes.data, labels.ctypes.data, palette.ctypes.data, opacity, labels.size, result.ctypes.data)


KERNEL = kernels.load(Kernel, LIBRARY)


def counts(labels: UInt8Array) -> Int64Array:
    """Return the number of pixels of each label, int64 [256], of uint8 [H, W]."""
    return counts_in_numpy(labels) if KERNEL is None else KERNEL.count(labels)


def painted(labels: UInt8Array, palette: UInt8Array) -> UInt8Array:
    """Return labels uint8 [H, W] in the colours of a palette uint8 [256, 3]: uint8 [H, W, 3] RGB."""
    return np.array(_painted(labels, palette), np.uint8)


def blend(image: UInt8Array, labels: UInt8Array, palette: UInt8Array, opacity: float, result: UInt8Array) -> None:
    """Fill `result` with image + opacity * (colour of the label - image), in float32 and truncated.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W].
        palette: uint8 [256, 3], the colour of each label.
        opacity: from 0 to 1.
        result: uint8 [H, W, 3], contiguous.
    """
    assert image.shape == result.shape == (*labels.shape, 3)
    assert palette.shape == (_VALUES, 3)
    assert result.flags.c_contiguous
    if KERNEL is None:
        result[...] = blend_in_pillow(image, labels, palette, opacity)
    else:
        KERNEL.blend(image, labels, palette, opacity, result)


def counts_in_numpy(labels: UInt8Array) -> Int64Array:
    """Return what `counts` returns: the oracle of the compiled function."""
    return np.bincount(labels.ravel(), minlength=_VALUES).astype(np.int64)


def blend_in_pillow(image: UInt8Array, labels: UInt8Array, palette: UInt8Array, opacity: float) -> UInt8Array:
    """Return what `blend` fills in: the oracle of the compiled function."""
    return np.array(Image.blend(Image.fromarray(image), _painted(labels, palette), opacity), np.uint8)


def _painted(labels: UInt8Array, palette: UInt8Array) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    return image.convert("RGB")
