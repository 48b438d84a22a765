"""The formats of annotations by name, and what their writers share."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np

from fastscnn.annotations.coco import Coco
from fastscnn.annotations.labelme import LabelMe
from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE
from fastscnn.annotations.yolo import Yolo
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import BoolArray, UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

AnnotationFormat = Literal["coco", "coco-rle", "labelme", "yolo"]


def known(kind: str) -> AnnotationFormat:
    """Return the name of a format. Raise ArgumentError if there is none of this name."""
    for name in get_args(AnnotationFormat):
        if name == kind:
            return name  # type: ignore[no-any-return]
    raise unknown("annotation format", kind, get_args(AnnotationFormat))


class _Format(Protocol):
    """A format of annotations. `describe` may be called from several threads."""

    folder: Path
    label_set: LabelSet

    def taken(self, result: Path) -> Path | None: ...

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> Any: ...

    def add(self, described: Any) -> Path: ...

    def close(self) -> None: ...


class AnnotationWriter:
    """Writes labels as annotations. Leaving its `with` completes the files, also after an error or Ctrl-C.

    Args:
        kind: "coco" (FOLDER/coco.json with a polygon for each region), "coco-rle" (with the exact mask of each class),
            "labelme" (STEM.json for each image), or "yolo" (FOLDER/yolo with labels/STEM.txt and data.yaml).
        folder: where to write; it is created if it is missing.
        label_set: the classes.
        tolerance: largest distance of the polygons from the labels in pixels; 0 keeps them exact.
        min_area: a region of fewer pixels becomes part of its neighbour. Masks stay exact.

    Raises:
        ArgumentError: an unknown format.

    Example:
        >>> import fastscnn, numpy as np
        >>> from fastscnn.annotations.writer import AnnotationWriter
        >>> labels = np.zeros((60, 80), np.uint8)
        >>> labels[:, 60:] = 1
        >>> with AnnotationWriter("coco", "results", fastscnn.LabelSet(("road", "car"))) as writer:
        ...     writer.add("images/street.jpg", labels).name
        'coco.json'
    """

    def __init__(
        self,
        kind: AnnotationFormat,
        folder: str | Path,
        label_set: LabelSet,
        tolerance: float = TOLERANCE,
        min_area: int = MIN_AREA,
    ) -> None:
        kind, place = known(kind), files.expand(folder)
        self._format: _Format = (
            LabelMe(place, label_set, tolerance, min_area) if kind == "labelme" else
            Yolo(place, label_set, tolerance, min_area) if kind == "yolo" else
            Coco(place, label_set, kind == "coco-rle", tolerance, min_area)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._format.close()

    def refuse_taken(self, results: list[Path]) -> None:
        """Raise FastSCNNError if a file of annotations exists already: people may have corrected it."""
        for result in results:
            if (path := self._format.taken(result)) is not None:
                raise FastSCNNError(f"{path}: holds annotations already, which may have been corrected; "
                                    "move it away, or choose another output folder.")

    def describe(self, image: Path, result: Path, labels: UInt8Array, ood_mask: BoolArray | None = None) -> Any:
        """Return what `write` writes for an image. It may be called from several threads.

        Args:
            image: its file.
            result: path of its results in the folder, without suffix.
            labels: class ids, uint8 [H, W]. Pixels of no class get no annotation.
            ood_mask: bool [H, W], True for pixels that get no annotation.
        """
        no_class = labels >= len(self._format.label_set)
        if ood_mask is not None:
            no_class |= ood_mask
        return self._format.describe(image, result, np.where(no_class, np.uint8(IGNORE_INDEX), labels))

    def write(self, described: Any) -> Path:
        """Write what `describe` returned; return the file."""
        return self._format.add(described)

    def add(self, image: str | Path, labels: UInt8Array) -> Path:
        """Write the annotations of an image; return their file.

        Args:
            image: its file, which is not read. Its stem names the file of the annotations.
            labels: class ids, uint8 [H, W]; 255 for pixels without annotation.

        Raises:
            FastSCNNError: a file cannot be written, or exists already.
        """
        path = files.expand(image)
        result = self._format.folder / path.stem
        self.refuse_taken([result])
        return self.write(self.describe(path, result, labels))
