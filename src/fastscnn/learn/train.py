"""train: the loop, in the open.

In the folder of a run: `best.safetensors` and `last.safetensors` (weights that run, with their card),
`resume.safetensors` (all that is needed to go on), `log.jsonl` (one line a validation) and `run.json` (what ran).
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import json
import math
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastscnn import files, images
from fastscnn.card import Card, Data
from fastscnn.datasets import DatasetSpec
from fastscnn.datasets.check import CheckReport, check, default_cache
from fastscnn.errors import FastSCNNError
from fastscnn.evaluate import evaluate
from fastscnn.learn import checkpoint
from fastscnn.learn.loader import Batch, Loader
from fastscnn.learn.loss import training_loss
from fastscnn.learn.model import DepthwiseConv, FastSCNN
from fastscnn.learn.runtime import TorchRuntime
from fastscnn.recipes import Recipe
from fastscnn.segmenter import Segmenter
from fastscnn.version import __version__

_SAVE_SECONDS = 600.0  # between two saves where validations lie further apart


@dataclass(frozen=True)
class Progress:
    """Where a training stands: after `step` of `steps`, with the mean loss since the last report of it."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float
    miou: float | None


@dataclass
class _State:
    """All that changes while a training runs."""

    model: FastSCNN
    average: FastSCNN  # exponential moving average of the model's weights: what is validated and saved
    optimiser: torch.optim.SGD
    step: int = 0
    best: float = -1.0


def train(
    recipe: Recipe,
    spec: DatasetSpec,
    out: Path,
    *,
    split: str = "train",
    validation: str | None = "val",
    resume: bool = False,
    pause_after: int | None = None,
    observe: Callable[[Progress], None] | None = None,
) -> Card:
    """Trains Fast-SCNN and keeps its weights in `out`.

    On one machine, a training that was interrupted and resumed gives the same weights, bit for bit, as one that was
    not: the order, the augmentation and the dropout of a step depend on the seed and the step alone.

    Args:
        recipe: how to train.
        spec: the dataset.
        out: folder of the run.
        split: what to train on; several splits joined by `+`.
        validation: the split that chooses the best weights; None: the last are the best.
        resume: go on where the run in `out` stopped.
        pause_after: stop after this many steps as an interruption would, state saved.
        observe: called after every step.

    Returns:
        The card of the last weights.

    Raises:
        FastSCNNError: faulty data, a run already in `out`, another recipe or data than the run to resume, or a loss
            that is no longer finite.
        KeyboardInterrupt: on Ctrl-C, after the state is saved.
    """
    report = _checked(spec, split, validation)
    pairs = spec.pairs(split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _keep_freed_memory()
    state = _start(recipe, len(spec.label_set), device)
    loader = Loader(spec, pairs, recipe, threads=max(2, (os.cpu_count() or 2) - 1))
    steps = recipe.iterations or -(-recipe.epochs * len(pairs) // recipe.batch)
    validate_every = recipe.validate_every * len(loader)
    card = Card(
        spec.label_set,
        recipe.size or images.size(pairs[0].image),
        recipe.variant,
        data=Data(spec.name, split, len(pairs), spec.terms, report.fingerprint),
        recipe=dataclasses.asdict(recipe),
    )
    identity = {"recipe": card.recipe, "data": report.fingerprint, "split": split, "validation": validation}
    log = _open_run(out, identity, state, resume)
    weights = _class_weights(recipe, report, split, device)
    stop = min(steps, pause_after or steps)

    losses: list[float] = []
    miou: float | None = None
    saved = started = perf_counter()
    with _interruptions() as interrupted:
        for batch in loader.batches(state.step, stop):
            lr = recipe.lr * (1 - state.step / steps) ** recipe.power
            losses.append(_step(state, batch, recipe, weights, lr))
            if observe:
                speed = recipe.batch / (perf_counter() - started)
                observe(Progress(state.step, steps, sum(losses[-50:]) / len(losses[-50:]), lr, speed, miou))

            if state.step % validate_every == 0 or state.step == steps:
                metrics = _validate(state, card, spec, validation)
                miou = metrics["miou"] if metrics else None
                card = _save(out, state, card, identity, validation, metrics)
                log.append({"step": state.step, "loss": sum(losses) / len(losses), "lr": lr, "validation": metrics})
                _write_log(out, log)
                losses, saved = [], perf_counter()
            elif interrupted or state.step == stop or perf_counter() - saved > _SAVE_SECONDS:
                _save_state(out, state, identity)
                saved = perf_counter()
            if interrupted:
                raise KeyboardInterrupt
            started = perf_counter()
    return card


def _step(state: _State, batch: Batch, recipe: Recipe, weights: Tensor | None, lr: float) -> float:
    """One step of SGD; returns the loss. Raises FastSCNNError before any weight changes if that is not finite."""
    device = state.model.mean.device
    torch.manual_seed((recipe.seed << 32) + state.step)  # dropout depends on the step, not on what ran before
    phase = np.random.default_rng((recipe.seed, 2, state.step)).integers(0, 64, 2)
    patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
    labels = torch.from_numpy(batch.labels).to(device, non_blocking=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = state.model(patches)
    strides = recipe.loss_stride, recipe.auxiliary_stride
    loss = training_loss(logits, labels, weights, recipe.auxiliary, strides, (int(phase[0]), int(phase[1])))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FastSCNNError(f"The loss is {value} at step {state.step}, on {', '.join(batch.names)}; the weights saved before "
                            "are kept. Look at those files, or lower the learning rate (--lr).")
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimiser.step()
    state.step += 1
    _average(state, recipe.ema)
    return value


def _average(state: _State, decay: float) -> None:
    """Moves the average towards the model; faster in the first steps, when the average is of little worth."""
    decay = min(decay, state.step / (state.step + 10))
    with torch.no_grad():
        for kept, new in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _start(recipe: Recipe, classes: int, device: torch.device) -> _State:
    torch.manual_seed(recipe.seed)
    model = FastSCNN(classes, variant=recipe.variant, dropout=recipe.dropout, auxiliary=recipe.auxiliary > 0)
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    depthwise = {id(module.weight) for module in model.modules() if isinstance(module, DepthwiseConv)}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in depthwise]
    free = [parameter for parameter in model.parameters() if id(parameter) in depthwise]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return _State(model, copy.deepcopy(model).eval(), optimiser)


def _class_weights(recipe: Recipe, report: CheckReport, split: str, device: torch.device) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    return torch.tensor(1 / np.log(1.1 + pixels / pixels.sum()), dtype=torch.float32, device=device)


def _checked(spec: DatasetSpec, split: str, validation: str | None) -> CheckReport:
    """The report on the splits in use. Raises FastSCNNError with the first of its errors."""
    splits = [*split.split("+"), *(validation.split("+") if validation else ())]
    report = check(spec, splits, cache=default_cache())
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise FastSCNNError(f"{errors[0].path}: {errors[0].message}{more}; `fastscnn check` lists all that is wrong.")
    return report


def _validate(state: _State, card: Card, spec: DatasetSpec, validation: str | None) -> dict[str, Any] | None:
    if validation is None:
        return None
    segmenter = Segmenter(TorchRuntime(state.average, card))
    scores = evaluate(segmenter, spec, spec.pairs(validation)).to_dict()
    return {key: scores[key] for key in ("miou", "pixel_accuracy", "iou")}


def _save(
    out: Path,
    state: _State,
    card: Card,
    identity: dict[str, Any],
    validation: str | None,
    metrics: dict[str, Any] | None,
) -> Card:
    """Writes last, best if it is, and then the state: a kill in between costs nothing that resuming does not redo."""
    if validation and metrics:
        card = dataclasses.replace(card, metrics={validation: metrics})
    saved = checkpoint.save(out / "last.safetensors", state.average, card)
    if metrics is None or metrics["miou"] > state.best:
        checkpoint.save(out / "best.safetensors", state.average, card)
        state.best = metrics["miou"] if metrics else state.best
    _save_state(out, state, identity)
    return saved


def _save_state(out: Path, state: _State, identity: dict[str, Any]) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
    tensors |= {f"momentum.{name}": tensor for name, tensor in _momenta(state).items()}
    metadata = {"step": str(state.step), "best": repr(state.best), "identity": json.dumps(identity)}
    checkpoint.save_tensors(out / "resume.safetensors", tensors, metadata)


def _momenta(state: _State) -> dict[str, Tensor]:
    moving = state.optimiser.state
    parameters = state.model.named_parameters()
    return {name: moving[parameter]["momentum_buffer"] for name, parameter in parameters if parameter in moving}


def _load_state(path: Path, state: _State, identity: dict[str, Any]) -> None:
    tensors, metadata = checkpoint.load_tensors(path)
    before, now = _flat(json.loads(metadata["identity"])), _flat(json.loads(json.dumps(identity)))
    changed = [f"{key} was {before.get(key)} and is {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    if changed:
        raise FastSCNNError(f"{path}: began otherwise ({'; '.join(changed)}); resume as it began, or use another --out.")
    for prefix, module in (("model.", state.model), ("average.", state.average)):
        module.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
    for name, parameter in state.model.named_parameters():
        momentum = tensors[f"momentum.{name}"].to(parameter.device)
        state.optimiser.state[parameter]["momentum_buffer"] = momentum.to(memory_format=_format(parameter))
    state.step, state.best = int(metadata["step"]), float(metadata["best"])


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity["recipe"], **{key: value for key, value in identity.items() if key != "recipe"}}


def _format(parameter: nn.Parameter) -> torch.memory_format:
    return torch.channels_last if parameter.dim() == 4 else torch.contiguous_format


def _open_run(out: Path, identity: dict[str, Any], state: _State, resume: bool) -> list[dict[str, Any]]:
    """Begins a run in `out` or takes one up again; returns its log so far."""
    path, log = out / "resume.safetensors", out / "log.jsonl"
    if resume:
        if not path.is_file():
            raise FastSCNNError(f"{out}: holds no run to resume ({path.name} is missing); leave out --resume to begin one.")
        _load_state(path, state, identity)
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        return [line for line in lines if line["step"] <= state.step]
    if path.exists():
        raise FastSCNNError(f"{out}: holds a run already; go on with it by --resume, or use another --out.")
    out.mkdir(parents=True, exist_ok=True)
    files.write(out / "run.json", json.dumps({**identity, **_circumstances(state)}, indent=1).encode())
    return []


def _write_log(out: Path, log: list[dict[str, Any]]) -> None:
    files.write(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())


def _circumstances(state: _State) -> dict[str, Any]:
    """What the outcome may depend on besides recipe and data."""
    device = state.model.mean.device
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
        "command": sys.argv,
    }


def _git_state() -> dict[str, str | bool] | None:
    """Commit of the source tree that runs, and whether it was changed since; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that the loop stops between two steps with its state saved."""
    received: list[int] = []
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda got, _: received.append(got))
    except ValueError:  # not in the main thread: whoever started the thread handles signals
        pass
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: fresh pages for every large tensor cost a quarter of a step on the CPU."""
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))
    mallopt(mmap_max, 0)
