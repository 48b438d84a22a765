"""Hostile and damaged ONNX files: each is refused with the reason, or gives the same labels as before."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from made.street import street

from fastscnn import backends
from fastscnn.backends.foreign_onnx import ForeignOnnx
from fastscnn.base.errors import FastSCNNError
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model import onnx_graph
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.weights import bundled

onnx = pytest.importorskip("onnx")

SOURCE = Path("a.onnx")
CARD = Card(LabelSet(("red", "green", "blue")), (64, 96))


def node(operator: str, *inputs: str, domain: str = "", **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, list(inputs), ["made"], domain=domain, **attributes)


def constant(values: Sequence[float], kind: type[np.generic] = np.int64, name: str = "size") -> Any:
    return onnx.numpy_helper.from_array(np.array(values, kind), name)


def graph(nodes: Sequence[Any] = (), tensors: Sequence[Any] = ()) -> Any:
    return onnx.helper.make_graph(list(nodes), "hostile", [], [], list(tensors))


def model(nodes: Sequence[Any] = (), tensors: Sequence[Any] = ()) -> Any:
    return onnx.helper.make_model(graph(nodes, tensors))


def refused(made: Any, message: str) -> None:
    with pytest.raises(FastSCNNError, match=rf"^a\.onnx: {message}") as caught:
        onnx_graph.check(SOURCE, made.SerializeToString())
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_bundled_weights_pass(precision: str) -> None:
    path = bundled("onnx", precision)
    assert list(onnx_graph.check(path, path.read_bytes())) == ["fastscnn.card"]


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("Loop", ""), ("Scan", ""), ("If", ""), ("SequenceMap", ""), ("RandomNormal", ""), ("Multinomial", ""),
        ("Bernoulli", ""), ("StringNormalizer", ""), ("RegexFullMatch", ""), ("ImageDecoder", ""), ("Optional", ""),
        ("Gradient", "ai.onnx.preview.training"),
        ("Tokenizer", "com.microsoft"), ("Conv", "com.acme"), ("TreeEnsemble", "ai.onnx.ml"), ("conv", ""), ("", ""),
    ],
)  # fmt: skip
def test_operators_that_are_not_allowed(operator: str, domain: str) -> None:
    name = ".".join(filter(None, (domain, operator)))
    made = model([node("Relu", "x"), node(operator, "x", domain=domain)])
    refused(made, f"uses the operator {name}, which weight files may not use; export the network without loops")


def test_operators_of_other_networks_are_allowed() -> None:
    names = ["Conv", "Softmax", "LayerNormalization", "Einsum", "GridSample", "DeformConv", "ConvTranspose"]
    quantised = [node("QLinearAdd", "x", domain="com.microsoft"), node("Conv", "x", domain="ai.onnx")]
    onnx_graph.check(SOURCE, model([*(node(name, "x") for name in names), *quantised]).SerializeToString())


def test_graphs_within_operators() -> None:
    refused(model([node("Relu", "x", body=graph([node("Relu", "x")]))]), "has a graph in the operator Relu; .*without loops")
    refused(model([node("Relu", "x", bodies=[graph(), graph()])]), "has a graph in the operator Relu")


def test_functions_and_training() -> None:
    made = model()
    made.functions.add(name="own")
    refused(made, "has functions \\(onnx.inliner replaces them\\); export the network for inference")
    made = model()
    made.training_info.add()
    refused(made, "has a training graph")


@pytest.mark.parametrize("where", ["initializer", "attribute", "only the location", "only the name"])
def test_weights_in_other_files(where: str) -> None:
    tensor = constant([1, 2])
    if where != "only the name":
        tensor.data_location = onnx.TensorProto.EXTERNAL
    if where != "only the location":
        tensor.external_data.add(key="location", value="/etc/passwd")
    made = model([node("Constant", value=tensor)]) if where == "attribute" else model([], [tensor])
    refused(made, r"has weights in another file \(external data\), which is not read; export it as one file")


def test_sparse_tensors() -> None:
    sparse = onnx.helper.make_sparse_tensor(constant([1.0], np.float32), constant([7], name="places"), [2**40])
    made = model()
    made.graph.sparse_initializer.append(sparse)
    refused(made, "has sparse tensors")
    refused(model([node("Constant", sparse_value=sparse)]), "has sparse tensors")


@pytest.mark.parametrize("dims", [[2**40], [3, 2**20, 2**20], [-1], [2**62, 2**62]])
@pytest.mark.parametrize("inside", [False, True])
def test_tensors_larger_than_their_bytes(dims: list[int], inside: bool) -> None:
    tensor = constant([1, 2], name="weight")
    tensor.dims[:] = dims
    made = model([node("Constant", value=tensor)]) if inside else model([], [tensor])
    shape = ", ".join(map(str, dims))
    refused(made, rf"the tensor weight declares the shape \[{shape}\], and has \d+ bytes; the file is damaged, or made to fill")


def test_tensors_of_too_many_dimensions() -> None:
    tensor = constant([1, 2])
    tensor.dims[:] = [2**62] * 1000
    refused(model([], [tensor]), "is not an ONNX model, or it is damaged")


def unpacked(values: Sequence[int]) -> Any:
    return onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [len(values)], values)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([node("ConstantOfShape", "size")], "ConstantOfShape makes 10,000,000,000 values, and at most 268,435,456"),
        ([node("Expand", "x", "size")], "Expand makes 10,000,000,000 values"),
        ([node("Tile", "x", "size")], "Tile makes 10,000,000,000 values"),
        ([node("Resize", "x", "", "", "size")], "Resize makes 10,000,000,000 values"),
        ([node("Pad", "x", "size")], "Pad makes 100,000 values, and at most 65,536"),
        ([node("Conv", "x", "w", pads=[0, 0, 0, 10**9])], "Conv has 1,000,000,000 in pads, and at most 65,536 is allowed"),
        ([node("AveragePool", "x", kernel_shape=[10**6, 1])], "AveragePool has 1,000,000 in kernel_shape"),
    ],
)
def test_constants_that_are_too_large_sizes(made: list[Any], message: str) -> None:
    for size in (constant([10**5, 10**5]), constant([10**5, 10**5], np.int32), unpacked([10**5, 10**5])):
        refused(model(made, [size]), f"the operator {message}")
    by_node = onnx.helper.make_node("Constant", [], ["size"], value_ints=[10**5, 10**5])
    refused(model([by_node, *made]), f"the operator {message}")
    by_tensor = onnx.helper.make_node("Constant", [], ["size"], value=constant([10**5, 10**5]))
    refused(model([by_tensor, *made]), f"the operator {message}")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (node("Resize", "x", "scales"), "Resize makes 1,000,000,000,000 values"),  # opset 10
        (node("Upsample", "x", scales=[1.0, 1.0, 1e6, 1e6]), "Upsample makes 1,000,000,000,000 values"),  # opset 7
        (node("AffineGrid", "x", "size"), "AffineGrid makes 1,000,000,000,000 values"),
        (node("MaxUnpool", "x", "y", "size", kernel_shape=[1, 1]), "MaxUnpool makes 1,000,000,000,000 values"),
        (node("OneHot", "x", "depth", "y"), "OneHot makes 1,000,000,000,000 values"),
        (node("RoiAlign", "x", "y", "z", output_height=10**6), "RoiAlign has 1,000,000 in output_height, and at most 16,384"),
        (node("MaxRoiPool", "x", "y", pooled_shape=[1, 10**6]), "MaxRoiPool has 1,000,000 in pooled_shape"),
    ],
)
def test_sizes_of_rarer_operators_and_older_opsets(made: Any, message: str) -> None:
    scales, depth = constant([1, 1, 1e6, 1e6], np.float32, "scales"), constant([10**12], np.uint64, "depth")
    refused(model([made], [constant([1, 1, 10**6, 10**6]), scales, depth]), f"the operator {message}")


def field(number: int, content: bytes) -> bytes:
    assert number < 16
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_sizes_in_several_fields() -> None:
    """Parsers of protobuf join the fields of a message, and take the last of two numbers or texts."""
    small, large = (np.int64(number).tobytes() for number in (1, 10**12))
    kind, raw = b"\x10\x07", 9  # data_type INT64, and the number of raw_data
    value = field(1, b"value") + field(5, kind) + field(5, field(raw, large))
    two_values = onnx.helper.make_node("Constant", [], ["size"], value_int=1)
    two_values.attribute.append(onnx.helper.make_attribute("value", constant([10**12])))
    made = [
        field(1, field(2, b"size") + field(4, b"Constant") + field(5, value)),
        field(1, two_values.SerializeToString()),
        field(5, field(8, b"size") + kind + field(raw, small) + field(raw, large)),
        field(5, field(8, b"size") + kind + b"\x28\x01" + field(raw, large)),
    ]
    for nodes in made:
        data = model([node("ConstantOfShape", "size")]).SerializeToString() + b"\x3a" + bytes([len(nodes)]) + nodes
        with pytest.raises(FastSCNNError, match=r"^a\.onnx: is not an ONNX model, or it is damaged"):
            onnx_graph.check(SOURCE, data)


def test_long_constants_as_sizes_take_no_time() -> None:
    for size in (unpacked([2**62] * 10**5), constant([2**62] * 10**5)):
        start = process_time()
        refused(model([node("ConstantOfShape", "size")] * 1000, [size]), "is not an ONNX model, or it is damaged")
        assert process_time() - start < 1


@pytest.mark.parametrize(("step", "made"), [(1, "1,000,000,000"), (1e-3, "1,000,000,000,000"), (0, "inf"), (nan, "nan")])
def test_ranges(step: float, made: str) -> None:
    ends = [constant([0], np.float64, "start"), constant([1e9], np.float64, "limit"), constant([step], np.float64, "step")]
    refused(model([node("Range", "start", "limit", "step")], ends), f"the operator Range makes {made} values")
    onnx_graph.check(SOURCE, model([node("Range", "start", "limit", "computed")], ends).SerializeToString())


def test_sizes_of_real_networks_pass() -> None:
    scales, pads = constant([1, 1, 8, 8], np.float32, "scales"), constant([0, 0, 3, 3] * 2, name="pads")
    nodes = [node("Resize", "x", "", "", "size"), node("Resize", "x", "", "scales"), node("Pad", "x", "pads"),
             node("Expand", "x", "computed"), node("Slice", "x", "y", "z", ends=[2**63 - 1])]
    onnx_graph.check(SOURCE, model(nodes, [constant([1, 19, 1024, 2048]), scales, pads]).SerializeToString())


def test_too_many_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 3)
    refused(model([node("Relu", "x")] * 4), "has more than 3 operators")


def test_an_operator_in_a_second_graph_is_found() -> None:
    """Parsers of protobuf join the two."""
    data = model([node("Relu", "x")]).SerializeToString() + model([node("Loop", "x")]).SerializeToString()
    with pytest.raises(FastSCNNError, match="uses the operator Loop"):
        onnx_graph.check(SOURCE, data)


@pytest.mark.parametrize("load", [lambda path: backends.load(path, "onnx"), lambda path: ForeignOnnx(path, 1)])
def test_every_reader_checks(tmp_path: Path, load: Callable[[Path], object]) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(model([node("Loop", "x")]).SerializeToString())
    with pytest.raises(FastSCNNError, match=r"a\.onnx: uses the operator Loop"):
        load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FastSCNNError, match=r"a\.onnx: (is not a file|no such weight file)"):
        load(path)


# damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_onnx: WriteOnnx) -> bytes:
    """A small file with a card and its hash."""
    from fastscnn.exporting.metadata import with_card

    return with_card(write_onnx(tmp_path_factory.mktemp("whole") / "whole.onnx").read_bytes(), CARD)


def labels(path: Path) -> tuple[bool, bytes]:
    segmenter = Segmenter.load(path, "onnx", "64x96", threads=1)
    return segmenter.verified, segmenter(street(64, 96).image).labels.tobytes()


@pytest.mark.slow
def test_flipped_bytes_are_refused_or_change_no_label(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(whole)
    expected, refusals = labels(path), 0
    assert expected[0]
    for seed in range(500):
        draw, data = random.Random(seed), bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 64])):
            data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        path.write_bytes(data)
        try:
            verified, found = labels(path)
        except FastSCNNError:
            refusals += 1
        else:
            assert found == expected[1] or not verified
    assert refusals > 250


def test_truncated_files_are_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "truncated.onnx"
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(FastSCNNError, match=r"truncated\.onnx: "):
            labels(path)
