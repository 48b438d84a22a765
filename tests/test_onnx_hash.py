"""The content hash of ONNX files: independent of the card, and every byte of graph and weights counts."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastscnn import backends
from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.onnx_hash import check, content_sha256
from fastscnn.model.weights import bundled

CARD = Card(LabelSet(("red", "green", "blue")), (64, 96))
engines = pytest.mark.parametrize(
    "engine",
    ["onnx", pytest.param("openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is missing"))],
)


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, shorter than 128, of a protobuf message."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_metadata_do_not_count() -> None:
    graph, version = field(7, b"nodes"), b"\x08\x08"
    plain = hashlib.sha256(version + graph).hexdigest()
    assert content_sha256(version + graph) == plain
    assert content_sha256(version + field(14, b"card") + graph + field(14, b"other")) == plain
    assert content_sha256(version + field(7, b"Nodes")) != plain
    assert content_sha256(graph) != plain


@pytest.mark.parametrize("data", [b"", b"\x09" + bytes(8), b"\x0d" + bytes(4), b"\x08\xff\xff\x03" + bytes([7 << 3 | 2, 0])])
def test_every_wire_type_is_read(data: bytes) -> None:
    assert content_sha256(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [b"\x08", b"\x80" * 20, field(7, b"nodes")[:-1], b"\x0b", b"\x3a" + b"\xff" * 5, b"ORTM"])
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        content_sha256(data)
    with pytest.raises(FastSCNNError, match=r"^a\.onnx: the graph or the weights do not match content_sha256"):
        check(Path("a.onnx"), data, dataclasses.replace(CARD, content_sha256="0"))
    check(Path("a.onnx"), data, CARD)  # before 0.2


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_bundled_weights_keep_their_hash_with_another_card(precision: str) -> None:
    onnx = pytest.importorskip("onnx")
    data = bundled("onnx", precision).read_bytes()
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {card.KEY: "x" * 100_000, "more": "y"})
    assert content_sha256(model.SerializeToString()) == content_sha256(data)


@pytest.fixture
def made(tmp_path: Path, tiny_onnx: Path) -> Path:
    pytest.importorskip("onnx")
    from fastscnn.exporting.metadata import with_card

    path = tmp_path / "made.onnx"
    path.write_bytes(with_card(tiny_onnx.read_bytes(), dataclasses.replace(CARD, content_sha256="of another file")))
    return path


@engines
def test_a_file_with_its_hash_loads(made: Path, engine: str) -> None:
    described = backends.load(made, engine, threads=1).card
    assert described == dataclasses.replace(CARD, content_sha256=content_sha256(made.read_bytes()))


@engines
def test_one_changed_bit_in_the_weights_is_refused(made: Path, engine: str) -> None:
    data = bytearray(made.read_bytes())
    place = data.index(b"\x00\x00\x80\x3d")  # the weight 1/16 in float32
    data[place] ^= 1
    made.write_bytes(data)
    message = r"made\.onnx: the graph or the weights do not match content_sha256 in the model card; copy the file again"
    with pytest.raises(FastSCNNError, match=message):
        backends.load(made, engine, threads=1)


@engines
def test_the_card_of_another_file_is_refused(made: Path, engine: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(made))
    model.graph.name = "other"
    onnx.save(model, str(made))
    with pytest.raises(FastSCNNError, match="do not match content_sha256"):
        backends.load(made, engine, threads=1)
