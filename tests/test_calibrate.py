"""Calibration: it recovers the temperature that generated the labels, and the threshold is the documented quantile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets
from fastscnn.evaluation import calibrate
from fastscnn.media import images
from fastscnn.model import card
from fastscnn.model.card import Calibration, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.upsampling import upsample

RANDOM = np.random.default_rng(0)
FOUND = Calibration(1.5, 2.0, "val", 3, 4.0, 1.0)


def drawn(logits: Float32Array, temperature: float) -> UInt8Array:
    """Draw a class for each column of logits [C, n], from the softmax with the temperature."""
    chances = np.exp(logits / temperature)
    chances /= chances.sum(axis=0)
    classes: UInt8Array = (chances.cumsum(axis=0) < RANDOM.random(logits.shape[1])).sum(axis=0).astype(np.uint8)
    return classes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_recovered(temperature: float) -> None:
    logits = RANDOM.normal(size=(5, 100_000)).astype(np.float32) * 3
    truth = drawn(logits, temperature)
    assert calibrate._temperature(logits, truth) == pytest.approx(temperature, rel=0.03)
    assert calibrate._error(logits / np.float32(temperature), truth) < 1


def test_values_between_the_logits() -> None:
    planes = RANDOM.normal(size=(3, 5, 7)).astype(np.float32)
    row, column = RANDOM.integers(0, 40, 200), RANDOM.integers(0, 61, 200)
    full = np.log(upsample.probabilities([planes], (40, 61)))[:, row, column]
    at = calibrate._at(planes, (40, 61), row, column)
    np.testing.assert_allclose(at - np.log(np.exp(at).sum(axis=0)), full, atol=1e-5)


def test_a_dataset(tiny: Segmenter, tmp_path: Path) -> None:
    """`tiny` is confident on red, green and blue; a tenth of the labels is wrong, so it is overconfident."""
    for number in range(4):
        truth = RANDOM.integers(0, 3, (8, 12), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        light = RANDOM.integers(100, 200, (8, 12, 1), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        images.write(tmp_path / f"images/val/{number}.png", np.eye(3, dtype=np.uint8)[truth] * light)
        wrong = RANDOM.random(truth.shape) < 0.1
        noted = np.where(wrong, RANDOM.integers(0, 3, truth.shape), truth).astype(np.uint8)
        noted[:8] = 255
        images.write(tmp_path / f"labels/val/{number}.png", noted)
    toml = tmp_path / "dataset.toml"
    toml.write_text('name = "colours"\nclasses = ["red", "green", "blue"]\nterms = "none"\n'
                    '[splits.val]\nimages = "images/val/*.png"\nlabels = "labels/val/{stem}.png"\n')
    spec = datasets.load(str(toml))
    seen: list[tuple[int, int]] = []
    found = calibrate.calibrate(tiny, spec, spec.pairs("val"), "val", lambda done, total: seen.append((done, total)))
    assert (found.split, found.images, seen[-1]) == ("val", 4, (4, 4))
    assert found.temperature > 1.5
    assert found.ece < found.ece_before
    logits = [tiny.logits(spec.read(pair)[0]) for pair in spec.pairs("val")]
    flagged = [upsample.ood_mask(each, found.ood_threshold, (64, 96))[8:] for each in logits]
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.02)


def test_one_pixel_in_twenty_of_known_classes_is_below_the_threshold(tiny: Segmenter, tmp_path: Path) -> None:
    """The images are grey, each of another level, so the best logit is the same in a whole image."""
    levels = range(0, 200, 2)
    for level in levels:
        images.write(tmp_path / f"images/{level:03}.png", np.full((64, 96, 3), level, np.uint8))
        images.write(tmp_path / f"labels/{level:03}.png", np.zeros((64, 96), np.uint8))
    (tmp_path / "dataset.toml").write_text('name = "grey"\nclasses = ["red", "green", "blue"]\n[splits.val]\n'
                                           'images = "images/*.png"\nlabels = "labels/{stem}.png"\n')
    spec = datasets.load(str(tmp_path / "dataset.toml"))
    found = calibrate.calibrate(tiny, spec, spec.pairs("val"), "val")
    best = sorted(float(tiny.logits(spec.read(pair)[0]).max()) for pair in spec.pairs("val"))
    assert best[4] - 0.001 <= found.ood_threshold <= best[5] + 0.001
    assert len(set(best)) == len(best)


def test_a_split_without_labels(tiny: Segmenter, tmp_path: Path) -> None:
    images.write(tmp_path / "images/a.png", np.zeros((64, 96, 3), np.uint8))
    images.write(tmp_path / "labels/a.png", np.full((64, 96), 255, np.uint8))
    (tmp_path / "dataset.toml").write_text('name = "empty"\nclasses = ["red", "green", "blue"]\n[splits.val]\n'
                                           'images = "images/*.png"\nlabels = "labels/{stem}.png"\n')
    spec = datasets.load(str(tmp_path / "dataset.toml"))
    with pytest.raises(FastSCNNError, match="the split 'val' has no labelled pixels to calibrate with"):
        calibrate.calibrate(tiny, spec, spec.pairs("val"), "val")


def test_the_card_keeps_it() -> None:
    made = Card(LabelSet(("road", "car")), (64, 96), calibration=FOUND)
    assert (made.temperature, made.ood_threshold) == (1.5, 2.0)
    assert Card.from_json(made.to_json(), Path("x.onnx")) == made
    without = json.loads(made.to_json())
    del without["calibration"]  # as in cards of version 0.1
    older = Card.from_json(json.dumps(without), Path("x.onnx"))
    assert (older.calibration, older.temperature, older.ood_threshold) == (None, 1.0, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")),
     ("ood_threshold", float("nan")), ("ood_threshold", float("inf"))],
)
def test_invalid_values(field: str, value: float) -> None:
    changes: dict[str, Any] = {field: value}
    broken = Card(LabelSet(("road", "car")), (64, 96), calibration=replace(FOUND, **changes))
    with pytest.raises(FastSCNNError, match=f"^x.onnx: its card is broken at .*({field}|unknown_below)"):
        Card.from_json(broken.to_json(), Path("x.onnx"))


def test_confidence_and_ood_mask_with_a_card(write_onnx: object, tmp_path: Path) -> None:
    assert callable(write_onnx)
    described = Card(LabelSet(("red", "green", "blue")), (64, 96), calibration=FOUND)
    path = write_onnx(tmp_path / "tiny.onnx", described.label_set.names, {card.KEY: described.to_json()})
    segmenter = Segmenter.load(path, "onnx", threads=1)
    image = RANDOM.integers(0, 60, (64, 96, 3), np.uint8)
    result = segmenter.segment(image, confidence=True, ood_mask=True)
    logits = segmenter.logits(image)
    np.testing.assert_array_equal(result.labels, upsample.labels(logits, (64, 96)))
    assert result.confidence is not None
    np.testing.assert_allclose(result.confidence, upsample.confidence_in_numpy(logits / 1.5, (64, 96)), atol=7e-4)
    np.testing.assert_array_equal(result.ood_mask, upsample.ood_mask(logits, 2.0, (64, 96)))
    assert result.ood_mask is not None
    assert 0 < result.ood_mask.mean() < 1
    assert list(result.seconds) == ["resize", "network", "labels", "confidence", "ood_mask"]
    np.testing.assert_allclose(segmenter.probabilities(image).max(axis=0), result.confidence, atol=7e-4)


def test_weights_without_a_threshold_have_no_ood_mask(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="the card has no OOD threshold; `fastscnn export --data`"):
        tiny.segment(np.zeros((64, 96, 3), np.uint8), ood_mask=True)
    with pytest.raises(FastSCNNError, match="ood_mask: its threshold holds for a single pass"):
        Segmenter(tiny.backend, flip=True).segment(np.zeros((64, 96, 3), np.uint8), ood_mask=True)
