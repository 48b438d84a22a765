"""What `check` finds out about one image and its labels, and where it keeps that between two runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.spec import DatasetSpec, Pair, pack
from fastscnn.media import images
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.version import __version__

_SHOWN = 8  # ids or colours that one message names


@dataclass(frozen=True)
class Remark:
    """One thing that is wrong with a pair; becomes a Finding once its split is known."""

    severity: str  # "error" or "warning"
    of_labels: bool  # whether it is the label file that the remark is about
    kind: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What reading one pair showed.

    Attributes:
        remarks: what is wrong with it.
        image: sha256 of the decoded pixels; "" where the image cannot be read.
        labels: sha256 of the decoded ids; "" where the labels cannot be read.
        pixels: pixels of each class.
        ignored: pixels that are ignored.
        size: (height, width) of the image, upright and whole; (0, 0) where it cannot be read.
    """

    remarks: tuple[Remark, ...]
    image: str
    labels: str
    pixels: tuple[int, ...]
    ignored: int
    size: tuple[int, int]


def read(spec: DatasetSpec, pair: Pair) -> Facts:
    """Decodes all files of a pair and says what is wrong with them; raises nothing."""
    remarks: list[Remark] = []
    picture = labels = None
    try:
        picture, orientation = images.read_oriented(pair.image)
        remarks += _about_image(pair.image, picture, orientation)
    except FastSCNNError as error:
        remarks.append(Remark("error", False, "unreadable-image", str(error)))
    missing = [path for path in pair.more if not path.is_file()]
    for path in missing:
        message = f"{pair.image}: its further channel {path} is missing; add it, or take the image out."
        remarks.append(Remark("error", False, "missing-channel", message))
    if picture is not None and not missing:
        try:
            picture = images.stack(picture, pair.image, pair.more)
        except FastSCNNError as error:
            remarks.append(Remark("error", False, "broken-channel", f"{pair.image}: {error}"))
    if not pair.labels.is_file():
        message = f"{pair.image}: its label file {pair.labels} is missing; add it, or take the image out."
        remarks.append(Remark("error", False, "missing-labels", message))
    else:
        try:
            labels, strange = spec.read_raw(pair.labels)
        except FastSCNNError as error:
            remarks.append(Remark("error", True, "unreadable-labels", str(error)))
    if picture is not None and labels is not None and picture.shape[:2] != labels.shape:
        message = f"{pair.labels}: is {_size(labels)}, but its image {pair.image} is {_size(picture)}; make them the same size."
        remarks.append(Remark("error", True, "size-mismatch", message))
    pixels, ignored = np.zeros(len(spec.label_set), np.int64), 0
    height, width = (0, 0) if picture is None else picture.shape[:2]
    try:
        picture = None if picture is None else spec.cropped(picture, pair.image)
        labels = None if labels is None else spec.cropped(labels, pair.labels)
    except FastSCNNError as error:
        remarks.append(Remark("error", False, "too-small", f"{pair.image}: {error}"))
    else:
        if labels is not None:
            pixels, ignored, found = _about_labels(spec, pair.labels, labels, strange)
            remarks += found
    return Facts(tuple(remarks), _hash(picture), _hash(labels), tuple(map(int, pixels)), ignored, (height, width))


def _about_image(path: Path, image: UInt8Array, orientation: int) -> Iterator[Remark]:
    if min(image.shape[:2]) < MIN_SIDE:
        message = f"{path}: is {_size(image)}; the network needs {MIN_SIDE} pixels on each side, so enlarge it or take it out."
        yield Remark("error", False, "too-small", message)
    if orientation != 1:
        message = f"{path}: is stored turned (EXIF orientation {orientation}) and read upright; its labels must be upright too."
        yield Remark("warning", False, "exif-rotated", message)


def _about_labels(spec: DatasetSpec, path: Path, raw: UInt8Array, strange: int) -> tuple[Int64Array, int, list[Remark]]:
    """Pixels of each class, int64 [C]; how many are ignored; and what is wrong."""
    remarks = []
    counts = _counts(raw)
    table = spec.train_ids()
    pixels = np.array([counts[table == index].sum() for index in range(len(spec.label_set))], np.int64)
    ignored = int(counts[table == IGNORE_INDEX].sum())
    foreign = {str(value): int(counts[value]) for value in np.flatnonzero((table < 0) & (counts > 0))}
    if foreign:
        message = f"{path}: holds ids that are no class of {spec.name}: {_listed(foreign)}; correct them or add the classes."
        remarks.append(Remark("error", True, "unknown-ids", message))
    if strange:
        listed = _listed(_strange_colours(spec, path))
        message = f"{path}: {strange} pixels have the colour of no class and are ignored: {listed}."
        remarks.append(Remark("warning", True, "unknown-colours", message))
    if ignored == raw.size:
        remarks.append(Remark("warning", True, "empty-labels", f"{path}: every pixel is ignored; nothing is learnt from it."))
    return pixels, ignored, remarks


def _counts(raw: UInt8Array) -> Int64Array:
    """How often each value stands in `raw`, int64 [256]; by blocks, as bincount makes eight bytes of each of ours."""
    flat = raw.ravel()
    counts = np.zeros(256, np.int64)
    for start in range(0, flat.size, 1 << 20):
        counts += np.bincount(flat[start : start + (1 << 20)], minlength=256)
    return counts


def _strange_colours(spec: DatasetSpec, path: Path) -> dict[str, int]:
    """Colours of no class -> how many pixels have them."""
    known = set(pack(np.array(spec.colours_of_ids, np.uint8)).tolist())
    values, counts = np.unique(pack(images.read_colours(path)), return_counts=True)
    return {
        str([value >> 16, value >> 8 & 255, value & 255]): count
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value not in known
    }


def _listed(counts: dict[str, int]) -> str:
    """The most frequent values with their pixels, in words; those that are left out as a number."""
    order = sorted(counts, key=lambda value: -counts[value])
    shown = ", ".join(f"{value} ({counts[value]} pixel{'s' * (counts[value] != 1)})" for value in order[:_SHOWN])
    return shown + (f" and {len(order) - _SHOWN} more" if len(order) > _SHOWN else "")


def _size(image: UInt8Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _hash(pixels: UInt8Array | None) -> str:
    if pixels is None:
        return ""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).data).hexdigest()


class Cache:
    """Facts of files that have not changed since they were read: one JSON file for each dataset, in `folder`.

    A file that is broken, old or cannot be written counts as empty: it only saves time.
    """

    def __init__(self, folder: Path, spec: DatasetSpec) -> None:
        self._root = spec.root
        self._classes = len(spec.label_set)
        meaning = [__version__, str(spec.root), str(spec.root.resolve()), spec.name, asdict(spec.label_set), spec.labels_are,
                   spec.colours, dict(spec.polygon_ids), spec.crop]
        self._path = folder / f"{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()}.json"
        self._entries = self._loaded()
        self._changed = False

    def get(self, pair: Pair) -> Facts | None:
        """What is known of the pair, if neither file has another size or time than when it was read."""
        known, facts = self._entries.get(self._key(pair), (None, None))
        return facts if known == stamp(pair) else None

    def put(self, pair: Pair, stamp: list[int] | None, facts: Facts) -> None:
        """Keeps `facts`, unless a file could not be read: the cause may go without leaving a trace on the file."""
        if stamp and facts.image and facts.labels:
            self._entries[self._key(pair)] = (stamp, facts)
            self._changed = True

    def save(self) -> None:
        """Writes what is new."""
        if not self._changed:
            return
        entries = {key: [stamp, asdict(facts)] for key, (stamp, facts) in self._entries.items()}
        try:
            files.write(self._path, json.dumps(entries).encode())
        except FastSCNNError:  # a cache is a convenience
            return

    def _key(self, pair: Pair) -> str:
        return json.dumps([relative(self._root, path) for path in (pair.image, pair.labels, *pair.more)])

    def _loaded(self) -> dict[str, tuple[list[int], Facts]]:
        try:
            entries = json.loads(self._path.read_bytes())
            return {key: (stamp, self._facts(facts)) for key, (stamp, facts) in entries.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def _facts(self, saved: dict[str, Any]) -> Facts:
        remarks = tuple(Remark(**remark) for remark in saved["remarks"])
        pixels = tuple(map(int, saved["pixels"]))
        if len(pixels) != self._classes:
            raise ValueError
        height, width = map(int, saved["size"])
        return Facts(remarks, str(saved["image"]), str(saved["labels"]), pixels, int(saved["ignored"]), (height, width))


def relative(root: Path, path: Path) -> str:
    """The path below the dataset's root, the same on every machine."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def stamp(pair: Pair) -> list[int] | None:
    """Sizes and times of all its files, to be taken before they are read; None where one is missing."""
    try:
        stats = [path.stat() for path in (pair.image, pair.labels, *pair.more)]
    except OSError:
        return None
    return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns)]
