"""DatasetSpec: where the image and label files of a dataset are, and what the labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fastscnn.base import archives, files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import UInt8Array
from fastscnn.data.dataset_metrics import DatasetMetrics
from fastscnn.data.formats.base import Decoded, LabelFormat, Shapes
from fastscnn.data.formats.ids import IdLabels
from fastscnn.data.patterns import any_case, beside, glob_of, matches, matching, through
from fastscnn.data.soft import SoftClasses
from fastscnn.media import images, windows
from fastscnn.media.windows import Box
from fastscnn.model.label_set import LabelSet

_T = TypeVar("_T", bound=np.generic)
_IDS = IdLabels()


@dataclass(frozen=True)
class Pair:
    """An image file and its label file.

    Attributes:
        extra_channels: greyscale files that become further channels behind the image's RGB.
        instances: file of 16-bit instance ids, whether it exists or not; None if the dataset has none.
        box: the window of the image that is used; None uses all of it.
        soft: file of soft labels, whether it exists or not; None if the split has none.
    """

    image: Path
    labels: Path
    extra_channels: tuple[Path, ...] = ()
    instances: Path | None = None
    box: Box | None = None
    soft: Path | None = None


@dataclass(frozen=True)
class Split:
    """Where the files of one split are, relative to the dataset's root.

    Attributes:
        images: glob pattern of the images, or several; `**` is allowed. Suffixes match without regard to case.
        labels: label file of an image. `{stem}` is the image's file name without its suffix; `{1}` is what the first
            wildcard of `images` matches (`*`, or `**/` with its slash), `{2}` the second, and so on. Without a placeholder it
            is one file with the labels of all images.
        polygons: pattern like `labels`, of a polygon file that is used if the label file is missing.
        extra_channels: patterns like `labels`, of the files with further channels.
        instances: pattern like `labels`, of a file of instance ids; only instance metrics need it.
        soft: pattern like `labels`, of a file of soft labels; "" if there are none. See `data.soft`.
        count: number of images in the official release; 0 if unknown.
        images_in: official archive of the images and further channels, for messages; "" if there is none.
        labels_in: official archive of the labels.
        labels_unavailable: why the labels of this split are not public; "" if they are.
        window: (height, width) in pixels of the windows that each image is divided into, at most; None uses whole images.
        files: the images, each with its label file ("" follows `labels`), where a list or a fraction chooses them; None takes
            all images of the pattern.
    """

    images: str | tuple[str, ...]
    labels: str
    polygons: str = ""
    extra_channels: tuple[str, ...] = ()
    instances: str = ""
    soft: str = ""
    count: int = 0
    images_in: str = ""
    labels_in: str = ""
    labels_unavailable: str = ""
    window: tuple[int, int] | None = None
    files: tuple[tuple[str, str], ...] | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The glob patterns of the images."""
        return (self.images,) if isinstance(self.images, str) else self.images

    @cached_property
    def listed(self) -> dict[str, str]:
        """The images in `files` with their label files."""
        return dict(self.files or ())

    def globs(self, pattern: str) -> list[str]:
        """Return the globs that find every file that `pattern` (labels, polygons, extra_channels) names."""
        return list(dict.fromkeys(glob_of(images, pattern) for images in self.patterns))


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset on disk.

    Attributes:
        name: short name, kept in the card of weights that are trained on it.
        root: its folder.
        label_set: the classes, and the mapping from raw ids.
        splits: split name -> where its files are.
        labels: format of the label files.
        terms: terms of use of the data, for the card.
        crop: (x0, y0, x1, y1) in pixels, the part of images and labels that is used; None uses all.
        every: use the first of every so many images of each folder, in the order of their names.
        metrics: what the dataset's authors report beside the mIoU; None for the mIoU alone.
        soft: what soft labels mean; None if no split has any.
        source: what it was loaded from, such as "camvid:ROOT", for commands in messages; "" if it was made in Python.
    """

    name: str
    root: Path
    label_set: LabelSet
    splits: Mapping[str, Split]
    labels: LabelFormat = _IDS
    terms: str = "not stated"
    crop: tuple[int, int, int, int] | None = None
    every: int = 1
    metrics: DatasetMetrics | None = None
    soft: SoftClasses | None = None
    source: str = field(default="", compare=False)

    @property
    def channels(self) -> int:
        """Number of channels of the images: 3, and one for each further file."""
        return 3 + max((len(split.extra_channels) for split in self.splits.values()), default=0)

    def split(self, name: str) -> Split:
        """Return a split by its name.

        Raises:
            FastSCNNError: no such split; it names the nearest one.
        """
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, self.splits)
        return self.splits[name]

    def labelled(self, name: str) -> Split:
        """Return a split by its name. Raises FastSCNNError like `split`, and if its labels are not public."""
        split = self.split(name)
        if split.labels_unavailable:
            raise FastSCNNError(f"{self.root}: the split {name!r} of {self.name} has no labels: {split.labels_unavailable}.")
        return split

    def evaluation_split(self) -> str:
        """Return the split to evaluate by default: `val`, or the only split with labels.

        Raises:
            FastSCNNError: there is no `val` and not exactly one other split; it names them.
        """
        labelled = [name for name, split in self.splits.items() if not split.labels_unavailable]
        if "val" in labelled:
            return "val"
        if len(labelled) != 1:
            raise FastSCNNError(f"{self.root}: {self.name} has no split 'val'; choose a split: {', '.join(labelled)}.")
        return labelled[0]

    def image_files(self, split: str, *, all_frames: bool = False) -> list[Path]:
        """Return the image files of a split, sorted. With `all_frames`, include those that `every` leaves out."""
        place = self.split(split)
        if place.files is None:
            globs = {any_case(pattern): pattern for pattern in place.patterns}
            below = {path for glob, pattern in globs.items() for path in matches(self.root, glob)
                     if not is_hidden(path, self.root, pattern)}
            found = sorted(path for path in below if path.suffix.lower() in images.SUFFIXES)
        else:
            found = sorted(self.root / image for image in place.listed)
        if self.every == 1 or all_frames:
            return found
        folders: dict[Path, list[Path]] = {}
        for path in found:
            folders.setdefault(path.parent, []).append(path)
        return sorted(path for folder in folders.values() for path in folder[:: self.every])

    def label_file(self, split: str, image: Path) -> Path:
        """Return the label file of an image, or its polygon file if only that exists. The label file need not exist."""
        labels, *others = self.label_files(split, image)
        return next((other for other in others if exists(other) and not exists(labels)), labels)

    def label_files(self, split: str, image: Path) -> list[Path]:
        """Return every file that may hold the labels of an image: the label file, then the polygon file if there is one."""
        if listed := self.split(split).listed.get(relative(self.root, image)):
            return [self.root / listed]
        patterns = self.split(split).labels, self.split(split).polygons
        return [self._beside(split, image, pattern) for pattern in patterns if pattern]

    def channel_files(self, split: str, image: Path) -> list[Path]:
        """Return the files of the further channels of an image, whether they exist or not."""
        return [self._beside(split, image, pattern) for pattern in self.split(split).extra_channels]

    def pair(self, split: str, image: Path) -> Pair:
        """Return the files of a whole image, whether they exist or not."""
        place = self.split(split)
        others = place.instances, place.soft
        instances, soft = (self._beside(split, image, pattern) if pattern else None for pattern in others)
        return Pair(image, self.label_file(split, image), tuple(self.channel_files(split, image)), instances, soft=soft)

    def windows(self, split: str, pair: Pair) -> list[Pair]:
        """Return a pair once for each window of its image; without a window if the image cannot be read."""
        window = self.split(split).window
        if window is None:
            return [pair]
        try:
            extent = windows.size(pair.image) or images.size(pair.image)
        except FastSCNNError:  # reading the image says why
            return [pair]
        return [replace(pair, box=box) for box in windows.boxes(extent, window)]

    def pairs(self, splits: str) -> list[Pair]:
        """Return the pairs of one split, or of several joined by `+` ("train+val"), in the order of their file names.

        An image that is divided into windows has a pair for each of them.

        Raises:
            FastSCNNError: unknown split, labels that are not public, a split without images, a missing file, or a damaged
                archive.
        """
        pairs = []
        for split in dict.fromkeys(splits.split("+")):
            place = self.labelled(split)
            for problem in self.broken_archives(split).values():
                raise FastSCNNError(problem)
            found = [self.pair(split, image) for image in self.image_files(split)]
            if not found:
                raise FastSCNNError(f"{self.root}: no images match {place.images!r} (split {split!r} of {self.name})"
                                    f"{from_archive(place.images_in, 'they belong')}.")
            for pair in found:
                parts = [("label file", pair.labels, place.labels_in)]
                parts += [("extra channel", path, place.images_in) for path in pair.extra_channels]
                for what, path, archive in parts:
                    if not exists(path):
                        raise FastSCNNError(f"{pair.image}: its {what} {path} is missing{from_archive(archive)}; "
                                            "`fastscnn check` lists all missing files.")
            pairs += [pair for whole in found for pair in self.windows(split, whole)]
        return pairs

    def broken_archives(self, split: str) -> dict[Path, str]:
        """Return the damaged archives that the patterns of a split lead through, each with a sentence about it.

        Raises:
            FastSCNNError: one that cannot be read.
        """
        place = self.split(split)
        others = (place.labels, *place.extra_channels, place.soft)
        globs = dict.fromkeys((*place.patterns, *(glob for pattern in others if pattern for glob in place.globs(pattern))))
        found = dict.fromkeys(archive for glob in globs for archive in through(self.root, glob))
        return {archive: problem for archive in found if (problem := archives.problem(archive))}

    def read(self, pair: Pair) -> tuple[UInt8Array, UInt8Array]:
        """Read a pair, or the window of it that its `box` names.

        Returns:
            The image uint8 [H, W, channels], RGB first, and train ids uint8 [H, W], 255 where a pixel is ignored.

        Raises:
            FastSCNNError: an unreadable file, an id that is no class, image and labels of different sizes, or files
                smaller than `crop`.
        """
        image = images.stack(images.read_oriented(pair.image, box=pair.box)[0], pair.image, pair.extra_channels)
        labels = self.read_labels(pair.labels, pair.image, pair.box)
        if image.shape[:2] != labels.shape:
            raise FastSCNNError(f"{pair.labels}: is {hxw(labels.shape)} but its image is {hxw(image.shape)}; "
                                "make them the same size.")
        return self.cropped(image, pair.image), self.cropped(labels, pair.labels)

    def read_soft(self, pair: Pair, size: tuple[int, int]) -> UInt8Array | None:
        """Read the soft labels of a pair whose image has this size (height, width); None if it has none.

        Raises:
            FastSCNNError: see `SoftClasses.read`.
        """
        return self.soft.read(pair.soft, size) if self.soft and pair.soft else None

    def cropped(self, pixels: npt.NDArray[_T], path: Path) -> npt.NDArray[_T]:
        """Return the part of an image or of labels [H, W, ...] inside `crop`.

        Raises:
            FastSCNNError: the file `path` is smaller than the crop.
        """
        if self.crop is None:
            return pixels
        left, top, right, bottom = self.crop
        if pixels.shape[0] < bottom or pixels.shape[1] < right:
            raise FastSCNNError(f"{path}: is {hxw(pixels.shape)}, too small for the crop of {self.name}, rows {top} to "
                                f"{bottom} and columns {left} to {right}; omit the option crop.")
        return np.ascontiguousarray(pixels[top:bottom, left:right])

    def decode(self, labels: Path, image: Path, box: Box | None = None) -> Decoded:
        """Read the labels of an image or of a window of it, without crop.

        Raises:
            FastSCNNError: unreadable, or no labels for the image.
        """
        if box is not None:
            return self.labels.read_window(labels, image, self.label_set, box)
        return self.labels.read(labels, image, self.label_set)

    def read_labels(self, labels: Path, image: Path | None = None, box: Box | None = None) -> UInt8Array:
        """Read the labels of an image as train ids, without crop: uint8 [H, W], 255 where a pixel is ignored.

        Args:
            labels: the label file.
            image: the image file; some formats need it.
            box: the window of it; None reads all labels.

        Raises:
            FastSCNNError: unreadable, or an id that is no class.
        """
        decoded = self.decode(labels, image or labels, box)
        if not decoded.unknown or self.labels.lenient:
            return decoded.labels
        what, value = self.labels.unknown.removesuffix("s"), next(iter(decoded.unknown))
        if isinstance(self.labels, Shapes):
            raise FastSCNNError(f"{labels}: {unknown(what, value, self.labels.ids)} Correct it, or add it to [map] in "
                                f"dataset.toml; `fastscnn check` lists all such {what}s.")
        raise FastSCNNError(f"{labels}: contains the {what} {value}, which is no class of {self.name}; "
                            "`fastscnn check` lists all such files.")

    def _beside(self, split: str, image: Path, pattern: str) -> Path:
        """Return the file that a pattern names for an image; with a suffix of another case if only that exists."""
        name = relative(self.root, image)
        path = self.root / beside(matching(self.split(split).patterns, name), name, pattern)
        if exists(path):
            return path
        others = (path.with_suffix(change(path.suffix)) for change in (str.upper, str.lower))
        return next((other for other in others if path.suffix and exists(other)), path)


def relative(root: Path, path: Path) -> str:
    """Return a path relative to the dataset's root with forward slashes, the same on every machine."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def pair_name(root: Path, pair: Pair) -> str:
    """Return what a pair is called: its image relative to the dataset's root, and the window of it if there is one."""
    name = relative(root, pair.image)
    return f"{name} ({pair.box})" if pair.box else name


def is_hidden(path: Path, root: Path, pattern: str) -> bool:
    """Return whether a file is hidden, or in a hidden folder, such as `._x.png` of macOS; not if the pattern names it."""
    return "/." not in f"/{pattern}".replace("/..", "") and any(part.startswith(".") for part in path.relative_to(root).parts
                                                               if part != "..")


def from_archive(archive: str, what: str = "it belongs") -> str:
    """Return the end of a message about a missing file: the archive that contains it."""
    return f"; {what} to {archive}" if archive else ""


def exists(path: Path) -> bool:
    """Return whether a file exists, also in an archive. Unlike `Path.is_file`, return False for a name that is too long."""
    return files.is_file(path) or archives.is_member(path)
