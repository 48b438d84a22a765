"""Outlines of shapes that leave their image, or cross themselves so that a part of their area is not drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastscnn.base.types import BoolArray, Float64Array
from fastscnn.data.check.compare import Read
from fastscnn.data.check.findings import Finding
from fastscnn.data.formats.base import Shapes
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.media.drawing import Canvas

OUTSIDE, CROSSING = "outside-shapes", "crossing-outlines"
_BEYOND = 0.01  # of a side of the image, but at least a pixel: annotators often draw over the border
_LOST = 0.05  # of the area; crossings of hand-drawn outlines are often smaller than a pixel
_BLOCK = 256  # edges that are compared with others at a time
_DRAWN = 500  # pixels: the longer side of an outline when its area is measured
_TEXTS = {
    OUTSIDE: ("leave the image by more than 1 % of its side",
              "Make sure that the images have the size and orientation in which they were annotated, or correct the shapes."),
    CROSSING: ("cross themselves, so that over 5 % of their area is lost or added",
               "Correct the order of the points; what an outline encloses twice does not belong to its shape."),
}


def odd_outlines(spec: DatasetSpec, pair: Pair, size: tuple[int, int]) -> tuple[tuple[str, int, str], ...]:
    """Return (kind of finding, number of outlines, place of the first) for the labels of an image that were read.

    Args:
        spec: the dataset.
        pair: the image and its labels.
        size: (height, width) of the labels.
    """
    found: dict[str, list[str]] = {OUTSIDE: [], CROSSING: []}
    for place, corners in spec.labels.outlines(pair.labels, pair.image, size) if isinstance(spec.labels, Shapes) else ():
        if _leaves(corners, size):
            found[OUTSIDE].append(place)
        if _crosses(corners) and _changes_area(corners):
            found[CROSSING].append(place)
    return tuple((kind, len(places), places[0]) for kind, places in found.items() if places)


def about_outlines(spec: DatasetSpec, split: str, found: Read) -> Iterator[Finding]:
    """Yield one finding on all outlines of a split that leave their image, and one on those that cross themselves."""
    for kind, (what, fix) in _TEXTS.items():
        odd = [(pair, count, place) for pair, facts in found for own, count, place in facts.outlines if own == kind]
        if odd:
            total, (pair, _, place) = sum(count for _, count, _ in odd), odd[0]
            outlines = f"{total} outline{'s' * (total != 1)} of {len(odd)} image{'s' * (len(odd) != 1)}"
            message = f"{pair.labels}: {outlines} of the split {split!r} {what}, such as {place} of {_name(spec, pair.image)}."
            yield Finding("warning", split, pair.labels, kind, message, fix)


def _name(spec: DatasetSpec, image: Path) -> str:
    return (image.relative_to(spec.root) if image.is_relative_to(spec.root) else image).as_posix()


def _leaves(corners: Float64Array, size: tuple[int, int]) -> bool:
    sides = np.array(size[::-1])
    beyond = np.maximum(1, _BEYOND * sides)
    return bool((corners < -beyond).any() or (corners > sides + beyond).any())


def _crosses(corners: Float64Array) -> bool:
    """Return whether two edges cross at a point inside both. Edges that touch or lie on each other do not cross."""
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])  # x and y of the start, and of the end
    edges = edges[np.minimum(edges[:, 0], edges[:, 2]).argsort()]
    left, right = np.minimum(edges[:, 0], edges[:, 2]), np.maximum(edges[:, 0], edges[:, 2])
    for first in range(0, len(edges), _BLOCK):
        last = int(np.searchsorted(left, right[first : first + _BLOCK].max(), "right"))  # others begin further right
        some, others = edges[first : first + _BLOCK].T[:, :, None], edges[first:last].T[:, None]
        if (_divides(some, others) & _divides(others, some)).any():
            return True
    return False


def _divides(edges: Float64Array, others: Float64Array) -> BoolArray:
    """Return whether the line through each edge has the ends of the other on its two sides; both are [4, ...]."""
    (x0, y0, x1, y1), (ox0, oy0, ox1, oy1) = edges, others
    dx, dy = x1 - x0, y1 - y0
    divided: BoolArray = (dx * (oy0 - y0) - dy * (ox0 - x0)) * (dx * (oy1 - y0) - dy * (ox1 - x0)) < 0
    return divided


def _changes_area(corners: Float64Array) -> bool:
    """Return whether the drawn area differs from that of the polygon formula, which counts loops by their direction."""
    low = corners.min(axis=0)
    scaled = (corners - low) * (_DRAWN / max(1e-9, float((corners - low).max())))
    x, y = scaled.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    canvas = Canvas((_DRAWN + 1, _DRAWN + 1))
    canvas.polygon([(float(a), float(b)) for a, b in scaled], 1)
    drawn = int(canvas.labels().sum())
    edge = float(np.hypot(*(scaled - np.roll(scaled, -1, axis=0)).T).sum())  # Pillow draws the outline, too
    return abs(drawn - area) > _LOST * max(drawn, area) + edge
