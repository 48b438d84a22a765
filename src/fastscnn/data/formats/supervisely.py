"""Supervisely's JSON annotation: the shapes of one image."""

from __future__ import annotations

import base64
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BoolArray, Float64Array, UInt8Array
from fastscnn.data.formats import rasterise, text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.geometry import BOX, is_whole, points, size
from fastscnn.media.decoding import embedded
from fastscnn.model.label_set import LabelSet

_DRAWN = ("polygon", "bitmap", "rectangle")
_FIX = "correct it in Supervisely and export again"


@dataclass(frozen=True)
class SuperviselyLabels(Shapes):
    """Supervisely's JSON annotation, drawn as the package `supervisely` does. Polygons need the extra `formats`.

    A name is the title of a class. Coordinates are rounded down. Objects other than polygons, bitmaps and rectangles are
    errors. Labels have the size that the file states.
    """

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`."""
        table = text.read_json(labels, dict)
        extent = table.get("size")
        if not isinstance(extent, dict):
            raise FastSCNNError(f"{labels}: has no size, so it is not Supervisely's JSON annotation; export it again.")
        drawn = np.full(size(labels, extent.get("height"), extent.get("width")), self.background, np.uint8)
        layers, unknown = self.layers(_shapes(labels, table))
        for value, shape in layers:
            _draw(labels, shape, drawn, value)
        return Decoded(drawn, drawn, unknown)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        for place, thing in (shape.geometry for shape in _shapes(labels, text.read_json(labels, dict))):
            kind = thing["geometryType"]
            corners = np.array(thing["points"]["exterior"] if kind != "bitmap" else [], np.float64).reshape(-1, 2)
            yield place, corners[BOX, (0, 1)] if kind == "rectangle" else corners


def contents(path: Path) -> Contents:
    """Return the class titles of a file. Raises FastSCNNError like `SuperviselyLabels.read`."""
    return Contents(Counter(shape.name for shape in _shapes(path, text.read_json(path, dict))))


_Thing = tuple[str, dict[str, Any]]  # place, JSON object


def _shapes(path: Path, table: dict[str, Any]) -> list[Shape[_Thing]]:
    objects = table.get("objects")
    if not isinstance(objects, list):
        raise FastSCNNError(f"{path}: has no list of objects, so it is not Supervisely's JSON annotation; export it again.")
    for number, thing in enumerate(objects):
        if not isinstance(thing, dict) or not isinstance(thing.get("classTitle"), str):
            raise FastSCNNError(f"{path}: object {number} has no classTitle; export the file again.")
    return [Shape(f"object {number}", thing["classTitle"], (f"object {number}", thing)) for number, thing in enumerate(objects)]


def _draw(path: Path, shape: _Thing, labels: UInt8Array, value: int) -> None:
    place, thing = shape
    kind = thing.get("geometryType")
    if kind not in _DRAWN:
        raise FastSCNNError(f"{path}: {place} has the geometryType {kind!r}, not one of {', '.join(_DRAWN)}; {_FIX}.")
    if kind == "bitmap":
        _draw_bitmap(path, place, thing.get("bitmap"), labels, value)
        return
    outline = thing.get("points")
    if not isinstance(outline, dict):
        raise FastSCNNError(f"{path}: {place} has no points; export the file again.")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = _whole(path, place, outline.get("exterior"), 2, 2)
        left, right, top, bottom = max(min(x0, x1), 0), max(x0, x1), max(min(y0, y1), 0), max(y0, y1)
        labels[top : max(bottom + 1, 0), left : max(right + 1, 0)] = value
        return
    mask = np.zeros(labels.shape, np.uint8)
    rasterise.fill(mask, [_contour(path, place, outline.get("exterior"))], 1)
    holes = outline.get("interior") or []
    if not isinstance(holes, list):
        raise FastSCNNError(f"{path}: the interior of {place} is not a list of outlines; export the file again.")
    if holes:
        rasterise.fill(mask, [_contour(path, place, hole) for hole in holes], 0)
    labels[mask.view(np.bool_)] = value


def _contour(path: Path, place: str, outline: object) -> Any:
    return np.array(_whole(path, place, outline, 3), np.int32)


def _whole(path: Path, place: str, outline: object, least: int, most: int | None = None) -> list[tuple[int, int]]:
    return [(math.floor(x), math.floor(y)) for x, y in points(path, place, outline, least, most)]


def _draw_bitmap(path: Path, place: str, bitmap: object, labels: UInt8Array, value: int) -> None:
    """Draw a mask whose upper left pixel is at `origin`."""
    origin = bitmap.get("origin") if isinstance(bitmap, dict) else None
    if not isinstance(bitmap, dict) or not isinstance(origin, list) or len(origin) != 2 or not all(map(is_whole, origin)):
        raise FastSCNNError(f"{path}: the bitmap of {place} has no origin of two whole numbers; export the file again.")
    try:
        mask = _mask(bitmap.get("data"))
    except (ValueError, zlib.error, FastSCNNError) as error:
        raise FastSCNNError(f"{path}: the bitmap of {place} cannot be read ({error}); export the file again.") from error
    (left, top), (height, width) = origin, mask.shape
    if left < 0 or top < 0 or left + width > labels.shape[1] or top + height > labels.shape[0]:
        raise FastSCNNError(f"{path}: the bitmap of {place} lies partly outside the image; {_FIX}.")
    labels[top : top + height, left : left + width][mask] = value


def _mask(encoded: object) -> BoolArray:
    """Return a mask, bool [H, W], from base64 of a PNG, which zlib may have compressed again."""
    if not isinstance(encoded, str):
        raise ValueError("it has no data")
    data = base64.b64decode(encoded, validate=True)
    compressed = not data.startswith(b"\x89PNG")
    if compressed:
        inflater = zlib.decompressobj()
        data = inflater.decompress(data, 5 * MAX_PIXELS)  # a limit, since zeros inflate a thousandfold
        if not inflater.eof:
            raise ValueError("it is truncated or too large")
    pixels = embedded(data)
    if compressed and pixels.ndim == 3:
        if pixels.shape[2] not in (2, 4):
            raise ValueError("it has colours but no transparency")
        pixels = pixels[:, :, -1]
    mask: BoolArray = (pixels != 0) if pixels.ndim == 2 else (pixels != 0).any(axis=2)
    return mask
