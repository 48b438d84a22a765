"""Labels drawn from polygons, as Cityscapes' `*_polygons.json` keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import UInt8Array
from fastscnn.media import images

_GROUP = "group"
_FAR = 1e6  # pixels; no annotation lies so far outside, and Pillow draws in 32-bit integers


def read(path: Path, ids: Mapping[str, int]) -> UInt8Array:
    """The raster of a file of polygons, uint8 [imgHeight, imgWidth], equal to cityscapesScripts' json2labelImg.

    Objects are drawn over each other in the order of the file, on 0. Those marked deleted are left out, and those whose id
    is below 0; a group without an id of its own, such as "cargroup", has that of its members.

    Args:
        path: a JSON file with imgHeight, imgWidth and objects, each with label and polygon, a list of [x, y].
        ids: object name -> id.

    Raises:
        FastSCNNError: missing, truncated, not of that form, over 40 megapixels, or an object of an unknown name.
    """
    table = _parsed(path)
    height, width = (_side(path, table, key) for key in ("imgHeight", "imgWidth"))
    if height * width > images.MAX_PIXELS:
        raise FastSCNNError(f"{path}: is {width}x{height}, over the limit of {images.MAX_PIXELS // 1_000_000} megapixels.")
    return images.draw((height, width), list(_shapes(path, table, ids)))


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
        raise FastSCNNError(f"{path}: the polygon of object {number} is no list of two or more [x, y]; "
                            "copy the file again from its source.")
    return [(point[0], point[1]) for point in polygon]


def _is_point(point: object) -> bool:
    # written so that NaN, which JSON in Python knows, is no point
    return isinstance(point, list) and len(point) >= 2 and all(
        type(value) in (int, float) and -_FAR < value < _FAR for value in point[:2]
    )


def _side(path: Path, table: dict[str, Any], key: str) -> int:
    value = table.get(key)
    if type(value) is not int or value < 1:
        raise FastSCNNError(f"{path}: {key} is {value!r}; it takes a whole number of pixels.")
    return value


def _parsed(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise FastSCNNError(f"{path}: is truncated or not JSON ({error}); copy it again from its source.") from error
    if not isinstance(table, dict):
        raise FastSCNNError(f"{path}: is no JSON object with imgHeight, imgWidth and objects.")
    return table
