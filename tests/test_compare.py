"""compare: points lost, by hand and on the bundled weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import WriteOnnx

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.evaluation.accuracy_loss import by_size, compare, losses
from fastscnn.model.weights import bundled

NAMES = ("red", "green", "blue")


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Two images of 64x96 in stripes; what `tiny` says of them is the truth but for the second's first column."""
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
    """The other network gives class k the logits of channel k mod 2: blue pixels become red."""
    import onnx
    from onnx import numpy_helper

    path = write_onnx(tmp_path / "other.onnx")
    model = onnx.load(path)
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[2] = 0
    weight[0, 2] = 1 / 16
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    onnx.save(model, path)
    spec = datasets.load(dataset)
    calls: list[tuple[int, int]] = []
    other = Segmenter.load(path, "onnx", threads=1)
    own, found = compare(tiny, {"same": tiny, "other": other}, spec, spec.pairs("val"), lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    assert found["same"].labels == 100
    assert found["same"].miou == 0
    columns = 96 * 2  # of both images; one is 2 in truth and red in both networks
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
        compare(tiny, {"same": tiny}, spec, spec.pairs("val"))


def test_losses_of_a_file(dataset: str, tiny_onnx: Path) -> None:
    found = losses(tiny_onnx, tiny_onnx, datasets.load(dataset), "val")
    assert set(found) <= {"openvino bfloat16"}  # neither ONNX Runtime's own float32, nor int8, which the file is not in
    for loss in found.values():
        assert loss["labels"] > 95
        assert (loss["split"], loss["images"]) == ("val", 2)


def test_scores_by_size(dataset: str, tiny_onnx: Path) -> None:
    scores = by_size(tiny_onnx, datasets.load(dataset), "val")
    assert list(scores) == ["val", "val at 48x72", "val at 32x48"]  # a quarter, 16x24, is too small for the network
    assert scores["val"]["miou"] > 95
    assert list(scores["val at 48x72"]["iou"]) == list(NAMES)


def test_the_card_answers(dataset: str, tiny: Segmenter) -> None:
    import dataclasses

    card = dataclasses.replace(tiny.card, metrics={"val": {"miou": 50}, "val at 48x72": {"miou": 40}, "test": {"miou": 45}})
    assert card.miou((64, 96)) == ("val", 50)  # the split that knows the other inputs, too
    assert card.miou((48, 72)) == ("val", 40)
    assert card.miou((32, 48)) is None


def test_the_bundled_files_say_what_they_lose() -> None:
    card = Segmenter.load(bundled(), "onnx").card
    assert card.keeps_accuracy("onnx", "int8")
    assert card.keeps_accuracy("onnx", "float32")
    assert not card.keeps_accuracy("onnx", "float16")
