"""Memory over many frames; the time and memory of the import."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import pytest
from promises import Some, memory

from fastscnn.base.types import UInt8Array
from fastscnn.inference.segmenter import Segmenter

Record = Callable[[str, object], None]
GROWTH = 1.0  # MB per 1,000 frames
IMPORT_SECONDS, IMPORT_MB = 0.3, 40


def frames(count: int) -> Iterator[UInt8Array]:
    """Frames of three sizes, each in a new array."""
    draw = np.random.default_rng(0)
    for number in range(count):
        yield draw.integers(0, 256, ((64, 96), (72, 96), (64, 128))[number // 50 % 3] + (3,), np.uint8)


WAYS: dict[str, Callable[[Segmenter, int], Iterator[object]]] = {
    "segment": lambda segmenter, count: (segmenter.segment(frame, confidence=True) for frame in frames(count)),
    "stream": lambda segmenter, count: segmenter.stream(frames(count)),
    "smoothing": lambda segmenter, count: segmenter.stream(frames(count), smoothing=True),
}


def growth(way: str, count: int) -> float:
    """Return the MB per 1,000 frames from each of the last three quarters to the next, the lesser of the two.

    So a cache that fills once, at any time, is no leak.
    """
    with Segmenter.load(backend="onnx", precision="int8", threads=2, size="native") as segmenter:
        for _ in WAYS[way](segmenter, 300):
            pass
        measured = [memory() for number, _ in enumerate(WAYS[way](segmenter, count)) if number % 10 == 0]
    quarter = len(measured) // 4
    second, third, fourth = (median(measured[place * quarter : (place + 1) * quarter]) for place in (1, 2, 3))
    return min(third - second, fourth - third) * 1.048576 / (count / 4) * 1000


@pytest.mark.slow
@pytest.mark.reliability("soak")
@pytest.mark.parametrize("way", WAYS)
def test_memory_over_many_frames(way: str, some: Some, record_property: Record) -> None:
    """In a process of its own: in that of the tests, memory that other tests use, or their threads, would count."""
    memory()  # skips systems without /proc
    count = len(some(range(20_000)))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(growth, (way, count))
    record_property(f"{way}, MB per 1,000 frames", round(found, 3))
    record_property("cases", count)
    assert found < GROWTH


IMPORT = """
import sys, time
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024 / 1e6
before, start = resident(), time.process_time()
import fastscnn
print(time.process_time() - start, resident() - before)
"""


@pytest.mark.reliability("import")
def test_the_import_is_light(record_property: Record) -> None:
    """The fastest of five processes, in seconds of the processor: others that work at the same time do not count."""
    memory()  # skips systems without /proc
    runs = [subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True) for _ in range(5)]
    seconds, megabytes = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    record_property("s", round(min(seconds), 3))
    record_property("MB", round(max(megabytes), 1))
    assert min(seconds) < IMPORT_SECONDS
    assert max(megabytes) < IMPORT_MB
