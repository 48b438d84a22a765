"""Lists of images that divide a dataset into splits."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text
from fastscnn.data.init import words
from fastscnn.data.init.sentences import number
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.lists import ListFile
from fastscnn.media import images as media

_ORDER = ("train", "trainval", "val", "test")
_LISTS = (".txt", ".csv", ".lst", ".list")
_HEAD = 50  # lines that decide whether a file is a list
_MOSTLY = 0.8  # least share of lines that name an image


@dataclass(frozen=True)
class Lists:
    """The lists that divide a dataset.

    Attributes:
        paths: split -> its list.
        files: split -> its images with their label files, "" if the list has none.
        dropped: sentences about lists that are not used.
    """

    paths: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]
    dropped: tuple[str, ...]


def lists_of(survey: Survey, images: set[str]) -> Lists:
    """Return the lists that choose from these images."""
    return _disjoint(survey, _named(survey, lambda path: _is_list(survey, path, images)), sorted(images))


def lists_with_labels(survey: Survey) -> Lists:
    """Return the lists with an image and its label file in each line, as of PaddleSeg."""
    return _disjoint(survey, _named(survey, lambda path: _has_columns(survey, path)), ())


def _named(survey: Survey, is_list: Callable[[str], bool]) -> dict[str, str]:
    """Return split -> list of the files that are named as splits and are lists, from the folder that suits best."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for path in survey.of(*_LISTS):
        name = words.split_of(PurePosixPath(path).stem)
        if name and is_list(path):
            by_folder[str(PurePosixPath(path).parent)].setdefault(name, path)
    return _best(by_folder)


def _best(by_folder: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the lists of the folder that has most of them; of VOC's, the one for segmentation."""

    def rank(folder: str) -> tuple[bool, int, int]:
        return "segmentation" in folder.lower(), len(by_folder[folder]), -len(folder)

    chosen = dict(by_folder[max(by_folder, key=rank)]) if by_folder else {}
    if "train" in chosen or "val" in chosen:
        chosen.pop("trainval", None)  # it holds the images of both
    return chosen


def _disjoint(survey: Survey, chosen: Mapping[str, str], images: Sequence[str]) -> Lists:
    """Return the lists that can be read and share no images."""
    paths, files, dropped, seen = {}, {}, [], set[str]()
    for name in sorted(chosen, key=_ORDER.index):
        path = chosen[name]
        try:
            listed = dict(ListFile(survey.root / path, survey.root, images).read())
        except FastSCNNError as error:
            dropped.append(f"The list {path} is not used: {error}")
            continue
        if listed.keys() & seen:
            shared = number(len(listed.keys() & seen), "image")
            dropped.append(f"The list {path} is not used: it shares {shared} with another list.")
            continue
        seen |= listed.keys()
        split = "train" if name == "trainval" else name
        paths[split], files[split] = path, listed
    return Lists(paths, files, tuple(dropped))


def _has_columns(survey: Survey, path: str) -> bool:
    """Return whether each line has an image and its label file."""
    try:
        listed = ListFile(survey.root / path, survey.root).read()
    except FastSCNNError:
        return False
    return all(PurePosixPath(labels).suffix.lower() in (*media.SUFFIXES, *ARRAYS) for _, labels in listed)


def _is_list(survey: Survey, path: str, images: set[str]) -> bool:
    try:
        lines = [line.strip() for line in unicodedata.normalize("NFC", text.read(survey.root / path)).splitlines()]
    except FastSCNNError:
        return False
    lines = [line for line in lines if line and not line.startswith("#")]
    sample = lines[:_HEAD]
    paths = [PurePosixPath(unicodedata.normalize("NFC", image)) for image in images]
    stems = {path.stem for path in paths} | {path.name for path in paths}
    hits = sum(any(_last(cell) in stems for cell in (line, *line.replace(",", " ").split())) for line in sample)
    return bool(sample) and hits >= _MOSTLY * len(sample)


def _last(text: str) -> str:
    return text.replace("\\", "/").rpartition("/")[2]
