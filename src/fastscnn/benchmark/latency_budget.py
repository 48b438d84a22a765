"""budget: the largest input of the network whose labels come in time on this machine."""

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
from fastscnn.media import images
from fastscnn.version import __version__

_WARMUP, _RUNS = 10, 60
_SECONDS = 6.0  # for one size, at most, once there are `_LEAST` runs
_LEAST = 5


@dataclass(frozen=True)
class Choice:
    """An input of the network.

    Attributes:
        size: (height, width).
        milliseconds: 95th percentile of a frame in memory to its full-size labels.
    """

    size: tuple[int, int]
    milliseconds: float


@dataclass(frozen=True)
class Measured:
    """What this machine takes.

    Attributes:
        choices: the inputs, the largest first.
        day: when it was measured, YYYY-MM-DD.
        file: where it is remembered; None where it is not.
    """

    choices: tuple[Choice, ...]
    day: str
    file: Path | None

    def largest(self, milliseconds: float) -> Choice:
        """The first choice that takes no longer.

        Raises:
            FastSCNNError: none does; the message names the fastest and its time.
        """
        for choice in self.choices:
            if choice.milliseconds <= milliseconds:
                return choice
        fastest = min(self.choices, key=lambda choice: choice.milliseconds)
        size = f"{fastest.size[0]}x{fastest.size[1]}"
        raise FastSCNNError(f"budget: no input of the network is labelled in {milliseconds:g} ms here; the fastest, {size}, "
                            f"takes {fastest.milliseconds:.1f} ms at the 95th percentile{self.source()}.")

    def source(self) -> str:
        """Where the figures come from, as the end of a sentence."""
        return f" (measured on {self.day}; delete {self.file} to measure again)" if self.file else ""


def measure(
    segmenter: Segmenter,
    frame: tuple[int, int],
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Times the card's own input, 3/4, 1/2 and 1/4 of it, on this machine; or remembers what it took.

    Args:
        segmenter: whose backend is measured, loaded from a file.
        frame: (height, width) of the images that will be labelled.
        cache: folder in which to remember what was measured, by machine, weights, engine, threads and frame; None
            measures anew.
        progress: called with (done, all) after each run.
    """
    if segmenter.path is None:
        raise FastSCNNError("Only weights from a file can be given a budget: what was measured is remembered by the file.")
    backend = segmenter.backend
    facts = (
        files.digest(segmenter.path), backend.name, backend.precision, backend.threads,
        backend.streams, *frame, machine.processor(), machine.threads(), __version__,
    )
    file = cache / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json" if cache else None
    if file and (known := _read(file)):
        return known
    sizes = backend.card.inputs()
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
        measured.append(Choice(size, float(np.percentile(times[min(_WARMUP, len(times) // 2) :], 95))))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if file:
        text = json.dumps({"day": today, "choices": [asdict(choice) for choice in measured]})
        try:
            files.write(file, text.encode())
        except FastSCNNError:  # a home folder that cannot be written to: it is measured again next time
            file = None
    return Measured(tuple(measured), today, file)


def _image(frame: tuple[int, int]) -> UInt8Array:
    """A street scene of that size. Large ones are enlarged, since drawing them would take longer than labelling."""
    scale = min(1.0, (synthetic.SIZE[0] * synthetic.SIZE[1] / (frame[0] * frame[1])) ** 0.5)
    height, width = (max(synthetic.MIN_SIDE, round(side * scale)) for side in frame)
    return images.resize(synthetic.draw(height, width).image, frame)


def _read(file: Path) -> Measured | None:
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):  # not measured yet, or a broken file: measured anew
        known = json.loads(file.read_text())
        choices = tuple(Choice((choice["size"][0], choice["size"][1]), float(choice["milliseconds"]))
                        for choice in known["choices"])
        return Measured(choices, str(known["day"]), file) if choices else None
    return None
