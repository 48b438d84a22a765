"""train: a recipe and a dataset make weights. The loop is `loop`'s, what is kept on disk `run`'s."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn.backends.torch import TorchBackend
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.card import Card, Data
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone, FastSCNN, fused
from fastscnn.training import distributed, track
from fastscnn.training.initial import initial, teachers
from fastscnn.training.loader import Batch, Loader, loading_threads
from fastscnn.training.loop import Progress, enough_memory, keep_freed_memory, loop
from fastscnn.training.loss import training_loss
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import Run


@distributed.joined()
def train(
    recipe: Recipe,
    spec: DatasetSpec,
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
) -> Card:
    """Trains Fast-SCNN and keeps its weights in `out`.

    On one machine, a training that was interrupted and resumed sees the same steps as one that was not: the order,
    the augmentation and the dropout of a step depend on the seed and the step alone. On the CPU it gives the same
    weights, bit for bit; CUDA adds up in no fixed order.

    Under torchrun every process calls it with the same arguments and takes its part of each batch; the first writes
    `out`, and alone calls `on_step` and `on_message`. See docs/cluster.md.

    Args:
        recipe: how to train.
        spec: the dataset.
        out: folder of the run.
        split: what to train on; several splits joined by `+`.
        validation: the split that chooses the best weights; None: the last are the best.
        resume: go on where the run in `out` stopped.
        pause_after: stop after this many steps as an interruption would, state saved.
        init: a .safetensors file whose weights to go on from, but for the last layer where the classes differ.
        teacher: .safetensors files of the networks whose mean probabilities `recipe.distillation` follows.
        tensorboard: keep the curves for TensorBoard, too, in a folder of that name.
        on_step: called after every step.
        on_message: called with what is worth knowing before the first step, in sentences.

    Returns:
        The card of the last weights that were saved; one without metrics where it stopped before the first were, and in
        all processes but the first.

    Raises:
        FastSCNNError: faulty data, a class without pixels, weights in `init` or `teacher` that do not fit, a run already
            in `out`, another recipe or data than the run to resume, a loss that is no longer finite, too little memory,
            a batch that cannot be split among the processes, or the end of one of them.
        KeyboardInterrupt: on Ctrl-C, after the state is saved.
    """
    if pause_after is not None and pause_after < 1:
        raise FastSCNNError(f"pause_after: must be at least 1, not {pause_after}.")
    if tensorboard:
        track.check()
    if recipe.task != "segmentation":
        raise FastSCNNError(f"{spec.name}: has a class for each pixel, and the recipe {recipe.name!r} learns one for each "
                            "image; train by another recipe, or on imagenet:ROOT.")
    distributed.part(recipe.batch)  # refused before any work where it cannot be split
    with distributed.one_first():
        report = _checked(spec, split, validation)
    pairs, device = spec.pairs(split), distributed.device()
    keep_freed_memory()
    size = recipe.size or images.size(pairs[0].image)
    card = Card(
        spec.label_set,
        size,
        recipe.variant,
        spec.channels,
        recipe.width_mult,
        data=Data(spec.name, split, len(pairs), _terms(spec, [*([init] if init else []), *teacher]), report.fingerprint),
        recipe=dataclasses.asdict(recipe),
    )
    identity: dict[str, Any] = {"recipe": card.recipe, "data": report.fingerprint, "split": split, "validation": validation}
    identity["classes"] = spec.label_set.names
    identity["init"], identity["teacher"] = _digest(init) if init else None, [_digest(path) for path in teacher]
    state, notes = initial(recipe, card, device, init)
    learned_from = _teachers(recipe, teacher, card, device)
    if on_message and not resume and distributed.first():
        for note in notes:
            on_message(note)
    run = Run(out, identity, state, resume, tensorboard)

    with enough_memory(recipe):
        loader = Loader(spec, pairs, dataclasses.replace(recipe, size=size), loading_threads())
        loss = LabelLoss(recipe, _class_weights(recipe, report, split, device), learned_from)
        task = _Labelling(card, spec, validation, loader, loss)
        loop(state, task, recipe, run, recipe.steps(len(pairs)), pause_after, on_step)
    return checkpoint.load(run.last)[1] if distributed.first() and run.last.is_file() else card


@dataclass(frozen=True)
class LabelLoss:
    """What a step on a batch of labelled patches minimises.

    Attributes:
        recipe: which losses.
        weights: float32 [classes], the weight of each class, or None.
        teachers: networks whose mean probabilities `recipe.distillation` follows.
    """

    recipe: Recipe
    weights: Tensor | None = None
    teachers: Sequence[FastSCNN] = ()

    def __call__(self, model: Backbone, batch: Batch, step: int) -> Tensor:
        phase = np.random.default_rng((self.recipe.seed, 2, step)).integers(0, 64, 2)
        device = model.mean.device
        patches = torch.from_numpy(batch.images).to(device, non_blocking=True)
        labels = torch.from_numpy(batch.labels).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = model(patches)
            with torch.no_grad():
                taught = [teacher(patches).float().softmax(1) for teacher in self.teachers]
        mean = torch.stack(taught).mean(0) if taught else None
        return training_loss(logits, labels, self.recipe, self.weights, (int(phase[0]), int(phase[1])), mean)


@dataclass(frozen=True)
class _Labelling:
    """The task of labelling every pixel."""

    card: Card
    spec: DatasetSpec
    validation: str | None
    loader: Loader
    loss: LabelLoss
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
        own = self.spec.pairs(self.validation)[distributed.rank() :: distributed.size()]
        report = evaluate_pairs(segmenter, self.spec, own)
        report.confusion.matrix = distributed.total(torch.from_numpy(report.confusion.matrix)).numpy()
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
            raise FastSCNNError(f"class_weights: {len(recipe.class_weights)} are given, but the data have {classes} classes.")
        return torch.tensor(recipe.class_weights, dtype=torch.float32, device=device)
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    return torch.tensor(1 / np.log(1.1 + pixels / pixels.sum()), dtype=torch.float32, device=device)


def _checked(spec: DatasetSpec, split: str, validation: str | None) -> CheckReport:
    """The report on the splits in use. Raises FastSCNNError with the first of its errors."""
    both = set(split.split("+")) & set((validation or "").split("+"))
    if both:
        raise FastSCNNError(f"validation: {both.pop()!r} is trained on, so it chooses nothing; take another split, or none.")
    if validation == "val" and "val" not in spec.splits:
        raise FastSCNNError(f"validation: {spec.name} has no split 'val'; name one of {', '.join(spec.splits)}, or say none.")
    splits = [*split.split("+"), *(validation.split("+") if validation else ())]
    report = check(spec, splits, cache=files.cache("check"))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f" There are {len(errors) - 1} more errors." if len(errors) > 1 else ""
        raise FastSCNNError(f"{errors[0].message}{more} `fastscnn check` lists all that is wrong.")
    pixels = np.sum([report.pixels[name] for name in split.split("+")], axis=0)
    if not pixels.any():
        raise FastSCNNError(f"{spec.root}: every pixel of the split {split!r} is ignored; there is nothing to learn.")
    if not pixels.all():
        empty = ", ".join(name for name, count in zip(spec.label_set.names, pixels, strict=True) if not count)
        raise FastSCNNError(f"{spec.root}: no pixel of the split {split!r} is labelled {empty}, so that cannot be learned; "
                            "add such images, or take it out of the classes.")
    return report


def _teachers(recipe: Recipe, paths: Sequence[Path], card: Card, device: torch.device) -> list[FastSCNN]:
    if bool(paths) != bool(recipe.distillation):
        raise FastSCNNError("distillation: a teacher and a weight over 0 go together; give both --teacher and --distillation.")
    return teachers(paths, card, device)


def _terms(spec: DatasetSpec, sources: Sequence[Path]) -> str:
    """The terms of the data, and those of the data behind the weights that the training begins with or learns from."""
    terms = [spec.terms]
    for path in sources:
        data = checkpoint.load_any(path)[1].data
        if data and data.terms not in terms:
            terms.append(data.terms)
    return "; and of earlier weights: ".join(terms)


def _digest(path: Path) -> str:
    """sha256 of a weight file, so that a run is resumed with the same; "" where it cannot be read, which is said later."""
    return files.digest(path) if path.is_file() else ""
