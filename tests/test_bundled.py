"""The bundled weights: complete, described, and as accurate as their card says."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from fastscnn import Segmenter
from fastscnn.data import datasets, synthetic
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.evaluation.metrics import Confusion
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.training.recipes import Recipe


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load(backend="onnx", precision="float32")


def test_card_names_classes_data_and_terms(segmenter: Segmenter) -> None:
    card = segmenter.card
    assert card.label_set.names == synthetic.CLASSES
    assert card.size == (360, 480)
    assert card.data is not None
    assert "CC BY-NC" in card.data.terms
    assert "LabelMeFacade" in card.data.terms
    assert (card.data.splits, card.data.images) == ("train+val", 468)
    assert card.recipe["name"] == "camvid-clean"
    assert set(card.recipe) <= {field.name for field in dataclasses.fields(Recipe)}
    assert card.metrics["test"]["miou"] >= 62
    assert {scores["dataset"] for scores in card.metrics.values()} == {"camvid"}
    assert card.miou((360, 480)) is not None


def test_the_terms_name_every_file() -> None:
    folder = bundled("torch").parent
    text = (folder / "LICENSE.md").read_text()
    weights = [path.name for path in folder.iterdir() if path.suffix in (".onnx", ".safetensors")]
    assert len(weights) >= 3
    assert [name for name in weights if f"`{name}`" not in text] == []
    metadata = importlib.metadata.metadata("fastscnn")
    assert "CC-BY-NC-4.0" in metadata["License-Expression"]
    assert metadata["License-Expression"].startswith("Apache-2.0 AND ")


def test_both_files_hold_the_same_weights(segmenter: Segmenter) -> None:
    tensors, _ = checkpoint.load_tensors(bundled("torch"))
    described = Segmenter.load(backend="torch").card
    assert checkpoint.digest(tensors) == segmenter.card.parameters_sha256
    for card, precision in ((segmenter.card, "float32"), (Segmenter.load(backend="onnx").card, "int8")):
        same = dataclasses.replace(card, metrics=described.metrics, losses={}, precision="float32", content_sha256="")
        assert dataclasses.replace(same, calibration=described.calibration) == described
        assert card.precision == precision
        assert card.calibration is not None
        assert card.calibration.split == "0006R0+val, of a twin trained on 0001TP+0016E5"  # drives that the twin has not seen
        assert card.calibration.images > 100
    assert segmenter.card.calibration == described.calibration


def test_backends_agree_on_the_generated_scene(segmenter: Segmenter) -> None:
    image = synthetic.draw(360, 480).image
    onnx = segmenter.segment(image).labels
    torch = Segmenter.load(backend="torch").segment(image).labels
    assert np.mean(onnx == torch) >= 0.9995  # the weights of the ONNX file are rounded to 10 bits (benchmarks/bundle.py)
    assert np.mean(onnx == Segmenter.load().segment(image).labels) >= 0.98  # int8, the default


def test_the_default_backend_keeps_the_accuracy() -> None:
    backend = Segmenter.load().backend
    assert backend.precision == "int8"
    assert backend.card.keeps_accuracy(backend.name, "int8")
    assert backend.card.losses["onnx int8"]["worst"] <= 0.5


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_labels_of_the_generated_scene(segmenter: Segmenter, seed: int) -> None:
    drawn = synthetic.draw(seed=seed)
    confusion = Confusion(len(synthetic.CLASSES))
    confusion.add(segmenter.segment(drawn.image).labels, drawn.labels)
    iou = dict(zip(synthetic.CLASSES, confusion.iou(), strict=True))
    least = {"Road": 85, "Sky": 85, "Building": 60, "Car": 60}
    assert {name: iou[name] for name in least if (iou[name] or 0) < least[name]} == {}


@pytest.mark.slow
def test_camvid_test_split(segmenter: Segmenter, camvid_root: Path) -> None:
    """The mIoU of the card, with every backend of the package."""
    spec = datasets.load(f"camvid:{camvid_root}")
    pairs = spec.pairs("test")
    shipped = evaluate_pairs(segmenter, spec, pairs).confusion.miou()
    reference = evaluate_pairs(Segmenter.load(backend="torch"), spec, pairs).confusion.miou()
    assert shipped == pytest.approx(segmenter.card.metrics["test"]["miou"], abs=0.05)
    assert abs(shipped - reference) <= 0.05
    fast = Segmenter.load()
    assert evaluate_pairs(fast, spec, pairs).confusion.miou() == pytest.approx(fast.card.metrics["test"]["miou"], abs=0.1)
    assert fast.card.metrics["test"]["miou"] >= shipped - 0.5
