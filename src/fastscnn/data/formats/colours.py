"""Labels stored as colours: packing and decoding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import IGNORE_INDEX, Colour


def pack(colours: UInt8Array) -> npt.NDArray[np.uint32]:
    """Pack RGB colours [..., 3] into one number each, 0xRRGGBB."""
    packed: npt.NDArray[np.uint32] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return packed


def decode(colours: UInt8Array, palette: tuple[Colour, ...]) -> tuple[UInt8Array, int]:
    """Return the index in `palette` of each colour, and the number of pixels with a colour that is not in it.

    Args:
        colours: uint8 [H, W, 3].
        palette: at most 255 colours.

    Returns:
        uint8 [H, W], 255 for a colour that is not in the palette; the number of those pixels.
    """
    packed, known = pack(colours), pack(np.array(palette, np.uint8))
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
    train = order[place].astype(np.uint8)
    unknown = known[order][place] != packed
    train[unknown] = IGNORE_INDEX
    return train, int(unknown.sum())
