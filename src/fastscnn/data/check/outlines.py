"""Outlines of shapes that leave their image, or cross themselves so that a part of their area is not drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastscnn.base.types import BoolArray, Float64Array
from fastscnn.data.check.compare import Found, Read
from fastscnn.data.check.findings import Finding
from fastscnn.data.formats.base import Shapes
from fastscnn.data.spec import DatasetSpec, Pair, relative
from fastscnn.media.drawing import Canvas

OUTSIDE, CROSSING = "outside-shapes", "crossing-outlines"
BOXES, _OTHERS = "boxes-as-shapes", "other-shapes"  # rectangles; shapes that are none
LEAST_BOXES = 10  # of a dataset; a few rectangles may well be the shapes
_ROUNDED = 0.02  # of the longest side of a rectangle, but at least a pixel
_BEYOND = 0.01  # of a side of the image, but at least a pixel: annotators often draw over the border
_LOST = 0.05  # of the area; crossings of hand-drawn outlines are often smaller than a pixel
_MOST_EDGES = 5000  # of an outline whose crossings are looked for: the time grows with their square
BLOCK = 256  # edges that are compared with others at a time
_DRAWN = 500  # pixels: the longer side of an outline when its area is measured
_TEXTS = {
    OUTSIDE: ("leaves its image", "leave their image", " by more than 1 % of its side",
              "Make sure that the images have the size and orientation in which they were annotated, or correct the shapes."),
    CROSSING: ("crosses itself, so that over 5 % of its", "cross themselves, so that over 5 % of their",
               " area is lost or added",
               "Correct the order of the points; what an outline encloses twice does not belong to its shape."),
}


def odd_outlines(spec: DatasetSpec, pair: Pair, size: tuple[int, int]) -> tuple[tuple[str, int, str], ...]:
    """Return (kind, number of shapes, place of the first) for the labels of an image that were read.

    A kind is that of a finding, or rectangles and other shapes: rectangles alone are a finding.

    Args:
        spec: the dataset.
        pair: the image and its labels.
        size: (height, width) of the labels.
    """
    found: dict[str, list[str]] = {OUTSIDE: [], CROSSING: [], BOXES: [], _OTHERS: []}
    for place, corners in spec.labels.outlines(pair.labels, pair.image, size) if isinstance(spec.labels, Shapes) else ():
        found[BOXES if _is_rectangle(corners) else _OTHERS].append(place)
        if _leaves(corners, size):
            found[OUTSIDE].append(place)
        if _crosses(corners) and _changes_area(corners):
            found[CROSSING].append(place)
    return tuple((kind, len(places), places[0]) for kind, places in found.items() if places)


def about_outlines(spec: DatasetSpec, split: str, found: Read) -> Iterator[Finding]:
    """Yield one finding on all outlines of a split that leave their image, and one on those that cross themselves."""
    for kind, (one, several, how, fix) in _TEXTS.items():
        odd = [(pair, count, place) for pair, facts in found for own, count, place in facts.outlines if own == kind]
        if odd:
            total, (pair, _, place) = sum(count for _, count, _ in odd), odd[0]
            outlines = f"{total} outline{'s' * (total != 1)} of {len(odd)} image{'s' * (len(odd) != 1)}"
            example = f"{place} of {relative(spec.root, pair.image)}"
            example = f": {example}" if total == 1 else f", such as {example}"
            message = f"{pair.labels}: {outlines} of the split {split!r} {one if total == 1 else several}{how}{example}."
            yield Finding("warning", split, pair.labels, kind, message, fix)


def only_boxes(spec: DatasetSpec, found: Found) -> Iterator[Finding]:
    """Yield one finding if all shapes of a dataset are rectangles, as in datasets for object detection."""
    shapes = [(split, pair, kind, count) for split, pairs in found.items() for pair, facts in pairs
              for kind, count, _ in facts.outlines if kind in (BOXES, _OTHERS)]
    total = sum(count for *_, count in shapes)
    if total >= LEAST_BOXES and all(kind == BOXES for *_, kind, _ in shapes):
        split, pair, _, _ = shapes[0]
        message = (f"{pair.labels}: all {total} shapes of {spec.name} are rectangles, as boxes of a dataset for object "
                   "detection; a box contains pixels of other classes.")
        fix = "Export the polygons or masks. If the objects are rectangular, such as windows, nothing is wrong."
        yield Finding("warning", split, pair.labels, BOXES, message, fix)


def _is_rectangle(corners: Float64Array) -> bool:
    """Return whether an outline is a rectangle, upright or rotated. It may end where it begins."""
    if len(corners) == 5 and (corners[0] == corners[4]).all():
        corners = corners[:4]
    if len(corners) != 4:
        return False
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    sides = float(np.hypot(*first)), float(np.hypot(*second))
    rounded = max(1.0, _ROUNDED * max(sides))
    skew = abs(float(first @ second)) / max(sides) if max(sides) else 0.0  # of one side along the other, in pixels
    return skew <= rounded and bool((np.abs(corners[0] + corners[2] - corners[1] - corners[3]) <= rounded).all())


def _leaves(corners: Float64Array, size: tuple[int, int]) -> bool:
    sides = np.array(size[::-1])
    beyond = np.maximum(1, _BEYOND * sides)
    return bool((corners < -beyond).any() or (corners > sides + beyond).any())


def _crosses(corners: Float64Array) -> bool:
    """Return whether two edges cross at a point inside both. Edges that touch or lie on each other do not cross.

    Outlines of over 5,000 edges are not tested.
    """
    if not 0 < len(corners) <= _MOST_EDGES:
        return False
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])  # x and y of the start, and of the end
    edges = edges[np.minimum(edges[:, 0], edges[:, 2]).argsort()]
    left, right = np.minimum(edges[:, 0], edges[:, 2]), np.maximum(edges[:, 0], edges[:, 2])
    for first in range(0, len(edges), BLOCK):
        last = int(np.searchsorted(left, right[first : first + BLOCK].max(), "right"))  # others begin further right
        some, others = edges[first : first + BLOCK].T[:, :, None], edges[first:last].T[:, None]
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
