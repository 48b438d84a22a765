"""DatasetSpec: where the image and label files of a dataset lie, and what its labels mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.formats import polygons
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet

_PLACE = re.compile(r"\{(stem|[1-9])\}")
_WILD = re.compile(r"\*\*/|\*")


@dataclass(frozen=True)
class Pair:
    """An image file and its label file.

    Attributes:
        more: files whose grey values become channels behind the image's RGB.
        instances: file of 16-bit ids that tell single objects apart, whether it is there or not; None where the dataset
            has none.
    """

    image: Path
    labels: Path
    more: tuple[Path, ...] = ()
    instances: Path | None = None


@dataclass(frozen=True)
class Split:
    """Where the files of one split lie, relative to the dataset's root.

    Attributes:
        images: glob pattern of the images, `**` allowed.
        labels: label file of an image; `{stem}` stands for the image's file name without its suffix, `{1}` for what the
            first wildcard of `images` took (`*`, or `**/` with its slash), `{2}` for the second, and so on.
        polygons: as `labels`, of a file of polygons that is taken where the label file is missing.
        more: as `labels`, of the files that hold further channels.
        instances: as `labels`, of a file that tells single objects apart; only scores that weigh objects need it.
        count: how many images the official release holds; 0 where that is not known.
        images_in: the official archive that holds the images and further channels, in words; "" where there is none.
        labels_in: the one that holds the labels.
        labels_unavailable: why nobody outside has the labels of this split; "" where they are there.
    """

    images: str
    labels: str
    polygons: str = ""
    more: tuple[str, ...] = ()
    instances: str = ""
    count: int = 0
    images_in: str = ""
    labels_in: str = ""
    labels_unavailable: str = ""

    def glob(self, pattern: str) -> str:
        """The glob that finds all files which `pattern` (labels, polygons or more) stands for."""
        wild = _WILD.findall(self.images)
        pieces = _PLACE.split(pattern)  # text and names of places in turn
        found = "".join(
            _escaped(piece) if index % 2 == 0 else "*" if piece == "stem" else "".join(wild[int(piece) - 1 : int(piece)])
            for index, piece in enumerate(pieces)
        )
        return re.sub(r"\*{2,}(?!/)", "*", found)  # `**` stands alone between slashes


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset on disk.

    Attributes:
        name: short name, kept in the card of what is trained on it.
        root: the folder that holds it.
        label_set: its classes, and how raw ids map to them.
        splits: split name -> where its files lie.
        labels_are: "ids" for single-channel label files, "colours" where each class has a colour.
        terms: under which terms the data may be used, for the card.
        colours: of labels stored as colours, the colour of each raw id; empty where each class has one colour, its own.
        polygon_ids: object name -> raw id, for labels that are drawn from polygons; an id below 0 is not drawn.
        crop: (x0, y0, x1, y1) of the part of images and labels that is read; None reads them whole.
        every: takes the first of so many images of each folder, in the order of their names.
    """

    name: str
    root: Path
    label_set: LabelSet
    splits: Mapping[str, Split]
    labels_are: str = "ids"
    terms: str = "not stated"
    colours: tuple[Colour, ...] = ()
    polygon_ids: Mapping[str, int] = field(default_factory=dict)
    crop: tuple[int, int, int, int] | None = None
    every: int = 1

    @property
    def channels(self) -> int:
        """Channels of its images: 3, and one for each further file."""
        return 3 + max((len(split.more) for split in self.splits.values()), default=0)

    @property
    def colours_of_ids(self) -> tuple[Colour, ...]:
        """Of labels stored as colours, the colour of each raw id."""
        return self.colours or self.label_set.colours

    def train_ids(self) -> Int64Array:
        """Lookup table [256]: what `read_raw` gives -> train id, -1 where that belongs to no class and is not ignored."""
        decoded = self.labels_are == "colours" and not self.colours
        return np.arange(256) if decoded else self.label_set.train_ids()

    def split(self, name: str) -> Split:
        """The split of that name. Raises FastSCNNError with the nearest spelling where there is none."""
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, self.splits)
        return self.splits[name]

    def labelled(self, name: str) -> Split:
        """As `split`. Raises FastSCNNError also where the labels of that split are labels_unavailable."""
        split = self.split(name)
        if split.labels_unavailable:
            raise FastSCNNError(f"{self.root}: the split {name!r} of {self.name} has no labels: {split.labels_unavailable}.")
        return split

    def image_files(self, split: str, *, all_frames: bool = False) -> list[Path]:
        """The image files of the split, sorted; with `all_frames` also those that `every` leaves out."""
        pattern = self.split(split).images
        found = sorted(path for path in self.root.glob(pattern) if path.suffix.lower() in images.SUFFIXES)
        if self.every == 1 or all_frames:
            return found
        folders: dict[Path, list[Path]] = {}
        for path in found:
            folders.setdefault(path.parent, []).append(path)
        return sorted(path for folder in folders.values() for path in folder[:: self.every])

    def label_file(self, split: str, image: Path) -> Path:
        """Where the labels of `image` belong, whether the file is there or not; its polygons where only they are there."""
        labels, *others = self.label_files(split, image)
        return next((other for other in others if other.is_file() and not labels.is_file()), labels)

    def label_files(self, split: str, image: Path) -> list[Path]:
        """Every file that may hold the labels of `image`: the label file, and that of its polygons where the split has such."""
        patterns = self.split(split).labels, self.split(split).polygons
        return [self._beside(split, image, pattern) for pattern in patterns if pattern]

    def channel_files(self, split: str, image: Path) -> list[Path]:
        """Where the further channels of `image` belong, whether they are there or not."""
        return [self._beside(split, image, pattern) for pattern in self.split(split).more]

    def pair(self, split: str, image: Path) -> Pair:
        """The files that belong to `image`, whether they are there or not."""
        pattern = self.split(split).instances
        instances = self._beside(split, image, pattern) if pattern else None
        return Pair(image, self.label_file(split, image), tuple(self.channel_files(split, image)), instances)

    def pairs(self, splits: str) -> list[Pair]:
        """The pairs of a split, or of several joined by `+` ("train+val"), in the order of their file names.

        Raises:
            FastSCNNError: unknown split, one whose labels are labels_unavailable, no image in it, or a file that is missing.
        """
        pairs = []
        for split in splits.split("+"):
            place = self.labelled(split)
            found = [self.pair(split, image) for image in self.image_files(split)]
            if not found:
                raise FastSCNNError(f"{self.root}: no images match {place.images!r} (split {split!r} of {self.name})"
                                    f"{from_archive(place.images_in, 'they belong')}.")
            for pair in found:
                parts = [("label file", pair.labels, place.labels_in)]
                parts += [("further channel", path, place.images_in) for path in pair.more]
                for what, path, archive in parts:
                    if not path.is_file():
                        raise FastSCNNError(f"{pair.image}: its {what} {path} is missing{from_archive(archive)}; "
                                            "`fastscnn check` lists them all.")
            pairs += found
        return pairs

    def read(self, pair: Pair) -> tuple[UInt8Array, UInt8Array]:
        """Image uint8 [H, W, channels], RGB first, and train ids uint8 [H, W] of a pair.

        Raises:
            FastSCNNError: a file that cannot be read, an id that belongs to no class, sizes that differ, or files that are
                smaller than `crop`.
        """
        image = images.stack(images.read(pair.image), pair.image, pair.more)
        labels = self.read_labels(pair.labels)
        if image.shape[:2] != labels.shape:
            raise FastSCNNError(f"{pair.labels}: has {labels.shape[1]}x{labels.shape[0]} pixels but its image "
                                f"{image.shape[1]}x{image.shape[0]}; make them the same.")
        return self.cropped(image, pair.image), self.cropped(labels, pair.labels)

    def cropped(self, pixels: UInt8Array, path: Path) -> UInt8Array:
        """The part of an image or of labels [H, W, ...] that is used. Raises FastSCNNError where it is smaller than that."""
        if self.crop is None:
            return pixels
        left, top, right, bottom = self.crop
        if pixels.shape[0] < bottom or pixels.shape[1] < right:
            raise FastSCNNError(f"{path}: is {pixels.shape[1]}x{pixels.shape[0]}, too small for the crop {list(self.crop)} "
                                f"of {self.name}; leave the option crop out.")
        return np.ascontiguousarray(pixels[top:bottom, left:right])

    def read_raw(self, path: Path) -> tuple[UInt8Array, int]:
        """A label file, whole, before its ids are mapped: uint8 [H, W], and how many pixels had an unknown colour.

        Colours become raw ids (train ids where `colours` is empty); unknown ones are ignored (255) and counted.
        """
        if self.polygon_ids and path.suffix == ".json":
            return polygons.read(path, self.polygon_ids), 0
        if self.labels_are == "ids":
            return images.read_ids(path), 0
        return _decode(images.read_colours(path), self.colours_of_ids)

    def read_labels(self, path: Path) -> UInt8Array:
        """A label file, whole, as train ids, uint8 [H, W], 255 where a pixel is ignored.

        Raises:
            FastSCNNError: unreadable, or an id that belongs to no class.
        """
        raw, _ = self.read_raw(path)
        train = self.train_ids()[raw]
        if train.min() < 0:
            value = int(raw[train < 0][0])
            raise FastSCNNError(f"{path}: holds the id {value}, which is no class of {self.name}; "
                                "`fastscnn check` lists all such files.")
        return train.astype(np.uint8)

    def _beside(self, split: str, image: Path, pattern: str) -> Path:
        """The file that `pattern` stands for beside `image`."""
        taken = {"stem": image.stem}
        if set(_PLACE.findall(pattern)) - {"stem"}:
            wild = captured(self.split(split).images, image.relative_to(self.root).as_posix()) or ()
            taken |= {str(place): text for place, text in enumerate(wild, 1)}
        return self.root / _PLACE.sub(lambda match: taken.get(match[1], match[0]), pattern)


def from_archive(archive: str, what: str = "it belongs") -> str:
    """The end of a sentence about what is missing: which archive holds it."""
    return f"; {what} to {archive}" if archive else ""


def captured(pattern: str, path: str) -> tuple[str, ...] | None:
    """What each wildcard of a glob (`*`, or `**/` with its slash) takes of `path`; None where that does not match."""
    expression = "".join(_expressions(pattern))
    match = re.fullmatch(expression, path)
    return match.groups() if match else None


def _expressions(pattern: str) -> Iterator[str]:
    end = 0
    for wild in _WILD.finditer(pattern):
        yield re.escape(pattern[end : wild.start()])
        yield "([^/]*)" if wild[0] == "*" else "((?:[^/]+/)*)"
        end = wild.end()
    yield re.escape(pattern[end:])


def _escaped(text: str) -> str:
    """Text that a glob takes as it stands."""
    return re.sub(r"([*?[])", r"[\1]", text)


def pack(colours: UInt8Array) -> npt.NDArray[np.uint32]:
    """RGB colours [..., 3] as one number each, 0xRRGGBB."""
    packed: npt.NDArray[np.uint32] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return packed


def _decode(colours: UInt8Array, palette: tuple[Colour, ...]) -> tuple[UInt8Array, int]:
    """Colours [H, W, 3] -> their places in the palette [H, W], and the number of pixels whose colour is not in it."""
    packed, known = pack(colours), pack(np.array(palette, np.uint8))
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
    train = order[place].astype(np.uint8)
    strange = known[order][place] != packed
    train[strange] = IGNORE_INDEX
    return train, int(strange.sum())
