"""Polygons, ellipses and run lengths as pixels, by the rules of pycocotools and of OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import missing_extra
from fastscnn.base.types import BoolArray, UInt8Array
from fastscnn.data.formats.geometry import Point, Size

if TYPE_CHECKING:
    from types import ModuleType



def coco_polygons(size: Size, polygons: Sequence[Sequence[Point]]) -> BoolArray:
    """Return the union of polygons as pycocotools draws them, bool [H, W]. Needs the extra `formats`."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("drawing polygons as COCO (pycocotools is missing)", "formats") from error
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    counts = coco_counts(mask.merge(mask.frPyObjects(flat, *size))["counts"].decode())
    column = None if counts is None else runs(counts, size[0] * size[1])
    assert column is not None  # mask.decode would do, but NumPy warns of it
    return column.reshape(size[::-1]).T


def fill(labels: UInt8Array, contours: Sequence[npt.NDArray[np.int32]], value: int) -> None:
    """Draw contours int32 [N, 2] on `labels`, as OpenCV's fillPoly does: what two contours enclose is a hole."""
    _cv2().fillPoly(labels, [contour.reshape(-1, 1, 2) for contour in contours], value)


def ellipse(labels: UInt8Array, centre: tuple[int, int], axes: tuple[int, int], angle: float, value: int) -> None:
    """Draw an ellipse on `labels` by OpenCV. `axes` are the half axes in pixels, `angle` is clockwise in degrees."""
    _cv2().ellipse(labels, centre, axes, angle, 0, 360, value, thickness=-1)


def runs(counts: Sequence[int], length: int) -> BoolArray | None:
    """Return run lengths, the first of them outside the mask, as bool [length]; None if their sum differs."""
    if any(count < 0 for count in counts) or sum(counts) != length:
        return None
    inside: BoolArray = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts)


def coco_counts(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed RLE; None if the text is truncated or holds other characters.

    A number is a series of characters of 5 bits, the lowest first, each with a bit for "more follows". From the fourth number
    on, the difference to the last but one is stored. pycocotools would read beyond the end of a truncated text.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits >> 4 & 1) << shift  # the sign
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return None if shift else counts


def _cv2() -> ModuleType | Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("drawing polygons as OpenCV (cv2 is missing)", "formats") from error
    return cv2
