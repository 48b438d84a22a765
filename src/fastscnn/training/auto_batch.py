"""The batch "auto": the number of images per step that fits into the memory, measured before the first step.

A process of its own (`trial_steps`) takes steps of the training on its device, each time with twice as many images. If the
system kills it, or it crashes, the last number that worked is used, and the training goes on.

The learning rate is not changed: a training with "auto" is the one with this number as its batch. The batch that a learning
rate was chosen for is not known, and no rule to scale it holds for every training (Shallue et al. 2019, arXiv:1811.03600). A
message says what the usual rules give: linear for SGD (Goyal et al. 2017, arXiv:1706.02677), the square root for AdamW (Malladi
et al. 2022, arXiv:2205.10287).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import IO, Any

from fastscnn.base import machine
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.training import recipes
from fastscnn.training.job import Job
from fastscnn.training.loop import out_of_memory
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import check_new, is_saved

LIMIT = 0.9  # of the available memory; the rest is for what the trial steps do not have, such as messages between GPUs
LEAST = 2  # images in each process: in a batch of 1, pooling to 1x1 leaves batch norm a single value for each channel
_KILLED = -9  # exit code of a process that the system killed, usually for its memory


@dataclass(frozen=True)
class Probe:
    """What the trial steps of one process need to know about a training.

    Attributes:
        recipe: its fields.
        device: where this process computes, such as "cuda:0".
        classes: names of the classes.
        channels: of an image.
        soft_classes: of the soft labels; 0 without any.
        partial: whether a dataset annotates a part of the classes.
        teachers: weight files.
        pictures: bytes of the decoded images in the main memory of this machine.
        processes: on this machine; they share its main memory.
    """

    recipe: dict[str, Any]
    device: str
    classes: Sequence[str]
    channels: int = 3
    soft_classes: int = 0
    partial: bool = False
    teachers: Sequence[str] = ()
    pictures: int = 0
    processes: int = 1


@dataclass(frozen=True)
class Memory:
    """Memory of a device, in bytes.

    Attributes:
        used: the most that the trial steps have taken so far.
        available: what was free before the first one.
    """

    used: int
    available: int

    @property
    def enough(self) -> bool:
        """Whether the steps leave what the training needs beside them."""
        return self.used <= LIMIT * self.available


Measure = Callable[[int], Memory | None]  # images per step -> memory; None: the process has ended, usually out of memory


def measured(job: Job, images: int, probe: Probe) -> Recipe:
    """Return the recipe with a number as its batch. With several processes, all call it.

    Args:
        job: a training with the batch "auto". If it is resumed, the number is the one that it was started with.
        images: number of training images, which the batch does not exceed.
        probe: for the trial steps of this process.

    Raises:
        FailedTrainingError: the smallest batch does not fit into memory.
        FastSCNNError: too few images, a folder that already contains a run, or memory that cannot be measured.
    """
    recipe, world = job.recipe, job.world
    if job.resume and (started := world.from_first(lambda: ({}, _of_run(job)))[1]):
        return replace(recipe, batch=started)
    check_new(job.out, job.resume)
    most = images // world.size
    if most < LEAST:
        raise ArgumentError(f"batch: auto needs {LEAST} training images for each process, and there are {images} for "
                            f"{world.size}; give a number.")
    own = most
    memory: Memory | None = None
    if world.device.type == "cuda" or not world.local_rank:  # on a CPU, one process measures for those that share the memory
        job.say(f"Batch: measuring how many images per step fit into the memory of {probe.device}.")
        with in_own_process(probe) as measure:
            own, memory = largest(measure, most)
    share = world.least(own)
    if not share:
        raise out_of_memory(replace(recipe, batch=LEAST * world.size), world)
    recipe = replace(recipe, batch=share * world.size)
    if memory:
        job.say(_said(recipe.images_per_step, world.size, own, memory, images, probe.device))
    job.say(_rate(recipe))
    return recipe


def _of_run(job: Job) -> int | None:
    """Return the batch of the run that is resumed; None if nothing was saved yet."""
    return recipes.from_run(job.out).images_per_step if is_saved(job.out) else None


def largest(measure: Measure, most: int) -> tuple[int, Memory | None]:
    """Return the largest power of two, at most `most`, whose steps leave enough memory, and their memory; 0 if none does.

    A number is tried only if a line through the last two memories leaves enough at it, too: on a CPU, a step that does not fit
    could end other programs.
    """
    best: tuple[int, Memory | None] = 0, None
    images, ahead = LEAST, True
    while images <= most and ahead:
        found = measure(images)
        if found is None or not found.enough:
            break
        if before := best[1]:
            ahead = replace(found, used=found.used + 2 * (found.used - before.used)).enough
        best, images = (images, found), 2 * images
    return best


@contextmanager
def in_own_process(probe: Probe) -> Iterator[Measure]:
    """Yield the measurement in a process of its own, which ends with the body.

    Raises:
        FastSCNNError: the system does not say how much memory is free, or the first steps fail for another reason than memory.
    """
    if probe.device == "cpu" and machine.available_memory() is None:
        raise FastSCNNError("batch: auto needs Linux or a GPU, because this system does not say how much memory is free; give "
                            "a number.")
    command = [sys.executable, "-P", "-m", "fastscnn.training.trial_steps"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdin
            with suppress(OSError):  # it has ended, which the first measurement finds
                process.stdin.write(json.dumps(asdict(probe)) + "\n")
            yield lambda images: _asked(process, images, errors)
        finally:
            process.kill()
            process.communicate()


def _asked(process: subprocess.Popen[str], images: int, errors: IO[str]) -> Memory | None:
    """Ask the process for the memory of its steps; `errors` has what it printed."""
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(f"{images}\n")
        process.stdin.flush()
        if answer := process.stdout.readline():
            return Memory(**json.loads(answer))
    except OSError:  # a broken pipe: it has ended
        pass
    if images == LEAST and process.wait() not in (0, _KILLED):
        errors.seek(0)
        reason = (errors.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise FastSCNNError(f"batch: auto cannot be measured ({reason}); give a number.")
    return None


def _said(batch: int, processes: int, own: int, memory: Memory, images: int, device: str) -> str:
    """Return the batch as a sentence, with the memory of the steps of `own` images in this process."""
    each = f", {batch // processes} in each of {processes} processes" if processes > 1 else ""
    used, available = (f"{size / 2**30:.2f}" for size in (memory.used, memory.available))
    if batch < own * processes:
        limit = "another process has less"
    elif 2 * own * processes > images:
        limit = f"twice as many would exceed the {images} training images"
    else:
        limit = f"twice as many would exceed {100 * LIMIT:.0f} % of it"
    return (f"Batch: {batch} images per step{each}. Steps of {own} take {used} of {available} GiB of free memory on {device}; "
            f"{limit}.")


def _rate(recipe: Recipe) -> str:
    """Return what becomes of the learning rate, as a sentence."""
    stays = f"The learning rate stays {recipe.lr:g}"
    known = recipes.named(recipe.name) if recipe.name in recipes.names() else None
    if known is None or (known.lr, known.optimiser) != (recipe.lr, recipe.optimiser):
        return f"{stays}, whatever batch it was chosen for."
    factor = recipe.images_per_step / known.images_per_step
    rule, scaled = ("square root", sqrt(factor)) if recipe.optimiser == "adamw" else ("linear", factor)
    return (f"{stays}, which {recipe.name} has for {known.batch} images; the {rule} scaling rule would give "
            f"--lr {recipe.lr * scaled:.2g}.")
