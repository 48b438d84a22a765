"""Read the labels of one image, and find what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.check import misread
from fastscnn.data.check.facts import Remark
from fastscnn.data.formats.base import Decoded
from fastscnn.data.formats.colours import hexadecimal, number_of
from fastscnn.data.formats.ids import BinaryLabels, IdLabels
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.media.encoding import Encoding, encoding
from fastscnn.media.windows import SizeMismatchError
from fastscnn.model.label_set import IGNORE_INDEX

_SHOWN = 8  # ids or colours in one message
_MOST_VALUES = 256  # in the facts of a file
_TABLE = 1 << 16  # values below this are counted by a table
_GREY = 0.25  # share of pixels between black and white that antialiased edges do not reach

_SIDEWAYS = 5  # EXIF orientations from here on swap height and width
_SIMPLE = 8  # largest numerator and denominator of a factor between sizes

@dataclass(frozen=True)
class Counts:
    """Pixels of labels; for the attributes see `Facts`."""

    pixels: tuple[int, ...]
    ignored: int = 0
    unknown: int = 0
    values: tuple[int, ...] = ()
    palette: tuple[tuple[int, str], ...] = ()
    names: tuple[tuple[str, int], ...] = ()
    remarks: tuple[Remark, ...] = ()

    @classmethod
    def none(cls, spec: DatasetSpec) -> Counts:
        """Return those of labels that cannot be read."""
        return cls((0,) * len(spec.label_set))


@dataclass(frozen=True, eq=False)
class Labels:
    """The label file of an image.

    Attributes:
        spec, pair: what is read.
        encoding: how the file is stored; None if it is no image.
        decoded: its labels; None if they cannot be read.
        remarks: why they cannot be read, or why they are not the labels.
    """

    spec: DatasetSpec
    pair: Pair
    encoding: Encoding | None
    decoded: Decoded | None
    remarks: tuple[Remark, ...]

    @classmethod
    def read(cls, spec: DatasetSpec, pair: Pair, picture: UInt8Array | None) -> Labels:
        """Read the label file of an image, uint8 [H, W, channels] or None if it cannot be read."""
        stored, decoded, problem = encoding(pair.labels), None, ""
        try:
            decoded = spec.decode(pair.labels, pair.image, pair.box)
        except SizeMismatchError as error:  # of a window
            fix = fix_of_sizes(error.wanted, error.found, 1)
            return cls(spec, pair, stored, None, (Remark("error", True, "size-mismatch", str(error), fix),))
        except FastSCNNError as error:
            problem = str(error)
        elsewhere = _other_image(spec, pair) if decoded is not None else ()
        cause = misread.cause(spec, pair, picture, decoded, stored)
        if problem and not cause:
            fix = misread.fix_of_unreadable(spec, pair, problem)
            cause = Remark("error", True, "unreadable-labels", problem, fix)
        return cls(spec, pair, stored, decoded, (*((cause,) if cause else ()), *elsewhere))

    def count(self, labels: UInt8Array, stored: npt.NDArray[Any]) -> Counts:
        """Count the pixels of the decoded train ids [H, W] and of the stored content [H, W, ...], both with crop."""
        assert self.decoded is not None
        counts = _counts(labels)
        pixels, ignored = counts[: len(self.spec.label_set)], int(counts[IGNORE_INDEX])
        names = tuple(self.decoded.unknown.items()) if self.spec.labels.unknown == "names" else ()
        unknown = 0 if names else sum(self.decoded.unknown.values())
        if unknown and not self.spec.labels.lenient:
            ignored = max(0, ignored - unknown)
        values = _values(stored) if self.spec.labels.unknown == "ids" else {}
        palette, remarks = self._palette(values)
        if not names and not self.remarks:
            remarks += [*self._unknown(self.decoded.unknown), *self._masks(values)]
        if ignored == labels.size and not names and self.pair.box is None:
            message = f"{self.pair.labels}: every pixel is ignored."
            remarks.append(Remark("warning", True, "empty-labels", message, "Remove the image and its labels, or label it."))
        kept = tuple(values) if len(values) <= _MOST_VALUES else ()
        return Counts(tuple(map(int, pixels)), ignored, unknown, kept, palette, names, tuple(remarks))

    def _unknown(self, unknown: Mapping[str, int]) -> Iterator[Remark]:
        what, path = self.spec.labels.unknown, self.pair.labels
        if unknown and self.spec.labels.lenient:
            pixels_of = f"{sum(unknown.values())} pixels have a {what.removesuffix('s')} of no class"
            message = f"{path}: {pixels_of} and are ignored: {_listed(unknown)}."
            fix = misread.fix_of_colours(self.spec, unknown)
            yield Remark("warning", True, f"unknown-{what}", message, fix)
        elif unknown:
            message = f"{path}: contains {what} that are no class of {self.spec.name}: {_listed(unknown)}."
            fix = f"Correct the {what}, add the classes to the dataset, or map them in [map] of dataset.toml."
            yield Remark("error", True, f"unknown-{what}", message, fix)

    def _masks(self, values: Mapping[int, int]) -> Iterator[Remark]:
        """Yield a remark on a file of `labels_are = "binary"` that is no mask."""
        if not isinstance(self.spec.labels, BinaryLabels):
            return
        threshold, highest, total = self.spec.labels.threshold, max(values), sum(values.values())
        grey = sum(count for value, count in values.items() if 1 < value < IGNORE_INDEX - 1)
        if 1 < highest < threshold:
            message = (f"{self.pair.labels}: has no value above {highest}, and the threshold of the second class is "
                       f"{threshold}; every pixel is {self.spec.label_set.names[0]!r}.")
            yield Remark("warning", True, "no-mask", message, "Lower threshold in dataset.toml, or correct labels_are.")
        elif grey > _GREY * total:
            message = f"{self.pair.labels}: {100 * grey / total:.0f} % of its pixels are neither near 0 nor near 255."
            fix = "Make sure that the file is a mask of two classes; if its values are ids, correct labels_are in dataset.toml."
            yield Remark("warning", True, "no-mask", message, fix)

    def _palette(self, values: Mapping[int, int]) -> tuple[tuple[tuple[int, str], ...], list[Remark]]:
        """Return the palette of an indexed file (see `Facts`), and a remark if it has the colours of some classes only."""
        palette = self.encoding.palette if self.encoding else None
        if palette is None or not isinstance(self.spec.labels, IdLabels) or self.spec.labels.channel:
            return (), []
        ids = self.spec.labels.mapping(self.spec.label_set)
        used = {index: tuple(palette[index].tolist()) for index in values
                if index < len(palette) and ids.get(index) != IGNORE_INDEX}
        classes = {colour: train for train, colour in enumerate(self.spec.labels.palette)}
        known = {index: classes[colour] for index, colour in used.items() if colour in classes}
        if used and len(known) == len(used):
            return (), []
        listed = tuple((index, hexadecimal(number_of(colour))) for index, colour in used.items())
        if not known:
            return listed, []
        others = ", ".join(f"{index} ({colour})" for index, colour in listed if index not in known)
        moved = any(ids.get(index) != train for index, train in known.items())
        message = (f"{self.pair.labels}: has the colours of some classes in its palette, but not at the indices {others}; "
                   "it is read by index" + (", and the colours of classes are at other indices." if moved else "."))
        fix = "Correct the colours in dataset.toml, or the palette of the file."
        return listed, [Remark("error" if moved else "warning", True, "palette-mismatch", message, fix)]


def _other_image(spec: DatasetSpec, pair: Pair) -> tuple[Remark, ...]:
    """Return a remark if the label file names another image than that of the pair."""
    other = spec.labels.other_image(pair.labels, pair.image)
    if other is None:
        return ()
    message = f"{pair.labels}: names the image {other} (imagePath), but is paired with {pair.image}."
    fix = "Give the label file the name of its image, or correct imagePath in it."
    return (Remark("warning", True, "other-image", message, fix),)


def _values(stored: npt.NDArray[Any]) -> dict[int, int]:
    """Return each value of integers with its number of pixels, in ascending order."""
    if stored.dtype == np.uint8:
        counts = _counts(stored)
    elif int(stored.min()) >= 0 and int(stored.max()) < _TABLE:
        counts = np.bincount(stored.ravel(), minlength=1)
    else:
        values, found = np.unique(stored, return_counts=True)
        return dict(zip(values.tolist(), found.tolist(), strict=True))
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _counts(raw: UInt8Array) -> Int64Array:
    """Return how often each value occurs, int64 [256]. By blocks, since bincount needs 8 bytes per value."""
    flat = raw.ravel()
    counts = np.zeros(256, np.int64)
    for start in range(0, flat.size, 1 << 20):
        counts += np.bincount(flat[start : start + (1 << 20)], minlength=256)
    return counts


def _listed(counts: Mapping[str, int]) -> str:
    """Return the most frequent values with their pixels, and the number of the others."""
    order = sorted(counts, key=lambda value: -counts[value])
    shown = ", ".join(f"{value} ({counts[value]} pixel{'s' * (counts[value] != 1)})" for value in order[:_SHOWN])
    return shown + (f" and {len(order) - _SHOWN} more" if len(order) > _SHOWN else "")


def fix_of_sizes(image: tuple[int, ...], of_labels: tuple[int, ...], turned: int) -> str:
    """Return the fix for labels of another size than their image."""
    if of_labels == image[::-1]:
        if turned >= _SIDEWAYS:
            return "Rotate the labels to be upright as their image is shown, or remove the EXIF orientation of the image."
        return "Rotate the labels by 90 degrees, as their image is."
    factor = Fraction(image[0], of_labels[0])
    if factor == Fraction(image[1], of_labels[1]) and max(factor.as_integer_ratio()) <= _SIMPLE:
        return (f"The images are {factor} times as large as their labels: resize the labels to the image's size without "
                "interpolation (nearest neighbour).")
    return "Make each image and its labels the same size."
