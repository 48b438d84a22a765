"""Files beside the images that name the classes, with their ids and colours."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text as text_files
from fastscnn.data.formats.colours import unpack
from fastscnn.data.init import known
from fastscnn.data.init.survey import Survey
from fastscnn.model.label_set import IGNORE_INDEX, Colour

_MAX_BYTES = 1 << 20
_SUFFIXES = (".txt", ".csv", ".json", ".yaml", ".yml", ".names", ".tsv")
_NAMED = re.compile(r"class|label|name|palette|colou?r|code|categor|legend|meta|obj|data|config|map|notes", re.IGNORECASE)
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_COLOURED = re.compile(r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})")
_VOC_WITHOUT_COLOUR = re.compile(r"[^:]+::[^:]*:[^:]*")  # name:colour:parts:actions of Pascal VOC's labelmap.txt
_NUMBERED = re.compile(r"(-?\d{1,5})\s*[:=,;\t ]\s*(\S.*)")
_ID = re.compile(r"-?[0-9]{1,9}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_YAML_LIST = re.compile(r"^names\s*:\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
_YAML_BLOCK = re.compile(r"^names\s*:[ \t]*(?:#.*)?\n((?:[ \t]*(?:-|['\"]?\d+['\"]?\s*:)[^\n]*\n?)+)", re.MULTILINE)
_YAML_DOUBLE, _YAML_SINGLE = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"'((?:[^']|'')*)'")
_YAML_ENTRY = re.compile(r"^[ \t]*(?:-|['\"]?(\d+)['\"]?\s*:)\s*(.*?)\s*$", re.MULTILINE)
IGNORED = frozenset(("ignore", "ignored", "__ignore__", "_ignore_", "void", "unlabeled", "unlabelled", "unknown", "dontcare",
                     "don't care", "not labeled", "not labelled"))  # names that are no class
BACKGROUND = ("background", "_background_", "__background__")


@dataclass(frozen=True)
class Row:
    """A class of a file: its name, and its id and colour, None if the file does not state them."""

    name: str
    id: int | None = None
    colour: Colour | None = None

    @property
    def ignored(self) -> bool:
        """Whether the name means that pixels are not labelled."""
        return self.name.lower() in IGNORED


@dataclass(frozen=True)
class ClassFile:
    """The classes that a file names, in its order."""

    path: str
    rows: tuple[Row, ...]

    @property
    def has_colours(self) -> bool:
        """Whether the file states the colour of each class."""
        return all(row.colour is not None for row in self.rows)

    @property
    def in_voc_order(self) -> bool:
        """Whether the colours are those of Pascal VOC's table, in its order."""
        return all(row.colour == known.voc_colour(place) for place, row in enumerate(self.rows))

    @property
    def is_grey(self) -> bool:
        """Whether the colours of all classes are grey."""
        return all(row.colour is not None and len(set(row.colour)) == 1 for row in self.rows)

    @property
    def has_ids(self) -> bool:
        """Whether the file states the id of each class."""
        return all(row.id is not None for row in self.rows)


def class_files(survey: Survey) -> tuple[list[ClassFile], list[str]]:
    """Return the files that name classes, those nearest to the root first; and sentences about others.

    Equal files are returned once. The sentences name files that cannot be read.
    """
    found: dict[tuple[Row, ...], ClassFile] = {}
    unread = []
    paths = [path for path in survey.of(*_SUFFIXES) if _NAMED.search(PurePosixPath(path).stem)]
    for path in sorted(paths, key=lambda path: (path.count("/"), path))[:100]:
        try:
            rows = rows_of(survey.root / path)
        except FastSCNNError as error:
            unread.append(f"Not read: {str(error).replace(str(survey.root / path), path, 1)} If it names the classes, run "
                          "`fastscnn dataset init --force` after that.")
            continue
        if rows:
            found.setdefault(rows, ClassFile(path, rows))
    return list(found.values()), unread


def rows_of(path: Path) -> tuple[Row, ...]:
    """Return the classes that a file names; () if it is no such file.

    Raises:
        FastSCNNError: a file in another encoding than UTF-8, or UTF-16 with a byte-order mark; or one that cannot be read.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            return ()
        text = text_files.read(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            rows = list(_json(json.loads(text)))
        else:
            rows = list(_yaml(text) if suffix in (".yaml", ".yml") else _lines(text))
    except (OSError, ValueError, RecursionError, csv.Error):
        return ()
    rows = [row for row in rows if row.name]
    names = [row.name for row in rows]
    ids = [row.id for row in rows if row.id is not None]
    if not 1 <= len(rows) <= IGNORE_INDEX + 1 or len(set(names)) < len(names) or len(set(ids)) < len(ids):
        return ()
    if any(_no_name(name) for name in names):
        return ()
    return tuple(rows)


def _no_name(name: str) -> bool:
    return len(name) > 60 or bool(_NUMBER.fullmatch(name)) or ("/" in name and "." in name) or not name.isprintable()


def _lines(text: str) -> Iterator[Row]:
    """Read names, "name:r,g,b::" of CVAT, "r g b name", "id name", and tables with a header."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "//"))]
    if not lines:
        return
    separator = next((one for one in ("\t", ",", ";") if one in lines[0]), "")
    header = [cell.strip().lower() for cell in lines[0].split(separator)] if separator else []
    if any(cell in ("name", "class", "class_name", "label", "category") for cell in header):
        yield from _table(header, csv.reader(lines[1:], delimiter=separator))
        return
    if all(_VOC_WITHOUT_COLOUR.fullmatch(line) for line in lines):
        yield from _of_voc([line.rsplit(":", 3)[0].strip() for line in lines])
        return
    for line in lines:
        if colour := _COLOURED.search(line):
            name = (line[: colour.start()] + line[colour.end() :]).strip(" \t:;,\"'")
            number = _NUMBERED.fullmatch(name)
            yield Row(number[2].strip(" :") if number else name, int(number[1]) if number else None, _colour(colour.groups()))
        elif (number := _NUMBERED.fullmatch(line)) and all(_NUMBERED.fullmatch(one) for one in lines):
            yield Row(number[2].strip("\"', "), int(number[1]))
        else:
            yield Row(line.strip("\"', ").removesuffix(":"))


def _of_voc(names: Sequence[str]) -> Iterator[Row]:
    """Give the names of a labelmap.txt without colours those of Pascal VOC's table, as datumaro does, the background first."""
    has_first = names[0].lower() in IGNORED or any(name.lower() in BACKGROUND for name in names)
    for place, name in enumerate(names if has_first else ("background", *names)):
        yield Row(name, None, known.voc_colour(place))


def _table(header: list[str], lines: Iterable[list[str]]) -> Iterator[Row]:
    """Read rows of a table whose header names the columns, as of class_dict.csv or Roboflow's _classes.csv."""

    def column(*names: str) -> int | None:
        return next((place for place, cell in enumerate(header) if cell in names), None)

    name = column("name", "class_name", "class", "label", "category")
    number = column("pixel value", "id", "idx", "index", "value", "label id", "class_id", "class id")
    rgb = [column(*names) for names in (("r", "red"), ("g", "green"), ("b", "blue"))]
    joined = column("color", "colour", "rgb", "hex")
    for given in lines:
        cells = [cell.strip() for cell in given]
        if name is None or len(cells) <= name:
            continue
        text = cells[name].split(",")[0].split(";")[0].strip()
        colour = None
        if all(place is not None and place < len(cells) for place in rgb):
            colour = _colour([cells[place] for place in rgb if place is not None])
        elif joined is not None and joined < len(cells):
            colour = _any_colour(cells[joined])
        stated = cells[number] if number is not None and number < len(cells) else ""
        yield Row(text, int(stated) if _ID.fullmatch(stated) else None, colour)


def _json(table: Any) -> Iterator[Row]:
    """Read Supervisely's meta.json and obj_class_to_machine_color.json, lists of classes, and id -> name."""
    if isinstance(table, dict):
        inner = next((table[key] for key in ("classes", "labels", "categories", "names", "id2label") if key in table), None)
        if isinstance(inner, list | dict) and "images" not in table:
            yield from _json(inner)
        elif inner is None:
            for key, value in table.items():
                if _ID.fullmatch(str(key)) and isinstance(value, str):
                    yield Row(value, int(key))
                elif isinstance(value, int) and not isinstance(value, bool):
                    yield Row(str(key), value)
                elif isinstance(value, list) and len(value) == 3:
                    yield Row(str(key), None, _colour(value))
    elif isinstance(table, list):
        for value in table:
            if isinstance(value, str):
                yield Row(value)
            elif isinstance(value, dict):
                name = next((value[key] for key in ("title", "readable", "name", "label", "class") if key in value), None)
                number = next((value[key] for key in ("id", "index") if type(value.get(key)) is int), None)
                # Supervisely counts its classes over all projects: its ids are not those of the masks.
                colour = _any_colour(value.get("color", value.get("colour")))
                yield Row(str(name or ""), None if "title" in value else number, colour)


def _yaml(text: str) -> Iterator[Row]:
    """Read the names of Ultralytics' data.yaml, the lines that matter of YAML."""
    if found := _YAML_LIST.search(text):
        for place, name in enumerate(next(csv.reader([" ".join(found[1].split())], quotechar="'", skipinitialspace=True), [])):
            yield Row(name.strip().strip("\"'"), place)
    elif found := _YAML_BLOCK.search(text):
        for place, entry in enumerate(_YAML_ENTRY.finditer(found[1])):
            yield Row(_yaml_text(entry[2]), int(entry[1]) if entry[1] else place)


def _yaml_text(value: str) -> str:
    """Return a YAML string: in double quotes with the escapes of JSON, in single quotes, or plain up to a comment."""
    if found := _YAML_DOUBLE.match(value):
        with contextlib.suppress(ValueError):
            return str(json.loads(found[0]))
    if found := _YAML_SINGLE.match(value):
        return found[1].replace("''", "'")
    return value.partition(" #")[0].strip().strip("\"'")


def _any_colour(value: object) -> Colour | None:
    if isinstance(value, list) and len(value) >= 3:
        return _colour(value[:3])
    if isinstance(value, str) and (found := _HEX.fullmatch(value.strip())):
        return unpack(int(found[1], 16))
    if isinstance(value, str) and (three := _COLOURED.search(value)):
        return _colour(three.groups())
    return None


def _colour(values: Iterable[Any]) -> Colour | None:
    try:
        red, green, blue = (int(value) for value in values)
    except (TypeError, ValueError):
        return None
    return (red, green, blue) if max(red, green, blue) <= 255 and min(red, green, blue) >= 0 else None
