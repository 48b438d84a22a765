"""compare: what other engines, precisions and sizes lose against a reference, on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BackendName, PrecisionName
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.segmenter import Segmenter

_ENGINES = (("openvino", "bfloat16"), ("onnx", "int8"), ("openvino", "int8"))  # what may lose something


@dataclass(frozen=True)
class Difference:
    """How the labels of one segmenter compare with those of the reference.

    Attributes:
        confusion: of its own labels with the truth.
        labels: percent of all pixels that have the same label in both.
        miou: points of mIoU lost; less than 0 where something is gained.
        worst: points of IoU lost by the class that loses most.
        class_: name of that class.
    """

    confusion: Confusion
    labels: float
    miou: float
    worst: float
    class_: str


def compare(
    reference: Segmenter,
    others: Mapping[str, Segmenter],
    spec: DatasetSpec,
    pairs: Sequence[Pair],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Confusion, dict[str, Difference]]:
    """Labels every image with all segmenters.

    Args:
        reference: what the others are compared with.
        others: by name.
        spec: the dataset, of the classes that all of them know.
        pairs: its images and labels.
        progress: called with (done, all) after each image.

    Returns:
        The confusion of the reference, and the difference of each other one.

    Raises:
        FastSCNNError: a broken file, an image and labels that differ in size, or no labelled pixel at all.
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
    return truths, {name: _difference(truths, confusions[name], 100 * same[name] / pixels, classes) for name in others}


def _difference(before: Confusion, after: Confusion, labels: float, classes: Sequence[str]) -> Difference:
    lost = {
        name: old - new
        for name, old, new in zip(classes, before.iou(), after.iou(), strict=True)
        if old is not None and new is not None
    }
    if not lost:
        raise FastSCNNError("None of the images has a labelled pixel of a known class, so there is nothing to compare by.")
    worst = max(lost, key=lambda name: lost[name])
    return Difference(after, labels, before.miou() - after.miou(), lost[worst], worst)


def losses(
    file: Path, reference: Path, spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """What each engine and precision of this machine loses with an exported file: `Card.losses`.

    Args:
        file: the .onnx file, in float32 or int8.
        reference: the same network in float32, run by ONNX Runtime.
        spec: labelled images.
        split: of them.
        progress: called with (done, all) after each image.
    """
    others = {}
    for backend, precision in _ENGINES:
        try:
            loaded = Segmenter.load(file, cast(BackendName, backend), precision=cast(PrecisionName, precision))
        except FastSCNNError:  # the file is in another precision, or this machine lacks the engine or its arithmetic
            continue
        others[f"{backend} {precision}"] = loaded
    pairs = spec.pairs(split)
    _, differences = compare(Segmenter.load(reference, "onnx", precision="float32"), others, spec, pairs, progress)
    return {
        name: {"split": split, "images": len(pairs), "labels": found.labels, "miou": found.miou, "worst": found.worst,
               "class": found.class_}
        for name, found in differences.items()
    }


def by_size(
    file: Path, spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Scores of an exported file at its own input, 3/4, 1/2 and 1/4 of it, as `Card.metrics` holds them.

    Args: see `losses`.
    """
    full = Segmenter.load(file, "onnx")
    others = {full.card.metric(split, size): Segmenter(full.backend, size) for size in full.card.inputs()[1:]}
    own, differences = compare(full, others, spec, spec.pairs(split), progress)
    scores = {split: own, **{name: found.confusion for name, found in differences.items()}}
    names = full.card.label_set.names
    return {
        name: {"miou": confusion.miou(), "pixel_accuracy": confusion.pixel_accuracy(),
               "iou": dict(zip(names, confusion.iou(), strict=True))}
        for name, confusion in scores.items()
    }
