"""train: training on a dataset, by a recipe."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastscnn.base.types import TrackerName
from fastscnn.cli import parse, wrong_call
from fastscnn.cli.console import STDERR, configure, is_quiet, note, printable, show
from fastscnn.cli.flags import learning
from fastscnn.cli.options import SPLIT, Dataset, MoreDatasets, Quiet, Verbose, described, path, required, switch, value
from fastscnn.cli.recipe_options import RecipeFlags, flags_of
from fastscnn.training.recipes import Recipe, from_run, named, names

if TYPE_CHECKING:
    from fastscnn.training.job import Progress as TrainingProgress

USAGE = "[options] DATASET ... --out DIR"
_CALL = f"fastscnn train RECIPE {USAGE}"
_LOG_SECONDS = 30.0  # between two lines of progress without a terminal
_HELP = """\
usage: fastscnn train RECIPE [options] DATASET ... --out DIR
       fastscnn train --config run.json [options] DATASET ... --out DIR

Train a network on a dataset, or on several with the classes of the first.

recipes:
{recipes}

`fastscnn train RECIPE --help` lists the options and the values of the recipe.
`--config run.json` uses the recipe of an earlier run.\
"""


def main(words: Sequence[str]) -> int:
    """Train by the recipe that `words` begin with, or by that of `--config`; return the exit code."""
    if not words or words[0] in ("-h", "--help"):
        recipes = "\n".join(f"  {name:<18} {_summary(name)}" for name in names())
        text = _HELP.format(recipes=recipes)
        if words:
            print(text)
            return 0
        return wrong_call(_CALL, "recipe", "", names())
    rest = list(words)
    name = rest.pop(0) if not rest[0].startswith("-") else None
    if name is not None and name not in names():
        return wrong_call(_CALL, "recipe", name, names())
    config, rest = _config(rest)
    if name is None and config is None:
        return wrong_call(_CALL, "recipe", "", names())
    recipe = from_run(config, named(name) if name else None) if config else named(name or "")
    prog = f"fastscnn train {name}" if name else f"fastscnn train --config {config}"
    return parse(trainer(recipe), prog, USAGE, rest, f"Train by the recipe {recipe.name}.\n\nOrigin: {recipe.source}.")


def _summary(name: str) -> str:
    """Return the origin of a recipe, wrapped to stand beside its name."""
    return textwrap.fill(named(name).source, 58, break_on_hyphens=False).replace("\n", "\n" + " " * 21)


def _config(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the file of `--config`, and the other words."""
    rest: list[str] = []
    config = None
    waiting = iter(words)
    for word in waiting:
        if word == "--config":
            config = next(waiting, None)
            if config is None:
                return None, list(words)
        elif word.startswith("--config="):
            config = word.removeprefix("--config=")
        else:
            rest.append(word)
    return Path(config) if config else None, rest


def trainer(base: Recipe) -> Any:
    """Return the function behind `train`, with the values of a recipe as defaults of its options."""

    def run(
        dataset: Dataset,
        more: MoreDatasets = (),
        *,
        out: Annotated[Path, path("DIR"), required("Folder of the run: weights, log and the state to resume from.")],
        split: Annotated[str, value("SPLIT", str), SPLIT] = "train",
        validation: Annotated[str, value("SPLIT", str, write=lambda name: name), described(
            "Split that selects the best weights; none: no validation, keep the last.")] = "val",
        resume: Annotated[bool, switch("Continue the run in --out.")] = False,
        pause_after: Annotated[int | None, value("N", int), described("Save the state and stop after N steps.")] = None,
        patience: Annotated[int | None, value("N", int, "take all steps"), described(
            "Stop after N validations in a row without a better score.")] = None,
        config: Annotated[Path | None, path("FILE"), described(
            "Use the values in the run.json of an earlier run: the file or its folder.")] = None,
        init: Annotated[Path | None, path("FILE", "from scratch"), described(
            "Fine-tune these .safetensors weights; `bundled`: the bundled weights, whose licence then applies to yours. If "
            "the classes differ, the last layer is replaced.")] = None,
        teacher: Annotated[tuple[Path, ...], described(
            "Teachers for --distillation, .safetensors; their probabilities are averaged.", metavar="FILE ...")] = (),
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
    from fastscnn.model.weights import bundled

    training = learning("train", "training.train")
    from fastscnn.training.distributed import World

    first = World.from_environment().first  # only one of torchrun's processes prints
    data = mixture.load_any(given)
    classifies = isinstance(data, ClassFolders)
    figure, key = ("top-1", "top1") if classifies else ("mIoU", "miou")
    if options["init"] == Path("bundled"):
        options["init"] = bundled("torch")
    with _progress(recipe.name, figure, first) as on_step:
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
def _progress(name: str, figure: str, first: bool) -> Iterator[Any]:
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
