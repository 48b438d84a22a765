"""The images that a label file lists, found by the path of an image."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import takewhile
from operator import eq
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.files import is_file
from fastscnn.media.decoding import SUFFIXES

Entry = TypeVar("Entry")
_Rank = tuple[bool, bool, int]


class Listing(Generic[Entry]):
    """The images of a label file.

    Args:
        path: the label file, for errors.
        entries: (image name, entry). A name may have folders, with `/` or `\\`, or be a URL. Several names may have one entry.
        names: the class names that the file declares, each with the number of its shapes, 0 if they are not counted.

    Attributes:
        entries: each entry once, in the order of the file.
        names: as given.

    Raises:
        FastSCNNError: two entries of equal name.
    """

    def __init__(self, path: Path, entries: Iterable[tuple[str, Entry]], names: Mapping[str, int] | None = None) -> None:
        self.names = names or {}
        self._path = path
        self._entries: dict[int, tuple[str, Entry]] = {}  # id of an entry -> its first name, and the entry itself
        self._by_base: dict[str, dict[tuple[str, ...], Entry]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name, entry in entries:
            parts = _parts(name)
            if not parts:
                raise FastSCNNError(f"{path}: lists an image without a file name; export it again.")
            if parts[-1] not in self._by_base:
                self._by_stem.setdefault(_stem(parts[-1]), []).append(parts[-1])
            same = self._by_base.setdefault(parts[-1], {})
            if same.setdefault(parts, entry) is not entry:
                raise FastSCNNError(f"{path}: lists the image {name!r} twice; keep one of the two entries.")
            self._entries.setdefault(id(entry), (name, entry))

    @property
    def entries(self) -> list[Entry]:
        """Each entry once, in the order of the file."""
        return [entry for _, entry in self._entries.values()]

    def without(self, images: Iterable[Path]) -> list[str]:
        """Return the names of the entries that are of none of these images."""
        left = dict(self._entries)
        for image in images:
            with contextlib.suppress(FastSCNNError):
                left.pop(id(self.find(image)), None)
        return [name for name, _ in left.values()]

    def find(self, image: Path) -> Entry:
        """Return the entry of an image; see `match`."""
        return self.match(image)[0]

    def match(self, image: Path) -> tuple[Entry, _Rank]:
        """Return the entry of an image, and how well its name fits: suffix and all, its whole path, number of last parts.

        A name whose whole path ends the image's path comes first, else the base name counts. Of several images with this base
        name, the one that shares the most folders from the end is meant. If the file lists no such base name, it may list the
        image with another suffix, without one, or with a query behind it.

        Raises:
            FastSCNNError: no such image, or several that the path cannot tell apart; it names them.
        """
        wanted = _parts(image.as_posix())
        bases = [wanted[-1]] if wanted[-1] in self._by_base else self._by_stem.get(_stem(wanted[-1]), [])
        if not bases:
            raise FastSCNNError(f"{self._path}: does not list the image {image}; annotate the image, or remove it from the "
                                "split.")
        same = {parts: entry for base in bases for parts, entry in self._by_base[base].items()}
        ranks = {parts: _rank(parts, wanted) for parts in same}
        best = [parts for parts in same if ranks[parts] == max(ranks.values())]
        if any(same[parts] is not same[best[0]] for parts in best):
            names = " and ".join(repr("/".join(parts)) for parts in best[:2])
            fix = "rename the folders as they are" if bases == [wanted[-1]] else "give the image the name that it has"
            raise FastSCNNError(f"{self._path}: lists {names}, and the path of {image} fits both; {fix} in the label file.")
        base = best[0][-1]
        if base != wanted[-1] and (twin := _twin(image, base)):
            raise FastSCNNError(f"{self._path}: lists the image {base!r}, which may be {image} or {twin.name} beside it; "
                                "remove or rename one of the two images.")
        return same[best[0]], ranks[best[0]]


def normalised(path: str) -> str:
    """Return a path with `/`, and composed (NFC), since macOS decomposes accents in file names."""
    return unicodedata.normalize("NFC", path).replace("\\", "/")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in normalised(name).split("/") if part not in ("", "."))


def _stem(base: str) -> str:
    """Return a file name without a query and without the suffix of an image."""
    path = PurePosixPath(base.partition("?")[0])
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _twin(image: Path, base: str) -> Path | None:
    """Return another file beside an image that a listed file name without equal may mean, too."""
    bare = base.partition("?")[0]
    names = [bare] if PurePosixPath(bare).suffix.lower() in SUFFIXES else [image.stem + suffix for suffix in sorted(SUFFIXES)]
    others = (image.with_name(name) for name in names if name != image.name)
    return next((other for other in others if is_file(other)), None)


def _rank(parts: tuple[str, ...], wanted: tuple[str, ...]) -> _Rank:
    """Return whether the file names are equal, whether the whole of `parts` ends `wanted`, and how many last parts fit."""
    shared = 1 + count_equal(parts[-2::-1], wanted[-2::-1])
    return parts[-1] == wanted[-1], shared == len(parts), shared


def count_equal(one: Iterable[str], other: Iterable[str]) -> int:
    """Return how many first parts of two paths are equal. Reversed parts count from the end."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))
