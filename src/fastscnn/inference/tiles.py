"""Logits of an image of any size, from overlapping tiles.

Each tile is run through the network separately. Where tiles overlap, their logits are averaged; the weight of a tile falls
linearly to its border. All tiles lie on one grid, that of the whole image, so labels, confidence and OOD mask are made as
for any image. The logits need 4 * classes * H * W / 64 bytes: 138 MB for 11 classes and 200 megapixels.

Labels differ from those of the whole image in a single pass, because the network also pools features over its whole input.
docs/speed.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.inference.size import network_size
from fastscnn.model.architecture import OUTPUT_STRIDE

Tile = tuple[int, int] | str | None  # (height, width), "HxW", "auto" for the card's input size, or None for no tiles
MIN_TILE = 64  # pixels: the last tile of an axis may be 7 pixels smaller, and half of it may be overlap
MAX_TILED_PIXELS = 1_000_000_000  # of an image that is read to be segmented in tiles
_OVERLAP = 1 / 4  # of a tile's side, at least, in docs/speed.md


@dataclass(frozen=True)
class Window:
    """One axis of a tile.

    Attributes:
        start, stop: pixels of the network's input.
        weights: float32 [ceil((stop - start) / 8)], of its logits. Those of all windows sum to 1 at each logit of the axis.
    """

    start: int
    stop: int
    weights: Float32Array

    @property
    def cells(self) -> slice:
        """The logits of the window, on the grid of the whole axis."""
        first = self.start // OUTPUT_STRIDE
        return slice(first, first + len(self.weights))


def tile_size(tile: Tile, card_size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size of a tile as (height, width); None for none.

    Args:
        tile: "HxW", (height, width), "auto" for the card's input size, or None.
        card_size: (height, width) of the network's input by the card.

    Raises:
        ArgumentError: another value, a side under 64, or more than 40 megapixels.
    """
    if tile is None:
        return None
    try:
        size = network_size(card_size if tile == "auto" else tile)
    except ArgumentError:
        size = None
    if size is None or size == "native":
        raise ArgumentError(f'tile: must be HxW such as "360x480", a pair of whole numbers of at least {MIN_TILE}, or "auto", '
                            f"not {tile!r}.")
    if min(size) < MIN_TILE:
        raise ArgumentError(f"tile: needs at least {MIN_TILE}x{MIN_TILE}, not {hxw(size)}.")
    if size[0] * size[1] > MAX_PIXELS:
        raise ArgumentError(f"tile: {hxw(size)} is over the limit of {MAX_PIXELS // 1_000_000} megapixels.")
    return size


def tiled(
    network: Callable[[UInt8Array], Float32Array], image: UInt8Array, tile: tuple[int, int], overlap: float = _OVERLAP
) -> Float32Array:
    """Return the logits of an image from overlapping tiles: float32 [classes, ceil(H/8), ceil(W/8)].

    Args:
        network: returns the logits float32 [classes, ceil(h/8), ceil(w/8)] of a tile uint8 [h, w, channels].
        image: uint8 [H, W, channels]. One that is no larger than a tile is run as a whole.
        tile: (height, width), at least 64x64.
        overlap: of neighbours, at least, as a fraction of the side of a tile: from 0 to 0.5.
    """
    rows, columns = (
        windows(length, side, int(overlap * side)) for length, side in zip(image.shape[:2], tile, strict=True)
    )
    result: Float32Array | None = None
    for row in rows:
        for column in columns:
            logits = network(image[row.start : row.stop, column.start : column.stop])
            if result is None:
                height, width = (_ceil(side, OUTPUT_STRIDE) for side in image.shape[:2])
                result = np.zeros((len(logits), height, width), np.float32)
            result[:, row.cells, column.cells] += logits * row.weights[:, None] * column.weights
    assert result is not None
    return result


def windows(length: int, tile: int, overlap: int) -> list[Window]:
    """Return windows that cover an axis, evenly spread; each starts at a multiple of 8 pixels.

    Args:
        length: of the axis in pixels.
        tile: length of a window in pixels, at least 64. The last one may be up to 7 pixels shorter.
        overlap: of neighbours in pixels, at least; at most half of `tile`.
    """
    size = _ceil(tile, OUTPUT_STRIDE)  # all in logits from here on
    cells = _ceil(length, OUTPUT_STRIDE)
    step = (tile - overlap) // OUTPUT_STRIDE
    last = max(0, _ceil(length - tile, OUTPUT_STRIDE))
    gaps = _ceil(last, step)
    starts = [index * last // gaps for index in range(gaps + 1)] if gaps else [0]
    weights = np.zeros((len(starts), cells), np.float32)
    for index, start in enumerate(starts):
        inside = np.arange(min(size, cells - start)) + 0.5
        before = inside if index > 0 else np.inf  # the border of the image takes no weight
        after = inside[::-1] if index < gaps else np.inf
        weights[index, start : start + size] = np.minimum(np.minimum(before, after), size)
    weights /= weights.sum(axis=0)
    return [
        Window(OUTPUT_STRIDE * start, min(OUTPUT_STRIDE * start + tile, length), row[start : start + size])
        for start, row in zip(starts, weights, strict=True)
    ]


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
