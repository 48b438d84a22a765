"""loop: steps of the optimiser, with validations, saves and stops between them, whatever the task is."""

from __future__ import annotations

import ctypes
import math
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.network.fast_scnn import Backbone
from fastscnn.training import distributed
from fastscnn.training.loader import Batch
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run, State

_SAVE_SECONDS = 600.0  # between two saves where validations lie further apart
# What PyTorch and OpenCV say, in lower case.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "insufficient memory", "bad_alloc")


@dataclass(frozen=True)
class Progress:
    """Where a training stands: after `step` of `steps`; the loss is the mean of the last 50 steps since a validation,
    and `score` the last validation's, in percent."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float
    score: float | None


class Task(Protocol):
    """What is learned: where its batches come from, what a step minimises, and how good its weights are.

    Of several processes each calls all of it but `save`, which is the first one's.

    Attributes:
        score: the key of `validate`'s figures that chooses the best weights.
    """

    @property
    def score(self) -> str: ...

    def __len__(self) -> int:
        """Steps an epoch, rounded up."""

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`, in order; each depends on its step and the seed alone. Of several
        processes, the part of this one."""

    @property
    def loss(self) -> Callable[[Backbone, Batch, int], Tensor]:
        """What a step minimises: (model, batch, number of the step) -> a float32 scalar, this process's share."""

    def validate(self, average: Backbone) -> dict[str, Any] | None:
        """Figures of the averaged weights in percent, the same in every process; None where nothing validates."""

    def save(self, path: Path, average: Backbone, metrics: dict[str, Any] | None) -> None:
        """Writes the averaged weights, with what validation said of them, as a file that runs."""


def loop(
    state: State,
    task: Task,
    recipe: Recipe,
    run: Run,
    steps: int,
    pause_after: int | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> None:
    """Trains from the state's step on, and keeps in `run` what it learns; of several processes, all call it.

    Args:
        state: before the next step; it changes.
        task: what is learned.
        recipe: how.
        run: the folder.
        steps: of the whole training, on which the learning rate depends.
        pause_after: the step to stop at, as an interruption would; None goes through to the end.
        on_step: called after every step, in the first process.

    Raises:
        FastSCNNError: a loss or a gradient that is no longer finite.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state is saved.
    """
    distributed.synchronise(state.model)
    score: float | None = None
    saved = started = perf_counter()
    durations: deque[float] = deque(maxlen=20)
    validate_every = recipe.validate_every * len(task)
    stop = min(steps, pause_after or steps)

    def validate() -> None:
        nonlocal score, saved
        run.save_state()  # a validation may take longer than whoever stops the training waits
        metrics = task.validate(state.average)
        score = metrics[task.score] if metrics else None
        line = {"step": state.step, "loss": fmean(state.losses), "lr": lr, "validation": metrics}
        state.losses.clear()
        run.save(partial(task.save, average=state.average, metrics=metrics), line, score)
        saved = perf_counter()

    def due() -> bool:
        return state.step % validate_every == 0 or state.step == steps

    with _interruptions() as interrupted:
        if state.losses and due():  # the run was stopped within this validation
            lr = _learning_rate(recipe, state.step - 1, steps)
            validate()
        for batch in task.batches(state.step, stop):
            lr = _learning_rate(recipe, state.step, steps)
            state.losses.append(step(state, batch, task.loss, recipe, lr))
            durations.append(perf_counter() - started)
            if on_step and distributed.first():
                speed = recipe.batch / fmean(durations)
                on_step(Progress(state.step, steps, fmean(state.losses[-50:]), lr, speed, score))
            stopping = distributed.anyone(bool(interrupted))  # asked once, so that nothing stops unsaved

            if due():
                validate()
            elif stopping or state.step == stop or perf_counter() - saved > _SAVE_SECONDS:
                run.save_state()
                saved = perf_counter()
            if stopping:
                distributed.wait()  # torchrun ends them all when one has gone, and the first may still be writing
                raise KeyboardInterrupt
            started = perf_counter()


def step(state: State, batch: Batch, loss_of: Callable[[Backbone, Batch, int], Tensor], recipe: Recipe, lr: float) -> float:
    """One step of the optimiser; returns the loss. Raises FastSCNNError before any weight changes if it is not finite."""
    # Dropout depends on the step and the process, not on what ran before.
    torch.manual_seed((recipe.seed << 32) + state.step * distributed.size() + distributed.rank())
    loss = loss_of(state.model, batch, state.step)
    value = float(distributed.total(loss.detach()))
    if not math.isfinite(value):
        raise _diverged(f"loss is {value}", state, batch, own=not math.isfinite(float(loss.detach())))
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    distributed.add_up(gradients)
    length = float(torch.nn.utils.get_total_norm(gradients))
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


def _diverged(what: str, state: State, batch: Batch, own: bool = True) -> FastSCNNError:
    """The error of a training that cannot go on; `own`: whether this process's images may be the reason."""
    images, look = f", on {', '.join(batch.names)}", "Look at those files, or begin"
    if not own:
        images, look = ", in another process", "Begin"
    return FastSCNNError(f"The {what} at step {state.step}{images}; the weights saved before are kept. "
                         f"{look} anew with a lower --lr and another --out.")


def _average(state: State, decay: float) -> None:
    """Moves the average towards the model; faster in the first steps, when the average is of little worth."""
    decay = min(decay, state.step / (state.step + 10))
    with torch.no_grad():
        for kept, new in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that the loop stops between two steps with its state saved."""
    received: list[int] = []
    previous = {}

    def receive(number: int, _: object) -> None:
        if received and distributed.size() == 1:  # asked twice: whoever asks will not wait; torchrun may well ask twice
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
def enough_memory(recipe: Recipe) -> Iterator[None]:
    """Turns every way of running out of memory into one sentence that says what to try."""
    try:
        yield
    except Exception as error:  # OpenCV's own derive from no other class, and only augment imports it
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(words in text for words in _NO_MEMORY):
            raise
        height, width = recipe.crop
        smaller = _less(height), _less(width)
        half = recipe.batch // 2 // distributed.size() * distributed.size()
        ways = [f"--batch {half}"] if half >= 2 else []
        ways += [f"--crop {smaller[0]}x{smaller[1]}"] if smaller != recipe.crop else []
        advice = f"try {' or '.join(ways)}, in another --out" if ways else "no smaller ones are possible, so free some"
        raise FastSCNNError(f"Out of memory at --batch {recipe.batch} and --crop {height}x{width}; {advice}.") from error


def _less(side: int) -> int:
    """About 0.7 of a side, so that a patch takes half the memory; a multiple of the deepest stage's 32 pixels."""
    return max(MIN_SIDE, int(side * 0.7) // 32 * 32)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: on a CPU, fresh pages for every large tensor cost a good part of a step."""
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))
    mallopt(mmap_max, 0)
