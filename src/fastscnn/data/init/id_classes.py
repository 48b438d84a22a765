"""The classes of label files that hold ids, or masks of two classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.builtin import cityscapes
from fastscnn.data.init import known
from fastscnn.data.init.class_files import ClassFile, Row
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import LOSSY, NAMES, UNLABELLED, about_rest, absent, files_read, listed
from fastscnn.data.init.values import Values
from fastscnn.model.label_set import IGNORE_INDEX, Colour

_BLENDED = 0.9  # least share of 0 and 255 in an antialiased mask
_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}")
_CARLA_MOST = 40  # ids of CARLA are below this


def carla(values: Values) -> Classes | None:
    """Return CARLA's classes if all colours are red below 40."""
    reds = {packed >> 16 for packed in values.counts}
    if any(packed & 0xFFFF for packed in values.counts) or max(reds) >= _CARLA_MOST or len(reds) < 2:
        return None
    before = max(reds) < len(known.CARLA_BEFORE) and values.share(7 << 16, 6 << 16) > values.share(1 << 16, 24 << 16)
    names = known.CARLA_BEFORE if before else known.CARLA
    if max(reds) >= len(names):
        names = (*names, *(f"class {number}" for number in range(len(names), max(reds) + 1)))
    version = "0.9.13 and earlier" if before else "0.9.14 and later"
    return Classes(
        names[1:], keys={"channel": "red", "ignore": 0},
        guessed=(f"The ids are in the red channel, as in CARLA's files ({files_read(values)}); 0 is unlabelled and ignored.",),
        left_open=(f"the names are those of CARLA {version}, chosen by the most frequent ids; compare them with the contact "
                   "sheet.",),
    )  # fmt: skip


def binary(values: Values, files: Sequence[ClassFile]) -> Classes | None:
    """Return the two classes of masks of 0 and 1, or of 0 and 255, antialiased or mixed ones too."""
    seen = set(values.counts)
    inner = [value for value in seen if 0 < value < 255]
    blended = len(seen) > 8 and max(seen) <= 255 and values.share(*range(4), *range(252, 256)) >= _BLENDED and (
        (any(value > 200 for value in inner) and 255 in seen) or (values.lossy and max(seen) > 200)
    )
    mixed = seen == {0, 1, 255} and not any({1, 255} <= one for one in values.sets)
    if not (seen in ({0, 255}, {0, 1}) or blended or mixed):
        return None
    two = next((file for file in files if len(file.rows) in (1, 2) and not file.has_colours), None)
    if seen == {0, 1} and any(len(file.rows) > 2 for file in files):
        return None  # more classes exist; the sample holds two of them
    guessed = [f"The label files are masks of two classes, {_masks(seen, mixed)} ({files_read(values)})."]
    if values.lossy:
        guessed.append("The masks are JPEGs; values from 128 upward are the second class. PNG keeps edges exact.")
    elif blended:
        guessed.append("Values between, as of antialiased edges, belong to the nearer class.")
    if two:
        names = ("background", two.rows[0].name) if len(two.rows) == 1 else tuple(row.name for row in two.rows)
        return Classes(names, "binary", guessed=(*guessed, f"{two.path} names the classes."))
    return Classes(("background", "foreground"), "binary", guessed=tuple(guessed),
                   left_open=(f"no file names the two classes; {NAMES}, that of 0 first.",))


def _masks(seen: set[int], mixed: bool) -> str:
    return "some of 0 and 1, others of 0 and 255" if mixed else "0 and 1" if seen == {0, 1} else "0 and 255"


def of_ids(values: Values, files: Sequence[ClassFile], name: str) -> Classes:
    ids = sorted(values.counts)
    if (values.flat < 0.5 and len(ids) > 64) or len([one for one in ids if one != IGNORE_INDEX]) > IGNORE_INDEX:
        raise FastSCNNError(f"the files hold {len(ids)} values, so they are no label images, maybe photographs or depths; "
                            "export the labels as ids.")
    if city := _cityscapes(ids, name):
        return city
    used = [one for one in ids if one != IGNORE_INDEX and one >= 0]
    highest = max(used, default=0)
    guessed = [f"The values of the label files are ids ({files_read(values)}: {listed(ids)})."]
    file, from_one = _by_count(files, used)
    if file:
        made = _named(values, file, used, from_one, guessed)
    elif _is_voc(name) and highest < len(known.VOC):
        guessed.append("The names are those of Pascal VOC.")
        made = Classes(known.VOC, guessed=tuple(guessed))
    else:
        made = _numbered(values, used, guessed, files)
    palette = values.palette
    colours = _palette_colours(made, palette) if palette else ()
    left_open = [*made.left_open, *([LOSSY] if values.lossy else [])]
    said = [*made.guessed, *(["255 is ignored."] if IGNORE_INDEX in ids else [])]
    return Classes(made.names, made.labels_are, colours, made.keys, made.map, tuple(said), tuple(left_open))


def _by_count(files: Sequence[ClassFile], used: Sequence[int]) -> tuple[ClassFile | None, bool]:
    """Return the file whose classes fit the ids, and whether they begin with 1 although it does not say so."""
    highest, lowest = max(used, default=0), min(used, default=0)
    for file in files:
        if file.has_ids and set(used) <= {row.id for row in file.rows} | {0}:
            return file, False
    for file in files:
        rows = _positions(file)
        if not file.has_ids and highest < len(rows) and not (lowest >= 1 and highest == len(rows)):
            return file, False
    for file in files:
        if not file.has_ids and highest == len(_positions(file)):
            return file, True
    return None, False


def _positions(file: ClassFile) -> list[Row]:
    """Return the rows that have a position; labelme's __ignore__ has none."""
    return [row for row in file.rows if row.name.lower() not in ("__ignore__", "_ignore_")]


def _named(values: Values, file: ClassFile, used: Sequence[int], from_one: bool, guessed: list[str]) -> Classes:
    rows = _positions(file)
    first = 1 if from_one else 0
    stored = {row.id if file.has_ids and row.id is not None else place + first: row for place, row in enumerate(rows)}
    begin = ", whose ids begin with 1." if from_one or 0 not in stored else "."
    guessed = [*guessed, f"{file.path} names the classes{begin}"]
    ignored = [number for number, row in stored.items() if row.ignored]
    if 0 not in stored and (0 in used or from_one or min(stored) == 1):
        guessed.append(about_rest("0", values.share(0)))
        if values.share(0) > UNLABELLED and not any(row.name == "background" for row in rows):
            stored[0] = Row("background")
        else:
            ignored.append(0)
    elif ignored:
        guessed.append(f"{listed(stored[number].name for number in ignored)} is ignored.")
    kept = {number: row.name for number, row in sorted(stored.items()) if number not in ignored}
    guessed += absent(name for number, name in kept.items() if number not in values.counts)
    return _with_ids(kept, ignored, guessed)


def _with_ids(kept: Mapping[int, str], ignored: Sequence[int], guessed: Sequence[str]) -> Classes:
    """Return classes by their stored ids: without [map] if these count from 0, or from 1 with 0 ignored."""
    if not kept:
        raise FastSCNNError("all ids of the label files are ignored ones, so there is no class.")
    names = tuple(kept.values())
    numbers = list(kept)
    if numbers == list(range(len(names))) and all(number == IGNORE_INDEX for number in ignored):
        return Classes(names, guessed=tuple(guessed))
    if numbers == list(range(1, len(names) + 1)) and set(ignored) <= {0, IGNORE_INDEX} and 0 in ignored:
        return Classes(names, keys={"ignore": [0, IGNORE_INDEX]}, guessed=tuple(guessed))
    mapped = {str(number): name for number, name in kept.items()} | {str(number): "ignore" for number in ignored}
    return Classes(names, map=dict(sorted(mapped.items(), key=lambda entry: int(entry[0]))), guessed=tuple(guessed))


def _numbered(values: Values, used: Sequence[int], guessed: list[str], files: Sequence[ClassFile]) -> Classes:
    """Return classes named by their ids."""
    if not used:
        raise FastSCNNError("the label files hold nothing but 255, which means not labelled.")
    highest, ignored = max(used), []
    left_open = [f"no file names the classes; {NAMES}, in the order of their ids."]
    if files:
        left_open = [f"{listed(file.path for file in files)} has another number of classes than the label files have ids; "
                     f"{NAMES}."]
    if 0 in used and len(used) > 1:
        left_open.append(f"0 is taken as a class ({100 * values.share(0):.2g} % of the pixels); if it means unlabelled, remove "
                         "the first name and set ignore = [0, 255].")
    dense = highest < 2 * len(used)
    if dense and 0 not in used:
        ignored = [0]
        guessed = [*guessed, "The ids begin with 1; 0 means unlabelled."]
    numbers = range(1 if ignored else 0, highest + 1) if dense else used
    made = _with_ids({number: f"class {number}" for number in numbers}, ignored, guessed)
    if made.map:
        left_open[0] = left_open[0].replace("`classes`", "`classes` and in [map]")
    return Classes(made.names, keys=made.keys, map=made.map, guessed=made.guessed, left_open=tuple(left_open))


def _cityscapes(ids: Sequence[int], name: str) -> Classes | None:
    if "labelTrainIds" in name and max(one for one in ids if one != IGNORE_INDEX) < len(cityscapes.LABELS):
        return Classes(cityscapes.LABELS.names, colours=cityscapes.LABELS.colours,
                       guessed=("The file names say train ids of Cityscapes: its 19 classes; 255 is ignored.",))
    if "labelIds" in name and set(ids) <= {raw for raw, _ in cityscapes.LABELS.raw_ids}:
        names = [*cityscapes.LABELS.names, "ignore"]
        return Classes(
            cityscapes.LABELS.names, colours=cityscapes.LABELS.colours,
            map={str(raw): names[min(train, len(names) - 1)] for raw, train in sorted(cityscapes.LABELS.raw_ids)},
            guessed=("The file names say ids of Cityscapes: its 19 classes; its other ids are ignored.",),
        )  # fmt: skip
    return None


def _is_voc(name: str) -> bool:
    return "SegmentationClass" in name and ("VOC20" in name or bool(_VOC_NAME.match(name.rpartition("/")[2])))


def _palette_colours(made: Classes, palette: Mapping[int, Colour]) -> tuple[Colour, ...]:
    """Return the palette's colour of each class; () if it lacks one, since `colours` are for all classes."""
    stored = {to: int(key) for key, to in made.map.items()}
    first = 1 if made.keys.get("ignore") else 0
    found = [palette.get(stored.get(name, place + first)) for place, name in enumerate(made.names)]
    return tuple(colour for colour in found if colour) if all(found) and len(set(found)) == len(found) else ()
