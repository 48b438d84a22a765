"""The contact sheet: images beside their labels as read, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastscnn.base.types import UInt8Array
from fastscnn.data.legend import legend
from fastscnn.data.spec import DatasetSpec
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX

_CELL = (240, 320)  # pixels, HxW
_COLUMNS = 2  # pairs in a row
_GAP = 4  # pixels
_BACKGROUND = 24
SHOWN = 6  # pairs


def draw(spec: DatasetSpec, pairs: Sequence[tuple[UInt8Array, UInt8Array]]) -> UInt8Array:
    """Return images beside their labels, above a legend of all classes, uint8 [H, W, 3]. Ignored pixels are black.

    Args:
        spec: the dataset.
        pairs: images uint8 [H, W, channels] and their train ids uint8 [H, W].
    """
    palette = spec.label_set.palette()
    palette[IGNORE_INDEX] = 0
    cells = [_cell(np.concatenate([image[:, :, :3], palette[labels]], axis=1)) for image, labels in pairs]
    blank = np.full((_CELL[0], 2 * _CELL[1], 3), _BACKGROUND, np.uint8)
    cells += [blank] * (-len(cells) % _COLUMNS)
    rows = [np.concatenate([_framed(cell) for cell in cells[start : start + _COLUMNS]], axis=1)
            for start in range(0, len(cells), _COLUMNS)]
    names = spec.label_set.names
    return np.concatenate([*rows, legend(spec.label_set, dict(zip(names, names, strict=True)), rows[0].shape[1])])


def _cell(pixels: UInt8Array) -> UInt8Array:
    """Return an image and its labels reduced to fit a cell."""
    height, width = pixels.shape[:2]
    fits = min(_CELL[0] / height, 2 * _CELL[1] / width)
    small = images.resize(pixels, (max(1, int(height * fits)), max(1, int(width * fits))))
    cell = np.full((_CELL[0], 2 * _CELL[1], 3), _BACKGROUND, np.uint8)
    top, left = (_CELL[0] - small.shape[0]) // 2, (2 * _CELL[1] - small.shape[1]) // 2
    cell[top : top + small.shape[0], left : left + small.shape[1]] = small
    return cell


def _framed(cell: UInt8Array) -> UInt8Array:
    return np.pad(cell, ((_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=_BACKGROUND)
