"""Metrics of a dataset's authors, computed in the same pass as the standard ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.dataset_metrics import InstanceMetrics
from fastscnn.data.spec import DatasetSpec, Pair, exists, from_archive
from fastscnn.evaluation.metrics import Confusion, RunningMIoU
from fastscnn.evaluation.protocols.cityscapes import Scores, grouping, mean
from fastscnn.media import images


class DatasetScores(Protocol):
    """Scores that are updated once per image, in the order of the pairs."""

    def add(self, predicted: UInt8Array, truth: UInt8Array, pair: Pair) -> None:
        """Count one image: predicted and true train ids, uint8 [H, W], 255 where the truth is ignored."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the scores for JSON, in percent."""
        ...


def dataset_scores(spec: DatasetSpec, pairs: Sequence[Pair]) -> DatasetScores | None:
    """Return the scores that a dataset describes in `DatasetSpec.metrics`; None if it describes none.

    Without any instance file, Cityscapes has the scores of its categories alone.

    Args:
        spec: the dataset.
        pairs: the pairs to evaluate, in the order in which they will be added.

    Raises:
        FastSCNNError: some instance files exist and one is missing.
    """
    if spec.metrics is None:
        return None
    if not isinstance(spec.metrics, InstanceMetrics):
        return _RunningMean(len(spec.label_set))
    files = [pair.instances for pair in pairs if pair.instances]
    missing = [file for file in files if not exists(file)]
    if len(missing) == len(files):
        return _Categories(spec.metrics)
    if missing:
        archive = next(iter(spec.splits.values())).labels_in
        raise FastSCNNError(f"{missing[0]}: is missing, but other instance files exist and iIoU needs all of them"
                            f"{from_archive(archive)}.")
    return _Instances(spec, spec.metrics)


class _Categories:
    """IoU of categories."""

    def __init__(self, metrics: InstanceMetrics) -> None:
        self._categories = metrics.categories
        self._confusion = Confusion(len(metrics.categories))

    def add(self, predicted: UInt8Array, truth: UInt8Array, pair: Pair) -> None:
        self._confusion.add(predicted, truth)

    def to_dict(self) -> dict[str, Any]:
        return _category_iou(self._categories, self._confusion)


class _Instances:
    """IoU of categories, and iIoU of classes and categories."""

    def __init__(self, spec: DatasetSpec, metrics: InstanceMetrics) -> None:
        self._categories = metrics.categories
        self._scores = Scores(spec.label_set, metrics.categories, metrics.average_sizes)

    def add(self, predicted: UInt8Array, truth: UInt8Array, pair: Pair) -> None:
        if pair.instances is None:
            raise FastSCNNError(f"{pair.image}: has no instance file, which iIoU needs.")
        instances = images.read_wide_ids(pair.instances)
        try:
            self._scores.add(predicted, truth, instances)
        except FastSCNNError as error:
            raise FastSCNNError(f"{pair.instances}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        classes, categories = self._scores.class_iiou(), self._scores.category_iiou()
        return _category_iou(self._categories, self._scores.confusion) | {
            "class_miiou": mean(classes),
            "category_miiou": mean(categories),
            "class_iiou": classes,
            "category_iiou": categories,
        }


def _category_iou(categories: Sequence[str], confusion: Confusion) -> dict[str, Any]:
    names, places = grouping(categories)
    grouped = confusion.grouped(places)
    return {"category_iou": dict(zip(names, grouped.iou(), strict=True)), "category_miou": grouped.miou()}


class _RunningMean:
    def __init__(self, classes: int) -> None:
        self._running = RunningMIoU(classes)

    def add(self, predicted: UInt8Array, truth: UInt8Array, pair: Pair) -> None:
        self._running.add(predicted, truth)

    def to_dict(self) -> dict[str, Any]:
        return {"pst900_running_miou": self._running.value()}
