"""The worst and the best images of an evaluation, as small images for a page."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean
from typing import Any

import numpy as np

from fastscnn.base.types import UInt8Array
from fastscnn.evaluation.metrics import Confusion
from fastscnn.evaluation.report.page import Markup, element, picture
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

KEPT = 6  # number of worst images, and of best images
_WIDTH = 480  # maximum width of an image on a page, in pixels
_OPACITY = 0.55  # of the colours of an overlay, as in `Segmentation.overlay`
_WRONG = np.array((255, 96, 48), np.float32)
_IGNORED = np.array((72, 88, 128), np.float32)


@dataclass(frozen=True, eq=False)  # compared by identity: arrays have no truth value
class Example:
    """An image with its labels and scores.

    Attributes:
        name: file name.
        miou: mean IoU in percent over the classes in its truth. A few wrong pixels of an absent class add no class of IoU 0.
        pixel_accuracy: in percent.
        image: resized image, uint8 [h, w, 3] RGB.
        truth, labels: resized train ids, uint8 [h, w].
    """

    name: str
    miou: float
    pixel_accuracy: float
    image: UInt8Array
    truth: UInt8Array
    labels: UInt8Array

    def to_dict(self) -> dict[str, Any]:
        """Return name and scores for JSON."""
        return {"image": self.name, "miou": self.miou, "pixel_accuracy": self.pixel_accuracy}


class Gallery:
    """The `KEPT` worst and best images by their own mIoU. Other images are not kept in memory."""

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self._worst: list[Example] = []
        self._best: list[Example] = []  # ascending, too

    @property
    def worst(self) -> list[Example]:
        """The worst images, worst first."""
        return self._worst

    @property
    def best(self) -> list[Example]:
        """The best images, best first, without those that are also among the worst."""
        return [example for example in reversed(self._best) if example not in self._worst]

    def add(self, name: str, image: UInt8Array, labels: UInt8Array, truth: UInt8Array) -> None:
        """Add an image. An image whose pixels are all ignored is left out.

        Args:
            name: file name.
            image: uint8 [H, W, channels].
            labels, truth: train ids, uint8 [H, W].
        """
        confusion = Confusion(len(self.label_set))
        confusion.add(labels, truth)
        present = np.flatnonzero(confusion.matrix.sum(axis=1)).tolist()
        if not present:
            return
        iou = confusion.iou()
        miou = fmean(iou[index] or 0.0 for index in present)
        low = len(self._worst) < KEPT or miou < self._worst[-1].miou
        high = len(self._best) < KEPT or miou >= self._best[0].miou  # of equal images the first are worst, the last best
        if not low and not high:
            return
        example = Example(name, miou, confusion.pixel_accuracy(), small(image[:, :, :3]), small(truth), small(labels))
        if low:
            self._worst = sorted([*self._worst, example], key=attrgetter("miou"))[:KEPT]
        if high:
            self._best = sorted([*self._best, example], key=attrgetter("miou"))[-KEPT:]

    def show(self, examples: list[Example]) -> list[Markup]:
        """Return the scores, image, truth, labels and errors of each example."""
        shown = []
        for example in examples:
            scores = f"mIoU {example.miou:.2f} %, pixel accuracy {example.pixel_accuracy:.2f} %"
            palette = self.label_set.palette()
            panels = (
                ("image", example.image),
                ("truth", palette[example.truth]),
                ("labels", overlay(example.image, example.labels, self.label_set)),
                ("errors", _errors(example)),
            )
            pictures = (picture(drawn, f"{what} of {example.name}", what) for what, drawn in panels)
            shown.append(element(
                "article",
                element("h3", example.name),
                element("p", scores),
                element("div", *pictures, class_="pictures"),
                class_="example",
            ))
        return shown


def small(pixels: UInt8Array, width: int = _WIDTH) -> UInt8Array:
    """Resize an image [H, W, 3] or train ids [H, W] to at most `width` pixels wide; ids by nearest neighbour."""
    height, whole = pixels.shape[:2]
    width = min(width, whole)
    size = max(1, round(height * width / whole)), width
    if pixels.ndim == 3:
        return images.resize(np.ascontiguousarray(pixels), size)
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, pixels.shape, strict=True))
    shrunk: UInt8Array = pixels[rows[:, None], columns]
    return shrunk


def overlay(image: UInt8Array, labels: UInt8Array, label_set: LabelSet) -> UInt8Array:
    """Return the image blended with the colours of its labels, uint8 [H, W, 3]; ignored pixels stay as they are."""
    painted: UInt8Array = np.rint((1 - _OPACITY) * image + _OPACITY * label_set.palette()[labels]).astype(np.uint8)
    painted[labels == IGNORE_INDEX] = image[labels == IGNORE_INDEX]
    return painted


def _errors(example: Example) -> UInt8Array:
    """Return the image in grey with wrong pixels in red and ignored pixels in blue."""
    grey = np.repeat(example.image.mean(axis=2, dtype=np.float32)[:, :, None], 3, axis=2) * 0.55
    grey[example.labels != example.truth] = 0.25 * grey[example.labels != example.truth] + 0.75 * _WRONG
    ignored = example.truth == IGNORE_INDEX
    grey[ignored] = 0.5 * grey[ignored] + 0.5 * _IGNORED
    return grey.astype(np.uint8)
