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
    for note in (*notes, *_crop_note(recipe.crop, size), *_soft_notes(recipe, data), *data.messages()):
        job.tell(note)
    if recipe.batch == "auto":
        recipe = auto_batch.measured(job, sum(data.images), _probe(job, card, data))
        job = dataclasses.replace(job, recipe=recipe)
    card = dataclasses.replace(card, recipe=dataclasses.asdict(recipe))
    identity = _identity(job, card) | data.identity(with_soft=bool(recipe.distillation or recipe.soft_head))
    run = Run(job.out, identity, state, job.resume, world)

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
