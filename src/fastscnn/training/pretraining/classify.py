"""Pretraining of the backbone as an image classifier (ImageNet), and the evaluation of such a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data.class_folders import Picture
from fastscnn.data.datasets import ClassFolders
from fastscnn.model.card import Data
from fastscnn.network import checkpoint
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import Backbone, Classifier
from fastscnn.training import auto_batch
from fastscnn.training.auto_batch import Probe
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.initial import initial_state
from fastscnn.training.job import Job
from fastscnn.training.loader import Batch, loading_threads
from fastscnn.training.loop import enough_memory, loop
from fastscnn.training.pretraining.loader import ClassLoader, centres
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run

TOP = (1, 5)
# Fields of a recipe that need labelled pixels or the segmentation heads, with the values that switch them off.
_SEGMENTATION_ONLY = {
    "dropout": 0.0, "reparam_branches": False, "loss": "softmax", "auxiliary": 0.0, "class_weights": "none", "loss_stride": 1,
    "auxiliary_stride": 1, "ohem_ratio": 1.0, "ohem_threshold": 1.0, "distillation": 0.0, "soft_head": 0.0, "lovasz": 0.0,
    "cat_max_ratio": 1.0, "balanced_crops": 0.0, "classmix": 0.0, "paste": 0.0,
}


def train_classifier(job: Job, data: ClassFolders) -> ClassifierCard:
    """Train a classifier, whose weights `train.train` accepts as `init`; see `train.train`."""
    recipe, world = job.recipe, job.world
    shorter = _checked(recipe, data, job.split, job.validation)
    if job.init or job.teacher:
        raise ArgumentError("init and teacher: a classifier has neither; omit them.")
    pictures = data.pictures(job.split)
    held_out = data.pictures(job.validation) if job.validation else []
    fingerprint = data.fingerprint([*pictures, *held_out])
    if recipe.batch == "auto":
        probe = Probe(dataclasses.asdict(recipe), str(world.device), data.classes, processes=world.local_size)
        recipe = auto_batch.measured(job, len(pictures), probe)
        job = dataclasses.replace(job, recipe=recipe)
    card = ClassifierCard(
        data.classes, recipe.crop, shorter, recipe.variant, width_mult=recipe.width_mult,
        data=Data(data.name, job.split, len(pictures), data.terms, fingerprint), recipe=dataclasses.asdict(recipe),
    )  # fmt: skip
    identity = {
        "recipe": card.recipe,
        "data": fingerprint,
        "split": job.split,
        "validation": job.validation,
        "classes": data.classes,
    }
    torch.manual_seed(recipe.seed)
    model = Classifier(len(data.classes), variant=recipe.variant, width_mult=recipe.width_mult)
    state = initial_state(recipe, model, world.device)
    run = Run(job.out, identity, state, job.resume, world)
    note = (f"{data.root}: {len(pictures)} training images of {len(data.classes)} classes, {len(held_out)} to validate; "
            f"`fastscnn check {data.name}:{data.root}` lists images that cannot be read.")
    job.tell([note], run.resumed)

    with enough_memory(recipe, world):
        loader = ClassLoader(data, pictures, recipe, loading_threads(world), world)
        task = ClassificationTask(card, data, job.validation, held_out, loader, ClassLoss(recipe, world), world)
        loop(state, task, job, run, recipe.steps(len(pictures)))
    return checkpoint.load_classifier(run.last)[1] if world.first and run.last.is_file() else card


@dataclass(frozen=True)
class ClassLoss:
    """The loss of a batch of classified images: the mean cross-entropy."""

    recipe: Recipe
    world: World = ALONE

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        device = self.world.device
        patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
        classes = torch.from_numpy(batch.labels).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = network(patches)
        return F.cross_entropy(logits.float(), classes, label_smoothing=self.recipe.label_smoothing)


@dataclass(frozen=True)
class ClassificationTask:
    """The task of classifying an image; see `loop.Task`."""

    card: ClassifierCard
    data: ClassFolders
    validation: str | None
    held_out: Sequence[Picture]
    loader: ClassLoader
    loss: ClassLoss
    world: World = ALONE
    score: str = "top1"

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self.loader.batches(start, stop)

    def validate(self, average: Backbone) -> dict[str, Any] | None:
        if not self.held_out:
            return None
        own = self.held_out[self.world.rank :: self.world.size]
        hits = self.world.sum(torch.tensor(count_hits(average, self.card, self.data, own, threads=loading_threads(self.world))))
        return _percent(hits.tolist(), len(self.held_out))

    def save(self, path: Path, average: Backbone, metrics: dict[str, Any] | None) -> None:
        assert isinstance(average, Classifier)
        described = {self.validation: metrics} if self.validation and metrics else {}
        checkpoint.save_classifier(path, average, dataclasses.replace(self.card, metrics=described))


def evaluate(
    weights: Path, data: ClassFolders, split: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Evaluate a classifier on the centre crops of a split, as the validation of its training does.

    Args:
        weights: weight file of a classifier.
        data: the dataset, with the same classes.
        split: the split.
        progress: called with (images done, all images) after each batch.

    Returns:
        top1 and top5 in percent, the number of images, and weights_sha256, the hash of the file.

    Raises:
        FastSCNNError: a file or folder that cannot be read, or other classes than those of the weights.
    """
    model, card = checkpoint.load_classifier(weights)
    pictures = data.pictures(split)
    if card.classes != data.classes:
        raise FastSCNNError(f"{weights}: has {len(card.classes)} classes, which are not the {len(data.classes)} folders "
                            f"of {data.root}; use weights trained on those.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    hits = count_hits(model, card, data, pictures, progress)
    return {**_percent(hits, len(pictures)), "images": len(pictures), "weights_sha256": files.digest(weights)}


def count_hits(
    model: Backbone,
    card: ClassifierCard,
    data: ClassFolders,
    pictures: Sequence[Picture],
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> list[int]:
    """Return for each k of `TOP` how many images have their class among the k most probable ones.

    The model runs in float32 on its device. `threads` decode the images; default: all CPUs but one.
    """
    hits, done = [0] * len(TOP), 0
    for patches, classes in centres(data, pictures, card.shorter, card.size, threads or loading_threads()):
        with torch.inference_mode():
            logits = model(torch.from_numpy(patches).to(model.mean.device)).float().cpu()
        place = ranks(logits, torch.from_numpy(classes))
        hits = [hit + int((place < k).sum()) for hit, k in zip(hits, TOP, strict=True)]
        done += len(patches)
        if progress:
            progress(done, len(pictures))
    return hits


def ranks(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the rank of the true class, int64 [N], 0 for the most probable.

    Of equal logits, the class with the lower index ranks first. A true class with the logit NaN ranks last.

    Args:
        logits: [N, classes].
        classes: int64 [N].
    """
    own = logits.gather(1, classes[:, None])
    not_before = torch.arange(logits.shape[1])[None] >= classes[:, None]
    after = (logits < own) | ((logits == own) & not_before)  # including itself
    return (~after).sum(1)


def _percent(hits: Sequence[int], images: int) -> dict[str, Any]:
    return {f"top{k}": 100 * hit / images for k, hit in zip(TOP, hits, strict=True)}


def _checked(recipe: Recipe, data: ClassFolders, split: str, validation: str | None) -> int:
    """Return the shorter side of an image before the crop. Raise an error if the recipe cannot train a classifier."""
    if unused := [field for field, off in _SEGMENTATION_ONLY.items() if getattr(recipe, field) != off]:
        raise ArgumentError(f"{', '.join(unused)}: a classifier does not use this; omit what changes {recipe.name!r} there.")
    if validation == "val" and not (data.root / validation).is_dir():
        raise FastSCNNError(f"validation: {data.root} has no folder 'val'; add one, or use none.")
    if split == validation:
        raise ArgumentError(f"validation: {split!r} is also the training split; use another one, or none.")
    height, width = recipe.size or (0, 0)
    if height != width or max(recipe.crop) > height * min(1.0, recipe.scale[0]):
        raise ArgumentError("size: for a classifier, height and width are equal and at least the crop at the smallest scale; "
                            f"size is {recipe.size}, crop {recipe.crop}, scale {recipe.scale}.")
    return height
