"""Sentences about label files that several modules say."""

from __future__ import annotations

from collections.abc import Iterable

from fastscnn.data.init.values import Values

LOSSY = ("the label files are JPEGs, whose compression changes values near edges, so labels are read wrong there; export them "
         "as PNG.")
NAMES = "write the names of the classes in `classes`"
_SHOWN = 8  # values or names in one sentence


def listed(texts: Iterable[object]) -> str:
    """Return the first values, and the number of the others."""
    shown = [str(text) for text in texts]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


def files_read(values: Values) -> str:
    """Return how many label files were read."""
    return f"{values.files} label file{'s' * (values.files != 1)} read"


def absent(names: Iterable[str]) -> list[str]:
    """Return the sentence about classes that no label file holds; training needs each class."""
    missing = list(names)
    return [f"No label file that was read holds {listed(missing)}; remove what no other file holds."] if missing else []
