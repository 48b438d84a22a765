"""Classes of a network or a dataset: names, colours and the mapping from raw ids to train ids."""

from __future__ import annotations

import colorsys
import unicodedata
from dataclasses import dataclass, field

import numpy as np

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import Int64Array, UInt8Array

IGNORE_INDEX = 255  # train id of pixels that are excluded from training and evaluation
IGNORE_NAME = "ignore"  # stands for such pixels where a class is expected, in class maps and in dataset.toml

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of their train ids.

    Attributes:
        names: class names, 1 to 255, all different.
        colours: RGB of each class, 0 to 255, for overlays and for labels stored as colours; () chooses distinct colours.
        raw_ids: (raw id, train id) of every id that label files may contain. Ignored raw ids map to 255; an id that is not
            listed is an error. () means that raw ids are train ids and 255 is ignored.

    Raises:
        FastSCNNError: names, colours or ids that break these rules.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    raw_ids: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE_INDEX:
            raise FastSCNNError(f"A label set has 1 to {IGNORE_INDEX} classes, not {len(self.names)}.")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise FastSCNNError(f"The class name {twice!r} is used twice; give each class its own name.")
        for name in self.names:  # a terminal would run an escape sequence in a name that is printed
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
                raise FastSCNNError(f"The class name {name!r} contains a control character; remove it.")
        if not self.colours:
            object.__setattr__(self, "colours", _distinct_colours(len(self.names)))
        if len(self.colours) != len(self.names):
            raise FastSCNNError(f"{len(self.names)} classes but {len(self.colours)} colours; give one for each class, or none.")
        for name, colour in zip(self.names, self.colours, strict=True):
            if len(colour) != 3 or any(not isinstance(value, int) or not 0 <= value <= 255 for value in colour):
                raise FastSCNNError(f"The colour of {name!r} is {list(colour)}; give three whole numbers from 0 to 255.")
        for raw, train in self.raw_ids:
            if not 0 <= raw <= 255 or not (0 <= train < len(self.names) or train == IGNORE_INDEX):
                raise FastSCNNError(f"The id {raw} cannot map to {train}: there are {len(self.names)} classes.")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the train id of a class.

        Raises:
            FastSCNNError: no such class; it names the nearest one.
        """
        if name not in self.names:
            raise unknown("class", name, self.names)
        return self.names.index(name)

    def train_ids(self) -> Int64Array:
        """Return the table int64 [256] raw id -> train id; -1 for a raw id that is neither a class nor ignored."""
        table = np.full(256, -1, np.int64)
        pairs = self.raw_ids or [*((index, index) for index in range(len(self))), (IGNORE_INDEX, IGNORE_INDEX)]
        for raw, train in pairs:
            table[raw] = train
        return table

    def palette(self) -> UInt8Array:
        """Return the table uint8 [256, 3] train id -> RGB; black for ids that are no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        return table


def _distinct_colours(count: int) -> tuple[Colour, ...]:
    """Return colours whose hues are a golden angle apart, so that classes with neighbouring ids differ."""
    colours = []
    for index in range(count):
        rgb = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, (0.95, 0.65)[index % 2])
        colours.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return tuple(colours)
