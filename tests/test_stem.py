"""The rewritten first convolution gives the same result at every image size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fastscnn.base.types import UInt8Array
from fastscnn.exporting import stem

MEAN = (123.675, 116.28, 103.53, 127.5)
SIZES = ((33, 40), (34, 41), (35, 42), (36, 43), (32, 33), (47, 66))  # height and width, of every remainder by four


def network(channels: int, mean: tuple[float, ...] = MEAN, std: float | None = None, kernel: int = 3) -> onnx.ModelProto:
    """Return a network of normalisation, the first convolution with ReLU, and a depthwise convolution, both of stride 2."""
    draw = np.random.default_rng(channels)
    weights = {
        "mean": np.reshape(mean[:channels], (-1, 1, 1)),
        "std": np.full((channels, 1, 1), std or 1),
        "stem.weight": draw.normal(0, 0.3, (8, channels, kernel, kernel)) / (1 if std else 58),
        "stem.bias": draw.normal(0.3, 0.1, 8),
        "next.weight": draw.normal(0, 0.4, (8, 1, 3, 3)),
        "next.bias": draw.normal(0, 0.1, 8),
    }
    sides: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        *([helper.make_node("Div", ["centred", "std"], ["scaled"])] if std else []),
        helper.make_node("Conv", ["scaled" if std else "centred", "stem.weight", "stem.bias"], ["conv"], "node stem", **sides),
        helper.make_node("Relu", ["conv"], ["relu"], "node relu"),
        helper.make_node("Conv", ["relu", "next.weight", "next.bias"], ["next"], "node next", group=8, **sides),
        helper.make_node("Shape", ["images"], ["size"]),  # another reader of the images, which is allowed
    ]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", channels])
    result = helper.make_tensor_value_info("next", TensorProto.FLOAT, ["batch", 8, "rows", "columns"])
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [4])
    if not std:
        del weights["std"]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "stem", [given], [result, size], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_from_string(model.SerializeToString())


def noise(batch: int, height: int, width: int, channels: int) -> UInt8Array:
    """Return images in which neighbouring pixels differ."""
    return np.random.default_rng(height).integers(0, 256, (batch, height, width, channels), np.uint8)


def run(model: onnx.ModelProto, pictures: UInt8Array, name: str) -> NDArray[Any]:
    """Return the value of a tensor of a network."""
    model = copied(model)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {"images": pictures})[0])


@pytest.fixture(scope="module", params=[3, 4])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_result_is_the_same(channels: int, height: int, width: int) -> None:
    """Up to rounding inside; at the border, up to the difference of the padding."""
    plain = network(channels)
    other = stem.grouped(copied(plain))
    stem.clear(other)
    onnx.checker.check_model(other, full_check=True)
    pictures = noise(2, height, width, channels)
    expected, got = run(plain, pictures, "relu"), run(other, pictures, "stem.cleared").transpose(0, 3, 1, 2)
    columns = -(-width // 2)
    assert expected.shape == (2, 8, -(-height // 2), columns)
    assert got.shape == (*expected.shape[:3], columns + (width % 4 in (1, 2)))
    assert not got[..., columns:].any()
    difference = np.abs(got[..., :columns] - expected)
    assert difference[:, :, 1 : height // 2, 1 : width // 2].max() < 2e-5
    weight = numpy_helper.to_array(next(tensor for tensor in plain.graph.initializer if tensor.name == "stem.weight"))
    most = np.abs(weight).sum((2, 3)) @ np.abs(128 - np.array(MEAN[:channels]))
    assert (difference.max((0, 2, 3)) < most + 2e-5).all()
    assert run(other, pictures, "next").shape == run(plain, pictures, "next").shape


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_it_is_exact_where_the_mean_is_a_grey(channels: int, height: int, width: int) -> None:
    """At the border too, and after the next convolution, but only if the extra column is cleared."""
    plain = network(channels, (128,) * 4)
    pictures = noise(1, height, width, channels)
    expected = run(plain, pictures, "next")
    other = stem.grouped(copied(plain))
    assert np.allclose(run(other, pictures, "next"), expected, atol=2e-5) == (width % 4 in (0, 3))
    stem.clear(other)
    assert run(other, pictures, "next") == pytest.approx(expected, abs=2e-5)
    assert expected.std() > 0.1


def test_the_standard_deviation_is_fused_into_the_weights(channels: int) -> None:
    plain = network(channels, std=57.5)
    fused = copied(plain)
    stem.fuse_std(fused)
    onnx.checker.check_model(fused, full_check=True)
    assert {"Div", "Sub"} & {node.op_type for node in fused.graph.node} == {"Sub"}
    assert "std" not in {tensor.name for tensor in fused.graph.initializer}
    pictures = noise(2, 33, 46, channels)
    expected = run(plain, pictures, "next")
    assert run(fused, pictures, "next") == pytest.approx(expected, abs=2e-5)
    again = copied(fused)
    stem.fuse_std(again)
    assert again == fused
    assert run(stem.grouped(plain), pictures, "relu").shape == (2, 16, 17, 12)  # which fuses it first


def test_another_reader_of_the_normalised_image_is_seen() -> None:
    """It would read an image without the division."""
    model = network(3, std=57.5)
    model.graph.node.append(helper.make_node("Identity", ["scaled"], ["other"]))
    with pytest.raises(ValueError, match="too many values"):
        stem.fuse_std(model)


def test_another_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="must be of 3x3 with stride 2 and padding 1"):
        stem.grouped(network(3, kernel=5))


def test_the_name_of_the_node() -> None:
    assert stem.name(network(3)) == stem.name(network(3, std=57.5)) == "node stem"
