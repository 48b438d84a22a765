"""The trials of a search: which values Optuna suggests next, and when a trial stops early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastscnn.base.errors import ArgumentError, FailedTrainingError
from fastscnn.data.mixture import Mixture
from fastscnn.training.callbacks import Line, Status
from fastscnn.training.recipes import Recipe
from fastscnn.training.train import train
from fastscnn.tuning.space import Range, decoded, distributions, encoded
from fastscnn.tuning.study import Study, Trial

if TYPE_CHECKING:
    import optuna

_STATES = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}  # the names in Optuna
_STARTUP = 5  # trials that finish before one is pruned: the default of Optuna's MedianPruner


@dataclass(frozen=True)
class Search:
    """How the trials of a study are made.

    Attributes:
        study: the trials.
        recipe: values of the fields that are not searched.
        space: the searched fields; see `space.checked_space`.
        data: the datasets.
        images: number of training images.
        options: further arguments of `train.train`.
    """

    study: Study
    recipe: Recipe
    space: Mapping[str, Range | tuple[Any, ...]]
    data: Mixture
    images: int
    options: Mapping[str, Any]

    def step(self) -> Trial:
        """Make the next trial, or complete an interrupted one, and return it.

        Raises:
            FastSCNNError: wrong input; a training that failed for its values is a failed trial.
            KeyboardInterrupt: on Ctrl-C or SIGTERM.
        """
        suggested = self._suggest()
        trial = Trial(suggested.number, decoded(self.space, suggested.params))
        self.study.put(trial)
        try:
            recipe = replace(self.recipe, **trial.params)
        except ArgumentError as error:  # each value fits the recipe, but not all of them together
            trial = replace(trial, state="failed", reason=str(error))
        else:
            trial = self._train(trial, suggested, recipe)
        self.study.put(trial)
        return trial

    def _train(self, trial: Trial, suggested: optuna.Trial, recipe: Recipe) -> Trial:
        """Train by the recipe of a trial; return the trial with its outcome."""
        from optuna import TrialPruned

        folder = self.study.run(trial)
        resume = (folder / "resume.safetensors").is_file()
        watch = _Watch(suggested, recipe.steps(self.images))
        options = self.options if trial.number == 0 else {**self.options, "on_message": None}  # they are the same in each trial
        try:
            train(recipe, self.data, folder, resume=resume, callbacks=[watch], **options)
        except TrialPruned:
            return replace(trial, state="pruned", scores=tuple(watch.scores))
        except FailedTrainingError as error:
            return replace(trial, state="failed", scores=tuple(watch.scores), reason=str(error))
        return replace(trial, state="finished", scores=tuple(watch.scores))

    def _suggest(self) -> optuna.Trial:
        """Return Optuna's trial with the next values, or with those of the interrupted trial.

        Optuna's study is made from the earlier trials each time, and its sampler gets a seed of its own, so that the values
        do not depend on interruptions.
        """
        import optuna

        earlier = self.study.done
        known = distributions(self.space)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=len(earlier)),
            pruner=optuna.pruners.MedianPruner(_STARTUP, n_warmup_steps=self._validations() // 3),
        )
        for trial in earlier:
            study.add_trial(optuna.trial.create_trial(
                state=optuna.trial.TrialState[_STATES[trial.state]],
                params=encoded(self.space, trial.params),
                distributions=known,
                intermediate_values=dict(enumerate(trial.scores)),
                value=trial.score if trial.state == "finished" else None,
            ))
        for trial in self.study.trials[len(earlier) :]:  # one that was interrupted
            study.enqueue_trial(encoded(self.space, trial.params))
        return study.ask(known)

    def _validations(self) -> int:
        """Return the number of validations of a training by the recipe."""
        return -(-self.recipe.steps(self.images) * self.recipe.images_per_step // (self.recipe.validate_every * self.images))


class _Watch:
    """Callback of a training that reports each validation to Optuna, and ends a poor trial.

    Args:
        trial: Optuna's trial.
        steps: steps of the training; after the last one there is nothing to end.

    Attributes:
        scores: mIoU of each validation in percent.
    """

    def __init__(self, trial: optuna.Trial, steps: int) -> None:
        self._trial, self._steps = trial, steps
        self.scores: list[float] = []

    def on_begin(self, log: Sequence[Line]) -> None:
        """Report the validations before an interruption; the trial may have been ended by the last of them."""
        for line in log:
            self._report(line)

    def on_validation(self, log: Sequence[Line]) -> None:
        """Report the last validation. Raises optuna.TrialPruned to end the trial."""
        self._report(log[-1])

    def on_end(self, status: Status) -> None:
        """Do nothing: `Search` sees how the training ends."""

    def _report(self, line: Line) -> None:
        from optuna import TrialPruned

        self._trial.report(line["validation"]["miou"], len(self.scores))
        self.scores.append(line["validation"]["miou"])
        if line["step"] < self._steps and self._trial.should_prune():
            raise TrialPruned
