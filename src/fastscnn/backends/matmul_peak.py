"""product: how fast an engine multiplies large matrices, the limit of what a network can do on it."""

from __future__ import annotations

from collections.abc import Callable

from fastscnn.base import machine

SIDE = 2048  # of the square matrices
_WARMUP, _ROUNDS = 2, 6


def rate(multiply: Callable[[], object]) -> float:
    """Operations a second of one call, a product of two matrices of `SIDE`; the best of a few rounds."""
    for _ in range(_WARMUP):
        multiply()
    return 2 * SIDE**3 / machine.fastest(multiply, _ROUNDS)
