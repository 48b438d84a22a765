"""The forms of an export: labels in the graph, fixed sizes, float16, symmetric int8 and opsets give the same labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from exports import Exported, scenes
from onnx import TensorProto, numpy_helper

from fastscnn import backends, web
from fastscnn.backends import Backend
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.exporting import agreement
from fastscnn.exporting.finish import finished
from fastscnn.exporting.float16 import to_float16
from fastscnn.exporting.form import Form, checked_form
from fastscnn.exporting.metadata import card_of, with_card
from fastscnn.exporting.pipeline import export
from fastscnn.exporting.quantize import quantize
from fastscnn.exporting.shapes import DYNAMIC
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import BaseSize
from fastscnn.model.card import Calibration, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.upsampling import upsample

_QUANTISED = ("QuantizeLinear", "DequantizeLinear")


@pytest.fixture(scope="module")
def plain(exported: Exported) -> bytes:
    """The exported file, with a temperature that changes the confidence."""
    data = exported.file.read_bytes()
    return with_card(data, dataclasses.replace(card_of(data), calibration=Calibration(2.5, 0.1, "val", 3, 9, 1)))


@pytest.fixture(scope="module")
def reference(plain: bytes) -> Backend:
    return backends.load("plain.onnx", "onnx", 1, data=plain)


@pytest.fixture(scope="module")
def quantised(plain: bytes) -> dict[str, bytes]:
    """Both kinds of int8."""
    pictures = list(scenes(4, 96, 128))
    made = {kind: quantize(plain, pictures, lambda *_: True, stage, kind == "int8-symmetric") for kind in
            ("int8", "int8-symmetric")}
    return {kind: found.data for kind, found in made.items() if found}


@contextmanager
def stage(_: str) -> Iterator[Any]:
    yield lambda *_: None


def run(data: bytes, images: UInt8Array) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of a file in ONNX Runtime, after a check of its form."""
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"images": images}), strict=True))


def operators(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(data).graph.node}


@pytest.mark.parametrize(("batch", "height", "width", "size"), [
    (2, 96, 128, None), (1, 65, 131, None), (3, 47, 64, (30, 200)), (1, 32, 32, (1, 1)),
])
@pytest.mark.parametrize("static", [False, True])
def test_labels_in_the_graph_are_ours(
    plain: bytes, reference: Backend, batch: int, height: int, width: int, size: tuple[int, int] | None, static: bool
) -> None:
    form = Form("confidence", static=(height, width) if static else None, output_size=size)
    pictures = scenes(1 if static else batch, height, width)
    found = run(finished(plain, form), pictures)
    assert list(found) == ["labels", "confidence"]
    assert [value.dtype.name for value in found.values()] == ["uint8", "float32"]
    wanted = size or (height, width)
    for labels, confidence, logits in zip(found["labels"], found["confidence"], reference(pictures), strict=True):
        expected = upsample.labels_in_numpy(logits, wanted)
        assert np.count_nonzero(labels != expected) == agreement.ties(logits, expected, labels)
        certain = upsample.confidence_in_numpy(logits / np.float32(2.5), wanted)
        np.testing.assert_allclose(confidence, certain, atol=1e-4)
    if wanted != (1, 1):
        assert len(np.unique(found["labels"])) > 1


def test_labels_alone(plain: bytes) -> None:
    pictures = scenes(1, 96, 128)
    (name, labels), = run(finished(plain, Form("labels")), pictures).items()
    assert name == "labels"
    np.testing.assert_array_equal(labels, run(finished(plain, Form("confidence")), pictures)["labels"])


@pytest.mark.parametrize("size", [(96, 128), (65, 131), (33, 200)])
def test_a_fixed_size_has_no_nodes_that_compute_sizes(plain: bytes, size: tuple[int, int]) -> None:
    data = finished(plain, Form(static=size))
    assert operators(data) == {"Conv", "Relu", "MatMul", "Add", "Resize", "Transpose", "Cast", "Sub", "Concat"}
    assert set(DYNAMIC) & operators(plain) >= {"Shape", "Range", "Sign"}
    graph = onnx.load_from_string(data).graph
    shapes = [[side.dim_value for side in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    assert shapes == [[1, *size, 3], [1, 11, -(-size[0] // 8), -(-size[1] // 8)]]
    pictures = scenes(1, *size)
    np.testing.assert_allclose(run(data, pictures)["logits"], run(plain, pictures)["logits"], atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "int8-symmetric"])
@pytest.mark.parametrize("size", [(96, 128), (47, 65)])
def test_a_fixed_size_in_int8(quantised: dict[str, bytes], kind: str, size: tuple[int, int]) -> None:
    """Weights stay int8. At 65 columns, the first convolution gets padding and an extra column (`stem`), at 128 it does not."""
    data = finished(quantised[kind], Form("labels", static=size))
    assert not operators(data) & {*DYNAMIC, "Neg", "Floor"}
    assert ("Pad" in operators(data)) == (kind == "int8" and size[1] % 4 > 0)
    assert len(data) < len(quantised[kind]) + 150_000
    pictures = scenes(1, *size)
    expected = run(finished(quantised[kind], Form("labels")), pictures)["labels"]
    assert np.mean(run(data, pictures)["labels"] == expected) > 0.98  # rounding in int8 enlarges the last bit of a float


def test_symmetric_int8_has_zero_points_0(quantised: dict[str, bytes]) -> None:
    """TensorRT refuses others, and biases in int32."""
    def zero_points(kind: str) -> list[npt.NDArray[Any]]:
        graph = onnx.load_from_string(quantised[kind]).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        return [constants[node.input[2]] for node in graph.node if node.op_type in _QUANTISED]

    zeros = zero_points("int8-symmetric")
    assert len(zeros) > 100
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert {zero.dtype.name for zero in zero_points("int8")} == {"uint8", "int8", "int32"}
    pictures = scenes(2, 96, 128)
    symmetric, other = (run(quantised[kind], pictures)["logits"] for kind in ("int8-symmetric", "int8"))
    assert np.linalg.norm(symmetric - other) < 0.7 * np.linalg.norm(other)  # random weights bear int8 badly
    assert card_of(quantised["int8-symmetric"]).precision == "int8"


def test_symmetric_int8_reads_the_normalised_image(quantised: dict[str, bytes]) -> None:
    graph = onnx.load_from_string(quantised["int8-symmetric"]).graph
    (subtract,) = (node for node in graph.node if node.op_type == "Sub" and "_to_copy" in node.input[0])
    (reader,) = (node for node in graph.node if subtract.output[0] in node.input)
    assert reader.op_type == "QuantizeLinear"


@pytest.mark.slow
def test_float16(plain: bytes, reference: Backend) -> None:
    data = to_float16(plain)
    assert len(data) < 0.55 * len(plain)
    graph = onnx.load_from_string(data).graph
    weights = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert weights == {TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [TensorProto.UINT8,
                                                                                              TensorProto.FLOAT]
    for size in ((96, 128), (65, 131)):
        pictures = scenes(2, *size)
        got, expected = run(data, pictures)["logits"], reference(pictures)
        assert 0 < np.linalg.norm(got - expected) < 0.03 * np.linalg.norm(expected)
    backend = backends.load("half.onnx", "onnx", 1, data=data)
    assert (backend.precision, backend.card.precision) == ("float16", "float16")
    assert (backend.matmul_peak() or 0) > 0


def test_float16_keeps_sizes_exact(plain: bytes) -> None:
    """Averaging matrices are computed from whole numbers, of which float16 has gaps above 2048."""
    graph = onnx.load_from_string(to_float16(plain)).graph
    kinds = {node.op_type: [attribute.i for attribute in node.attribute if attribute.name == "to"] for node in graph.node}
    typed = onnx.shape_inference.infer_shapes(onnx.load_from_string(to_float16(plain))).graph
    of = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    assert "Floor" in kinds
    assert {of[node.output[0]] for node in graph.node if node.op_type in ("Floor", "Sign", "Abs")} == {TensorProto.FLOAT}
    assert {of[node.output[0]] for node in graph.node if node.op_type in ("Conv", "Relu", "Resize")
            and node.output[0] in of} == {TensorProto.FLOAT16}


@pytest.mark.parametrize("opset", [17, 18, 24])
def test_an_opset(plain: bytes, opset: int) -> None:
    data = finished(plain, Form("confidence", opset=opset))
    model = onnx.load_from_string(data)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", opset)]
    assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    pictures = scenes(1, 65, 131)
    for name, expected in run(finished(plain, Form("confidence")), pictures).items():
        np.testing.assert_array_equal(run(data, pictures)[name], expected)
    assert card_of(data).output == "confidence"


def test_an_opset_that_the_network_does_not_have(quantised: dict[str, bytes]) -> None:
    """Of the padding at any width; at a fixed size it is folded."""
    with pytest.raises(FastSCNNError, match=r"opset: ONNX cannot convert the network to opset 17 .*ConstantOfShape"):
        finished(quantised["int8"], Form(opset=17))
    assert onnx.load_from_string(finished(quantised["int8"], Form(static=(96, 128), opset=17))).opset_import[0].version == 17


@pytest.mark.parametrize(("arguments", "message"), [
    ({"output": "label"}, "There is no output 'label'. Did you mean 'labels'"),
    ({"precision": "int16"}, "There is no precision of an export 'int16'"),
    ({"output_size": "96x96"}, "output-size: is the size of labels; add the output labels"),
    ({"static": "96"}, "static: expected HxW, for example 360x480, not '96'"),
    ({"static": 96}, "static: expected HxW"),
    ({"static": "31x96"}, "static: height: must be at least 32, not 31"),
    ({"static": (96, 96.5)}, "static: width: must be a whole number"),
    ({"static": "9000x9000"}, "static: 9000x9000 is over the limit of 40 megapixels"),
    ({"output": "labels", "output_size": "0x5"}, "output-size: height: must be at least 1, not 0"),
    ({"opset": 16}, "opset: must be from 17 to 24, not 16"),
    ({"opset": "20"}, "opset: must be a whole number"),
])
def test_wrong_forms(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        checked_form(**arguments)
    with pytest.raises(ArgumentError, match=message):
        export("weights.safetensors", "out.onnx", **arguments)


def test_sizes_in_every_spelling() -> None:
    assert checked_form("labels", static="96x128", output_size=[7, 9]) == Form("labels", static=(96, 128), output_size=(7, 9))


def test_the_card_says_the_form(plain: bytes) -> None:
    described = card_of(finished(plain, Form("labels", static=(96, 128))))
    assert (described.output, described.fixed_size) == ("labels", (96, 128))
    assert Card.from_json(described.to_json(), Path("a.onnx")) == described
    assert described.inputs() == [(96, 128)]
    assert "fixed_size" not in card_of(plain).to_json()
    with pytest.raises(FastSCNNError, match=r"recipe\.fastscnn\.output: 'masks' is not one of logits, labels, confidence"):
        Card.from_json(described.to_json().replace('"labels"', '"masks"'), Path("a.onnx"))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("output", ["labels", "confidence"])
def test_a_file_that_returns_labels_is_refused(plain: bytes, tmp_path: Path, backend: Any, output: Any) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    (tmp_path / "model.onnx").write_bytes(finished(plain, Form(output)))
    with pytest.raises(FastSCNNError, match=rf"model\.onnx: returns {output}, and fastscnn computes .*--output logits"):
        Segmenter.load(tmp_path / "model.onnx", backend)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_segmenter_feeds_the_fixed_size(plain: bytes, tmp_path: Path, backend: Any) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / "model.onnx"
    file.write_bytes(finished(plain, Form(static=(64, 160))))
    segmenter = Segmenter.load(file, backend, threads=1, precision="float32")
    image = scenes(1, 200, 130)[0]  # another shape, which the card's size would follow
    assert segmenter.input_size(image.shape[:2]) == (64, 160)
    (tmp_path / "any.onnx").write_bytes(plain)
    expected = Segmenter.load(tmp_path / "any.onnx", backend, size=(64, 160), threads=1, precision="float32")(image).labels
    assert np.mean(segmenter(image).labels == expected) > 0.999
    assert Segmenter.load(file, "onnx", size="64x160", flip=True)(image).labels.shape == (200, 130)
    for wrong in ({"size": "96x128"}, {"size": "native"}, {"scales": (0.5, 1)}, {"tile": "auto"}, {"size": BaseSize(96, 128)}):
        with pytest.raises(ArgumentError, match=r"model\.onnx: takes images of 64x160 only, because it was exported with"):
            Segmenter.load(file, backend, **wrong)


def test_the_page_takes_no_fixed_size(plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(finished(plain, Form(static=(64, 160))))
    with pytest.raises(FastSCNNError, match=r"model\.onnx: takes images of 64x160 only, but .* again without --static"):
        web.write(tmp_path / "site", weights=tmp_path / "model.onnx")


class Fixed:
    """A network of three classes with the same logits for every image."""

    def __init__(self, logits: Float32Array) -> None:
        self.logits, self.card = logits, Card(LabelSet(("a", "b", "c")), (64, 64))

    def __call__(self, images: UInt8Array) -> Float32Array:
        return self.logits[None]


def test_ties_are_counted_apart() -> None:
    """Two classes tie in the left half; a third one is far below."""
    logits = np.stack([np.zeros((8, 8)), np.r_[np.zeros(4), np.full(4, -1)] * np.ones((8, 1)), np.full((8, 8), -5)])
    backend: Any = Fixed(logits.astype(np.float32))
    labels = np.zeros((1, 64, 64), np.uint8)
    labels[0, :10, 0] = 1  # ties
    labels[0, :7, 60] = 1  # one below
    labels[0, 20:23, 0] = 2  # five below
    found = agreement.compare(backend, lambda _: {"labels": labels}, Form("labels", static=(64, 64)))
    assert (found.ties, found.others, found.passed) == (4 * 10, 4 * 10, False)
    assert found.equal_labels == pytest.approx(100 * (1 - 20 / 4096))


def test_a_tie_is_one_of_interpolated_logits() -> None:
    """Checked with the upsampling of every class."""
    logits = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    size = (37, 50)
    expected = upsample.labels_in_numpy(logits, size)
    other = np.roll(expected, 1)
    every = np.stack([upsample._widened(plane[None], size[1])[0] for plane in logits])
    rows = upsample.axis(5, size[0])
    full = upsample._interpolated(every, rows, slice(0, size[0]))
    gap = np.take_along_axis(full, expected[None].astype(int), 0) - np.take_along_axis(full, other[None].astype(int), 0)
    assert agreement.ties(logits, expected, other) == np.count_nonzero((np.abs(gap[0]) < 2e-4) & (expected != other))
    y, x = np.nonzero(expected != other)
    np.testing.assert_allclose(agreement._interpolated(logits, other[y, x], y, x, size), full[other[y, x], y, x], atol=1e-5)


@pytest.mark.parametrize(("found", "message"), [
    ({"labels": np.zeros((1, 8, 8), np.uint8)}, r"must return labels \[1, 64, 64\], but returns labels \[1, 8, 8\]"),
    ({"out": np.zeros(3)}, r"must return labels \[1, 64, 64\], but returns out \[3\]"),
])
def test_another_output_is_an_error(found: dict[str, npt.NDArray[Any]], message: str) -> None:
    backend: Any = Fixed(np.zeros((3, 8, 8), np.float32))
    with pytest.raises(FastSCNNError, match=message):
        agreement.compare(backend, lambda _: found, Form("labels", static=(64, 64)))


def test_nan_is_no_agreement() -> None:
    assert not agreement.Agreement(1, float("nan"), 0, 0).passed
    assert not agreement.Agreement(1, 100.0, 0, 0, confidence_difference=float("nan")).passed
    assert agreement.Agreement(1, 99.95, 0, 0, confidence_difference=0.005).passed
