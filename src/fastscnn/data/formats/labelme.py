"""LabelMe's JSON: the shapes of one image."""

from __future__ import annotations

import base64
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.files import is_file
from fastscnn.base.types import BoolArray, Float64Array
from fastscnn.data.formats import text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.geometry import BOX, Point, Size, points, size
from fastscnn.data.formats.listing import normalised
from fastscnn.media import images
from fastscnn.media.decoding import embedded
from fastscnn.media.drawing import Canvas
from fastscnn.model.label_set import LabelSet

_NUMBER_OF_POINTS = {  # shape type -> least and largest number
    "polygon": (3, None), "rectangle": (2, 2), "oriented_rectangle": (4, 4), "circle": (2, 2), "line": (2, 2),
    "linestrip": (2, None), "point": (1, 1), "mask": (2, 2),
}  # fmt: skip
_OUTLINED = ("polygon", "rectangle", "oriented_rectangle")
_LINE_WIDTH, _POINT_RADIUS = 10, 5  # pixels, as in labelme
_LARGEST_RADIUS = 32_000  # pixels; Pillow 12 draws circles of more than some 40,000 for half a minute


@dataclass(frozen=True)
class LabelMeLabels(Shapes):
    """LabelMe's JSON, drawn as `shapes_to_label` of labelme does: lines are 10 pixels wide, points have a radius of 5.

    A name is the label of a shape. A mask must lie inside the image. Labels have the size that the file states, or the image's
    if it states none.
    """

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`."""
        table = text.read_json(labels, dict)
        height, width = table.get("imageHeight"), table.get("imageWidth")
        extent = images.size(image) if height is None and width is None else size(labels, height, width)
        shapes = [Shape(place, name, _geometry(labels, place, thing, extent)) for place, name, thing in _things(labels, table)]
        canvas = Canvas(extent, self.background)
        layers, unknown = self.layers(shapes)
        for value, (kind, corners, mask) in layers:
            _draw(canvas, kind, corners, mask, value)
        drawn = canvas.labels()
        return Decoded(drawn, drawn, unknown)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        for place, _, thing in _things(labels, text.read_json(labels, dict)):
            kind = _kind(labels, place, thing)
            corners = np.array(thing["points"] if kind in _OUTLINED else [], np.float64).reshape(-1, 2)
            yield place, corners[BOX, (0, 1)] if kind == "rectangle" else corners

    def other_image(self, labels: Path, image: Path) -> Path | None:
        """Return the image that LabelMe would open with a file; see `LabelFormat.other_image`.

        An image of the same name, in another folder or format, is a copy.
        """
        named = text.read_json(labels, dict).get("imagePath")
        if not isinstance(named, str) or PurePosixPath(normalised(named)).stem == normalised(image.stem):
            return None
        other = labels.parent / named.replace("\\", "/")
        return other if is_file(other) else None


def contents(path: Path) -> Contents:
    """Return the labels of a file. Raises FastSCNNError like `LabelMeLabels.read`."""
    return Contents(Counter(name for _, name, _ in _things(path, text.read_json(path, dict))))


_Geometry = tuple[str, list[Point], BoolArray | None]


def _things(path: Path, table: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (place, label, JSON object) of each shape."""
    shapes = table.get("shapes")
    if not isinstance(shapes, list):
        raise FastSCNNError(f"{path}: has no list of shapes, so it is not LabelMe's JSON; save it again in LabelMe.")
    for number, thing in enumerate(shapes):
        if not isinstance(thing, dict) or not isinstance(thing.get("label"), str):
            raise FastSCNNError(f"{path}: shape {number} has no label; give it one in LabelMe.")
    return [(f"shape {number}", thing["label"], thing) for number, thing in enumerate(shapes)]


def _geometry(path: Path, place: str, thing: dict[str, Any], extent: Size) -> _Geometry:
    kind = _kind(path, place, thing)
    corners = points(path, place, thing.get("points"), *_NUMBER_OF_POINTS[kind])
    if kind == "circle" and math.dist(*corners) > _LARGEST_RADIUS:
        raise FastSCNNError(f"{path}: {place} is a circle with a radius of over {_LARGEST_RADIUS:,} pixels; correct or "
                            "delete it.")
    return kind, corners, _mask(path, place, thing.get("mask"), corners, extent) if kind == "mask" else None


def _kind(path: Path, place: str, thing: dict[str, Any]) -> str:
    kind = thing.get("shape_type") or "polygon"
    if not isinstance(kind, str) or kind not in _NUMBER_OF_POINTS:
        raise FastSCNNError(f"{path}: {place} has the type {reprlib.repr(kind)}, which has no area; draw a polygon in its "
                            f"place, or delete it. Known types: {', '.join(sorted(_NUMBER_OF_POINTS))}.")
    return kind


def _mask(path: Path, place: str, encoded: object, corners: list[Point], extent: Size) -> BoolArray:
    """Return the pixels of a mask, bool [H, W], whose first and last pixels are the corners."""
    try:
        if not isinstance(encoded, str):
            raise ValueError("it is missing")
        mask: BoolArray = embedded(base64.b64decode(encoded, validate=True)) != 0
    except (ValueError, FastSCNNError) as error:
        raise FastSCNNError(f"{path}: the mask of {place} cannot be read ({error}); save the file again in LabelMe.") from error
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in corners)
    if mask.shape != (bottom - top + 1, right - left + 1):
        raise FastSCNNError(f"{path}: the mask of {place} is {'x'.join(map(str, mask.shape))} (HxW), which differs from its "
                            "two points; save the file again in LabelMe.")
    if left < 0 or top < 0 or right >= extent[1] or bottom >= extent[0]:
        raise FastSCNNError(f"{path}: the mask of {place} lies partly outside the image of {hxw(extent)} (HxW); "
                            "correct it in LabelMe.")
    return mask


def _draw(canvas: Canvas, kind: str, corners: list[Point], mask: BoolArray | None, value: int) -> None:
    if mask is not None:
        canvas.mask(mask, (int(corners[0][0]), int(corners[0][1])), value)
    elif kind == "circle":
        (x0, y0), (x1, y1) = corners
        canvas.circle((x0, y0), math.sqrt((x0 - x1) ** 2 + (y0 - y1) ** 2), value)
    elif kind == "point":
        canvas.circle(corners[0], _POINT_RADIUS, value)
    elif kind == "rectangle":
        canvas.rectangle(corners, value)
    elif kind in ("line", "linestrip"):
        canvas.line(corners, value, _LINE_WIDTH)
    else:
        canvas.polygon(corners, value)
