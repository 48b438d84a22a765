"""Recipes: every number a training depends on, and the named sets of them. The only home of hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args, get_type_hints

from fastscnn.errors import FastSCNNError, unknown

MIN_SIDE = 32  # of what the network sees, in pixels: its deepest stage runs at 1/32


@dataclass(frozen=True)
class Recipe:
    """How to train. Each field is a flag of `fastscnn train`."""

    name: str
    """Name of the recipe, kept in the card."""
    source: str
    """Where its numbers come from."""

    variant: Literal["paper", "mmseg"] = "paper"
    """Layout of the network: paper or mmseg."""
    dropout: float = 0.1
    """Rate before the last layer."""
    size: tuple[int, int] | None = None
    """Input (height, width) in use and in validation; none: that of the first training image."""

    batch: int = 12
    """Images a step."""
    epochs: int = 1000
    """Passes over the training images."""
    iterations: int | None = None
    """Steps in all, instead of epochs."""
    lr: float = 0.045
    """Learning rate at the start."""
    power: float = 0.9
    """Exponent of the polynomial decay of the learning rate."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 4e-5
    """L2 regularisation, not applied to depthwise convolutions."""
    auxiliary: float = 0.4
    """Weight of each auxiliary loss; 0 trains without those heads."""
    class_weights: Literal["none", "log"] = "none"
    """log: weight 1 / ln(1.1 + share of the class among the pixels)."""
    loss_stride: int = 1
    """The loss takes every n-th pixel each way, from a random first one: unbiased, n * n times cheaper."""
    auxiliary_stride: int = 1
    """The same for the auxiliary losses."""
    ema: float = 0.0
    """Decay a step of the averaged weights, which are what is saved; 0: the plain weights are."""

    crop: tuple[int, int] = (1024, 2048)
    """(height, width) of the patches trained on."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Random resizing before the crop, uniform in this range; 1 is the size in use."""
    flip: float = 0.5
    """Chance of a horizontal flip."""
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

    def __post_init__(self) -> None:
        for field in ("variant", "class_weights", "precision"):
            if getattr(self, field) not in (choices := get_args(get_type_hints(Recipe)[field])):
                raise FastSCNNError(f"{field}: {unknown('choice', getattr(self, field), choices)}")
        if self.batch < 2:
            raise FastSCNNError("batch: must be at least 2, since pooling to one pixel leaves batch norm a single value at 1.")
        if min(*self.crop, *(self.size or ())) < MIN_SIDE:
            raise FastSCNNError(f"crop and size: must have at least {MIN_SIDE} pixels a side, not {self.crop}, {self.size}.")
        if not (0 < self.scale[0] <= self.scale[1] < inf):
            raise FastSCNNError(f"scale: must be two growing factors over 0, not {self.scale}.")
        for field, (low, high) in _BOUNDS.items():
            value = getattr(self, field)
            if value is not None and not (low <= value <= high and value < inf):
                bounds = f"be at least {low}" if high == inf else f"lie between {low} and {high}"
                raise FastSCNNError(f"{field}: must {bounds}, not {value}.")


_BOUNDS = {
    **dict.fromkeys(("epochs", "iterations", "loss_stride", "auxiliary_stride", "validate_every"), (1, inf)),
    **dict.fromkeys(("lr", "power", "momentum", "weight_decay", "auxiliary", "brightness"), (0, inf)),
    **dict.fromkeys(("contrast", "gamma"), (1, inf)),  # largest factors, whose inverses are the smallest
    **dict.fromkeys(("flip", "dropout", "ema", "channel_noise"), (0, 1)),
    "seed": (0, (1 << 31) - 1),
}

_RECIPES = (
    Recipe(
        name="paper",
        source="Poudel et al. 2019, section 4.1; the amounts of colour noise and brightness are not stated there",
        brightness=32,
        channel_noise=0.1,
    ),
    Recipe(
        name="camvid",
        source="the paper's optimiser; ENet's class weights, averaged weights, strong changes of tone; checked on CamVid val",
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
