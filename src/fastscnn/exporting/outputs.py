"""Append the upsampling and the argmax to an exported graph, so that it returns full-size labels itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastscnn.exporting.form import Form


def append_labels(model: onnx.ModelProto, form: Form, temperature: float = 1.0) -> None:
    """Replace the output `logits` by `labels`, and `confidence` if the form has it, in place.

    Bilinear interpolation to the size of the labels (half-pixel centres, as `upsample.labels`), then argmax. Of classes that
    tie, the first one wins. The confidence is the largest softmax of the interpolated logits, divided by the temperature.

    Args:
        model: takes `images` [N, H, W, channels], and returns `logits` [N, classes, h, w]; of opset 18 or later.
        form: its output is "labels" or "confidence".
        temperature: of the card.
    """
    graph = model.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    size = form.output_size or form.static or ("height", "width")
    logits = "logits"
    if form.output == "confidence" and temperature != 1:  # divided where it is small; argmax stays the same
        _constant(graph, "labels.temperature", np.float32(temperature))
        logits = _append(graph, "Div", ["logits", "labels.temperature"], "labels.logits")
    _append(graph, "Shape", [logits], "labels.rows", start=0, end=2)
    if form.output_size:
        _constant(graph, "labels.size", np.array(form.output_size, np.int64))
    else:
        _append(graph, "Shape", ["images"], "labels.size", start=1, end=3)
    _append(graph, "Concat", ["labels.rows", "labels.size"], "labels.sizes", axis=0)
    _append(graph, "Resize", [logits, "", "", "labels.sizes"], "labels.upsampled", mode="linear",
            coordinate_transformation_mode="half_pixel")
    _append(graph, "ArgMax", ["labels.upsampled"], "labels.best", axis=1, keepdims=0)
    _append(graph, "Cast", ["labels.best"], "labels", to=TensorProto.UINT8)
    shape = [batch.dim_param or batch.dim_value, *size]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.UINT8, shape))
    if form.output == "confidence":
        _append(graph, "Softmax", ["labels.upsampled"], "labels.probabilities", axis=1)
        _constant(graph, "labels.axis", np.array([1]))
        _append(graph, "ReduceMax", ["labels.probabilities", "labels.axis"], "confidence", keepdims=0)
        graph.output.append(helper.make_tensor_value_info("confidence", TensorProto.FLOAT, shape))


def _constant(graph: Any, name: str, value: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _append(graph: Any, kind: str, given: Sequence[str], result: str, **attributes: Any) -> str:
    """Append a node with the name of its output, and return that name."""
    graph.node.append(helper.make_node(kind, given, [result], result, **attributes))
    return result
