"""evaluate: the report, and that its scores are those of the Segmenter's own labels."""

from __future__ import annotations

import doctest
import hashlib
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastscnn
from fastscnn import Segmenter
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.synthetic import Scene
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Size
from fastscnn.media import images

TOML = '''
name = "stripes"
classes = [{classes}]
[splits.test]
images = "images/*.png"
labels = "labels/{{stem}}.png"
'''
SIZES = ((128, 192), (64, 96), (100, 77))


def dataset(root: Path, classes: str = '"red", "green", "blue"') -> DatasetSpec:
    """Three pictures of coarse noise, whose labels are its largest channel where they are not ignored or wrong."""
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
        picture = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        labels = picture.argmax(axis=2).astype(np.uint8)
        labels[:, : width // 5] = 0
        labels[: height // 6] = 255
        images.write(root / "images" / f"{index}.png", picture)
        images.write(root / "labels" / f"{index}.png", labels)
    (root / "dataset.toml").write_text(TOML.format(classes=classes))
    return datasets.load(str(root))


def test_all_right(tmp_path: Path, tiny: Segmenter, tiny_onnx: Path, stripes: Scene) -> None:
    spec = dataset(tmp_path)
    images.write(tmp_path / "images" / "0.png", stripes.image)
    images.write(tmp_path / "labels" / "0.png", stripes.labels)
    calls: list[tuple[int, int]] = []
    report = evaluate_pairs(tiny, spec, spec.pairs("test")[:1], lambda done, total: calls.append((done, total)))
    assert calls == [(1, 1)]
    assert json.loads(report.to_json()) == report.to_dict() == {
        "miou": 100.0,
        "pixel_accuracy": 100.0,
        "iou": {"red": 100.0, "green": 100.0, "blue": 100.0},
        "images": 1,
        "backend": "onnx",
        "precision": "float32",
        "device": "cpu",
        "size": "64x96",
        "shape_kept": True,
        "scales": [1.0],
        "flip": False,
        "weights_sha256": hashlib.sha256(tiny_onnx.read_bytes()).hexdigest(),
        "verified": True,
        "confusion": [[8192, 0, 0], [0, 8192, 0], [0, 0, 8192]],
        "most_confused": [],
    }


@pytest.mark.parametrize("confidence", [False, True])
def test_an_observer_sees_what_is_scored(tmp_path: Path, tiny: Segmenter, confidence: bool) -> None:
    spec = dataset(tmp_path)
    confusion, seen = Confusion(3), []

    def observe(image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        confusion.add(result.labels, truth)
        assert (result.confidence is None) == (not confidence)
        np.testing.assert_array_equal(image, spec.read(pair)[0])
        np.testing.assert_array_equal(truth, spec.read(pair)[1])
        seen.append(pair)

    report = evaluate_pairs(tiny, spec, spec.pairs("test")[::-1], on_image=observe, confidence=confidence)
    assert seen == spec.pairs("test")[::-1]
    np.testing.assert_array_equal(confusion.matrix, report.confusion.matrix)


@pytest.mark.parametrize("size", [None, "native", (80, 40)])
def test_scores_as_torchmetrics(tmp_path: Path, tiny_onnx: Path, size: Size) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    spec, segmenter = dataset(tmp_path), Segmenter.load(tiny_onnx, size=size, threads=1)
    report = evaluate_pairs(segmenter, spec, spec.pairs("test")).to_dict()
    jaccard = MulticlassJaccardIndex(3, average=None, ignore_index=255)
    accuracy = MulticlassAccuracy(3, average="micro", ignore_index=255)
    for index in range(len(SIZES)):
        labels = segmenter.segment(images.read(tmp_path / "images" / f"{index}.png")).labels
        truth = images.read_values(tmp_path / "labels" / f"{index}.png")[0]
        for metric in (jaccard, accuracy):
            metric.update(torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
    assert 20 < report["miou"] < 95, "scores in percent, of labels that are neither all right nor all wrong"
    assert list(report["iou"]) == ["red", "green", "blue"]
    assert list(report["iou"].values()) == pytest.approx([100 * iou for iou in jaccard.compute().tolist()], abs=1e-4)
    assert report["miou"] == pytest.approx(np.mean(list(report["iou"].values())))
    assert report["pixel_accuracy"] == pytest.approx(100 * float(accuracy.compute()), abs=1e-4)
    assert report["images"] == 3
    assert report["size"] == {None: "64x96", "native": "native", (80, 40): "80x40"}[size]
    assert report["shape_kept"] == (size != (80, 40))


@pytest.mark.parametrize(("size", "text"), [
    (None, "64x96 in the shape of each image"), ("native", "native"), ("64x96", "64x96"),
])
def test_the_text_of_the_input(tmp_path: Path, tiny_onnx: Path, size: Size, text: str) -> None:
    """An explicit size, which squeezes images of another shape, differs in the report from the same size of the card."""
    spec = dataset(tmp_path)
    assert evaluate_pairs(Segmenter.load(tiny_onnx, size=size, threads=1), spec, spec.pairs("test")[:1]).input == text


def test_several_scales_and_flip(tmp_path: Path, tiny_onnx: Path) -> None:
    spec = dataset(tmp_path)
    segmenter = Segmenter.load(tiny_onnx, threads=1, scales=(0.5, 1.25), flip=True)
    report = evaluate_pairs(segmenter, spec, spec.pairs("test"))
    confusion = Confusion(3)
    for pair in spec.pairs("test"):
        image, truth = spec.read(pair)
        confusion.add(segmenter.segment(image).labels, truth)
    np.testing.assert_array_equal(report.confusion.matrix, confusion.matrix)
    plain = evaluate_pairs(Segmenter.load(tiny_onnx, threads=1), spec, spec.pairs("test"))
    assert (report.confusion.matrix != plain.confusion.matrix).any()
    kept = json.loads(report.to_json())
    assert kept == report.to_dict()
    assert (kept["size"], kept["scales"], kept["flip"]) == ("64x96", [0.5, 1.25], True)


def test_absent_classes(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    images.write(tmp_path / "images" / "0.png", np.full((64, 96, 3), (0, 90, 0), np.uint8))
    images.write(tmp_path / "labels" / "0.png", np.full((64, 96), 1, np.uint8))
    report = evaluate_pairs(tiny, spec, spec.pairs("test")[:1]).to_dict()
    assert report["iou"] == {"red": None, "green": 100, "blue": None}
    assert report["miou"] == 100


def test_weights_that_are_in_no_file(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    report = evaluate_pairs(Segmenter(tiny.backend), spec, spec.pairs("test"))
    assert report.weights_sha256 == ""


@pytest.mark.parametrize("classes", ['"red", "green"', '"green", "red", "blue"', '"red", "green", "blue", "grey"'])
def test_other_classes_are_refused(tmp_path: Path, tiny: Segmenter, classes: str) -> None:
    spec = dataset(tmp_path, classes)
    with pytest.raises(FastSCNNError, match=r": have 3 classes \(red, green, blue\) but stripes has"):
        evaluate_pairs(tiny, spec, spec.pairs("test"))


def test_a_broken_file_ends_it(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    images.write(tmp_path / "labels" / "1.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(FastSCNNError, match=r"labels/1\.png: is 9x9 but its image is 64x96"):
        evaluate_pairs(tiny, spec, spec.pairs("test"))


def test_an_image_that_is_too_small_is_named(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    images.write(tmp_path / "images" / "1.png", np.zeros((20, 64, 3), np.uint8))
    images.write(tmp_path / "labels" / "1.png", np.zeros((20, 64), np.uint8))
    with pytest.raises(FastSCNNError, match=r"images/1\.png: The image is 20x64 \(HxW\) and needs at least 32") as caught:
        evaluate_pairs(tiny, spec, spec.pairs("test"))
    assert not isinstance(caught.value, ArgumentError)


@pytest.mark.parametrize(("weights", "data"), [(3, "camvid:x"), (None, None), (None, 3)])
def test_what_is_no_path_is_refused(weights: Any, data: Any) -> None:
    with pytest.raises(ArgumentError, match="A path is needed, not"):
        fastscnn.evaluate(weights, data)


def test_public_evaluate(tmp_path: Path, tiny: Segmenter, tiny_onnx: Path) -> None:
    """A path or a Segmenter, and a folder, a path or a spec, give the same report."""
    spec = dataset(tmp_path)
    expected = evaluate_pairs(tiny, spec, spec.pairs("test"))
    calls: list[tuple[int, int]] = []
    for weights in (tiny, tiny_onnx, str(tiny_onnx)):
        for data in (spec, tmp_path, str(tmp_path / "dataset.toml")):
            report = fastscnn.evaluate(weights, data, on_progress=lambda done, total: calls.append((done, total)))
            np.testing.assert_array_equal(report.confusion.matrix, expected.confusion.matrix)
            assert report.miou == expected.miou == report.to_dict()["miou"]
    assert calls == 9 * [(1, 3), (2, 3), (3, 3)]


def test_most_confused_in_the_report(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    report = fastscnn.evaluate(tiny, spec)
    told = report.to_dict()["most_confused"]
    assert 0 < len(told) <= 6
    assert set(told[0]) == {"truth", "predicted", "percent"}
    rates = {(row["truth"], row["predicted"]): row["percent"] for row in told}
    matrix = report.confusion.matrix
    assert rates["red", "green"] == pytest.approx(100 * matrix[0, 1] / matrix[0].sum())
    assert list(rates.values()) == sorted(rates.values(), reverse=True)


def test_which_split_is_evaluated(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path)
    (only,) = spec.splits.values()
    for splits, expected in ((("test",), "test"), (("train", "val", "test"), "val"), (("val",), "val")):
        assert replace(spec, splits=dict.fromkeys(splits, only)).evaluation_split() == expected
    hidden = {"train": only, "test": replace(only, labels_unavailable="it is secret")}
    assert replace(spec, splits=hidden).evaluation_split() == "train"
    two = replace(spec, splits={"train": only, "test": only})
    with pytest.raises(FastSCNNError, match="stripes has no split 'val'; choose a split: train, test"):
        fastscnn.evaluate(tiny, two)
    assert fastscnn.evaluate(tiny, two, "test").images == 3
    with pytest.raises(FastSCNNError, match="no split of stripes 'vall'"):
        fastscnn.evaluate(tiny, two, "vall")


@pytest.mark.parametrize("module", ["evaluation.evaluate", "data.datasets"])
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(import_module(f"fastscnn.{module}"), raise_on_error=True).attempted > 4
