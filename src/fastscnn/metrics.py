"""Confusion: the one matrix from which every score comes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastscnn.arrays import Int64Array, UInt8Array
from fastscnn.errors import FastSCNNError
from fastscnn.labels import IGNORE


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
        counted = truth != IGNORE
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
