"""COCO's instances JSON: polygons, run lengths and crowds of many images in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float64Array, UInt8Array
from fastscnn.data.formats import rasterise, text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.geometry import Point, is_whole, points, size
from fastscnn.data.formats.listing import Listing
from fastscnn.model.label_set import LabelSet


@dataclass(frozen=True)
class CocoLabels(Shapes):
    """COCO's instances JSON, drawn as `COCO.annToMask` of pycocotools does. Needs the extra `formats` for polygons.

    A name is the name of a category. Annotations lie over each other in the order of the file. A crowd (`iscrowd`) is drawn
    like any other annotation. Labels have the size that the file states for the image.
    """

    of_many: ClassVar[bool] = True

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`. The parsed file is kept for the next image."""
        entry = self.listing(labels).find(image)
        extent = size(labels, entry.height, entry.width, f"the image {entry.name!r}")
        drawn = np.full(extent, self.background, np.uint8)
        layers, unknown = self.layers(entry.shapes)
        for value, (place, segmentation) in layers:
            _draw(labels, place, segmentation, drawn, value)
        return Decoded(drawn, drawn, unknown)

    def listing(self, labels: Path) -> Listing[_Entry]:
        """Return the images that a file lists; see `LabelFormat.listing`."""
        return _parsed(labels).listing

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        for place, segmentation in (shape.geometry for shape in self.listing(labels).find(image).shapes):
            for flat in segmentation if isinstance(segmentation, list) else ():
                yield place, np.array(flat, np.float64).reshape(-1, 2)


def contents(path: Path) -> Contents:
    """Return the categories and images of a file. Raises FastSCNNError like `CocoLabels.read`."""
    parsed = _parsed(path)
    return Contents(parsed.names, tuple(entry.name for entry in parsed.entries))


@dataclass(eq=False)
class _Entry:
    """An image, and its annotations as (place, segmentation)."""

    name: str
    height: object
    width: object
    shapes: list[Shape[tuple[str, object]]] = field(default_factory=list)


@dataclass(frozen=True)
class _Parsed:
    listing: Listing[_Entry]
    entries: Sequence[_Entry]
    names: Mapping[str, int]


@text.once_per_file
def _parsed(path: Path) -> _Parsed:
    table = text.read_json(path, dict)
    things = by_id(path, table, "images")
    entries = {key: _Entry(name, things[key].get("height"), things[key].get("width"))
               for key, name in named(path, things, "image", "file_name").items()}
    categories = named(path, by_id(path, table, "categories"), "category", "name")
    names = Counter(dict.fromkeys(categories.values(), 0))
    for key, thing in by_id(path, table, "annotations").items():
        owner, category = thing.get("image_id"), thing.get("category_id")
        for what, value, known in (("image", owner, entries), ("category", category, categories)):
            if not is_id(value) or value not in known:
                raise FastSCNNError(f"{path}: the annotation {key} is of the {what} {value!r}, which the file does not list; "
                                    "export the file again.")
        place = f"annotation {key}"
        entries[owner].shapes.append(Shape(place, categories[category], (place, thing.get("segmentation"))))
        names[categories[category]] += 1
    listing = Listing(path, ((entry.name, entry) for entry in entries.values()))
    return _Parsed(listing, tuple(entries.values()), dict(names))


def by_id(path: Path, table: Mapping[str, Any], key: str) -> dict[Any, dict[str, Any]]:
    """Return a list of JSON objects by their ids."""
    things = table.get(key)
    if not isinstance(things, list):
        raise FastSCNNError(f"{path}: has no list {key!r}, so it is not COCO's JSON; export it again.")
    found: dict[Any, dict[str, Any]] = {}
    for number, thing in enumerate(things):
        if not isinstance(thing, dict) or not is_id(thing.get("id")):
            raise FastSCNNError(f"{path}: entry {number} of {key!r} has no id; export the file again.")
        if found.setdefault(thing["id"], thing) is not thing:
            raise FastSCNNError(f"{path}: two entries of {key!r} have the id {thing['id']!r}; give each its own id.")
    return found


def named(path: Path, things: Mapping[Any, dict[str, Any]], what: str, key: str) -> dict[Any, str]:
    """Return the text `key` of JSON objects by their ids; `what` is what errors call them."""
    for number, thing in things.items():
        if not isinstance(thing.get(key), str):
            raise FastSCNNError(f"{path}: the {what} {number} has no {key}; export the file again.")
    return {number: thing[key] for number, thing in things.items()}


def is_id(value: object) -> bool:
    """Return whether a value may be an id: a whole number or a text."""
    return is_whole(value) or isinstance(value, str)


def _draw(path: Path, place: str, segmentation: object, labels: UInt8Array, value: int) -> None:
    if isinstance(segmentation, list) and segmentation:
        rasterise.paint_polygons(labels, [_corners(path, place, flat) for flat in segmentation], value)
        return
    if not isinstance(segmentation, dict):
        raise FastSCNNError(f"{path}: {place} has no outline, as in files for object detection; export the masks or polygons.")
    stated, counts = segmentation.get("size"), segmentation.get("counts")
    height, width = labels.shape
    if stated != [height, width]:
        raise FastSCNNError(f"{path}: the mask of {place} has the size {stated!r}, but its image is {height}x{width} (HxW); "
                            "export the file again.")
    lengths = rasterise.coco_counts(counts) if isinstance(counts, str) else counts
    if isinstance(lengths, list) and not all(map(is_whole, lengths)):
        lengths = None
    if not isinstance(lengths, list | np.ndarray) or not rasterise.paint_runs(labels, lengths, value):
        raise FastSCNNError(f"{path}: the run lengths (RLE) of {place} are damaged or do not cover its image of "
                            f"{height}x{width} (HxW); export the file again.")


def _corners(path: Path, place: str, flat: object) -> list[Point]:
    if not isinstance(flat, list) or len(flat) % 2:
        raise FastSCNNError(f"{path}: {place} has a polygon that is not a list [x1, y1, x2, y2, ...]; export the file again.")
    return points(path, place, list(zip(flat[::2], flat[1::2], strict=True)), least=3)
