"""YOLO's segmentation text: one polygon a line, in fractions of the image."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float64Array
from fastscnn.data.formats import rasterise, text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

_BOX = 4  # numbers of a box
_ABOVE = 3  # folders: of labels/train/x.txt, the data.yaml is in the third
_KPT_SHAPE = re.compile(r"^kpt_shape\s*:[\s\[-]*(\d{1,4})[\s,-]+(\d)\b", re.MULTILINE)  # kpt_shape: [17, 3]
_TOLERANCE = 0.01  # of the image's side, as in Ultralytics


@dataclass(frozen=True)
class YoloLabels(Shapes):
    """Lines `class x1 y1 x2 y2 ...`, drawn as `polygon2mask` of Ultralytics does. Needs the extra `formats`.

    A name is the number of a class as text, such as "0". An empty file has no shapes. Polygons lie over each other in the order
    of the file, but Ultralytics sorts them by size for its overlapping masks, the largest lowest.
    """

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image, whose file states the size; see `LabelFormat`."""
        layers, unknown = self.layers(_shapes(labels))
        drawn = np.full(images.size(image), self.background, np.uint8)
        side = np.array(drawn.shape[::-1], np.float32)
        for value, polygon in layers:
            rasterise.fill(drawn, [(polygon * side).astype(np.int32)], value)
        return Decoded(drawn, drawn, unknown)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        for shape in _shapes(labels):
            yield shape.place, shape.geometry.astype(np.float64) * size[::-1]


def contents(path: Path) -> Contents:
    """Return the classes of a file. Raises FastSCNNError like `YoloLabels.read`."""
    return Contents(Counter(shape.name for shape in _shapes(path)))


def _shapes(path: Path) -> list[Shape[npt.NDArray[np.float32]]]:
    """Return the polygons, float32 [N, 2] of x and y from 0 to 1. Ultralytics computes in float32, too."""
    lines = [(f"line {number}", line.split()) for number, line in enumerate(text.read(path).splitlines(), 1)]
    found = [(place, words[0], words[1:]) for place, words in lines if words]
    _refuse_key_points(path, {len(numbers) for _, _, numbers in found})
    return [Shape(place, _name(path, place, name), _polygon(path, place, numbers)) for place, name, numbers in found]


def _refuse_key_points(path: Path, counts: set[int]) -> None:
    """Refuse a file whose lines have as many numbers as a box and the key points that a data.yaml above it declares."""
    for folder in path.parents[:_ABOVE]:
        for declared, count in _key_points(folder).items():
            if counts == {_BOX + count}:
                raise FastSCNNError(f"{path}: holds boxes with key points, as kpt_shape in {declared} says, and these have no "
                                    "area; export the polygons, as YOLO segmentation.")


@text.once_per_file
def _key_points(folder: Path) -> dict[Path, int]:
    """Return the files in a folder that declare key points, as Ultralytics' data.yaml, and how many numbers these have."""
    found: dict[Path, int] = {}
    with contextlib.suppress(OSError):  # a folder that is not ours
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".yaml", ".yml")):
            with contextlib.suppress(FastSCNNError):  # any other file
                if match := _KPT_SHAPE.search(text.read(path)):
                    found[path] = int(match[1]) * int(match[2])
    return found


def _name(path: Path, place: str, word: str) -> str:
    if not (word.isascii() and word.isdigit()):
        raise FastSCNNError(f"{path}: {place} begins with {word[:40]!r}, but the number of a class is expected; export the "
                            "file as YOLO segmentation.")
    return str(int(word[:20]))


def _polygon(path: Path, place: str, words: list[str]) -> npt.NDArray[np.float32]:
    if len(words) == 4:
        raise FastSCNNError(f"{path}: {place} is a box (class cx cy w h) of a detection dataset; export the polygons, as YOLO "
                            "segmentation.")
    if len(words) < 6 or len(words) % 2:
        raise FastSCNNError(f"{path}: {place} has {len(words)} numbers behind the class, but x and y of three or more points "
                            "are needed; export the file again.")
    try:
        polygon = np.array([float(word) for word in words]).reshape(-1, 2)
    except ValueError:
        raise FastSCNNError(f"{path}: {place} contains words that are not numbers; export the file again.") from None
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    centre, extent = (low + high) / 2, high - low
    if not (centre.min() >= -_TOLERANCE and max(centre.max(), extent.max()) <= 1 + _TOLERANCE):  # False for NaN
        raise FastSCNNError(f"{path}: {place} has coordinates outside the image; YOLO's are fractions of its width and height, "
                            "0 to 1. Export the file again.")
    return polygon.astype(np.float32)
