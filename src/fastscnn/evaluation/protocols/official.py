"""Scores as a dataset's own authors take them, in the pass that gives the standard ones.

Cityscapes' iIoU needs its instance files. PST900's running mean is what its authors print for Fast-SCNN; see `RunningMIoU`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.builtin import cityscapes, pst900
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.spec import from_archive
from fastscnn.evaluation.metrics import RunningMIoU
from fastscnn.evaluation.protocols.cityscapes import Scores, mean
from fastscnn.inference.segmentation import Segmentation
from fastscnn.media import images


class Official(Protocol):
    """Scores that see each image once."""

    def see(self, image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        """Counts an image, its labels and the true ones, uint8 [H, W] of train ids, and the pair that they are of."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The scores for JSON, in percent."""
        ...


def official(spec: DatasetSpec, pairs: Sequence[Pair]) -> Official | None:
    """The scores of the dataset's authors, by its classes; None where they have none, or no instance file is there.

    Args:
        spec: the dataset.
        pairs: what is to be evaluated, in the order in which it will be seen.

    Raises:
        FastSCNNError: some instance files are there and one is missing, before any image is read.
    """
    if spec.label_set.names == pst900.LABELS.names:
        return _RunningMean(len(spec.label_set))
    files = [pair.instances for pair in pairs if pair.instances]
    missing = [file for file in files if not file.is_file()]
    if spec.label_set.names != cityscapes.LABELS.names or len(missing) == len(files):
        return None
    if missing:
        archive = next(iter(spec.splits.values())).labels_in
        raise FastSCNNError(f"{missing[0]}: is missing, where other instance files are there and iIoU needs all of them"
                            f"{from_archive(archive)}.")
    return _InstanceIoU(spec)


class _InstanceIoU:
    def __init__(self, spec: DatasetSpec) -> None:
        self._scores = Scores(spec.label_set, cityscapes.CATEGORIES)

    def see(self, image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        if pair.instances is None:
            raise FastSCNNError(f"{pair.image}: has no instance file, which iIoU needs.")
        instances = images.read_wide_ids(pair.instances)
        try:
            self._scores.add(result.labels, truth, instances)
        except FastSCNNError as error:
            raise FastSCNNError(f"{pair.instances}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        classes, categories = self._scores.class_iiou(), self._scores.category_iiou()
        return {
            "class_miiou": mean(classes),
            "category_miiou": mean(categories),
            "class_iiou": classes,
            "category_iiou": categories,
        }


class _RunningMean:
    def __init__(self, classes: int) -> None:
        self._running = RunningMIoU(classes)

    def see(self, image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        self._running.add(result.labels, truth)

    def to_dict(self) -> dict[str, Any]:
        return {"pst900_running_miou": self._running.value()}
