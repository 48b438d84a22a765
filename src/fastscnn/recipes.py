"""Recipes: every number a training depends on, and the named sets of them. The only home of hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastscnn.errors import FastSCNNError, unknown


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
    """Random resizing before the crop, uniform in this range."""
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
        if self.batch < 2:
            raise FastSCNNError("batch: must be at least 2, since pooling to one pixel leaves batch norm a single value at 1.")
        if min(self.crop) < 32 or (self.size and min(self.size) < 32):
            raise FastSCNNError(f"crop and size: the network needs at least 32x32, not {min(*self.crop, *(self.size or ()))}.")
        for field in ("epochs", "iterations", "loss_stride", "auxiliary_stride", "validate_every"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise FastSCNNError(f"{field}: must be at least 1, not {value}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise FastSCNNError(f"scale: must be two growing factors over 0, not {self.scale}.")
        for field in ("contrast", "gamma"):
            if getattr(self, field) < 1:
                raise FastSCNNError(f"{field}: is the largest factor and must be at least 1, not {getattr(self, field)}.")
        for field in ("flip", "dropout", "ema", "channel_noise"):
            if not 0 <= getattr(self, field) <= 1:
                raise FastSCNNError(f"{field}: must lie between 0 and 1, not {getattr(self, field)}.")


_RECIPES = (
    Recipe(
        name="paper",
        source="Poudel et al. 2019, section 4.1; the amounts of colour noise and brightness are not stated there",
        brightness=32,
        channel_noise=0.1,
    ),
    Recipe(
        name="camvid",
        source="the paper's optimiser; augmentation, averaging and class weights chosen on CamVid val",
        epochs=150,
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
