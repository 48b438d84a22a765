"""The weights that the package carries: trained on CamVid, see their card."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled(runtime: str = "auto") -> Path:
    """The bundled weights as the file that `runtime` runs."""
    return _FOLDER / ("camvid.safetensors" if runtime == "torch" else "camvid.onnx")
