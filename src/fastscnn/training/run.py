"""Run: the folder of a training: what it keeps, and how it goes on after a stop.

`best.safetensors` and `last.safetensors` are weights that run, with their card; `resume.safetensors` holds all that is
needed to go on; `log.jsonl` has a line for each validation, `report.html` the curves of its figures, `run.json` says
what ran. Of several processes all read the folder and the first alone writes to it.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.evaluation.report import page, training
from fastscnn.model import card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone
from fastscnn.training import distributed, track
from fastscnn.version import __version__


@dataclass
class State:
    """All that changes while a training runs.

    Attributes:
        model: the network that is trained.
        average: exponential moving average of its weights: what is validated and saved.
        optimiser: with its momenta.
        step: steps done.
        best: highest score of a validation so far, in percent; -1 before the first.
        losses: of the steps since the last validation.
    """

    model: Backbone
    average: Backbone
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    losses: list[float] = field(default_factory=list)


class Run:
    """The folder of a training.

    Args:
        folder: where it is.
        identity: what decides the outcome (recipe, data, splits); a run is only resumed with the same.
        state: of the training; filled from the folder where `resume` is set.
        resume: go on with the run in the folder; otherwise a new one begins.
        tensorboard: keep the curves for TensorBoard, too.

    Raises:
        FastSCNNError: nothing to resume, a run that began otherwise, a folder that holds a run already, or processes
            that would begin with different things.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], state: State, resume: bool, tensorboard: bool = False
    ) -> None:
        self.best, self.last = folder / "best.safetensors", folder / "last.safetensors"
        self._resume, self._log = folder / "resume.safetensors", folder / "log.jsonl"
        self._facts, self._report = folder / "run.json", folder / "report.html"
        self._identity, self._state = identity, state
        self._lines: list[dict[str, Any]] = []
        page.check_ours(self._report)
        if resume:
            self._take_up(folder)
        else:
            self._begin(folder)
        self._track = track.Track(folder / "tensorboard", self._lines) if tensorboard and distributed.first() else None
        distributed.agree(json.dumps([identity, state.step], sort_keys=True))

    def save(self, write: Callable[[Path], None], line: dict[str, Any], score: float | None) -> None:
        """Adds a line to the log and writes last, best if it is, and then the state.

        In that order, so that after a kill in between resuming redoes and overwrites what the state does not reach.

        Args:
            write: writes the averaged weights to a path.
            line: of the log.
            score: of the validation; None where there is none, so that the last weights are the best.
        """
        self._lines.append(line)
        better = score is None or score > self._state.best
        if score is not None and better:
            self._state.best = score
        if not distributed.first():
            return
        files.write(self._log, "".join(json.dumps(entry) + "\n" for entry in self._lines).encode())
        write(self.last)
        if better:
            write(self.best)
        self.save_state()
        self._show()  # what is only looked at comes last
        if self._track:
            self._track.add(line)

    def save_state(self) -> None:
        """Writes all that is needed to go on from here, with any number of processes."""
        if not distributed.first():
            return
        state = self._state
        tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
        tensors |= _moments(state)
        numbers = {"step": state.step, "best": state.best, "losses": state.losses, "identity": self._identity}
        checkpoint.save_tensors(self._resume, tensors, {name: json.dumps(number) for name, number in numbers.items()})

    def _show(self) -> None:
        """Writes the page of the curves so far."""
        try:
            facts = json.loads(self._facts.read_text())
        except (OSError, ValueError):  # nothing but the page needs it
            facts = {}
        page.write(self._report, training.render(self._report.resolve().parent.name, self._lines, facts))

    def _begin(self, folder: Path) -> None:
        if self._resume.exists():
            raise FastSCNNError(f"{folder}: holds a run already; go on with it by --resume, or use another --out.")
        for path in (self.best, self.last):
            if path.exists():
                message = f"{folder}: holds {path.name} of a run that cannot be resumed; move it away, or use another --out."
                raise FastSCNNError(message)
        if distributed.first():
            facts = {**self._identity, **_circumstances(self._state.model.mean.device)}
            files.write(self._facts, json.dumps(facts, indent=1).encode())

    def _take_up(self, folder: Path) -> None:
        if not self._resume.is_file():
            message = f"{folder}: holds no run to resume ({self._resume.name} is missing); leave out --resume to begin one."
            raise FastSCNNError(message)
        try:
            tensors, metadata = checkpoint.load_tensors(self._resume)
        except FastSCNNError as error:
            raise FastSCNNError(f"{error} {self._last_whole()}") from error
        numbers = {name: json.loads(text) for name, text in metadata.items()}
        self._refuse_changes(numbers["identity"])
        state = self._state
        for prefix, module in (("model.", state.model), ("average.", state.average)):
            module.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
        parameters = dict(state.model.named_parameters())
        for name, tensor in tensors.items():
            prefix, _, rest = name.partition(".")
            if prefix == "optimiser":
                key, _, parameter = rest.partition(".")
                state.optimiser.state[parameters[parameter]][key] = _like(parameters[parameter], tensor)
        state.step, state.best, state.losses = numbers["step"], numbers["best"], numbers["losses"]
        lines = [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.is_file() else []
        # A state with losses is of before the validation of its step, where there was one.
        self._lines = [line for line in lines if line["step"] < state.step + (not state.losses)]

    def _last_whole(self) -> str:
        """Which weights of the run are whole, for those who lost the state."""
        for path in (self.last, self.best):
            try:
                metadata = checkpoint.load_tensors(path)[1]
            except FastSCNNError:
                continue
            if card.KEY in metadata:
                return f"The last whole weights of this run are {path}; go on from them by --init and another --out."
        return "No weights of this run are whole; begin it anew."

    def _refuse_changes(self, identity: dict[str, Any]) -> None:
        before, now = _flat(identity), _flat(json.loads(json.dumps(self._identity)))
        changed = [f"{key} was {before.get(key)} and is {now.get(key)}" for key in now if before.get(key) != now.get(key)]
        if changed:
            what = "; ".join(changed)
            raise FastSCNNError(f"{self._resume}: began otherwise ({what}); resume as it began, or use another --out.")


def _moments(state: State) -> dict[str, Tensor]:
    """All that the optimiser remembers of each parameter."""
    return {
        f"optimiser.{key}.{name}": value
        for name, parameter in state.model.named_parameters()
        for key, value in state.optimiser.state.get(parameter, {}).items()
    }


def _like(parameter: nn.Parameter, tensor: Tensor) -> Tensor:
    """The tensor where and as PyTorch would have laid it out: beside its parameter, a count of steps on the CPU."""
    if tensor.dim() == 0:
        return tensor
    return tensor.to(parameter.device, memory_format=torch.channels_last if tensor.dim() == 4 else torch.contiguous_format)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity["recipe"], **{key: value for key, value in identity.items() if key != "recipe"}}


def _circumstances(device: torch.device) -> dict[str, Any]:
    """What the outcome may depend on besides recipe and data."""
    return {
        "versions": {
            "fastscnn": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "git": _git_state(),
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": distributed.size(),
        "command": sys.argv,
    }


def _git_state() -> dict[str, str | bool] | None:
    """Commit of the source tree that runs, and whether it was changed since; None outside a checkout of it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside another project's checkout it fails
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None
