"""Label files that are something else than the dataset says: pictures, lossy files, colours instead of ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.check.facts import Remark
from fastscnn.data.formats.base import Decoded
from fastscnn.data.formats.colours import ColourLabels, pack
from fastscnn.data.formats.ids import BinaryLabels, IdLabels
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.media import images
from fastscnn.media.encoding import Encoding
from fastscnn.model.label_set import IGNORE_INDEX

_MOST_COLOURS = 256  # distinct colours of labels; photographs have thousands
_MOST_IDS = 64  # distinct ids of no class; grey photographs have more
_FIX = "Correct the annotations in the tool that made the file, and export it again."
_FIXES = {
    IdLabels: "Save the labels with one whole number for each pixel, or correct labels_are in dataset.toml.",
    BinaryLabels: "Save the labels as masks of one channel with the values 0 and 255, or correct labels_are in dataset.toml.",
    ColourLabels: "Save the labels as RGB with 8 bits per channel, or correct labels_are in dataset.toml.",
}


def cause(
    spec: DatasetSpec, pair: Pair, picture: UInt8Array | None, decoded: Decoded | None, stored: Encoding | None
) -> Remark | None:
    """Return the reason why a file holds no labels, or wrong ones; None if there is none.

    Args:
        spec: the dataset.
        pair: an image and its labels.
        picture: the image, uint8 [H, W, channels]; None if it cannot be read.
        decoded: the labels; None if they cannot be read.
        stored: how the label file is stored; None if it is no image.
    """
    if stored is None:
        return None
    if (decoded is None or _mostly_foreign(spec, decoded)) and (colours := _colours(pair.labels)) is not None:
        found = _picture(pair, picture, colours, bool(stored.lossy))
        if found:
            return found
    if not stored.lossy:
        return None
    harmless = isinstance(spec.labels, BinaryLabels)  # a threshold undoes the changes
    what = "edges of masks" if harmless else "colours" if isinstance(spec.labels, ColourLabels) else "ids"
    message = f"{pair.labels}: is stored as {stored.lossy}, whose compression changes {what}."
    fix = "Export the labels again as PNG; converting these files does not restore them."
    return Remark("warning" if harmless else "error", True, "lossy-labels", message, fix)


def _mostly_foreign(spec: DatasetSpec, decoded: Decoded) -> bool:
    """Return whether most pixels are of no class, and of more ids or colours than labels have."""
    most = _MOST_COLOURS if isinstance(spec.labels, ColourLabels) else _MOST_IDS
    return len(decoded.unknown) > most and 2 * sum(decoded.unknown.values()) > decoded.labels.size


def _picture(pair: Pair, picture: UInt8Array | None, labels: UInt8Array, lossy: bool) -> Remark | None:
    """Return a remark if a label file is a picture. That of a lossy file is left out, since it has many colours anyway."""
    if picture is not None and np.array_equal(picture[:, :, :3], labels):
        message = f"{pair.labels}: holds the same pixels as its image {pair.image}."
        return Remark("error", True, "picture-as-labels", message, "Correct `labels` in dataset.toml, or replace the file.")
    count = _number_of_colours(labels)
    if picture is not None and _number_of_colours(picture[:, :, :3]) <= _MOST_COLOURS < count:
        message = f"{pair.labels}: has {count} colours, as a photograph; its image {pair.image} has few, as labels."
        return Remark("error", True, "swapped-files", message, "Exchange `images` and `labels` in dataset.toml.")
    grey = bool((labels == labels[:, :, :1]).all())
    if lossy or count <= (_MOST_IDS if grey else _MOST_COLOURS):
        return None
    message = f"{pair.labels}: has {count} colours, as a photograph, an overlay or interpolated labels."
    fix = "Replace the file by labels that were never blended, interpolated or stored as JPEG."
    return Remark("error", True, "picture-as-labels", message, fix)


def fix_of_unreadable(spec: DatasetSpec, pair: Pair, problem: str) -> str:
    """Return the fix for labels that cannot be read.

    Args:
        spec: the dataset.
        pair: an image and its labels.
        problem: the message of the reader.
    """
    if "pages or frames" in problem:
        return "Combine the pages into one image with a class id for each pixel."
    if "truncated" in problem or "cannot be read" in problem:
        return "Replace the label file by an intact copy."
    colours = _colours(pair.labels) if type(spec.labels) in (IdLabels, BinaryLabels) else None
    if colours is not None and (colours != colours[:, :, :1]).any():
        used = [name for name, values in zip(("red", "green", "blue"), np.moveaxis(colours, 2, 0), strict=True) if values.any()]
        if len(used) == 1:
            return f'Set channel = "{used[0]}" in dataset.toml: the other channels are 0.'
        return 'Set labels_are = "colours" and the colours of the classes in dataset.toml, or replace the labels by ids.'
    return _FIXES.get(type(spec.labels), _FIX)


def fix_of_colours(spec: DatasetSpec, unknown: Mapping[str, int]) -> str:
    """Return the fix for colours of no class, such as {"[1, 1, 1]": 20}, with their number of pixels."""
    known = {colour for colour, _ in spec.labels.colours} if isinstance(spec.labels, ColourLabels) else set()
    known = known or set(spec.label_set.colours)
    found = {(red, green, blue): count for text, count in unknown.items() for red, green, blue in [json.loads(text)]}
    turned = sum(count for colour, count in found.items() if colour[::-1] in known)
    if 2 * turned > sum(found.values()):
        return "Give the colours as red, green, blue: the files hold them in the other order."
    values = {red for red, green, blue in found if red == green == blue}
    ids = set(range(1, len(spec.label_set))) & values
    if ids and len(values) == len(found) and values <= {*range(len(spec.label_set)), IGNORE_INDEX}:
        return 'Set labels_are = "ids" in dataset.toml: these colours are grey, with the values of ids.'
    return 'Correct the colours, add the classes, or set "*" = "ignore" in [map] of dataset.toml.'


def _colours(path: Path) -> UInt8Array | None:
    try:
        return images.read_colours(path)
    except FastSCNNError:
        return None


def _number_of_colours(image: UInt8Array) -> int:
    return len(np.unique(pack(image)))
