"""Connected regions of labels, and their exact outlines along the sides of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import BoolArray, UInt8Array

Int32Array = npt.NDArray[np.int32]
# Directions in the order of a clockwise walk, as (y, x): east, south, west, north. The region is on the right of the walk.
STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.int32)
_START = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.int32)  # corner of a pixel where its side begins: top, right, ...
_OUTSIDE = -1  # number of the pixels around the image


@dataclass(frozen=True, eq=False)
class Ring:
    """One closed outline of a region: its outer border, clockwise, or the border of a hole, counter-clockwise.

    Attributes:
        region: number of the region.
        points: int32 [N, 2] of (x, y), corners of pixels: (0, 0) is the upper left corner of the image. All corners of pixels
            on the outline are listed, also on straight lines.
        directions: int32 [N], the index into `STEPS` of the side that begins at each point.
        nodes: bool [N], True where three or more regions (or two and the edge of the image) meet, and at the image's corners.
    """

    region: int
    points: Int32Array
    directions: Int32Array
    nodes: BoolArray

    def area(self) -> float:
        """Return the area in pixels; negative for a hole."""
        return signed_area(self.points)


def signed_area(points: npt.NDArray[np.generic]) -> float:
    """Return the area of a polygon [N, 2] of (x, y) in pixels: positive if its points are clockwise on the screen."""
    x, y = np.asarray(points, np.float64).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def connected(labels: UInt8Array) -> Int32Array:
    """Return the number of the region of each pixel, int32 [H, W], from 0 in reading order of the regions' first pixels.

    A region is a set of pixels of one label that are connected by their sides.
    """
    begins = np.ones(labels.shape, bool)  # of a run: equal labels in one row
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = (np.cumsum(begins) - 1).reshape(labels.shape)
    touching = labels[1:] == labels[:-1]
    first = touching.copy()  # one pixel of each pair of runs is enough
    first[:, 1:] &= begins[1:, 1:] | begins[:-1, 1:] | ~touching[:, :-1]
    above, below = run[:-1][first], run[1:][first]
    root = np.arange(run[-1, -1] + 1)
    while (root[above] != root[below]).any():
        ends = root[above], root[below]
        low = np.minimum(*ends)
        for end in ends:
            np.minimum.at(root, end, low)
        while (root != root[root]).any():
            root = root[root]
    numbers: Int32Array = np.unique(root, return_inverse=True)[1].astype(np.int32)
    return np.asarray(numbers[run], np.int32)


def absorb(labels: UInt8Array, min_area: int) -> UInt8Array:
    """Return labels in which each region of fewer pixels has the label of the larger neighbour with the longest border."""
    while True:
        regions = connected(labels)
        pixels, label = np.bincount(regions.ravel()), values(labels, regions)
        sides = np.concatenate([_pairs(regions[:, :-1], regions[:, 1:]), _pairs(regions[:-1], regions[1:])])
        sides = np.concatenate([sides, sides[:, ::-1]])
        # A fixed order of sizes: two small neighbours must not swap their labels for ever.
        rank = np.argsort(np.lexsort((-np.arange(len(pixels)), pixels)))
        one, other = sides.T
        sides = sides[(rank[one] < rank[other]) & (pixels[one] < min_area)]
        if not len(sides):
            return labels
        pairs, lengths = np.unique(sides, axis=0, return_counts=True)
        order = np.argsort(lengths, kind="stable")
        label[pairs[order, 0]] = label.copy()[pairs[order, 1]]  # the longest border is written last
        labels = label[regions]


def _pairs(one: Int32Array, other: Int32Array) -> Int32Array:
    """Return the numbers of both regions, [N, 2], of each pair of pixels that differ."""
    differ = one != other
    return np.stack([one[differ], other[differ]], axis=1)


def values(labels: UInt8Array, regions: Int32Array) -> UInt8Array:
    """Return the label of each region."""
    found = np.zeros(regions.max() + 1, np.uint8)
    found[regions] = labels
    return found


def rings(regions: Int32Array) -> Iterator[Ring]:
    """Yield all outlines of all regions [H, W]; the region's outer outline comes before its holes.

    Pixels that touch at a corner only are not connected: the outline turns between them.
    """
    padded = np.pad(regions, 1, constant_values=_OUTSIDE)
    y, x, direction = _sides(padded)
    followers = _followers(padded, y, x, direction)
    corners = np.stack([y, x], axis=1) - 1 + _START[direction]
    nodes = _nodes(padded, corners)
    owners = padded[y, x]
    found: dict[int, list[Ring]] = {}
    seen = bytearray(len(followers))
    for first in range(len(followers)):
        if seen[first]:
            continue
        way, side = [], first
        while not seen[side]:
            seen[side] = 1
            way.append(side)
            side = followers[side]
        ring = Ring(int(owners[first]), corners[way][:, ::-1].copy(), direction[way], nodes[way])
        found.setdefault(ring.region, []).append(ring)
    for region in sorted(found):
        yield from sorted(found[region], key=Ring.area, reverse=True)


def _sides(padded: Int32Array) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Return y, x and direction of each side of a pixel at which its region ends."""
    inner = padded[1:-1, 1:-1]
    height, width = inner.shape
    parts = []
    for direction, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):  # the pixel beyond the side
        beyond = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        y, x = np.nonzero(inner != beyond)
        parts.append(np.stack([y + 1, x + 1, np.full(len(y), direction)]).astype(np.int32))
    y, x, direction = np.concatenate(parts, axis=1)
    return y, x, direction


def _followers(padded: Int32Array, y: Int32Array, x: Int32Array, direction: Int32Array) -> list[int]:
    """Return the index of the side that follows each side on its outline."""
    owner = padded[y, x]
    ahead_y, ahead_x = y + STEPS[direction, 0], x + STEPS[direction, 1]
    left = STEPS[(direction - 1) % 4]
    beyond_y, beyond_x = ahead_y + left[:, 0], ahead_x + left[:, 1]
    turns_right = padded[ahead_y, ahead_x] != owner
    straight = ~turns_right & (padded[beyond_y, beyond_x] != owner)
    next_y = np.where(turns_right, y, np.where(straight, ahead_y, beyond_y))
    next_x = np.where(turns_right, x, np.where(straight, ahead_x, beyond_x))
    next_direction = np.where(turns_right, direction + 1, np.where(straight, direction, direction - 1)) % 4
    width = padded.shape[1]
    keys = (y.astype(np.int64) * width + x) * 4 + direction
    wanted = (next_y.astype(np.int64) * width + next_x) * 4 + next_direction
    order = np.argsort(keys)
    index: list[int] = order[np.searchsorted(keys, wanted, sorter=order)].tolist()
    return index


def _nodes(padded: Int32Array, corners: Int32Array) -> BoolArray:
    """Return whether each corner (y, x) is a node: its four pixels are of three or more regions, cross, or end the image."""
    y, x = corners[:, 0], corners[:, 1]
    four = np.stack([padded[y, x], padded[y, x + 1], padded[y + 1, x], padded[y + 1, x + 1]], axis=1)
    ordered = np.sort(four, axis=1)
    kinds = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
    upper, lower = four[:, :2], four[:, 2:]
    crossing = (upper != lower).all(axis=1) & (upper[:, 0] != upper[:, 1]) & (lower[:, 0] != lower[:, 1])
    image_corner = (four == _OUTSIDE).sum(axis=1) == 3
    return np.asarray((kinds >= 3) | crossing | image_corner)
