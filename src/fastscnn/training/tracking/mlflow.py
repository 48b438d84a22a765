"""MLflow: a run in the store that MLFLOW_TRACKING_URI names; without it, in MLflow's own default, mlflow.db here.

All trainings share that store, so that MLflow can compare them. Weights are not uploaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import time
from typing import Any

from fastscnn.training.callbacks import Status, run_facts
from fastscnn.training.tracking import run_id
from fastscnn.training.tracking.extra import needed

_LOSS = "training/loss"  # every line has it
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # reports to the makers of MLflow
    # A server that is gone would hold up each validation for minutes. What was missed is sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
}


class MLflow:
    """Writes parameters and metrics of one MLflow run; see `record.Tracker`.

    Args:
        folder: of the training.

    Raises:
        FastSCNNError: the extra is not installed.
    """

    name = "mlflow"

    def __init__(self, folder: Path) -> None:
        with needed(self.name, _ENVIRONMENT):
            import mlflow  # noqa: F401
        self._folder = folder
        self._id = run_id.stored(folder, self.name)

    def open(self) -> int:
        """Start the run, inside the active run if there is one; write its parameters, and ask for its last step."""
        import mlflow
        from mlflow.entities import Param

        active = mlflow.active_run()
        if active is None or active.info.run_id != self._id:
            name = None if self._id else self._folder.resolve().name
            self._id = mlflow.start_run(self._id, run_name=name, nested=active is not None).info.run_id
            run_id.store(self._folder, self.name, self._id)
        assert self._id is not None
        client = mlflow.MlflowClient()
        client.log_batch(self._id, params=[Param(key, value) for key, value in _flat(run_facts(self._folder))])
        return max((metric.step for metric in client.get_metric_history(self._id, _LOSS)), default=-1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values in one request."""
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        assert self._id is not None
        now = int(time() * 1000)
        MlflowClient().log_batch(self._id, [Metric(_name(key), value, now, step) for key, value in values.items()])

    def close(self, status: Status) -> None:
        """Set the status of the run."""
        import mlflow

        mlflow.end_run(_STATUS[status])


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the facts of run.json as MLflow's parameters: recipe.lr, versions.torch, ..."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _name(key: str) -> str:
    """Return the name of a metric with `_` for what MLflow does not accept in the name of a class."""
    group, _, name = key.partition("/")
    return f"{group}/" + re.sub(r"[^\w -]", "_", name)
