"""Rewrite the stem of an exported network (normalisation and first convolution) for fast integer arithmetic.

The uint8 image is used as a quantised tensor with scale 1, so the convolution needs no float32 pass over the image. Its zero
point is 128, near the mean of images: a zero point of 0 would multiply the rounding errors of the weights by the brightness.
With 128, the image minus the zero point fits in int8, for which OpenVINO has the fastest convolution
(`backends.openvino`). The border is padded with that grey.

The integer convolution of ONNX Runtime is fast if the number of input channels is a multiple of four; an image has three.
Four neighbouring pixels of a row are therefore read as one pixel with four times the channels, which moves no data in
[N, H, W, channels]. Two output pixels are computed as one with twice the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_GROUP = 4  # pixels of a row that are read as one pixel
_GREY = 128  # zero point of the image
_APART = "stem.apart"  # the node that splits one output pixel into two

NODES = ("stem.last", _APART, "stem.first")  # added by `grouped`, quantised with the convolution and its ReLU
OPERATORS = ("Transpose", "Reshape")  # of NODES


def fuse_std(model: onnx.ModelProto) -> None:
    """Fuse the division by the standard deviation into the first convolution, in place.

    A network without that division is not changed.

    Raises:
        ValueError: another node reads the normalised image.
    """
    graph = model.graph
    *_, divide, conv, _ = _stem(graph)
    if divide.op_type != "Div":
        return
    std = _array(graph, divide.input[1])
    _set(graph, conv.input[1], _array(graph, conv.input[1]) / std.reshape(1, -1, 1, 1))
    conv.input[0] = divide.input[0]
    _remove(graph, [divide])


def name(model: onnx.ModelProto) -> str:
    """Return the node name of the first convolution."""
    return str(_stem(model.graph)[-2].name)


def suits(model: onnx.ModelProto) -> bool:
    """Return whether `grouped` accepts the network: its first convolution pads by one on all sides, without a Pad node."""
    *before, conv, _ = _stem(model.graph)
    pads = [list(attribute.ints) for attribute in conv.attribute if attribute.name == "pads"]
    return pads == [[1, 1, 1, 1]] and all(node.op_type != "Pad" for node in before)


def grouped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the first convolution to read uint8 pixels in groups of four.

    The result is the same except for two differences. The border is padded with one grey level instead of the mean of each
    channel. If the width modulo 4 is 1 or 2, the output has one extra column; `clear` turns it into padding.

    Args:
        model: exported in float32, changed in place. It subtracts the mean from images uint8 [N, H, W, channels], divides by
            the standard deviation or has it fused, then applies a 3x3 convolution (stride 2, padding 1) and ReLU.

    Returns:
        The network, still in float32. The convolution and the ReLU keep the names of their nodes and outputs.

    Raises:
        ValueError: another first convolution.
    """
    fuse_std(model)
    graph = model.graph
    transpose, cast, subtract, conv, relu = _stem(graph)
    mean, weight, bias = (_array(graph, given) for given in (subtract.input[1], conv.input[1], conv.input[2]))
    outputs, channels, *kernel = weight.shape
    sides = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    if (kernel, sides["strides"], sides["pads"]) != ([3, 3], [2, 2], [1, 1, 1, 1]):
        raise ValueError("the first convolution must be of 3x3 with stride 2 and padding 1.")
    pixels = conv.input[0]

    def constant(suffix: str, value: object, kind: type[np.generic] = np.int64) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, kind), f"stem.{suffix}"))
        return f"stem.{suffix}"

    before = [
        _node("Shape", ["images"], "stem.width", start=2, end=3),
        _node("Neg", ["stem.width"], "stem.minus"),
        _node("Mod", ["stem.minus", constant("four", [_GROUP])], "stem.missing"),
        _node("Concat", [constant("none", [0]), "stem.missing"], "stem.pads", axis=0),
        _node("Pad", ["images", "stem.pads", constant("grey", _GREY, np.uint8), constant("columns", [2])], "stem.padded"),
        _node("Reshape", ["stem.padded", constant("fours", [0, 0, -1, _GROUP * channels])], "stem.together"),
        _node("Transpose", ["stem.together"], "stem.planes", perm=[0, 3, 1, 2]),
        _node("DequantizeLinear", ["stem.planes", constant("scale", 1, np.float32), "stem.grey"], pixels),
    ]
    after = [
        _node("Transpose", [relu.output[0]], "stem.last", perm=[0, 2, 3, 1]),
        _node("Reshape", ["stem.last", constant("twos", [0, 0, -1, outputs])], _APART),
        _node("Transpose", [_APART], "stem.first", perm=[0, 3, 1, 2]),
    ]
    for reader in _readers(graph, relu.output[0]):
        _reread(reader, relu.output[0], "stem.first")
    _insert(graph, conv, before)
    _insert(graph, list(graph.node)[list(graph.node).index(relu) + 1], after)
    _remove(graph, [transpose, cast, subtract])
    _set(graph, conv.input[1], _in_fours(weight))
    _set(graph, conv.input[2], np.tile(bias + (weight.sum((2, 3)) * (_GREY - mean.reshape(-1))).sum(1), 2))
    del conv.attribute[:]
    # Rows as before, columns in groups: of the left group, only the last pixel is read.
    sides = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 0], "group": 1}
    conv.attribute.extend(helper.make_attribute(key, value) for key, value in sides.items())
    _forget(graph, {pixels, conv.output[0], relu.output[0]})
    return onnx.shape_inference.infer_shapes(model)


def clear(model: onnx.ModelProto) -> None:
    """Set the extra column of a `grouped` network to zero, in place, before or after quantisation.

    The next convolution (stride 2, zero padding) reads the column as its padding, so its output has the right width. Slicing
    the column off would copy the tensor at every width; scattering zeros costs nothing at widths without the column.
    """
    graph = model.graph
    (apart,) = (node for node in graph.node if node.name == _APART)
    value, zero = apart.output[0], np.zeros(1, np.float32)
    (reader,) = _readers(graph, value)
    if reader.op_type == "QuantizeLinear":  # its zero point is 0, because it follows a ReLU
        value, zero = reader.output[0], np.zeros(1, np.uint8)
        (reader,) = _readers(graph, value)
    graph.initializer.append(numpy_helper.from_array(np.array([2]), "stem.two"))
    nodes = [
        _node("Shape", [value], "stem.rows", start=0, end=2),
        _node("Div", ["stem.missing", "stem.two"], "stem.surplus"),  # columns; each is two of the image
        _node("Shape", [value], "stem.depth", start=3, end=4),
        _node("Concat", ["stem.rows", "stem.surplus", "stem.depth"], "stem.column", axis=0),
        _node("ConstantOfShape", ["stem.column"], "stem.where", value=numpy_helper.from_array(np.array([-1]))),
        _node("ConstantOfShape", ["stem.column"], "stem.zeros", value=numpy_helper.from_array(zero)),
        _node("ScatterElements", [value, "stem.where", "stem.zeros"], "stem.cleared", axis=2),
    ]
    _reread(reader, value, "stem.cleared")
    _insert(graph, reader, nodes)


def _in_fours(weight: NDArray[Any]) -> NDArray[Any]:
    """Rearrange a kernel [outputs, channels, 3, 3] of stride 2 as [2 * outputs, 4 * channels, 3, 2] of horizontal stride 1.

    The two columns of the new kernel are the previous and the current group of four pixels. The first output pixel is centred
    on pixel 0 of the current group, the second on pixel 2.
    """
    outputs, channels = weight.shape[:2]
    wide = np.zeros((2, outputs, 3, 2 * _GROUP, channels), weight.dtype)
    for which in range(2):
        left = _GROUP + 2 * which - 1
        wide[which, :, :, left : left + 3] = weight.transpose(0, 2, 3, 1)
    split = wide.reshape(2 * outputs, 3, 2, _GROUP * channels)
    return split.transpose(0, 3, 1, 2)


def _stem(graph: Any) -> list[Any]:
    """Return the chain of nodes from the Transpose of the images to the first ReLU; each has one reader, the next node."""
    nodes = [node for node in _readers(graph, "images") if node.op_type == "Transpose"]
    while nodes[-1].op_type != "Relu":
        (reader,) = _readers(graph, nodes[-1].output[0])
        nodes.append(reader)
    return nodes


def _node(kind: str, given: Sequence[str], result: str, **attributes: Any) -> Any:
    """Make a node with the name of its output."""
    return helper.make_node(kind, given, [result], result, **attributes)


def _readers(graph: Any, value: str) -> list[Any]:
    return [node for node in graph.node if value in node.input]


def _reread(node: Any, before: str, now: str) -> None:
    """Replace an input of a node."""
    node.input[:] = [now if value == before else value for value in node.input]


def _insert(graph: Any, following: Any, nodes: Sequence[Any]) -> None:
    """Insert nodes before a node."""
    place = list(graph.node).index(following)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)


def _remove(graph: Any, nodes: Sequence[Any]) -> None:
    """Remove nodes, and the weights that no other node reads."""
    for node in nodes:
        graph.node.remove(node)
        _forget(graph, set(node.output))
    read = {value for node in graph.node for value in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _forget(graph: Any, values: set[str]) -> None:
    """Remove the inferred shapes of values that have changed."""
    for value in [value for value in graph.value_info if value.name in values]:
        graph.value_info.remove(value)


def _array(graph: Any, weight: str) -> NDArray[Any]:
    """Return a weight in float64."""
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == weight)
    return np.asarray(numpy_helper.to_array(tensor), np.float64)


def _set(graph: Any, weight: str, value: NDArray[Any]) -> None:
    """Replace a weight, in float32."""
    _forget(graph, {weight})
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), weight))
