"""Ultralytics' YOLO segmentation: a text file for each image, and data.yaml."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastscnn.annotations.per_image import PerImage
from fastscnn.annotations.polygons import trace
from fastscnn.base.types import UInt8Array


class Yolo(PerImage):
    """The folder `yolo` among the results: `labels/STEM.txt` and `data.yaml`, which expects the images in `images`."""

    def file(self, result: Path) -> Path:
        """Return the file of an image; see `PerImage`."""
        place = result.relative_to(self.folder)
        return self.folder / "yolo" / "labels" / place.with_name(f"{place.name}.txt")

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> tuple[Path, bytes]:
        """Return the file of an image and its content: in each line a class id, and x y of each point relative to the size."""
        del image
        size = labels.shape[::-1]
        lines = []
        for polygon in trace(labels, self.tolerance, self.min_area, centres=True):
            numbers = " ".join(f"{value:.6f}" for value in (polygon.points / size).ravel().tolist())
            lines.append(f"{polygon.label} {numbers}\n")
        return self.file(result), "".join(lines).encode()

    def classes(self) -> tuple[Path, str]:
        """Return data.yaml and its content; see `PerImage`."""
        return self.folder / "yolo" / "data.yaml", f"train: images\nval: images\n{self._names()}"

    def names_classes(self, text: str) -> bool:
        """Return whether the content of a data.yaml names these classes; other keys and comments may be there, too."""
        return re.search(rf"^{re.escape(self._names())}(?! )", text, re.MULTILINE) is not None

    def _names(self) -> str:
        return "names:\n" + "".join(f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(self.label_set.names))
