"""track: the curves of a training for TensorBoard, the extra `[track]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.evaluation.report.training import series


class Track:
    """Writes the lines of a log as TensorBoard's events, each step once, however often a training is resumed.

    Args:
        folder: for the event files.
        log: the lines so far, as `report.training.render` takes them.

    Raises:
        FastSCNNError: the extra is not installed, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, log: Sequence[Mapping[str, Any]]) -> None:
        check()
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard drops what earlier files of the folder say from this step on, so that all is told anew.
        try:
            self._writer = SummaryWriter(str(folder), purge_step=0)
            self._write(log)
        except OSError as error:
            raise FastSCNNError(f"{folder}: cannot hold TensorBoard's files ({error.strerror}); make room for it, or leave "
                                "out --tensorboard.") from error

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a further line, to the disk."""
        self._write([line])

    def _write(self, log: Sequence[Mapping[str, Any]]) -> None:
        for group, curves in series(log).items():
            for name, points in curves.items():
                for step, value in points:
                    self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()


def check() -> None:
    """Raises FastSCNNError where the extra is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ModuleNotFoundError as error:
        message = f"tensorboard: needs the tracking extra ({error.name} is missing); pip install 'fastscnn[track]'."
        raise FastSCNNError(message) from error
