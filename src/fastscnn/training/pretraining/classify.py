"""classify: pretraining on ImageNet. The loop is `loop`'s, as in `train`; what it learns is one class for each image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.class_folders import Picture
from fastscnn.data.datasets import ClassFolders
from fastscnn.model.card import Data
from fastscnn.network import checkpoint
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import Backbone, Classifier
from fastscnn.training import distributed, track
from fastscnn.training.initial import initial_state
from fastscnn.training.loader import Batch, loading_threads
from fastscnn.training.loop import Progress, enough_memory, keep_freed_memory, loop
from fastscnn.training.pretraining.loader import ClassLoader, centres
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run

TOP = (1, 5)
# What acts on the pixels of labels, on the heads of labelling or on its data, and what stands in a recipe without it.
_OF_PIXELS = {
    "dropout": 0.0, "reparam_branches": False, "loss": "softmax", "auxiliary": 0.0, "class_weights": "none", "loss_stride": 1,
    "auxiliary_stride": 1, "ohem_ratio": 1.0, "ohem_threshold": 1.0, "distillation": 0.0, "lovasz": 0.0,
    "cat_max_ratio": 1.0, "balanced_crops": 0.0, "classmix": 0.0, "paste": 0.0,
}


@distributed.joined()
def train(
    recipe: Recipe,
    data: ClassFolders,
    out: Path,
    *,
    split: str = "train",
    validation: str | None = "val",
    resume: bool = False,
    pause_after: int | None = None,
    init: Path | None = None,
    teacher: Sequence[Path] = (),
    tensorboard: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> ClassifierCard:
    """Trains a classifier of images and keeps its weights in `out`, which `train.train` takes as `init`.

    As `train.train` it is resumed to the same weights, on a CPU bit for bit.

    Args:
        recipe: how to train; its task is classification.
        data: the dataset.
        out: folder of the run.
        split: what to train on.
        validation: the split whose top-1 chooses the best weights; None: the last are the best.
        resume: go on where the run in `out` stopped.
        pause_after: stop after this many steps as an interruption would, state saved.
        init, teacher: as `train.train` takes them, but a classifier has neither.
        tensorboard: as `train.train` takes it.
        on_step: called after every step.
        on_message: called with what is worth knowing before the first step.

    Returns:
        The card of the last weights that were saved; one without metrics where it stopped before the first were.

    Raises:
        FastSCNNError: another recipe's task, a setting that acts on labels of pixels, folders that are not in the layout,
            an image that cannot be read, a run already in `out`, another recipe or data than the run to resume, a loss
            that is no longer finite, or too little memory.
        KeyboardInterrupt: on Ctrl-C, after the state is saved.
    """
    if pause_after is not None and pause_after < 1:
        raise FastSCNNError(f"pause_after: must be at least 1, not {pause_after}.")
    if tensorboard:
        track.check()
    shorter = _checked(recipe, data, split, validation)
    if init or teacher:
        raise FastSCNNError("init and teacher: a classifier begins anew and learns from labels alone; leave them out.")
    pictures = data.pictures(split)
    held_out = data.pictures(validation) if validation else []
    fingerprint = data.fingerprint([*pictures, *held_out])
    device = distributed.device()
    keep_freed_memory()
    card = ClassifierCard(
        data.classes, recipe.crop, shorter, recipe.variant, width_mult=recipe.width_mult,
        data=Data(data.name, split, len(pictures), data.terms, fingerprint), recipe=dataclasses.asdict(recipe),
    )
    identity = {"recipe": card.recipe, "data": fingerprint, "split": split, "validation": validation, "classes": data.classes}
    torch.manual_seed(recipe.seed)
    state = initial_state(recipe, Classifier(len(data.classes), variant=recipe.variant, width_mult=recipe.width_mult), device)
    run = Run(out, identity, state, resume, tensorboard)
    if on_message and not resume and distributed.first():
        on_message(f"{data.root}: {len(pictures)} images of {len(data.classes)} classes to train on and {len(held_out)} to "
                   f"validate; `fastscnn check {data.name}:{data.root}` says beforehand which of them cannot be read.")

    with enough_memory(recipe):
        loader = ClassLoader(data, pictures, recipe, loading_threads())
        task = _Classifying(card, data, validation, held_out, loader, ClassLoss(recipe))
        loop(state, task, recipe, run, recipe.steps(len(pictures)), pause_after, on_step)
    return checkpoint.load_classifier(run.last)[1] if distributed.first() and run.last.is_file() else card


@dataclass(frozen=True)
class ClassLoss:
    """What a step on a batch of classified images minimises: the mean cross-entropy, this process's share of it."""

    recipe: Recipe

    def __call__(self, model: Backbone, batch: Batch, step: int) -> Tensor:
        device = model.mean.device
        patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
        classes = torch.from_numpy(batch.labels).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = model(patches)
        mean = F.cross_entropy(logits.float(), classes, label_smoothing=self.recipe.label_smoothing)
        return mean / distributed.size()


@dataclass(frozen=True)
class _Classifying:
    """The task of naming the class of an image."""

    card: ClassifierCard
    data: ClassFolders
    validation: str | None
    held_out: Sequence[Picture]
    loader: ClassLoader
    loss: ClassLoss
    score: str = "top1"

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self.loader.batches(start, stop)

    def validate(self, average: Backbone) -> dict[str, Any] | None:
        if not self.held_out:
            return None
        mine = self.held_out[distributed.rank() :: distributed.size()]
        hits = distributed.total(torch.tensor(count_hits(average, self.card, self.data, mine)))
        return _percent(hits.tolist(), len(self.held_out))

    def save(self, path: Path, average: Backbone, metrics: dict[str, Any] | None) -> None:
        assert isinstance(average, Classifier)
        described = {self.validation: metrics} if self.validation and metrics else {}
        checkpoint.save_classifier(path, average, dataclasses.replace(self.card, metrics=described))


def evaluate(
    weights: Path, data: ClassFolders, split: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Figures of a classifier's weight file on a split: top1 and top5 in percent, images, and weights_sha256 of the file.

    Of each image the middle counts, as in the validation of its training.

    Args:
        progress: called with (images done, images in all) after each batch.

    Raises:
        FastSCNNError: what is wrong with the file or the folders, or classes that are not the file's.
    """
    model, card = checkpoint.load_classifier(weights)
    pictures = data.pictures(split)
    if card.classes != data.classes:
        raise FastSCNNError(f"{weights}: knows {len(card.classes)} classes, which are not the {len(data.classes)} folders "
                            f"of {data.root}; take weights that were trained on those.")
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
) -> list[int]:
    """For each k of `TOP`, how many images have their class among the k likeliest; in float32, on the model's device."""
    hits, done = [0] * len(TOP), 0
    for patches, classes in centres(data, pictures, card.shorter, card.size, loading_threads()):
        with torch.inference_mode():
            logits = model(torch.from_numpy(patches).to(model.mean.device)).float().cpu()
        place = ranks(logits, torch.from_numpy(classes))
        hits = [hit + int((place < k).sum()) for hit, k in zip(hits, TOP, strict=True)]
        done += len(patches)
        if progress:
            progress(done, len(pictures))
    return hits


def ranks(logits: Tensor, classes: Tensor) -> Tensor:
    """The place of the true class among all, int64 [N], 0 for the likeliest.

    Of equal logits the class that comes first is the likelier; where the true class's is NaN, it comes last.

    Args:
        logits: [N, classes].
        classes: int64 [N].
    """
    own = logits.gather(1, classes[:, None])
    later = torch.arange(logits.shape[1])[None] >= classes[:, None]
    behind = (logits < own) | ((logits == own) & later)  # itself included
    return (~behind).sum(1)



def _percent(hits: Sequence[int], images: int) -> dict[str, Any]:
    return {f"top{k}": 100 * hit / images for k, hit in zip(TOP, hits, strict=True)}


def _checked(recipe: Recipe, data: ClassFolders, split: str, validation: str | None) -> int:
    """What the shorter side of an image is resized to. Raises FastSCNNError where the recipe cannot train a classifier."""
    if recipe.task != "classification":
        raise FastSCNNError(f"{data.name}: has a class for each image, and the recipe {recipe.name!r} learns one for each "
                            "pixel; train by the recipe 'imagenet', or on another dataset.")
    if meant := [field for field, without in _OF_PIXELS.items() if getattr(recipe, field) != without]:
        raise FastSCNNError(f"{', '.join(meant)}: acts on no classifier; leave out what changes {recipe.name!r} there.")
    if validation == "val" and not (data.root / validation).is_dir():
        raise FastSCNNError(f"validation: {data.root} has no folder 'val'; add one, or say none.")
    if split == validation:
        raise FastSCNNError(f"validation: {split!r} is trained on, so it chooses nothing; take another split, or none.")
    height, width = recipe.size or (0, 0)
    if height != width or max(recipe.crop) > height * min(1.0, recipe.scale[0]):
        raise FastSCNNError("size: of a classifier is the shorter side of its images, twice the same number, and holds crop at "
                            f"the smallest scale; it is {recipe.size}, crop {recipe.crop} and scale {recipe.scale}.")
    distributed.part(recipe.batch)  # refused before any work where it cannot be split
    return height
