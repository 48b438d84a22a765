"""Read one image and its labels, and find what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.check import labels
from fastscnn.data.check.facts import Facts, Remark
from fastscnn.data.check.outlines import odd_outlines
from fastscnn.data.formats.base import Shapes
from fastscnn.data.spec import DatasetSpec, Pair, exists, pair_name
from fastscnn.media import images
from fastscnn.media.encoding import Encoding
from fastscnn.model.architecture import MIN_SIDE

_WHOLE = frozenset(("size-mismatch", "lossy-labels", "other-image", "exif-rotated", "missing-labels"))  # kinds about a file


def read(spec: DatasetSpec, pair: Pair) -> Facts:
    """Decode all files of a pair and collect its problems. Raise nothing for a broken file."""
    remarks: list[Remark] = []
    first = pair.box is None or (pair.box.left, pair.box.top) == (0, 0)  # what is about a whole file is said once
    picture, turned = _picture(pair, remarks)
    of_labels = labels.Labels.read(spec, pair, picture) if exists(pair.labels) else None
    if of_labels is None:
        message = f"{pair.image}: its label file {pair.labels} is missing."
        remarks.append(Remark("error", False, "missing-labels", message, "Add the label file, or remove the image."))
    else:
        remarks += of_labels.remarks
    decoded = of_labels.decoded if of_labels else None
    remarks += _about_orientation(pair, turned, of_labels.encoding if of_labels else None)
    if picture is not None and decoded is not None and picture.shape[:2] != decoded.labels.shape:
        message = f"{pair.labels}: is {hxw(decoded.labels.shape)}, but its image {pair.image} is {hxw(picture.shape)}."
        fix = labels.fix_of_sizes(picture.shape[:2], decoded.labels.shape, turned)
        if isinstance(spec.labels, Shapes):  # the file states the size
            fix = "Use the images that were annotated, in their size and orientation, or annotate these images."
        remarks.append(Remark("error", True, "size-mismatch", message, fix))
    height, width = (0, 0) if picture is None else picture.shape[:2]
    counts, stored = labels.Counts.none(spec), None
    try:
        picture = None if picture is None else spec.cropped(picture, pair.image)
        if of_labels and decoded is not None:
            stored = spec.cropped(decoded.stored, pair.labels)
            counts = of_labels.count(spec.cropped(decoded.labels, pair.labels), stored)
    except FastSCNNError as error:
        remarks.append(Remark("error", False, "too-small", f"{pair.image}: {error}", "Omit the option crop."))
    soft = _soft(spec, pair, picture, remarks)
    every = (*remarks, *counts.remarks)
    return Facts(
        remarks=every if first else tuple(remark for remark in every if remark.kind not in _WHOLE),
        image=_identity(spec, pair, picture),
        labels=_hash(stored),
        pixels=counts.pixels,
        ignored=counts.ignored,
        unknown=counts.unknown,
        size=(height, width),
        values=counts.values,
        palette=counts.palette,
        names=counts.names if first else (),
        outlines=odd_outlines(spec, pair, pair.box.size if pair.box else decoded.labels.shape) if first and decoded else (),
        soft=_hash(soft),
    )


def _soft(spec: DatasetSpec, pair: Pair, picture: UInt8Array | None, remarks: list[Remark]) -> UInt8Array | None:
    """Return the soft labels of an image, None if there are none or they cannot be read."""
    if pair.soft is None or picture is None:
        return None
    if not exists(pair.soft):
        message = f"{pair.image}: its soft labels {pair.soft} are missing."
        fix = "Make them with `fastscnn soft-labels`, or remove soft."
        remarks.append(Remark("error", False, "missing-soft", message, fix))
        return None
    try:
        return spec.read_soft(pair, (picture.shape[0], picture.shape[1]))
    except FastSCNNError as error:
        fix = "Make the soft labels again with `fastscnn soft-labels`, or remove soft."
        remarks.append(Remark("error", False, "unreadable-soft", str(error), fix))
        return None


def _picture(pair: Pair, remarks: list[Remark]) -> tuple[UInt8Array | None, int]:
    """Return the image with its extra channels, None if it cannot be read; and the EXIF orientation that was applied."""
    picture, turned = None, 1
    try:
        picture, turned = images.read_oriented(pair.image, box=pair.box)
        if min(picture.shape[:2]) < MIN_SIDE:
            message = f"{pair.image}: is {hxw(picture.shape)}; the network needs at least {MIN_SIDE} pixels on each side."
            remarks.append(Remark("error", False, "too-small", message, "Remove the image, or enlarge it and its labels."))
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
    return picture, turned


def _about_orientation(pair: Pair, turned: int, stored: Encoding | None) -> Iterator[Remark]:
    """Yield a remark if the image and its labels are stored in different EXIF orientations."""
    labels_turned = stored.orientation if stored else 1
    if labels_turned == turned:
        return
    if labels_turned == 1:
        message = f"{pair.image}: is stored rotated (EXIF orientation {turned}) and is read upright."
        yield Remark("warning", False, "exif-rotated", message, "Make sure that its labels are upright, too.")
    else:
        message = (f"{pair.labels}: is stored rotated (EXIF orientation {labels_turned}) and is read upright; "
                   f"its image has the orientation {turned}.")
        yield Remark("warning", True, "exif-rotated", message, "Make sure that the image is upright, too.")


def _identity(spec: DatasetSpec, pair: Pair, picture: UInt8Array | None) -> str:
    """Return the hash of an image. Windows of one colour, such as the margins of an orthophoto, do not count as repeated."""
    if pair.box is None or picture is None or (picture != picture[0, 0]).any():
        return _hash(picture)
    return hashlib.sha256(f"{pair_name(spec.root, pair)} {picture[0, 0]}".encode()).hexdigest()


def _hash(pixels: npt.NDArray[Any] | None) -> str:
    if pixels is None:
        return ""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).data).hexdigest()
