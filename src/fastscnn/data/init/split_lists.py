"""Lists of images that divide a dataset into splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init import words
from fastscnn.data.init.sentences import listed, number
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.lists import ListFile
from fastscnn.media import images as media

_ORDER = ("train", "trainval", "val", "test")
_LISTS = (".txt", ".csv", ".lst", ".list")
_HEAD = 50  # lines that decide whether a file is a list
_MOSTLY = 0.8  # least share of lines that name an image
_MOST_OTHERS = 20  # files without the name of a split that are looked at


@dataclass(frozen=True)
class Lists:
    """The lists that divide a dataset.

    Attributes:
        paths: split -> its list.
        files: split -> its images with their label files, "" if the list has none.
        broken: the splits whose list has lines that name no image; `files` has the others.
        said: sentences about lists, and lines of lists, that are not used.
    """

    paths: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]
    broken: frozenset[str]
    said: tuple[str, ...]


def lists_of(survey: Survey, images: Collection[str]) -> Lists:
    """Return the lists that choose from these images."""
    named, others = _named(survey, sorted(images))
    found = _disjoint(survey, named, sorted(images))
    if not others:
        return found
    said = f"Not used: {listed(others)}. Only lists named train, val or test are used; copy those of one fold to these names."
    return replace(found, said=(*found.said, said))


def lists_with_labels(survey: Survey) -> Lists:
    """Return the lists with an image and its label file in each line, as of PaddleSeg."""
    return _disjoint(survey, _named(survey, ())[0], ())


def _named(survey: Survey, images: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return split -> list, of the folder with lists named as splits that suits best; and the lists without a split."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    others: list[str] = []
    stems = {PurePosixPath(path).stem for path in survey.of(*media.SUFFIXES)}
    for path in survey.of(*_LISTS):
        name = words.split_of(PurePosixPath(path).stem)
        if name:
            if _is_list(survey, path, images):
                by_folder[str(PurePosixPath(path).parent)].setdefault(name, path)
        elif images and PurePosixPath(path).stem not in stems and len(others) < _MOST_OTHERS:
            others.append(path)
    return _best(by_folder), [path for path in others if _is_part(survey, path, images)]


def _best(by_folder: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the lists of the folder that has most of them; of VOC's, the one for segmentation."""

    def rank(folder: str) -> tuple[bool, int, int]:
        return "segmentation" in folder.lower(), len(by_folder[folder]), -len(folder)

    chosen = dict(by_folder[max(by_folder, key=rank)]) if by_folder else {}
    if "train" in chosen or "val" in chosen:
        chosen.pop("trainval", None)  # it holds the images of both
    return chosen


def _disjoint(survey: Survey, chosen: Mapping[str, str], images: Sequence[str]) -> Lists:
    """Return the lists that share no images, without the lines that name none."""
    paths, files, broken, said, seen = {}, {}, set(), [], set[str]()
    for name in sorted(chosen, key=_ORDER.index):
        path = chosen[name]
        split = "train" if name == "trainval" else name
        file = ListFile(survey.root / path, survey.root, images)
        found, missed = file.fitting()
        if missed:
            first = f"line {missed[0][0]}, {missed[0][1]!r}"
            lines = number(len(missed), "line")
            said.append(f"{lines} of the list {path} not used, such as {first}: no image with labels has this name, or an "
                        "earlier line names it.")
            broken.add(split)
        if found.keys() & seen:
            shared = number(len(found.keys() & seen), "image")
            said.append(f"The list {path} is not used: it shares {shared} with another list. Remove them from one of "
                        "the lists, and run this command again with --force.")
            broken.discard(split)
            continue
        seen |= found.keys()
        paths[split], files[split] = path, found
    return Lists(paths, files, frozenset(broken), tuple(said))


def _is_list(survey: Survey, path: str, images: Sequence[str]) -> bool:
    """Return whether most lines of a file name one of the images; if `images` is empty, an image and its label file."""
    try:
        found, missed = ListFile(survey.root / path, survey.root, images).fitting(_HEAD)
    except FastSCNNError:
        return False
    if not found or len(found) < _MOSTLY * (len(found) + len(missed)):
        return False
    return bool(images) or all(PurePosixPath(labels).suffix.lower() in (*media.SUFFIXES, *ARRAYS) for labels in found.values())


def _is_part(survey: Survey, path: str, images: Sequence[str]) -> bool:
    """Return whether a file lists some of the images, not all."""
    return _is_list(survey, path, images) and len(
        ListFile(survey.root / path, survey.root, images).fitting()[0]) < len(images)
