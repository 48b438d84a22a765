"""Labels drawn from polygon files in the format of Cityscapes' `*_polygons.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import UInt8Array
from fastscnn.data.formats import text
from fastscnn.media.drawing import Canvas

_GROUP = "group"
_FAR = 1e6  # largest coordinate in pixels, as Pillow draws in 32-bit integers


def read(path: Path, ids: Mapping[str, int]) -> UInt8Array:
    """Rasterise a polygon file, equal to json2labelImg of cityscapesScripts.

    Objects are drawn over each other in the order of the file, on 0. Objects that are marked deleted or have an id below 0 are
    skipped. A group without its own id, such as "cargroup", has the id of its members.

    Args:
        path: a JSON file with imgHeight, imgWidth and objects; each object has a label and a polygon, a list of [x, y].
        ids: object name -> id.

    Returns:
        uint8 [imgHeight, imgWidth] of ids.

    Raises:
        FastSCNNError: a missing, truncated or malformed file, more than 40 megapixels, or an object of an unknown name.
    """
    table = text.read_json(path, dict)
    height, width = (_side(path, table, key) for key in ("imgHeight", "imgWidth"))
    if height * width > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise FastSCNNError(f"{path}: is {height}x{width}, over the limit of {limit} megapixels; reduce it.")
    canvas = Canvas((height, width))
    for corners, value in list(_shapes(path, table, ids)):
        canvas.polygon(corners, value)
    return canvas.labels()


def _shapes(path: Path, table: dict[str, Any], ids: Mapping[str, int]) -> Iterator[tuple[list[tuple[float, float]], int]]:
    objects = table.get("objects")
    if not isinstance(objects, list):
        raise FastSCNNError(f"{path}: has no list of objects; copy it again from its source.")
    for number, thing in enumerate(objects):
        if not isinstance(thing, dict) or not isinstance(thing.get("label"), str):
            raise FastSCNNError(f"{path}: object {number} has no label; copy the file again from its source.")
        if thing.get("deleted"):
            continue
        name = thing["label"]
        if name not in ids:
            name = name.removesuffix(_GROUP)
        if name not in ids:
            raise FastSCNNError(f"{path}: object {number}: {unknown('label', thing['label'], ids)}")
        if ids[name] >= 0:
            yield _corners(path, number, thing.get("polygon")), ids[name]


def _corners(path: Path, number: int, polygon: object) -> list[tuple[float, float]]:
    if not isinstance(polygon, list) or len(polygon) < 2 or not all(_is_point(point) for point in polygon):
        raise FastSCNNError(f"{path}: the polygon of object {number} is not a list of two or more [x, y]; "
                            "copy the file again from its source.")
    return [(point[0], point[1]) for point in polygon]


def _is_point(point: object) -> bool:
    # chained comparison, since it is false for NaN, which Python's JSON accepts
    return isinstance(point, list) and len(point) >= 2 and all(
        type(value) in (int, float) and -_FAR < value < _FAR for value in point[:2]
    )


def _side(path: Path, table: dict[str, Any], key: str) -> int:
    value = table.get(key)
    if type(value) is not int or value < 1:
        raise FastSCNNError(f"{path}: {key} is {value!r}; it must be a whole number of pixels, at least 1.")
    return value
