"""What the options of a verb describe: the segmenter, the split, the classes."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.base.types import BackendName, DeviceName, PrecisionName
from fastscnn.cli import missing
from fastscnn.cli.console import note, progress_bar
from fastscnn.cli.options import write_size
from fastscnn.hub import download
from fastscnn.hub.address import is_address, parse

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
    device: DeviceName | None = None,
) -> Segmenter:
    """Return the segmenter that these options describe; print notes on its device, slow labels and unverified weights."""
    from fastscnn.inference.segmenter import Segmenter

    weights = weights and weight_file(weights, backend, precision)
    segmenter = Segmenter.load(weights, backend, size, threads, scales, flip, precision, streams, tile, device)
    for text in filter(None, (*segmenter.backend.notes, missing.slow_labels())):
        note(text)
    if not segmenter.verified:
        note_unverified(segmenter.path, "its card has no hash")
    return segmenter


def weight_file(weights: Path, backend: BackendName = "auto", precision: PrecisionName = "auto", quiet: bool = False) -> Path:
    """Return the path of a weight file. One on the hub is downloaded, with a progress bar; see `hub.download.weight_file`."""
    if not is_address(weights):
        return weights
    with progress_bar(f"download {parse(weights)} (kB)", quiet) as advance:
        return download.weight_file(weights, backend, precision, lambda done, total: advance(done // 1000, total // 1000))


def note_unverified(path: Path | None, why: str) -> None:
    """Print a note that damage to a weight file is not noticed."""
    note(f"{path}: unverified: {why}, so damage to the file is not noticed; compare its sha256 with that of its source.")


def within(milliseconds: float, segmenter: Segmenter, frames: Collection[tuple[int, int]], quiet: bool) -> Segmenter:
    """Return the segmenter with the largest base size that meets a latency budget, and print that size on stderr.

    Args:
        milliseconds: for each frame.
        segmenter: the segmenter, at the card's size.
        frames: (height, width) of the images or videos, at least one.
        quiet: show no progress.

    Raises:
        FastSCNNError: no size is fast enough.
    """
    from fastscnn.benchmark import latency_budget
    from fastscnn.inference.segmenter import Segmenter

    with progress_bar("measure this machine", quiet) as advance:
        measured = latency_budget.measure_latency(segmenter, frames, files.cache("latency-budget"), advance)
    choice = measured.largest(milliseconds)
    chosen = Segmenter(segmenter.backend, choice.size, segmenter.path)
    size, used = write_size(choice.size), {chosen.input_size(frame) for frame in frames}
    shaped = f" in the shape of each frame, {write_size(chosen.input_size(choice.frame))} at {write_size(choice.frame)}"
    described = f"{size}{shaped}" if len(used) > 1 else size if used == {choice.size} else \
        f"{write_size(used.pop())} (base size {size})"
    note(f"Input {described}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of {write_size(choice.frame)}, "
         f"{chosen.backend.name} {chosen.backend.precision} on {chosen.backend.device}{measured.source()}; "
         f"{_accuracy(chosen.card, choice.size, described == size)}.")
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
