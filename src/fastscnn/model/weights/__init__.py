"""The bundled weights: trained on CamVid; their card and LICENSE.md have the details."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled(backend: str = "auto", precision: str = "auto") -> Path:
    """Return the bundled weight file for a backend and a precision: int8 by default, where the backend runs it."""
    if backend in ("torch", "cuda"):
        return _FOLDER / "camvid.safetensors"
    return _FOLDER / ("camvid.int8.onnx" if precision in ("auto", "int8") else "camvid.onnx")
