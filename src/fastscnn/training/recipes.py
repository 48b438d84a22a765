"""Recipes: every number a training depends on, and the named sets of them. The only home of hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args, get_type_hints

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.model.architecture import MIN_SIDE


@dataclass(frozen=True)
class Recipe:
    """How to train. Each field is a flag of `fastscnn train`."""

    name: str
    """Name of the recipe, kept in the card."""
    source: str
    """Where its numbers come from."""
    task: Literal["segmentation", "classification"] = "segmentation"
    """A class for each pixel, or one for each image (ImageNet)."""

    variant: Literal["paper", "mmseg", "tramac", "paddleseg"] = "paper"
    """Layout of the network: the paper's, or that of another implementation."""
    width_mult: float = 1.0
    """Factor of all channels; 1 is the paper's network, more makes a teacher."""
    reparam_branches: bool = False
    """Trains a second branch beside each depthwise convolution, fused into it when weights are saved."""
    dropout: float = 0.1
    """Rate before the last layer."""
    norm_momentum: float = 0.1
    """Share of each batch in the running statistics of batch norm."""
    size: tuple[int, int] | None = None
    """Input (height, width) in use and in validation; none: that of the first training image. In classification, where both
    are the same, it is what the shorter side of an image becomes before crop is cut out of its middle."""

    batch: int = 12
    """Images a step, those of all processes together."""
    epochs: int = 1000
    """NetworkOutput over the training images."""
    iterations: int | None = None
    """Steps in all, instead of epochs."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """sgd with L2 regularisation, or adamw with decoupled weight decay."""
    lr: float = 0.045
    """Learning rate at the start, after the warm-up."""
    min_lr: float = 0.0
    """Learning rate at the end."""
    power: float = 0.9
    """Exponent of the polynomial decay of the learning rate."""
    warmup: int = 0
    """Steps in which the learning rate rises to lr."""
    momentum: float = 0.9
    """Momentum of SGD; of AdamW, the decay of its mean gradient."""
    weight_decay: float = 4e-5
    """Pull of the weights towards zero."""
    weight_decay_on: Literal["dense", "all"] = "dense"
    """What weight_decay acts on: dense leaves the kernels of depthwise convolutions out."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over the classes, or the mean over the classes of each one's binary cross-entropy."""
    auxiliary: float = 0.4
    """Weight of each auxiliary loss; 0 trains without those heads."""
    class_weights: Literal["none", "log"] | tuple[float, ...] = "none"
    """log: weight 1 / ln(1.1 + share of the class among the pixels); or a weight for each class."""
    loss_stride: int = 1
    """The loss takes every n-th pixel each way, from a random first one: unbiased, n * n times cheaper."""
    auxiliary_stride: int = 1
    """The same for the auxiliary losses."""
    ohem_ratio: float = 1.0
    """Share of the pixels, those with the highest loss, that the main cross-entropy takes (OHEM)."""
    ohem_threshold: float = 1.0
    """The main cross-entropy takes the pixels whose class has at most this probability, and 256 a batch at least (OHEM)."""
    distillation: float = 0.0
    """Weight of the Kullback-Leibler divergence from the teacher's probabilities; needs --teacher."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over the classes."""
    lovasz: float = 0.0
    """Weight of the Lovasz-softmax loss, which follows the mean IoU, beside the cross-entropy."""
    ema: float = 0.0
    """Decay a step of the averaged weights, which are what is saved; 0: the plain weights are."""

    crop: tuple[int, int] = (1024, 2048)
    """(height, width) of the patches trained on."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Random resizing before the crop, uniform in this range; 1 is the size in use."""
    flip: float = 0.5
    """Chance of a horizontal flip."""
    cat_max_ratio: float = 1.0
    """A crop of which one class takes this share or more is drawn again; at most eleven are drawn."""
    balanced_crops: float = 0.0
    """Chance that a patch is cut around a pixel of a class drawn evenly, from any image that has it."""
    classmix: float = 0.0
    """Chance that half of the classes of another patch are pasted over one."""
    paste: float = 0.0
    """Chance that the rare classes of another patch, those of less than a quarter of an even share, are pasted over one."""
    colour: Literal["tone", "mmseg"] = "tone"
    """tone: the four that follow; mmseg: its PhotoMetricDistortion, with its own amounts."""
    brightness: float = 0.0
    """Largest shift of all values, in grey levels of 255."""
    contrast: float = 1.0
    """Largest factor of contrast; its inverse is the smallest."""
    gamma: float = 1.0
    """Largest exponent of the tone curve; its inverse is the smallest."""
    channel_noise: float = 0.0
    """Largest relative change of each colour channel by itself."""

    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of the forward pass; weights and losses stay in float32."""
    validate_every: int = 10
    """Epochs from one validation to the next; weights are saved then."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""

    def steps(self, images: int) -> int:
        """Steps in all, of a dataset of so many images."""
        return self.iterations or -(-self.epochs * images // self.batch)

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, str) and self.class_weights not in ("none", "log"):
            raise FastSCNNError(f"class_weights: {unknown('choice', self.class_weights, ('none', 'log'))}")
        for field in ("task", "variant", "optimiser", "weight_decay_on", "loss", "colour", "precision"):
            if getattr(self, field) not in (choices := get_args(get_type_hints(Recipe)[field])):
                raise FastSCNNError(f"{field}: {unknown('choice', getattr(self, field), choices)}")
        if self.batch < 2:
            raise FastSCNNError("batch: must be at least 2, since pooling to one pixel leaves batch norm a single value at 1.")
        if min(*self.crop, *(self.size or ())) < MIN_SIDE:
            raise FastSCNNError(f"crop and size: must have at least {MIN_SIDE} pixels a side, not {self.crop}, {self.size}.")
        if self.loss == "sigmoid" and (min(self.ohem_ratio, self.ohem_threshold) < 1 or self.label_smoothing):
            ours = "ohem_ratio, ohem_threshold and label_smoothing"
            raise FastSCNNError(f"loss: {ours} act on softmax alone; leave them out, or sigmoid.")
        if max(self.ohem_ratio, self.ohem_threshold) < 1:
            raise FastSCNNError("ohem_ratio: and ohem_threshold are two ways to choose the same pixels; take one.")
        if not isinstance(self.class_weights, str) and not all(0 < weight < inf for weight in self.class_weights):
            raise FastSCNNError(f"class_weights: must be over 0, not {list(self.class_weights)}.")
        if self.optimiser == "adamw" and self.momentum >= 1:
            raise FastSCNNError(f"momentum: must lie under 1 with adamw, not {self.momentum}.")
        if not (0 < self.scale[0] <= self.scale[1] < inf):
            raise FastSCNNError(f"scale: must be two growing factors over 0, not {self.scale}.")
        for field, (low, high) in _BOUNDS.items():
            value = getattr(self, field)
            if value is not None and not (low <= value <= high and value < inf):
                bounds = f"be at least {low}" if high == inf else f"lie between {low} and {high}"
                raise FastSCNNError(f"{field}: must {bounds}, not {value}.")


_BOUNDS = {
    **dict.fromkeys(("epochs", "iterations", "loss_stride", "auxiliary_stride", "validate_every"), (1, inf)),
    **dict.fromkeys(("lr", "min_lr", "power", "warmup", "momentum", "weight_decay", "brightness"), (0, inf)),
    **dict.fromkeys(("auxiliary", "distillation", "lovasz"), (0, inf)),  # weights of losses
    **dict.fromkeys(("contrast", "gamma"), (1, inf)),  # largest factors, whose inverses are the smallest
    **dict.fromkeys(("dropout", "norm_momentum", "label_smoothing", "ema", "channel_noise"), (0, 1)),
    **dict.fromkeys(("flip", "balanced_crops", "classmix", "paste"), (0, 1)),  # chances
    **dict.fromkeys(("ohem_ratio", "ohem_threshold", "cat_max_ratio"), (0.01, 1)),
    "width_mult": (0.25, 8),
    "seed": (0, (1 << 31) - 1),
}

_CAMVID_QUICK = Recipe(
    name="camvid-quick",
    source="the paper's optimiser; ENet's class weights, averaged weights, strong changes of tone; 47 minutes on two cores",
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
    source="Poudel et al. 2019, section 4.1; the amounts of colour noise and brightness are not stated there",
    brightness=32,
    channel_noise=0.1,
)

_PST900 = Recipe(
    name="pst900",
    source="the Fast-SCNN of PST900's authors, pstnet/code/FastSCNN: Tramac's network, whole frames, no augmentation",
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
        source="the paper's training, for coarse labels to be gone on from by --init; its length is not stated there",
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
        source="chosen on drives of CamVid that were held out, see docs/accuracy.md; to go on from camvid-quick by --init",
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
        source="the paper's training at EventScape's size of 256x512; how the published row was trained is not known",
        epochs=200,
        crop=(256, 512),
    ),
    _PST900,
    replace(_PST900, name="pst900-rgbt"),
    Recipe(
        name="imagenet",
        source="the paper's optimiser; what it leaves open by He et al. 2016, section 3.4, its length by Goyal et al. 2017",
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
        source="the smallest training that runs every line",
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
    """The recipe of that name. Raises FastSCNNError with the nearest spelling where there is none."""
    for recipe in _RECIPES:
        if recipe.name == name:
            return recipe
    raise unknown("recipe", name, names())


def names() -> list[str]:
    """Names of all recipes."""
    return [recipe.name for recipe in _RECIPES]
