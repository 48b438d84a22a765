"""LabelMe JSON: one file for each image, and the names of the classes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastscnn.annotations.per_image import PerImage
from fastscnn.annotations.polygons import Polygon, flat, trace
from fastscnn.base.types import UInt8Array

_VERSION = "5.5.0"  # of LabelMe, whose form the files have


class LabelMe(PerImage):
    """LabelMe files beside the other results: `STEM.json`, with the path of the image relative to the file, and `labels.txt`.

    `labels.txt` has the names of the classes in their order, one in each line, as `labelme --labels` expects.
    """

    def file(self, result: Path) -> Path:
        """Return the file of an image; see `PerImage`."""
        return result.with_name(f"{result.name}.json")

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> tuple[Path, bytes]:
        """Return the file of an image and its content."""
        path = self.file(result)
        table = {
            "version": _VERSION,
            "flags": {},
            "shapes": [self._shape(polygon) for polygon in trace(labels, self.tolerance, self.min_area, centres=True)],
            "imagePath": _relative(image, path.parent),
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        return path, json.dumps(table).encode()

    def classes(self) -> tuple[Path, str]:
        """Return labels.txt and its content; see `PerImage`."""
        return self.folder / "labels.txt", "".join(f"{name}\n" for name in self.label_set.names)

    def names_classes(self, text: str) -> bool:
        """Return whether the content of a labels.txt names these classes."""
        return text.strip() == self.classes()[1].strip()

    def _shape(self, polygon: Polygon) -> dict[str, Any]:
        numbers = list(flat(polygon.points))
        return {
            "label": self.label_set.names[polygon.label],
            "points": [list(point) for point in zip(numbers[::2], numbers[1::2], strict=True)],
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }


def _relative(image: Path, folder: Path) -> str:
    """Return the path of an image relative to a folder, with forward slashes; absolute if they are on two drives."""
    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return image.absolute().as_posix()
