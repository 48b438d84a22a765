"""train: train on a dataset by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import TrackerName
from fastscnn.data import mixture
from fastscnn.data.datasets import ClassFolders
from fastscnn.data.mixture import Mixture, SourceLike
from fastscnn.hub.download import weight_file
from fastscnn.model.card import Card
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.training.callbacks import Callback, HtmlReport
from fastscnn.training.distributed import join
from fastscnn.training.job import Job, Progress
from fastscnn.training.loop import keep_freed_memory
from fastscnn.training.pretraining.classify import train_classifier
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.run_lock import held
from fastscnn.training.segmentation import train_segmentation
from fastscnn.training.tracking import trackers


def train(
    recipe: str | Recipe,
    data: SourceLike | ClassFolders | Mixture | Sequence[SourceLike],
    out: str | Path,
    *,
    split: str = "train",
    validation: str | None = "val",
    resume: bool = False,
    pause_after: int | None = None,
    patience: int | None = None,
    init: str | Path | None = None,
    teacher: Sequence[str | Path] = (),
    track: Sequence[TrackerName] = (),
    callbacks: Sequence[Callback] = (),
    on_step: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Card | ClassifierCard:
    """Train Fast-SCNN, or pretrain its backbone with the recipe "imagenet", and save the weights in a folder.

    The folder then contains best.safetensors and last.safetensors, the weights; resume.safetensors, the state;
    log.jsonl and report.html, losses and validation scores; run.json, the recipe and the machine.

    A resumed training takes the same steps as an uninterrupted one: order, augmentation and dropout depend only on the seed
    and the step. On a CPU, the weights are equal bit for bit. On CUDA they are not, because sums have no fixed order.

    Under torchrun, every process calls this function with the same arguments and gets its part of each batch. Only process 0
    writes files and calls `on_step` and `on_message`. See docs/cluster.md.

    Args:
        recipe: name of a recipe, such as "camvid", or a `Recipe`. Its batch "auto" is the number of images that fits into the
            memory, measured before the first step; see `training.auto_batch`.
        data: "NAME:ROOT", the path of a dataset.toml or of its folder, or a loaded dataset; see `load_dataset`. The recipe
            "imagenet" needs "imagenet:ROOT". Or several of them, or the path of a mixture file: the classes of the first are
            trained, and each further dataset needs classes of the same names or a class map; see `data.mixture`.
        out: folder of the run. `~` is expanded in all paths.
        split: split to train on, or several joined by `+`; of each dataset whose `Source` names none.
        validation: split of the first dataset whose score (mIoU, top-1) chooses the best weights; None keeps the last weights
            as the best.
        resume: continue the run in `out`; start it if nothing was saved yet.
        pause_after: stop after this many steps and save the state.
        patience: stop after this many validations in a row whose score is not above the best one; the learning rate falls as if
            all steps were taken. None: take all steps. It may differ when a run is resumed.
        init: a .safetensors file to start from, or its address on the hub (`hub.download.weight_file`). If its classes differ,
            the last layer is replaced.
        teacher: .safetensors files, or their addresses, whose mean probabilities are the target of `recipe.distillation`.
        track: also record losses and scores in these experiment trackers: "tensorboard", "mlflow" or "wandb". Each needs the
            extra of its name. A resumed run continues in the same place; see docs/tracking.md.
        callbacks: called at each validation, after it is saved; see `training.callbacks`. An exception stops the training.
        on_step: called after every step.
        on_message: called with messages about `init`, the data and the batch "auto" before the first step, and once if a
            tracker fails.

    Returns:
        The card of the last saved weights. It has no metrics if the training stopped before its first validation, and in
        all processes but the first.

    Raises:
        FastSCNNError: faulty data, training pixels of fewer than two classes, `init` or `teacher` does not fit, `out` already
            contains a run or is in use by another training, other settings than those of the run to resume, a loss that is
            not finite, too little memory, a batch that cannot be split among the processes, or another process ended.
        ArgumentError: an unknown recipe or tracker, or a recipe for another kind of dataset. It is also a ValueError.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the state is saved.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import fastscnn
        >>> from fastscnn.data import synthetic
        >>> from fastscnn.media import images
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = Path(folder)
        ...     for number in range(9):
        ...         split = "train" if number < 6 else "val"
        ...         scene = synthetic.draw(96, 128, number)
        ...         images.write(root / split / f"{number}.png", scene.image)
        ...         images.write(root / f"{split}_labels" / f"{number}.png", scene.labels)
        ...     _ = (root / "dataset.toml").write_text(
        ...         f'name = "scenes"\\n'
        ...         f'classes = {list(synthetic.CLASSES)}\\n'
        ...         '[splits.train]\\n'
        ...         'images = "train/*.png"\\n'
        ...         'labels = "train_labels/{stem}.png"\\n'
        ...         '[splits.val]\\n'
        ...         'images = "val/*.png"\\n'
        ...         'labels = "val_labels/{stem}.png"\\n'
        ...     )
        ...     card = fastscnn.train("debug", root, root / "run")
        ...     (root / "run" / "best.safetensors").is_file()
        True
        >>> sorted(card.metrics["val"])
        ['dataset', 'iou', 'miou', 'pixel_accuracy']
    """
    if pause_after is not None and pause_after < 1:
        raise ArgumentError(f"pause_after: must be at least 1, not {pause_after}.")
    if patience is not None and patience < 1:
        raise ArgumentError(f"patience: must be at least 1, not {patience}.")
    if patience is not None and validation is None:
        raise ArgumentError("patience: counts validations, and there are none; give a validation split, or omit it.")
    trackers.check(track)
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    dataset = mixture.load_any(data)
    out = files.expand(out)
    callbacks = [HtmlReport(out), *callbacks]
    with join() as world:
        if world.first:
            callbacks += trackers.records(track, out, on_message)
        if recipe.batch != "auto":
            world.part(recipe.images_per_step)  # raises before any work if the batch cannot be split
        keep_freed_memory()
        weights = weight_file(init, "torch") if init else None
        teachers = [weight_file(path, "torch") for path in teacher]
        job = Job(recipe, out, split, validation, resume, pause_after, patience, weights, teachers, callbacks, on_step,
                  on_message, world)
        if world.max_restarts and not resume:
            job.say("torchrun restarts this training after a failure, but a restarted one is refused without --resume; add it, "
                    "also to the first start.")
        if isinstance(dataset, ClassFolders):
            if recipe.task != "classification":
                raise ArgumentError(f"{dataset.name}: has a class per image, but the recipe {recipe.name!r} needs a class per "
                                    "pixel; use the recipe 'imagenet', or another dataset.")
            with held(out, world, job.say):
                return train_classifier(job, dataset)
        if recipe.task != "segmentation":
            raise ArgumentError(f"{dataset.name}: has a class per pixel, but the recipe {recipe.name!r} needs a class per "
                                "image; use another recipe, or imagenet:ROOT.")
        with held(out, world, job.say):
            return train_segmentation(job, dataset)
