"""The process behind `auto_batch`: takes steps of a training with batches of random images, and reports their memory.

The first line of the standard input is an `auto_batch.Probe` as JSON, each further one a number of images. Each line of the
standard output is an `auto_batch.Memory` as JSON. The process ends without an answer if the steps do not fit into the memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastscnn.base import machine
from fastscnn.model.architecture import OUTPUT_STRIDE
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.network.fast_scnn import Classifier
from fastscnn.training.auto_batch import Memory, Probe
from fastscnn.training.distributed import World
from fastscnn.training.initial import initial, initial_state, teachers
from fastscnn.training.loader import AHEAD, Batch
from fastscnn.training.loop import Loss, is_out_of_memory, keep_freed_memory, step
from fastscnn.training.pretraining.classify import ClassLoss
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import State
from fastscnn.training.segmentation import SegmentationLoss


def main() -> None:
    """Answer every number on the standard input."""
    with suppress(OSError):  # if the memory runs out, Linux kills this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    keep_freed_memory()
    try:
        steps = TrialSteps(Probe(**json.loads(sys.stdin.readline())))
        for line in sys.stdin:
            sys.stdout.write(json.dumps(asdict(steps(int(line)))) + "\n")
            sys.stdout.flush()
    except Exception as error:
        if not is_out_of_memory(error):
            raise


class TrialSteps:
    """Steps of a training, whose state is made once.

    Args:
        probe: the training.
    """

    def __init__(self, probe: Probe) -> None:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in probe.recipe.items()
        }
        self._probe, self._recipe, self._world = probe, Recipe(**values), World(device=torch.device(probe.device))
        self._memory = _memory(probe, self._world.device)
        self._state, self._loss = self._made()

    def __call__(self, images: int) -> Memory:
        """Take two steps, since the first one makes the moments of the optimiser; return the memory so far."""
        batches = [self._batch(images) for _ in range(AHEAD + 1)]  # as many as the loader holds
        for batch in batches[:2]:
            step(self._state, batch, self._loss, self._recipe, lr=0.0, world=self._world)
        return self._memory()

    def _made(self) -> tuple[State, Loss]:
        recipe, probe, device = self._recipe, self._probe, self._world.device
        classes = len(probe.classes)
        if recipe.task == "classification":
            model = Classifier(classes, variant=recipe.variant, width_mult=recipe.width_mult)
            return initial_state(recipe, model, device), ClassLoss(recipe, self._world)
        card = Card(LabelSet(tuple(probe.classes)), recipe.crop, recipe.variant, probe.channels, recipe.width_mult)
        state, _ = initial(recipe, card, device, soft_classes=probe.soft_classes)
        return state, SegmentationLoss(
            recipe,
            None if recipe.class_weights == "none" else torch.ones(classes, device=device),
            teachers([Path(path) for path in probe.teachers], card, device),
            self._world,
            torch.ones(probe.soft_classes, classes, device=device) if probe.soft_classes else None,
        )

    def _batch(self, images: int) -> Batch:
        """Return random crops: zeros would take no memory before they are written."""
        probe, (height, width), classes = self._probe, self._recipe.crop, len(self._probe.classes)
        cells = -(-height // OUTPUT_STRIDE), -(-width // OUTPUT_STRIDE)
        rng = np.random.default_rng(images)
        pixels = rng.integers(0, 256, (images, height, width, probe.channels), np.uint8)
        if self._recipe.task == "classification":
            return Batch(pixels, rng.integers(0, classes, images), ("",) * images)
        return Batch(
            pixels,
            rng.integers(0, classes, (images, height, width), np.uint8),
            ("",) * images,
            np.ones((images, classes), bool) if probe.partial else None,
            rng.random((images, probe.soft_classes, *cells), np.float32) if probe.soft_classes else None,
        )


def _memory(probe: Probe, device: torch.device) -> Callable[[], Memory]:
    """Return what measures the memory that is taken from now on."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]  # without the memory of the CUDA context
        return lambda: Memory(torch.cuda.max_memory_reserved(device), free)
    before = machine.memory_use()
    free = (machine.available_memory() or 0) - probe.pictures
    return lambda: Memory(machine.memory_use(peak=True) - before, max(0, free) // probe.processes)


if __name__ == "__main__":
    main()
