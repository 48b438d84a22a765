"""The classes of label files that hold ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init import known, known_ids
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.id_files import Fit, Ids, fitting, ids_of
from fastscnn.data.init.mask_classes import BLENDED
from fastscnn.data.init.sentences import (
    LOSSY,
    NAMES,
    UNLABELLED,
    about_rest,
    absent,
    files_read,
    ignored,
    listed,
    percent,
    spans,
)
from fastscnn.data.init.values import Values
from fastscnn.model.label_set import IGNORE_INDEX, Colour

_MAX_ID = (1 << 31) - 1


def of_ids(values: Values, files: Sequence[ClassFile], name: str) -> Classes:
    """Return the classes of label files that hold ids.

    Args:
        values: what a sample of the label files holds.
        files: the files that name classes.
        name: a path of a label file, whose name may say more.

    Raises:
        FastSCNNError: photographs, depths, or nothing but pixels that are not labelled.
    """
    stored = sorted(values.counts)
    _refuse_others(values, stored)
    if city := known_ids.of_cityscapes(stored, name):
        return city
    ids = ids_of(values, stored)
    fit = fitting(files, ids)
    if fit:
        made = _named(ids, fit)
    elif known_ids.is_voc(ids.used, name):
        said = "The names of files and folders are those of Pascal VOC, so the classes are its 20 and the background."
        made = _with_ids(ids, dict(enumerate(known.VOC)), [], [said])
    else:
        made = _numbered(ids, files)
    guessed = [f"The values of the label files are ids ({files_read(values)}: {spans(stored)}).", *made.guessed]
    colours = _palette_colours(made, values.palette or {})
    guessed += ["The colours are those of the palette of the label files."] if colours else []
    return replace(made, colours=colours, guessed=tuple(guessed),
                   left_open=(*made.left_open, *([LOSSY] if values.lossy else [])))


def _refuse_others(values: Values, stored: Sequence[int]) -> None:
    if (values.flat < 0.5 and len(stored) > 64) or len([one for one in stored if one != IGNORE_INDEX]) > IGNORE_INDEX:
        raise FastSCNNError(f"the files hold {len(stored)} values, so they are no label images, maybe photographs or depths; "
                            "export the labels as ids.")
    if stored[-1] > _MAX_ID:
        raise FastSCNNError(f"the files hold the id {stored[-1]}, maybe -1 that was stored without a sign; ids go up to "
                            f"{_MAX_ID}, so save the label files again.")


def _named(ids: Ids, fit: Fit) -> Classes:
    """Return the classes that a file names."""
    stored, share = dict(fit.rows), ids.values.share(0)
    guessed = [f"{fit.file.path} names the classes{fit.which}."]
    void = [number for number, row in stored.items() if row.ignored]
    guessed += [ignored(stored[number].name for number in void)] if void else []
    if 0 not in stored and (0 in ids.used or min(stored) == 1):
        guessed.append(about_rest("0", share))
        if share > UNLABELLED and not any(row.name == "background" for row in stored.values()):
            stored[0] = Row("background")
        else:
            void.append(0)
    kept = {number: row.name for number, row in sorted(stored.items()) if number not in void}
    guessed += absent(name for number, name in kept.items() if number not in ids.values.counts)
    return replace(_with_ids(ids, kept, void, guessed), left_open=(fit.doubt,) if fit.doubt else ())


def _numbered(ids: Ids, files: Sequence[ClassFile]) -> Classes:
    """Return classes that are named by their ids."""
    if not ids.used:
        raise FastSCNNError(f"the label files hold nothing but {listed(ids.void)}, which means not labelled.")
    dense = max(ids.used) < 2 * len(ids.used) and not ids.levels
    void = [0] if dense and 0 not in ids.used else []
    numbers = [one for one in (range(max(ids.used) + 1) if dense else ids.used) if one not in void]
    guessed = ["No label file that was read holds 0; it is taken as unlabelled and ignored."] if void else []
    guessed += absent(f"the id {number}" for number in numbers if number not in ids.used)
    made = _with_ids(ids, {number: f"class {number}" for number in numbers}, void, guessed)
    names = NAMES if not made.map else NAMES.replace("`classes`", "`classes` and in [map]")
    left_open = [f"no file names the classes; {names}, in the order of their ids."]
    if files:
        left_open = [f"the classes of {listed(file.path for file in files)} do not fit the ids; {names}."]
    left_open += _doubts(ids, made)
    return replace(made, left_open=tuple(left_open))


def _doubts(ids: Ids, made: Classes) -> list[str]:
    """Return what is left open about ids that may or may not be classes."""
    found, share = [], ids.values.share
    if 0 in ids.used and len(ids.used) > 1:
        others = [value for value in _ignore_key(made) if value != 0]
        fix = (f'write 0 = "ignore" in [map], and remove {made.names[0]!r} from `classes`' if made.map else
               f"remove the first name, and set ignore = {sorted([0, *others])}")
        found.append(f"0 is taken as a class ({percent(share(0))} of the pixels); if it means unlabelled, {fix}.")
    if ids.levels:
        found.append("the ids divide 0 to 255 evenly, so 255 is taken as a class "
                     f"({percent(share(IGNORE_INDEX))} of the pixels); "
                     f'if it means unlabelled, write 255 = "ignore" in [map], and remove {made.names[-1]!r} from `classes`.')
    elif made.map and (edges := _edges(ids)):
        found.append(f"nearly all pixels are 0 or 255 ({percent(share(0, IGNORE_INDEX))}); if {listed(edges)} are antialiased "
                     "edges of masks, give two names in `classes`, remove [map], and set labels_are = \"binary\"; 255 is "
                     "ignored otherwise.")
    elif made.map and IGNORE_INDEX in ids.void:
        found.append(f"255 is taken as unlabelled ({percent(share(IGNORE_INDEX))} of the pixels); if it is a class, give it a "
                     "name in `classes` and in [map].")
    return found


def _edges(ids: Ids) -> tuple[int, ...]:
    """Return the values between 0 and 255 that may be antialiased edges of masks, which are too few to be sure."""
    is_mask = {0, IGNORE_INDEX} <= set(ids.values.counts) and ids.values.share(0, IGNORE_INDEX) >= BLENDED
    return tuple(one for one in ids.used if 0 < one < IGNORE_INDEX) if is_mask else ()


def _ignore_key(made: Classes) -> list[int]:
    """Return the ids that the key `ignore` lists, or its default."""
    value = made.keys.get("ignore", [IGNORE_INDEX])
    return value if isinstance(value, list) else []


def _with_ids(ids: Ids, kept: Mapping[int, str], void: Sequence[int], guessed: Sequence[str]) -> Classes:
    """Return classes by their stored ids: without [map] if these count from 0, or from 1 with 0 ignored.

    Args:
        ids: the ids of the label files.
        kept: stored id -> class.
        void: ids that are ignored, beside those of `ids.void`.
        guessed: sentences.
    """
    if not kept:
        raise FastSCNNError("all ids of the label files are ignored ones, so there is no class.")
    own = [one for one in ids.void if one not in kept and one not in void]
    said = (*guessed, *([ignored(own)] if own else []))
    names, numbers = tuple(kept.values()), list(kept)
    all_void = sorted({*void, *own, IGNORE_INDEX})
    first = 1 if 0 in void else 0
    if numbers == list(range(first, len(names) + first)) and all_void[0] >= -1 and IGNORE_INDEX not in kept:
        return Classes(names, keys={"ignore": all_void} if all_void != [IGNORE_INDEX] else {}, guessed=said)
    mapped = dict.fromkeys((*void, *own), "ignore") | dict(kept)
    return Classes(names, map={str(number): mapped[number] for number in sorted(mapped)}, guessed=said)


def _palette_colours(made: Classes, palette: Mapping[int, Colour]) -> tuple[Colour, ...]:
    """Return the palette's colour of each class; () if it lacks one, since `colours` are for all classes."""
    stored = {to: int(key) for key, to in made.map.items()}
    first = 1 if 0 in _ignore_key(made) else 0
    found = [palette.get(stored.get(name, place + first)) for place, name in enumerate(made.names)]
    return tuple(colour for colour in found if colour) if all(found) and len(set(found)) == len(found) else ()
