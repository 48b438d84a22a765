"""Report page of a search: its trials, and the score against each searched field."""

from __future__ import annotations

from math import log10
from typing import Any

from fastscnn.base.arguments import hxw
from fastscnn.evaluation.report.charts import Dot, scatter
from fastscnn.evaluation.report.page import Markup, Section, element, facts, page, percent, table
from fastscnn.tuning.study import Study, Trial

_STYLES = {"finished": 0, "pruned": 1, "running": 2, "failed": 3}


def render(study: Study) -> str:
    """Return the page of a search with at least one trial."""
    best = study.best
    counts = {state: sum(trial.state == state for trial in study.trials) for state in ("finished", "pruned", "failed")}
    tiles = [("trials", str(len(study.trials)), ""), *((state, str(count), "") for state, count in counts.items())]
    if best:
        tiles += [("best mIoU", percent(best.score), "%"), ("of trial", str(best.number), "")]
    identity = study.identity
    note = element("p", "Highest validation mIoU of each trial in percent. Blue: finished; orange: pruned.", class_="note")
    fields = [_field(study, name, values) for name, values in identity["search"].items()] if _scored(study) else []
    return page(study.folder.resolve().name, f"Search around the recipe {identity['recipe']['name']}", tiles, [
        Section("Best values", [facts({name: written(name, value) for name, value in best.params.items()})] if best else []),
        Section("Scores", [note, element("div", _history(study), *fields, class_="charts")] if fields else []),
        Section("Trials", [_table(study)]),
        Section("Recipe", [facts(identity["recipe"])]),
    ])


def written(name: str, value: Any) -> str:
    """Return a value of a field as the command line accepts it."""
    if isinstance(value, list | tuple):
        return hxw(value) if name in ("crop", "size") else ",".join(f"{one:g}" for one in value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _scored(study: Study) -> list[Trial]:
    return [trial for trial in study.trials if trial.scores]


def _dot(trial: Trial, x: float) -> Dot:
    """Return the dot of a trial with a score."""
    values = ", ".join(f"{name} {written(name, value)}" for name, value in trial.params.items())
    return Dot(x, trial.score or 0.0, f"trial {trial.number}, {trial.state}: {percent(trial.score)} %, {values}",
               _STYLES[trial.state])


def _history(study: Study) -> Markup:
    """Return the chart of the scores by trial, with a line for the best so far."""
    trials = _scored(study)
    line, best = [], 0.0
    for trial in trials:
        if trial.state == "finished":
            best = max(best, trial.score or 0.0)
            line.append((float(trial.number), best))
    ends = sorted({0, len(study.trials) - 1})
    return scatter("mIoU by trial; line: the best so far", [_dot(trial, trial.number) for trial in trials],
                   [(end, str(end)) for end in ends], line)


def _field(study: Study, name: str, values: Any) -> Markup:
    """Return the chart of the scores by the values of a field.

    Args:
        study: with a scored trial.
        name: of the field.
        values: its range or choices in `Study.identity`.
    """
    trials = _scored(study)
    title = f"mIoU by {name.replace('_', ' ')}"
    if isinstance(values, list):
        choices = [written(name, one) for one in values]
        dots = [_dot(trial, choices.index(written(name, trial.params[name]))) for trial in trials]
        return scatter(title, dots, list(enumerate(choices)))
    scale = log10 if values["log"] else float
    dots = [_dot(trial, scale(trial.params[name])) for trial in trials]
    return scatter(title, dots, [(scale(values[end]), f"{values[end]:g}") for end in ("low", "high")])


def _table(study: Study) -> Markup:
    """Return the table of the trials, the best scores first."""
    names = list(study.identity["search"])
    rows = [
        (str(trial.number), trial.reason or trial.state, percent(trial.score),
         *(written(name, trial.params[name]) for name in names))
        for trial in study.ranked
    ]
    return table(("trial", "outcome", "mIoU %", *(name.replace("_", " ") for name in names)), rows, words=2)
