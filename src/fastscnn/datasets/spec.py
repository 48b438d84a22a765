"""DatasetSpec: where the image and label files of a dataset lie, and what its labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastscnn import images
from fastscnn.arrays import UInt8Array
from fastscnn.errors import FastSCNNError, unknown
from fastscnn.labels import IGNORE, LabelSet


@dataclass(frozen=True)
class Pair:
    """An image file and its label file."""

    image: Path
    labels: Path


@dataclass(frozen=True)
class Split:
    """Where the files of one split lie, relative to the dataset's root.

    Attributes:
        images: glob pattern of the images, `**` allowed.
        labels: label file of an image; `{stem}` stands for the image's file name without its suffix.
    """

    images: str
    labels: str


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
    """

    name: str
    root: Path
    label_set: LabelSet
    splits: Mapping[str, Split]
    labels_are: str = "ids"
    terms: str = "not stated"

    def split(self, name: str) -> Split:
        """The split of that name. Raises FastSCNNError with the nearest spelling where there is none."""
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, self.splits)
        return self.splits[name]

    def image_files(self, split: str) -> list[Path]:
        """All image files of the split, sorted."""
        pattern = self.split(split).images
        return sorted(path for path in self.root.glob(pattern) if path.suffix.lower() in images.SUFFIXES)

    def label_file(self, split: str, image: Path) -> Path:
        """Where the labels of `image` belong, whether the file is there or not."""
        return self.root / self.split(split).labels.replace("{stem}", image.stem)

    def pairs(self, splits: str) -> list[Pair]:
        """The pairs of a split, or of several joined by `+` ("train+val"), in the order of their file names.

        Raises:
            FastSCNNError: unknown split, no image in it, or a label file that is missing.
        """
        pairs = []
        for split in splits.split("+"):
            found = [Pair(image, self.label_file(split, image)) for image in self.image_files(split)]
            if not found:
                pattern = self.split(split).images
                raise FastSCNNError(f"{self.root}: no images match {pattern!r} (split {split!r} of {self.name}).")
            for pair in found:
                if not pair.labels.is_file():
                    raise FastSCNNError(f"{pair.image}: its label file {pair.labels} is missing; "
                                        "`fastscnn check` lists them all.")
            pairs += found
        return pairs

    def read(self, pair: Pair) -> tuple[UInt8Array, UInt8Array]:
        """Image uint8 [H, W, 3] RGB and train ids uint8 [H, W] of a pair.

        Raises:
            FastSCNNError: a file that cannot be read, an id that belongs to no class, or sizes that differ.
        """
        image, labels = images.read(pair.image), self.read_labels(pair.labels)
        if image.shape[:2] != labels.shape:
            raise FastSCNNError(f"{pair.labels}: has {labels.shape[1]}x{labels.shape[0]} pixels but its image "
                                f"{image.shape[1]}x{image.shape[0]}; make them the same.")
        return image, labels

    def read_raw(self, path: Path) -> tuple[UInt8Array, int]:
        """A label file before its ids are mapped: uint8 [H, W], and how many pixels had an unknown colour.

        Colours become train ids here; unknown ones are ignored (255) and counted.
        """
        if self.labels_are == "ids":
            return images.read_ids(path), 0
        return _decode(images.read_colours(path), self.label_set)

    def read_labels(self, path: Path) -> UInt8Array:
        """A label file as train ids, uint8 [H, W], 255 where a pixel is ignored.

        Raises:
            FastSCNNError: unreadable, or an id that belongs to no class.
        """
        raw, _ = self.read_raw(path)
        if self.labels_are == "colours":
            return raw
        table = self.label_set.train_ids()
        train = table[raw]
        if train.min() < 0:
            value = int(raw[train < 0][0])
            raise FastSCNNError(f"{path}: holds the id {value}, which is no class of {self.name}; "
                                "`fastscnn check` lists all such files.")
        return train.astype(np.uint8)


def pack(colours: UInt8Array) -> npt.NDArray[np.uint32]:
    """RGB colours [..., 3] as one number each, 0xRRGGBB."""
    packed: npt.NDArray[np.uint32] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return packed


def _decode(colours: UInt8Array, label_set: LabelSet) -> tuple[UInt8Array, int]:
    """Colours [H, W, 3] -> train ids [H, W], and the number of pixels whose colour is no class's."""
    packed, known = pack(colours), pack(np.array(label_set.colours, np.uint8))
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
    train = order[place].astype(np.uint8)
    strange = known[order][place] != packed
    train[strange] = IGNORE
    return train, int(strange.sum())
