"""tune: search for the values of a recipe that score best."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.data import mixture
from fastscnn.data.datasets import ClassFolders
from fastscnn.data.mixture import Mixture, SourceLike
from fastscnn.evaluation.report import page
from fastscnn.hub.download import weight_file
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.job import Progress
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.run_lock import held
from fastscnn.training.segmentation import weights_digest
from fastscnn.training.training_data import checked
from fastscnn.tuning.report import render
from fastscnn.tuning.search import Search
from fastscnn.tuning.space import Range, Space, checked_space, default_space
from fastscnn.tuning.study import Study, Trial

BEST, REPORT = "best.json", "report.html"


def tune(
    recipe: str | Recipe,
    data: SourceLike | Mixture | Sequence[SourceLike],
    out: str | Path,
    *,
    trials: int,
    search: Space | None = None,
    split: str = "train",
    validation: str = "val",
    resume: bool = False,
    patience: int | None = None,
    init: str | Path | None = None,
    teacher: Sequence[str | Path] = (),
    on_step: Callable[[Progress], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Study:
    """Train by a recipe several times with different values of some fields, and find those that score best.

    The folder then contains best.json, the recipe of the best trial, which `recipes.from_run` and `fastscnn train --config`
    read; report.html; study.json, all trials; and trials/N, the run of each trial.

    Optuna's TPE sampler chooses the values. From the sixth trial on, a trial stops after a validation (not in the first third
    of them) if its best score so far is below the median of the finished trials at that point. Each trial has the recipe's
    seed, and the sampler a seed for each trial, so a search that is killed and resumed makes the same trials on a CPU.

    Args:
        recipe: name of a recipe, or a `Recipe`; the values of all fields that are not searched.
        data: as in `train`, with a class for each pixel.
        out: folder of the search.
        trials: number of trials in the folder at the end. It may be raised when a search is resumed.
        search: name of a field of the recipe -> a `Range` or a list of choices; None: see `default_space`.
        split, patience, init, teacher: as in `train`, for each trial.
        validation: split of the first dataset whose highest mIoU is the score of a trial. It must not be the test split,
            because the choice makes its score too high.
        resume: continue the search in `out`; an interrupted trial continues from its last saved state.
        on_step: called after every training step.
        on_trial: called after every trial.
        on_message: called with messages about the data, in the first trial, and before it waits for another machine.

    Returns:
        The study: its trials, and the best one.

    Raises:
        FastSCNNError: faulty data, before the first trial; `out` already contains a search, is in use by another process, or
            cannot be written; other settings than those of the search to resume; several processes of torchrun; no trial
            finished; the extra "tune" is not installed.
        ArgumentError: an unknown recipe or field, an empty range, or a value that the recipe refuses.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the state of the trial is saved.

    Examples:
        >>> import fastscnn
        >>> from fastscnn.tuning.space import Range
        >>> space = {"lr": Range(0.001, 0.1, log=True), "optimiser": ["sgd", "adamw"]}
        >>> study = fastscnn.tune("debug", "data/dataset.toml", "search", trials=2, search=space)
        >>> [trial.state for trial in study.trials]
        ['finished', 'finished']
        >>> sorted(study.best.params)
        ['lr', 'optimiser']
    """
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    _check_arguments(recipe, trials, validation)
    space = checked_space(default_space(recipe) if search is None else search, recipe)
    dataset = mixture.load_any(data)
    if isinstance(dataset, ClassFolders):
        raise ArgumentError(f"{dataset.name}: has a class per image; a search needs a dataset with a class per pixel.")
    found = checked(dataset, split, validation)
    weights = weight_file(init, "torch") if init else None
    teachers = [weight_file(path, "torch") for path in teacher]
    identity = {
        "recipe": asdict(recipe),
        "data": found.fingerprint,
        "split": split,
        "validation": validation,
        "patience": patience,
        "init": weights_digest(weights) if weights else None,
        "teacher": [weights_digest(path) for path in teachers],
        "search": {name: asdict(values) if isinstance(values, Range) else values for name, values in space.items()},
    }
    out = files.expand(out)
    with held(out, ALONE, on_message), _quiet():
        page.check_ours(out / REPORT)
        study = Study(out, identity, resume)
        trial_search = Search(study, recipe, space, dataset, sum(found.images), {
            "split": split, "validation": validation, "patience": patience, "init": weights, "teacher": teachers,
            "on_step": on_step, "on_message": on_message,
        })  # fmt: skip
        while len(study.done) < trials:
            trial = trial_search.step()
            _write(study, recipe)
            if on_trial:
                on_trial(trial)
    if study.best is None:
        reason = next((trial.reason for trial in study.trials if trial.reason), "")
        raise FastSCNNError(f"{out}: none of {len(study.trials)} trials has finished; change --search. {reason}".rstrip())
    return study


def _check_arguments(recipe: Recipe, trials: int, validation: str) -> None:
    """Check what needs no data."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra("tune (optuna is missing)", "tune") from error
    if World.from_environment().size > 1:
        raise FastSCNNError("tune: runs in one process; start it without torchrun.")
    if trials < 1:
        raise ArgumentError(f"trials: must be at least 1, not {trials}.")
    if not validation or "test" in validation.split("+"):
        raise ArgumentError("validation: a search chooses by this split, so it must not be the test split, whose score would "
                            "then be too high, or none; use val, or a part of the training images.")
    if recipe.task != "segmentation":
        raise ArgumentError(f"recipe: a search needs one for a class per pixel, and {recipe.name!r} is for a class per image.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what Optuna logs about each study; a warning is still shown."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _write(study: Study, recipe: Recipe) -> None:
    """Write best.json and report.html."""
    page.write(study.folder / REPORT, render(study))
    if best := study.best:
        source = f"{recipe.source}; trial {best.number} of {len(study.trials)} of fastscnn tune"
        found = {"recipe": asdict(replace(recipe, source=source, **best.params)), "trial": best.number, "score": best.score}
        files.write(study.folder / BEST, json.dumps(found, indent=1).encode())
