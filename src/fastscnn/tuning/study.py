"""Study: the trials of a search, and the file that keeps them.

study.json is written as a whole after each change, so a kill leaves a complete file on any disk. Optuna's own storages do not
promise that: a line that was half written makes its journal unreadable.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.training.recipes import DEFAULTS, renamed

State = Literal["running", "finished", "pruned", "failed"]
FILE = "study.json"


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: of the trial, from 0; its run is in the folder trials/NUMBER.
        params: name of a searched field -> its value.
        state: running: also of a trial that was interrupted; pruned: stopped since its scores were poor; failed: its loss was
            not finite, it ran out of memory, or its values exclude each other.
        scores: mIoU of each validation in percent.
        reason: message of the error of a failed trial.
    """

    number: int
    params: dict[str, Any]
    state: State = "running"
    scores: tuple[float, ...] = ()
    reason: str = ""

    @property
    def score(self) -> float | None:
        """Highest score in percent; None before the first validation."""
        return max(self.scores, default=None)


class Study:
    """The trials in the folder of a search.

    Args:
        folder: its path.
        identity: what decides the outcome: recipe, data, search space. A search is resumed only with the same identity.
        resume: continue the search in the folder instead of starting one.

    Attributes:
        folder: its path.
        identity: as given.
        trials: in order of their numbers.

    Raises:
        FastSCNNError: nothing to resume, a search that was started with different settings, a file that is damaged, or a
            folder that already contains a search.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], resume: bool) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.trials: list[Trial] = []
        self._path = folder / FILE
        if resume:
            self._load()
        elif self._path.exists():
            raise FastSCNNError(f"{folder}: already contains a search; continue it with --resume, or use another --out.")

    @property
    def best(self) -> Trial | None:
        """The finished trial with the highest score, the first of equals; None if there is none."""
        scored = [trial for trial in self.trials if trial.state == "finished" and trial.scores]
        return max(scored, key=lambda trial: trial.score or 0.0, default=None)

    @property
    def done(self) -> list[Trial]:
        """The trials but an interrupted one, which is the last."""
        return [trial for trial in self.trials if trial.state != "running"]

    @property
    def ranked(self) -> list[Trial]:
        """The trials by their highest score, those without one last."""
        return sorted(self.trials, key=lambda trial: -1.0 if trial.score is None else trial.score, reverse=True)

    def run(self, trial: Trial) -> Path:
        """Return the folder of the run of a trial."""
        return self.folder / "trials" / str(trial.number)

    def put(self, trial: Trial) -> None:
        """Add a trial, or replace the one of its number, and write the file.

        Raises:
            FastSCNNError: the file cannot be written.
        """
        self.trials[trial.number :] = [trial]
        content = {"identity": self.identity, "trials": [asdict(one) for one in self.trials]}
        files.write(self._path, json.dumps(content, indent=1).encode())

    def _load(self) -> None:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            before, trials = content["identity"], [_trial(number, one) for number, one in enumerate(content["trials"])]
            before = {**before, "recipe": {**DEFAULTS, **renamed(before["recipe"])}}  # an earlier version had fewer fields
        except FileNotFoundError as error:
            raise FastSCNNError(f"{self.folder}: contains no search to resume ({FILE} is missing); omit --resume to start one."
                                ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FastSCNNError(f"{self._path}: is not the file of a search, or is damaged ({type(error).__name__}: {error}); "
                                "use another --out.") from error
        before = json.loads(json.dumps(before))
        pairs = [(key, before.get(key), value) for key, value in self.identity.items() if key != "recipe"]
        pairs += [(key, before["recipe"].get(key), value) for key, value in self.identity["recipe"].items() if key != "source"]
        if changed := [f"{key} was {old} and is {new}" for key, old, new in pairs if old != new]:
            raise FastSCNNError(f"{self._path}: was started with different settings ({'; '.join(changed)}); use the same ones, "
                                "or another --out.")
        self.trials = trials


def _trial(number: int, stored: dict[str, Any]) -> Trial:
    """Return a trial from its entry in the file, with lists as tuples."""
    trial = Trial(**stored)
    if trial.state not in get_args(State):
        raise ValueError(f"there is no state {trial.state!r}")
    params = {name: tuple(value) if isinstance(value, list) else value for name, value in trial.params.items()}
    return Trial(number, params, trial.state, tuple(map(float, trial.scores)), trial.reason)
