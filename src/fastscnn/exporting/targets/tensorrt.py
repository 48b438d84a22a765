"""Target tensorrt: an ONNX file that fits the rules of TensorRT's parser. It is checked, but TensorRT itself does not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.targets.onnx import load_onnx
from fastscnn.exporting.targets.target import Exported, Target

_OPSETS = range(9, 26)  # of the parser of TensorRT 11; TensorRT 10.0 ends at 20
# Operators of our graphs of fixed size, all in the parser's list of supported operators.
_SUPPORTED = {
    "Add", "ArgMax", "Cast", "Concat", "Conv", "DequantizeLinear", "Div", "MatMul", "Pad", "QuantizeLinear", "ReduceMax",
    "Relu", "Reshape", "Resize", "Softmax", "Sub", "Transpose",
}  # fmt: skip


def _write(exported: Exported, path: Path) -> None:
    import onnx

    from fastscnn.exporting.metadata import with_card

    model = onnx.load_from_string(exported.content)
    convert_at_the_borders(model)
    found = list(problems(model))
    if found:
        raise FastSCNNError(f"target tensorrt: its parser refuses the network: {'; '.join(found)}. Export for another target.")
    path.write_bytes(with_card(model, exported.card))


def convert_at_the_borders(model: Any) -> None:
    """Cast uint8 images to floating point at once, and labels to uint8 from floating point, in place.

    TensorRT accepts uint8 at the inputs and outputs of a network only, and converts it from and to floating point only.

    Args:
        model: ONNX graph whose images are transposed and then cast; labels are cast to uint8.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    transpose = next(node for node in graph.node if "images" in node.input)
    cast = next(node for node in graph.node if transpose.output[0] in node.input)
    if (transpose.op_type, cast.op_type) == ("Transpose", "Cast"):
        order, kind = list(graph.node), cast.attribute[0].i
        first = helper.make_node("Cast", ["images"], ["images.float"], "images.float", to=kind)
        transpose.input[0], transpose.output[0] = "images.float", cast.output[0]
        order.remove(cast)
        del graph.node[:]
        graph.node.extend([first, *order])
        kept = [value for value in graph.value_info if value.name not in (transpose.output[0], cast.input[0])]
        del graph.value_info[:]
        graph.value_info.extend(kept)
    for place, node in enumerate(graph.node):
        if node.op_type == "Cast" and node.output[0] == "labels":
            graph.node.insert(place, helper.make_node("Cast", [node.input[0]], ["labels.float"], "labels.float",
                                                      to=TensorProto.FLOAT))
            node.input[0] = "labels.float"
            break


def problems(model: Any) -> Iterator[str]:
    """Yield what TensorRT's parser refuses in an ONNX graph: opset, operators, uint8, sizes, zero points."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    for opset in model.opset_import:
        if opset.domain or opset.version not in _OPSETS:
            yield f"the opset {opset.domain or 'ai.onnx'} {opset.version}"
    for name in sorted({node.op_type for node in graph.node} - _SUPPORTED):
        yield f"the operator {name}"
    for value in (*graph.input, *graph.output):
        if not all(side.HasField("dim_value") for side in value.type.tensor_type.shape.dim):
            yield f"the dynamic size of {value.name}"
    outputs = {value.name for value in graph.output}
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.UINT8 and value.name not in outputs:
            yield f"uint8 inside the network, {value.name}"
    for node in graph.node:
        if "images" in node.input and node.op_type != "Cast":
            yield f"uint8 images that {node.op_type} reads"
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants.get(node.input[2]) if len(node.input) > 2 else None
            if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
                yield f"the zero point of {node.name}, which must be 0 of int8"


TARGET = Target(
    name="tensorrt",
    suffix=".onnx",
    what="ONNX file of fixed size that fits TensorRT's parser; build the engine with trtexec",
    check=lambda: None,  # nothing of TensorRT is needed here
    write=_write,
    load=load_onnx,
    precisions=("float32", "float16", "int8-symmetric"),
    static=True,
    runtime="ONNX Runtime, not by TensorRT",
)
