"""Measure the accuracy that other backends, precisions and input sizes lose against a reference, on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn import backends
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BackendName, PrecisionName
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import BaseSize

_FASTER: tuple[tuple[BackendName, PrecisionName], ...] = (  # those that can lose accuracy
    ("openvino", "bfloat16"), ("onnx", "int8"), ("openvino", "int8"),
)


@dataclass(frozen=True)
class AccuracyLoss:
    """Labels of one segmenter, compared with those of the reference.

    Attributes:
        confusion: its labels against the ground truth.
        labels: percent of all pixels that have the same label in both.
        miou: mIoU lost, in points; negative if it gains.
        worst: IoU lost by the class that loses most, in points.
        class_: name of that class.
    """

    confusion: Confusion
    labels: float
    miou: float
    worst: float
    class_: str


def accuracy_loss(
    reference: Segmenter,
    others: Mapping[str, Segmenter],
    spec: DatasetSpec,
    pairs: Sequence[Pair],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Confusion, dict[str, AccuracyLoss]]:
    """Segment every image with all segmenters, and compare them with the reference.

    Args:
        reference: the segmenter that the others are compared with.
        others: the others, by name.
        spec: the dataset, with the classes of all segmenters.
        pairs: its images and labels.
        progress: called with (done, total) after each image.

    Returns:
        The confusion of the reference, and the accuracy loss of each other segmenter.

    Raises:
        FastSCNNError: a broken file, an image and labels of different sizes, or no labelled pixel at all.
    """
    classes = reference.card.label_set.names
    truths = Confusion(len(classes))
    confusions = {name: Confusion(len(classes)) for name in others}
    same, pixels = dict.fromkeys(others, 0), 0
    for done, pair in enumerate(pairs, start=1):
        image, truth = spec.read(pair)
        expected = reference.segment(image).labels
        truths.add(expected, truth)
        pixels += expected.size
        for name, other in others.items():
            labels = other.segment(image).labels
            confusions[name].add(labels, truth)
            same[name] += int(np.count_nonzero(labels == expected))
        if progress:
            progress(done, len(pairs))
    return truths, {name: _loss(truths, confusions[name], 100 * same[name] / pixels, classes) for name in others}


def _loss(before: Confusion, after: Confusion, labels: float, classes: Sequence[str]) -> AccuracyLoss:
    lost = {
        name: old - new
        for name, old, new in zip(classes, before.iou(), after.iou(), strict=True)
        if old is not None and new is not None
    }
    if not lost:
        raise FastSCNNError("None of the images has a labelled pixel of a known class; accuracy cannot be compared.")
    worst = max(lost, key=lambda name: lost[name])
    return AccuracyLoss(after, labels, before.miou() - after.miou(), lost[worst], worst)


def backend_losses(
    reference: Segmenter,
    data: bytes,
    spec: DatasetSpec,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure the accuracy loss of an exported file with every backend and precision that this machine has.

    Args:
        reference: the same network in float32, with ONNX Runtime.
        data: content of the .onnx file, in float32 or int8.
        spec: the dataset.
        split: its split to measure on.
        progress: called with (done, total) after each image.

    Returns:
        The field `losses` of the model card: "BACKEND PRECISION" -> loss.

    Raises:
        FastSCNNError: as `accuracy_loss`.
    """
    others = {}
    for backend, precision in _FASTER:
        try:
            loaded = backends.load(Path("exported.onnx"), backend, precision=precision, data=data)
        except FastSCNNError:  # another precision than the file's, or one that this machine lacks
            continue
        others[f"{backend} {precision}"] = Segmenter(loaded)
    pairs = spec.pairs(split)
    _, losses = accuracy_loss(reference, others, spec, pairs, progress)
    return {
        name: {"split": split, "images": len(pairs), "labels": loss.labels, "miou": loss.miou, "worst": loss.worst,
               "class": loss.class_}
        for name, loss in losses.items()
    }


def scores_by_size(
    segmenter: Segmenter, spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Score a network at its own input size and at the smaller ones of `Card.inputs`, in the shape of each image.

    Args:
        segmenter: the network at its own input size.
        spec: the dataset.
        split: its split to score on.
        progress: called with (done, total) after each image.

    Returns:
        Entries for the field `metrics` of the model card: SPLIT and "SPLIT at HxW" -> scores in percent, and the dataset.

    Raises:
        FastSCNNError: as `accuracy_loss`.
    """
    card = segmenter.card
    others = {card.metric(split, size): Segmenter(segmenter.backend, BaseSize(*size)) for size in card.inputs()[1:]}
    own, losses = accuracy_loss(segmenter, others, spec, spec.pairs(split), progress)
    scores = {split: own, **{name: loss.confusion for name, loss in losses.items()}}
    return {
        name: {"miou": confusion.miou(), "pixel_accuracy": confusion.pixel_accuracy(),
               "iou": dict(zip(card.label_set.names, confusion.iou(), strict=True)), "dataset": spec.name}
        for name, confusion in scores.items()
    }
