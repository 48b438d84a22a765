"""Ultralytics' YOLO segmentation: a text file for each image, and data.yaml."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE, trace
from fastscnn.base import files
from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import LabelSet


@dataclass
class Yolo:
    """The folder `yolo` among the results: `labels/STEM.txt` and `data.yaml`, which expects the images in `images`.

    Attributes:
        folder: of the results.
        label_set: the classes.
        tolerance, min_area: of the polygons; see `trace`.
    """

    folder: Path
    label_set: LabelSet
    tolerance: float = TOLERANCE
    min_area: int = MIN_AREA

    def taken(self, result: Path) -> Path | None:
        """Return the file of earlier annotations that this image would replace."""
        path = self._file(result)
        return path if path.exists() else None

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> tuple[Path, bytes]:
        """Return the file of an image and its content: a line of the class id and x y of each point, relative to the size."""
        del image
        size = labels.shape[::-1]
        lines = []
        for polygon in trace(labels, self.tolerance, self.min_area, centres=True):
            numbers = " ".join(f"{value:.6f}" for value in (polygon.points / size).ravel().tolist())
            lines.append(f"{polygon.label} {numbers}\n")
        return self._file(result), "".join(lines).encode()

    def add(self, described: tuple[Path, bytes]) -> Path:
        """Write the file of an image, and data.yaml before the first; return the file."""
        table = self.folder / "yolo" / "data.yaml"
        if not table.exists():
            names = "".join(f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(self.label_set.names))
            files.write(table, f"train: images\nval: images\nnames:\n{names}".encode())
        files.write(*described)
        return described[0]

    def close(self) -> None:
        """Do nothing: each file is complete."""

    def _file(self, result: Path) -> Path:
        place = result.relative_to(self.folder)
        return self.folder / "yolo" / "labels" / place.with_name(f"{place.name}.txt")
