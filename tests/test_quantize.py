"""Int8: the network runs at any size, its card says int8, and sensitive layers stay in float32."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.exporting import stem
from fastscnn.exporting.quantize import Layer, Quantized, calibration_images, quantize
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.card import KEY, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.weights import bundled

CARD = Card(LabelSet(("sky", "road", "car")), (64, 96), recipe={"lr": 0.1}, parameters_sha256="0" * 64)
LAYERS = {"stem", "deep.depthwise", "deep.wide", "deep.narrow", "Add after deep.narrow", "classifier"}
SPOILT = {"deep.wide", "deep.narrow"}  # one channel between them has 1000 times the range of the others, and is not read


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 network of six layers; the third and the fourth lose accuracy in int8."""
    return network(tmp_path_factory.mktemp("float32") / "model.onnx", "deep.wide", "deep.narrow")


def network(file: Path, wide: str, narrow: str) -> Path:
    """Write a float32 network of six layers: logits of three classes at 1/8.

    Args:
        file: the file to write.
        wide: the layer with one output channel of 1000 times the range of the others.
        narrow: the next layer, which does not read that channel.
    """
    draw = np.random.default_rng(0)
    weights = {
        "stem": draw.normal(0, 0.3, (8, 3, 3, 3)) / 60,
        "deep.depthwise": draw.normal(0, 0.4, (8, 1, 3, 3)),
        "deep.wide": draw.normal(0, 0.4, (8, 8, 1, 1)),
        "deep.narrow": draw.normal(0, 0.4, (8, 8, 1, 1)),
        "classifier": draw.normal(0, 0.4, (3, 8, 1, 1)),
    }
    weights[wide][0] *= 1000
    weights[narrow][(0 if narrow == "deep.depthwise" else slice(None)), 0] = 0

    def conv(name: str, read: str, stride: int = 1) -> onnx.NodeProto:
        return helper.make_node(
            "Conv",
            [read, f"{name}.weight", f"{name}.bias"],
            [name],
            name=f"node {name}",
            strides=[stride] * 2,
            pads=[weights[name].shape[2] // 2] * 4,
            group=8 if name == "deep.depthwise" else 1,
        )

    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        conv("stem", "centred", 2),
        helper.make_node("Relu", ["stem"], ["stem relu"], name="node stem relu"),
        conv("deep.depthwise", "stem relu", 2),
        conv("deep.wide", "deep.depthwise"),
        conv("deep.narrow", "deep.wide"),
        helper.make_node("Add", ["deep.depthwise", "deep.narrow"], ["sum"], name="node sum"),
        helper.make_node("Relu", ["sum"], ["sum relu"], name="node sum relu"),
        conv("classifier", "sum relu", 2),
        helper.make_node("Shape", ["images"], ["size"]),
        helper.make_node("Add", ["size", "size"], ["sizes"], name="node sizes"),  # not on a feature map: must not be quantised
        helper.make_node("Cast", ["sizes"], ["unread"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["classifier"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(np.array([124, 116, 104], np.float32).reshape(3, 1, 1), "mean")]
    for name, weight in weights.items():
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        tensors.append(numpy_helper.from_array(draw.normal(0, 0.1, len(weight)).astype(np.float32), f"{name}.bias"))
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, "rows", "columns"])
    graph = helper.make_graph(nodes, "small", [given], [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {KEY: CARD.to_json()})
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    return file


@pytest.fixture(scope="module")
def pictures() -> list[UInt8Array]:
    return blotches(6, 64, 96)


def blotches(count: int, height: int, width: int) -> list[UInt8Array]:
    """Return images of smooth spots of all colours."""
    spots = np.random.default_rng(count).integers(0, 256, (count, 6, 9, 3), np.uint8)
    return [images.resize(image, (height, width)) for image in spots]


@contextmanager
def silent(what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def error(data: bytes, reference: Path, pictures: Sequence[UInt8Array]) -> float:
    """Return the error of the logits, in percent of their norm."""
    batch = np.stack(pictures)
    expected, got = OnnxBackend(reference, 1)(batch), OnnxBackend(reference, 1, data=data)(batch)
    return 100 * float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def good(float32: Path, pictures: list[UInt8Array]) -> Quantized:
    """The first attempt within 8 % of the float32 logits."""
    made = quantize(float32.read_bytes(), pictures, lambda data, kept: error(data, float32, pictures) < 8, silent)
    assert made is not None
    return made


@pytest.fixture
def int8(good: Quantized, tmp_path: Path) -> Path:
    file = tmp_path / "int8.onnx"
    file.write_bytes(good.data)
    return file


def test_sensitive_layers_stay_in_float32(float32: Path, pictures: list[UInt8Array]) -> None:
    attempts: list[tuple[float, list[str]]] = []

    def accept(data: bytes, kept: Sequence[Layer]) -> bool:
        attempts.append((error(data, float32, pictures), [layer.name for layer in kept]))
        return attempts[-1][0] < 8

    made = quantize(float32.read_bytes(), pictures, accept, silent)
    assert made is not None
    assert made.layers == len(LAYERS)
    assert [len(kept) for _, kept in attempts] == [0, 1, 2]
    assert set(attempts[-1][1]) == {layer.name for layer in made.kept} == SPOILT
    assert attempts[0][0] > 10 * attempts[-1][0]
    assert made.kept[0].error >= made.kept[1].error > 10
    assert {layer.nodes for layer in made.kept} == {("node deep.wide",), ("node deep.narrow",)}


def test_layers_are_not_compared_if_the_first_attempt_is_accepted(float32: Path, pictures: list[UInt8Array]) -> None:
    stages: list[str] = []
    calls: list[tuple[int, int]] = []

    @contextmanager
    def stage(what: str) -> Iterator[Callable[[int, int], None]]:
        stages.append(what)
        yield lambda done, total: calls.append((done, total))

    made = quantize(float32.read_bytes(), pictures, lambda data, kept: True, stage)
    assert made is not None
    assert made.kept == ()
    assert stages == ["calibrate int8"]
    assert calls == [(done, 6) for done in range(1, 7)]


def test_attempts_end_at_half_of_the_layers(float32: Path, pictures: list[UInt8Array]) -> None:
    kept: list[tuple[str, ...]] = []

    def refuse(data: bytes, layers: Sequence[Layer]) -> bool:
        kept.append(tuple(layer.name for layer in layers))
        return False

    assert quantize(float32.read_bytes(), pictures, refuse, silent) is None
    assert [len(names) for names in kept] == [0, 1, 2, 3]
    assert kept[1] == kept[2][:1]
    assert kept[2] == kept[3][:2]
    assert set(kept[2]) == SPOILT < set(kept[3]) < LAYERS


def test_it_runs_at_any_size(int8: Path, float32: Path) -> None:
    for batch, height, width in ((1, 32, 32), (3, 65, 131), (2, 200, 96)):
        pictures = blotches(batch, height, width)
        assert OnnxBackend(int8, 1)(np.stack(pictures)).shape == (batch, 3, -(-height // 8), -(-width // 8))
        assert error(int8.read_bytes(), float32, pictures) < 15  # colours that were not in the calibration images; borders
    graph = onnx.load(int8).graph
    assert [side.dim_param or side.dim_value for side in graph.input[0].type.tensor_type.shape.dim] == [
        "batch", "height", "width", 3,
    ]


SIZES = ((1, 65, 97), (2, 47, 130), (1, 66, 131), (1, 39, 100))  # widths of every remainder by four


def test_no_pixel_is_shifted(float32: Path) -> None:
    """On noise: if the first kernel were shifted by one pixel, the logits would differ."""
    pictures = noise(6, 64, 96)

    def errors() -> list[float]:
        made = quantize(float32.read_bytes(), pictures, lambda data, kept: len(kept) == 2, silent)
        assert made is not None
        return [error(made.data, float32, noise(*size)) for size in SIZES]

    assert max(errors()) < 8
    in_fours = stem._in_fours
    for axis in (2, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stem, "_in_fours", lambda weight, axis=axis: in_fours(np.roll(weight, 1, axis)))
            assert min(errors()) > 50


def noise(count: int, height: int, width: int) -> list[UInt8Array]:
    return list(np.random.default_rng(width).integers(0, 256, (count, height, width, 3), np.uint8))


def nodes_run(data: bytes, folder: Path) -> list[onnx.NodeProto]:
    """Return the nodes of a network after ONNX Runtime has optimised it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # else it warns that the file is specific to this machine
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(onnx.load(folder / "optimised.onnx").graph.node)


def test_it_runs_in_integers_from_the_image_on(float32: Path, pictures: list[UInt8Array], tmp_path: Path) -> None:
    made = quantize(float32.read_bytes(), pictures, lambda data, kept: True, silent)
    assert made is not None
    assert made.kept == ()
    nodes = nodes_run(made.data, tmp_path)
    kinds = [node.op_type for node in nodes]
    assert kinds.count("QLinearConv") == 5
    assert not {"Conv", "Sub", "Relu"} & set(kinds)
    first = next(node for node in nodes if node.op_type == "QLinearConv")
    makers = {output: node for node in nodes for output in node.output}
    before, value = [], first.input[0]
    while value != "images":
        before.append(makers[value].op_type)
        value = makers[value].input[0]
    assert before == ["Reshape", "Pad"]  # at most a copy of the uint8 image
    read = [node for node in nodes if makers.get(node.input[0]) is first]
    assert [node.op_type for node in read] == ["Reshape"]


def test_the_first_layer_may_stay_in_float32(pictures: list[UInt8Array], tmp_path: Path) -> None:
    """Here it loses accuracy, and so does the next one; the nodes before it are not changed."""
    plain = network(tmp_path / "model.onnx", "stem", "deep.depthwise")
    made = quantize(plain.read_bytes(), pictures, lambda data, kept: error(data, plain, pictures) < 8, silent)
    assert made is not None
    assert {layer.name for layer in made.kept} == {"stem", "deep.depthwise"}
    assert made.layers == len(LAYERS)
    graph = onnx.load_from_string(made.data).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert shapes["stem.weight"] == (8, 3, 3, 3)
    assert not {node.op_type for node in graph.node} & {"Pad", "ScatterElements"}
    assert [node.op_type for node in nodes_run(made.data, tmp_path)].count("QLinearConv") == 3


def test_weights_are_int8_without_the_last_bit(good: Quantized, int8: Path) -> None:
    """Above 64, sums of two products overflow 16 bits on processors without VNNI."""
    tensors = {tensor.name: tensor for tensor in onnx.load(int8).graph.initializer}
    for name in ("stem", "deep.depthwise", "classifier"):
        weight = numpy_helper.to_array(tensors[f"{name}.weight_quantized"])
        assert weight.dtype == np.int8
        assert np.abs(weight.astype(int)).reshape(len(weight), -1).max(1) == pytest.approx(64, abs=1)  # of each channel
        assert f"{name}.weight" not in tensors
    for layer in good.kept:
        assert numpy_helper.to_array(tensors[f"{layer.name}.weight"]).dtype == np.float32


def test_the_card_says_int8(int8: Path) -> None:
    backend = OnnxBackend(int8, 1)
    assert backend.precision == "int8"
    described = dataclasses.replace(CARD, precision="int8", content_sha256=backend.card.content_sha256)
    assert backend.card == described
    assert described.content_sha256
    assert {prop.key for prop in onnx.load(int8).metadata_props} == {KEY}


def test_nothing_of_this_machine_is_inside(good: Quantized, float32: Path) -> None:
    for path in (Path.cwd(), Path.home(), Path(onnx.__file__).parent, float32.parent):
        assert str(path) == "/" or str(path).encode() not in good.data
    assert b"ort.quant." not in good.data  # the temporary folder of the quantiser


def test_a_range_is_the_mean_over_images(float32: Path) -> None:
    """The mean of the maxima of the images, not the maximum over all images."""
    grey = [np.full((64, 96, 3), value, np.uint8) for value in (160, 240)]
    made = quantize(float32.read_bytes(), grey, lambda data, kept: True, silent)
    assert made is not None
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(made.data).graph.initializer}
    model = onnx.load(float32)
    model.graph.output.append(helper.make_empty_tensor_value_info("stem relu"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = [float(session.run(["stem relu"], {"images": image[None]})[0].max()) for image in grey]
    assert largest[1] > 1.5 * largest[0]
    assert 255 * tensors["stem relu_scale"] == pytest.approx(np.mean(largest), rel=1e-5)


def test_calibration_images_spread_over_the_split(tiny_dataset: Path) -> None:
    data = datasets.load(str(tiny_dataset))
    taken = calibration_images(data, "train", (48, 64))
    expected = [images.resize(data.read(pair)[0], (48, 64)) for pair in data.pairs("train")]
    assert len(taken) == 6
    assert all(np.array_equal(one, other) for one, other in zip(taken, expected, strict=True))


def test_calibration_takes_64_images_of_many(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load(str(tiny_dataset))
    many = [datasets.Pair(Path(f"{number}.png"), Path("labels")) for number in range(367)]
    read: list[int] = []

    def fake(spec: datasets.DatasetSpec, pair: datasets.Pair) -> tuple[UInt8Array, UInt8Array]:
        read.append(int(pair.image.stem))
        return np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)

    monkeypatch.setattr(datasets.DatasetSpec, "pairs", lambda spec, split: many)
    monkeypatch.setattr(datasets.DatasetSpec, "read", fake)
    assert len(calibration_images(data, "train", (32, 32))) == 64
    assert (read[0], read[-1]) == (0, 366)
    assert {after - before for before, after in itertools.pairwise(read)} == {5, 6}


@pytest.mark.slow
def test_the_bundled_weights_keep_their_scores(camvid_root: Path, tmp_path: Path) -> None:
    """On every fourth image of CamVid's val, all layers in int8."""
    data = datasets.load(f"camvid:{camvid_root}")
    pairs = data.pairs("val")[::4]
    plain = Segmenter.load(bundled("onnx", "float32"), threads=1)
    size = plain.card.size
    pictures = calibration_images(data, "train", size)[::4]
    made = quantize(bundled("onnx", "float32").read_bytes(), pictures, lambda data, kept: True, silent)
    assert made is not None
    assert made.layers == 58
    file = tmp_path / "int8.onnx"
    file.write_bytes(made.data)
    assert file.stat().st_size < 0.4 * bundled("onnx", "float32").stat().st_size
    before, after = (evaluate_pairs(segmenter, data, pairs) for segmenter in (plain, Segmenter.load(file, threads=1)))
    assert after.precision == "int8"
    assert abs(after.confusion.miou() - before.confusion.miou()) < 0.5
