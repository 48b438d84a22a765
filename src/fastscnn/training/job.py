"""Job: the arguments of one training, as the parts of `training` pass them on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastscnn.training.callbacks import Callback
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.recipes import Recipe


@dataclass(frozen=True)
class Progress:
    """The state of a training after `step` of `steps`.

    Attributes:
        step: steps done.
        steps: steps of the whole training.
        loss: mean of up to 50 steps since the validation before.
        lr: learning rate of this step.
        images_per_second: speed of the last 20 steps, of all processes together; 0 before the first.
        score: score of the last validation in percent, that after this step included; None before the first.
    """

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float
    score: float | None


@dataclass(frozen=True)
class Job:
    """The arguments of `training.train.train`, and who takes part.

    Attributes:
        callbacks: called by the loop in the first process.
        world: the processes that train together.
    """

    recipe: Recipe
    out: Path
    split: str = "train"
    validation: str | None = "val"
    resume: bool = False
    pause_after: int | None = None
    patience: int | None = None
    init: Path | None = None
    teacher: Sequence[Path] = ()
    callbacks: Sequence[Callback] = ()
    on_step: Callable[[Progress], None] | None = None
    on_message: Callable[[str], None] | None = None
    world: World = ALONE

    def tell(self, notes: Iterable[str], resumed: bool) -> None:
        """Pass notes about the start to `on_message`, unless a run was resumed."""
        if resumed:
            return
        if self.resume:
            self.say(f"{self.out}: nothing was saved yet; the training starts from the beginning.")
        for note in notes:
            self.say(note)

    def say(self, message: str) -> None:
        """Pass a message to `on_message`, in the first process."""
        if self.on_message and self.world.first:
            self.on_message(message)
