"""Confusion: the one matrix behind every score; RunningMIoU: what PST900's authors print; Reliability: calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, Int64Array, UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX

BINS = 15  # as Guo et al. 2017, "On Calibration of Modern Neural Networks", and most since


@dataclass
class Confusion:
    """Pixels by true class and predicted class, summed over images.

    Attributes:
        classes: number of classes.
        matrix: int64 [classes, classes], rows are the truth.
    """

    classes: int
    matrix: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.classes, self.classes), np.int64)

    def add(self, predicted: UInt8Array, truth: UInt8Array) -> None:
        """Counts one image. Both uint8 [H, W]; pixels whose truth is 255 are left out.

        Raises:
            FastSCNNError: sizes that differ, or a class beyond the number of classes.
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

    def merge(self, other: Confusion) -> None:
        """Adds the counts of another matrix. Raises FastSCNNError where it has another number of classes."""
        if other.classes != self.classes:
            raise FastSCNNError(f"A confusion of {other.classes} classes cannot be added to one of {self.classes}.")
        self.matrix += other.matrix

    def grouped(self, categories: Sequence[int]) -> Confusion:
        """The confusion of categories: a pixel is right where its class was taken for one of the same category.

        Args:
            categories: of each class the category it belongs to, from 0 to as many as there are less one.

        Raises:
            FastSCNNError: not one category for each class, or numbers that leave one out.
        """
        count = len(set(categories))
        if len(categories) != self.classes or set(categories) != set(range(count)):
            raise FastSCNNError(f"categories: {self.classes} classes need one each, counted from 0, not {list(categories)}.")
        grouped = Confusion(count)
        place = np.array(categories)
        np.add.at(grouped.matrix, (place[:, None], place[None, :]), self.matrix)
        return grouped

    def iou(self) -> list[float | None]:
        """Intersection over union of each class in percent; None for a class neither present nor predicted."""
        hit = np.diag(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
        return [100 * int(h) / int(u) if u else None for h, u in zip(hit, union, strict=True)]

    def miou(self) -> float:
        """Mean of `iou` over the classes that have one, in percent; 0 where nothing was counted."""
        scores = [score for score in self.iou() if score is not None]
        return sum(scores) / len(scores) if scores else 0.0

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right, in percent; 0 where nothing was counted."""
        total = int(self.matrix.sum())
        return 100 * int(np.trace(self.matrix)) / total if total else 0.0


class RunningMIoU:
    """The mIoU of PST900's authors for Fast-SCNN, beside the standard one.

    Their `pstnet/code/FastSCNN/eval.py` (github.com/ShreyasSkandanS/pst900_thermal_rgb) adds each image to counts that go on
    over all images, takes the mIoU of these counts after each image, sums those and divides by the last index, which is one
    less than there are images. So the first images weigh most, the order counts (theirs: by file name), a class not met so
    far scores 0, and the result is N / (N - 1) too high; it may pass 100. Labels were at 640x360, by nearest neighbour.
    Only their Fast-SCNN rows (mIoU 48.38 RGB, 46.96 RGB-T) are made so: the other rows are standard, and so is `confusion`.

    Attributes:
        confusion: pixels by true and predicted class; `confusion.miou()` is the standard score.
        images: how many were added.
    """

    def __init__(self, classes: int) -> None:
        self.confusion = Confusion(classes)
        self.images = 0
        self._summed = np.zeros(classes)  # of each class, its IoU in percent after every image

    def add(self, predicted: UInt8Array, truth: UInt8Array) -> None:
        """Counts one image, in the order of the file names. As `Confusion.add`; PST900 itself has no ignored pixels."""
        self.confusion.add(predicted, truth)
        self.images += 1
        self._summed += [score or 0.0 for score in self.confusion.iou()]

    def iou(self) -> list[float] | None:
        """The same mean for each class, in percent; None for fewer than two images, where theirs divides by zero."""
        return (self._summed / (self.images - 1)).tolist() if self.images > 1 else None

    def value(self) -> float | None:
        """Their mIoU in percent; None for fewer than two images."""
        scores = self.iou()
        return sum(scores) / len(scores) if scores else None


class Reliability:
    """Confidence against accuracy of every pixel that is not ignored, in bins of equal width."""

    def __init__(self) -> None:
        self._pixels = np.zeros(BINS, np.int64)
        self._right = np.zeros(BINS, np.int64)
        self._confidence = np.zeros(BINS)  # summed over pixels

    def add(self, confidence: Float32Array, labels: UInt8Array, truth: UInt8Array) -> None:
        """Counts an image.

        Args:
            confidence: float32 [H, W], 0 to 1.
            labels, truth: uint8 [H, W] of train ids; pixels whose truth is 255 are left out.
        """
        counted = truth != IGNORE_INDEX
        sure = confidence[counted].astype(np.float64)
        place = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)  # the last bin holds 1 itself, too
        self._pixels += np.bincount(place, minlength=BINS)
        self._right += np.bincount(place[labels[counted] == truth[counted]], minlength=BINS)
        self._confidence += np.bincount(place, sure, minlength=BINS)

    def bins(self) -> list[tuple[float, float, float]]:
        """Of each bin mean confidence, accuracy and share of the pixels, from 0 to 1; zeros where it holds no pixel."""
        counts = np.maximum(self._pixels, 1)
        columns = (self._confidence / counts, self._right / counts, self._pixels / max(1, int(self._pixels.sum())))
        return [(confidence, accuracy, share) for confidence, accuracy, share in np.stack(columns, axis=1).tolist()]

    def error(self) -> float:
        """The expected calibration error in percent: the mean of |accuracy - confidence| over bins, weighted by pixels."""
        return 100 * sum(share * abs(accuracy - confidence) for confidence, accuracy, share in self.bins())

    def to_dict(self) -> dict[str, Any]:
        """Error and bins for JSON, in percent."""
        bins = [
            {"confidence": 100 * confidence, "accuracy": 100 * accuracy, "share": 100 * share}
            for confidence, accuracy, share in self.bins()
        ]
        return {"ece": self.error(), "bins": bins}
