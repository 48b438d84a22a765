"""Accuracy loss: against values computed by hand, and in the cards of the bundled weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.evaluation.accuracy_loss import accuracy_loss, backend_losses, scores_by_size
from fastscnn.model.weights import bundled

NAMES = ("red", "green", "blue")


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Two images of 64x96 in stripes. The labels of `tiny` are correct except for the first column of the second image."""
    from fastscnn.media import images

    stripes = np.repeat(np.array([[0, 1, 2]], np.uint8), 32, axis=1).repeat(64, axis=0)
    for name in ("a", "b"):
        images.write(tmp_path / f"images/{name}.png", np.eye(3, dtype=np.uint8)[stripes] * np.uint8(200))
        truth = stripes.copy()
        truth[:, 0] = 2 if name == "b" else 0
        images.write(tmp_path / f"labels/{name}.png", truth)
    toml = tmp_path / "dataset.toml"
    toml.write_text('name = "s"\nclasses = ["red", "green", "blue"]\n[splits.val]\nimages = "images/*.png"\n'
                    'labels = "labels/{stem}.png"\n')
    return str(toml)


def test_by_hand(dataset: str, tiny: Segmenter, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    """The other network labels blue pixels red."""
    import onnx
    from onnx import numpy_helper

    from fastscnn.exporting.metadata import with_card

    path = write_onnx(tmp_path / "other.onnx")
    model = onnx.load(path)
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[2] = 0
    weight[0, 2] = 1 / 16
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    path.write_bytes(with_card(model, tiny.card))
    spec = datasets.load(dataset)
    calls: list[tuple[int, int]] = []
    other = Segmenter.load(path, "onnx", threads=1)
    own, found = accuracy_loss(tiny, {"same": tiny, "other": other}, spec, spec.pairs("val"), lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    assert found["same"].labels == 100
    assert found["same"].miou == 0
    columns = 96 * 2  # of both images; both networks label one of them red whose ground truth is blue
    red, green, blue = own.iou()
    assert red == pytest.approx(100 * 63 / 64)
    assert blue == pytest.approx(100 * 64 / 65)
    assert found["other"].class_ == "blue"
    assert found["other"].worst == pytest.approx(blue)
    assert found["other"].labels == pytest.approx(100 * (columns - 64) / columns, abs=5)  # resizing blurs the borders
    assert found["other"].miou == pytest.approx(own.miou() - found["other"].confusion.miou())
    assert green == 100


def test_nothing_to_compare_by(dataset: str, tiny: Segmenter) -> None:
    from fastscnn.media import images

    spec = datasets.load(dataset)
    for pair in spec.pairs("val"):
        images.write(pair.labels, np.full((64, 96), 255, np.uint8))
    with pytest.raises(FastSCNNError, match="None of the images has a labelled pixel"):
        accuracy_loss(tiny, {"same": tiny}, spec, spec.pairs("val"))


def test_losses_of_a_file(dataset: str, tiny: Segmenter, tiny_onnx: Path) -> None:
    found = backend_losses(tiny, tiny_onnx.read_bytes(), datasets.load(dataset), "val")
    assert set(found) <= {"openvino bfloat16"}  # not float32, which loses nothing, nor int8, because the file is in float32
    for loss in found.values():
        assert loss["labels"] > 95
        assert (loss["split"], loss["images"]) == ("val", 2)


def test_scores_by_size(dataset: str, tiny: Segmenter) -> None:
    scores = scores_by_size(tiny, datasets.load(dataset), "val")
    assert list(scores) == ["val", "val at 32x64"]  # 1/4, 16x24, is too small for the network
    assert scores["val"]["miou"] > 95
    assert list(scores["val at 32x64"]["iou"]) == list(NAMES)
    assert {each["dataset"] for each in scores.values()} == {datasets.load(dataset).name}


def test_scores_by_size_keep_the_shape_of_each_image(
    dataset: str, tiny: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[int, int], bool] = {}
    segment = Segmenter.segment

    def note(self: Segmenter, image: Any) -> Any:
        assert self.size != "native"
        seen[self.size] = self.shape_kept
        return segment(self, image)

    monkeypatch.setattr(Segmenter, "segment", note)
    scores_by_size(tiny, datasets.load(dataset), "val")
    assert seen == {(64, 96): True, (32, 64): True}


def test_the_card_selects_a_split(dataset: str, tiny: Segmenter) -> None:
    import dataclasses

    card = dataclasses.replace(tiny.card, metrics={"val": {"miou": 50}, "val at 48x72": {"miou": 40}, "test": {"miou": 45}})
    assert card.miou((64, 96)) == ("val", 50)  # the split with the most input sizes
    assert card.miou((48, 72)) == ("val", 40)
    assert card.miou((32, 48)) is None


def test_the_cards_of_the_bundled_weights() -> None:
    card = Segmenter.load(bundled(), "onnx").card
    assert card.keeps_accuracy("onnx", "int8")
    assert card.keeps_accuracy("onnx", "float32")
    assert not card.keeps_accuracy("onnx", "float16")
