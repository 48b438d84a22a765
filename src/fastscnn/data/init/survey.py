"""Survey: the files in a folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from fastscnn.media import images

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
    """

    root: Path
    files: tuple[str, ...]
    own: frozenset[str] = frozenset()

    def of(self, *suffixes: str) -> list[str]:
        """Return the files with one of these suffixes, in any case."""
        return [file for file in self.files if PurePosixPath(file).suffix.lower() in suffixes]

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


def survey(root: Path) -> Survey:
    """Return the files in a folder, in one pass. Linked folders are followed once."""
    own = _own(root / f"{OURS}.toml")
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
    present = set(files)
    return Survey(root, tuple(sorted(path for path in files if not _is_result(path, present))), own)


def _is_result(path: str, files: Set[str]) -> bool:
    """Return whether `segment` wrote this file, and it holds no labels or labels that are in annotations as well."""
    if not path.endswith(_LABELS):
        return path.endswith(_OTHER_RESULTS)
    folders = [folder.as_posix() for folder in PurePosixPath(path).parents]
    annotations = (f"{path.removesuffix(_LABELS)}.json", *(
        file if folder == "." else f"{folder}/{file}" for folder in folders for file in ("coco.json", "yolo/data.yaml")))
    return any(file in files for file in annotations)


def _own(path: Path) -> frozenset[str]:
    """Return the files that `dataset init` wrote beside a dataset.toml; none if it did not write it."""
    try:
        first = path.read_bytes().partition(b"\n")[0].decode()
        names = json.loads(first.removeprefix(MARK)) if first.startswith(MARK) else []
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
