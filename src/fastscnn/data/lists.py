"""Lists of images in text files, and splits by fraction."""

from __future__ import annotations

import difflib
import hashlib
import os.path
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text
from fastscnn.data.formats.listing import count_equal
from fastscnn.data.spec import exists
from fastscnn.media import images

_COLUMNS = 2  # an image and its label file
_DEEPEST = 100  # folders of a path; the time that a line takes grows with the square of them
_HEADING = r"(?:[a-z ]+_)?(?:images?|img|files?|filename|paths?|name|masks?|labels?|annotations?|input|target|id)(?:_[a-z ]+)?"
_HEADER = re.compile(rf'"?{_HEADING}"?(?:\s*[,\t]\s*"?{_HEADING}"?)*', re.IGNORECASE)  # a first line with names of columns


@dataclass(frozen=True)
class ListFile:
    """A text file with an image in each line, or an image and its label file, as of PaddleSeg.

    Names may lack their suffix, as in Pascal VOC's ImageSets. They are relative to the dataset's root, to the list, or to a
    folder on another machine, whose part of the path is then dropped. Accents may be composed (NFC) in the list and decomposed
    (NFD, as of macOS) on the disk, or the reverse. Empty lines, lines that begin with #, and a first line that names the
    columns are skipped. Of more than two columns, numbers at the end are, too.

    Attributes:
        path: the list.
        root: the dataset's root.
        images: the images that the list chooses from, relative to the root; () takes the names as paths.
    """

    path: Path
    root: Path
    images: Sequence[str] = ()
    _by_stem: Mapping[str, list[str]] = field(init=False, repr=False)
    _known: Set[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_stem: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            by_stem[_composed(image).stem].append(image)
        object.__setattr__(self, "_by_stem", by_stem)
        object.__setattr__(self, "_known", frozenset(self.images))

    def read(self) -> tuple[tuple[str, str], ...]:
        """Return each image and its label file, "" if the list has none, relative to the root.

        Raises:
            FastSCNNError: no such list, not text, an image or label file that does not exist, or an image named twice.
        """
        found, missed = self.fitting()
        if missed:
            raise self._problem(*missed[0], set(found))
        if not found:
            raise FastSCNNError(f"{self.path}: names no image; write one path in each line.")
        if len({bool(labels) for labels in found.values()}) > 1:
            raise FastSCNNError(f"{self.path}: has lines with a label file and lines without; write both columns in each line.")
        return tuple(found.items())

    def fitting(self, most: int | None = None) -> tuple[dict[str, str], list[tuple[int, str]]]:
        """Return each image that exists with its label file, and (number, text) of the lines that name none, or one again.

        Args:
            most: number of lines to read; None for all.

        Raises:
            FastSCNNError: no such list, or not text.
        """
        lines = [(number, line.strip()) for number, line in enumerate(text.read(self.path).splitlines(), start=1)
                 if line.strip() and not line.strip().startswith("#")]
        found: dict[str, str] = {}
        missed = []
        for number, line in lines[:most]:
            try:
                entry = self._entry(number, line)
            except FastSCNNError:  # fits several images
                entry = None
            if entry and entry[0] not in found:
                found[entry[0]] = entry[1]
            elif entry or number != lines[0][0] or not _HEADER.fullmatch(line):
                missed.append((number, line))
        return found, missed

    def _problem(self, number: int, line: str, found: Set[str]) -> FastSCNNError:
        """Return the error about a line that `fitting` does not take."""
        try:
            if (entry := self._entry(number, line)) and entry[0] in found:
                return self._error(number, f"names {entry[0]} again; remove one of the lines")
            pairs = [(columns[0], columns[1]) for columns in _columns(line) if len(columns) == _COLUMNS]
            for first, second in pairs:
                if self._exchanged(first, second):
                    return self._error(number, "has the label file in the first column; write the image first")
                if self._image(number, first):
                    problem = f"names the label file {second}, which does not exist in {self.root}; correct the path"
                    return self._error(number, problem)
        except FastSCNNError as error:
            return error
        return self._error(number, f"names {line}, which is no image of {self.root}{self._nearest(line)}; correct the line")

    def _entry(self, number: int, line: str) -> tuple[str, str] | None:
        """Return the image and the label file of a line; None if it names none."""
        split = _columns(line)
        for columns in split:
            if len(columns) == _COLUMNS and (labels := self._existing(columns[1])) and (
                image := self._image(number, columns[0])) and not self._exchanged(*columns):
                return image, labels
        if any(self._exchanged(*columns) for columns in split if len(columns) == _COLUMNS):
            return None
        names = (line, *(columns[0] for columns in split if len(columns) == 1))  # a path may contain spaces
        return next(((image, "") for name in dict.fromkeys(names) if (image := self._image(number, name))), None)

    def _exchanged(self, first: str, second: str) -> bool:
        """Return whether the second column names an image, and the first another file."""
        if not self.images or not (other := self._existing(first)) or not (image := self._existing(second)):
            return False
        return image in self._known and other not in self._known

    def _image(self, number: int, name: str) -> str:
        """Return the image of a name; "" if there is none."""
        if not self.images:
            found = self._existing(name)
            return found if Path(found).suffix.lower() in images.SUFFIXES else ""
        path = _composed(name.replace("\\", "/"))
        near = [*self._by_stem.get(path.stem, []), *(self._by_stem.get(path.name, []) if path.suffix else [])]
        ranked = [((_common(path, own := _composed(image)), own.name == path.name), image) for image in dict.fromkeys(near)]
        best = max((rank for rank, _ in ranked), default=None)
        matches = [image for rank, image in ranked if rank == best]
        if len(matches) > 1:
            raise self._error(number, f"names {name}, which is {matches[0]} or {matches[1]}; write more of the path")
        return matches[0] if matches else ""

    def _existing(self, name: str) -> str:
        """Return a file's path relative to the root; "" if there is none. Leading folders of another machine are dropped."""
        forms = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
        return next((found for form in forms if (found := self._file(form))), "")

    def _file(self, name: str) -> str:
        """Return what `_existing` returns, for a name whose accents are as on the disk."""
        path = Path(name.replace("\\", "/"))
        parts = path.parts[1:] if path.is_absolute() else path.parts
        if len(parts) > _DEEPEST:
            return ""
        for base in (self.root, self.path.parent):
            if exists(base / path):
                return _relative(base / path, self.root)
        for start in range(len(parts) - 1) if path.is_absolute() else range(1, len(parts) - 1):
            for base in (self.root, self.path.parent):
                if exists(file := base.joinpath(*parts[start:])):
                    return _relative(file, self.root)
        return ""

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(_composed(name).stem, self._by_stem, n=1)
        return f" (did you mean {self._by_stem[near[0]][0]}?)" if near else ""

    def _error(self, number: int, problem: str) -> FastSCNNError:
        return FastSCNNError(f"{self.path}: line {number} {problem}.")


def _columns(line: str) -> list[list[str]]:
    """Return the columns of a line by each separator, without numbers that follow in a third column or later."""
    found = []
    for separator in ("\t", ",", None):
        columns = [column.strip() for column in line.split(separator) if column.strip()]
        if len(columns) > _COLUMNS:
            while columns and columns[-1].isdecimal():
                columns.pop()
        found.append(columns)
    return found


def divided(images: Sequence[str], fractions: Mapping[str, float], seed: int) -> dict[str, tuple[str, ...]]:
    """Return the images of each split.

    The order depends on the seed and the names of the images only, and images that are added later leave nearly all others in
    their split.

    Args:
        images: paths of the images, relative to the root.
        fractions: split -> fraction of the images, above 0; together at most 1.
        seed: another seed divides them in another way.
    """
    order = sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image}".encode(errors="surrogateescape")).digest())
    divided, start = {}, 0.0
    for split, fraction in fractions.items():
        end = start + fraction
        divided[split] = tuple(sorted(order[round(start * len(order)) : round(min(end, 1) * len(order))]))
        start = end
    return divided


def _composed(path: str) -> PurePosixPath:
    return PurePosixPath(unicodedata.normalize("NFC", path))


def _common(one: PurePosixPath, other: PurePosixPath) -> int:
    """Return how many last parts of two paths are equal, without their suffixes; at least 1."""
    return 1 + count_equal(one.parts[-2::-1], other.parts[-2::-1])


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to the root, also with `..`: a copy of the dataset elsewhere must have the same names."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_posix()
