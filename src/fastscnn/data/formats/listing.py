"""The images that a label file lists, found by the path of an image."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Generic, TypeVar

from fastscnn.base.errors import FastSCNNError

Entry = TypeVar("Entry")


class Listing(Generic[Entry]):
    """The images of a label file.

    Args:
        path: the label file, for errors.
        entries: (image name, entry). A name may have folders, with `/` or `\\`. Several names may have one entry.

    Raises:
        FastSCNNError: two entries of equal name.
    """

    def __init__(self, path: Path, entries: Iterable[tuple[str, Entry]]) -> None:
        self._path = path
        self._names: dict[int, tuple[str, Entry]] = {}  # id of an entry -> its first name, and the entry itself
        self._by_base: dict[str, dict[tuple[str, ...], Entry]] = {}
        for name, entry in entries:
            parts = _parts(name)
            if not parts:
                raise FastSCNNError(f"{path}: lists an image without a file name; export it again.")
            same = self._by_base.setdefault(parts[-1], {})
            if same.setdefault(parts, entry) is not entry:
                raise FastSCNNError(f"{path}: lists the image {name!r} twice; keep one of the two entries.")
            self._names.setdefault(id(entry), (name, entry))

    def without(self, images: Iterable[Path]) -> list[str]:
        """Return the names of the entries that are of none of these images."""
        left = dict(self._names)
        for image in images:
            with contextlib.suppress(FastSCNNError):
                left.pop(id(self.find(image)), None)
        return [name for name, _ in left.values()]

    def find(self, image: Path) -> Entry:
        """Return the entry of an image; see `match`."""
        return self.match(image)[0]

    def match(self, image: Path) -> tuple[Entry, tuple[bool, int]]:
        """Return the entry of an image, and how well its name fits: whether all of it, and how many parts from the end.

        A name whose whole path ends the image's path comes first, else the base name counts. Of several images with this base
        name, the one that shares the most folders from the end is meant.

        Raises:
            FastSCNNError: no such image, or several that the path cannot tell apart; it names them.
        """
        wanted = _parts(image.as_posix())
        same = self._by_base.get(wanted[-1], {})
        if not same:
            raise FastSCNNError(f"{self._path}: does not list the image {image}; annotate the image, or remove it from the "
                                "split.")
        ranks = {parts: _rank(parts, wanted) for parts in same}
        best = [parts for parts in same if ranks[parts] == max(ranks.values())]
        if any(same[parts] is not same[best[0]] for parts in best):
            names = " and ".join(repr("/".join(parts)) for parts in best[:2])
            raise FastSCNNError(f"{self._path}: lists {names}, and the path of {image} fits both; rename the folders as they "
                                "are in the label file.")
        return same[best[0]], ranks[best[0]]


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path, composed (NFC), since macOS decomposes accents in file names."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", "."))


def _rank(parts: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[bool, int]:
    """Return whether the whole of `parts` ends `wanted`, and how many parts are equal, from the end."""
    shared = count_equal(reversed(parts), reversed(wanted))
    return shared == len(parts), shared


def count_equal(one: Iterable[str], other: Iterable[str]) -> int:
    """Return how many first parts of two paths are equal. Reversed parts count from the end."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))
