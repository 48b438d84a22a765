"""train: a recipe on a dataset, with its progress."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastscnn.cli.console import STDERR, STDOUT
from fastscnn.cli.flags import learning
from fastscnn.training.recipes import Recipe

if TYPE_CHECKING:
    from fastscnn.training.loop import Progress as TrainingProgress
_PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal


@dataclass(frozen=True)
class Training:
    """Train Fast-SCNN by a recipe. Every field of the recipe is a flag."""

    data: str
    """The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml."""
    out: Path
    """Folder of the run: weights, log and all that is needed to resume."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe]
    """How to train."""
    split: str = "train"
    """What to train on; several splits of labelled pixels joined by +."""
    validation: str = "val"
    """The split that chooses the best weights; none: the last are the best."""
    resume: bool = False
    """Go on where the run in --out stopped."""
    pause_after: int | None = None
    """Stop after this many steps with the state saved."""
    init: Path | None = None
    """A .safetensors file to go on from, or `bundled`; its last layer is replaced where the classes differ."""
    teacher: tuple[Path, ...] = ()
    """.safetensors files whose mean probabilities --distillation follows."""
    tensorboard: bool = False
    """Keep the curves for TensorBoard, too, in a folder of that name in --out; needs the extra fastscnn[track]."""


def train(run: Training) -> int:
    """Trains with a progress bar; see `Training` for the flags."""
    from fastscnn.data import datasets
    from fastscnn.model.weights import bundled

    training = learning("train", "training.train")
    from fastscnn.training import distributed

    speaks = distributed.first()  # of the processes that torchrun started
    dataset = datasets.load_any(run.data)
    classifies = isinstance(dataset, datasets.ClassFolders)
    figure, key = ("top-1", "top1") if classifies else ("mIoU", "miou")
    if classifies:
        training = learning("train", "training.pretraining.classify")
    facts = TextColumn("{task.fields[facts]}", markup=False)
    bar = Progress("{task.description}", BarColumn(), MofNCompleteColumn(), facts, TimeRemainingColumn(), console=STDERR)
    with bar if speaks else nullcontext():
        task = bar.add_task(run.recipe.name, total=None, facts="reading the data")

        told = perf_counter()

        def on_step(progress: TrainingProgress) -> None:
            score = "" if progress.score is None else f"  {figure} {progress.score:.2f}"
            news = f"loss {progress.loss:.3f}{score}  {progress.images_per_second:.1f} images/s"
            bar.update(task, completed=progress.step, total=progress.steps, facts=news)
            nonlocal told
            if not STDERR.is_terminal and (progress.step == progress.steps or perf_counter() - told > _PLAIN_SECONDS):
                told = perf_counter()  # a log file gets lines in place of the bar
                STDERR.print(f"{progress.step}/{progress.steps}  {news}")

        card = training.train(
            run.recipe,
            dataset,
            run.out,
            split=run.split,
            validation=None if run.validation == "none" else run.validation,
            resume=run.resume,
            pause_after=run.pause_after,
            init=bundled("torch") if run.init == Path("bundled") else run.init,
            teacher=run.teacher,
            tensorboard=run.tensorboard,
            on_step=on_step,
            on_message=STDERR.print,
        )
    if not speaks:
        return 0
    for name, scores in card.metrics.items():
        STDOUT.print(f"{figure} {scores[key]:.2f} on {name} with the last weights")
    best = run.out / "best.safetensors"
    if best.is_file():
        then = f"train RECIPE --data SPEC --init {best} --out DIR"
        if not classifies:
            then = f"export {best} --out {run.out / 'model.onnx'}"
        STDOUT.print(f"Next: fastscnn {then}", soft_wrap=True)
    return 0
