"""The ids of label files, and the file that names their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.class_rows import BACKGROUND, Row
from fastscnn.data.init.values import Values
from fastscnn.data.scaled_ids import even_step, step_of
from fastscnn.model.label_set import IGNORE_INDEX

_UNLABELLED = (IGNORE_INDEX, 65535)  # and ids below 0: values of pixels without a label, if no file names them


@dataclass(frozen=True)
class Ids:
    """The ids of a sample of label files.

    Attributes:
        values: the content of the files.
        used: the ids of classes, sorted.
        void: the other ids: below 0, 255 and 65535.
        levels: whether the ids divide 0 to 255 evenly, so that 255 is a class.
    """

    values: Values
    used: tuple[int, ...]
    void: tuple[int, ...]
    levels: bool


@dataclass(frozen=True)
class Fit:
    """The file that names the ids.

    Attributes:
        file: the file.
        rows: stored id -> class.
        which: what the ids are, for the sentence about the file.
        doubt: what is left open about it; "" if nothing is.
    """

    file: ClassFile
    rows: Mapping[int, Row]
    which: str = ""
    doubt: str = ""


def ids_of(values: Values, stored: Sequence[int]) -> Ids:
    """Return the ids of a sample of label files, from all stored ones, sorted."""
    positive = [one for one in stored if one >= 0]
    counts = range(len(positive), 2 * len(positive) + 1) if len(positive) > 2 else ()
    evenly = any(even_step(positive, count) for count in counts)
    void = [one for one in stored if one < 0 or (one in _UNLABELLED and not evenly)]
    return Ids(values, tuple(one for one in stored if one not in void), tuple(void), evenly)


def fitting(files: Sequence[ClassFile], ids: Ids) -> Fit | None:
    """Return the file whose classes fit the ids: by its own ids, or by positions: scaled, from 0, or from 1."""
    positive = sorted({*ids.used, *(one for one in ids.void if one >= 0)})
    plain = [one for one in positive if one not in _UNLABELLED]
    for file in files if plain else ():
        if own := _by_own_ids(file, plain):
            return own
    for file in files if len(positive) > 2 else ():
        for first in (0, 1):  # 1: 0 has no name
            if step := even_step(positive, len(file.rows) + first):
                return Fit(file, _scaled(file.rows, first, positive, step), "; the ids are their positions, scaled to 0 to 255")
    positions = [(file, _positions(file)) for file in files if not file.has_ids]
    lowest, highest = min(plain, default=0), max(plain, default=0)
    for file, names in positions:
        if highest < len(names) and not (lowest >= 1 and highest == len(names)):
            doubt = "" if not lowest or names[0].ignored or names[0].name.lower() in BACKGROUND else (
                f"{file.path} names the classes by position, counted from 0, but no label file that was read holds 0; if its "
                "first class has the id 1, set ignore = [0, 255], or change [map].")
            return Fit(file, dict(enumerate(names)), " by position, counted from 0", doubt)
    for file, names in positions:
        if highest == len(names):
            which = " by position; the ids begin with 1, since the highest is the number of names"
            return Fit(file, dict(enumerate(names, 1)), which)
    for file, names in positions if len(plain) > 2 else ():
        for first in (0, 1):
            if step := step_of(plain, len(names) + first):
                which = f"; the ids are their positions, multiplied by {step:g}"
                doubt = "" if highest == step * (len(names) + first - 1) else (
                    f"the ids are multiples of {step:g}, and taken as the positions of the names in {file.path}, of which no "
                    "label file that was read holds the last; compare the classes with the contact sheet.")
                return Fit(file, _scaled(names, first, plain, step), which, doubt)
    return None


def _scaled(rows: Sequence[Row], first: int, stored: Sequence[int], step: float) -> dict[int, Row]:
    """Return stored id -> class, where the position of a class, from `first`, times `step` is its id."""
    found = {round(one / step): one for one in stored}
    return {found.get(place, round(place * step)): row for place, row in enumerate(rows, first)}


def _by_own_ids(file: ClassFile, plain: Sequence[int]) -> Fit | None:
    """Return the classes by the ids, or the train ids, that a file states, if they fit."""
    ids, train = file.by_id, file.by_train_id
    fits, train_fits = ({0, *known} >= set(plain) if known else False for known in (ids, train))
    if not fits and not train_fits:
        return None
    both = fits and train_fits and any(ids.get(one) != train.get(one) for one in plain)
    if not fits or (both and set(plain) == set(train) != set(ids)):
        rows, used, other = train, "train ids", "ids"
    else:
        rows, used, other = ids, "ids", "train ids"
    doubt = "" if not both else (
        f"{file.path} states ids and train ids, and both fit the label files; the {used} are used. If the label files hold the "
        f"{other}, remove the {used} from it and run `fastscnn dataset init --force`.")
    which = f" by the {used} that it states{'; they begin with 1' if min(rows) == 1 else ''}"
    return Fit(file, rows, which, doubt)


def _positions(file: ClassFile) -> list[Row]:
    """Return the rows that have a position; labelme's __ignore__ has none."""
    return [row for row in file.rows if row.name.lower() not in ("__ignore__", "_ignore_")]
