"""For which runtimes can a network be exported? One module per target, with its conversion and its runtime.

The modules are light: a target imports its converter and its runtime when it is used.
"""

from __future__ import annotations

from fastscnn.exporting.targets import onnx, openvino
from fastscnn.exporting.targets.target import Exported, Runner, Target

__all__ = ["TARGETS", "Exported", "Runner", "Target"]

TARGETS = {target.name: target for target in (onnx.TARGET, openvino.TARGET)}
