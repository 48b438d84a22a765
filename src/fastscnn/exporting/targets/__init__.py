"""For which runtimes can a network be exported? One module per target, with its conversion and its runtime.

The modules are light: a target imports its converter and its runtime when it is used.
"""

from __future__ import annotations

from fastscnn.exporting.targets import coreml, litert, ncnn, onnx, opencv, openvino, tensorrt, torch_export, triton
from fastscnn.exporting.targets.target import Exported, Runner, Target

__all__ = ["TARGETS", "Exported", "Runner", "Target"]

TARGETS = {target.name: target for target in (
    onnx.TARGET, openvino.TARGET, opencv.TARGET, torch_export.TARGET, tensorrt.TARGET, triton.TARGET,
    litert.TARGET, ncnn.TARGET, coreml.TARGET,
)}  # fmt: skip
