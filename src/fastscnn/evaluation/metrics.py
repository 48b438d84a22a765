"""Metrics on label maps: the confusion matrix, PST900's running mIoU, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, Int64Array, UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX

BINS = 15  # as in Guo et al. 2017, "On Calibration of Modern Neural Networks", and most papers since


@dataclass
class Confusion:
    """Confusion matrix: pixels by true class and predicted class, summed over images.

    Attributes:
        classes: number of classes.
        unscored: classes without a score, because the true labels do not annotate them. Predicting one counts as a miss of the
            true class.
        matrix: int64 [classes, classes]; rows are true classes.
    """

    classes: int
    unscored: tuple[int, ...] = ()
    matrix: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.classes, self.classes), np.int64)

    def add(self, predicted: UInt8Array, truth: UInt8Array) -> None:
        """Count one image.

        Args:
            predicted: train ids, uint8 [H, W].
            truth: train ids, uint8 [H, W]; pixels with 255 are not counted.

        Raises:
            FastSCNNError: different sizes, or a class beyond the number of classes. Nothing is counted then.
        """
        if predicted.shape != truth.shape:
            raise FastSCNNError(f"Predicted labels are {predicted.shape}, true ones {truth.shape}; sizes must be the same.")
        counted = truth != IGNORE_INDEX
        pairs = truth[counted].astype(np.int64) * 256 + predicted[counted]
        full = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
        inside = full[: self.classes, : self.classes]
        if full.sum() != inside.sum():
            raise FastSCNNError(f"A label lies beyond the {self.classes} classes; map raw ids to train ids first.")
        self.matrix += inside

    def grouped(self, categories: Sequence[int]) -> Confusion:
        """Return the confusion matrix of categories, in which classes of the same category count as equal.

        Args:
            categories: of each class the index of its category, counted from 0 without gaps.

        Raises:
            FastSCNNError: not one category for each class, or a gap in the indices.
        """
        count = len(set(categories))
        if len(categories) != self.classes or set(categories) != set(range(count)):
            raise FastSCNNError(f"categories: {self.classes} classes need one each, counted from 0, not {list(categories)}.")
        grouped = Confusion(count)
        place = np.array(categories)
        np.add.at(grouped.matrix, (place[:, None], place[None, :]), self.matrix)
        return grouped

    def most_confused(self, count: int) -> list[tuple[int, int, float]]:
        """Return the `count` largest confusions, largest first.

        Returns:
            (true class, predicted class, fraction of the true class's pixels, 0 to 1), without fractions of 0. Of equal
            fractions the one with more pixels comes first.
        """
        totals = self.matrix.sum(axis=1)
        found = [
            (true, predicted, int(self.matrix[true, predicted]))
            for true, predicted in np.argwhere(self.matrix).tolist() if true != predicted
        ]
        ranked = sorted(found, key=lambda cell: (-cell[2] / totals[cell[0]], -cell[2]))
        return [(true, predicted, pixels / int(totals[true])) for true, predicted, pixels in ranked[:count]]

    def iou(self) -> list[float | None]:
        """Return the intersection over union (IoU) of each class in percent.

        It is None if the class is neither present nor predicted, or `unscored`.
        """
        hit = np.diag(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
        union[list(self.unscored)] = 0
        return [100 * int(h) / int(u) if u else None for h, u in zip(hit, union, strict=True)]

    def miou(self) -> float:
        """Return the mean of `iou` in percent over the classes that have one; 0 if nothing was counted."""
        scores = [score for score in self.iou() if score is not None]
        return sum(scores) / len(scores) if scores else 0.0

    def pixel_accuracy(self) -> float:
        """Return the percentage of counted pixels that are right; 0 if nothing was counted."""
        total = int(self.matrix.sum())
        return 100 * int(np.trace(self.matrix)) / total if total else 0.0


class RunningMIoU:
    """The mIoU of PST900's authors for Fast-SCNN.

    Source: `pstnet/code/FastSCNN/eval.py` in github.com/ShreyasSkandanS/pst900_thermal_rgb. It adds each image to counts over
    all images so far, takes the mIoU of these counts after each image, sums them and divides by the last index, which is the
    number of images less one. So the first images have the largest weight, and the order counts (theirs: by file name). A
    class that has not occurred yet scores 0. The result is N / (N - 1) too high and may exceed 100. Their labels were
    360x640, resized by nearest neighbour. Only their Fast-SCNN rows (mIoU 48.38 RGB, 46.96 RGB-T) are computed
    this way; the other rows and `confusion` are standard.

    Attributes:
        confusion: confusion matrix; `confusion.miou()` is the standard score.
        images: number of images added.
    """

    def __init__(self, classes: int) -> None:
        self.confusion = Confusion(classes)
        self.images = 0
        self._summed = np.zeros(classes)  # of each class, the sum of its IoU in percent after every image

    def add(self, predicted: UInt8Array, truth: UInt8Array) -> None:
        """Count one image, in the order of the file names. Arguments and errors as for `Confusion.add`."""
        self.confusion.add(predicted, truth)
        self.images += 1
        self._summed += [score or 0.0 for score in self.confusion.iou()]

    def iou(self) -> list[float] | None:
        """Return the running mean of each class in percent; None for fewer than two images, where theirs divides by 0."""
        return (self._summed / (self.images - 1)).tolist() if self.images > 1 else None

    def value(self) -> float | None:
        """Return the running mIoU in percent; None for fewer than two images."""
        scores = self.iou()
        return sum(scores) / len(scores) if scores else None


class Reliability:
    """Confidence against accuracy of all pixels that are not ignored, in `BINS` bins of equal width."""

    def __init__(self) -> None:
        self._pixels = np.zeros(BINS, np.int64)
        self._right = np.zeros(BINS, np.int64)
        self._confidence = np.zeros(BINS)  # summed over pixels

    def add(self, confidence: Float32Array, labels: UInt8Array, truth: UInt8Array) -> None:
        """Count one image.

        Args:
            confidence: float32 [H, W], 0 to 1.
            labels: predicted train ids, uint8 [H, W].
            truth: true train ids, uint8 [H, W]; pixels with 255 are not counted.
        """
        counted = truth != IGNORE_INDEX
        sure = confidence[counted].astype(np.float64)
        place = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)  # the last bin includes 1
        self._pixels += np.bincount(place, minlength=BINS)
        self._right += np.bincount(place[labels[counted] == truth[counted]], minlength=BINS)
        self._confidence += np.bincount(place, sure, minlength=BINS)

    def bins(self) -> list[tuple[float, float, float]]:
        """Return the mean confidence, accuracy and share of pixels of each bin, 0 to 1; zeros for an empty bin."""
        counts = np.maximum(self._pixels, 1)
        columns = (self._confidence / counts, self._right / counts, self._pixels / max(1, int(self._pixels.sum())))
        return [(confidence, accuracy, share) for confidence, accuracy, share in np.stack(columns, axis=1).tolist()]

    def error(self) -> float:
        """Return the expected calibration error (ECE) in percent: mean |accuracy - confidence|, weighted by pixels."""
        return 100 * sum(share * abs(accuracy - confidence) for confidence, accuracy, share in self.bins())

    def to_dict(self) -> dict[str, Any]:
        """Return the error and the bins for JSON, in percent."""
        bins = [
            {"confidence": 100 * confidence, "accuracy": 100 * accuracy, "share": 100 * share}
            for confidence, accuracy, share in self.bins()
        ]
        return {"ece": self.error(), "bins": bins}
