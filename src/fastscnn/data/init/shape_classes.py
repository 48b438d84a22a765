"""The classes of shapes: their names, and what pixels without a shape are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.class_files import ClassFile, class_files
from fastscnn.data.init.class_rows import BACKGROUND, IGNORED
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.pairing import Pair
from fastscnn.data.init.sentences import NOT_LEARNED, alike, ignored, listed, percent
from fastscnn.data.init.shape_files import Kind
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet

_MEASURED = 12  # images whose uncovered pixels are counted
_COVERED = 0.98  # share of the pixels from which the others are taken for unlabelled ones


def classes_of_shapes(survey: Survey, kind: Kind, names: Mapping[str, int], pairs: Sequence[Pair], read: str) -> Classes:
    """Return the classes of stored names, and what pixels without a shape are."""
    used = [name for name, count in names.items() if count]
    unused = [name for name, count in names.items() if not count]
    if not used:
        raise FastSCNNError(f"{survey.root / pairs[0].labels}: has no shapes, so there are no classes; annotate the images.")
    guessed = [f"The {'numbers' if kind.labels_are == 'yolo' else 'names'} of the shapes are the classes ({read})."]
    left_open: list[str] = []
    if unused:
        guessed.append(f"Not used by any shape, and left out: {', '.join(unused)}.")
    found, unread = class_files(survey)
    guessed += unread
    named = _yolo_names(used, found, guessed, left_open) if kind.labels_are == "yolo" else _ordered(kind, used, found, guessed)
    to = {stored: "ignore" if name.lower() in IGNORED else name for stored, name in named.items()}
    if void := [name for stored, name in named.items() if to[stored] == "ignore"]:
        guessed.append(ignored(void))
    classes = list(dict.fromkeys(name for name in to.values() if name != "ignore"))
    background, classes = _background(survey, kind, to, classes, pairs, guessed)
    mapped = to if void or kind.labels_are == "yolo" else {}
    colours, source = _colours(classes, found)
    guessed += [f"{source} gives the colours."] if source else []
    left_open += alike(classes, numbered=kind.labels_are != "yolo")
    return Classes(tuple(classes), kind.labels_are, colours, {"background": background}, mapped,
                   tuple(guessed), tuple(left_open))


def _ordered(kind: Kind, used: Sequence[str], files: Sequence[ClassFile], guessed: list[str]) -> dict[str, str]:
    """Return the names in the order of a file that has them all, else as they are.

    The file that LabelMe takes the classes from gives all of them, so that a network keeps its classes.
    """
    for file in files:
        rows = [row.name for row in file.rows]
        if set(used) <= set(rows):
            guessed.append(f"{file.path} gives their order.")
            own = kind.labels_are == "labelme" and PurePosixPath(file.path).name == "labels.txt"
            listed_only = [name for name in rows if name not in used and name.lower() not in IGNORED and name[0] != "_"]
            unused = listed_only if own else []  # without LabelMe's __ignore__ and _background_
            if unused:
                guessed.append(f"No shape that was read has {listed(unused)}; {NOT_LEARNED}.")
            return {name: name for name in rows if name in used or name in unused}
    return {name: name for name in used}


def _yolo_names(used: Sequence[str], files: Sequence[ClassFile], guessed: list[str], left_open: list[str]) -> dict[str, str]:
    """Return number -> name of YOLO's classes."""
    highest = max(map(int, used))
    for file in sorted(files, key=lambda file: not file.path.lower().endswith((".yaml", ".yml"))):
        rows = {row.id if file.has_ids and row.id is not None else place: row.name for place, row in enumerate(file.rows)}
        if set(map(int, used)) <= rows.keys():
            by = "by the ids that it states" if file.has_ids else "by position, counted from 0"
            guessed.append(f"{file.path} names the classes {by}.")
            if unused := [name for number, name in sorted(rows.items()) if str(number) not in used]:
                guessed.append(f"No shape that was read has {listed(unused)}; {NOT_LEARNED}.")
            return {str(number): name for number, name in sorted(rows.items())}
    left_open.append("no data.yaml names the classes; write the names of the classes in `classes` and in [map].")
    return {str(number): f"class {number}" for number in range(highest + 1)}


def _background(
    survey: Survey, kind: Kind, to: Mapping[str, str], classes: list[str], pairs: Sequence[Pair], guessed: list[str]
) -> tuple[str, list[str]]:
    """Return the class of pixels without a shape, or "ignore", and all classes with it."""
    own = next((name for name in classes if name.lower() in BACKGROUND), None)
    if own and kind.labels_are != "coco-panoptic":
        guessed.append(f"Pixels without a shape are taken as {own}.")
        return own, classes
    covered = _covered(survey, kind, to, classes, pairs)
    if covered >= _COVERED or kind.labels_are == "coco-panoptic":  # there, 0 means not labelled
        guessed.append(f"{percent(1 - covered)} of the pixels are without a shape, and are ignored.")
        return "ignore", classes
    guessed.append(f"{percent(1 - covered)} of the pixels are without a shape, and are taken as a class of their own; if they "
                   'are not labelled, remove "background" from `classes` and set background = "ignore".')
    return "background", ["background", *classes]


def _covered(survey: Survey, kind: Kind, to: Mapping[str, str], classes: Sequence[str], pairs: Sequence[Pair]) -> float:
    """Return the share of pixels with a shape, in a sample of the images that can be read."""
    labels = kind.make({stored: classes.index(name) if name in classes else 0 for stored, name in to.items()})
    label_set = LabelSet(tuple(classes))
    shares = []
    by_image = {pair.image: pair for pair in pairs}
    for image in survey.tracked(spread(list(by_image), _MEASURED)):
        try:
            read = labels.read(survey.root / by_image[image].labels, survey.root / image, label_set)
        except FastSCNNError:
            continue  # reported when the guess is tried
        shares.append(float(np.mean(read.labels != IGNORE_INDEX)))
    return float(np.mean(shares)) if shares else 0.0


def _colours(classes: Sequence[str], files: Sequence[ClassFile]) -> tuple[tuple[Colour, ...], str]:
    """Return the colours that a file gives to all classes, black for the background, and the file; () if none does."""
    for file in files:
        known = {"background": (0, 0, 0)} | {row.name: row.colour for row in file.rows if row.colour}
        colours = [known[name] for name in classes if name in known]
        if file.has_colours and len(colours) == len(classes) == len(set(colours)):
            return tuple(colours), file.path
    return (), ""
