"""A table of a TOML file, whose values are checked when they are read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data.formats import text

_REQUIRED: Any = object()
_LARGE = "a whole number of more than 64 bits"
MIXTURE_KEY = "datasets"  # of a mixture file, which is no description of one dataset


class Table:
    """A table of a TOML file. Every method raises a FastSCNNError that names the file and the key.

    Attributes:
        path: the file.
        place: name of the table, such as "splits.train"; "" for the file itself.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], place: str = "") -> None:
        self.path, self.place, self._values = path, place, values

    @classmethod
    def load(cls, path: Path) -> Table:
        """Return the content of a file."""
        try:
            values = tomllib.loads(text.read(path))
            _check_whole_numbers(values)
        except (ValueError, RecursionError) as error:  # invalid TOML, or lists nested too deeply
            reason = _LARGE if "integer string conversion" in str(error) else error  # over 4,300 digits, in Python's words
            raise FastSCNNError(f"{path}: is not TOML ({reason}); correct it.") from error
        return cls(path, values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def name(self, key: str) -> str:
        """Return the full name of a key."""
        return f"{self.place}.{key}" if self.place else key

    def error(self, key: str, problem: str) -> FastSCNNError:
        """Return the error about a key."""
        return FastSCNNError(f"{self.path}: {self.name(key)} {problem}")

    def only(self, keys: Iterable[str]) -> None:
        """Refuse other keys than these."""
        for key in self:
            if key not in keys:
                raise FastSCNNError(f"{self.path}: {unknown(f'key of {self.place}' if self.place else 'key', key, keys)}")

    def value(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return a value as it is."""
        if key not in self._values and default is _REQUIRED:
            raise self.error(key, "is missing; add it.")
        return self._values.get(key, default)

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """Return a text that is not empty, or the default."""
        value = self.value(key, default)
        if key in self and (not isinstance(value, str) or not value):
            raise self.error(key, f"is {value!r}; it must be a text in quotes.")
        return str(value)

    def choice(self, key: str, choices: Iterable[str], default: str) -> str:
        """Return one of several words."""
        value = self.text(key, default)
        if value not in (*choices, default):
            raise FastSCNNError(f"{self.path}: {unknown(f'kind of {self.name(key)}', value, choices)}")
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = self.value(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"is {value!r}; it must be a whole number from {least} to {most}.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; () if it is missing."""
        values = self.value(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise self.error(key, "must be a list of texts in quotes.")
        return tuple(values)

    def table(self, key: str, example: str) -> Table:
        """Return a table in this one; `example` says what it holds."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table with {example}.")
        return Table(self.path, value, self.name(key))

    def pattern(self, key: str) -> str:
        """Return a glob pattern or a path, relative to the folder of the file."""
        return self._pattern(key, self.value(key))

    def patterns(self, key: str) -> str | tuple[str, ...]:
        """Return a glob pattern, or a list of them."""
        value = self.value(key)
        several = isinstance(value, list) and value
        return tuple(self._pattern(key, one) for one in value) if several else self._pattern(key, value)

    def _pattern(self, key: str, pattern: Any) -> str:
        if not isinstance(pattern, str) or not PurePath(pattern).parts:
            raise self.error(key, f'is {pattern!r}; it must be a pattern in quotes, such as "{key}/train/*.png".')
        if PurePath(pattern).is_absolute() or pattern.startswith("/"):
            raise self.error(key, f"is {pattern!r}, an absolute path; write it relative to {self.path.parent.absolute()} "
                                  "(`..` is allowed).")
        if "\0" in pattern:
            raise self.error(key, f"is {pattern!r}; remove the zero byte.")
        if any("**" in part and part != "**" for part in PurePath(pattern).parts):
            raise self.error(key, f"is {pattern!r}; `**` must be a whole part of the path, as in images/**/*.png.")
        return pattern


def _check_whole_numbers(value: object) -> None:
    """Raise ValueError for a whole number of more than 64 bits, which TOML excludes and Python cannot always print."""
    if isinstance(value, int) and not -1 << 63 <= value < 1 << 63:
        raise ValueError(_LARGE)
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_whole_numbers(one)


def is_byte(value: object) -> bool:
    """Return whether a value is a whole number from 0 to 255."""
    return type(value) is int and 0 <= value <= 255  # not isinstance: True is an int
