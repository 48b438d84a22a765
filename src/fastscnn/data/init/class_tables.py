"""Classes in JSON and YAML: Supervisely's meta.json, id2label.json, data.yaml of Ultralytics, and tables of names."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from fastscnn.data.init.class_rows import HEX, NotClasses, Row, any_colour, any_id

_INNER = ("classes", "labels", "categories", "names", "id2label", "label2id", "class_names", "label_map")  # keys of JSON
_YAML_KEY = r"^(?:names|classes|class_names)\s*:"
_YAML_LIST = re.compile(_YAML_KEY + r"\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
_YAML_BLOCK = re.compile(
    _YAML_KEY + r"[ \t]*(?:#.*)?\n((?:[ \t]*(?:-|['\"]?\d+['\"]?\s*:)[^\n]*(?:\n|\Z)|[ \t]*(?:#[^\n]*)?\n)+)", re.MULTILINE)
_YAML_ENTRY = re.compile(r"^[ \t]*(?:-|['\"]?(\d+)['\"]?\s*:)[ \t]*(.*)$", re.MULTILINE)
_YAML_DOUBLE, _YAML_SINGLE = re.compile(r'"(?:[^"\\]|\\.)*"'), re.compile(r"'((?:[^']|'')*)'")


def rows_of_json(table: Any, named: bool) -> list[Row]:
    """Return the classes of a JSON file; [] if it is no such file.

    Args:
        table: its content.
        named: whether the name of the file says that it names classes; if not, a key in the table must say so.

    Raises:
        NotClasses: names and numbers that may be settings.
    """
    if isinstance(table, dict):
        inner = next((table[key] for key in _INNER if isinstance(table.get(key), list | dict)), None)
        if inner is not None:
            return [] if "images" in table else rows_of_json(inner, True)
        if not named and table and all(type(value) in (int, float) for value in table.values()):
            raise NotClasses("may hold settings; if it names the classes, call it classes.json")
        rows = [_entry(str(key), value) for key, value in table.items()]
    elif isinstance(table, list):
        rows = [_item(value) if isinstance(value, str | dict) else None for value in table if named or isinstance(value, dict)]
    else:
        return []
    found = [row for row in rows if row]
    return found if len(found) == len(rows) else []


def _entry(key: str, value: Any) -> Row | None:
    """Return the class of a key and its value: one of both is the name, the other the id, the colour, or a table of both."""
    number, rgb = any_id(key), any_colour(key) if HEX.fullmatch(key) or "," in key else None
    if isinstance(value, str) and (number is not None or rgb):
        return Row(value, number, rgb)
    if isinstance(value, dict):
        row = _item({"name": key} | value if number is None else {"id": number} | value)
        return row if row.id is not None or row.colour else None
    if number is None and (stated := any_id(value)) is not None:
        return Row(key, stated)
    return Row(key, None, any_colour(value)) if number is None and any_colour(value) else None


def _item(value: str | dict[str, Any]) -> Row:
    """Return the class of an item of a list."""
    if isinstance(value, str):
        return Row(value)
    name = next((value[key] for key in ("title", "readable", "name", "label", "class") if key in value), None)
    number = next((value[key] for key in ("id", "index") if type(value.get(key)) is int), None)
    # Supervisely counts its classes over all projects: its ids are not those of the masks.
    rgb = any_colour(value.get("color", value.get("colour")))
    train = next((value[key] for key in ("trainId", "train_id", "trainid") if type(value.get(key)) is int), None)
    return Row(str(name or ""), None if "title" in value else number, rgb, train)


def rows_of_yaml(text: str) -> Iterator[Row]:
    """Yield the names of Ultralytics' data.yaml, or of a list of classes: the lines that matter of YAML."""
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
