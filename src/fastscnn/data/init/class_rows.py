"""A class of a file that names classes, and how such files write its name, id and colour."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastscnn.data.formats.colours import unpack
from fastscnn.model.label_set import Colour

ID = re.compile(r"-?[0-9]{1,9}")
NUMBER = re.compile(r"-?\d*\.?\d+(e-?\d+)?", re.IGNORECASE)
HEX = re.compile(r"(?:#|0x)([0-9a-fA-F]{6})\b")
RGB = re.compile(r"(?<![\d.])\d{1,3}(?:[\s,;]+\d{1,3}){2,3}(?![\d.])")  # also with an alpha after it, or an id before it
_ALPHA = 255  # of opaque colours
IGNORED = frozenset(("ignore", "ignored", "__ignore__", "_ignore_", "void", "unlabeled", "unlabelled", "unknown", "dontcare",
                     "don't care", "not labeled", "not labelled"))  # names that are no class
BACKGROUND = ("background", "_background_", "__background__")


@dataclass(frozen=True)
class Row:
    """A class of a file: its name, and its id, colour and train id, None if the file does not state them."""

    name: str
    id: int | None = None
    colour: Colour | None = None
    train_id: int | None = None

    @property
    def ignored(self) -> bool:
        """Whether the name means that pixels are not labelled."""
        return self.name.lower() in IGNORED


class NotClasses(ValueError):  # noqa: N818 - no error of a user
    """A file that names no classes, although its name and form say so; the text is the reason."""


def any_id(value: object) -> int | None:
    """Return an id that is a whole number or the text of one; None for other values."""
    if isinstance(value, str) and ID.fullmatch(value.strip()):
        return int(value)
    return value if type(value) is int else None


def any_colour(value: object) -> Colour | None:
    """Return a colour that is a list of red, green and blue, maybe with alpha, or the text of one, or hexadecimal."""
    if isinstance(value, list) and len(value) in (3, 4):
        return colour(value[:3])
    if isinstance(value, str) and (found := re.fullmatch(r"(?:#|0x)?([0-9a-fA-F]{6})", value.strip())):
        return unpack(int(found[1], 16))
    if isinstance(value, str) and (run := RGB.search(value)):
        return colour(re.split(r"[\s,;]+", run[0])[:3])
    return None


def colour(values: Iterable[Any]) -> Colour | None:
    """Return a colour from red, green and blue, as numbers or text; None if they are not from 0 to 255."""
    try:
        red, green, blue = (int(value) for value in values)
    except (TypeError, ValueError):
        return None
    return (red, green, blue) if max(red, green, blue) <= 255 and min(red, green, blue) >= 0 else None


def colours_of(runs: list[str]) -> tuple[list[Colour | None], list[int] | None]:
    """Return the colours of runs of three or four numbers, and the ids if these stand before the colours.

    Raises:
        NotClasses: four numbers of which neither the first are ids nor the last are alpha.
    """
    numbers = [[int(number) for number in re.split(r"[\s,;]+", run)] for run in runs]
    if all(len(one) == 3 for one in numbers):
        return [colour(one) for one in numbers], None
    if all(len(one) == 3 or one[3] == _ALPHA for one in numbers):
        return [colour(one[:3]) for one in numbers], None
    firsts = [one[0] for one in numbers]
    if all(len(one) == 4 for one in numbers) and len(set(firsts)) == len(firsts):
        return [colour(one[1:]) for one in numbers], firsts
    raise NotClasses("has four numbers in a line that are neither an id and a colour nor a colour and 255")
