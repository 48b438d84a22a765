"""COCO JSON: one file for all images, with a polygon for each region or a mask for each class."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.annotations import rle
from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE, flat, trace
from fastscnn.annotations.regions import signed_area
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

_Entry = dict[str, Any]


@dataclass
class Coco:
    """A COCO file that grows image by image in a temporary file; it gets its name when it is closed. Category ids begin at 1.

    Attributes:
        folder: of the results; the file is `coco.json` in it, and names the images by their paths below it.
        label_set: the classes.
        masks: write the exact mask of each class as RLE, not polygons.
        tolerance, min_area: of the polygons; see `trace`.
    """

    folder: Path
    label_set: LabelSet
    masks: bool = False
    tolerance: float = TOLERANCE
    min_area: int = MIN_AREA
    _images: list[_Entry] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _annotations: int = 0
    _part: Path | None = None
    _file: FileIO | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "coco.json"

    def check_classes(self) -> None:
        """Do nothing: the file itself holds the classes."""

    def taken(self, result: Path) -> Path | None:
        """Return the file of earlier annotations that this image would replace, or a folder of that name."""
        del result
        return self.path if os.path.lexists(self.path) else None

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> tuple[_Entry, list[_Entry]]:
        """Return the entries of an image: itself and its annotations, without ids."""
        height, width = labels.shape
        place = result.relative_to(self.folder).parent / image.name
        entry = {"file_name": place.as_posix(), "height": height, "width": width}
        return entry, self._masks(labels) if self.masks else self._polygons(labels)

    def add(self, described: tuple[_Entry, list[_Entry]]) -> Path:
        """Add an image to the file; return the file.

        Raises:
            FastSCNNError: the file has an image of this name already, or cannot be written; it then keeps the others.
        """
        image, annotations = described
        if image["file_name"] in self._names:
            raise FastSCNNError(f"{self.path}: has an image {image['file_name']} already; rename one of them.")
        number = len(self._images) + 1
        lines = [json.dumps({"id": self._annotations + place, "image_id": number, **annotation})
                 for place, annotation in enumerate(annotations, 1)]
        text = "".join(f",\n{line}" for line in lines)
        try:
            self._append(text if self._annotations else text.removeprefix(","))
        except OSError as error:
            raise FastSCNNError(f"{self.path}: cannot be written ({error.strerror or error}); "
                                "the annotations of this image are missing.") from error
        self._annotations += len(lines)
        self._names.add(image["file_name"])
        self._images.append({"id": number, **image})
        return self.path

    def close(self) -> None:
        """Complete the file and give it its name. Without images, nothing is written.

        Raises:
            FastSCNNError: the file cannot be completed; it is removed.
        """
        if self._file is None or self._part is None:
            return
        try:
            with self._file as file:
                if self._images:
                    self._append(f'\n], "images": {json.dumps(self._images)}}}\n')
                    os.fsync(file.fileno())
            if self._images:
                self._part.replace(self.path)
        except OSError as error:
            raise FastSCNNError(f"{self.path}: cannot be written ({error.strerror or error}); "
                                f"the annotations of its {len(self._images)} images are missing.") from error
        finally:
            self._file = None
            with suppress(OSError):  # it is there only after an error, or without images
                self._part.unlink()

    def _append(self, text: str) -> None:
        """Write text to the end of the temporary file, or leave it as it was."""
        file = self._file or self._open()
        end = file.tell()
        rest = memoryview((text if end else self._head() + text).encode("ascii"))
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            file.seek(end)
            file.truncate()
            raise

    def _open(self) -> FileIO:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._part = files.part(self.path)
        self._file = self._part.open("xb", buffering=0)  # what is in a buffer cannot be taken back
        return self._file

    def _head(self) -> str:
        names = self.label_set.names
        head = {
            "info": {"description": f"Labels by fastscnn {__version__}", "version": __version__},
            "licenses": [],
            "categories": [{"id": index, "name": name, "supercategory": ""} for index, name in enumerate(names, 1)],
        }
        return f'{json.dumps(head)[:-1]}, "annotations": ['

    def _polygons(self, labels: UInt8Array) -> list[_Entry]:
        entries = []
        for polygon in trace(labels, self.tolerance, self.min_area):
            low, high = polygon.points.min(axis=0), polygon.points.max(axis=0)
            entries.append({
                "category_id": polygon.label + 1,
                "segmentation": [list(flat(polygon.points))],
                "area": round(signed_area(polygon.points), 2),
                "bbox": list(flat(np.concatenate([low, high - low]))),
                "iscrowd": 0,
            })
        return entries

    def _masks(self, labels: UInt8Array) -> list[_Entry]:
        entries = []
        for label in range(len(self.label_set)):
            mask = labels == label
            if not mask.any():
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            x, y = int(columns[0]), int(rows[0])
            entries.append({
                "category_id": label + 1,
                "segmentation": rle.encode(mask),
                "area": int(mask.sum()),
                "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                "iscrowd": 0,
            })
        return entries
