"""The bundled weights: trained on CamVid; their card and LICENSE.md have the details."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled(backend: str = "auto", precision: str = "auto", device: str | None = None) -> Path:
    """Return the bundled weight file for a backend, a precision and a device: int8 by default, where the backend runs it.

    On other devices than the CPU, the default is float32: the int8 file is made for CPUs.
    """
    if backend in ("torch", "cuda"):
        return _FOLDER / "camvid.safetensors"
    int8 = precision == "int8" or (precision == "auto" and device in ("cpu", None))
    return _FOLDER / ("camvid.int8.onnx" if int8 else "camvid.onnx")
