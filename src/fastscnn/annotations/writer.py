"""The formats of annotations by name, and what their writers share."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast, get_args

import numpy as np

from fastscnn.annotations import polygons
from fastscnn.annotations.coco import Coco
from fastscnn.annotations.labelme import LabelMe
from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE
from fastscnn.annotations.yolo import Yolo
from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.base.types import AnnotationFormat, BoolArray, UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

__all__ = ["AnnotationFormat", "AnnotationWriter", "known"]


def known(kind: str) -> AnnotationFormat:
    """Return the name of a format. Raise ArgumentError if there is none of this name."""
    if kind not in get_args(AnnotationFormat):
        raise unknown("annotation format", kind, get_args(AnnotationFormat))
    return cast(AnnotationFormat, kind)


class _Format(Protocol):
    """A format of annotations. `describe` may be called from several threads."""

    folder: Path
    label_set: LabelSet

    def taken(self, result: Path) -> Path | None: ...

    def check_classes(self) -> None: ...

    def describe(self, image: Path, result: Path, labels: UInt8Array) -> Any: ...

    def add(self, described: Any) -> Path: ...

    def close(self) -> None: ...


class AnnotationWriter:
    """Writes labels as annotations. Leaving its `with` completes the files, also after an error or Ctrl-C.

    Args:
        kind: the format. "coco": FOLDER/coco.json with a polygon for each region. "coco-rle": the same file with the exact
            mask of each class. "labelme": STEM.json for each image, and labels.txt. "yolo": FOLDER/yolo with labels/STEM.txt
            and data.yaml.
        folder: where to write; it is created if it is missing.
        label_set: the classes.
        tolerance: largest distance of the polygons from the labels in pixels; 0 keeps them exact.
        min_area: a region of fewer pixels becomes part of its neighbour. Masks stay exact.

    Raises:
        ArgumentError: an unknown format, or another wrong argument.

    Examples:
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
        polygons.check(tolerance, min_area)
        if not isinstance(label_set, LabelSet):
            raise ArgumentError(f"label_set: must be a LabelSet, not {label_set!r}.")
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
        """Raise FastSCNNError if the annotations of one of these results exist already: people may have corrected them.

        Also if the folder has the annotations of other classes.
        """
        self._format.check_classes()
        for result in results:
            path = self._format.taken(result)
            if path is not None and path.is_dir():
                raise FastSCNNError(f"{path}: is a folder; move it away, or choose another output folder.")
            if path is not None:
                raise FastSCNNError(f"{path}: holds annotations already, which may have been corrected; "
                                    "move it away, or choose another output folder.")

    def describe(self, image: Path, result: Path, labels: UInt8Array, ood_mask: BoolArray | None = None) -> Any:
        """Return what `write` writes for an image. It may be called from several threads.

        Args:
            image: its file.
            result: path of its results in the folder, without suffix.
            labels: class ids, uint8 [H, W]; 255 for pixels without annotation.
            ood_mask: bool [H, W], True for further pixels without annotation.

        Raises:
            ArgumentError: a result outside the folder, or arrays of another type, shape or range.
        """
        if ".." in result.parts or not result.is_relative_to(self._format.folder):
            raise ArgumentError(f"result: must be in {self._format.folder}, not {result}.")
        if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2 or not labels.size:
            raise ArgumentError("labels: must be a uint8 array [H, W] of class ids.")
        classes = len(self._format.label_set)
        wrong = labels[(labels >= classes) & (labels != IGNORE_INDEX)]
        if wrong.size:
            raise ArgumentError(f"labels: contain the id {wrong[0]}, and there are {classes} classes; "
                                f"use 0 to {classes - 1}, or {IGNORE_INDEX} for no annotation.")
        if ood_mask is not None:
            if not isinstance(ood_mask, np.ndarray) or ood_mask.dtype != np.bool_ or ood_mask.shape != labels.shape:
                raise ArgumentError("ood_mask: must be a bool array of the shape of the labels.")
            labels = np.where(ood_mask, np.uint8(IGNORE_INDEX), labels)
        return self._format.describe(image, result, labels)

    def write(self, described: Any) -> Path:
        """Write what `describe` returned; return the file.

        Raises:
            FastSCNNError: the file cannot be written. Annotations of other images are not affected.
        """
        return self._format.add(described)

    def add(self, image: str | Path, labels: UInt8Array) -> Path:
        """Write the annotations of an image; return their file.

        Args:
            image: its file, which is not read. Its stem names the file of the annotations.
            labels: class ids, uint8 [H, W]; 255 for pixels without annotation.

        Raises:
            ArgumentError: labels of another type, shape or range.
            FastSCNNError: a file cannot be written, or exists already.
        """
        path = files.expand(image)
        result = self._format.folder / path.stem
        self.refuse_taken([result])
        return self.write(self.describe(path, result, labels))
