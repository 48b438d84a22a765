"""Measure training options one at a time, on CamVid drives that were not trained on. None of them slows down inference.

    python benchmarks/ablation.py camvid:ROOT [--names NAME ...] [--seeds 0 1] [--weights FOLDER]

Trains on the drives 0001TP (dusk) and 0016E5 of the train split (266 images) and validates on 202 images: the val split and
the drive 0006R0, which differs from the training drives as much as most of test does. Test is never read. Each run writes its
recipe, scores and time to benchmarks/accuracy/ablation/NAME-SEED.json. A run with such a file is skipped.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import tyro

from fastscnn.base import files
from fastscnn.data import datasets
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.training.job import Progress
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.train import train

RESULTS = Path(__file__).parent / "accuracy" / "ablation"
TRAINED, HELD_OUT = "0001TP+0016E5", "0006R0+val"
_DRIVES = ("0001TP", "0016E5", "0006R0")


@dataclass(frozen=True)
class Trial:
    """A short training.

    Attributes:
        what: description for the table.
        changes: fields of the recipe that differ from `SHORT`.
        start: the trial whose weights it fine-tunes; None: train from scratch.
        against: the trial to compare with, which differs in one option.
        teacher: the trial whose weights it is distilled from.
    """

    what: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    against: str | None = None
    teacher: str | None = None


SHORT = dataclasses.replace(
    named("camvid-quick"), iterations=500, optimiser="adamw", lr=0.003, weight_decay=0.01, warmup=50, validate_every=1000
)
_SGD = {"optimiser": "sgd", "lr": 0.045, "weight_decay": 4e-5, "warmup": 0}
_DOUBLED = {"size": (720, 960), "scale": (0.4, 1.25), "loss_stride": 4}
_LONGER = {"iterations": 360, "lr": 0.002, "warmup": 20}


def _further(what: str, teacher: str | None = None, **changes: Any) -> Trial:
    """Return a trial that fine-tunes `adamw` and changes one option of `longer`."""
    return Trial(what, {**_LONGER, **changes}, start="adamw", against="longer", teacher=teacher)


TRIALS: Mapping[str, Trial] = {
    "sgd": Trial("the recipe camvid-quick for 500 steps", _SGD),
    "adamw": Trial("AdamW in place of SGD", {}, against="sgd"),
    "sgd-720x960": Trial("input doubled, with SGD", {**_SGD, **_DOUBLED}, against="sgd"),
    "adamw-720x960": Trial("input doubled, with AdamW", _DOUBLED, against="adamw"),
    "longer": Trial("360 steps more", _LONGER, start="adamw", against="adamw"),
    "lovasz": _further("Lovasz-softmax beside cross-entropy", lovasz=1.0),
    "540x720": _further("input of one and a half times the size", size=(540, 720), scale=(0.5, 1.5), loss_stride=3),
    "balanced": _further("half of the crops around a pixel of a class sampled uniformly", balanced_crops=0.5),
    "batch-6": _further("twice as many steps of half the batch", batch=6, iterations=720),
    "hard": _further("the 30 % of the pixels with the highest loss (OHEM)", ohem_ratio=0.3),
    "classmix": _further("half of the classes of another crop pasted, half of the time", classmix=0.5),
    "paste": _further("rare classes of another crop pasted, half of the time", paste=0.5),
    "smoothing": _further("label smoothing of 0.1", label_smoothing=0.1),
    "no-weights": _further("without class weights", class_weights="none"),
    "no-ema": _further("without the moving average of the weights (EMA)", ema=0.0),
    "wide": _further("crops from a third to three times the size", scale=(0.35, 3.0)),
    "reparam_branches": _further("re-parameterised branches, fused after the training", reparam_branches=True),
    "teacher": Trial("twice the channels, 4 times the work", {"width_mult": 2.0}, against="adamw"),
    "distilled": _further("distillation from `teacher`, weight 1", teacher="teacher", distillation=1.0),
}


def folds(data: str) -> DatasetSpec:
    """Return CamVid with its train split divided into its three drives."""
    spec = datasets.load(data)
    drives = {name: Split(f"train/{name}_*.png", "trainannot/{stem}.png") for name in _DRIVES}
    return dataclasses.replace(spec, name="camvid-drives", splits={**drives, "val": spec.split("val")})


def main(
    data: str, /, names: tuple[str, ...] = tuple(TRIALS), seeds: tuple[int, ...] = (0,), weights: Path = Path("ablation")
) -> None:
    """Run the trials that have no result yet.

    Args:
        data: camvid:ROOT.
        names: Trials to run (default: all).
        seeds: Seeds of each trial.
        weights: Folder of the runs; later trials start from their weights.
    """
    for seed in seeds:
        for name in names:
            out = RESULTS / f"{name}-{seed}.json"
            if not out.exists():
                files.write(out, json.dumps(measure(data, name, seed, weights), indent=1).encode())


def recipe(name: str, seed: int) -> Recipe:
    """Return the recipe of a trial."""
    return dataclasses.replace(SHORT, **TRIALS[name].changes, seed=seed)


def measure(data: str, name: str, seed: int, weights: Path) -> dict[str, Any]:
    """Train and score one trial."""
    start, teacher = TRIALS[name].start, TRIALS[name].teacher
    init = weights / f"{start}-{seed}" / "last.safetensors" if start else None
    taught = [weights / f"{teacher}-{seed}" / "last.safetensors"] if teacher else []
    print(f"{name}, seed {seed}: {recipe(name, seed).iterations} steps", flush=True)
    seen: list[Progress] = []
    began = perf_counter()
    card = train(recipe(name, seed), folds(data), weights / f"{name}-{seed}", split=TRAINED, validation=HELD_OUT, init=init,
                 teacher=taught, on_step=seen.append)
    seconds = perf_counter() - began
    scores = card.metrics[HELD_OUT]
    print(f"{name}, seed {seed}: {scores['miou']:.2f} in {seconds:.0f} s", flush=True)
    return {"name": name, "seed": seed, "start": start, "teacher": teacher, "recipe": card.recipe, "seconds": seconds,
            "loss": seen[-1].loss, "machine": platform.platform(), **scores}


if __name__ == "__main__":
    tyro.cli(main)
