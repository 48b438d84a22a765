"""Callbacks of the training loop, which calls them in the first process only, and the HTML report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from fastscnn.evaluation.report import page, training

Line = Mapping[str, Any]  # of log.jsonl: step, loss, lr, and the scores of the validation in percent or None
Status = Literal["finished", "interrupted", "failed"]  # interrupted: --resume continues the training


class Callback(Protocol):
    """What the training loop calls beside its own work."""

    def on_begin(self, log: Sequence[Line]) -> None:
        """Start or continue a training; `log` has the lines of earlier validations. Later ones are added to it."""

    def on_validation(self, log: Sequence[Line]) -> None:
        """Handle the last line of `log`. The weights and the state of this step are already saved."""

    def on_end(self, status: Status) -> None:
        """End this training, or this part of one that is resumed later. It is not called if `on_begin` raised an error."""


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
        page.write(self._path, training.render(self._folder.resolve().name, log, run_facts(self._folder)))

    def on_end(self, status: Status) -> None:
        """Do nothing: the page is complete after each validation."""


def run_facts(folder: Path) -> dict[str, Any]:
    """Return the content of run.json; nothing if it cannot be read, since reports and trackers do without it."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
