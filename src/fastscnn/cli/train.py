"""train: training on a dataset, by a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastscnn.base.types import TrackerName
from fastscnn.cli.console import STDERR, configure, is_quiet, note, printable, show
from fastscnn.cli.flags import learning
from fastscnn.cli.options import SPLIT, Dataset, MoreDatasets, Quiet, Verbose, described, path, required, switch, value
from fastscnn.cli.recipe_call import Config, Init, Patience, Teacher, weight_files, with_recipe
from fastscnn.cli.recipe_options import RecipeFlags, flags_of
from fastscnn.training.recipes import Recipe

if TYPE_CHECKING:
    from fastscnn.training.job import Progress as TrainingProgress

USAGE = "[options] DATASET ... --out DIR"
_LOG_SECONDS = 30.0  # between two lines of progress without a terminal


def main(words: Sequence[str]) -> int:
    """Train by the recipe that `words` begin with, or by that of `--config`; return the exit code."""
    return with_recipe("train", words, for_recipe, USAGE, "Train a network on a dataset, or on several with the classes of the "
                       "first.", "Train by the recipe")


def for_recipe(base: Recipe) -> Any:
    """Return the function behind `train`, with the values of a recipe as defaults of its options."""

    def run(
        dataset: Dataset,
        more: MoreDatasets = (),
        *,
        out: Annotated[Path, path("DIR"), required("Folder of the run: weights, log and the state to resume from.")],
        split: Annotated[str, value("SPLIT", str), SPLIT] = "train",
        validation: Annotated[str, value("SPLIT", str, write=lambda name: name), described(
            "Split that selects the best weights; none: no validation, keep the last.")] = "val",
        resume: Annotated[bool, switch("Continue the run in --out; start it if nothing was saved yet.")] = False,
        pause_after: Annotated[int | None, value("N", int), described("Save the state and stop after N steps.")] = None,
        patience: Patience = None,
        config: Config = None,
        init: Init = None,
        teacher: Teacher = (),
        track: Annotated[tuple[TrackerName, ...], described(
            "Also record losses and scores in tensorboard, mlflow or wandb (docs/tracking.md).", metavar="NAME ...")] = (),
        quiet: Quiet = False,
        verbose: Verbose = False,
        recipe: RecipeFlags = flags_of(base),  # noqa: B008
    ) -> int:
        configure(quiet, verbose)
        return _train(
            dataclasses.replace(base, **vars(recipe)), [dataset, *more], out,
            {
                "split": split,
                "validation": None if validation == "none" else validation,
                "resume": resume,
                "pause_after": pause_after,
                "patience": patience,
                "init": init,
                "teacher": teacher,
                "track": track,
            },
        )  # fmt: skip

    return run


def _train(recipe: Recipe, given: Sequence[str], out: Path, options: dict[str, Any]) -> int:
    """Train with a progress bar, and print the scores and the next command; return the exit code."""
    from fastscnn.data import mixture
    from fastscnn.data.datasets import ClassFolders

    training = learning("train", "training.train")
    from fastscnn.training.distributed import World

    first = World.from_environment().first  # only one of torchrun's processes prints
    data = mixture.load_any(given)
    classifies = isinstance(data, ClassFolders)
    figure, key = ("top-1", "top1") if classifies else ("mIoU", "miou")
    options |= weight_files(options["init"], options["teacher"], quiet=not first)
    with progress(recipe.name, figure, first) as on_step:
        card = training.train(recipe, data, out, **options, on_step=on_step, on_message=note)
    if not first:
        return 0
    for name, scores in card.metrics.items():
        show(f"{figure} {scores[key]:.2f} on {name} with the last weights")
    best = out / "best.safetensors"
    if best.is_file():
        then = f"train RECIPE DATASET --init {best} --out DIR" if classifies else f"export {best} --out {out / 'model.onnx'}"
        show(f"Next: fastscnn {then}")
    return 0


@contextmanager
def progress(name: str, figure: str, first: bool) -> Iterator[Any]:
    """Yield a callback for each step. It moves a progress bar; without a terminal it prints lines."""
    facts = TextColumn("{task.fields[facts]}", markup=False)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), facts, TimeRemainingColumn())
    bar = Progress(*columns, console=STDERR, disable=is_quiet() or not first)
    logged = perf_counter()

    def on_step(progress: TrainingProgress) -> None:
        nonlocal logged
        score = "" if progress.score is None else f"  {figure} {progress.score:.2f}"
        news = f"loss {progress.loss:.3f}{score}  {progress.images_per_second:.1f} images/s"
        bar.update(task, completed=progress.step, total=progress.steps, facts=news)
        if not STDERR.is_terminal and (progress.step == progress.steps or perf_counter() - logged > _LOG_SECONDS):
            logged = perf_counter()
            note(f"{progress.step}/{progress.steps}  {news}")

    if bar.disable:
        yield on_step if first and not is_quiet() else None
        return
    with bar:
        task = bar.add_task(printable(name), total=None, facts="read the data")
        yield on_step
