"""budget: the largest input of the network whose labels come in time on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from fastscnn import files, machine, scene
from fastscnn.card import FRACTIONS
from fastscnn.errors import FastSCNNError
from fastscnn.recipes import MIN_SIDE
from fastscnn.segmenter import Segmenter
from fastscnn.version import __version__

_WARMUP, _RUNS = 10, 60


@dataclass(frozen=True)
class Choice:
    """An input of the network.

    Attributes:
        size: (height, width).
        milliseconds: 95th percentile of a frame in memory to its full-size labels.
    """

    size: tuple[int, int]
    milliseconds: float


def choices(
    segmenter: Segmenter,
    frame: tuple[int, int],
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Choice]:
    """What each input size takes on this machine, the largest first: the card's own, 3/4, 1/2 and 1/4 of it.

    Args:
        segmenter: whose runtime is measured, loaded from a file.
        frame: (height, width) of the images that will be labelled.
        cache: folder in which to remember what was measured, by machine, weights, engine, threads and frame; None
            measures anew.
        progress: called with (done, all) after each run.
    """
    if segmenter.path is None:
        raise FastSCNNError("Only weights from a file can be given a budget: what was measured is remembered by the file.")
    runtime = segmenter.runtime
    facts = (
        hashlib.sha256(segmenter.path.read_bytes()).hexdigest(), runtime.name, runtime.precision, runtime.threads,
        runtime.streams, *frame, machine.processor(), machine.threads(), __version__,
    )
    remembered = cache / f"{hashlib.sha256(repr(facts).encode()).hexdigest()}.json" if cache else None
    if remembered and (known := _read(remembered)):
        return known
    height, width = runtime.card.size
    sizes = [(round(height * fraction), round(width * fraction)) for fraction in FRACTIONS]
    sizes = [size for size in sizes if min(size) >= MIN_SIDE]
    image = scene.draw(*frame).image
    total = len(sizes) * (_WARMUP + _RUNS)
    measured = []
    for index, size in enumerate(sizes):
        sized = Segmenter(runtime, size, segmenter.path)
        times = []
        for run in range(_WARMUP + _RUNS):
            start = perf_counter()
            sized.segment(image)
            times.append(1e3 * (perf_counter() - start))
            if progress:
                progress(index * (_WARMUP + _RUNS) + run + 1, total)
        measured.append(Choice(size, float(np.percentile(times[_WARMUP:], 95))))
    if remembered:
        files.write(remembered, json.dumps([[*choice.size, choice.milliseconds] for choice in measured]).encode())
    return measured


def largest(measured: list[Choice], milliseconds: float) -> Choice:
    """The first choice that takes no longer.

    Raises:
        FastSCNNError: none does; the message names the fastest and its time.
    """
    for choice in measured:
        if choice.milliseconds <= milliseconds:
            return choice
    fastest = min(measured, key=lambda choice: choice.milliseconds)
    size = f"{fastest.size[0]}x{fastest.size[1]}"
    raise FastSCNNError(f"budget: no input of the network is labelled in {milliseconds:g} ms here; the fastest, {size}, "
                        f"takes {fastest.milliseconds:.1f} ms at the 95th percentile.")


def _read(path: Path) -> list[Choice] | None:
    try:
        return [Choice((height, width), milliseconds) for height, width, milliseconds in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):  # not measured yet, or a broken file: measured anew
        return None
