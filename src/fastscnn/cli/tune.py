"""tune: the search for values of a recipe."""

from __future__ import annotations

import dataclasses
import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastscnn.base.errors import ArgumentError, unknown
from fastscnn.cli.console import STDOUT, configure, note, printable, show, table
from fastscnn.cli.flags import learning
from fastscnn.cli.options import SPLIT, Dataset, Json, MoreDatasets, Quiet, Verbose, described, path, required, switch, value
from fastscnn.cli.recipe_call import Config, Init, Patience, Teacher, weight_files, with_recipe
from fastscnn.cli.recipe_options import RecipeFlags, RecipeOptions, flags_of, read_field
from fastscnn.cli.train import progress
from fastscnn.training.recipes import Recipe
from fastscnn.tuning.space import Range, Space, is_whole

if TYPE_CHECKING:
    from fastscnn.tuning.study import Study, Trial

USAGE = "[options] DATASET ... --out DIR --trials N"
_SUMMARY = ("Train by a recipe several times with different values, and find those with the highest validation mIoU. "
            "DIR/best.json is then a recipe for `fastscnn train --config`.")


def main(words: Sequence[str]) -> int:
    """Search around the recipe that `words` begin with, or that of `--config`; return the exit code."""
    return with_recipe("tune", words, for_recipe, USAGE, _SUMMARY, "Search around the recipe")


def for_recipe(base: Recipe) -> Any:
    """Return the function behind `tune`, with the values of a recipe as defaults of its options."""

    def run(
        dataset: Dataset,
        more: MoreDatasets = (),
        *,
        out: Annotated[Path, path("DIR"), required("Folder of the search: best.json, report.html and the run of each trial.")],
        trials: Annotated[int, value("N", int), required("Trials in --out at the end.")],
        search: Annotated[tuple[str, ...], described(
            "What to vary: ranges such as lr=1e-4:1e-2:log or batch=4:16, and choices such as optimiser=sgd,adamw (default: "
            "lr, weight_decay and lovasz).", metavar="FIELD=VALUES ...")] = (),
        split: Annotated[str, value("SPLIT", str), SPLIT] = "train",
        validation: Annotated[str, value("SPLIT", str), described(
            "Split whose best mIoU is the score of a trial; not the test split.")] = "val",
        resume: Annotated[bool, switch("Continue the search in --out, and its interrupted trial.")] = False,
        patience: Patience = None,
        config: Config = None,
        init: Init = None,
        teacher: Teacher = (),
        json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        recipe: RecipeFlags = flags_of(base),  # noqa: B008
    ) -> int:
        configure(quiet or json, verbose)
        options = {"trials": trials, "search": read_space(search), "split": split, "validation": validation, "resume": resume,
                   "patience": patience, "init": init, "teacher": teacher}  # fmt: skip
        return _tune(dataclasses.replace(base, **vars(recipe)), [dataset, *more], out, json, options)

    return run


def read_space(words: Sequence[str]) -> Space | None:
    """Return the search space that the words of `--search` describe; None without any.

    Raises:
        ArgumentError: a word that is no FIELD=VALUES, an unknown field, or values that cannot be read.
    """
    space: dict[str, Range | tuple[Any, ...]] = {}
    known = [field.name for field in dataclasses.fields(RecipeOptions)]
    for word in words:
        name, _, text = word.partition("=")
        name = name.replace("-", "_")
        if not text:
            raise ArgumentError(f"search: {word!r} is not FIELD=VALUES, for example lr=1e-4:1e-2:log or optimiser=sgd,adamw.")
        if name not in known:
            raise ArgumentError(f"search: {unknown('recipe field', name, known)}")
        if name in space:
            raise ArgumentError(f"search: {name} is given twice; keep one.")
        if name == "scale":
            raise ArgumentError("search: scale: its values contain commas; use fastscnn.tune in Python.")
        try:
            space[name] = _range(name, text) if ":" in text else tuple(read_field(name, one) for one in text.split(","))
        except ValueError as error:
            raise ArgumentError(f"search: {name}: {str(error).rstrip('.')}.") from error
    return space or None


def _range(name: str, text: str) -> Range:
    """Read LOW:HIGH or LOW:HIGH:log. Raise ValueError for anything else."""
    low, high, *scale = text.split(":")
    if scale not in ([], ["log"]):
        raise ValueError(f"expected LOW:HIGH or LOW:HIGH:log, not {text!r}")
    read = int if is_whole(name) else float
    return Range(read(low), read(high), bool(scale))


def _tune(recipe: Recipe, given: Sequence[str], out: Path, json: bool, options: dict[str, Any]) -> int:
    """Search with a progress bar, and print the trials and the next command; return the exit code."""
    tuning = learning("tune", "tuning.tune")
    options |= weight_files(options["init"], options["teacher"])

    def on_trial(trial: Trial) -> None:
        score = "" if trial.score is None else f", mIoU {trial.score:.2f}"
        note(f"Trial {trial.number} {trial.state}{score}{': ' if trial.reason else ''}{trial.reason}")

    with progress(recipe.name, "mIoU", True) as on_step:
        study = tuning.tune(recipe, given, out, **options, on_step=on_step, on_trial=on_trial, on_message=note)
    best = study.best
    if json:
        for trial in study.trials:
            print(json_.dumps({"trial": trial.number, "outcome": trial.state, "miou": trial.score, "values": trial.params,
                               **({"reason": trial.reason} if trial.reason else {})}))
        print(json_.dumps({"best": best.number, "miou": best.score, "recipe": str(out / tuning.BEST)}))
        return 0
    _print_trials(study)
    show(f"Best: trial {best.number}, mIoU {best.score:.2f} on {options['validation']}; open {out / tuning.REPORT}")
    show(f"Next: fastscnn train --config {out / tuning.BEST} DATASET --out DIR")
    return 0


def _print_trials(study: Study) -> None:
    """Print the trials, the best ones first."""
    from fastscnn.tuning.report import written

    names = list(study.identity["search"])
    made = table("trial", "mIoU %", *names, "outcome")
    for trial in study.ranked:
        score = "" if trial.score is None else f"{trial.score:.2f}"
        made.add_row(str(trial.number), score, *(printable(written(name, trial.params[name])) for name in names), trial.state)
    STDOUT.print(made)
