"""Measure how fast a backend multiplies large matrices: the compute limit of a network in it."""

from __future__ import annotations

from collections.abc import Callable

from fastscnn.base import machine

SIDE = 2048  # of the square matrices
_WARMUP, _ROUNDS = 2, 6


def rate(multiply: Callable[[], object]) -> float:
    """Return operations per second of a call that multiplies two matrices of `SIDE`, from the fastest round."""
    for _ in range(_WARMUP):
        multiply()
    return 2 * SIDE**3 / machine.fastest(multiply, _ROUNDS)
