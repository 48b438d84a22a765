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
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import Float64Array, Int64Array
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.mixture import Mixture
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.architecture import congruent
from fastscnn.model.card import Card, Data
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone, FastSCNN, fused
from fastscnn.training import auto_batch
from fastscnn.training.auto_batch import Probe
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.initial import initial, teachers
from fastscnn.training.job import Job
from fastscnn.training.loader import CACHE_BYTES, Batch, Loader, loading_threads
from fastscnn.training.loop import enough_memory, loop
from fastscnn.training.loss import training_loss
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run
from fastscnn.training.training_data import TrainingData, checked

_EARLIER = "; and of earlier weights: "  # between the terms of the data and those of the initial weights


def train_segmentation(job: Job, mixture: Mixture) -> Card:
    """Train Fast-SCNN on datasets with a class per pixel; see `train.train`."""
    recipe, world, spec = job.recipe, job.world, mixture.first
    with world.one_first():
        data = checked(mixture, job.split, job.validation)
    size = recipe.size or _shape(data.pairs[0][0])
    earlier = [*([job.init] if job.init else []), *job.teacher]
    card = Card(
        spec.label_set,
        size,
        recipe.variant,
        spec.channels,
        recipe.width_mult,
        data=Data(mixture.name, data.split, sum(data.images), _terms(data.terms, earlier), data.fingerprint),
    )
    _check_distillation(recipe, data, job.teacher)
    to_classes = data.soft_to_classes
    state, notes = initial(recipe, card, world.device, job.init, 0 if to_classes is None else len(to_classes))
    learned_from = teachers(job.teacher, card, world.device)
    if recipe.batch == "auto":
        recipe = auto_batch.measured(job, sum(data.images), _probe(job, card, data))
        job = dataclasses.replace(job, recipe=recipe)
    card = dataclasses.replace(card, recipe=dataclasses.asdict(recipe))
    identity = _identity(job, card) | data.identity(with_soft=recipe.learns_soft_labels)
    run = Run(job.out, identity, state, job.resume, world)
    job.tell((*notes, *_crop_note(recipe.crop, size), *_soft_notes(recipe, data), *data.messages()), run.resumed)

    with enough_memory(recipe, world):
        sized = dataclasses.replace(recipe, size=size)
        loader = Loader(mixture, data.pairs, sized, loading_threads(world), world)
        weights = _class_weights(recipe, data.expected_pixels, world.device)
        summed = None if to_classes is None else torch.from_numpy(to_classes).to(world.device)
        loss = SegmentationLoss(recipe, weights, learned_from, world, summed)
        task = SegmentationTask(card, spec, job.validation, loader, loss, world)
        loop(state, task, job, run, recipe.steps(sum(data.images)))
    return checkpoint.load(run.last)[1] if world.first and run.last.is_file() else card


def _shape(pair: Pair) -> tuple[int, int]:
    """Return (height, width) of an image."""
    return pair.box.shape if pair.box else images.size(pair.image)


def _probe(job: Job, card: Card, data: TrainingData) -> Probe:
    """Return what the trial steps of the batch "auto" need."""
    recipe, to_classes = job.recipe, data.soft_to_classes
    height, width = _shape(data.pairs[0][0])  # of every image, it is assumed
    decoded = sum(data.images) * height * width * (card.channels + 1)
    return Probe(
        dataclasses.asdict(recipe),
        str(job.world.device),
        card.label_set.names,
        card.channels,
        len(to_classes) if to_classes is not None and recipe.learns_soft_labels else 0,
        any(member.not_annotated for member in data.mixture.members),
        tuple(str(path) for path in job.teacher),
        min(CACHE_BYTES, decoded),
        job.world.local_size,
    )


def _identity(job: Job, card: Card) -> dict[str, Any]:
    """Return what decides the outcome of the training."""
    return {
        "recipe": card.recipe,
        "data": card.data.fingerprint if card.data else "",
        "split": job.split,
        "validation": job.validation,
        "classes": card.label_set.names,
        "init": weights_digest(job.init) if job.init else None,
        "teacher": [weights_digest(path) for path in job.teacher],
    }


@dataclass(frozen=True)
class SegmentationLoss:
    """The loss of a batch of labelled crops.

    Attributes:
        recipe: which losses.
        weights: float32 [classes], the weight of each class, or None.
        teachers: networks whose mean probabilities are the target of `recipe.distillation`.
        world: the processes that train together.
        soft_to_classes: float32 [soft classes, classes], which sums soft labels into classes; None without soft labels.
    """

    recipe: Recipe
    weights: Tensor | None = None
    teachers: Sequence[FastSCNN] = ()
    world: World = ALONE
    soft_to_classes: Tensor | None = None

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
        annotated = None if batch.annotated is None else torch.from_numpy(batch.annotated).to(device)
        soft = None
        if batch.soft is not None and self.soft_to_classes is not None:
            soft = torch.from_numpy(batch.soft).to(device), self.soft_to_classes
        return training_loss(logits, labels, self.recipe, self.weights, first, mean, self.world, annotated, soft)


@dataclass(frozen=True)
class SegmentationTask:
    """The task of classifying every pixel, validated on `spec`; see `loop.Task`."""

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
        described = {self.validation: {**metrics, "dataset": self.spec.name}} if self.validation and metrics else {}
        checkpoint.save(path, average, dataclasses.replace(self.card, metrics=described))


def _class_weights(recipe: Recipe, pixels: Int64Array | Float64Array, device: torch.device) -> Tensor | None:
    """Return the weight of each class, from the pixels of each class in an epoch."""
    if recipe.class_weights == "none":
        return None
    if not isinstance(recipe.class_weights, str):
        if len(recipe.class_weights) != len(pixels):
            raise ArgumentError(f"class_weights: there are {len(recipe.class_weights)} weights, but the dataset has "
                                f"{len(pixels)} classes.")
        return torch.tensor(recipe.class_weights, dtype=torch.float32, device=device)
    weights = 1 / np.log(1.1 + pixels / pixels.sum())
    weights[pixels == 0] = weights.min()  # the largest otherwise, which would count in label smoothing and the sigmoid loss
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _crop_note(crop: tuple[int, int], size: tuple[int, int]) -> Iterator[str]:
    """Yield a note if crops teach another offset between 1/8 and 1/32 than inference has; see `architecture.congruent`."""
    fitting = congruent(crop[0], size[0]), congruent(crop[1], size[1])
    if fitting != crop:
        yield (f"The crop {hxw(crop)} and the input size {hxw(size)} differ modulo 32, which costs about a point of mIoU; "
               f"--crop {hxw(fitting)} fits (docs/accuracy.md).")


def _check_distillation(recipe: Recipe, data: TrainingData, paths: Sequence[Path]) -> None:
    """Check that what the recipe learns from a teacher exists, and that teachers are used."""
    to_classes, split = data.soft_to_classes, data.split
    if recipe.soft_head and to_classes is None:
        raise ArgumentError(f'soft_head: the training images ({split}) have no soft labels; add soft = "soft/{{stem}}.npz" to '
                            "their split in dataset.toml, or set it to 0.")
    if recipe.distillation and not paths and to_classes is None:
        raise ArgumentError("distillation: needs a teacher; give --teacher, or add soft labels to the training images "
                            f"({split}).")
    if recipe.distillation and to_classes is not None and np.count_nonzero(to_classes.any(axis=0)) < 2:
        raise ArgumentError("distillation: fewer than two classes of the dataset have a soft class, so the main head learns "
                            "nothing; complete map in [soft] of its dataset.toml, or use soft_head.")
    if paths and not recipe.distillation:
        raise ArgumentError("distillation: is 0, so the teachers would not be used; set it above 0, or omit --teacher.")


def _soft_notes(recipe: Recipe, data: TrainingData) -> Iterator[str]:
    """Yield what soft labels are not used for."""
    soft, to_classes = data.mixture.soft, data.soft_to_classes
    if soft is None or to_classes is None:
        return
    if not recipe.learns_soft_labels:
        yield "The soft labels of the data are not used; set distillation or soft_head above 0 to learn from them."
        return
    if (without := sum(data.images) - data.soft_images):
        yield f"{without} of {sum(data.images)} training images have no soft labels."
    left_out = [name for name, targets in zip(soft.classes, to_classes, strict=True) if not targets.any()]
    if recipe.distillation and left_out:
        yield f"The main head does not learn the soft classes {', '.join(left_out)}, which [soft.map] maps to no class."


def _terms(own: str, sources: Sequence[Path]) -> str:
    """Return the terms of use of the data, and of the data behind the initial weights and the teachers, each once."""
    terms = [own]
    for path in sources:
        data = checkpoint.load_any(path)[1].data
        terms += data.terms.split(_EARLIER) if data else []
    return _EARLIER.join(dict.fromkeys(terms))


def weights_digest(path: Path) -> str:
    """Return the sha256 of a weight file; "" if it cannot be read, which loading it reports."""
    return files.digest(path) if path.is_file() else ""
