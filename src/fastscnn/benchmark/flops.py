"""Count the multiply-accumulates (MACs) and the memory traffic of the network, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from fastscnn.model import architecture
from fastscnn.model.card import Card

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class LayerCost:
    """The cost of one convolution.

    Attributes:
        name: its name in the state dict.
        macs: multiply-accumulates.
        values: numbers that it reads and writes: input, weights and output, each once.
    """

    name: str
    macs: int
    values: int


@dataclass(frozen=True)
class Cost:
    """The cost of one image.

    Attributes:
        macs: multiply-accumulates of all convolutions.
        bytes: memory traffic of all convolutions, if each reads its input and writes its output once.
    """

    macs: int
    bytes: int


def cost(card: Card, size: tuple[int, int], precision: str) -> Cost:
    """Return the cost of the network that a card describes.

    Args:
        card: card of the weights.
        size: (height, width) of the network's input.
        precision: "float32", "bfloat16", "float16" or "int8".
    """
    costs = list(layers(card, size))
    return Cost(sum(layer.macs for layer in costs), _BYTES[precision] * sum(layer.values for layer in costs))


def layers(card: Card, size: tuple[int, int]) -> Iterator[LayerCost]:
    """Yield the cost of each convolution, in order, for an input of (height, width)."""
    for layer in architecture.layers(len(card.label_set), card.channels, card.variant, card.width_mult):
        source, target = (prod(area) for area in layer.areas(size))
        weights = layer.inputs // layer.groups * layer.outputs * layer.kernel**2
        yield LayerCost(layer.name, target * weights, source * layer.inputs + target * layer.outputs + weights)
