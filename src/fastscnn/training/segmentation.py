"""Training on datasets with a class per pixel: the loss, the validation, and the checks before the first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastscnn.backends.torch import TorchBackend
from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.card import Card, Data
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone, FastSCNN, fused
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.initial import initial, teachers
from fastscnn.training.job import Job
from fastscnn.training.loader import Batch, Loader, loading_threads
from fastscnn.training.loop import enough_memory, loop
from fastscnn.training.loss import training_loss
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run


def train_segmentation(job: Job, spec: DatasetSpec) -> Card:
    """Train Fast-SCNN on a dataset with a class per pixel; see `train.train`."""
    recipe, world = job.recipe, job.world
    with world.one_first():
        report = _checked(spec, job.split, job.validation)
    pairs = spec.pairs(job.split)
    size = recipe.size or images.size(pairs[0].image)
    earlier = [*([job.init] if job.init else []), *job.teacher]
    card = Card(
        spec.label_set,
        size,
        recipe.variant,
        spec.channels,
        recipe.width_mult,
        data=Data(spec.name, job.split, len(pairs), _terms(spec, earlier), report.fingerprint),
        recipe=dataclasses.asdict(recipe),
    )
    state, notes = initial(recipe, card, world.device, job.init)
    learned_from = _teachers(recipe, job.teacher, card, world.device)
    for note in notes:
        job.tell(note)
    run = Run(job.out, _identity(job, card), state, job.resume, world)

    with enough_memory(recipe, world):
        loader = Loader(spec, pairs, dataclasses.replace(recipe, size=size), loading_threads(world), world)
        loss = SegmentationLoss(recipe, _class_weights(recipe, report, job.split, world.device), learned_from, world)
        task = SegmentationTask(card, spec, job.validation, loader, loss, world)
        loop(state, task, job, run, recipe.steps(len(pairs)))
    return checkpoint.load(run.last)[1] if world.first and run.last.is_file() else card


def _identity(job: Job, card: Card) -> dict[str, Any]:
    """Return what decides the outcome of the training."""
    return {
        "recipe": card.recipe,
        "data": card.data.fingerprint if card.data else "",
        "split": job.split,
        "validation": job.validation,
        "classes": card.label_set.names,
        "init": _digest(job.init) if job.init else None,
        "teacher": [_digest(path) for path in job.teacher],
    }


@dataclass(frozen=True)
class SegmentationLoss:
    """The loss of a batch of labelled crops.

    Attributes:
        recipe: which losses.
        weights: float32 [classes], the weight of each class, or None.
        teachers: networks whose mean probabilities are the target of `recipe.distillation`.
        world: the processes that train together.
    """

    recipe: Recipe
    weights: Tensor | None = None
    teachers: Sequence[FastSCNN] = ()
    world: World = ALONE

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        phase = np.random.default_rng((self.recipe.seed, 2, step)).integers(0, 64, 2)
        device = self.world.device
        patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
        labels = torch.from_numpy(batch.labels).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = network(patches)
            with torch.no_grad():
                probabilities = [teacher(patches).float().softmax(1) for teacher in self.teachers]
        mean = torch.stack(probabilities).mean(0) if probabilities else None
        first = int(phase[0]), int(phase[1])
        return training_loss(logits, labels, self.recipe, self.weights, first, mean, self.world)


@dataclass(frozen=True)
class SegmentationTask:
    """The task of classifying every pixel; see `loop.Task`."""

    card: Card
    spec: DatasetSpec
    validation: str | None
    loader: Loader
    loss: SegmentationLoss
    world: World = ALONE
    score: str = "miou"

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self.loader.batches(start, stop)

    def validate(self, average: Backbone) -> dict[str, Any] | None:
        if self.validation is None:
            return None
        assert isinstance(average, FastSCNN)
        segmenter = Segmenter(TorchBackend(fused(average), self.card))
        own = self.spec.pairs(self.validation)[self.world.rank :: self.world.size]
        report = evaluate_pairs(segmenter, self.spec, own)
        report.confusion.matrix = self.world.sum(torch.from_numpy(report.confusion.matrix)).numpy()
        scores = report.to_dict()
        return {key: scores[key] for key in ("miou", "pixel_accuracy", "iou")}

    def save(self, path: Path, average: Backbone, metrics: dict[str, Any] | None) -> None:
        assert isinstance(average, FastSCNN)
        described = {self.validation: metrics} if self.validation and metrics else {}
        checkpoint.save(path, average, dataclasses.replace(self.card, metrics=described))


def _class_weights(recipe: Recipe, report: CheckReport, split: str, device: torch.device) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    if not isinstance(recipe.class_weights, str):
        if len(recipe.class_weights) != len(report.pixels[split.partition("+")[0]]):
            classes = len(report.pixels[split.partition("+")[0]])
            raise ArgumentError(f"class_weights: there are {len(recipe.class_weights)} weights, but the dataset has {classes} "
                                "classes.")
        return torch.tensor(recipe.class_weights, dtype=torch.float32, device=device)
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    return torch.tensor(1 / np.log(1.1 + pixels / pixels.sum()), dtype=torch.float32, device=device)


def _checked(spec: DatasetSpec, split: str, validation: str | None) -> CheckReport:
    """Return the report on the splits in use. Raise FastSCNNError with the first of its errors."""
    both = set(split.split("+")) & set((validation or "").split("+"))
    if both:
        raise FastSCNNError(f"validation: {both.pop()!r} is also a training split; use another one, or none.")
    if validation == "val" and "val" not in spec.splits:
        raise FastSCNNError(f"validation: {spec.name} has no split 'val'; use one of {', '.join(spec.splits)}, or none.")
    splits = [*split.split("+"), *(validation.split("+") if validation else ())]
    report = check(spec, splits, cache=files.cache("check"))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f" There are {len(errors) - 1} more errors." if len(errors) > 1 else ""
        raise FastSCNNError(f"{errors[0].message}{more} `fastscnn check` lists all problems.")
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    if not pixels.any():
        raise FastSCNNError(f"{spec.root}: every pixel of the split {split!r} is ignored; check the label files.")
    if not pixels.all():
        empty = ", ".join(name for name, count in zip(spec.label_set.names, pixels, strict=True) if not count)
        raise FastSCNNError(f"{spec.root}: the split {split!r} has no pixels of {empty}; add such images, or remove these "
                            "classes.")
    return report


def _teachers(recipe: Recipe, paths: Sequence[Path], card: Card, device: torch.device) -> list[FastSCNN]:
    if bool(paths) != bool(recipe.distillation):
        raise ArgumentError("distillation: a teacher needs a weight above 0, and the weight a teacher; give both --teacher and "
                            "--distillation.")
    return teachers(paths, card, device)


def _terms(spec: DatasetSpec, sources: Sequence[Path]) -> str:
    """Return the terms of use of the data, and of the data behind the initial weights and the teachers."""
    terms = [spec.terms]
    for path in sources:
        data = checkpoint.load_any(path)[1].data
        if data and data.terms not in terms:
            terms.append(data.terms)
    return "; and of earlier weights: ".join(terms)


def _digest(path: Path) -> str:
    """Return the sha256 of a weight file; "" if it cannot be read, which loading it reports."""
    return files.digest(path) if path.is_file() else ""
