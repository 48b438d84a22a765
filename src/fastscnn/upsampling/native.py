"""The compiled form of `upsample.labels` and `upsample.confidence`: lazy.c, where hatch_build.py could compile it."""

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

from fastscnn.base.types import Float32Array, Int64Array, UInt8Array

LIBRARY = Path(__file__).with_name("lazy.so")  # of this name on every system
_PADDING = np.zeros(7, np.float32)  # lazy.c reads weights eight at a time
_STRIPS = 4  # parts of an image for each thread: some have many more borders between classes than others
MOST_SPREAD = 60.0  # between two logits: their powers then are floats without loss
_WORTH = 1 << 19  # pixels for each thread: with fewer, waking it costs about what it saves


@dataclass(frozen=True)
class Axis:
    """How the output's pixels along one axis lie between the input's.

    Cell k lies between inputs `low[k]` and `high[k]` and covers pixels `first[k]` to `last[k]`.
    """

    low: Int64Array  # [cells]
    high: Int64Array  # [cells]
    first: Int64Array  # [cells]
    last: Int64Array  # [cells]
    cell: Int64Array  # [pixels], the cell of each pixel
    weight: Float32Array  # [pixels], share of the high input


class Kernel:
    """The compiled labels, and the probability of each.

    Args:
        path: the shared library.

    Raises:
        OSError: it is missing, or none that this process can load.
        AttributeError: its interface is that of another version.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path.resolve()))  # whose functions run without the GIL
        self._labels, self._confidence = library.fastscnn_labels_1, library.fastscnn_confidence_1
        size, axis, data = ctypes.c_int64, ctypes.POINTER(_AxisInC), ctypes.c_void_p
        for function in (self._labels, self._confidence):
            function.argtypes = (data, size, size, size, axis, axis, size, size, data)
            function.restype = ctypes.c_int

    def labels(self, logits: Float32Array, rows: Axis, columns: Axis, threads: int) -> UInt8Array | None:
        """Labels of an image; None where NaN or infinity is among the logits.

        Args:
            logits: float32 [C, h, w], C from 1 to 255.
            rows, columns: how the pixels of the labels lie between those of the logits.
            threads: to compute with, at least 1; a small image takes fewer.

        Returns:
            uint8 [pixels of rows, pixels of columns].

        Raises:
            MemoryError: there is none left for two rows of the logits.
        """
        result = np.empty((len(rows.weight), len(columns.weight)), np.uint8)
        return result if _shared(self._labels, logits, rows, columns, result, threads) else None

    def confidence(self, logits: Float32Array, rows: Axis, columns: Axis, threads: int) -> Float32Array:
        """Softmax probability of the best class at each pixel, to 3e-4 for each class that is left out of the sum.

        Multiplying down a cell adds 4e-6 where it is 60 rows tall, 3e-4 where it is 750.

        Args:
            logits: as `labels` takes them, all finite, and none more than `MOST_SPREAD` above another.
            rows, columns, threads: as there.

        Returns:
            float32 [pixels of rows, pixels of columns].

        Raises:
            MemoryError: as `labels`.
        """
        result = np.empty((len(rows.weight), len(columns.weight)), np.float32)
        _shared(self._confidence, logits, rows, columns, result, threads)
        return result


def _shared(
    function: Any, logits: Float32Array, rows: Axis, columns: Axis, result: UInt8Array | Float32Array, threads: int
) -> bool:
    """Fills `result` by a function of lazy.c, rows of cells shared among threads; whether all logits were finite."""
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
            except IndexError:  # another thread took the last
                return
            outcomes.append(function(logits.ctypes.data, *logits.shape, *tables, start, stop, result.ctypes.data))

    helpers = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()
    if 2 in outcomes:
        raise MemoryError("no memory for two rows of the logits")
    return not any(outcomes)


def load(path: Path) -> Kernel | None:
    """The kernel of a shared library; None where the library is missing or not one for this process and version."""
    try:
        return Kernel(path)
    except (OSError, AttributeError):
        return None


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
        self._held = [axis.low, axis.high, axis.first, axis.last, weight]  # alive while C may look at them
        super().__init__(len(axis.low), *(array.ctypes.data for array in self._held))


def _new_pool() -> None:
    global _pool  # noqa: PLW0603 - a child process starts without the threads of its parent's
    _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fastscnn-labels")  # threads start when first needed


_pool: ThreadPoolExecutor
_new_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)
KERNEL = load(LIBRARY)
