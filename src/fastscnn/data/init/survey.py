"""Survey: the files in a folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images

_T = TypeVar("_T")
ARRAYS = (".npy", ".mat")
MARK = "# Written by `fastscnn dataset init` with "  # begins the first line of dataset.toml; behind it, file names in JSON
OURS = "dataset"  # dataset.toml, the contact sheet dataset.jpg and the lists dataset-SPLIT.txt
_LABELS = ".labels.png"  # of `segment`, which writes annotations of the same labels if asked
_OTHER_RESULTS = (".overlay.jpg", ".confidence.png", ".ood.png")  # of `segment`, too


@dataclass(frozen=True)
class Survey:
    """The files in a folder.

    Left out are hidden files and folders, files that `dataset init` wrote earlier, and what `segment` wrote beside its labels;
    if it wrote annotations, its labels too, since people correct the annotations.

    Attributes:
        root: the folder.
        files: paths relative to it, with forward slashes, sorted.
        own: the files that `dataset init` wrote earlier beside dataset.toml. They may be overwritten.
        progress: called with (files done, all files) while files are read; each step of the work begins anew.
    """

    root: Path
    files: tuple[str, ...]
    own: frozenset[str] = frozenset()
    progress: Callable[[int, int], None] = field(default=lambda done, total: None, compare=False, repr=False)

    def of(self, *suffixes: str) -> list[str]:
        """Return the files with one of these suffixes, in any case."""
        return [file for file in self.files if PurePosixPath(file).suffix.lower() in suffixes]

    def tracked(self, things: Sequence[_T]) -> Iterator[_T]:
        """Yield the things, and report progress."""
        for done, thing in enumerate(things):
            self.progress(done, len(things))
            yield thing
        self.progress(len(things), len(things))

    @cached_property
    def pixels(self) -> list[str]:
        """The files that may be images or label files: images, .npy and .mat."""
        return self.of(*images.SUFFIXES, *ARRAYS)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder below the root that contains a file, at any depth."""
        return frozenset(str(folder) for file in self.files for folder in PurePosixPath(file).parents)

    def summary(self) -> str:
        """Return what was seen, for messages: "12 .jpg in images/train; 12 .png in labels/train"."""
        if not self.files:
            return "no files"
        seen = Counter((str(PurePosixPath(file).parent), PurePosixPath(file).suffix.lower()) for file in self.files)
        shown = [f"{count} {suffix or 'without suffix'} in {'it' if folder == '.' else folder}"
                 for (folder, suffix), count in seen.most_common(6)]
        return "; ".join(shown) + (f"; and {len(seen) - 6} more kinds" if len(seen) > 6 else "")


def survey(root: Path, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Return the files in a folder, in one pass. Linked folders are followed once.

    Raises:
        FastSCNNError: an image or array whose name dataset.toml and lists cannot hold. Other such files are left out.
    """
    own = own_files(root / f"{OURS}.toml")
    files: list[str] = []
    visited: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        place = Path(folder).relative_to(root).as_posix()
        found = (name if place == "." else f"{place}/{name}" for name in names if not name.startswith("."))
        files += [path for path in found if path not in own]
    wrong = [path for path in files if not _is_text(path)]
    for path in Survey(root, tuple(wrong)).pixels:
        raise FastSCNNError(f"{root / ascii(path)[1:-1]}: its name contains a line break, or is not UTF-8, as from an archive "
                            "of another system; rename it.")
    present = set(files) - set(wrong)
    kept = sorted(path for path in present if not _is_result(path, present))
    return Survey(root, tuple(kept), own, progress or (lambda done, total: None))


def _is_text(path: str) -> bool:
    """Return whether a path is valid UTF-8, in one line."""
    return path.splitlines() == [path] and path.encode(errors="replace").decode() == path


def _is_result(path: str, files: Set[str]) -> bool:
    """Return whether `segment` wrote this file, and it holds no labels or labels that are in annotations as well."""
    if not path.endswith(_LABELS):
        return path.endswith(_OTHER_RESULTS)
    folders = [folder.as_posix() for folder in PurePosixPath(path).parents]
    annotations = (f"{path.removesuffix(_LABELS)}.json", *(
        file if folder == "." else f"{folder}/{file}" for folder in folders for file in ("coco.json", "yolo/data.yaml")))
    return any(file in files for file in annotations)


def own_files(path: Path) -> frozenset[str]:
    """Return the files that `dataset init` wrote beside a dataset.toml; none if it did not write it."""
    try:
        first = path.read_bytes().partition(b"\n")[0].decode()
        names = json.loads(first.removeprefix(MARK)) if first.startswith(MARK) else []
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
