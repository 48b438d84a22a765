"""Trackers: those that --track names, as callbacks of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastscnn.base.errors import unknown
from fastscnn.training.tracking.mlflow import MLflow
from fastscnn.training.tracking.record import Record
from fastscnn.training.tracking.tensorboard import TensorBoard
from fastscnn.training.tracking.wandb import WandB

_TRACKERS = {tracker.name: tracker for tracker in (TensorBoard, MLflow, WandB)}


def check(names: Sequence[str]) -> None:
    """Raise ArgumentError if a name is not that of a tracker."""
    for name in names:
        if name not in _TRACKERS:
            raise unknown("tracker", name, _TRACKERS)


def records(names: Sequence[str], folder: Path, say: Callable[[str], None] | None) -> list[Record]:
    """Return a callback for each tracker.

    Args:
        names: of the trackers; repeated ones count once.
        folder: of the run.
        say: gets a message if a tracker fails during the training.

    Raises:
        FastSCNNError: the extra of a tracker is not installed.
    """
    return [Record(_TRACKERS[name](folder), say) for name in dict.fromkeys(names)]
