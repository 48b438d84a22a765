"""TensorBoard: the log as events in the folder `tensorboard` of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastscnn.training.callbacks import Status
from fastscnn.training.tracking.extra import needed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes event files; see `record.Tracker`.

    Args:
        folder: of the run.

    Raises:
        FastSCNNError: the extra is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        with needed(self.name):
            import torch.utils.tensorboard  # noqa: F401
        self._folder = folder / self.name
        self._writer: SummaryWriter | None = None

    def open(self) -> int:
        """Start an event file. TensorBoard then drops all earlier events, so that each step appears once."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=0)
        return -1

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values to disk."""
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, status: Status) -> None:
        """Close the event file, which has no status."""
        assert self._writer is not None
        self._writer.close()
