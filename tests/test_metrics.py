"""metrics: by hand, and against torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.evaluation.metrics import Confusion, RunningMIoU


def confusion(classes: int, predicted: Any, truth: Any) -> Confusion:
    matrix = Confusion(classes)
    matrix.add(np.asarray(predicted, np.uint8), np.asarray(truth, np.uint8))
    return matrix


@pytest.mark.parametrize(
    ("predicted", "truth", "matrix", "iou", "miou", "accuracy"),
    [
        ([[0, 1]], [[0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]], [100, 100, None], 100, 100),
        ([[0, 0]], [[0, 1]], [[1, 0, 0], [1, 0, 0], [0, 0, 0]], [50, 0, None], 25, 50),
        ([[2, 0]], [[0, 0]], [[1, 0, 1], [0, 0, 0], [0, 0, 0]], [50, None, 0], 25, 50),
        ([[0, 1, 1, 2]], [[0, 1, 2, 255]], [[1, 0, 0], [0, 1, 0], [0, 1, 0]], [100, 50, 0], 50, 100 * 2 / 3),
        ([[0, 9]], [[0, 255]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]], [100, None, None], 100, 100),
        ([[0, 1]], [[255, 255]], [[0, 0, 0]] * 3, [None] * 3, 0, 0),
    ],
    ids=["right", "wrong", "predicted only", "ignored", "anything where ignored", "nothing counted"],
)
def test_by_hand(predicted: Any, truth: Any, matrix: Any, iou: Any, miou: float, accuracy: float) -> None:
    scores = confusion(3, predicted, truth)
    assert scores.matrix.tolist() == matrix
    assert scores.iou() == iou
    assert scores.miou() == miou
    assert scores.pixel_accuracy() == pytest.approx(accuracy)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(classes=st.integers(2, 20), used=st.integers(1, 20), right=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_as_torchmetrics(classes: int, used: int, right: float, seed: int) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    rng = np.random.default_rng(seed)
    truth = rng.integers(0, min(used, classes), (3, 17, 23)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    whole, parts = confusion(classes, predicted, truth), Confusion(classes)
    for one_predicted, one_truth in zip(predicted, truth, strict=True):
        parts.add(one_predicted, one_truth)
    np.testing.assert_array_equal(parts.matrix, whole.matrix)

    arguments = torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    jaccard = MulticlassJaccardIndex(classes, average=None, ignore_index=255)(*arguments).tolist()
    iou = whole.iou()
    assert [score or 0 for score in iou] == pytest.approx([100 * score for score in jaccard], abs=1e-4)
    absent = [index for index in range(classes) if not ((predicted == index) & (truth != 255)).any() and index not in truth]
    assert [index for index, score in enumerate(iou) if score is None] == absent
    present = [100 * score for index, score in enumerate(jaccard) if index not in absent]
    assert whole.miou() == pytest.approx(np.mean(present), abs=1e-4)
    accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=255)(*arguments)
    assert whole.pixel_accuracy() == pytest.approx(100 * float(accuracy), abs=1e-4)


def test_most_confused() -> None:
    scores = Confusion(3)
    assert scores.most_confused(5) == []
    scores.matrix[:] = [[6, 2, 0], [1, 1, 2], [25, 25, 50]]
    assert scores.most_confused(9) == [(1, 2, 0.5), (2, 0, 0.25), (2, 1, 0.25), (0, 1, 0.25), (1, 0, 0.25)]
    assert scores.most_confused(1) == [(1, 2, 0.5)]
    scores.matrix[:] = [[0, 0, 0], [0, 4, 0], [0, 0, 1]]
    assert scores.most_confused(9) == []


def test_counts_beyond_32_bits() -> None:
    scores = Confusion(2)
    scores.matrix += np.array([[2**40, 2**40], [0, 2**41]])
    assert scores.iou() == [50, pytest.approx(100 * 2 / 3)]
    assert scores.pixel_accuracy() == 75


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([[0, 1]], [[0], [1]], "\\(1, 2\\), true ones \\(2, 1\\)"),
        ([[0, 2]], [[0, 1]], "beyond the 2 classes"),
        ([[0, 1]], [[0, 2]], "beyond the 2 classes"),
        ([[0, 255]], [[0, 1]], "beyond the 2 classes"),
    ],
    ids=["sizes", "predicted", "truth", "255 predicted"],
)
def test_errors_count_nothing(predicted: Any, truth: Any, message: str) -> None:
    scores = Confusion(2)
    with pytest.raises(FastSCNNError, match=message):
        scores.add(np.asarray(predicted, np.uint8), np.asarray(truth, np.uint8))
    assert not scores.matrix.any()


def test_grouped_by_hand() -> None:
    scores = confusion(4, [[0, 1, 2, 3, 0, 9]], [[1, 1, 3, 2, 2, 255]])
    assert scores.grouped([0, 0, 1, 2]).matrix.tolist() == [[2, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert scores.grouped([1, 0, 0, 0]).matrix.tolist() == [[3, 2], [0, 0]]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(classes=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_grouped_is_the_confusion_of_grouped_labels(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes, (2, 9, 8))
    categories = np.unique(rng.integers(0, classes, classes), return_inverse=True)[1]
    grouped = confusion(classes, predicted, truth).grouped(categories.tolist())
    expected = confusion(int(categories.max()) + 1, categories[predicted], categories[truth])
    np.testing.assert_array_equal(grouped.matrix, expected.matrix)


@pytest.mark.parametrize("categories", [[0, 1], [0, 1, 3], [1, 1, 2], [0, -1, 1], [0, 1, 2, 0]])
def test_grouped_refuses_categories_that_do_not_fit(categories: list[int]) -> None:
    with pytest.raises(FastSCNNError, match="3 classes need one each"):
        Confusion(3).grouped(categories)


def test_running_miou_by_hand() -> None:
    scores, first, second = RunningMIoU(2), np.zeros((1, 2), np.uint8), np.array([[1, 0]], np.uint8)
    assert scores.value() is None
    assert scores.iou() is None
    scores.add(first, first)  # class 1 is not met so far and scores 0: 100 and 0
    assert scores.value() is None
    scores.add(second, first)  # of all four pixels: class 0 is hit in three, class 1 has one false hit: 75 and 0
    assert scores.iou() == [175, 0]  # divided by one less than there are images
    assert scores.value() == 87.5
    assert scores.images == 2
    assert scores.confusion.miou() == 37.5
    other = RunningMIoU(2)
    other.add(second, first)
    other.add(first, first)
    assert other.value() == 62.5  # the order counts
    assert other.confusion.miou() == 37.5


@settings(deadline=None, derandomize=True, max_examples=30)
@given(count=st.integers(2, 6), right=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_running_miou_as_its_authors_count(count: int, right: float, seed: int) -> None:
    """Their arithmetic written out anew: labels from 1, histograms, an epsilon in place of the empty union."""
    rng = np.random.default_rng(seed)
    scores, intersection, union, summed = RunningMIoU(5), np.zeros(5), np.zeros(5), np.zeros(5)
    for _ in range(count):
        truth = rng.integers(0, rng.integers(1, 6), (6, 8)).astype(np.uint8)
        predicted = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, 5, truth.shape)).astype(np.uint8)
        scores.add(predicted, truth)
        hits, seen, there = (
            np.histogram(labels, 5, (1, 5))[0]
            for labels in ((predicted + 1) * (predicted == truth), predicted + 1, truth + 1)
        )
        intersection += hits
        union += seen + there - hits
        summed += intersection / (np.spacing(1) + union)
    assert scores.iou() == pytest.approx(100 * summed / (count - 1))
    assert scores.value() == pytest.approx(100 * summed.mean() / (count - 1))


def test_running_miou_counts_no_image_in_error() -> None:
    scores = RunningMIoU(2)
    with pytest.raises(FastSCNNError, match="beyond the 2 classes"):
        scores.add(np.array([[2]], np.uint8), np.array([[0]], np.uint8))
    assert scores.images == 0


def test_a_class_that_is_not_scored() -> None:
    """It has no IoU, and predicting it is a miss of the true class."""
    scores = Confusion(3, unscored=(2,))
    scores.add(np.array([[0, 0, 1, 2]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    assert scores.iou() == [100.0, 50.0, None]
    assert scores.miou() == 75
    assert scores.pixel_accuracy() == 75
