"""Checks of numbers in label files: sizes and coordinates, before they reach C code."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TypeGuard

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import FastSCNNError

Point = tuple[float, float]
Size = tuple[int, int]  # (height, width)

BOX = ((0, 0), (1, 0), (1, 1), (0, 1))  # indices of two opposite corners of a box: those that give x and y of each corner

_FAR = 100_000  # pixels: the largest coordinate
_PERIMETER = 4_000_000  # pixels: the longest outline; pycocotools needs 100 bytes for each of its pixels


def size(path: Path, height: object, width: object, what: str = "the image") -> Size:
    """Return (height, width) as ints.

    Raises:
        FastSCNNError: not two whole numbers of at least 1, or more than 40 megapixels.
    """
    if not (is_whole(height) and is_whole(width) and height >= 1 and width >= 1):
        raise FastSCNNError(f"{path}: {what} has the height {height!r} and the width {width!r}; they must be whole numbers of "
                            "pixels, at least 1.")
    if height * width > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise FastSCNNError(f"{path}: {what} is {height}x{width} (HxW), over the limit of {limit} megapixels; reduce it.")
    return height, width


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether `value` is an int. True and False are not."""
    return type(value) is int


def is_coordinate(value: object) -> TypeGuard[float]:
    """Return whether `value` is a number of pixels whose size is at most 100,000."""
    return type(value) in (int, float) and -_FAR <= value <= _FAR  # type: ignore[operator]  # False for NaN


def points(path: Path, place: str, values: object, least: int = 1, most: int | None = None) -> list[Point]:
    """Return a list of [x, y] from a label file.

    Args:
        path, place: the file and the shape, for errors.
        values: what the file holds.
        least, most: the accepted number of points; None is no upper limit.

    Raises:
        FastSCNNError: another type, a wrong number of points, NaN, or a coordinate that is far outside any image.
    """
    if not isinstance(values, list | tuple):
        raise FastSCNNError(f"{path}: {place} has no list of points; export the file again.")
    if len(values) < least or (most is not None and len(values) > most):
        wanted = f"{least}" if least == most else f"{least} or more"
        raise FastSCNNError(f"{path}: {place} has {len(values)} points, but {wanted} are needed; correct or delete it.")
    for point in values:
        if not isinstance(point, list | tuple) or len(point) != 2 or not all(is_coordinate(value) for value in point):
            raise FastSCNNError(f"{path}: {place} has the point {str(point)[:60]}; a point is two numbers, x and y, of at most "
                                f"{_FAR:,} pixels. Correct or delete it.")
    found = [(float(x), float(y)) for x, y in values]
    if sum(max(abs(x1 - x0), abs(y1 - y0)) for (x0, y0), (x1, y1) in itertools.pairwise([*found, found[0]])) > _PERIMETER:
        raise FastSCNNError(f"{path}: the outline of {place} is over {_PERIMETER:,} pixels long; correct or delete it.")
    return found
