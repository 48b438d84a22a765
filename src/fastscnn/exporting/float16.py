"""Convert an exported network to float16: weights and feature maps; sizes and averaging matrices stay in float32."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastscnn.exporting.metadata import card_of, with_card


def to_float16(exported: bytes) -> bytes:
    """Return a network in float16 that takes the same uint8 images and returns float32 logits.

    Only the path from the images to the logits is converted. What is computed from the size of the input stays in float32:
    float16 has no whole numbers above 2048 without gaps.

    Args:
        exported: content of the float32 ONNX file that `trace` returns.
    """
    model = onnx.load_from_string(exported)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    typed = onnx.shape_inference.infer_shapes(model).graph
    floats = {value.name for value in typed.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    path, nodes, halved = {"images"}, [], dict[str, str]()
    for node in graph.node:
        if node.op_type == "Shape" or not path.intersection(node.input):
            nodes.append(node)
            continue
        path.update(node.output)
        for place, name in enumerate(node.input):
            if name in path or not (name in floats or _is_float(weights.get(name))):
                continue
            if name not in halved:
                halved[name] = f"{name}.float16"
                if name in weights:
                    value = numpy_helper.to_array(weights[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(value, halved[name]))
                else:  # an averaging matrix
                    nodes.append(helper.make_node("Cast", [name], [halved[name]], halved[name], to=TensorProto.FLOAT16))
            node.input[place] = halved[name]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        node.output[:] = ["logits.float16" if name == "logits" else name for name in node.output]
        nodes.append(node)
    nodes.append(helper.make_node("Cast", ["logits.float16"], ["logits"], "logits.float32", to=TensorProto.FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    return with_card(model, dataclasses.replace(card_of(exported), precision="float16"))


def _is_float(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type == TensorProto.FLOAT
