"""machine: what it is, and how fast it moves memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np

_COPIED = 256 << 20  # bytes: more than any cache holds
_ROUNDS = 5


def processor() -> str:
    """Name of the processor, and of the system."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {platform.system()}"
    return f"{platform.processor() or platform.machine()}, {platform.system()}"


def threads() -> int:
    """Processors that this process may use, which in a container are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bandwidth(workers: int) -> float:
    """Bytes a second that copying a large array reads and writes, by that many threads; the best of a few rounds."""
    source = np.ones(_COPIED, np.uint8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, workers), np.array_split(target, workers), strict=True))
    with ThreadPoolExecutor(workers) as pool:
        return 2 * _COPIED / fastest(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), _ROUNDS)


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Seconds that the fastest of some rounds takes: what disturbs a round only makes it slower."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds)
