"""train: the loop, in the open. What it keeps on disk is `run`'s."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn import files, images
from fastscnn.card import Card, Data
from fastscnn.datasets import DatasetSpec
from fastscnn.datasets.check import CheckReport, check
from fastscnn.errors import FastSCNNError
from fastscnn.evaluate import evaluate
from fastscnn.learn import checkpoint
from fastscnn.learn.initial import initial, teachers
from fastscnn.learn.loader import Batch, Loader
from fastscnn.learn.loss import training_loss
from fastscnn.learn.model import FastSCNN, folded
from fastscnn.learn.run import Run, State
from fastscnn.learn.runtime import TorchRuntime
from fastscnn.recipes import MIN_SIDE, Recipe
from fastscnn.segmenter import Segmenter

_SAVE_SECONDS = 600.0  # between two saves where validations lie further apart
# What PyTorch and OpenCV say, in lower case.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "insufficient memory", "bad_alloc")


@dataclass(frozen=True)
class Progress:
    """Where a training stands: after `step` of `steps`; the loss is the mean of the last 50 steps since a validation."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float
    miou: float | None


def train(
    recipe: Recipe,
    spec: DatasetSpec,
    out: Path,
    *,
    split: str = "train",
    validation: str | None = "val",
    resume: bool = False,
    pause_after: int | None = None,
    init: Path | None = None,
    teacher: Sequence[Path] = (),
    observe: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Card:
    """Trains Fast-SCNN and keeps its weights in `out`.

    On one machine, a training that was interrupted and resumed sees the same steps as one that was not: the order,
    the augmentation and the dropout of a step depend on the seed and the step alone. On the CPU it gives the same
    weights, bit for bit; CUDA adds up in no fixed order.

    Args:
        recipe: how to train.
        spec: the dataset.
        out: folder of the run.
        split: what to train on; several splits joined by `+`.
        validation: the split that chooses the best weights; None: the last are the best.
        resume: go on where the run in `out` stopped.
        pause_after: stop after this many steps as an interruption would, state saved.
        init: a .safetensors file whose weights to go on from, but for the last layer where the classes differ.
        teacher: .safetensors files of the networks whose mean probabilities `recipe.distillation` follows.
        observe: called after every step.
        tell: called with what is worth knowing before the first step, in sentences.

    Returns:
        The card of the last weights that were saved; one without metrics where it stopped before the first were.

    Raises:
        FastSCNNError: faulty data, a class without pixels, weights in `init` or `teacher` that do not fit, a run already
            in `out`, another recipe or data than the run to resume, a loss that is no longer finite, or too little memory.
        KeyboardInterrupt: on Ctrl-C, after the state is saved.
    """
    if pause_after is not None and pause_after < 1:
        raise FastSCNNError(f"pause_after: must be at least 1, not {pause_after}.")
    report = _checked(spec, split, validation)
    pairs = spec.pairs(split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _keep_freed_memory()
    size = recipe.size or images.size(pairs[0].image)
    steps = recipe.iterations or -(-recipe.epochs * len(pairs) // recipe.batch)
    card = Card(
        spec.label_set,
        size,
        recipe.variant,
        spec.channels,
        recipe.width,
        data=Data(spec.name, split, len(pairs), _terms(spec, [*([init] if init else []), *teacher]), report.fingerprint),
        recipe=dataclasses.asdict(recipe),
    )
    identity: dict[str, Any] = {"recipe": card.recipe, "data": report.fingerprint, "split": split, "validation": validation}
    identity["classes"] = spec.label_set.names
    identity["init"], identity["teacher"] = _hash(init) if init else None, [_hash(path) for path in teacher]
    state, notes = initial(recipe, card, device, init)
    learned_from = _teachers(recipe, teacher, card, device)
    if tell and not resume:
        for note in notes:
            tell(note)
    run = Run(out, identity, state, resume)
    weights = _class_weights(recipe, report, split, device)
    stop = min(steps, pause_after or steps)

    miou: float | None = None
    saved = started = perf_counter()
    durations: deque[float] = deque(maxlen=20)
    with _interruptions() as interrupted, _enough_memory(recipe):
        loader = Loader(spec, pairs, dataclasses.replace(recipe, size=size), threads=max(2, (os.cpu_count() or 2) - 1))
        validate_every = recipe.validate_every * len(loader)
        for batch in loader.batches(state.step, stop):
            lr = _learning_rate(recipe, state.step, steps)
            state.losses.append(_step(state, batch, recipe, weights, lr, learned_from))
            durations.append(perf_counter() - started)
            if observe:
                speed = recipe.batch / fmean(durations)
                observe(Progress(state.step, steps, fmean(state.losses[-50:]), lr, speed, miou))
            stopping = bool(interrupted)  # asked once, so that nothing stops unsaved

            if state.step % validate_every == 0 or state.step == steps:
                metrics = _validate(state, card, spec, validation)
                miou = metrics["miou"] if metrics else None
                line = {"step": state.step, "loss": fmean(state.losses), "lr": lr, "validation": metrics}
                state.losses.clear()
                described = dataclasses.replace(card, metrics={validation: metrics} if validation and metrics else {})
                card = run.save(described, line, miou)
                saved = perf_counter()
            elif stopping or state.step == stop or perf_counter() - saved > _SAVE_SECONDS:
                run.save_state()
                saved = perf_counter()
            if stopping:
                raise KeyboardInterrupt
            started = perf_counter()
    return checkpoint.load(run.last)[1] if run.last.is_file() else card


def _step(
    state: State, batch: Batch, recipe: Recipe, weights: Tensor | None, lr: float, teaching: Sequence[FastSCNN] = ()
) -> float:
    """One step of the optimiser; returns the loss. Raises FastSCNNError before any weight changes if it is not finite."""
    device = state.model.mean.device
    torch.manual_seed((recipe.seed << 32) + state.step)  # dropout depends on the step, not on what ran before
    phase = np.random.default_rng((recipe.seed, 2, state.step)).integers(0, 64, 2)
    patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
    labels = torch.from_numpy(batch.labels).to(device, non_blocking=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = state.model(patches)
        with torch.no_grad():
            taught = torch.stack([model(patches).float().softmax(1) for model in teaching]).mean(0) if teaching else None
    loss = training_loss(logits, labels, recipe, weights, (int(phase[0]), int(phase[1])), taught)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise _diverged(f"loss is {value}", state, batch)
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    length = float(torch.nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None]))
    if not math.isfinite(length):
        raise _diverged(f"gradient's length is {length}", state, batch)
    state.optimiser.step()
    state.step += 1
    _average(state, recipe.ema)
    return value


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Polynomial decay from lr to min_lr, after a linear rise."""
    decayed: float = recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 - step / steps) ** recipe.power
    return decayed * min(1.0, (step + 1) / (recipe.warmup + 1))


def _diverged(what: str, state: State, batch: Batch) -> FastSCNNError:
    return FastSCNNError(f"The {what} at step {state.step}, on {', '.join(batch.names)}; the weights saved before are kept. "
                         "Look at those files, or begin anew with a lower --lr and another --out.")


def _average(state: State, decay: float) -> None:
    """Moves the average towards the model; faster in the first steps, when the average is of little worth."""
    decay = min(decay, state.step / (state.step + 10))
    with torch.no_grad():
        for kept, new in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _class_weights(recipe: Recipe, report: CheckReport, split: str, device: torch.device) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    return torch.tensor(1 / np.log(1.1 + pixels / pixels.sum()), dtype=torch.float32, device=device)


def _checked(spec: DatasetSpec, split: str, validation: str | None) -> CheckReport:
    """The report on the splits in use. Raises FastSCNNError with the first of its errors."""
    both = set(split.split("+")) & set((validation or "").split("+"))
    if both:
        raise FastSCNNError(f"validation: {both.pop()!r} is trained on, so it chooses nothing; take another split, or none.")
    if validation == "val" and "val" not in spec.splits:
        raise FastSCNNError(f"validation: {spec.name} has no split 'val'; name one of {', '.join(spec.splits)}, or say none.")
    splits = [*split.split("+"), *(validation.split("+") if validation else ())]
    report = check(spec, splits, cache=files.cache("check"))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f" There are {len(errors) - 1} more errors." if len(errors) > 1 else ""
        raise FastSCNNError(f"{errors[0].message}{more} `fastscnn check` lists all that is wrong.")
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    if not pixels.any():
        raise FastSCNNError(f"{spec.root}: every pixel of the split {split!r} is ignored; there is nothing to learn.")
    if not pixels.all():
        empty = ", ".join(name for name, count in zip(spec.label_set.names, pixels, strict=True) if not count)
        raise FastSCNNError(f"{spec.root}: no pixel of the split {split!r} is labelled {empty}, so that cannot be learned; "
                            "add such images, or take it out of the classes.")
    return report


def _teachers(recipe: Recipe, paths: Sequence[Path], card: Card, device: torch.device) -> list[FastSCNN]:
    if bool(paths) != bool(recipe.distillation):
        raise FastSCNNError("distillation: a teacher and a weight over 0 go together; give both --teacher and --distillation.")
    return teachers(paths, card, device)


def _terms(spec: DatasetSpec, sources: Sequence[Path]) -> str:
    """The terms of the data, and those of the data behind the weights that the training begins with or learns from."""
    terms = [spec.terms]
    for path in sources:
        data = checkpoint.load(path)[1].data
        if data and data.terms not in terms:
            terms.append(data.terms)
    return "; and of earlier weights: ".join(terms)


def _hash(path: Path) -> str:
    """sha256 of a weight file, so that a run is resumed with the same."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # said where the weights are opened
        return ""


def _validate(state: State, card: Card, spec: DatasetSpec, validation: str | None) -> dict[str, Any] | None:
    if validation is None:
        return None
    segmenter = Segmenter(TorchRuntime(folded(state.average), card))
    scores = evaluate(segmenter, spec, spec.pairs(validation)).to_dict()
    return {key: scores[key] for key in ("miou", "pixel_accuracy", "iou")}


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that the loop stops between two steps with its state saved."""
    received: list[int] = []
    previous = {}

    def receive(number: int, _: object) -> None:
        if received:  # asked twice: whoever asks will not wait for the step to end
            raise KeyboardInterrupt
        received.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, receive)
    except ValueError:  # not in the main thread: whoever started the thread handles signals
        pass
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _enough_memory(recipe: Recipe) -> Iterator[None]:
    """Turns every way of running out of memory into one sentence that says what to try."""
    try:
        yield
    except Exception as error:  # OpenCV's own derive from no other class, and only augment imports it
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(words in text for words in _NO_MEMORY):
            raise
        height, width = recipe.crop
        smaller = _less(height), _less(width)
        ways = [f"--batch {recipe.batch // 2}"] if recipe.batch >= 4 else []
        ways += [f"--crop {smaller[0]} {smaller[1]}"] if smaller != recipe.crop else []
        advice = f"try {' or '.join(ways)}, in another --out" if ways else "no smaller ones are possible, so free some"
        raise FastSCNNError(f"Out of memory at --batch {recipe.batch} and --crop {height} {width}; {advice}.") from error


def _less(side: int) -> int:
    """About 0.7 of a side, so that a patch takes half the memory; a multiple of the deepest stage's 32 pixels."""
    return max(MIN_SIDE, int(side * 0.7) // 32 * 32)


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: on a CPU, fresh pages for every large tensor cost a good part of a step."""
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))
    mallopt(mmap_max, 0)
