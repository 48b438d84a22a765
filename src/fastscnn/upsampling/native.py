"""The compiled form of `upsample.labels` and `upsample.confidence`: lazy.c, if hatch_build.py could compile it."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import kernels
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import Float32Array, UInt8Array

LIBRARY = Path(__file__).with_name(f"lazy{kernels.SUFFIX}")
_STRIPS = 4  # parts of an image per thread: some have many more borders between classes than others
PIXELS_PER_THREAD = 1 << 19  # pixels per thread: with fewer, waking a thread costs about what it saves
_NOT_FINITE, _NO_MEMORY, _WRONG_ARGUMENT = 1, 2, 3  # enum fastscnn_status


class Kernel:
    """The compiled functions for labels and their probabilities.

    Args:
        path: the shared library.

    Raises:
        OSError: it is missing, or this process cannot load it.
        AttributeError: it has the interface of another version.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path.resolve()))  # its functions run without the GIL
        self._labels, self._confidence = library.fastscnn_labels, library.fastscnn_confidence
        size, data = ctypes.c_int64, ctypes.c_void_p
        for function in (self._labels, self._confidence):
            function.argtypes = (data, *[size] * 7, data)
            function.restype = ctypes.c_int

    def labels(self, logits: Float32Array, size: tuple[int, int], threads: int) -> UInt8Array | None:
        """Return the labels of an image; None if the logits contain NaN or infinity.

        Args:
            logits: float32 [C, h, w], C from 1 to 255.
            size: (height, width) of the labels.
            threads: at least 1; a small image uses fewer.

        Returns:
            uint8 [height, width].

        Raises:
            ArgumentError: a side of 2^31 or more.
            MemoryError: no memory is left for two rows of the logits.
        """
        result = np.empty(size, np.uint8)
        return result if _shared(self._labels, logits, result, threads) else None

    def confidence(self, logits: Float32Array, size: tuple[int, int], threads: int) -> Float32Array | None:
        """Return the softmax probability of the best class at each pixel, to 3e-4 for each class left out of the sum.

        The products down a cell add an error of 4e-6 in a cell of 60 rows, 3e-4 in one of 750.

        Args:
            logits, size, threads: as for `labels`.

        Returns:
            float32 [height, width]; None if the logits contain NaN or infinity.

        Raises:
            ArgumentError, MemoryError: see `labels`.
        """
        result = np.empty(size, np.float32)
        return result if _shared(self._confidence, logits, result, threads) else None


def _shared(function: Any, logits: Float32Array, result: UInt8Array | Float32Array, threads: int) -> bool:
    """Fill `result` with a function of lazy.c, its parts shared among threads; return whether all logits are finite."""
    logits = np.require(logits, requirements=["C", "ALIGNED"])
    threads = max(1, min(threads, result.size // PIXELS_PER_THREAD))
    parts = threads * _STRIPS if threads > 1 else 1
    left = deque(range(parts))
    outcomes = []

    def work() -> None:
        while True:
            try:
                part = left.popleft()
            except IndexError:  # another thread took the last one
                return
            outcomes.append(function(logits.ctypes.data, *logits.shape, *result.shape, part, parts, result.ctypes.data))

    helpers = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # a helper that has not started has nothing left to do
            helper.result()
    if _WRONG_ARGUMENT in outcomes:
        raise ArgumentError(f"size: each side must be below 2147483648, not {list(result.shape)}.")
    if _NO_MEMORY in outcomes:
        raise MemoryError("no memory for two rows of the logits")
    return _NOT_FINITE not in outcomes


def _new_pool() -> None:
    global _pool  # noqa: PLW0603 - a forked child has none of its parent's threads
    _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fastscnn-labels")  # starts threads when they are needed


_pool: ThreadPoolExecutor
_new_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)
KERNEL = kernels.load(Kernel, LIBRARY)
