"""Fix the size of the input, and fold everything that depends on sizes alone into constants.

The averaging matrices of the pyramid pooling and the sizes of all resizings are computed from the size of the input. With a
fixed size they are constants. Compilers for NPUs require that, and TensorRT builds faster engines from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fastscnn.base.errors import FastSCNNError

# Nodes that a graph of fixed size must not have: they compute sizes, or averaging matrices from sizes.
DYNAMIC = ("Shape", "Size", "Range", "Sign", "Mod", "ConstantOfShape", "Gather", "NonZero", "Expand")
_KEPT = ("QuantizeLinear", "DequantizeLinear")  # folded, int8 weights would become float32
_PASSES = 10  # each makes the shapes of further nodes known; four are needed

_Constants = dict[str, npt.NDArray[Any]]


def fix_size(model: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """Return a graph that takes one image of one size, without nodes that compute sizes.

    Args:
        model: takes `images` [N, H, W, channels] of any N, H and W.
        size: (height, width).

    Raises:
        FastSCNNError: a node of `DYNAMIC` is left.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    for dimension, length in zip(graph.input[0].type.tensor_type.shape.dim, (1, *size), strict=False):
        dimension.dim_value = length  # which clears the name
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")  # inferred again
    for _ in range(_PASSES):
        del graph.value_info[:]
        fixed = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
        graph = fixed.graph
        if not _fold(fixed):
            break
    left = sorted({node.op_type for node in graph.node} & set(DYNAMIC))
    if left:
        raise FastSCNNError(f"static: the size cannot be fixed, because the graph computes with {', '.join(left)}; export "
                            "without a static size.")
    return fixed


def _fold(model: onnx.ModelProto) -> bool:
    """Replace the nodes whose result is known by constants; return whether there were any."""
    graph = model.graph
    shapes = _known_shapes(graph)
    constants: _Constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept, renamed, made = [], dict[str, str](), list[str]()
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        value = _value(model, node, constants, shapes)
        if value is not None:
            constants[node.output[0]] = value
            made.append(node.output[0])
        elif _does_nothing(node, constants) and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(constants[name]), name) for name in made)
    read = {name for node in kept for name in node.input} | outputs
    used = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)
    return bool(made or renamed)


def _known_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the values whose dimensions are all known."""
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(side.HasField("dim_value") for side in tensor.shape.dim):
            shapes[value.name] = tuple(side.dim_value for side in tensor.shape.dim)
    return shapes


def _value(
    model: onnx.ModelProto, node: Any, constants: _Constants, shapes: Mapping[str, tuple[int, ...]]
) -> npt.NDArray[Any] | None:
    """Return the result of a node, if it is known."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        limits = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(shapes[node.input[0]][limits.get("start", 0) : limits.get("end")], np.int64)
    if node.op_type in _KEPT or len(node.output) != 1 or not all(name in constants for name in node.input if name):
        return None
    names = [name for name in node.input if name]
    given = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(constants[name].dtype), None)
             for name in dict.fromkeys(names)]
    result = helper.make_empty_tensor_value_info(node.output[0])
    alone = helper.make_model(helper.make_graph([node], "alone", given, [result]), opset_imports=model.opset_import)
    (value,) = ReferenceEvaluator(alone).run(None, {name: constants[name] for name in names})
    return np.asarray(value)


def _does_nothing(node: Any, constants: _Constants) -> bool:
    """Return whether a node returns its input: it pads by nothing, or scatters nothing (`stem.grouped` and `stem.clear`)."""
    amount = constants.get(node.input[1]) if len(node.input) > 1 else None
    if amount is None:
        return False
    return (node.op_type == "Pad" and not amount.any()) or (node.op_type == "ScatterElements" and amount.size == 0)
