"""Descriptions of the metrics that the authors of a dataset report beside the mIoU.

A `DatasetSpec` carries one of them as plain data. It can be compared, copied and sent to a worker process, and this layer
needs no evaluation code. `evaluation.protocols.dataset_metrics` computes what a description asks for, by its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceMetrics:
    """The benchmark of Cityscapes: IoU of categories, and iIoU if instance files exist.

    Attributes:
        categories: of each class, in the order of train ids, the name of its category.
        average_sizes: class name -> average size of an instance in pixels, for the classes that have instances.
    """

    categories: tuple[str, ...]
    average_sizes: Mapping[str, float]


@dataclass(frozen=True)
class RunningMeanMetrics:
    """The mIoU as the authors of PST900 compute it for Fast-SCNN: a mean over the mIoU after each image."""


DatasetMetrics = InstanceMetrics | RunningMeanMetrics
