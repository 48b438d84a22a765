"""The weights that the package carries: trained on CamVid, see their card."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled(backend: str = "auto", precision: str = "auto") -> Path:
    """The bundled weights as the file that `backend` runs: in int8 unless another precision is asked for, where it can."""
    if backend in ("torch", "cuda"):
        return _FOLDER / "camvid.safetensors"
    return _FOLDER / ("camvid.int8.onnx" if precision in ("auto", "int8") else "camvid.onnx")
