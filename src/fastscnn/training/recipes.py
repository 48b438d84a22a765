"""Recipes: the hyperparameters of a training, and the named sets of them. This module needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.model.architecture import MIN_SIDE, VariantName


@dataclass(frozen=True)
class Recipe:
    """How to train. Each field is an option of `fastscnn train`."""

    name: str
    """Name of the recipe; it is written to the model card."""
    source: str
    """Source of its values."""
    task: Literal["segmentation", "classification"] = "segmentation"
    """segmentation: a class per pixel; classification: a class per image (ImageNet)."""

    variant: VariantName = "paper"
    """Architecture: the paper's, or that of another implementation."""
    width_mult: float = 1.0
    """Multiplier of all channels; 1 is the paper's network, larger ones make a teacher."""
    reparam_branches: bool = False
    """Train a second branch beside each depthwise convolution; it is fused when weights are saved."""
    dropout: float = 0.1
    """Dropout rate before the last layer."""
    norm_momentum: float = 0.1
    """Weight of each batch in the running statistics of batch norm."""
    size: tuple[int, int] | None = None
    """Network input size; none: that of the first training image. In classification, height and width are equal: the
    shorter side of an image before the crop."""

    batch: int = 12
    """Images per step, of all processes together."""
    epochs: int = 1000
    """Number of passes over the training images."""
    iterations: int | None = None
    """Number of steps; replaces epochs."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """sgd with L2 regularisation, or adamw with decoupled weight decay."""
    lr: float = 0.045
    """Learning rate after the warm-up."""
    min_lr: float = 0.0
    """Learning rate at the end."""
    power: float = 0.9
    """Exponent of the polynomial decay of the learning rate."""
    warmup: int = 0
    """Number of steps in which the learning rate rises to lr."""
    momentum: float = 0.9
    """Momentum of SGD; beta1 of AdamW."""
    weight_decay: float = 4e-5
    """Weight decay."""
    weight_decay_on: Literal["dense", "all"] = "dense"
    """Parameters with weight decay; dense excludes the kernels of depthwise convolutions."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: cross-entropy; sigmoid: mean over the classes of the binary cross-entropy."""
    auxiliary: float = 0.4
    """Weight of each auxiliary loss; 0 trains without auxiliary heads."""
    class_weights: Literal["none", "log"] | tuple[float, ...] = "none"
    """log: weight 1 / ln(1.1 + fraction of the pixels in the class); or a weight for each class."""
    loss_stride: int = 1
    """Compute the loss at every n-th pixel of each axis, from a random first one: unbiased and n * n times cheaper."""
    auxiliary_stride: int = 1
    """Like loss_stride, for the auxiliary losses."""
    ohem_ratio: float = 1.0
    """Fraction of pixels, those with the highest loss, that the main cross-entropy uses (OHEM)."""
    ohem_threshold: float = 1.0
    """The main cross-entropy uses pixels whose class has at most this probability, but at least 256 (OHEM)."""
    distillation: float = 0.0
    """Weight of the Kullback-Leibler divergence from the teacher's probabilities; needs --teacher."""
    label_smoothing: float = 0.0
    """Fraction of each label that is spread evenly over the classes."""
    lovasz: float = 0.0
    """Weight of the Lovasz-softmax loss, a surrogate of the mean IoU, beside the cross-entropy."""
    ema: float = 0.0
    """Decay per step of the averaged weights, which are saved; 0 saves the plain weights."""

    crop: tuple[int, int] = (1024, 2048)
    """Size of the training crops."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale before the crop, uniform; 1 is the network input size."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    cat_max_ratio: float = 1.0
    """Draw a crop again, up to 11 times, if one class fills this fraction of it or more."""
    balanced_crops: float = 0.0
    """Probability that a crop contains a pixel of a class drawn uniformly, from any image with that class."""
    classmix: float = 0.0
    """Probability that half of the classes of another crop are pasted over a crop."""
    paste: float = 0.0
    """Probability that the rare classes of another crop are pasted over a crop; rare: below a quarter of the mean."""
    colour: Literal["tone", "mmseg"] = "tone"
    """tone: the four values that follow; mmseg: PhotoMetricDistortion with mmsegmentation's values."""
    brightness: float = 0.0
    """Largest shift of all values, in grey levels of 255."""
    contrast: float = 1.0
    """Largest factor of contrast; the smallest is its inverse."""
    gamma: float = 1.0
    """Largest exponent of the tone curve; the smallest is its inverse."""
    channel_noise: float = 0.0
    """Largest relative change of each colour channel."""

    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the forward pass; weights and losses stay in float32."""
    validate_every: int = 10
    """Epochs between validations; weights are saved after each."""
    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout."""

    def steps(self, images: int) -> int:
        """Return the number of steps for a dataset of `images` images."""
        return self.iterations or -(-self.epochs * images // self.batch)

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, str) and self.class_weights not in ("none", "log"):
            raise ArgumentError(f"class_weights: {unknown('choice', self.class_weights, ('none', 'log'))}")
        for field in ("task", "variant", "optimiser", "weight_decay_on", "loss", "colour", "precision"):
            if getattr(self, field) not in (choices := get_args(get_type_hints(Recipe)[field])):
                raise ArgumentError(f"{field}: {unknown('choice', getattr(self, field), choices)}")
        if self.batch < 2:
            raise ArgumentError("batch: must be at least 2, because batch norm after pooling to one pixel needs two values.")
        if min(*self.crop, *(self.size or ())) < MIN_SIDE:
            raise ArgumentError(f"crop and size: must be at least {MIN_SIDE}x{MIN_SIDE}, not {_hxw(self.crop)} and "
                                f"{_hxw(self.size) if self.size else 'none'}.")
        if self.loss == "sigmoid" and (min(self.ohem_ratio, self.ohem_threshold) < 1 or self.label_smoothing):
            raise ArgumentError("loss: ohem_ratio, ohem_threshold and label_smoothing need the softmax loss; omit them, or use "
                                "softmax.")
        if max(self.ohem_ratio, self.ohem_threshold) < 1:
            raise ArgumentError("ohem_ratio: cannot be combined with ohem_threshold; use one of them.")
        if not isinstance(self.class_weights, str) and not all(0 < weight < inf for weight in self.class_weights):
            raise ArgumentError(f"class_weights: must be above 0, not {list(self.class_weights)}.")
        if self.optimiser == "adamw" and self.momentum >= 1:
            raise ArgumentError(f"momentum: must be below 1 with adamw, not {self.momentum}.")
        if not (0 < self.scale[0] <= self.scale[1] < inf):
            raise ArgumentError(f"scale: must be two factors above 0, the smaller first, not {self.scale}.")
        for field, (low, high) in _BOUNDS.items():
            value = getattr(self, field)
            if value is not None and not (low <= value <= high and value < inf):
                bounds = f"be at least {low}" if high == inf else f"be between {low} and {high}"
                raise ArgumentError(f"{field}: must {bounds}, not {value}.")


def _hxw(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


_BOUNDS = {
    **dict.fromkeys(("epochs", "iterations", "loss_stride", "auxiliary_stride", "validate_every"), (1, inf)),
    **dict.fromkeys(("lr", "min_lr", "power", "warmup", "momentum", "weight_decay", "brightness"), (0, inf)),
    **dict.fromkeys(("auxiliary", "distillation", "lovasz"), (0, inf)),  # weights of losses
    **dict.fromkeys(("contrast", "gamma"), (1, inf)),  # largest factors
    **dict.fromkeys(("dropout", "norm_momentum", "label_smoothing", "ema", "channel_noise"), (0, 1)),
    **dict.fromkeys(("flip", "balanced_crops", "classmix", "paste"), (0, 1)),  # probabilities
    **dict.fromkeys(("ohem_ratio", "ohem_threshold", "cat_max_ratio"), (0.01, 1)),
    "width_mult": (0.25, 8),
    "seed": (0, (1 << 31) - 1),
}

_OLD_NAMES = {  # field of version 0.1 -> field
    "width": "width_mult",
    "branches": "reparam_branches",
    "hard_pixels": "ohem_ratio",
    "hard_probability": "ohem_threshold",
    "decayed": "weight_decay_on",
}

_CAMVID_QUICK = Recipe(
    name="camvid-quick",
    source="the paper's optimiser; ENet's class weights, averaged weights, strong changes of tone; 47 minutes on 2 CPU cores",
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

_PAPER = Recipe(
    name="paper",
    source="Poudel et al. 2019, section 4.1; it does not state the strength of colour noise and brightness",
    brightness=32,
    channel_noise=0.1,
)

_PST900 = Recipe(
    name="pst900",
    source="code of PST900's authors, pstnet/code/FastSCNN: Tramac's network, whole frames, no augmentation",
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
        source="the paper's training on coarse labels, whose length it does not state; train on fine labels next, with --init",
        epochs=60,
        validate_every=2,
    ),
    Recipe(
        name="mmseg",
        source="mmsegmentation 1.2.2, configs/fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py; 8 GPUs of 4 images each",
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
    replace(
        _CAMVID_QUICK,
        name="camvid",
        source="chosen on held-out drives of CamVid, see docs/accuracy.md; use it after camvid-quick, with --init",
        size=(450, 600),
        epochs=192,
        optimiser="adamw",
        lr=0.003,
        warmup=100,
        weight_decay=0.01,
        scale=(0.48, 1.6),
        lovasz=1.0,
        ema=0.998,
    ),
    replace(
        _PAPER,
        name="eventscape",
        source="the paper's training at EventScape's 256x512; the training of the published result is not known",
        epochs=200,
        crop=(256, 512),
    ),
    _PST900,
    replace(_PST900, name="pst900-rgbt"),
    Recipe(
        name="imagenet",
        source="the paper's optimiser; the rest from He et al. 2016, section 3.4, its length from Goyal et al. 2017",
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
    """Return the recipe of that name. Raise ArgumentError with the nearest name if there is none."""
    for recipe in _RECIPES:
        if recipe.name == name:
            return recipe
    raise unknown("recipe", name, names())


def names() -> list[str]:
    """Return the names of all recipes."""
    return [recipe.name for recipe in _RECIPES]


def from_run(path: str | Path, base: Recipe | None = None) -> Recipe:
    """Return the recipe in the run.json of a training. Names of fields from version 0.1 are translated.

    Args:
        path: the file; `~` is expanded.
        base: the values of fields that the file does not have; without it, those of the dataclass.

    Raises:
        FastSCNNError: no such file, no recipe in it, an unknown field, or a value that a recipe does not accept.
    """
    path = files.expand(path)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                  for name, value in renamed(given).items()}
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}); give the run.json of a run.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FastSCNNError(f"{path}: contains no recipe; give the run.json that `fastscnn train` writes.") from error
    known = [field.name for field in fields(Recipe)]
    for name in values:
        if name not in known:
            raise FastSCNNError(f"{path}: {unknown('field of a recipe', name, known)}")
    try:
        return replace(base, **values) if base else Recipe(**values)
    except TypeError as error:
        raise FastSCNNError(f"{path}: the recipe has a missing field or a value of the wrong type ({error}).") from error
    except FastSCNNError as error:
        raise FastSCNNError(f"{path}: {error}") from error


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe with the names of version 0.1 replaced by the current ones."""
    return {_OLD_NAMES.get(name, name): value for name, value in values.items()}
