"""What the options of a verb describe: the segmenter, the split, the classes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.base.types import BackendName, PrecisionName
from fastscnn.cli.console import note, progress_bar

if TYPE_CHECKING:
    from fastscnn.inference.segmenter import Segmenter, Size
    from fastscnn.inference.tiles import Tile
    from fastscnn.model.label_set import LabelSet


def load(
    weights: Path | None,
    backend: BackendName,
    size: Size,
    threads: int | None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    precision: PrecisionName = "auto",
    streams: int = 1,
    tile: Tile = None,
) -> Segmenter:
    """Return the segmenter that the options of these names describe."""
    from fastscnn.inference.segmenter import Segmenter

    return Segmenter.load(weights, backend, size, threads, scales, flip, precision, streams, tile)


def within(milliseconds: float, segmenter: Segmenter, frames: Iterable[tuple[int, int]], quiet: bool) -> Segmenter:
    """Return the segmenter with the largest input that meets a latency budget, and print which on stderr.

    Args:
        milliseconds: for each frame.
        segmenter: whose input size to choose.
        frames: (height, width) of the images; the largest counts.
        quiet: show no progress.

    Raises:
        FastSCNNError: no input is fast enough.
    """
    from fastscnn.benchmark import latency_budget
    from fastscnn.data import synthetic
    from fastscnn.inference.segmenter import Segmenter

    frame = max(frames, key=lambda size: size[0] * size[1], default=synthetic.SIZE)
    with progress_bar("measure this machine", quiet) as advance:
        measured = latency_budget.measure_latency(segmenter, frame, files.cache("latency-budget"), advance)
    choice = measured.largest(milliseconds)
    known = segmenter.card.miou(choice.size)
    accuracy = f"mIoU {known[1]:.2f} on {known[0]} by its model card" if known else "its model card has no mIoU for this input"
    backend = segmenter.backend
    note(f"Input {choice.size[0]}x{choice.size[1]}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of "
         f"{frame[0]}x{frame[1]}, {backend.name} {backend.precision}{measured.source()}; {accuracy}.")
    return Segmenter(backend, choice.size, segmenter.path)


def parse_classes(text: str) -> LabelSet:
    """Return the classes of cityscapes or camvid by name, else those of a dataset."""
    from fastscnn.data import datasets
    from fastscnn.data.builtin import camvid, cityscapes

    known = {"cityscapes": cityscapes.LABELS, "camvid": camvid.LABELS}
    if text in known:
        return known[text]
    try:
        return datasets.load(text).label_set
    except FastSCNNError as error:
        raise FastSCNNError(f"classes: expected {', '.join(known)}, or a dataset; {error}") from error


def learning(verb: str, module: str) -> ModuleType:
    """Import the module behind a verb that needs PyTorch. Raise FastSCNNError if it is not installed."""
    try:
        return importlib.import_module(f"fastscnn.{module}")
    except ModuleNotFoundError as error:
        raise missing_extra(f"{verb} ({error.name} is missing)", "train") from error
