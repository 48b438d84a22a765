"""Find the largest network input whose labels are ready within a latency budget on this machine."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from fastscnn.base import files, machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import in_shape
from fastscnn.media import images
from fastscnn.version import __version__

_WARMUP, _RUNS = 10, 60
_SECONDS = 6.0  # limit for one size, once there are `_LEAST` runs
_LEAST = 5


@dataclass(frozen=True)
class LatencyChoice:
    """An input size of the network and its latency.

    Attributes:
        size: (height, width).
        milliseconds: 95th percentile from a frame in memory to its full-size labels.
    """

    size: tuple[int, int]
    milliseconds: float


@dataclass(frozen=True)
class LatencyBudget:
    """The latency of every input size on this machine.

    Attributes:
        choices: the input sizes, largest first.
        day: date of the measurement, YYYY-MM-DD (UTC).
        file: cache file of the measurement; None: not cached.
    """

    choices: tuple[LatencyChoice, ...]
    day: str
    file: Path | None

    def largest(self, milliseconds: float) -> LatencyChoice:
        """Return the largest input size whose latency is at most `milliseconds`.

        Raises:
            FastSCNNError: none is fast enough; the message names the fastest and its latency.
        """
        for choice in self.choices:
            if choice.milliseconds <= milliseconds:
                return choice
        fastest = min(self.choices, key=lambda choice: choice.milliseconds)
        size = f"{fastest.size[0]}x{fastest.size[1]}"
        raise FastSCNNError(f"latency budget: no input size takes at most {milliseconds:g} ms on this machine; "
                            f"the fastest, {size}, takes {fastest.milliseconds:.1f} ms at the 95th percentile{self.source()}.")

    def source(self) -> str:
        """Return the date and the cache file, as the end of a sentence; "" if not cached."""
        return f" (measured on {self.day}; delete {self.file} to measure again)" if self.file else ""


def measure_latency(
    segmenter: Segmenter,
    frame: tuple[int, int],
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyBudget:
    """Measure the latency at the card's input size, and at 3/4, 1/2 and 1/4 of it, or return the cached result.

    Each of these sizes is in the shape of `frame` (`size.in_shape`).

    Args:
        segmenter: segmenter to measure, loaded from a file.
        frame: (height, width) of the images to segment.
        cache: folder for results, keyed by machine, weights, backend, threads and frame; None: always measure.
        progress: called with (done, total) after each run.

    Raises:
        FastSCNNError: the weights were not loaded from a file.
    """
    if segmenter.path is None:
        raise FastSCNNError("A latency budget needs weights loaded from a file: results are cached by the content of the file.")
    backend = segmenter.backend
    facts = (
        files.digest(segmenter.path), backend.name, backend.precision, backend.threads,
        backend.streams, *frame, machine.processor(), machine.threads(), __version__,
    )
    file = cache / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json" if cache else None
    if file and (known := _read(file)):
        return known
    sizes = [in_shape(size, frame) for size in backend.card.inputs()]
    image = images.widened(_image(frame), backend.card.channels)
    measured = []
    for index, size in enumerate(sizes):
        sized = Segmenter(backend, size, segmenter.path)
        times: list[float] = []
        began = perf_counter()
        while len(times) < _WARMUP + _RUNS and (perf_counter() - began < _SECONDS or len(times) < _LEAST):
            start = perf_counter()
            sized.segment(image)
            times.append(1e3 * (perf_counter() - start))
            if progress:
                progress(index * (_WARMUP + _RUNS) + len(times), len(sizes) * (_WARMUP + _RUNS))
        measured.append(LatencyChoice(size, float(np.percentile(times[min(_WARMUP, len(times) // 2) :], 95))))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if file:
        text = json.dumps({"day": today, "choices": [asdict(choice) for choice in measured]})
        try:
            files.write(file, text.encode())
        except FastSCNNError:  # the cache folder is not writable: measure again next time
            file = None
    return LatencyBudget(tuple(measured), today, file)


def _image(frame: tuple[int, int]) -> UInt8Array:
    """Return a street scene of that size. Large scenes are resized: drawing them takes longer than segmenting."""
    scale = min(1.0, (synthetic.SIZE[0] * synthetic.SIZE[1] / (frame[0] * frame[1])) ** 0.5)
    height, width = (max(synthetic.MIN_SIDE, round(side * scale)) for side in frame)
    return images.resize(synthetic.draw(height, width).image, frame)


def _read(file: Path) -> LatencyBudget | None:
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):  # missing or broken file: measure again
        known = json.loads(file.read_text())
        choices = tuple(LatencyChoice((choice["size"][0], choice["size"][1]), float(choice["milliseconds"]))
                        for choice in known["choices"])
        return LatencyBudget(choices, str(known["day"]), file) if choices else None
    return None
