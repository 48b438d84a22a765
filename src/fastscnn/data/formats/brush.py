"""Run lengths of Label Studio's brush."""

from __future__ import annotations

import numpy as np


def decode(encoded: bytes, length: int) -> bytes | None:
    """Decode run lengths of Label Studio; None if they are damaged or are not of `length` bytes.

    A header of 32 bits of length, 5 of the word size - 1, and 4 times 4 of the sizes of counts - 1. Then for each part: 1 bit,
    whether one word is repeated; 2 bits, which size of count; the count - 1; and one word, or as many as the count says.
    """
    bits = np.unpackbits(np.frombuffer(encoded, np.uint8)).tobytes().translate(bytes((48, 49)) + bytes(254)).decode()
    place = 0

    def take(number: int) -> int:
        nonlocal place
        place += number
        return int(bits[place - number : place], 2)

    try:
        if take(32) != length or take(5) != 7:  # words of 8 bits
            return None
        sizes = [take(4) + 1 for _ in range(4)]
        decoded = bytearray()
        while len(decoded) < length:
            repeated, count = take(1), take(sizes[take(2)]) + 1
            decoded += bytes((take(8),)) * count if repeated else bytes(take(8) for _ in range(count))
    except ValueError:  # no bits are left
        return None
    return bytes(decoded) if len(decoded) == length and place <= len(bits) else None
