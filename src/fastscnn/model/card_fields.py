"""Validation of the JSON object that a weight file carries as its card."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError

MAX_TEXT = 10_000  # characters of one text in a card
MAX_CLASS_NAME = 200  # characters
_MAX_CARD = 4 << 20  # characters; 255 classes with scores at a dozen input sizes take less than 1 MB
_MAX_DEPTH = 12  # nested lists and objects; a card needs 5
_MAX_INT = 1 << 63
_REQUIRED: Any = object()  # default of a field that must be there
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def broken(source: Path, field: str, problem: str) -> FastSCNNError:
    """Return the error for a card that cannot be read. `field` is "" for the whole card."""
    where = f"at {field}" if field else "as a whole"
    fix = "write the file again with this version of fastscnn"
    return FastSCNNError(f"{source}: its card is broken {where}: {problem}; {fix}.")


def parse(text: str, source: Path) -> Fields:
    """Parse a card.

    Args:
        text: JSON.
        source: the file to name in errors.

    Raises:
        FastSCNNError: not a JSON object, too large or too deeply nested, or a value that is no plain number or text.
    """
    if len(text) > _MAX_CARD:
        raise broken(source, "", f"it has {len(text)} characters, more than {_MAX_CARD}")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(source, "", f"it is not JSON ({type(error).__name__})") from error
    _check_values(table, "", source, 0)
    return Fields(table, source)


def _check_values(value: object, place: str, source: Path, depth: int) -> None:
    """Refuse what JSON in Python accepts and later code does not: NaN, huge integers, lone surrogates, deep nesting."""
    if depth > _MAX_DEPTH:
        raise broken(source, place[:MAX_CLASS_NAME], f"more than {_MAX_DEPTH} nested lists and objects")
    if isinstance(value, str):
        _check_text(value, place, source)
    elif isinstance(value, float) and not isfinite(value):
        raise broken(source, place, f"{value} is not a finite number")
    elif isinstance(value, int) and abs(value) >= _MAX_INT:
        raise broken(source, place, "a whole number of more than 64 bits")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(key, place, source)
            _check_values(item, f"{place}.{key}" if place else key, source, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_values(item, f"{place}[{index}]", source, depth + 1)


def _check_text(text: str, place: str, source: Path) -> None:
    if len(text) > MAX_TEXT:
        raise broken(source, place, f"a text of {len(text)} characters, more than {MAX_TEXT}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise broken(source, place, "a text that is not valid Unicode (a lone surrogate)")


class Fields:
    """A JSON object whose fields are read one by one, each validated; `rest` returns those that were not read.

    Every method takes the name of a field and a default; without a default the field is required. Every method raises a
    FastSCNNError that names the file and the field.
    """

    def __init__(self, table: object, source: Path, place: str = "") -> None:
        """
        Args:
            table: the object.
            source: the file to name in errors.
            place: where the object is in the card, such as "data"; "" for the card itself.
        """
        self.source, self.place = source, place
        if not isinstance(table, dict):
            raise broken(source, place, f"{_SHORT.repr(table)} is not an object")
        self._left = dict(table)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def rest(self) -> dict[str, Any]:
        """Return the fields that were not read: those of a newer version."""
        return dict(self._left)

    def error(self, name: str, problem: str) -> FastSCNNError:
        """Return the error for a field."""
        return broken(self.source, f"{self.place}.{name}" if self.place else name, problem)

    def value(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a field as it is."""
        if name not in self._left:
            if default is _REQUIRED:
                raise self.error(name, "it is missing")
            return default
        return self._left.pop(name)

    def text(self, name: str, default: str = _REQUIRED, choices: Sequence[str] = ()) -> str:
        """Return a text; one of `choices` if there are any."""
        value = self.value(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"{_SHORT.repr(value)} is not a text")
        if choices and value not in choices:
            raise self.error(name, f"{_SHORT.repr(value)} is not one of {', '.join(choices)}")
        return value

    def whole(self, name: str, default: int = _REQUIRED, least: int = 0, most: int = _MAX_INT) -> int:
        """Return a whole number from `least` to `most`."""
        return self._whole(name, self.value(name, default), least, most)

    def number(
        self, name: str, default: float = _REQUIRED, above: float = -inf, least: float = -inf, most: float = inf
    ) -> float:
        """Return a finite number, more than `above`, at least `least` and at most `most`."""
        value = self.value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self.error(name, f"{_SHORT.repr(value)} is not a finite number")
        limits = [f"above {above:g}"] * (above > -inf) + [f"at least {least:g}"] * (least > -inf)
        limits += [f"at most {most:g}"] * (most < inf)
        if not (above < value and least <= value <= most):
            raise self.error(name, f"{value:g} must be {' and '.join(limits)}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list of class names."""
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(name, f"{_SHORT.repr(value)} is not a list of names")
        for item in value:
            if len(item) > MAX_CLASS_NAME:
                raise self.error(name, f"a name of {len(item)} characters, more than {MAX_CLASS_NAME}")
        return tuple(value)

    def size(self, name: str, max_pixels: int) -> tuple[int, int]:
        """Return a (height, width) of at most `max_pixels` pixels."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(name, f"{_SHORT.repr(value)} is not [height, width]")
        height, width = (self._whole(name, side, 1, max_pixels) for side in value)
        if height * width > max_pixels:
            raise self.error(name, f"{height}x{width} has more than {max_pixels} pixels")
        return height, width

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object with any fields; {} if it is missing."""
        value = self.value(name, {})
        if not isinstance(value, dict):
            raise self.error(name, f"{_SHORT.repr(value)} is not an object")
        return value

    def nested(self, name: str, default: Any = _REQUIRED) -> Fields | None:
        """Return an object as `Fields`; None if it is null."""
        value = self.value(name, default)
        return None if value is None else Fields(value, self.source, f"{self.place}.{name}" if self.place else name)

    def _whole(self, name: str, value: object, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"{_SHORT.repr(value)} is not a whole number")
        if not least <= value <= most:
            raise self.error(name, f"{value} must be from {least} to {most}")
        return value
