"""Polygons, ellipses and run lengths as pixels, by the rules of pycocotools and of OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import missing_extra
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.formats.geometry import Point

if TYPE_CHECKING:
    from types import ModuleType

_CHARACTERS = 12  # of a number of COCO's compressed RLE, so that it fits into 64 bits


def paint_polygons(labels: UInt8Array, polygons: Sequence[Sequence[Point]], value: int) -> None:
    """Draw the union of polygons on `labels`, as pycocotools does. Needs the extra `formats`."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("drawing polygons as COCO (pycocotools is missing)", "formats") from error
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    drawn = mask.merge(mask.frPyObjects(flat, *labels.shape))
    counts = coco_counts(drawn["counts"].decode())  # mask.decode is slower, and NumPy warns of it
    assert counts is not None
    paint_runs(labels, counts, value)


def paint_runs(labels: UInt8Array, counts: Sequence[int] | Int64Array, value: int) -> bool:
    """Draw run lengths on `labels`, column by column, the first run outside the mask. Return False if they do not cover it."""
    lengths = np.asarray(counts)  # of another type if a number is too large, or if there is none
    if lengths.dtype.kind != "i" or lengths.min() < 0 or lengths.max() > labels.size or lengths.sum() != labels.size:
        return False
    height = labels.shape[0]
    stops = lengths.cumsum(dtype=np.int64)
    starts, ends = stops[:-1:2], stops[1::2]  # of the runs inside
    starts, ends = starts[starts < ends], ends[starts < ends]
    if starts.size:  # decode only the columns, and compare only the rows, between the first and the last pixel
        left, right = starts[0] // height, (ends[-1] - 1) // height + 1
        bounds = np.dstack([starts, ends]).ravel()
        parts = np.diff(bounds, prepend=left * height, append=right * height)
        inside = np.repeat(np.arange(len(parts)) % 2 == 1, parts).reshape(right - left, height).T
        whole = (starts // height != (ends - 1) // height).any()
        top, bottom = (0, height) if whole else ((starts % height).min(), ((ends - 1) % height).max() + 1)
        labels[top:bottom, left:right][inside[top:bottom]] = value
    return True


def fill(labels: UInt8Array, contours: Sequence[npt.NDArray[np.int32]], value: int) -> None:
    """Draw contours int32 [N, 2] on `labels`, as OpenCV's fillPoly does: what two contours enclose is a hole."""
    _cv2().fillPoly(labels, [contour.reshape(-1, 1, 2) for contour in contours], value)


def ellipse(labels: UInt8Array, centre: tuple[int, int], axes: tuple[int, int], angle: float, value: int) -> None:
    """Draw an ellipse on `labels` by OpenCV. `axes` are the half axes in pixels, `angle` is clockwise in degrees."""
    _cv2().ellipse(labels, centre, axes, angle, 0, 360, value, thickness=-1)


def coco_counts(text: str) -> Int64Array | None:
    """Return the run lengths of COCO's compressed RLE; None if the text is truncated or holds other characters.

    A number is a series of characters of 5 bits, the lowest first, each with a bit for "more follows"; the highest bit is the
    sign. From the fourth number on, the difference to the last but one is stored. pycocotools would read beyond the end of a
    truncated text.
    """
    bits = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(bits & 32 == 0)
    if not bits.size or bits.min() < 0 or bits.max() > 63 or not ends.size or ends[-1] != len(bits) - 1:
        return None
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _CHARACTERS:
        return None
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    counts: Int64Array = np.add.reduceat((bits & 31) << shifts, starts) - ((bits[ends] >> 4 & 1) << 5 * lengths)
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts


def _cv2() -> ModuleType | Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("drawing polygons as OpenCV (cv2 is missing)", "formats") from error
    return cv2
