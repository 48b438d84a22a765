"""What the options of a verb describe: the segmenter, the split, the classes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.base.types import BackendName, PrecisionName
from fastscnn.cli.console import note, progress_bar
from fastscnn.cli.options import write_size

if TYPE_CHECKING:
    from fastscnn.inference.segmenter import Segmenter, Size
    from fastscnn.inference.tiles import Tile
    from fastscnn.model.card import Card
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
    """Return the segmenter with the largest base size that meets a latency budget, and print that size on stderr.

    Args:
        milliseconds: for each frame.
        segmenter: the segmenter, at the card's size.
        frames: (height, width) of the images. The latency is measured for the largest.
        quiet: show no progress.

    Raises:
        FastSCNNError: no size is fast enough.
    """
    from fastscnn.benchmark import latency_budget
    from fastscnn.data import synthetic
    from fastscnn.inference.segmenter import Segmenter

    sizes = set(frames)
    inputs = {frame: segmenter.input_size(frame) for frame in sizes}
    # Of frames of one area, the one with the largest input.
    frame = max(sizes, key=lambda frame: (prod(frame), prod(inputs[frame]), frame), default=synthetic.SIZE)
    with progress_bar("measure this machine", quiet) as advance:
        measured = latency_budget.measure_latency(segmenter, frame, files.cache("latency-budget"), advance)
    choice = measured.largest(milliseconds)
    chosen = Segmenter(segmenter.backend, choice.size, segmenter.path)
    same = {chosen.input_size(each) for each in sizes} == {choice.size}
    shaped = "" if same else f" in the shape of each image, {write_size(chosen.input_size(frame))} at {write_size(frame)}"
    note(f"Input {write_size(choice.size)}{shaped}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of "
         f"{write_size(frame)}, {chosen.backend.name} {chosen.backend.precision}{measured.source()}; "
         f"{_accuracy(chosen.card, choice.size, same)}.")
    return chosen


def _accuracy(card: Card, size: tuple[int, int], same_shape: bool) -> str:
    """Return the mIoU of a base size by the model card, in words."""
    known = card.miou(size)
    if known is None:
        return "its model card has no mIoU for this size"
    split, miou = known
    limit = "" if same_shape else f", for images in the shape of {write_size(card.size)}"
    return f"mIoU {miou:.2f} on {split} by its model card{limit}"


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
