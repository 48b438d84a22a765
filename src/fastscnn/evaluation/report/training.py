"""Report page of a training run: curves of its log, its recipe and its settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fastscnn.evaluation.report.charts import Points, lines
from fastscnn.evaluation.report.page import Markup, Section, element, facts, page

_NAMES = {"miou": "mIoU", "top1": "top-1", "top5": "top-5"}


def render(name: str, log: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        name: name of the run.
        log: lines of log.jsonl, at least one: step, loss, lr, and validation scores in percent or None.
        run: content of run.json.
    """
    last = log[-1]
    curves = series(log)
    scores, classes = curves.get("validation", {}), curves.get("iou", {})
    tiles = [("step", f"{last['step']:,}", ""), ("loss", f"{last['loss']:.3f}", "")]
    for figure, points in scores.items():
        best = max(points, key=lambda point: point[1])
        tiles.append((figure, f"{points[-1][1]:.2f}", "%"))
        tiles.append((f"best {figure}", f"{best[1]:.2f}", f"% at {best[0]:,}"))
    drawn = [lines("Loss", {"loss": curves["training"]["loss"]}), lines("Learning rate", {"rate": curves["training"]["lr"]})]
    if scores:
        drawn.insert(1, lines("Validation", scores, " %"))
    small = [lines(label, {label: points}, " %", (190, 130), (0, 100)) for label, points in classes.items()]
    note = element("p", "IoU of each class in percent, by training step.", class_="note")
    command = shlex.join(["fastscnn", *run["command"][1:]]) if "command" in run else ""
    recipe = run.get("recipe", {})
    lead = f"{recipe.get('name', 'training')}, one point per validation"
    return page(name, lead, tiles, [
        Section("Curves", [element("div", *drawn, class_="charts")]),
        Section("Classes", [note, element("div", *small, class_="small-charts")] if small else []),
        Section("Recipe", [facts(recipe)] if recipe else []),
        Section("Run", _run(run, command)),
    ])


def series(log: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Points]]:
    """Return the curves of a log: group -> name -> points (step, value).

    Groups are "training" (loss and lr), "validation", and one for each score by class, such as "iou".
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in log:
        figures: dict[str, Any] = line["validation"] or {}
        by_class = {key: value for key, value in figures.items() if isinstance(value, Mapping)}
        scores = {_NAMES.get(key, key.replace("_", " ")): value for key, value in figures.items() if key not in by_class}
        groups = {"training": {"loss": line["loss"], "lr": line["lr"]}, "validation": scores, **by_class}
        for group, values in groups.items():
            for name, value in values.items():
                if value is not None:  # an absent class
                    found.setdefault(group, {}).setdefault(name, []).append((line["step"], value))
    return {group: dict(curves) for group, curves in found.items()}


def _run(run: Mapping[str, Any], command: str) -> list[Markup]:
    others = {key: value for key, value in run.items() if key not in ("recipe", "command")}
    return [facts(others), *([element("pre", command)] if command else [])]
