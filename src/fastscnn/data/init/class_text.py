"""Classes in text files and tables: names, "id name", "name id", "name:r,g,b::", "name #rrggbb", columns with a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from fastscnn.data.init import known
from fastscnn.data.init.class_rows import (
    BACKGROUND,
    HEX,
    ID,
    IGNORED,
    NUMBER,
    RGB,
    NotClasses,
    Row,
    any_colour,
    any_id,
    colour,
    colours_of,
)
from fastscnn.model.label_set import Colour

_BETWEEN = r"(?:\s*+[:=,;]\s*+|\s++)"  # possessive: a line of blanks takes no longer than another one
_NUMBERED = re.compile(rf"(-?\d{{1,5}}){_BETWEEN}(\S.*)")
_NAME_ID = re.compile(rf"(\S|\S.*?\S){_BETWEEN}(-?\d{{1,5}})[\s,;]*")
_VOC_WITHOUT_COLOUR = re.compile(r"[^:]+::[^:]*:[^:]*")  # name:colour:parts:actions of Pascal VOC's labelmap.txt
_QUOTES = " \t:;,\"'"  # around names
_MOST_WORDS = 6  # of a name
# Words of headers. The first that has a column is chosen.
_NAMES = ("name", "names", "class name", "class names", "classname", "label name", "labelname", "category name", "class",
          "classes", "label", "labels", "category", "categories", "klasse", "klassen")
_IDS = ("pixel value", "id", "ids", "idx", "index", "value", "label id", "labelid", "class id", "classid", "category id",
        "class index", "label index", "grey", "gray", "grey value", "gray value", "number")
_TRAIN_IDS = ("trainid", "train id", "trainids", "train ids")
_CHANNELS = (("r", "red"), ("g", "green"), ("b", "blue"))
_COLOURS = ("color", "colors", "colour", "colours", "rgb", "rgba", "hex")
_HEADER = {*_NAMES, *_IDS, *_TRAIN_IDS, *_COLOURS, *(word for words in _CHANNELS for word in words)}
_STATISTICS = re.compile(r"count|pixel|freq|weight|area|instance|image|total|share|ratio|percent|num", re.IGNORECASE)


def rows_of_text(text: str) -> Iterator[Row]:
    """Yield the classes of a text file.

    Raises:
        NotClasses: the lines are sentences, or hold more than names, and it is not clear what.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line.strip("[](){}, \t") and not _is_comment(line)]
    if len(lines) == 1 and not RGB.search(lines[0]) and not _NAME_ID.fullmatch(lines[0]):
        lines = _cells(lines[0])
    if not lines:
        return
    if (table := _table(lines)) is not None:
        yield from table
    elif all(_VOC_WITHOUT_COLOUR.fullmatch(line) for line in lines):
        yield from _of_voc([line.rsplit(":", 3)[0].strip() for line in lines])
    else:
        yield from _listed(lines[1:] if len(lines) > 1 and _is_header(lines[0]) else lines)


def _is_comment(line: str) -> bool:
    return line.startswith("//") or (line.startswith("#") and not HEX.match(line))


def _cells(line: str) -> list[str]:
    """Return the names of a file of one line, such as "road, car" or "['road', 'car']"."""
    line = line.strip("[](){} \t")
    separator = next((one for one in "\t;," if one in line), None)
    if separator is None:
        return [line]
    quote = "'" if line.startswith("'") else '"'
    cells = next(csv.reader([line], delimiter=separator, quotechar=quote, skipinitialspace=True), [])
    return [cell.strip() for cell in cells if cell.strip()]


def _word(text: str) -> str:
    """Return a word of a header: "Class_Name:" is "class name"."""
    return re.sub(r"[\s_-]+", " ", text.strip(_QUOTES).lower())


def _is_header(line: str) -> bool:
    words = [_word(word) for word in re.split(r"[\s:=,;]+", line.strip(_QUOTES))]
    return _word(line) in _NAMES or (len(words) > 1 and set(words) <= _HEADER and not set(words).isdisjoint(_NAMES))


def _listed(lines: Sequence[str]) -> Iterator[Row]:
    """Yield the classes of lines without a header, or below one."""
    nothing: list[None] = [None] * len(lines)
    colours: Sequence[Colour | None] = nothing
    ids: Sequence[int | None] | None = None  # that stand before the colours
    names = [line.strip(_QUOTES).removeprefix("- ") for line in lines]
    if found := [run for run in (RGB.search(line) or HEX.search(line) for line in lines) if run]:
        if len(found) < len(lines):
            raise NotClasses("has a colour in some lines only")
        if all(run.re is RGB for run in found):
            colours, ids = colours_of([run[0] for run in found])
        else:
            colours = [any_colour(run[0]) for run in found]
        names = [_beside(line, run) for line, run in zip(lines, found, strict=True)]
    for (name, number), rgb, first in zip(_numbered(names), colours, ids or nothing, strict=True):
        yield Row(name, number if first is None else first, rgb)


def _beside(line: str, run: re.Match[str]) -> str:
    """Return what a line holds beside its colour, without the parts and actions of Pascal VOC."""
    before, after = line[: run.start()].rstrip(f"{_QUOTES}(["), line[run.end() :].lstrip(" )]")
    if before and after.count(":") == 2:
        after = ""
    return f"{before} {after}".strip(_QUOTES)


def _numbered(names: Sequence[str]) -> list[tuple[str, int | None]]:
    """Return each name and its id, of lines such as "0: road" or "road: 0"; without ids if not all have one of their own."""
    for pattern, name, number in ((_NUMBERED, 2, 1), (_NAME_ID, 1, 2)):
        found = [one for one in map(pattern.fullmatch, names) if one]
        made = {one[name].strip(_QUOTES): int(one[number]) for one in found}
        if len(made) == len(names) == len(set(made.values())):
            return list(made.items())
    for line in names:
        _refuse_more_than_a_name(line)
    return [(line, None) for line in names]


def _refuse_more_than_a_name(line: str) -> None:
    cells = re.split(r"[,;:=\t]", line)
    if "=" in line or "\t" in line or (len(cells) > 1 and any(NUMBER.fullmatch(cell.strip()) for cell in cells)):
        raise NotClasses(f"has more in a line than a name ({line[:40]!r}), in no form that is known")
    words = re.split(r"[,;]", line)[0].split()  # the first name, if others follow
    if len(words) > _MOST_WORDS or (len(words) > 2 and line.endswith((".", "!", "?"))):
        raise NotClasses(f"has sentences instead of names ({line[:40]!r})")


def _of_voc(names: Sequence[str]) -> Iterator[Row]:
    """Give the names of a labelmap.txt without colours those of Pascal VOC's table, as datumaro does, the background first."""
    has_first = names[0].lower() in IGNORED or any(name.lower() in BACKGROUND for name in names)
    for place, name in enumerate(names if has_first else ("background", *names)):
        yield Row(name, None, known.voc_colour(place))


def _table(lines: Sequence[str]) -> list[Row] | None:
    """Return the rows of a table with a header, as of class_dict.csv or Roboflow's _classes.csv; None if it has none.

    A line of words is a header if it has a known one, or if the lines below it have a column of numbers.
    """
    separator = next((one for one in "\t;," if one in lines[0]), None)
    if separator is None or len(lines) < 2 or ":" in lines[0].strip(_QUOTES):
        return None
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    header, *body = ([cell.strip() for cell in cells] for cells in reader)
    words = [_word(cell) for cell in header]
    numbers = [place for place in range(len(words)) if all(len(cells) > place and ID.fullmatch(cells[place]) for cells in body)]
    others = {*numbers, *(place for place, word in enumerate(words) if word in (*_IDS, *_TRAIN_IDS, *_COLOURS))}
    texts = [place for place in range(len(words)) if place not in others]
    is_header = any(word in _NAMES for word in words) or (numbers and not any(NUMBER.fullmatch(word) for word in words))
    if not is_header or not texts:
        return None
    name = next((place for word in _NAMES for place in texts if words[place] == word), texts[0])
    columns = _columns(words, numbers)
    return [_row(cells, name, columns) for cells in body if len(cells) > name]


def _columns(words: Sequence[str], numbers: Sequence[int]) -> dict[str, int]:
    """Return "id", "train id", "rgb", "r", "g", "b" -> column, of those that a table has.

    A single column of numbers with an unknown word holds ids; three hold colours. Statistics are neither.
    """
    kinds = {"id": _IDS, "train id": _TRAIN_IDS, "rgb": _COLOURS, **{one[0]: one for one in _CHANNELS}}
    found = {kind: words.index(known_words) for kind, of_kind in kinds.items()
             for known_words in [next((word for word in of_kind if word in words), None)] if known_words}
    if "id" not in found and (number := next((place for place in numbers if words[place] in _NAMES), None)) is not None:
        found["id"] = number  # "class,name" or "label,name"
    unknown = [place for place in numbers if place not in found.values() and not _STATISTICS.search(words[place])]
    if not found and len(unknown) == 1:
        found["id"] = unknown[0]
    elif not found.keys() & {"r", "g", "b", "rgb"} and len(unknown) == 3:
        found |= dict(zip("rgb", unknown, strict=True))
    return found


def _row(cells: Sequence[str], name: int, columns: dict[str, int]) -> Row:
    stated = {kind: cells[place] for kind, place in columns.items() if place < len(cells)}
    rgb = colour(stated[one] for one in "rgb") if {"r", "g", "b"} <= stated.keys() else any_colour(stated.get("rgb"))
    return Row(cells[name].split(",")[0].split(";")[0].strip(), any_id(stated.get("id")), rgb, any_id(stated.get("train id")))
