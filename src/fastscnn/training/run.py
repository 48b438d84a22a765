"""Run: the folder of a training, and how a stopped training resumes from it.

- `best.safetensors` and `last.safetensors`: weights ready to use, with their model card;
- `resume.safetensors`: all that is needed to resume;
- `log.jsonl`: a line for each validation;
- `run.json`: recipe, data, versions and machine.

With several processes, only the first reads and writes the folder.
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
from fastscnn.base.errors import FailedTrainingError, FastSCNNError
from fastscnn.model import card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.recipes import DEFAULTS, renamed
from fastscnn.version import __version__

_WEIGHTS = ("best.safetensors", "last.safetensors")
_STATE = "resume.safetensors"


@dataclass
class State:
    """All that changes during a training.

    Attributes:
        model: the network that is trained.
        average: exponential moving average of its weights, which is validated and saved.
        optimiser: of the model's parameters.
        step: steps done.
        best: highest validation score so far, in percent; -1 before the first.
        without_gain: validations since that one.
        losses: losses of the steps since the last validation.
    """

    model: Backbone
    average: Backbone
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    without_gain: int = 0
    losses: list[float] = field(default_factory=list)


class Run:
    """The folder of a training.

    Args:
        folder: its path.
        identity: what decides the outcome: recipe, data, splits. A run is resumed only with the same identity.
        state: of the training; filled from the folder if `resume` is set.
        resume: continue the run in the folder; start one if nothing was saved yet.
        world: the processes that train together.

    Attributes:
        best, last: paths of the weights.
        log: lines of log.jsonl so far.
        resumed: whether the state is that of the folder.

    Raises:
        FastSCNNError: a run that was started with different settings, a folder that already contains a run, or processes that
            start with different settings.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], state: State, resume: bool = False, world: World = ALONE
    ) -> None:
        self.best, self.last = (folder / name for name in _WEIGHTS)
        self._resume, self._log, self._facts = folder / _STATE, folder / "log.jsonl", folder / "run.json"
        self._identity, self._state, self._world = identity, state, world
        self.log: list[dict[str, Any]] = []
        tensors, saved = world.from_first(self._read) if resume else ({}, None)
        self.resumed = saved is not None
        if saved is None:
            check_new(folder, resume)
            self._start()
        else:
            self._load(tensors, **saved)
        world.agree(json.dumps([identity, state.step], sort_keys=True))

    def save(self, write: Callable[[Path], None], line: dict[str, Any], score: float | None) -> None:
        """Add a line to the log; write the last weights, the best weights if these are better, and then the state.

        The state comes last: after a kill in between, resuming repeats the steps whose files were already written.

        Args:
            write: writes the averaged weights to a path.
            line: line of the log.
            score: validation score in percent; None without validation, so that the last weights are the best.

        Raises:
            FailedTrainingError: as `save_state`.
        """
        self._check()
        self.log.append(line)
        better = score is None or score > self._state.best
        self._state.without_gain = 0 if better else self._state.without_gain + 1
        if score is not None and better:
            self._state.best = score
        if not self._world.first:
            return
        files.write(self._log, "".join(json.dumps(entry) + "\n" for entry in self.log).encode())
        write(self.last)
        if better:
            files.write(self.best, self.last.read_bytes())
        self.save_state()

    def save_state(self) -> None:
        """Write all that is needed to resume, with any number of processes.

        Raises:
            FailedTrainingError: a weight or a running statistic is not finite; nothing is written.
        """
        self._check()
        if not self._world.first:
            return
        state = self._state
        tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
        tensors |= _moments(state)
        numbers = {"step": state.step, "best": state.best, "without_gain": state.without_gain, "losses": state.losses,
                   "identity": self._identity}
        checkpoint.save_tensors(self._resume, tensors, {name: json.dumps(number) for name, number in numbers.items()})

    def _check(self) -> None:
        """Raise FailedTrainingError if a weight or a running statistic is not finite: the loss may be finite all the same."""
        for what, network in (("weights", self._state.model), ("averaged weights", self._state.average)):
            for name, tensor in network.state_dict().items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    kept = "what was saved before is kept" if self._resume.exists() else "nothing was saved before"
                    raise FailedTrainingError(f"The {what} are not finite at step {self._state.step} ({name}). They are not "
                                              f"saved; {kept}. Start a new run with a lower --lr and another --out.")

    def _start(self) -> None:
        if self._world.first:
            facts = {**self._identity, **_environment(self._world)}
            files.write(self._facts, json.dumps(facts, indent=1).encode())

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Return the tensors of the folder's state, and the arguments of `_load`; None if nothing was saved yet."""
        if not self._resume.exists():
            return {}, None
        try:
            tensors, metadata = checkpoint.load_tensors(self._resume)
        except FastSCNNError as error:
            raise FastSCNNError(f"{error} {self._last_intact()}") from error
        return tensors, {"metadata": metadata, "lines": self._lines()}

    def _load(self, tensors: dict[str, Tensor], metadata: dict[str, str], lines: list[dict[str, Any]]) -> None:
        """Fill the state of the training and the log with those of the folder."""
        try:
            self._fill(tensors, {name: json.loads(text) for name, text in metadata.items()})
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise FastSCNNError(f"{self._resume}: is not the state of a run, or is damaged ({reason}). {self._last_intact()}"
                                ) from error
        # A state with losses was saved before the validation of its step.
        state = self._state
        self.log = [line for line in lines if line["step"] < state.step + (not state.losses)]

    def _fill(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Fill the state of the training with that of the folder."""
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
        state.step, state.best, state.losses = int(numbers["step"]), float(numbers["best"]), list(numbers["losses"])
        state.without_gain = int(numbers.get("without_gain", 0))  # a run of 0.1 has none

    def _lines(self) -> list[dict[str, Any]]:
        """Return the lines of log.jsonl."""
        try:
            text = self._log.read_text(encoding="utf-8") if self._log.is_file() else ""
            lines = [json.loads(line) for line in text.splitlines()]
        except (OSError, ValueError, RecursionError) as error:
            raise FastSCNNError(f"{self._log}: cannot be read ({error}); move it away to resume without the earlier lines."
                                ) from error
        if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
            raise FastSCNNError(f"{self._log}: a line has no step; move it away to resume without the earlier lines.")
        return lines

    def _last_intact(self) -> str:
        """Return a sentence that names the weights of the run that can be read."""
        for path in (self.last, self.best):
            try:
                metadata = checkpoint.load_tensors(path)[1]
            except FastSCNNError:
                continue
            if card.KEY in metadata:
                return f"The last intact weights of this run are {path}; train from them with --init and another --out."
        return "No weights of this run are intact; start a new run."

    def _refuse_changes(self, identity: dict[str, Any]) -> None:
        recipe = {**DEFAULTS, **renamed(identity["recipe"])}  # an earlier version had fewer fields
        before, now = (_flat(json.loads(json.dumps(one))) for one in ({**identity, "recipe": recipe}, self._identity))
        changed = [f"{key} was {before.get(key)} and is {now.get(key)}" for key in now if before.get(key) != now.get(key)]
        if changed:
            what = "; ".join(changed)
            raise FastSCNNError(f"{self._resume}: was started with different settings ({what}); use the same ones, or another "
                                "--out.")


def is_saved(folder: Path) -> bool:
    """Return whether a folder contains a run that can be resumed."""
    return (folder / _STATE).exists()


def check_new(folder: Path, resume: bool) -> None:
    """Check that a folder contains no run.

    Raises:
        FastSCNNError: it contains one; with `resume`, one that process 0 does not see.
    """
    if is_saved(folder) and resume:
        raise FastSCNNError(f"{folder}: contains a run here, but none on the machine of process 0; give all machines a folder "
                            "that they share.")
    if is_saved(folder):
        raise FastSCNNError(f"{folder}: already contains a run; continue it with --resume, or use another --out.")
    for name in _WEIGHTS:
        if (folder / name).exists():
            raise FastSCNNError(f"{folder}: contains {name} of a run that cannot be resumed; move the file away, or use "
                                "another --out.")


def _moments(state: State) -> dict[str, Tensor]:
    """Return the optimiser's tensors of each parameter."""
    return {
        f"optimiser.{key}.{name}": value
        for name, parameter in state.model.named_parameters()
        for key, value in state.optimiser.state.get(parameter, {}).items()
    }


def _like(parameter: nn.Parameter, tensor: Tensor) -> Tensor:
    """Return the tensor on the device and in the memory format of its parameter; a step count stays on the CPU."""
    if tensor.dim() == 0:
        return tensor
    return tensor.to(parameter.device, memory_format=torch.channels_last if tensor.dim() == 4 else torch.contiguous_format)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """Return one dictionary, without the source of the recipe: a text that does not change the outcome."""
    recipe = {key: value for key, value in identity["recipe"].items() if key != "source"}
    return {**recipe, **{key: value for key, value in identity.items() if key != "recipe"}}


def _environment(world: World) -> dict[str, Any]:
    """Return what the outcome may depend on besides recipe and data."""
    return {
        "versions": {
            "fastscnn": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "git": _git_state(),
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "command": sys.argv,
    }


def _git_state() -> dict[str, str | bool] | None:
    """Return the commit of the running source tree, and whether it has uncommitted changes; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails if installed inside another project's checkout
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None
