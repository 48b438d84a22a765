"""Find the largest base size of the network's input whose labels are ready within a latency budget on this machine."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from time import perf_counter

import numpy as np

from fastscnn.base import files, machine
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import BaseSize, in_shape
from fastscnn.media import images
from fastscnn.upsampling import native
from fastscnn.version import __version__

_WARMUP, RUNS = 10, 60
SECONDS = 6.0  # limit for one size, once there are `_LEAST` runs
_LEAST = 5
_LIBRARIES = (
    "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "openvino", "torch",
    "triton",
)


@dataclass(frozen=True)
class LatencyChoice:
    """A base size of the network's input and its latency.

    Attributes:
        size: the base size; the input has the shape of each frame.
        milliseconds: 95th percentile from a frame in memory to its full-size labels.
        frame: (height, width) of that frame, the slowest.
    """

    size: BaseSize
    milliseconds: float
    frame: tuple[int, int]


@dataclass(frozen=True)
class LatencyBudget:
    """The latency of every base size on this machine.

    Attributes:
        choices: the base sizes, largest first.
        day: date of the measurement, YYYY-MM-DD (UTC).
        file: cache file of the measurement; None: not cached.
    """

    choices: tuple[LatencyChoice, ...]
    day: str
    file: Path | None

    def largest(self, milliseconds: float) -> LatencyChoice:
        """Return the largest base size whose latency is at most `milliseconds`.

        Raises:
            FastSCNNError: none is fast enough; the message names the fastest and its latency.
        """
        for choice in self.choices:
            if choice.milliseconds <= milliseconds:
                return choice
        fastest = min(self.choices, key=lambda choice: choice.milliseconds)
        size = hxw(fastest.size)
        raise FastSCNNError(f"latency budget: no input size takes at most {milliseconds:g} ms on this machine; "
                            f"the fastest, {size}, takes {fastest.milliseconds:.1f} ms at the 95th percentile{self.source()}.")

    def source(self) -> str:
        """Return the date and the cache file, as the end of a sentence; "" if not cached."""
        return f" (measured on {self.day}; delete {self.file} to measure again)" if self.file else ""


def measure_latency(
    segmenter: Segmenter,
    frames: Collection[tuple[int, int]],
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyBudget:
    """Measure the latency of each base size of the card (`Card.inputs`), or return the cached result.

    The network's input has the shape of each frame (`size.in_shape`). Of all frames, the largest and the one with the largest
    input are measured; the slower one counts.

    Args:
        segmenter: segmenter to measure, loaded from a file.
        frames: (height, width) of the images to segment, at least one.
        cache: folder for results, keyed by everything that the times depend on; None: always measure.
        progress: called with (done, total) after each run.

    Raises:
        FastSCNNError: the weights were not loaded from a file.
    """
    if segmenter.path is None:
        raise FastSCNNError("A latency budget needs weights loaded from a file: results are cached by the content of the file.")
    backend = segmenter.backend
    sizes = [BaseSize(*size) for size in backend.card.inputs()]
    runs = [(size, frame) for size in sizes for frame in _slowest(size, frames)]
    file = cache / f"{_key(segmenter, segmenter.path, runs)}.json" if cache else None
    if file and (known := _read(file)):
        return known
    drawn = {frame: images.widened(_image(frame), backend.card.channels) for _, frame in runs}
    slowest: dict[BaseSize, LatencyChoice] = {}
    for index, (size, frame) in enumerate(runs):
        sized = Segmenter(backend, size, segmenter.path)
        times: list[float] = []
        began = perf_counter()
        while len(times) < _WARMUP + RUNS and (perf_counter() - began < SECONDS or len(times) < _LEAST):
            start = perf_counter()
            sized.segment(drawn[frame])
            times.append(1e3 * (perf_counter() - start))
            if progress:
                progress(index * (_WARMUP + RUNS) + len(times), len(runs) * (_WARMUP + RUNS))
        found = LatencyChoice(size, float(np.percentile(times[min(_WARMUP, len(times) // 2) :], 95)), frame)
        slowest[size] = max(slowest.get(size, found), found, key=lambda choice: choice.milliseconds)
    measured = tuple(slowest.values())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if file:
        text = json.dumps({"day": today, "choices": [asdict(choice) for choice in measured]})
        try:
            files.write(file, text.encode())
        except FastSCNNError:  # the cache folder is not writable: measure again next time
            file = None
    return LatencyBudget(measured, today, file)


def _slowest(size: BaseSize, frames: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the frames that may take the most time at a base size: the largest, and the one with the largest input."""
    inputs = {frame: prod(in_shape(size, frame)) for frame in frames}
    largest = max(inputs, key=lambda frame: (prod(frame), inputs[frame], frame))
    return list(dict.fromkeys([largest, max(inputs, key=lambda frame: (inputs[frame], prod(frame), frame))]))


def _key(segmenter: Segmenter, weights: Path, runs: Sequence[tuple[BaseSize, tuple[int, int]]]) -> str:
    """Return the digest of everything that the times depend on."""
    backend = segmenter.backend
    facts = (
        files.digest(weights), backend.name, backend.precision, backend.threads, backend.streams, backend.device,
        backend.hardware(), [(size, frame, in_shape(size, frame)) for size, frame in runs], _libraries(), native.KERNEL is None,
        machine.processor(), machine.threads(), __version__,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _libraries() -> dict[str, str]:
    """Return the versions of the installed libraries that run networks and resize images."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _image(frame: tuple[int, int]) -> UInt8Array:
    """Return a street scene of that size. Large scenes are resized: drawing them takes longer than segmenting."""
    scale = min(1.0, (synthetic.SIZE[0] * synthetic.SIZE[1] / (frame[0] * frame[1])) ** 0.5)
    height, width = (max(synthetic.MIN_SIDE, round(side * scale)) for side in frame)
    return images.resize(synthetic.draw(height, width).image, frame)


def _read(file: Path) -> LatencyBudget | None:
    broken = (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
    with contextlib.suppress(*broken):  # or missing: measure again
        known = json.loads(file.read_text(encoding="utf-8"))
        choices = tuple(
            LatencyChoice(BaseSize(*map(int, choice["size"])), float(choice["milliseconds"]),
                          (int(choice["frame"][0]), int(choice["frame"][1])))
            for choice in known["choices"]
        )
        return LatencyBudget(choices, str(known["day"]), file) if choices else None
    return None
