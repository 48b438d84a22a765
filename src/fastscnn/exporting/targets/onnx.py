"""Target onnx: one ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastscnn.exporting.targets.target import Exported, Runner, Target
from fastscnn.model.card import Card


def write_onnx(exported: Exported, path: Path) -> None:
    """Write the ONNX file as it is."""
    path.write_bytes(exported.content)


def load_onnx(path: Path, _: Card) -> Runner:
    """Return the file in ONNX Runtime on the CPU."""
    from fastscnn.backends.onnx import session

    running = session(path.read_bytes(), threads=0)  # 0: ONNX Runtime decides
    names = [output.name for output in running.get_outputs()]
    return lambda images: dict(zip(names, running.run(None, {"images": np.ascontiguousarray(images)}), strict=True))


TARGET = Target(
    name="onnx",
    suffix=".onnx",
    what="ONNX file for ONNX Runtime (Python, C++, C#, Java, JavaScript)",
    check=lambda: None,  # a dependency of the package
    write=write_onnx,
    load=load_onnx,
    runtime="ONNX Runtime",
)
