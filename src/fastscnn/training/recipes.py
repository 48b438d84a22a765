"""Recipes: the hyperparameters of a training, and the named sets of them. This module needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.model.architecture import VariantName
from fastscnn.model.card import RENAMED_RECIPE_FIELDS
from fastscnn.training import recipe_fields


@dataclass(frozen=True)
class Recipe:
    """How to train. Each field but the first three is an option of `fastscnn train`, and its docstring is the help.

    Raises:
        ArgumentError: a value of the wrong type or out of bounds, or two values that exclude each other.
    """

    name: str
    """Name of the recipe, kept in the model card."""
    source: str
    """Origin of the values."""
    task: Literal["segmentation", "classification"] = "segmentation"
    """segmentation: a class for each pixel; classification: a class for each image (ImageNet)."""

    variant: VariantName = "paper"
    """Network variant: the paper's, or that of another implementation."""
    width_mult: float = 1.0
    """Factor of the number of channels; 1 is the paper's network."""
    reparam_branches: bool = False
    """Train a second branch beside each depthwise convolution; it is fused when weights are saved."""
    dropout: float = 0.1
    """Dropout rate before the last layer."""
    norm_momentum: float = 0.1
    """Momentum of the running statistics of batch norm."""
    size: tuple[int, int] | None = None
    """Network input size, HxW, in validation and inference; none: the size of the first training image. For a classifier: the
    shorter side of the resized image, given twice."""

    batch: int | Literal["auto"] = 12
    """Images per step, over all processes; auto: the largest power of two for each process that fits into its memory."""
    epochs: int = 1000
    """Passes over the training images."""
    iterations: int | None = None
    """Number of steps, instead of epochs."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """sgd: SGD with L2 regularisation; adamw: AdamW with decoupled weight decay."""
    lr: float = 0.045
    """Initial learning rate, after the warm-up."""
    min_lr: float = 0.0
    """Final learning rate."""
    power: float = 0.9
    """Exponent of the polynomial learning rate decay."""
    warmup: int = 0
    """Steps of linear warm-up of the learning rate."""
    momentum: float = 0.9
    """Momentum of SGD; beta1 of AdamW."""
    weight_decay: float = 4e-5
    """Strength of the weight decay."""
    weight_decay_on: Literal["dense", "all"] = "dense"
    """Parameters with weight decay. all: every one; dense: all but the kernels of depthwise convolutions."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: cross-entropy over the classes; sigmoid: binary cross-entropy of each class, averaged."""
    auxiliary: float = 0.4
    """Weight of each of the two auxiliary losses; 0: train without auxiliary heads."""
    class_weights: Literal["none", "log"] | tuple[float, ...] = "none"
    """Class weights of the loss. log: 1 / ln(1.1 + fraction of the pixels); or one number for each class."""
    loss_stride: int = 1
    """Compute the loss at every N-th row and column, from a random first one."""
    auxiliary_stride: int = 1
    """Compute the auxiliary losses at every N-th row and column."""
    ohem_ratio: float = 1.0
    """OHEM: fraction of the pixels, those with the highest loss, that count in the main loss; 1: all."""
    ohem_threshold: float = 1.0
    """OHEM: only pixels whose true class has at most this probability count in the main loss, at least 256 per batch; 1:
    all."""
    distillation: float = 0.0
    """Weight of the Kullback-Leibler divergence from the probabilities of the teachers, or of the soft labels of the data;
    needs one of them."""
    soft_head: float = 0.0
    """Weight of the loss of a second last layer that learns the soft labels with their own classes. It is dropped when weights
    are saved; 0: none."""
    label_smoothing: float = 0.0
    """Fraction of each label that is spread evenly over the classes."""
    lovasz: float = 0.0
    """Weight of the Lovasz-softmax loss, added to the cross-entropy."""
    ema: float = 0.0
    """Decay per step of the exponential moving average of the weights. The average is validated and saved; 0: no average."""

    crop: tuple[int, int] = (1024, 2048)
    """Size of the training crops, HxW."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale before the crop, uniform; 1 is the network input size."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    cat_max_ratio: float = 1.0
    """Choose another crop if one class covers this fraction of it or more, up to ten times; 1: never."""
    balanced_crops: float = 0.0
    """Probability of a crop around a pixel of a random class, all classes equally likely."""
    classmix: float = 0.0
    """Probability of ClassMix: paste half of the classes of another crop."""
    paste: float = 0.0
    """Probability of pasting the rare classes of another crop. A class is rare if it has less than a quarter of the mean
    number of pixels of the classes that occur."""
    colour: Literal["tone", "mmseg"] = "tone"
    """Colour augmentation. tone: brightness, contrast, gamma and channel noise as given here; mmseg: PhotoMetricDistortion of
    mmsegmentation, with its default values."""
    brightness: float = 0.0
    """Largest brightness shift, in grey levels of 255."""
    contrast: float = 1.0
    """Largest contrast factor; the smallest is its inverse."""
    gamma: float = 1.0
    """Largest gamma; the smallest is its inverse."""
    channel_noise: float = 0.0
    """Largest relative change of a colour channel, drawn for each channel."""
    corruption: float = 0.0
    """Probability that a crop is corrupted, by a random strength: noise, blur, JPEG compression, night, fog, exposure or a
    colour cast."""

    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the forward pass; weights and losses are float32."""
    validate_every: int = 10
    """Epochs between two validations; weights are saved after each."""
    seed: int = 0
    """Seed of initialisation, order of the images, augmentation and dropout."""

    @property
    def images_per_step(self) -> int:
        """`batch` as a number. Raises ArgumentError for "auto", which `train` replaces by the number that it measures."""
        if not isinstance(self.batch, int):
            raise ArgumentError("batch: auto is a number only while it trains, measured by `fastscnn train`; give a number.")
        return self.batch

    @property
    def learns_soft_labels(self) -> bool:
        """Whether the soft labels of the data are used, if it has any."""
        return self.distillation > 0 or self.soft_head > 0

    def steps(self, images: int) -> int:
        """Return the number of steps on a dataset of this many images."""
        return self.iterations or -(-self.epochs * images // self.images_per_step)

    def __post_init__(self) -> None:
        recipe_fields.check(get_type_hints(Recipe), vars(self))
        if self.loss == "sigmoid" and (min(self.ohem_ratio, self.ohem_threshold) < 1 or self.label_smoothing):
            raise ArgumentError("loss: sigmoid cannot be combined with ohem_ratio, ohem_threshold or label_smoothing; use "
                                "softmax.")
        if max(self.ohem_ratio, self.ohem_threshold) < 1:
            raise ArgumentError("ohem_ratio: cannot be combined with ohem_threshold; set one of them to 1.")
        if self.optimiser == "adamw" and self.momentum >= 1:
            raise ArgumentError(f"momentum: must be below 1 with adamw, not {self.momentum}.")


DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}

_CAMVID_QUICK = Recipe(
    name="camvid-quick",
    source="the paper's optimiser, ENet's class weights, averaged weights, strong colour augmentation; 47 minutes on two cores",
    epochs=110,
    crop=(360, 480),
    scale=(0.6, 2.0),
    class_weights="log",
    loss_stride=2,
    auxiliary_stride=8,
    ema=0.99,
    brightness=40,
    contrast=1.4,
    gamma=1.8,
    channel_noise=0.15,
)

_CAMVID = replace(
    _CAMVID_QUICK,
    name="camvid",
    source="CGNet's optimiser and crops; Lovasz loss, corrupted crops; selected on held-out drives (docs/accuracy.md)",
    size=(360, 480),
    batch=8,
    iterations=8000,
    optimiser="adamw",
    lr=0.001,
    warmup=100,
    weight_decay=0.01,
    lovasz=1.0,
    ema=0.998,
    crop=(360, 384),
    scale=(0.5, 2.0),
    brightness=0.0,
    contrast=1.0,
    gamma=1.0,
    channel_noise=0.0,
    corruption=0.5,
    validate_every=20,
)

_PAPER = Recipe(
    name="paper",
    source="Poudel et al. 2019, section 4.1, which does not state the amounts of colour noise and brightness",
    brightness=32,
    channel_noise=0.1,
)

_PST900 = Recipe(
    name="pst900",
    source="pstnet/code/FastSCNN of the PST900 authors: Tramac's network, whole frames, no augmentation",
    variant="tramac",
    size=(360, 640),
    epochs=300,
    lr=0.01,
    weight_decay=1e-4,
    weight_decay_on="all",
    auxiliary=0.0,
    class_weights=(1.4543, 43.8739, 34.2410, 47.3663, 27.4869),
    ohem_threshold=0.7,
    crop=(360, 640),
    scale=(1.0, 1.0),
    flip=0.0,
    precision="float32",
    validate_every=10,
)

_RECIPES = (
    _PAPER,
    replace(
        _PAPER,
        name="cityscapes-coarse",
        source="the paper's training on coarse labels, to be fine-tuned with --init; the paper does not state its length",
        epochs=60,
        validate_every=2,
    ),
    Recipe(
        name="mmseg",
        source="fast_scnn_8xb4-160k_cityscapes-512x1024.py of mmsegmentation 1.2.2: 8 GPUs with 4 images each",
        variant="mmseg",
        norm_momentum=0.01,
        batch=32,
        iterations=160_000,
        lr=0.12,
        min_lr=1e-4,
        weight_decay_on="all",
        loss="sigmoid",
        crop=(512, 1024),
        cat_max_ratio=0.75,
        colour="mmseg",
        precision="float32",
        validate_every=170,
    ),
    _CAMVID_QUICK,
    _CAMVID,
    replace(
        _CAMVID,
        name="camvid-clean",
        source="fine-tunes weights of camvid, given by --init: no corrupted crops, no class weights, pasted classes",
        iterations=12_000,
        class_weights="none",
        classmix=0.5,
        corruption=0.0,
    ),
    replace(
        _PAPER,
        name="eventscape",
        source="the paper's training at the size of EventScape, 256x512; the training of the published result is not known",
        epochs=200,
        crop=(256, 512),
    ),
    _PST900,
    replace(_PST900, name="pst900-rgbt", source="pst900, for images of RGB and thermal"),
    Recipe(
        name="imagenet",
        source="the paper's optimiser; otherwise He et al. 2016, section 3.4, and the length of Goyal et al. 2017",
        task="classification",
        dropout=0.0,
        size=(256, 256),
        batch=256,
        epochs=90,
        lr=0.1,
        auxiliary=0.0,
        crop=(224, 224),
        scale=(1.0, 1.875),
        validate_every=1,
    ),
    Recipe(
        name="debug",
        source="the smallest training, for tests",
        batch=2,
        iterations=4,
        crop=(64, 96),
        auxiliary_stride=4,
        ema=0.5,
        brightness=32,
        contrast=1.2,
        gamma=1.2,
        channel_noise=0.1,
        class_weights="log",
        validate_every=1,
    ),
)


def named(name: str) -> Recipe:
    """Return the recipe of this name. Raise ArgumentError with the nearest known name if there is none."""
    for recipe in _RECIPES:
        if recipe.name == name:
            return recipe
    raise unknown("recipe", name, names())


def names() -> list[str]:
    """Return the names of all recipes."""
    return [recipe.name for recipe in _RECIPES]


def from_run(path: str | Path, base: Recipe | None = None) -> Recipe:
    """Return the recipe of an earlier run.

    Args:
        path: the run.json that `fastscnn train` wrote, in version 0.1 or 0.2, or the folder of the run; `~` is expanded.
        base: the values of fields that the file does not have; without it, the defaults of the fields.

    Raises:
        FastSCNNError: the file cannot be read, is not JSON or has no recipe; or a field is unknown, missing, of the wrong
            type or out of bounds. The message names the file.
    """
    path = files.expand(path)
    path = path / "run.json" if files.is_folder(path) else path
    try:
        values = _stored(path)
        known = [field.name for field in fields(Recipe)]
        if strange := [name for name in values if name not in known]:
            also = f" Also unknown: {', '.join(map(repr, strange[1:]))}." if strange[1:] else ""
            raise FastSCNNError(f"{unknown('recipe field', strange[0], known)}{also}")
        if base:
            return replace(base, **values)
        if missing := [name for name in ("name", "source") if name not in values]:
            raise FastSCNNError(f"the recipe has no field {missing[0]!r}; use the run.json that `fastscnn train` wrote.")
        return Recipe(**values)
    except FastSCNNError as error:
        raise FastSCNNError(f"{path}: {error}") from error


def _stored(path: Path) -> dict[str, Any]:
    """Return the recipe in a run.json under the current names, with lists as tuples."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FastSCNNError(f"cannot be read ({error.strerror}); give the run.json of a run.") from error
    except (ValueError, RecursionError) as error:
        raise FastSCNNError("is not JSON; give the run.json that `fastscnn train` wrote.") from error
    stored = run.get("recipe") if isinstance(run, dict) else None
    if not isinstance(stored, dict):
        raise FastSCNNError("has no recipe; give the run.json that `fastscnn train` wrote.")
    for old, new in RENAMED_RECIPE_FIELDS.items():
        if old in stored and new in stored:
            raise FastSCNNError(f"the recipe has both {new!r} and its old name {old!r}; remove one.")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in renamed(stored).items()}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe with the names of version 0.1 replaced by the current ones."""
    return {RENAMED_RECIPE_FIELDS.get(name, name): value for name, value in values.items()}
