"""Callbacks of the training loop: the HTML report and TensorBoard. The loop calls them in the first process only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.evaluation.report import page, training

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Line = Mapping[str, Any]  # of log.jsonl: step, loss, lr, and the scores of the validation in percent or None


class Callback(Protocol):
    """What the training loop calls beside its own work."""

    def on_begin(self, log: Sequence[Line]) -> None:
        """Start or continue a training; `log` has the lines of earlier validations."""

    def on_validation(self, log: Sequence[Line]) -> None:
        """Handle the last line of `log`. The weights and the state of this step are already saved."""


class HtmlReport:
    """Writes report.html, the curves of the log, after each validation.

    Args:
        folder: folder of the run, whose run.json the page shows too.

    Raises:
        FastSCNNError: a report.html that is not a report of fastscnn exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "report.html"
        page.check_ours(self._path)

    def on_begin(self, log: Sequence[Line]) -> None:
        """Do nothing: a report needs a validation."""

    def on_validation(self, log: Sequence[Line]) -> None:
        """Write the page."""
        try:
            facts = json.loads((self._folder / "run.json").read_text())
        except (OSError, ValueError):  # the page does without
            facts = {}
        page.write(self._path, training.render(self._folder.resolve().name, log, facts))


class TensorBoard:
    """Writes the log as TensorBoard events. Each step appears once, even if the training is resumed.

    Args:
        folder: for the event files.

    Raises:
        FastSCNNError: the extra is not installed. `on_begin` raises it if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing_extra("tensorboard", "track") from error
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def on_begin(self, log: Sequence[Line]) -> None:
        """Open the folder and write the earlier lines."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            # TensorBoard drops the events of earlier files from this step on, so all lines are written again.
            self._writer = SummaryWriter(str(self._folder), purge_step=0)
            self._write(log)
        except OSError as error:
            raise FastSCNNError(f"{self._folder}: cannot be written ({error.strerror}); move what is there away, or train "
                                "without --tensorboard.") from error

    def on_validation(self, log: Sequence[Line]) -> None:
        """Write the last line to disk."""
        self._write(log[-1:])

    def _write(self, log: Sequence[Line]) -> None:
        assert self._writer is not None
        for group, curves in training.series(log).items():
            for name, points in curves.items():
                for step, value in points:
                    self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
