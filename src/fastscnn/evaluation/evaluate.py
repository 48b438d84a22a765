"""evaluate: how good weights are, measured through the same Segmenter that a user runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter

Observer = Callable[[UInt8Array, Segmentation, UInt8Array, Pair], None]


@dataclass(frozen=True)
class Report:
    """Scores in percent.

    Attributes:
        confusion: pixels by true and predicted class.
        names: of the classes.
        images: how many were evaluated.
        backend, precision: of the engine.
        size: of the network's input, "native" or "HxW".
        scales, flip: the passes over each image whose probabilities were averaged; see `Segmenter`.
        weights_sha256: of the weight file; empty for weights that are in no file.
    """

    confusion: Confusion
    names: tuple[str, ...]
    images: int
    backend: str
    precision: str
    size: str
    scales: tuple[float, ...]
    flip: bool
    weights_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON; scores in percent, `iou` by class name, `confusion` with a row for each true class."""
        return {
            "miou": self.confusion.miou(),
            "pixel_accuracy": self.confusion.pixel_accuracy(),
            "iou": dict(zip(self.names, self.confusion.iou(), strict=True)),
            "images": self.images,
            "backend": self.backend,
            "precision": self.precision,
            "size": self.size,
            "scales": list(self.scales),
            "flip": self.flip,
            "weights_sha256": self.weights_sha256,
            "confusion": self.confusion.matrix.tolist(),
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1)


def evaluate(
    segmenter: Segmenter,
    spec: DatasetSpec,
    pairs: Sequence[Pair],
    progress: Callable[[int, int], None] | None = None,
    observers: Sequence[Observer] = (),
    confidence: bool = False,
) -> Report:
    """Scores of a segmenter on labelled images, each at its label file's own size.

    Args:
        segmenter: what is measured.
        spec: the dataset, with the same classes in the same order.
        pairs: its images and labels.
        progress: called with (done, all) after each image.
        observers: called with each image itself, uint8 [H, W, channels], its segmentation, its true labels, uint8 [H, W] of
            train ids, and its pair, in the order of `pairs`: for scores and pictures beside the report, in one pass.
        confidence: whether the segmentations hold it.

    Raises:
        FastSCNNError: other classes than the weights', a broken file, or an image and labels that differ in size.
    """
    names = segmenter.card.label_set.names
    if names != spec.label_set.names:
        ours, theirs = (f"{len(known)} classes ({', '.join(known)})" for known in (names, spec.label_set.names))
        raise FastSCNNError(f"{segmenter.path or 'The weights'}: know {ours} and {spec.name} has {theirs}; "
                            "take weights that were trained on its classes.")
    confusion = Confusion(len(names))
    for done, pair in enumerate(pairs, start=1):
        image, truth = spec.read(pair)
        result = segmenter.segment(image, confidence=confidence)
        confusion.add(result.labels, truth)
        for observe in observers:
            observe(image, result, truth, pair)
        if progress:
            progress(done, len(pairs))
    size = segmenter.size if isinstance(segmenter.size, str) else f"{segmenter.size[0]}x{segmenter.size[1]}"
    digest = files.digest(segmenter.path) if segmenter.path else ""
    backend = segmenter.backend
    return Report(
        confusion, names, len(pairs), backend.name, backend.precision, size, segmenter.scales, segmenter.flip, digest
    )
