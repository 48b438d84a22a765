"""Label files in which each class has a colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import UInt8Array
from fastscnn.data.formats.base import Decoded, LabelFormat
from fastscnn.media import images
from fastscnn.media.windows import Box
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet


@dataclass(frozen=True)
class ColourLabels(LabelFormat):
    """Label files in which each class has one or several colours. Pixels of other colours are ignored, and found by `check`.

    Attributes:
        colours: each colour with its train id, 255 for an ignored colour; () takes the colours of the label set.
        rest: train id of all other colours; None finds them.
    """

    unknown: ClassVar[str] = "colours"
    lenient: ClassVar[bool] = True

    colours: tuple[tuple[Colour, int], ...] = ()
    rest: int | None = None

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read a label file; see `LabelFormat.read`."""
        return self._decoded(labels, None, label_set)

    def read_window(self, labels: Path, image: Path, label_set: LabelSet, box: Box) -> Decoded:
        """Read a part of a label file; see `LabelFormat.read_window`."""
        return self._decoded(labels, box, label_set)

    def _decoded(self, labels: Path, box: Box | None, label_set: LabelSet) -> Decoded:
        colours = self.colours or [(colour, train) for train, colour in enumerate(label_set.colours)]
        packed = pack(images.read_colours(labels, box))
        index, unknown = decode(packed, [colour for colour, _ in colours])
        rest = IGNORE_INDEX if self.rest is None else self.rest
        train_ids = np.array([*(train for _, train in colours), rest], np.uint8)[index]
        found = {} if self.rest is not None or not unknown.any() else _counted(packed[unknown])
        if len(colours) <= IGNORE_INDEX:
            index = np.where(unknown, IGNORE_INDEX, index).astype(np.uint8)
        return Decoded(train_ids, index, found)


def pack(colours: UInt8Array) -> npt.NDArray[np.uint32]:
    """Pack RGB colours [..., 3] into one number each, 0xRRGGBB."""
    packed: npt.NDArray[np.uint32] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return packed


def number_of(colour: Colour) -> int:
    """Return one colour as `pack` does."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpack(number: int) -> Colour:
    """Return the colour of a number 0xRRGGBB."""
    return number >> 16, number >> 8 & 255, number & 255


def hexadecimal(number: int) -> str:
    """Return a number 0xRRGGBB as text, #rrggbb."""
    return f"#{number:06x}"


def decode(packed: npt.NDArray[np.uint32], colours: list[Colour]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """Return the index in `colours` of each packed colour, and where a colour is not in it.

    Args:
        packed: [H, W].
        colours: the known colours.

    Returns:
        uint16 [H, W], the number of colours where a colour is unknown; bool [H, W].
    """
    known = pack(np.array(colours, np.uint8))
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
    index = order[place].astype(np.uint16)
    unknown = known[order][place] != packed
    index[unknown] = len(colours)
    return index, unknown


def _counted(packed: npt.NDArray[np.uint32]) -> dict[str, int]:
    """Return each colour with its number of pixels."""
    values, counts = np.unique(packed, return_counts=True)
    return {str(list(unpack(value))): count
            for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
