"""Facts about one image and its labels, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.check.findings import Severity
from fastscnn.data.formats.base import Decoded
from fastscnn.data.spec import DatasetSpec, Pair, exists, size_of
from fastscnn.media import images
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.label_set import IGNORE_INDEX

_SHOWN = 8  # ids or colours in one message


@dataclass(frozen=True)
class Remark:
    """One problem of a pair; it becomes a Finding once its split is known."""

    severity: Severity
    of_labels: bool  # whether the problem is in the label file
    kind: str
    message: str
    fix: str


@dataclass(frozen=True)
class Facts:
    """Result of reading one pair.

    Attributes:
        remarks: its problems.
        image: sha256 of the decoded pixels; "" if the image cannot be read.
        labels: sha256 of the decoded ids; "" if the labels cannot be read.
        pixels: pixels of each class.
        ignored: ignored pixels.
        size: (height, width) of the image, upright and without crop; (0, 0) if it cannot be read.
    """

    remarks: tuple[Remark, ...]
    image: str
    labels: str
    pixels: tuple[int, ...]
    ignored: int
    size: tuple[int, int]


def read(spec: DatasetSpec, pair: Pair) -> Facts:
    """Decode all files of a pair and collect its problems. Raise nothing for a broken file."""
    remarks: list[Remark] = []
    picture = _picture(pair, remarks)
    decoded = _labels(spec, pair, remarks)
    labels, stored = (None, None) if decoded is None else (decoded.labels, decoded.stored)
    if picture is not None and labels is not None and picture.shape[:2] != labels.shape:
        message = f"{pair.labels}: is {size_of(labels)}, but its image {pair.image} is {size_of(picture)}."
        remarks.append(Remark("error", True, "size-mismatch", message, "Make each image and its labels the same size."))
    pixels, ignored = np.zeros(len(spec.label_set), np.int64), 0
    height, width = (0, 0) if picture is None else picture.shape[:2]
    try:
        picture = None if picture is None else spec.cropped(picture, pair.image)
        labels = None if labels is None else spec.cropped(labels, pair.labels)
        stored = None if stored is None else spec.cropped(stored, pair.labels)
    except FastSCNNError as error:
        remarks.append(Remark("error", False, "too-small", f"{pair.image}: {error}", "Omit the option crop."))
    else:
        if labels is not None and decoded is not None:
            pixels, ignored, found = _about_labels(spec, pair.labels, labels, decoded.unknown)
            remarks += found
    return Facts(tuple(remarks), _hash(picture), _hash(stored), tuple(map(int, pixels)), ignored, (height, width))


def _picture(pair: Pair, remarks: list[Remark]) -> UInt8Array | None:
    """Return the image with its extra channels; None if it cannot be read."""
    picture = None
    try:
        picture, orientation = images.read_oriented(pair.image)
        remarks += _about_image(pair.image, picture, orientation)
    except FastSCNNError as error:
        fix = "Replace the image, or remove it and its labels."
        remarks.append(Remark("error", False, "unreadable-image", str(error), fix))
    missing = [path for path in pair.extra_channels if not exists(path)]
    for path in missing:
        message = f"{pair.image}: its extra channel {path} is missing."
        remarks.append(Remark("error", False, "missing-channel", message, "Add the file of the channel, or remove the image."))
    if picture is not None and not missing:
        try:
            picture = images.stack(picture, pair.image, pair.extra_channels)
        except FastSCNNError as error:
            fix = "Replace the file of the channel by one of the image's size."
            remarks.append(Remark("error", False, "broken-channel", f"{pair.image}: {error}", fix))
    return picture


def _labels(spec: DatasetSpec, pair: Pair, remarks: list[Remark]) -> Decoded | None:
    """Return the labels; None if they cannot be read."""
    if not exists(pair.labels):
        message = f"{pair.image}: its label file {pair.labels} is missing."
        remarks.append(Remark("error", False, "missing-labels", message, "Add the label file, or remove the image."))
        return None
    try:
        return spec.decode(pair.labels, pair.image)
    except FastSCNNError as error:
        fix = "Replace the label file, or correct `labels_are` in dataset.toml."
        remarks.append(Remark("error", True, "unreadable-labels", str(error), fix))
        return None


def _about_image(path: Path, image: UInt8Array, orientation: int) -> Iterator[Remark]:
    if min(image.shape[:2]) < MIN_SIDE:
        message = f"{path}: is {size_of(image)}; the network needs at least {MIN_SIDE} pixels on each side."
        yield Remark("error", False, "too-small", message, "Remove the image, or enlarge it and its labels.")
    if orientation != 1:
        message = f"{path}: is stored rotated (EXIF orientation {orientation}) and is read upright."
        yield Remark("warning", False, "exif-rotated", message, "Make sure that its labels are upright, too.")


def _about_labels(
    spec: DatasetSpec, path: Path, labels: UInt8Array, unknown: Mapping[str, int]
) -> tuple[Int64Array, int, list[Remark]]:
    """Return the pixels of each class, int64 [C], the number of ignored pixels, and the problems."""
    remarks = []
    counts = _counts(labels)
    pixels, ignored = counts[: len(spec.label_set)], int(counts[IGNORE_INDEX])
    what = spec.labels.unknown
    if unknown and spec.labels.lenient:
        pixels_of = f"{sum(unknown.values())} pixels have a {what.removesuffix('s')} of no class"
        message = f"{path}: {pixels_of} and are ignored: {_listed(unknown)}."
        remarks.append(Remark("warning", True, f"unknown-{what}", message, f"Correct the {what}, or add the classes."))
    elif unknown:
        ignored = max(0, ignored - sum(unknown.values()))
        message = f"{path}: contains {what} that are no class of {spec.name}: {_listed(unknown)}."
        fix = f"Correct the {what}, add the classes to the dataset, or map them in [map] of dataset.toml."
        remarks.append(Remark("error", True, f"unknown-{what}", message, fix))
    if ignored == labels.size:
        message = f"{path}: every pixel is ignored."
        remarks.append(Remark("warning", True, "empty-labels", message, "Remove the image and its labels, or label it."))
    return pixels, ignored, remarks


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


def _hash(pixels: npt.NDArray[Any] | None) -> str:
    if pixels is None:
        return ""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).data).hexdigest()
