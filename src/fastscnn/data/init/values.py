"""What label files hold: ids or colours, found in a sample of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import arrays
from fastscnn.data.formats.colours import pack
from fastscnn.data.init.survey import Survey
from fastscnn.media import images, windows
from fastscnn.media.encoding import lossy
from fastscnn.media.windows import Box
from fastscnn.model.label_set import Colour

SAMPLE = 200  # label files that are read
_FLAT = 0.8  # least share of neighbours with equal labels; photographs have below 0.5
_MOST = 4096  # values that are counted

WINDOW = (2048, 2048)  # pixels, of the parts of a large file
_WINDOWS = 16  # of a large label file that are read
_T = TypeVar("_T")
Palette = Mapping[int, Colour]


@dataclass(frozen=True)
class _File:
    """The content of one label file; see `Values`."""

    coloured: bool
    counts: Counter[int]
    flat: float
    palette: Palette | None
    transparent: bool = False


@dataclass(frozen=True)
class Values:
    """The content of a sample of label files.

    Attributes:
        files: number of files that were read.
        coloured: whether a file has colours that are not grey.
        counts: id, or 0xRRGGBB if `coloured`, -> its number of pixels.
        sets: the ids of each file.
        flat: share of horizontal neighbours that are equal.
        palettes: of each indexed file, id -> colour of the ids that it uses.
        transparent: whether a file has transparent parts, which may be its mask.
        lossy: whether a file is stored with a compression that changes values, as of JPEG.
        unread: errors of files that cannot be read.
        grey: path -> values of the files without colours, if other files have some.
    """

    files: int
    coloured: bool
    counts: Counter[int]
    sets: tuple[frozenset[int], ...]
    flat: float
    palettes: tuple[Palette, ...]
    transparent: bool
    lossy: bool
    unread: tuple[str, ...]
    grey: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Number of pixels that were read."""
        return self.counts.total()

    def share(self, *values: int) -> float:
        """Return the share of the pixels that have one of these values."""
        return sum(self.counts[value] for value in values) / max(1, self.pixels)

    @property
    def palette(self) -> Palette | None:
        """The colours of the ids, if all files are indexed and agree on them, and they are not just grey."""
        found: dict[int, Colour] = {}
        for palette in self.palettes:
            for index, colour in palette.items():
                if found.setdefault(index, colour) != colour:
                    return None
        grey = all(len(set(colour)) == 1 for index, colour in found.items() if index not in (0, 255))
        return found if len(self.palettes) == self.files and not grey else None

    @property
    def palettes_differ(self) -> bool:
        """Whether files give an index different colours, so that only the colours are the classes."""
        found: dict[int, Colour] = {}
        return any(found.setdefault(index, colour) != colour for palette in self.palettes for index, colour in palette.items())

    def by_colour(self) -> Counter[int]:
        """Return 0xRRGGBB -> number of pixels, of colours or of indexed files."""
        if self.coloured:
            return self.counts
        palette = {index: colour for found in self.palettes for index, colour in found.items()}
        shown: Counter[int] = Counter()
        for value, count in self.counts.items():
            red, green, blue = palette.get(value, (value & 255,) * 3)
            shown[red << 16 | green << 8 | blue] += count
        return shown


def spread(things: Sequence[_T], most: int = SAMPLE) -> list[_T]:
    """Return at most `most` of the things, spread evenly."""
    if len(things) <= most:
        return list(things)
    return [things[round(place * (len(things) - 1) / (most - 1))] for place in range(most)]


def read(survey: Survey, paths: Sequence[str], most: int = SAMPLE, colours: bool = False) -> Values:
    """Return the content of a sample of label files.

    Args:
        survey: the files of the folder.
        paths: the label files.
        most: number of files to read.
        colours: take the colours of indexed and grey files, too.
    """
    found: list[_File] = []
    grey: dict[str, frozenset[int]] = {}
    unread = []
    sample = spread(paths, most)
    for path in survey.tracked(sample):
        try:
            file = _joined([_file(survey.root / path, colours, box) for box in _boxes(survey.root / path)])
        except FastSCNNError as error:
            unread.append(str(error))
            continue
        found.append(file)
        if not file.coloured and not file.palette:
            grey[path] = frozenset(file.counts)
    coloured = any(file.coloured for file in found)
    if coloured and not all(file.coloured for file in found):  # grey files among colours: a class may be grey
        return replace(read(survey, paths, most, colours=True), grey=grey)
    counts: Counter[int] = Counter()
    for file in found:
        counts.update(file.counts)
    return Values(
        files=len(found),
        coloured=coloured,
        counts=counts,
        sets=tuple(frozenset(file.counts) for file in found),
        flat=float(np.mean([file.flat for file in found])) if found else 0.0,
        palettes=tuple(file.palette for file in found if file.palette is not None),
        transparent=any(file.transparent for file in found),
        lossy=any(lossy(survey.root / path) for path in sample),
        unread=tuple(unread),
    )


def look_like_labels(survey: Survey, paths: Sequence[str]) -> bool:
    """Return whether files hold areas of few values, as labels do; judged by three of them."""
    found = read(survey, paths, 3)
    return bool(found.files) and found.flat >= _FLAT and len(found.counts) < 300


def _boxes(path: Path) -> Sequence[Box | None]:
    """Return the parts of a label file that are read: all of it, or a sample of the windows of a large one."""
    size = windows.large_size(path)
    return spread(windows.boxes(size, WINDOW), _WINDOWS) if size else [None]


def _joined(parts: Sequence[_File]) -> _File:
    """Return the content of a file from that of its parts."""
    palettes = [part.palette for part in parts if part.palette is not None]
    return _File(
        coloured=any(part.coloured for part in parts),
        counts=sum((part.counts for part in parts), Counter()),
        flat=float(np.mean([part.flat for part in parts])),
        palette={index: colour for palette in palettes for index, colour in palette.items()} if palettes else None,
        transparent=any(part.transparent for part in parts),
    )


def _file(path: Path, colours: bool, box: Box | None) -> _File:
    if path.suffix.lower() == ".npy":
        return _counted(arrays.npy(path, box), False, None)
    if path.suffix.lower() == ".mat":
        return _counted(arrays.mat(path), False, None)
    try:
        values, palette = images.read_values(path, box)
    except FastSCNNError:  # colours, or transparent parts
        return replace(_counted(pack(images.read_colours(path, box)), True, None), transparent=has_transparent_parts(path))
    return _counted(pack(images.read_colours(path, box)), True, None) if colours else _counted(values, False, palette)


def has_transparent_parts(path: Path) -> bool:
    """Return whether the alpha of an image differs from pixel to pixel."""
    try:
        alpha = images.read_channel(path, "alpha")
    except FastSCNNError:
        return False
    return bool(alpha.min() < alpha.max())


def _counted(values: npt.NDArray[np.integer[Any]], coloured: bool, palette: npt.NDArray[np.uint8] | None) -> _File:
    """Count values by their horizontal runs, of which labels have few."""
    flat = values.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff([*starts.tolist(), flat.size])
    found, place = np.unique(flat[starts], return_inverse=True)
    counts = Counter(dict(zip(found.tolist(), np.bincount(place.ravel(), lengths).astype(int).tolist(), strict=True)))
    kept = Counter(dict(counts.most_common(_MOST))) if len(counts) > _MOST else counts
    colours = None
    if palette is not None:
        colours = {index: _colour(palette[index].tolist()) for index in found.tolist() if index < len(palette)}
    return _File(coloured, kept, 1 - (len(starts) - 1) / max(1, flat.size - 1), colours)


def _colour(values: list[int]) -> Colour:
    return values[0], values[1], values[2]
