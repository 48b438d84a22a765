"""Measure training options one at a time, on CamVid drives that were not trained on. None of them slows down inference.

    python benchmarks/ablation.py camvid:ROOT [--names NAME ...] [--seeds 0 1] [--weights FOLDER]
        [--facade FOLDER] [--soft FOLDER] [--media FOLDER]

Trains on the drives 0001TP (dusk) and 0016E5 of the train split (266 images) and validates on 202 images: the val split and
the drive 0006R0, which differs from the training drives as much as most of test does. Test is never read. Each run writes its
recipe, scores and time to benchmarks/accuracy/ablation/NAME-SEED.json. A run with such a file is skipped, and an interrupted
one is continued.

Some trials need more data: `facade` with the folders images and labels of LabelMeFacade, `soft` with soft labels of ESPNetv2
for both datasets in the folders camvid and facade, and `media` with images and a video without labels. Their pseudo-labels are
those of the trial that the trial starts from, where it is confident.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tyro

from fastscnn import Segmenter
from fastscnn.base import files
from fastscnn.data import datasets, mixture
from fastscnn.data.builtin.cityscapes import LABELS as CITYSCAPES
from fastscnn.data.class_map import soft_train_ids
from fastscnn.data.mixture import Mixture, Source
from fastscnn.data.soft import SoftClasses
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.media import images, video
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet
from fastscnn.training.job import Progress
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.train import train

RESULTS = Path(__file__).parent / "accuracy" / "ablation"
TRAINED, HELD_OUT = "0001TP+0016E5", "0006R0+val"
_DRIVES = ("0001TP", "0016E5", "0006R0")
FACADE = ("building", "car", "door", "pavement", "road", "sky", "vegetation", "window")
FACADE_TO_CAMVID = {"door": "Building", "window": "Building", "vegetation": "Tree"}
FACADE_TERMS = "LabelMeFacade: non-commercial experiments and research (Froehlich, Rodner, Denzler 2010)"
SOFT_TO_CAMVID = {
    "sidewalk": "Pavement", "wall": "Building", "traffic light": "SignSymbol", "traffic sign": "SignSymbol",
    "vegetation": "Tree", "terrain": "ignore", "person": "Pedestrian", "rider": "Bicyclist", "motorcycle": "Bicyclist",
    "bicycle": "Bicyclist", "truck": "Car", "bus": "Car", "train": "Car",
}  # fmt: skip
SOFT_TERMS = "ESPNetv2 trained on Cityscapes (non-commercial research and teaching)"
CONFIDENT = 0.9  # lowest confidence of a pseudo-label


@dataclass(frozen=True)
class Trial:
    """A short training.

    Attributes:
        what: description for the table.
        changes: fields of the recipe that differ from `SHORT`.
        start: the trial whose weights it fine-tunes; None: train from scratch.
        against: the trial to compare with, which differs in one option.
        teacher: the trial whose weights it is distilled from.
        data: further datasets to train on, "facade" or "media".
        soft: whether the datasets have their soft labels.
    """

    what: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    against: str | None = None
    teacher: str | None = None
    data: tuple[str, ...] = ()
    soft: bool = False


SHORT = dataclasses.replace(
    named("camvid-quick"), iterations=500, optimiser="adamw", lr=0.003, weight_decay=0.01, warmup=50, validate_every=1000
)
_SGD = {"optimiser": "sgd", "lr": 0.045, "weight_decay": 4e-5, "warmup": 0}
_DOUBLED = {"size": (720, 960), "scale": (0.4, 1.25), "loss_stride": 4}
_LONGER = {"iterations": 360, "lr": 0.002, "warmup": 20}
_CGNET = {
    "iterations": 4000, "lr": 0.001, "warmup": 0, "batch": 8, "crop": (360, 360), "size": (360, 480), "scale": (0.5, 2.0),
    "brightness": 0.0, "contrast": 1.0, "gamma": 1.0, "channel_noise": 0.0, "ema": 0.998,
}  # fmt: skip
_AGAIN = {**_CGNET, "iterations": 1000, "warmup": 20}


def _further(what: str, teacher: str | None = None, **changes: Any) -> Trial:
    """Return a trial that fine-tunes `adamw` and changes one option of `longer`."""
    return Trial(what, {**_LONGER, **changes}, start="adamw", against="longer", teacher=teacher)


def _again(what: str, data: tuple[str, ...] = (), soft: bool = False, **changes: Any) -> Trial:
    """Return a trial that fine-tunes `cgnet` and changes one option of `again`."""
    return Trial(what, {**_AGAIN, **changes}, start="cgnet", against="again", data=data, soft=soft)


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
_SOFT: Mapping[str, Any] = {"distillation": 1.0, "soft_head": 1.0}
KNOWLEDGE: Mapping[str, Trial] = {
    "cgnet": Trial("CGNet's recipe: AdamW 0.001, batches of 8 crops of 360x360, no change of colours", _CGNET),
    "again": Trial("1,000 steps more", _AGAIN, start="cgnet", against="cgnet"),
    "soft-main": _again("soft labels of ESPNetv2, as a term on the main head", soft=True, distillation=1.0),
    "soft-head": _again("the same, for a layer of their 19 classes beside the last one", soft=True, soft_head=1.0),
    "soft": _again("both", soft=True, **_SOFT),
    "facade": _again("a third of the crops from facade, with partial labels", data=("facade",)),
    "facade-head": _again("facade, and the layer of soft labels for both", data=("facade",), soft=True, soft_head=1.0),
    "facade-soft": _again("facade, and the soft labels of both with weights 1 and 0.2", data=("facade",), soft=True,
                          soft_head=1.0, distillation=0.2),
    "media": _again("a fifth of the crops from unlabelled street images, corrupted, with pseudo-labels of `cgnet`",
                    data=("media",), corruption=0.5),
    "corruption": _again("half of the crops corrupted", corruption=0.5),
    "tone": _again("colours changed as in camvid-quick", brightness=40.0, contrast=1.4, gamma=1.8, channel_noise=0.15),
    "late-lovasz": _again("Lovasz-softmax beside cross-entropy", lovasz=1.0),
    "late-balanced": _again("a third of the crops around a pixel of a class sampled uniformly", balanced_crops=0.33),
    "late-paste": _again("rare classes of another crop pasted, half of the time", paste=0.5),
    "late-classmix": _again("half of the classes of another crop pasted, half of the time", classmix=0.5),
    "narrow": _again("crops at scales of 0.75 to 1.5", scale=(0.75, 1.5)),
    "decay": _again("ten times the weight decay", weight_decay=0.1),
    "soft-weighted": _again("soft labels on the main head with the class weights", soft=True, distillation=0.5),
    "fit": _again("crops of 360x384, whose sides equal those of the input modulo 32", crop=(360, 384)),
    "together": _again("facade, half of the crops corrupted, Lovasz-softmax, crops that fit", data=("facade",), corruption=0.5,
                       lovasz=1.0, crop=(360, 384)),
    "together-classmix": _again("the same, with classes pasted", data=("facade",), corruption=0.5, lovasz=1.0, crop=(360, 384),
                                classmix=0.5),
}  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Where the data of the trials is."""

    data: str
    facade: Path | None = None
    soft: Path | None = None
    media: Path | None = None

    def folder(self, name: str) -> Path:
        """Return one of the optional folders."""
        found: Path | None = getattr(self, name)
        if found is None:
            raise SystemExit(f"This trial needs --{name} FOLDER.")
        return found.resolve()


def folds(data: str, soft: Path | None = None) -> DatasetSpec:
    """Return CamVid with its train split divided into its three drives, with soft labels if their folder is given."""
    spec = datasets.load(data)
    files_of = f"{os.path.relpath(soft / 'camvid', spec.root)}/{{stem}}.npz" if soft else ""
    drives = {name: Split(f"train/{name}_*.png", "trainannot/{stem}.png", soft=files_of) for name in _DRIVES}
    meaning = SoftClasses(CITYSCAPES.names, soft_train_ids(CITYSCAPES.names, SOFT_TO_CAMVID, spec.label_set.names), SOFT_TERMS)
    splits = {**drives, "val": spec.split("val")}
    return dataclasses.replace(spec, name="camvid-drives", splits=splits, soft=meaning if soft else None)


def facade(root: Path, soft: Path | None = None) -> DatasetSpec:
    """Return LabelMeFacade."""
    files_of = f"{os.path.relpath(soft / 'facade', root)}/{{stem}}.npz" if soft else ""
    meaning = SoftClasses(CITYSCAPES.names, soft_train_ids(CITYSCAPES.names, {}, FACADE), SOFT_TERMS)
    split = Split("images/*.jpg", "labels/{stem}.png", soft=files_of)
    return DatasetSpec("facade", root, LabelSet(FACADE), {"all": split}, terms=FACADE_TERMS, soft=meaning if soft else None)


def media(root: Path, weights: Path, out: Path) -> DatasetSpec:
    """Return every fourth frame of the videos and all images of a folder, with the confident labels of `weights`."""
    segmenter = Segmenter.load(weights, scales=(0.75, 1.0, 1.25), flip=True, threads=1)
    pictures = {path.stem: images.read(path) for path in sorted(root.iterdir()) if path.suffix in (".png", ".jpg")}
    for path in sorted(root.glob("*.mp4")):
        frames = enumerate(video.read(path, sound=False).frames)
        pictures |= {f"{path.stem}-{number:04}": frame.image for number, frame in frames if number % 4 == 0}
    for name, picture in pictures.items():
        found = segmenter.segment(picture, confidence=True)
        assert found.confidence is not None
        images.write(out / "images" / f"{name}.png", picture)
        images.write(out / "labels" / f"{name}.png", np.where(found.confidence >= CONFIDENT, found.labels, IGNORE_INDEX))
    return DatasetSpec("media", out, segmenter.card.label_set, {"all": Split("images/*.png", "labels/{stem}.png")})


def mixed(trial: Trial, folders: Folders, init: Path | None, out: Path) -> Mixture:
    """Return the datasets of a trial."""
    soft = folders.folder("soft") if trial.soft else None
    sources = [Source(folds(folders.data, soft), TRAINED, 1.0 if trial.data else None)]
    if "facade" in trial.data:
        spec = facade(folders.folder("facade"), soft)
        sources.append(Source(spec, "all", 0.5, FACADE_TO_CAMVID))
    if "media" in trial.data:
        assert init
        sources.append(Source(media(folders.folder("media"), init, out), "all", 0.25))
    return mixture.load(sources)


def main(
    data: str, /, names: tuple[str, ...] = tuple(TRIALS), seeds: tuple[int, ...] = (0,), weights: Path = Path("ablation"),
    facade: Path | None = None, soft: Path | None = None, media: Path | None = None,
) -> None:  # fmt: skip
    """Run the trials that have no result yet.

    Args:
        data: camvid:ROOT.
        names: Trials to run (default: the first ones, which need CamVid only).
        seeds: Seeds of each trial.
        weights: Folder of the runs; later trials start from their weights.
        facade: Folder of LabelMeFacade.
        soft: Folder of the soft labels.
        media: Folder of images and videos without labels.
    """
    folders = Folders(data, facade, soft, media)
    for seed in seeds:
        for name in names:
            out = RESULTS / f"{name}-{seed}.json"
            if not out.exists():
                files.write(out, json.dumps(measure(folders, name, seed, weights), indent=1).encode())


def trial(name: str) -> Trial:
    """Return a trial by its name."""
    return {**TRIALS, **KNOWLEDGE}[name]


def recipe(name: str, seed: int) -> Recipe:
    """Return the recipe of a trial."""
    return dataclasses.replace(SHORT, **trial(name).changes, seed=seed)


def measure(folders: Folders, name: str, seed: int, weights: Path) -> dict[str, Any]:
    """Train and score one trial."""
    start, teacher = trial(name).start, trial(name).teacher
    init = weights / f"{start}-{seed}" / "last.safetensors" if start else None
    taught = [weights / f"{teacher}-{seed}" / "last.safetensors"] if teacher else []
    print(f"{name}, seed {seed}: {recipe(name, seed).iterations} steps", flush=True)
    seen: list[Progress] = []
    began = perf_counter()
    run = weights / f"{name}-{seed}"
    data = mixed(trial(name), folders, init, weights / f"{name}-{seed}-data")
    card = train(recipe(name, seed), data, run, validation=HELD_OUT, init=init, teacher=taught, on_step=seen.append,
                 resume=(run / "resume.safetensors").exists())
    seconds = perf_counter() - began
    scores = card.metrics[HELD_OUT]
    print(f"{name}, seed {seed}: {scores['miou']:.2f} in {seconds:.0f} s", flush=True)
    return {"name": name, "seed": seed, "start": start, "teacher": teacher, "recipe": card.recipe, "seconds": seconds,
            "loss": seen[-1].loss if seen else None, "machine": platform.platform(), **scores}


if __name__ == "__main__":
    tyro.cli(main)
