"""COCO's panoptic JSON: each segment is a colour of a PNG, and has a category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.files import is_file
from fastscnn.base.types import Float64Array
from fastscnn.data.formats import text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.coco import by_id, is_id, named
from fastscnn.data.formats.colours import pack
from fastscnn.data.formats.geometry import is_whole
from fastscnn.data.formats.listing import Listing
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet


@dataclass(frozen=True)
class PanopticLabels(Shapes):
    """COCO's panoptic JSON. A PNG of each image holds R + 256 G + 65536 B, the id of a segment; 0 is no segment.

    A name is the name of a category. The PNGs are in the folder of the JSON file, or in one with its name, beside it or one
    level above.
    """

    of_many: ClassVar[bool] = True

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`. The parsed JSON file is kept for the next image."""
        entry = self.listing(labels).find(image)
        png = _png(labels, entry)
        layers, unknown = self.layers(entry.shapes)
        train_ids = {0: self.background} | {segment: train for train, segment in layers}
        stored = pack(images.read_colours(png)[..., ::-1])
        found, place = np.unique(stored, return_inverse=True)
        for segment in found.tolist():
            if segment not in train_ids:
                raise FastSCNNError(f"{png}: has pixels of the segment {segment}, which {labels} does not list; export both "
                                    "again.")
        drawn = np.array([train_ids[segment] for segment in found.tolist()], np.uint8)[place].reshape(stored.shape)
        return Decoded(drawn, stored, unknown)

    def files(self, labels: Path, image: Path) -> tuple[Path, ...]:
        """Return the JSON file and the PNG of an image; see `LabelFormat.files`."""
        return labels, _png(labels, self.listing(labels).find(image))

    def listing(self, labels: Path) -> Listing[_Entry]:
        """Return the images that a file lists; see `LabelFormat.listing`."""
        return _parsed(labels)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield nothing: there are no polygons."""
        yield from ()


def contents(path: Path) -> Contents:
    """Return the categories and images of a file. Raises FastSCNNError like `PanopticLabels.read`."""
    listing = _parsed(path)
    return Contents(listing.names, tuple(entry.name for entry in listing.entries))


def pngs(path: Path) -> set[Path]:
    """Return the PNGs of the segments that exist. Raises FastSCNNError like `PanopticLabels.read`."""
    return {place for entry in _parsed(path).entries for place in _places(path, entry) if is_file(place)}


@dataclass(eq=False)
class _Entry:
    """An image, the name of its PNG, and its segments by their ids."""

    name: str
    png: str
    shapes: list[Shape[int]] = field(default_factory=list)


@text.once_per_file
def _parsed(path: Path) -> Listing[_Entry]:
    table = text.read_json(path, dict)
    files = named(path, by_id(path, table, "images"), "image", "file_name")
    categories = named(path, by_id(path, table, "categories"), "category", "name")
    things = table.get("annotations")
    if not isinstance(things, list):
        raise FastSCNNError(f"{path}: has no list 'annotations', so it is not COCO's panoptic JSON; export it again.")
    entries: dict[object, _Entry] = {}
    for number, thing in enumerate(things):
        image = thing.get("image_id") if isinstance(thing, dict) else None
        if not is_id(image) or image not in files or image in entries or not isinstance(thing.get("file_name"), str):
            raise FastSCNNError(f"{path}: entry {number} of 'annotations' has no file_name, or is of the image {image!r}, "
                                "which the file does not list or another entry has; export the file again.")
        entries[image] = _Entry(files[image], thing["file_name"], _segments(path, thing, categories))
    names = Counter(dict.fromkeys(categories.values(), 0))
    names.update(shape.name for entry in entries.values() for shape in entry.shapes)
    return Listing(path, ((entry.name, entry) for entry in entries.values()), dict(names))


def _segments(path: Path, annotation: Mapping[str, Any], categories: Mapping[Any, str]) -> list[Shape[int]]:
    """Return the segments of an image by their ids."""
    given = annotation.get("segments_info")
    found: dict[int, Shape[int]] = {}
    for one in given if isinstance(given, list) else [None]:
        number, category = (one.get("id"), one.get("category_id")) if isinstance(one, dict) else (None, None)
        if not is_whole(number) or number in found or not is_id(category) or category not in categories:
            raise FastSCNNError(f"{path}: the segments_info of {annotation['file_name']!r} is not a list of segments, each "
                                "with an id of its own and the category_id of a category; export the file again.")
        found[number] = Shape(f"segment {number}", categories[category], number)
    return list(found.values())


def _places(path: Path, entry: _Entry) -> list[Path]:
    """Return where the PNG of an image may be: as COCO, Cityscapes and datumaro, as detectron2, or beside the JSON file."""
    return [folder / entry.png for folder in (path.parent / path.stem, path.parent.parent / path.stem, path.parent)]


def _png(path: Path, entry: _Entry) -> Path:
    places = _places(path, entry)
    found = next((place for place in places if is_file(place)), None)
    if found is None:
        raise FastSCNNError(f"{path}: lists the segments of {entry.name!r} in {entry.png}, which is missing; put it into "
                            f"{places[0].parent}.")
    return found
