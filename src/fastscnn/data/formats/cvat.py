"""CVAT's XML "CVAT for images 1.1": the shapes of many images in one file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float64Array, UInt8Array
from fastscnn.data.formats import rasterise, text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.geometry import Point, points, size
from fastscnn.data.formats.listing import Listing
from fastscnn.model.label_set import LabelSet

_WITHOUT_AREA = ("tag", "points")  # CVAT does not draw them either
_DRAWN = ("polygon", "box", "ellipse", "mask")
_FIX = "correct it in CVAT and export again"


@dataclass(frozen=True)
class CvatLabels(Shapes):
    """The XML of "CVAT for images 1.1", drawn as CVAT's own export "Segmentation mask" does. Needs the extra `formats`.

    A name is the label of a shape. Shapes lie over each other by `z_order`, and within it in the order of the file; CVAT's own
    export draws rotated boxes over all other shapes of equal `z_order`. Points and tags have no area and are not drawn.
    Polylines, skeletons and cuboids are errors. Labels have the size that the file states for the image.
    """

    of_many: ClassVar[bool] = True

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`. The parsed file is kept for the next image."""
        entry = self.listing(labels).find(image)
        extent = size(labels, _whole(entry.get("height")), _whole(entry.get("width")), f"the image {entry.get('name')!r}")
        drawn = np.full(extent, self.background, np.uint8)
        shapes = sorted(_shapes(labels, entry), key=lambda shape: _number(labels, shape, "z_order", 0))
        layers, unknown = self.layers(Shape(shape.place, shape.name, shape) for shape in shapes)
        for value, shape in layers:
            _draw(labels, shape, drawn, value)
        return Decoded(drawn, drawn, unknown)

    def listing(self, labels: Path) -> Listing[Element]:
        """Return the images that a file lists; see `LabelFormat.listing`."""
        return _parsed(labels)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        for shape in _shapes(labels, self.listing(labels).find(image)):
            corners = _outline(labels, shape) if shape.geometry.tag in ("polygon", "box") else []
            yield shape.place, np.array(corners, np.float64).reshape(-1, 2)


def contents(path: Path) -> Contents:
    """Return the labels and images of a file. Raises FastSCNNError like `CvatLabels.read`."""
    listing = _parsed(path)
    names = Counter(listing.names)
    names.update(shape.name for image in listing.entries for shape in _shapes(path, image))
    return Contents(names, tuple(image.get("name", "") for image in listing.entries))


@text.once_per_file
def _parsed(path: Path) -> Listing[Element]:
    content = text.read(path, _declared)
    if "<!DOCTYPE" in content:  # entities can refer to other files, and grow without bound
        raise FastSCNNError(f"{path}: contains a DOCTYPE, which CVAT does not write; remove it.")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise FastSCNNError(f"{path}: is truncated or not XML ({error}); export it again.") from error
    images = root.findall("image")
    if root.tag != "annotations" or root.find("track") is not None or not images:
        raise FastSCNNError(f'{path}: has no images, so it is not the XML of "CVAT for images 1.1"; export it in this format.')
    names = [label.findtext("name") or "" for label in root.iterfind("./meta//labels/label")]
    return Listing(path, ((image.get("name", ""), image) for image in images), dict.fromkeys(names, 0))


def _declared(data: bytes) -> str:
    """Return the encoding that an XML file declares."""
    found = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)", data)
    return found[1].decode() if found else "utf-8"


def _shapes(path: Path, image: Element) -> list[Shape[Element]]:
    """Return the shapes of an image that have an area, in the order of the file."""
    found = []
    for number, thing in enumerate(image):
        place = f"{thing.tag} {number} of the image {image.get('name')!r}"
        if thing.tag in _WITHOUT_AREA:
            continue
        if thing.tag not in _DRAWN:
            raise FastSCNNError(f"{path}: {place} has no area; draw a polygon in its place, or delete it, in CVAT.")
        if thing.get("label") is None:
            raise FastSCNNError(f"{path}: {place} has no label; {_FIX}.")
        found.append(Shape(place, thing.get("label", ""), thing))
    return found


def _draw(path: Path, shape: Shape[Element], labels: UInt8Array, value: int) -> None:
    kind = shape.geometry.tag
    if kind == "mask":
        _draw_mask(path, shape, labels, value)
    elif kind == "ellipse":
        x, y, right, down = (_number(path, shape, key) for key in ("cx", "cy", "rx", "ry"))
        points(path, shape.place, [(x, y), (right, down)])
        if right < 0 or down < 0:
            raise FastSCNNError(f"{path}: {shape.place} has a negative radius; {_FIX}.")
        angle = math.fmod(_number(path, shape, "rotation", 0), 360)
        rasterise.ellipse(labels, (round(x), round(y)), (round(right), round(down)), angle, value)
    else:
        rasterise.paint_polygons(labels, [_outline(path, shape)], value)


def _outline(path: Path, shape: Shape[Element]) -> list[Point]:
    """Return the corners of a polygon or a box."""
    corners = _box(path, shape) if shape.geometry.tag == "box" else _corners(path, shape)
    return points(path, shape.place, corners, least=3)


def _corners(path: Path, shape: Shape[Element]) -> list[tuple[float, ...]]:
    """Return the corners of a polygon, "x,y;x,y;...", not checked yet."""
    try:
        return [tuple(float(value) for value in pair.split(",")) for pair in shape.geometry.get("points", "").split(";")]
    except ValueError:
        raise FastSCNNError(f"{path}: {shape.place} has points that are not x,y;x,y;...; {_FIX}.") from None


def _box(path: Path, shape: Shape[Element]) -> list[Point]:
    """Return the corners of a box, turned clockwise around its centre by `rotation` in degrees."""
    x0, y0, x1, y1 = (_number(path, shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    rotation = _number(path, shape, "rotation", 0)
    if not rotation:
        return corners
    cx, cy = x0 + (x1 - x0) / 2, y0 + (y1 - y0) / 2
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    return [(cx + cos * (x - cx) - sin * (y - cy), cy + sin * (x - cx) + cos * (y - cy)) for x, y in corners]


def _draw_mask(path: Path, shape: Shape[Element], labels: UInt8Array, value: int) -> None:
    """Draw run lengths, row by row, of a part of the image."""
    left, top, width, height = (_whole(shape.geometry.get(key)) for key in ("left", "top", "width", "height"))
    if left is None or top is None or width is None or height is None or min(left, top, width - 1, height - 1) < 0 or (
        left + width > labels.shape[1] or top + height > labels.shape[0]
    ):
        raise FastSCNNError(f"{path}: {shape.place} lies partly outside its image, or its place is not stated; {_FIX}.")
    counts = [_whole(word.strip()) for word in shape.geometry.get("rle", "").split(",")]
    whole = [count for count in counts if count is not None]
    part = labels[top : top + height, left : left + width]
    if len(whole) != len(counts) or not rasterise.paint_runs(part.T, whole, value):
        raise FastSCNNError(f"{path}: the run lengths (RLE) of {shape.place} are damaged or do not cover its {height}x{width} "
                            f"pixels (HxW); {_FIX}.")


def _whole(word: str | None) -> int | None:
    return int(word) if word is not None and len(word) < 12 and re.fullmatch(r"-?[0-9]+", word) else None


def _number(path: Path, shape: Shape[Element], key: str, default: float | None = None) -> float:
    word = shape.geometry.get(key)
    try:
        number = default if word is None else float(word)
    except ValueError:
        number = None
    if number is None or not math.isfinite(number):
        raise FastSCNNError(f"{path}: {shape.place} has the {key} {word!r}, which is not a number; {_FIX}.")
    return number
