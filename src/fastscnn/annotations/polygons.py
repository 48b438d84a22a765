"""Labels as polygons: one for each connected region, simplified on request, without gaps between neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from fastscnn.annotations import regions
from fastscnn.annotations.regions import STEPS, Ring, signed_area
from fastscnn.base.arguments import is_number, whole
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX

TOLERANCE = 0.75  # pixels: smooths the steps of slanted borders, and keeps poles; docs/datasets.md has the figures
MIN_AREA = 10  # pixels: smaller regions are hard to see and to correct
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Polygon:
    """The outline of a connected region.

    Attributes:
        label: class id.
        points: float64 [N, 2] of (x, y) in pixels. COCO and YOLO have no holes, so a hole is part of the outline: a line that
            is passed in both directions joins them.
        pixels: number of pixels of the region.
    """

    label: int
    points: Points
    pixels: int


def check(tolerance: float, min_area: int) -> None:
    """Raise ArgumentError unless the tolerance is a finite number, at least 0, and the area a whole number, at least 1."""
    if not is_number(tolerance) or tolerance < 0:
        raise ArgumentError(f"tolerance: must be a number of pixels, at least 0, not {tolerance!r}.")
    whole("min_area", min_area)


def trace(
    labels: UInt8Array, tolerance: float = TOLERANCE, min_area: int = MIN_AREA, centres: bool = False
) -> list[Polygon]:
    """Return the polygons of labels, the largest region first.

    Borders are simplified by the algorithm of Douglas and Peucker, between the points where three regions meet. Neighbours
    therefore still share their border, without gaps or overlaps. A region that would vanish keeps its exact outline.

    Args:
        labels: class ids, uint8 [H, W]; 255 for pixels without a polygon.
        tolerance: largest distance of the simplified outlines from the exact ones, in pixels; 0 keeps them exact.
        min_area: a region of fewer pixels becomes part of the larger neighbour with the longest common border.
        centres: False: points are corners of pixels, which is exact for programs that test the centre of each pixel
            (pycocotools). True: points are centres of the region's outermost pixels, which is exact for programs that fill a
            polygon and draw its outline (Pillow, OpenCV).

    Raises:
        ArgumentError: a wrong tolerance or area, or labels of another type or shape.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
        raise ArgumentError("labels: must be a uint8 array [H, W] of class ids.")
    check(tolerance, min_area)
    if min_area > 1:
        labels = regions.absorb(labels, min_area)
    numbered = regions.connected(labels)
    pixels, values = np.bincount(numbered.ravel()), regions.values(labels, numbered)
    found = []
    for region, group in groupby(regions.rings(numbered), lambda ring: ring.region):
        if values[region] != IGNORE_INDEX:
            outlines = _outlines(list(group), tolerance, centres)
            found.append(Polygon(int(values[region]), _joined(outlines), int(pixels[region])))
    return sorted(found, key=lambda polygon: -polygon.pixels)


def _outlines(rings: Sequence[Ring], tolerance: float, centres: bool) -> list[Points]:
    """Return the outer outline and the holes of one region."""
    kept = [_simplified(ring, tolerance) for ring in rings]
    if any(len(indices) < 3 or signed_area(ring.points[indices]) * ring.area() <= 0
           for ring, indices in zip(rings, kept, strict=True)):
        kept = [_corners(ring) for ring in rings]
    return [(_centres(ring) if centres else ring.points.astype(np.float64))[indices]
            for ring, indices in zip(rings, kept, strict=True)]


def _corners(ring: Ring) -> list[int]:
    """Return the indices of the points where the outline turns."""
    turns: list[int] = np.flatnonzero(ring.directions != np.roll(ring.directions, 1)).tolist()
    return turns


def _centres(ring: Ring) -> Points:
    """Return, for each point, the centre of a pixel of the region beside it."""
    out, into = ring.directions, np.roll(ring.directions, 1)
    inward_out, inward_in = STEPS[(out + 1) % 4], STEPS[(into + 1) % 4]
    straight = (out == into)[:, None]
    shift = np.where(straight, inward_out + STEPS[out], inward_out + inward_in)
    return ring.points + 0.5 * shift[:, ::-1]


def _simplified(ring: Ring, tolerance: float) -> list[int]:
    """Return the indices of the points to keep, in order. Both neighbours of a border keep the same points."""
    corners = _corners(ring)
    if tolerance == 0:
        return corners
    anchors = np.flatnonzero(ring.nodes).tolist()
    points = ring.points
    if len(anchors) < 2:
        start = anchors[0] if anchors else int(np.lexsort((points[:, 0], points[:, 1]))[0])
        away = ((points - points[start]) ** 2).sum(axis=1)
        farthest = np.flatnonzero(away == away.max())
        anchors = sorted({start, int(farthest[np.lexsort((points[farthest, 0], points[farthest, 1]))[0]])})
    turns = sorted({*corners, *anchors})
    kept: list[int] = []
    places: list[int] = np.searchsorted(turns, anchors).tolist()
    for begin, end in zip(places, [*places[1:], places[0] + len(turns)], strict=True):
        piece = [turns[index % len(turns)] for index in range(begin, end + 1)]
        kept += _piece(points, piece, tolerance)[:-1]
    return kept


def _piece(points: npt.NDArray[np.int32], piece: list[int], tolerance: float) -> list[int]:
    """Return the indices that Douglas and Peucker keep of an open line; the same for the line and its reverse."""
    if len(piece) <= 2:
        return piece
    ends = points[piece[0]].tolist(), points[piece[-1]].tolist()
    inner = points[piece[1]].tolist(), points[piece[-2]].tolist()
    backwards = (ends[0], inner[0]) > (ends[1], inner[1])
    way = piece[::-1] if backwards else piece
    line = points[way].astype(np.float64)
    keep = np.zeros(len(way), bool)
    keep[[0, -1]] = True
    waiting = [(0, len(way) - 1)]
    while waiting:
        low, high = waiting.pop()
        if high - low < 2:
            continue
        distance = _distances(line[low + 1 : high], line[low], line[high])
        far = int(distance.argmax())
        if distance[far] > tolerance:
            middle = low + 1 + far
            keep[middle] = True
            waiting += [(low, middle), (middle, high)]
    chosen = [index for index, kept in zip(way, keep, strict=True) if kept]
    return chosen[::-1] if backwards else chosen


def _distances(points: Points, start: Points, end: Points) -> Points:
    """Return the distance of each point from a line segment."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    away: Points = points - (start + share[:, None] * along)
    return np.hypot(away[:, 0], away[:, 1])


def _joined(outlines: Sequence[Points]) -> Points:
    """Return the outer outline with its holes as one line: a level line joins each hole to the outline left of it."""
    outer, *holes = outlines
    for hole in sorted(holes, key=lambda hole: tuple(hole[np.lexsort((hole[:, 1], hole[:, 0]))[0]])):
        first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])  # the leftmost point
        turned = np.concatenate([hole[first:], hole[: first + 1]])
        place, bridge = _left_of(outer, turned[0])
        outer = np.concatenate([outer[: place + 1], bridge, turned, bridge, outer[place + 1 :]])
    return outer


def _left_of(outline: Points, point: Points) -> tuple[int, Points]:
    """Return the index of the side of an outline that is nearest on the left of a point, and its point [1, 2] at that height.

    Without such a side, which a simplification can cause, it is the nearest corner.
    """
    start, end = outline, np.roll(outline, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    crossing = np.flatnonzero((low <= point[1]) & (point[1] <= high) & (low < high))
    rise = (point[1] - start[crossing, 1]) / (end[crossing, 1] - start[crossing, 1])
    x = start[crossing, 0] + rise * (end[crossing, 0] - start[crossing, 0])
    left = np.flatnonzero(x <= point[0])
    if not left.size:
        nearest = int(((outline - point) ** 2).sum(axis=1).argmin())
        return nearest, outline[nearest : nearest + 1]
    best = left[x[left].argmax()]
    return int(crossing[best]), np.array([[x[best], point[1]]])


def flat(points: Points) -> Iterator[float]:
    """Yield x and y in turn, whole numbers as int, others with at most two decimals."""
    for value in points.ravel().tolist():
        yield int(value) if value == int(value) else round(value, 2)
