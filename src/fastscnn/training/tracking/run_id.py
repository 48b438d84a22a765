"""The ids of a training in MLflow and W&B, kept in tracking.json of the run's folder, so that --resume continues there."""

from __future__ import annotations

import json
from pathlib import Path

from fastscnn.base import files

_NAME = "tracking.json"


def stored(folder: Path, tracker: str) -> str | None:
    """Return the id that a tracker gave to the run in this folder; None if it gave none."""
    return _ids(folder).get(tracker)


def store(folder: Path, tracker: str, run_id: str) -> None:
    """Keep the id, beside those of other trackers."""
    ids = _ids(folder)
    if ids.get(tracker) != run_id:
        files.write(folder / _NAME, json.dumps({**ids, tracker: run_id}, indent=1).encode())


def _ids(folder: Path) -> dict[str, str]:
    try:
        ids = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}
