"""The training loop: steps of the optimiser, with validations, saves and stops between them, for any task."""

from __future__ import annotations

import ctypes
import math
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FailedTrainingError, NotFiniteError
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.network.fast_scnn import Backbone
from fastscnn.training.callbacks import Callback, Line, Status
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.job import Job, Progress
from fastscnn.training.loader import Batch
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run, State

Loss = Callable[[nn.Module, Batch, int], Tensor]  # (network, batch, number of the step) -> a float32 scalar

_SAVE_SECONDS = 600.0  # between two saves of the state if validations are further apart
# Parts of the messages of PyTorch and OpenCV, in lower case.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "insufficient memory", "bad_alloc")


class Task(Protocol):
    """What is learned: the batches, the loss and the validation.

    Every process calls all of it, but only the first calls `save`.

    Attributes:
        score: the key of the validation's scores that chooses the best weights.
    """

    @property
    def score(self) -> str: ...

    def __len__(self) -> int:
        """Steps per epoch, rounded up."""

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's part of the batches of steps `start` to `stop - 1`. A batch depends on its step and the seed."""

    @property
    def loss(self) -> Loss:
        """The loss that a step minimises."""

    def validate(self, average: Backbone) -> dict[str, Any] | None:
        """Return scores of the averaged weights in percent, the same in every process; None without validation."""

    def save(self, path: Path, average: Backbone, metrics: dict[str, Any] | None) -> None:
        """Write the averaged weights and their scores as a weight file."""


def loop(state: State, task: Task, job: Job, run: Run, steps: int) -> None:
    """Train from the state's step on, validate, and save to `run`. With several processes, all call it.

    Args:
        state: the state before the next step; it is changed.
        task: what is learned.
        job: recipe, callbacks and the processes that train together.
        run: the folder.
        steps: steps of the whole training, on which the learning rate depends.

    Raises:
        FailedTrainingError: a loss or a gradient is not finite.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state is saved.
    """
    network = job.world.parallel(state.model)
    report = _Report(job, state, run.log, steps)
    saved = started = perf_counter()
    validate_every = job.recipe.validate_every * len(task)
    stop = min(steps, job.pause_after or steps)

    def due() -> bool:
        return state.step % validate_every == 0 or state.step == steps

    def tired() -> bool:
        if not _patience_ended(job, state):
            return False
        job.say(f"Stopped at step {state.step}: the last {state.without_gain} validations did not score more than "
                f"{state.best:.2f}. --resume with a larger --patience continues.")
        return True

    with report.callbacks_begun(), _interruptions(job.world) as interrupted:
        if state.losses and due():  # the run was stopped during this validation
            lr = _learning_rate(job.recipe, state.step - 1, steps)
            report.on_step()
            _validate(state, task, run, report, lr)
            report.show(lr)
        if tired():  # before the run was resumed, too
            return
        for batch in task.batches(state.step, stop):
            lr = _learning_rate(job.recipe, state.step, steps)
            state.losses.append(step(state, batch, task.loss, job.recipe, lr, network, job.world))
            report.on_step(perf_counter() - started)
            if due():
                _validate(state, task, run, report, lr)
                saved = perf_counter()
            report.show(lr)
            if tired():
                return
            stopping = job.world.any(bool(interrupted))  # asked once, so that all processes do the same
            if not due() and (stopping or state.step == stop or perf_counter() - saved > _SAVE_SECONDS):
                run.save_state()
                saved = perf_counter()
            if stopping:
                job.world.wait()  # the first may still be writing, and torchrun ends all processes when one has ended
                raise KeyboardInterrupt
            started = perf_counter()


def _patience_ended(job: Job, state: State) -> bool:
    return job.patience is not None and state.without_gain >= job.patience


class _Report:
    """Calls `on_step` and the callbacks, in the first process."""

    def __init__(self, job: Job, state: State, log: Sequence[Line], steps: int) -> None:
        self._job, self._state, self._log, self._steps = job, state, log, steps
        self._durations: deque[float] = deque(maxlen=20)  # seconds per step
        self._callbacks = job.callbacks if job.world.first else ()
        self._loss = 0.0
        self._score: float | None = None

    @contextmanager
    def callbacks_begun(self) -> Iterator[None]:
        """Begin the callbacks, and end them after the body."""
        begun: list[Callback] = []
        status: Status = "failed"
        try:
            for callback in self._callbacks:
                callback.on_begin(self._log)
                begun.append(callback)
            yield
            complete = self._state.step == self._steps or _patience_ended(self._job, self._state)
            status = "finished" if complete else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            for callback in begun:
                callback.on_end(status)

    def on_step(self, seconds: float | None = None) -> None:
        """Note the loss, and the duration of the step if one was taken."""
        if seconds is not None:
            self._durations.append(seconds)
        self._loss = fmean(self._state.losses[-50:])

    def on_validation(self, score: float | None) -> None:
        """Note the score, and call the callbacks."""
        self._score = score
        for callback in self._callbacks:
            callback.on_validation(self._log)

    def show(self, lr: float) -> None:
        """Call `on_step`."""
        if self._job.on_step and self._job.world.first:
            speed = self._job.recipe.images_per_step / fmean(self._durations) if self._durations else 0.0
            self._job.on_step(Progress(self._state.step, self._steps, self._loss, lr, speed, self._score))


def _validate(state: State, task: Task, run: Run, report: _Report, lr: float) -> None:
    """Validate the averaged weights and save them."""
    run.save_state()  # a validation may take longer than torchrun or Slurm wait before they kill
    try:
        metrics = task.validate(state.average)
    except NotFiniteError as error:  # though the weights are finite
        raise FailedTrainingError(f"The output of the network is not finite in the validation after step {state.step}; what "
                                  "was saved before is kept. Start a new run with a lower --lr and another --out.") from error
    score = metrics[task.score] if metrics else None
    line = {"step": state.step, "loss": fmean(state.losses), "lr": lr, "validation": metrics}
    state.losses.clear()
    run.save(partial(task.save, average=state.average, metrics=metrics), line, score)
    report.on_validation(score)


def step(
    state: State,
    batch: Batch,
    loss_of: Loss,
    recipe: Recipe,
    lr: float,
    network: nn.Module | None = None,
    world: World = ALONE,
) -> float:
    """Take one step of the optimiser, and return the loss of the batch of all processes.

    Args:
        state: it is changed.
        batch: this process's part.
        loss_of: the loss.
        recipe: seed and decay of the averaged weights.
        lr: learning rate.
        network: `World.parallel` of the model; None for a single process.
        world: the processes that train together.

    Raises:
        FailedTrainingError: the loss or the gradient is not finite. No weight has changed then.
    """
    # Dropout depends on the step and the process only, so that a resumed training draws the same masks.
    torch.manual_seed((recipe.seed << 32) + state.step * world.size + world.rank)
    loss = loss_of(state.model if network is None else network, batch, state.step)
    value = float(world.mean(loss.detach()))
    if not math.isfinite(value):
        raise _diverged(f"loss is {value}", state, batch, own=not math.isfinite(float(loss.detach())))
    for group in state.optimiser.param_groups:
        group["lr"] = lr
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if not math.isfinite(norm):
        raise _diverged(f"gradient norm is {norm}", state, batch)
    state.optimiser.step()
    state.step += 1
    world.average_buffers(state.model)
    _average(state, recipe.ema)
    return value


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate: polynomial decay from lr to min_lr, after a linear warm-up."""
    decayed: float = recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 - step / steps) ** recipe.power
    return decayed * min(1.0, (step + 1) / (recipe.warmup + 1))


def _diverged(what: str, state: State, batch: Batch, own: bool = True) -> FailedTrainingError:
    """Return the error for a loss or gradient that is not finite; `own`: this process's images may be the reason."""
    images, advice = f", on {', '.join(batch.names)}", "Check those files, or start"
    if not own:
        images, advice = ", in another process", "Start"
    return FailedTrainingError(f"The {what} at step {state.step}{images}; what was saved before is kept. "
                               f"{advice} a new run with a lower --lr and another --out.")


def _average(state: State, decay: float) -> None:
    """Move the averaged weights towards the model; faster in the first steps, when the average is still poor."""
    decay = min(decay, state.step / (state.step + 10))
    pairs = list(zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    with torch.no_grad():
        # A single call takes a third of the time.
        torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - decay)
        for kept, new in pairs:
            if not kept.is_floating_point():
                kept.copy_(new)


@contextmanager
def _interruptions(world: World) -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that the loop stops between two steps with its state saved."""
    received: list[int] = []
    previous = {}

    def receive(number: int, _: object) -> None:
        if received and world.size == 1:  # the second Ctrl-C stops at once; torchrun may send a signal twice by itself
            raise KeyboardInterrupt
        received.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, receive)
    except ValueError:  # signals can be handled in the main thread only
        pass
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def enough_memory(recipe: Recipe, world: World) -> Iterator[None]:
    """Turn every error about missing memory into one that suggests a smaller batch or crop."""
    try:
        yield
    except Exception as error:  # cv2.error has no base class of its own, and only augment imports cv2
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(recipe, world) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of Python, PyTorch or OpenCV is about missing memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY)


def out_of_memory(recipe: Recipe, world: World) -> FailedTrainingError:
    """Return the error for a step that does not fit into memory, with the smaller batch or crop to try."""
    (height, width), batch = recipe.crop, recipe.images_per_step
    smaller = _less(height), _less(width)
    half = batch // 2 // world.size * world.size
    ways = [f"--batch {half}"] if half >= 2 * world.size else []  # batch norm needs two images in a process
    ways += [f"--crop {hxw(smaller)}"] if smaller != recipe.crop else []
    advice = f"try {' or '.join(ways)}, with another --out" if ways else "both are at their minimum, so free some memory"
    return FailedTrainingError(f"Out of memory at --batch {batch} and --crop {height}x{width}; {advice}.")


def _less(side: int) -> int:
    """Return about 0.7 of a side, so that a crop takes half the memory, as a multiple of 32 pixels."""
    return max(MIN_SIDE, int(side * 0.7) // 32 * 32)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory: on a CPU, new pages for every large tensor take a good part of a step."""
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))
    mallopt(mmap_max, 0)
