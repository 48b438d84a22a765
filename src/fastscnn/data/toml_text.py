"""Values and lists as the text of a TOML file."""

from __future__ import annotations

import json
from collections.abc import Sequence

WIDTH = 110  # columns of a line, if it can be broken
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def value(given: object) -> str:
    """Return a value in TOML, whose texts, numbers and lists of them are those of JSON."""
    return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")


def key(text: str) -> str:
    """Return a key in TOML, in quotes if it needs them."""
    return text if text and set(text) <= _BARE else value(text)


def array(name: str, values: Sequence[object]) -> list[str]:
    """Return the lines that give the key `name` a list: one if they are short."""
    one_line = f"{name} = {value(list(values))}"
    if len(one_line) <= WIDTH:
        return [one_line]
    return [f"{name} = [", *(f"  {value(each)}," for each in values), "]"]
