"""Weights & Biases: a run where WANDB_MODE, WANDB_PROJECT and W&B's other variables say. Weights are not uploaded.

W&B cannot continue a run offline: each part of a resumed training gets a folder of its own with the same run id. Each has all
lines from the first step on, since `wandb sync` replaces a run by the folder that it uploads.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastscnn.training.callbacks import Status, run_facts
from fastscnn.training.tracking import run_id
from fastscnn.training.tracking.extra import needed

if TYPE_CHECKING:
    from wandb import Run

_EXIT_CODE = {"finished": 0, "interrupted": 255, "failed": 1}  # W&B shows 255 as killed
_ENVIRONMENT = {
    "WANDB_ERROR_REPORTING": "false",  # reports of errors to the makers of W&B
    "WANDB_INIT_TIMEOUT": "30",  # seconds that a resumed training waits at each validation for a server that is gone
    "WANDB_FINISH_TIMEOUT": "120",  # seconds; without it, the end waits for a server that is gone. `wandb sync` sends the rest
}


class WandB:
    """Writes configuration and history of one W&B run; see `record.Tracker`.

    Args:
        folder: of the training.

    Raises:
        FastSCNNError: the extra is not installed.
    """

    name = "wandb"

    def __init__(self, folder: Path) -> None:
        with needed(self.name, _ENVIRONMENT):
            import wandb  # noqa: F401
        self._folder = folder
        self._run: Run | None = None

    def open(self) -> int:
        """Start or continue the run, beside others of this process. W&B counts the steps that the server has."""
        import wandb

        if self._run is not None:
            self._abandon(self._run)
        earlier = run_id.stored(self._folder, self.name)
        self._run = wandb.init(id=earlier, resume="allow" if earlier else None, reinit="create_new",
                               name=self._folder.resolve().name, config=run_facts(self._folder))
        run_id.store(self._folder, self.name, self._run.id)
        return int(self._run.starting_step) - 1

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values to W&B's own file, from which its process sends them."""
        assert self._run is not None
        self._run.log(dict(values), step=step, commit=True)

    def close(self, status: Status) -> None:
        """End the run, and wait until its data are sent."""
        assert self._run is not None
        self._run.finish(_EXIT_CODE[status])

    @staticmethod
    def _abandon(run: Run) -> None:
        """End a run that failed, since W&B refuses an id that is in use."""
        import wandb

        try:
            run.finish()
        except Exception:
            with suppress(Exception):
                wandb.teardown()  # the process of W&B has ended; the next run starts another one
