"""What formats with a file for each image share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.model.label_set import LabelSet


@dataclass
class PerImage(ABC):
    """A format with a file for each image.

    Attributes:
        folder: of the results.
        label_set: the classes.
        tolerance, min_area: of the polygons; see `trace`.
    """

    folder: Path
    label_set: LabelSet
    tolerance: float = TOLERANCE
    min_area: int = MIN_AREA

    @abstractmethod
    def file(self, result: Path) -> Path:
        """Return the file of an image, by the path of its results without suffix."""

    def taken(self, result: Path) -> Path | None:
        """Return the file of earlier annotations that this image would replace. A folder of that name is none."""
        path = self.file(result)
        return path if os.path.lexists(path) and not path.is_dir() else None

    @abstractmethod
    def classes(self) -> tuple[Path, str]:
        """Return the file with the names of the classes, and its content."""

    @abstractmethod
    def names_classes(self, text: str) -> bool:
        """Return whether the content of an existing file of the classes names these classes."""

    def check_classes(self) -> None:
        """Raise FastSCNNError if the file of the classes exists and names other ones."""
        path, _ = self.classes()
        if os.path.lexists(path) and not self.names_classes(_read(path)):
            raise FastSCNNError(f"{path}: names other classes; move it away, or choose another output folder.")

    def add(self, described: tuple[Path, bytes]) -> Path:
        """Write the file of an image, and the file of the classes before the first; return the former.

        Raises:
            FastSCNNError: a file cannot be written, or the file of the classes exists and names other ones.
        """
        self.check_classes()
        path, names = self.classes()
        if not os.path.lexists(path):
            files.write(path, names.encode())
        files.write(*described)
        return described[0]

    def close(self) -> None:  # noqa: B027 - the default, not a gap
        """Do nothing: each file is complete."""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FastSCNNError(f"{path}: cannot be read ({error}); move it away, or choose another output folder.") from error
