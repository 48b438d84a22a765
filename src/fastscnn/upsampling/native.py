"""The compiled form of `upsample.labels` and `upsample.confidence`: lazy.c, if hatch_build.py could compile it."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import kernels
from fastscnn.base.types import Float32Array, Int64Array, UInt8Array

LIBRARY = Path(__file__).with_name("lazy.so")  # this name on every system
_PADDING = np.zeros(7, np.float32)  # lazy.c reads eight weights at a time
_STRIPS = 4  # parts of an image per thread: some have many more borders between classes than others
MOST_SPREAD = 60.0  # largest difference of two logits whose powers fit in float32 without loss
_WORTH = 1 << 19  # pixels per thread: with fewer, waking a thread costs about what it saves


@dataclass(frozen=True)
class Axis:
    """How the output's pixels along one axis lie between the input's values.

    Cell k lies between inputs `low[k]` and `high[k]` and covers pixels `first[k]` to `last[k]`.
    """

    low: Int64Array  # [cells]
    high: Int64Array  # [cells]
    first: Int64Array  # [cells]
    last: Int64Array  # [cells]
    cell: Int64Array  # [pixels], the cell of each pixel
    weight: Float32Array  # [pixels], weight of the high input


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
        self._labels, self._confidence = library.fastscnn_labels_1, library.fastscnn_confidence_1
        size, axis, data = ctypes.c_int64, ctypes.POINTER(_AxisInC), ctypes.c_void_p
        for function in (self._labels, self._confidence):
            function.argtypes = (data, size, size, size, axis, axis, size, size, data)
            function.restype = ctypes.c_int

    def labels(self, logits: Float32Array, rows: Axis, columns: Axis, threads: int) -> UInt8Array | None:
        """Return the labels of an image; None if the logits contain NaN or infinity.

        Args:
            logits: float32 [C, h, w], C from 1 to 255.
            rows, columns: how the pixels of the labels lie between the logits.
            threads: at least 1; a small image uses fewer.

        Returns:
            uint8 [pixels of rows, pixels of columns].

        Raises:
            MemoryError: no memory is left for two rows of the logits.
        """
        result = np.empty((len(rows.weight), len(columns.weight)), np.uint8)
        return result if _shared(self._labels, logits, rows, columns, result, threads) else None

    def confidence(self, logits: Float32Array, rows: Axis, columns: Axis, threads: int) -> Float32Array:
        """Return the softmax probability of the best class at each pixel, to 3e-4 for each class left out of the sum.

        The products down a cell add an error of 4e-6 in a cell of 60 rows, 3e-4 in one of 750.

        Args:
            logits: as for `labels`, all finite, and none more than `MOST_SPREAD` above another.
            rows, columns, threads: as for `labels`.

        Returns:
            float32 [pixels of rows, pixels of columns].

        Raises:
            MemoryError: see `labels`.
        """
        result = np.empty((len(rows.weight), len(columns.weight)), np.float32)
        _shared(self._confidence, logits, rows, columns, result, threads)
        return result


def _shared(
    function: Any, logits: Float32Array, rows: Axis, columns: Axis, result: UInt8Array | Float32Array, threads: int
) -> bool:
    """Fill `result` with a function of lazy.c, rows of cells shared among threads; return whether all logits are finite."""
    logits = np.require(logits, requirements=["C", "ALIGNED"])
    tables = _AxisInC(rows), _AxisInC(columns)
    threads = max(1, min(threads, result.size // _WORTH))
    parts = min(len(rows.low), threads * _STRIPS if threads > 1 else 1)
    edges = [len(rows.low) * part // parts for part in range(parts + 1)]
    strips = deque(pairwise(edges))
    outcomes = []

    def work() -> None:
        while True:
            try:
                start, stop = strips.popleft()
            except IndexError:  # another thread took the last one
                return
            outcomes.append(function(logits.ctypes.data, *logits.shape, *tables, start, stop, result.ctypes.data))

    helpers = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # a helper that has not started has nothing left to do
            helper.result()
    if 2 in outcomes:
        raise MemoryError("no memory for two rows of the logits")
    return not any(outcomes)


class _AxisInC(ctypes.Structure):
    """struct axis of lazy.c."""

    _fields_ = (
        ("cells", ctypes.c_int64),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )

    def __init__(self, axis: Axis) -> None:
        weight = np.concatenate([axis.weight, _PADDING])
        indices = (axis.low, axis.high, axis.first, axis.last)
        # Held here while C reads them. Their type is forced: C would read an array of another type as garbage.
        self._held = [*(np.require(array, np.int64, "C") for array in indices), np.require(weight, np.float32, "C")]
        super().__init__(len(axis.low), *(array.ctypes.data for array in self._held))


def _new_pool() -> None:
    global _pool  # noqa: PLW0603 - a forked child has none of its parent's threads
    _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fastscnn-labels")  # starts threads when they are needed


_pool: ThreadPoolExecutor
_new_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)
KERNEL = kernels.load(Kernel, LIBRARY)
