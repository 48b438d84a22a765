"""Label files whose values are ids: greyscale and indexed images, one channel of a colour image, .npy and .mat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.formats import arrays
from fastscnn.data.formats.base import Decoded, LabelFormat
from fastscnn.media import images
from fastscnn.media.windows import Box, boxes, cropped
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet

Channel = Literal["", "red", "green", "blue", "alpha"]
_Values = npt.NDArray[np.integer[Any]]
_PART = (2048, 2048)  # pixels that are read at a time
_TABLE = 1 << 16  # ids below this are mapped by a table


@dataclass(frozen=True)
class IdLabels(LabelFormat):
    """Label files whose values are ids.

    Attributes:
        ids: stored id -> train id, 255 for ignored ids; empty takes the mapping of the label set.
        rest: train id of every other id; None makes them an error.
        channel: the channel that holds the ids in colour images, as in CARLA's; "" for files of one channel.
        variable: name of the variable in .mat files; "" takes the only matrix.
        palette: the colour of each train id. An indexed file is decoded by its own palette if all colours that it uses are
            in here: some programs give the same class another index in each file. () always takes the index.
    """

    ids: Mapping[int, int] = field(default_factory=dict)
    rest: int | None = None
    channel: Channel = ""
    variable: str = ""
    palette: tuple[Colour, ...] = ()

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read a label file; see `LabelFormat.read`."""
        return self._decoded(labels, None, label_set)

    def read_window(self, labels: Path, image: Path, label_set: LabelSet, box: Box) -> Decoded:
        """Read a part of a label file; see `LabelFormat.read_window`."""
        return self._decoded(labels, box, label_set)

    def _decoded(self, labels: Path, box: Box | None, label_set: LabelSet) -> Decoded:
        values, palette = self.stored(labels, box)
        ids = self.mapping(label_set)
        if palette is not None and self.palette:
            ids = self._by_colour(values, palette, ids)
        return self._mapped(values, ids)

    def mapped(self, values: _Values, label_set: LabelSet) -> Decoded:
        """Return the labels of stored ids [H, W]."""
        return self._mapped(values, self.mapping(label_set))

    def mapping(self, label_set: LabelSet) -> Mapping[int, int]:
        """Return the train id of each stored id, 255 for ignored ids."""
        return self.ids or _ids(label_set)

    def stored(self, path: Path, box: Box | None = None) -> tuple[_Values, UInt8Array | None]:
        """Return the stored values [H, W], all or those in a box, and the palette of an indexed image."""
        match path.suffix.lower():
            case ".npy":
                return arrays.npy(path, box), None
            case ".mat":
                return cropped(arrays.mat(path, self.variable), path, box), None
        if self.channel:
            return images.read_channel(path, self.channel, box), None
        return images.read_values(path, box)

    def _by_colour(self, values: _Values, palette: UInt8Array, ids: Mapping[int, int]) -> Mapping[int, int]:
        """Return the mapping of a file whose palette has the colours of the classes at its own indices."""
        trained = {colour: train for train, colour in enumerate(self.palette)}
        used = [index for index in np.unique(values).tolist() if ids.get(index) != IGNORE_INDEX]
        colours = [tuple(palette[index].tolist()) for index in used if index < len(palette)]
        if len(colours) < len(used) or any(colour not in trained for colour in colours):
            return ids
        return {**ids, **{index: trained[colour] for index, colour in zip(used, colours, strict=True)}}

    def _mapped(self, values: _Values, ids: Mapping[int, int]) -> Decoded:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= _TABLE:
            return self._mapped_one_by_one(values, ids)
        table = np.full(max(256, high + 1), IGNORE_INDEX if self.rest is None else self.rest, np.uint8)
        known = np.full(len(table), self.rest is not None)
        for stored, train in ids.items():
            if 0 <= stored < len(table):
                table[stored], known[stored] = train, True
        stored_values = values.astype(np.uint8 if high < 256 else np.uint16, copy=False)
        if known[: high + 1].all():
            return Decoded(table[stored_values], stored_values)
        counts = np.bincount(stored_values[~known[stored_values]], minlength=1)
        unknown = {str(value): int(counts[value]) for value in np.flatnonzero(counts)}
        return Decoded(table[stored_values], stored_values, unknown)

    def _mapped_one_by_one(self, values: _Values, ids: Mapping[int, int]) -> Decoded:
        """Map ids that are below 0 or too large for a table."""
        found, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        rest = IGNORE_INDEX if self.rest is None else self.rest
        train = np.array([ids.get(value, rest) for value in found.tolist()], np.uint8)
        foreign = {} if self.rest is not None else {
            str(value): count for value, count in zip(found.tolist(), counts.tolist(), strict=True) if value not in ids
        }
        return Decoded(train[place].reshape(values.shape), values, foreign)


def _ids(label_set: LabelSet) -> dict[int, int]:
    table = label_set.train_ids()
    return {int(stored): int(table[stored]) for stored in np.flatnonzero(table >= 0)}


@dataclass(frozen=True)
class BinaryLabels(LabelFormat):
    """Masks of two classes: 0 is the first class, and values of at least `threshold` are the second.

    A file that holds 0 and 1 only is a mask, too. Values between, as of an antialiased edge, belong to the nearer class.

    Attributes:
        threshold: smallest value of the second class, in files of 8 bits.
        channel: the channel that holds the mask, such as "alpha"; "" for files of one channel.
    """

    threshold: int = 128
    channel: Channel = ""

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read a mask; see `LabelFormat.read`."""
        return self._decoded(labels, None)

    def read_window(self, labels: Path, image: Path, label_set: LabelSet, box: Box) -> Decoded:
        """Read a part of a mask; see `LabelFormat.read_window`."""
        return self._decoded(labels, box)

    def _decoded(self, labels: Path, box: Box | None) -> Decoded:
        values, _ = IdLabels(channel=self.channel).stored(labels, box)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > IGNORE_INDEX:
            raise FastSCNNError(f"{labels}: holds values from {low} to {high}; a binary mask has values from 0 to 255.")
        zero_one = high <= 1 and (box is None or not high or self._is_zero_one(labels, box.size))
        mask = (values >= (1 if zero_one else self.threshold)).astype(np.uint8)
        return Decoded(mask, values)

    def _is_zero_one(self, labels: Path, size: tuple[int, int]) -> bool:
        """Return whether a whole file holds 0 and 1 only, which a window of it does not show."""
        status = labels.stat()
        return _is_zero_one(labels, self.channel, size, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _is_zero_one(labels: Path, channel: Channel, size: tuple[int, int], changed: tuple[int, int]) -> bool:
    """Return whether a file holds 0 and 1 only; `changed` are its time and size, for the cache."""
    del changed
    return all(IdLabels(channel=channel).stored(labels, part)[0].max() <= 1 for part in boxes(size, _PART))
