"""metrics: by hand, and against torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from fastscnn.errors import FastSCNNError
from fastscnn.metrics import Confusion


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
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, min(used, classes), (3, 17, 23)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    whole, parts = confusion(classes, predicted, truth), Confusion(classes)
    for one_predicted, one_truth in zip(predicted, truth, strict=True):
        parts.merge(confusion(classes, one_predicted, one_truth))
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


def test_merge_refuses_other_classes() -> None:
    with pytest.raises(FastSCNNError, match="cannot be added"):
        Confusion(3).merge(Confusion(2))
