"""The splits of a folder: from lists, from folders, else by fractions."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text
from fastscnn.data.init import words
from fastscnn.data.init.guess import SEED, list_name
from fastscnn.data.init.pairing import Pair
from fastscnn.data.init.places import Place, chosen, place
from fastscnn.data.init.sentences import number, percent
from fastscnn.data.init.sequences import by_sequence, frames
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.lists import ListFile
from fastscnn.media import images as media

FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.2}
_ALL = "all"
_ORDER = ("train", "trainval", "val", "test")
_LISTS = (".txt", ".csv", ".lst", ".list")
_HEAD = 50  # lines that decide whether a file is a list
_MOSTLY = 0.8  # least share of lines that name an image


@dataclass(frozen=True)
class Splits:
    """The splits, and sentences about what was guessed and what is left open."""

    places: Mapping[str, Place]
    guessed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()


def splits_of(survey: Survey, pairs: Sequence[Pair]) -> Splits:
    """Return the splits of pairs of image and label files."""
    made = place(survey, pairs)
    dropped: tuple[str, ...] = ()
    if not made.listed or made.images:
        found, dropped = lists_of(survey, {pair.image for pair in pairs})
        if found:
            return Splits({name: replace(made, list=path, listed=()) for name, (path, _) in found.items()},
                          (_said_lists(found), *_said_missing(found), *dropped), _without(pairs, found))
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.split].append(pair)
    places = {name: place(survey, group) for name, group in groups.items()}
    images = {name: [pair.image for pair in group] for name, group in groups.items()}
    return by_folder(survey, places, images, made, dropped)


def by_folder(
    survey: Survey, places: Mapping[str, Place], images: Mapping[str, Sequence[str]], whole: Place, dropped: Sequence[str] = (),
    *, of: str = "folders",
) -> Splits:  # fmt: skip
    """Return splits by folders, or divide the images if the folders name fewer than two.

    Args:
        survey: the files.
        places: split that the folders name, "" for none -> its files.
        images: split -> its images.
        whole: all files.
        dropped: sentences about lists that are not used.
        of: what names the splits.
    """
    named = {name: found for name, found in places.items() if name}
    if len(named) < 2:
        made = divided(survey, whole, sorted(image for found in images.values() for image in found), next(iter(named), ""))
        return replace(made, guessed=(*made.guessed, *dropped))
    order = [*(name for name in _ORDER if name in named), *(name for name in named if name not in _ORDER)]
    left_open = []
    if "" in places:
        rest = number(len(images[""]), "image")
        left_open.append(f"the {of} of the splits leave out {rest} with labels; move them into one, or remove them.")
    found = {name: named[name] for name in order}
    guessed = [f"The splits {', '.join(order)} are those of the {of}.", *_said_missing(found), *_said_written(found)]
    return Splits(found, (*guessed, *dropped), tuple(left_open))


def divided(survey: Survey, whole: Place, images: Sequence[str], only: str, lines: Sequence[str] = ()) -> Splits:
    """Divide images into train and val: frames of videos by sequences, other images by fractions.

    Args:
        survey: the files.
        whole: all files.
        images: all images.
        only: the only split that folders or lists name; "" if they name none.
        lines: of a list of all images with their label files, if `whole` names a list.
    """
    why = f"The only split with labels is {only}" if only else "Neither folders nor lists divide the images"
    if len(images) == 1:
        return Splits({"train": whole}, tuple(_said_written({"train": whole})), (
            "there is one image with labels, so there is no split val; add images, and run this command again with --force.",))
    sequences = frames(survey, images)
    if not sequences:
        fractions = FRACTIONS if len(images) > 2 else dict.fromkeys(FRACTIONS, 0.5)
        found = {_ALL: replace(whole, fractions=fractions)}
        shares = ", ".join(f"{name} {percent(value)}" for name, value in fractions.items())
        said = f"{why}, so they are divided at random: {shares}, seed {SEED}."
        return Splits(found, (said, *_said_written(found)))
    parts, count = by_sequence(sequences, FRACTIONS)
    found = {name: chosen(Place((), "", tuple(lines)) if lines else whole, part) for name, part in parts.items()}
    share = percent(len(parts["val"]) / len(images))
    how = (f"{count} of {len(sequences)} sequences {'is' if count == 1 else 'are'} val ({share} of the images)" if count else
           f"the last {percent(FRACTIONS['val'])} of each of {len(sequences)} sequences are val" if len(sequences) > 1 else
           f"the last {share} are val")
    return Splits(found, (
        f"{why}. The names are numbered and neighbours look alike, as frames of videos do. At random, val would hold "
        f"neighbours of images in train, and its scores would be too high. So {how}.",
        f"The images are listed in {' and '.join(map(list_name, found))}; add new images there."))


def _said_written(places: Mapping[str, Place]) -> list[str]:
    lists = [list_name(name) for name, place in places.items() if place.listed]
    why = "since patterns alone match other files, too, or do not fit the names; add new images there."
    return [f"The images are listed in {' and '.join(lists)}, {why}"] if lists else []


def _said_missing(names: Collection[str]) -> list[str]:
    """Return the sentence about splits that training uses by default."""
    said = []
    if "train" not in names:
        said.append(f"There is no split train; train with --split {next(iter(names))}.")
    if "val" not in names:
        others = [name for name in names if name != "train"]
        said.append(f"There is no split val; `fastscnn train` needs --validation {' or '.join((*others, 'none'))}.")
    return said


def _said_lists(found: Mapping[str, tuple[str, int]]) -> str:
    return "The splits are those of lists: " + ", ".join(f"{name} of {path}" for name, (path, _) in found.items()) + "."


def _without(pairs: Sequence[Pair], found: Mapping[str, tuple[str, int]]) -> tuple[str, ...]:
    rest = len(pairs) - sum(count for _, count in found.values())
    return (f"the lists leave out {number(rest, 'image')} with labels; add them to one, or remove them.",) if rest > 0 else ()


def lists_of(survey: Survey, images: set[str]) -> tuple[dict[str, tuple[str, int]], tuple[str, ...]]:
    """Return split -> (list, number of images) of the lists that choose from these images, and sentences about others."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for path in survey.of(*_LISTS):
        name = words.split_of(PurePosixPath(path).stem)
        if name and _is_list(survey, path, images):
            by_folder[str(PurePosixPath(path).parent)].setdefault(name, path)
    found, dropped = _disjoint(survey, _best(by_folder), sorted(images))
    return {name: (path, len(listed)) for name, (path, listed) in found.items()}, dropped


def pairs_in_lists(survey: Survey) -> tuple[Splits | None, list[str]]:
    """Return the splits of lists with an image and its label file in each line, and the label files; None if there are none."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for path in survey.of(*_LISTS):
        name = words.split_of(PurePosixPath(path).stem)
        if name and _has_columns(survey, path):
            by_folder[str(PurePosixPath(path).parent)].setdefault(name, path)
    found, dropped = _disjoint(survey, _best(by_folder), ())
    if not found:
        return None, []
    labels = [file for _, listed in found.values() for file in listed.values()]
    counts = {name: (path, len(listed)) for name, (path, listed) in found.items()}
    if len(found) == 1:
        (name, (path, listed)), = found.items()
        lines = [f"{image}\t{file}" for image, file in listed.items()]
        made = divided(survey, Place((), "", list=path), sorted(listed), name, lines)
        return replace(made, guessed=(*made.guessed, *dropped)), labels
    places = {name: Place((), "", list=path) for name, (path, _) in found.items()}
    return Splits(places, (_said_lists(counts), *_said_missing(places), *dropped)), labels


def _best(by_folder: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the lists of the folder that has most of them; of VOC's, the one for segmentation."""

    def rank(folder: str) -> tuple[bool, int, int]:
        return "segmentation" in folder.lower(), len(by_folder[folder]), -len(folder)

    chosen = dict(by_folder[max(by_folder, key=rank)]) if by_folder else {}
    if "train" in chosen or "val" in chosen:
        chosen.pop("trainval", None)  # it holds the images of both
    return chosen


def _disjoint(
    survey: Survey, chosen: Mapping[str, str], images: Sequence[str]
) -> tuple[dict[str, tuple[str, dict[str, str]]], tuple[str, ...]]:
    """Return split -> (list, its images with label files) of lists that share no images, and sentences about others."""
    found, dropped, seen = {}, [], set[str]()
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
        found["train" if name == "trainval" else name] = (path, listed)
    return found, tuple(dropped)


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
