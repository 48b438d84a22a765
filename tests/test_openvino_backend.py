"""The OpenVINO backend: the logits of ONNX Runtime, its choice of precision, and its errors."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from made.street import street

from fastscnn import Segmenter, backends
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.onnx_hash import content_sha256
from fastscnn.model.weights import bundled

openvino = pytest.importorskip("openvino")
from fastscnn.backends.openvino import OpenVinoBackend, _computes_in_bfloat16  # noqa: E402

FLOAT = bundled("onnx", "float32")


needs_bfloat16 = pytest.mark.skipif(
    not _computes_in_bfloat16(openvino.Core()), reason="this processor does not support bfloat16"
)


@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 33, 47), (3, 40, 41)])
def test_logits(tiny_onnx: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    backend = OpenVinoBackend(tiny_onnx, 1, "float32")
    logits = backend(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, OnnxBackend(tiny_onnx, 1)(images), rtol=1e-6)
    again = backend(images[:, ::-1, ::-1])  # another memory layout; the first result must not change with it
    np.testing.assert_allclose(logits, OnnxBackend(tiny_onnx, 1)(images), rtol=1e-6)
    np.testing.assert_allclose(again, OnnxBackend(tiny_onnx, 1)(images[:, ::-1, ::-1]), rtol=1e-6)


def test_more_sizes_than_are_kept(tiny_onnx: Path) -> None:
    """Each size comes often enough for a compiled network of its own."""
    backend, reference = OpenVinoBackend(tiny_onnx, 1), OnnxBackend(tiny_onnx, 1)
    for side in (*range(32, 32 + 20), 32):
        images = np.random.default_rng(side).integers(0, 256, (1, side, 33, 3)).astype(np.uint8)
        for _ in range(9):
            np.testing.assert_allclose(backend(images), reference(images), rtol=1e-6)


def test_what_is_compiled(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shape, one network for any, and one for each shape that comes often: not one for each image."""
    shapes: list[list[int]] = []
    reshape = openvino.Model.reshape

    def note(model: Any, shape: list[int]) -> None:
        shapes.append(shape)
        reshape(model, shape)

    monkeypatch.setattr(openvino.Model, "reshape", note)
    backend, reference = OpenVinoBackend(tiny_onnx, 1), OnnxBackend(tiny_onnx, 1)
    for _ in range(3):
        for side in (32, 40, 48, 56, 64, 72):
            images = np.random.default_rng(side).integers(0, 256, (1, side, 33, 3)).astype(np.uint8)
            np.testing.assert_allclose(backend(images), reference(images), rtol=1e-6)
    assert shapes == [[1, 32, 33, 3], [-1, -1, -1, 3]]
    for _ in range(8 - 3):
        backend(images)
    assert len(shapes) == 2
    backend(images)
    assert shapes[2:] == [[1, 72, 33, 3]]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "size"), [*itertools.product(("int8", "float32"), ((251, 333), (360, 480)))])
def test_labels_do_not_depend_on_the_images_before(precision: str, size: tuple[int, int]) -> None:
    image = street(*size).image[None]
    alone, after_others = (OpenVinoBackend(bundled("openvino", precision), 2, precision) for _ in range(2))
    after_others(street(64, 96).image[None])
    equal = after_others(image).argmax(1) == alone(image).argmax(1)
    assert equal.mean() > 0.9995  # 0.996 in bfloat16


def test_a_broken_installation(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is there and cannot be imported: auto goes on without it."""
    monkeypatch.setitem(sys.modules, "fastscnn.backends.openvino", None)
    assert backends.load(tiny_onnx).name == "onnx"
    with pytest.raises(FastSCNNError, match=r"backend openvino: cannot be imported .* needs the extra 'openvino'"):
        backends.load(tiny_onnx, "openvino")


def test_facts(tiny_onnx: Path) -> None:
    backend = backends.load(tiny_onnx, "openvino", threads=2, streams=2)
    hashed = content_sha256(tiny_onnx.read_bytes())
    assert backend.card == Card(LabelSet(("red", "green", "blue")), (64, 96), content_sha256=hashed)
    assert (backend.name, backend.precision, backend.threads, backend.streams) == ("openvino", "float32", 2, 2)
    assert (backend.device, backend.notes) == ("cpu", ())


@pytest.mark.parametrize("size", [(360, 480), (251, 333)])
def test_the_bundled_weights_in_float32(size: tuple[int, int]) -> None:
    image = synthetic.draw(*size).image[None]
    np.testing.assert_allclose(OpenVinoBackend(FLOAT, 2, "float32")(image), OnnxBackend(FLOAT, 2)(image), atol=2e-3)


@needs_bfloat16
def test_the_bundled_weights_in_bfloat16() -> None:
    image = synthetic.draw(360, 480).image
    expected = Segmenter.load(FLOAT, "onnx").segment(image).labels
    fast = Segmenter.load(FLOAT, "openvino", precision="bfloat16")
    assert fast.backend.precision == "bfloat16"
    assert np.mean(fast.segment(image).labels == expected) > 0.99


def test_the_bundled_weights_in_int8() -> None:
    image = synthetic.draw(360, 480).image
    expected = Segmenter.load(backend="onnx", precision="int8").segment(image).labels
    fast = Segmenter.load(backend="openvino", precision="int8")
    assert fast.backend.precision == "int8"
    assert np.mean(fast.segment(image).labels == expected) > 0.98


def test_calls_from_several_threads(tiny_onnx: Path) -> None:
    backend, reference = OpenVinoBackend(tiny_onnx, 2, streams=2), OnnxBackend(tiny_onnx, 1)
    images = [np.random.default_rng(seed).integers(0, 256, (1, 40, 48, 3)).astype(np.uint8) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for image, logits in zip(images, pool.map(backend, images), strict=True):
            np.testing.assert_allclose(logits, reference(image), rtol=1e-6)


def described(losses: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a file whose card holds these losses."""
    return {card.KEY: dataclasses.replace(Card(LabelSet(("a", "b", "c")), (64, 96)), losses=losses).to_json()}


@needs_bfloat16
@pytest.mark.parametrize(
    ("lost", "precision"), [(None, "float32"), (0.6, "float32"), (0.5, "bfloat16"), (-0.2, "bfloat16")]
)
def test_auto_takes_what_the_card_allows(
    tmp_path: Path, write_onnx: WriteOnnx, lost: float | None, precision: str
) -> None:
    losses = {} if lost is None else {"openvino bfloat16": {"miou": lost}}
    path = write_onnx(tmp_path / "a.onnx", metadata=described(losses))
    for backend in ("auto", "openvino"):
        assert backends.load(path, backend).precision == precision
        assert backends.load(path, backend).name == "openvino"


@pytest.mark.parametrize(("lost", "engine"), [(None, "onnx"), (0.6, "onnx"), (0.1, "openvino")])
def test_auto_runs_int8_where_the_card_allows(
    tmp_path: Path, write_onnx: WriteOnnx, lost: float | None, engine: str
) -> None:
    losses = {} if lost is None else {"openvino int8": {"miou": lost}}
    made = dataclasses.replace(Card(LabelSet(("a", "b", "c")), (64, 96)), losses=losses, precision="int8")
    path = write_onnx(tmp_path / "a.onnx", metadata={card.KEY: made.to_json()})
    assert (backends.load(path).name, backends.load(path).precision) == (engine, "int8")
    assert backends.load(path, "openvino").name == "openvino"


@pytest.mark.parametrize(
    ("precision", "message"),
    [("float16", "OpenVINO runs it in float32 or bfloat16, not in float16"), ("int8", "not in int8")],
)
def test_unsupported_precisions(tiny_onnx: Path, precision: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        backends.load(tiny_onnx, "openvino", precision=precision)


def test_int8_stays_int8() -> None:
    with pytest.raises(FastSCNNError, match="is an int8 file; for float32, use the float32 file"):
        backends.load(bundled("openvino", "int8"), "openvino", precision="float32")


def test_a_processor_without_bfloat16(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_property = openvino.Core.get_property

    def older(core: Any, device: str, name: str) -> Any:
        found = get_property(core, device, name)
        return [each for each in found if each != "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found

    monkeypatch.setattr(openvino.Core, "get_property", older)
    assert OpenVinoBackend(tiny_onnx, 1).precision == "float32"
    with pytest.raises(FastSCNNError, match="does not support bfloat16"):
        OpenVinoBackend(tiny_onnx, 1, "bfloat16")


def test_a_class_may_be_called_location(tmp_path: Path, write_onnx: WriteOnnx) -> None:
    path = write_onnx(tmp_path / "a.onnx", classes=("location", "b"))
    assert backends.load(path, "openvino").card.label_set.names == ("location", "b")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"gone\.onnx: cannot be read"):
        OpenVinoBackend(tmp_path / "gone.onnx", 1)


def test_an_image_that_the_network_cannot_take(tiny_onnx: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"OpenVINO cannot run images of shape \[1, 40, 40, 7\]"):
        OpenVinoBackend(tiny_onnx, 1)(np.zeros((1, 40, 40, 7), np.uint8))


@pytest.mark.usefixtures("one_round")
def test_matmul_peak(tiny_onnx: Path) -> None:
    assert 1e9 < OpenVinoBackend(tiny_onnx, 2, "float32").matmul_peak() < 1e15


def test_one_core_for_the_process(tiny_onnx: Path) -> None:
    """A second one, once destroyed, would take the stack for signals with it: training's Ctrl-C test crashed of that."""
    assert OpenVinoBackend(tiny_onnx, 1)._core is OpenVinoBackend(tiny_onnx, 1)._core
