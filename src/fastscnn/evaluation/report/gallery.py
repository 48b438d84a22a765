"""gallery: the worst and the best images of an evaluation, and how pictures are made small and painted for a page."""

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

KEPT = 6  # of the worst, and of the best
_WIDTH = 480  # pixels of a picture on a page, at most
_OPACITY = 0.55  # of colours over a picture, as in `Segmentation.overlay`
_WRONG = np.array((255, 96, 48), np.float32)
_IGNORED = np.array((72, 88, 128), np.float32)


@dataclass(frozen=True, eq=False)  # an example equals itself alone: arrays do not compare
class Example:
    """An image, its labels and how good they are.

    Attributes:
        name: of its file.
        miou: mean IoU in percent over the classes that its truth holds, so that a stray pixel of another class costs no more
            than the pixel.
        pixel_accuracy: in percent.
        image: small, uint8 [h, w, 3] RGB.
        truth, labels: small, uint8 [h, w] of train ids.
    """

    name: str
    miou: float
    pixel_accuracy: float
    image: UInt8Array
    truth: UInt8Array
    labels: UInt8Array

    def to_dict(self) -> dict[str, Any]:
        """Name and scores for JSON."""
        return {"image": self.name, "miou": self.miou, "pixel_accuracy": self.pixel_accuracy}


class Gallery:
    """Keeps the worst and the best images by their own mIoU, and no more than those, however many it sees."""

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self._worst: list[Example] = []
        self._best: list[Example] = []  # ascending as well

    @property
    def worst(self) -> list[Example]:
        """The worst first."""
        return self._worst

    @property
    def best(self) -> list[Example]:
        """The best first, without those that are among the worst of a few."""
        return [example for example in reversed(self._best) if example not in self._worst]

    def add(self, name: str, image: UInt8Array, labels: UInt8Array, truth: UInt8Array) -> None:
        """Looks at an image, uint8 [H, W, channels], labels and truth, uint8 [H, W]; one that is all ignored is left out."""
        confusion = Confusion(len(self.label_set))
        confusion.add(labels, truth)
        present = np.flatnonzero(confusion.matrix.sum(axis=1)).tolist()
        if not present:
            return
        iou = confusion.iou()
        miou = fmean(iou[index] or 0.0 for index in present)
        low = len(self._worst) < KEPT or miou < self._worst[-1].miou
        high = len(self._best) < KEPT or miou >= self._best[0].miou  # of equals the first are worst, the last best
        if not low and not high:
            return
        example = Example(name, miou, confusion.pixel_accuracy(), small(image[:, :, :3]), small(truth), small(labels))
        if low:
            self._worst = sorted([*self._worst, example], key=attrgetter("miou"))[:KEPT]
        if high:
            self._best = sorted([*self._best, example], key=attrgetter("miou"))[-KEPT:]

    def show(self, examples: list[Example]) -> list[Markup]:
        """Each example's scores, picture, truth, labels and errors."""
        shown = []
        for example in examples:
            scores = f"mIoU {example.miou:.2f} %, pixel accuracy {example.pixel_accuracy:.2f} %"
            palette = self.label_set.palette()
            panels = (
                ("picture", example.image),
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
    """An image [H, W, 3] or train ids [H, W] at most `width` pixels wide; ids by nearest neighbour."""
    height, whole = pixels.shape[:2]
    width = min(width, whole)
    size = max(1, round(height * width / whole)), width
    if pixels.ndim == 3:
        return images.resize(np.ascontiguousarray(pixels), size)
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, pixels.shape, strict=True))
    shrunk: UInt8Array = pixels[rows[:, None], columns]
    return shrunk


def overlay(image: UInt8Array, labels: UInt8Array, label_set: LabelSet) -> UInt8Array:
    """The image under its labels' colours, uint8 [H, W, 3]; without colour where they are ignored."""
    painted: UInt8Array = np.rint((1 - _OPACITY) * image + _OPACITY * label_set.palette()[labels]).astype(np.uint8)
    painted[labels == IGNORE_INDEX] = image[labels == IGNORE_INDEX]
    return painted


def _errors(example: Example) -> UInt8Array:
    """The image in grey, wrong pixels in red and ignored ones in blue."""
    grey = np.repeat(example.image.mean(axis=2, dtype=np.float32)[:, :, None], 3, axis=2) * 0.55
    grey[example.labels != example.truth] = 0.25 * grey[example.labels != example.truth] + 0.75 * _WRONG
    ignored = example.truth == IGNORE_INDEX
    grey[ignored] = 0.5 * grey[ignored] + 0.5 * _IGNORED
    return grey.astype(np.uint8)
