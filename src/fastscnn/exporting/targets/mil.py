"""Compute the program of a Core ML package in PyTorch, operator by operator.

Core ML runs on Apple's systems only. This reads the program and the weights back from the saved package and follows the
definitions of MIL operators in the reference of coremltools. It shows errors of the conversion, not those of Core ML.
In a float16 program, every operator computes in float32 and rounds its result to float16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.target import Runner


def runner(path: Path) -> Runner:
    """Return the program of a package as a function of images uint8 [1, H, W, channels].

    Raises:
        FastSCNNError: the program has an operator that is not defined here.
    """
    block = _program(path)
    (source,), outputs = block.inputs.values(), block.outputs
    for operator in block.operations:
        if operator.op_type not in (*OPERATORS, "const"):
            raise FastSCNNError(f"{path}: the conversion made the operator {operator.op_type}, which is not checked; "
                                "export for another target.")

    @torch.inference_mode()
    def run(images: UInt8Array) -> dict[str, Any]:
        values = {source.name: torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))}
        for operator in block.operations:
            if operator.op_type != "const":
                (output,) = operator.outputs
                given = {name: _value(variable, values) for name, variable in operator.inputs.items() if variable is not None}
                found = OPERATORS[operator.op_type](given)
                values[output.name] = found.half().float() if "fp16" in str(output.dtype) else found
        named = {output.name: values[output.name].numpy() for output in outputs}
        return {name: array.astype(np.uint8) if name == "labels" else array for name, array in named.items()}

    return run


def _program(path: Path) -> Any:
    """Return the main block of the program in a package."""
    with quiet("coremltools"):
        import coremltools
        from coremltools.converters.mil.frontend.milproto.load import load

        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        spec = model.get_spec()
        return load(spec, spec.specificationVersion, model.weights_dir).functions["main"]


def _value(variable: Any, values: Mapping[str, Tensor]) -> Any:
    """Return an input: a computed tensor, a constant array as a tensor, or any other constant as it is."""
    if isinstance(variable, tuple | list):
        return [_value(each, values) for each in variable]
    if variable.name in values:
        return values[variable.name]
    constant = variable.val
    if isinstance(constant, np.ndarray) and constant.dtype.kind == "f":
        return torch.from_numpy(constant.astype(np.float32))
    return constant.tolist() if isinstance(constant, np.ndarray | np.generic) else constant


def _conv(given: Mapping[str, Any]) -> Tensor:
    x = given["x"]
    if given["pad_type"] == "custom":
        top, bottom, left, right = given["pad"]
        x = F.pad(x, (left, right, top, bottom))
    elif given["pad_type"] != "valid":
        raise FastSCNNError(f"The conversion made a convolution with {given['pad_type']} padding, which is not checked.")
    return F.conv2d(x, given["weight"], given.get("bias"), given["strides"], 0, given["dilations"], given["groups"])


def _upsample(given: Mapping[str, Any]) -> Tensor:
    factors = given["scale_factor_height"], given["scale_factor_width"]
    return F.interpolate(given["x"], scale_factor=tuple(map(float, factors)), mode="bilinear",
                         align_corners=given["align_corners"], recompute_scale_factor=False)


def _slice(given: Mapping[str, Any]) -> Tensor:
    begin, end = ([None if masked else at for at, masked in zip(given[side], given[f"{side}_mask"], strict=True)]
                  if f"{side}_mask" in given else given[side] for side in ("begin", "end"))
    found: Tensor = given["x"][tuple(slice(first, last) for first, last in zip(begin, end, strict=True))]
    return found


def _pad(given: Mapping[str, Any]) -> Tensor:
    pairs = list(zip(given["pad"][::2], given["pad"][1::2], strict=True))  # of the last dimensions, the first one first
    return F.pad(given["x"], [side for pair in reversed(pairs) for side in pair], given["mode"], float(given["constant_val"]))


OPERATORS: dict[str, Callable[[Mapping[str, Any]], Tensor]] = {
    "add": lambda given: given["x"] + given["y"],
    "sub": lambda given: given["x"] - given["y"],
    "relu": lambda given: F.relu(given["x"]),
    "linear": lambda given: F.linear(given["x"], given["weight"], given.get("bias")),
    "conv": _conv,
    "concat": lambda given: torch.cat(given["values"], given["axis"]),
    "reshape": lambda given: given["x"].reshape(given["shape"]),
    "transpose": lambda given: given["x"].permute(given["perm"]),
    "slice_by_index": _slice,
    "pad": _pad,
    "upsample_bilinear": _upsample,
    "cast": lambda given: given["x"],  # between float32 and float16: the result is rounded anyway
    "reduce_argmax": lambda given: given["x"].argmax(given["axis"], given["keep_dims"]),
}
