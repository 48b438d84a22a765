"""Run-length encoding of masks, as in COCO: exact, compressed to text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastscnn.base.types import BoolArray


def encode(mask: BoolArray) -> dict[str, object]:
    """Return a mask, bool [H, W], as COCO's RLE: its size (height, width) and compressed counts."""
    column_major = mask.T.ravel()
    changes = np.flatnonzero(column_major[1:] != column_major[:-1]) + 1
    counts = np.diff([0, *changes.tolist(), column_major.size]).tolist()
    if column_major[0]:  # the first count is of zeros
        counts.insert(0, 0)
    return {"size": list(mask.shape), "counts": compress(counts)}


def compress(counts: Sequence[int]) -> str:
    """Return counts as text: 5 bits a character, and from the fourth count on the difference from the last but one."""
    text = []
    for place, count in enumerate(counts):
        left = count - counts[place - 2] if place > 2 else count
        while True:
            bits, left = left & 31, left >> 5
            more = left != (-1 if bits & 16 else 0)
            text.append(chr(bits + 32 * more + 48))
            if not more:
                break
    return "".join(text)
