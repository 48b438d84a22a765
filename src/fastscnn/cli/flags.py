"""What flags mean: sizes, scales, classes, and the segmenter that they describe."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.console import STDERR, progress_bar

if TYPE_CHECKING:
    from fastscnn.inference.segmenter import Segmenter, Size
    from fastscnn.model.label_set import LabelSet


def load(
    weights: Path | None,
    backend: str,
    size: str | None,
    threads: int | None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    precision: str = "auto",
    streams: int = 1,
) -> Segmenter:
    """The segmenter that the flags of these names describe."""
    from fastscnn.inference.segmenter import Segmenter

    return Segmenter.load(weights, backend, parse_size(size), threads, scales, flip, precision, streams)


def within(budget: str, segmenter: Segmenter, frames: Iterable[tuple[int, int]], quiet: bool) -> Segmenter:
    """The segmenter with the largest input that labels the largest of these (height, width) within the budget.

    Says which on the error stream, and how good it is.
    """
    from fastscnn.benchmark import latency_budget as budgets
    from fastscnn.data import synthetic
    from fastscnn.inference.segmenter import Segmenter

    try:
        milliseconds = float(budget.lower().removesuffix("ms"))
    except ValueError:
        raise FastSCNNError(f"budget: is milliseconds a frame, for example 33ms, not {budget!r}.") from None
    frame = max(frames, key=lambda size: size[0] * size[1], default=synthetic.SIZE)
    with progress_bar("measure this machine", quiet) as advance:
        measured = budgets.measure(segmenter, frame, files.cache("budget"), advance)
    choice = measured.largest(milliseconds)
    known = segmenter.card.miou(choice.size)
    accuracy = f"mIoU {known[1]:.2f} on {known[0]} by its card" if known else "its card holds no mIoU for that input"
    backend = segmenter.backend
    STDERR.print(f"input {choice.size[0]}x{choice.size[1]}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of "
                 f"{frame[0]}x{frame[1]}, {backend.name} {backend.precision}{measured.source()}; {accuracy}", soft_wrap=True)
    return Segmenter(backend, choice.size, segmenter.path)


def parse_size(text: str | None) -> Size:
    """HxW as (height, width); "native" and None as they are."""
    if text is None:
        return None
    if text == "native":
        return "native"
    size = _height_width(text)
    if size is None:
        raise FastSCNNError(f"size: is HxW, for example 360x480, or native, not {text!r}.")
    return size


def parse_frames(sizes: str) -> list[tuple[int, int]]:
    """Sizes of frames, HxW with commas between."""
    from fastscnn.data import synthetic

    frames = []
    for part in sizes.split(","):
        frame = _height_width(part.strip())
        if frame is None:
            raise FastSCNNError(f"sizes: of the frame are HxW, for example 512x1024,1024x2048, not {sizes!r}.")
        if min(frame) < synthetic.MIN_SIDE:
            raise FastSCNNError(f"sizes: a frame is a drawn scene of at least {synthetic.MIN_SIDE} pixels a side, not {part}.")
        frames.append(frame)
    return frames


def _height_width(text: str) -> tuple[int, int] | None:
    """HxW as (height, width), None where it is not that."""
    height, _, width = text.lower().partition("x")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def parse_scales(text: str) -> tuple[float, ...]:
    """Numbers with commas between; what they may be, the Segmenter says."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FastSCNNError(f"scales: are numbers with commas between, for example 0.5,1,1.5, not {text!r}.") from None


def parse_classes(text: str) -> LabelSet:
    """Classes by the name of a dataset that need not be there, or of one that is."""
    from fastscnn.data import datasets
    from fastscnn.data.builtin import camvid, cityscapes

    known = {"cityscapes": cityscapes.LABELS, "camvid": camvid.LABELS}
    if text in known:
        return known[text]
    try:
        return datasets.load(text).label_set
    except FastSCNNError as error:
        raise FastSCNNError(f"classes: are {', '.join(known)}, or those of a dataset; {error}") from error


def learning(verb: str, module: str) -> ModuleType:
    """The module behind a verb that needs PyTorch; a clear error where that is not installed."""
    try:
        return importlib.import_module(f"fastscnn.{module}")
    except ModuleNotFoundError as error:
        message = f"{verb}: needs the training extra ({error.name} is missing); pip install 'fastscnn[train]'."
        raise FastSCNNError(message) from error
