"""cost: multiplications and memory traffic of the network at any input, counted layer by layer (Tables 1 to 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastscnn.model.card import Card

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
_BINS = (1, 2, 3, 6)
_PPM_KERNEL = {"paper": 1, "mmseg": 3, "tramac": 1, "paddleseg": 3}
_Area = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class Layer:
    """A convolution.

    Attributes:
        name: what it belongs to.
        macs: multiplications, each with an addition.
        values: numbers that it reads and writes: input, weights and output, each once.
    """

    name: str
    macs: int
    values: int


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        macs: multiplications, each with an addition.
        bytes: read and written by the convolutions where each of them reads its input and writes its output once.
    """

    macs: int
    bytes: int


def cost(card: Card, size: tuple[int, int], precision: str) -> Cost:
    """Of the network that a card describes, for an input of (height, width) in a precision."""
    made = list(layers(card, size))
    return Cost(sum(layer.macs for layer in made), _BYTES[precision] * sum(layer.values for layer in made))


def layers(card: Card, size: tuple[int, int]) -> Iterator[Layer]:
    """The convolutions of the network, in its order, for an input of (height, width)."""

    def conv(
        name: str, inputs: int, outputs: int, area: _Area, kernel: int = 1, groups: int = 1, source: _Area | None = None
    ) -> Layer:
        rows, columns = source or area
        weights = inputs // groups * outputs * kernel * kernel
        pixels = area[0] * area[1]
        return Layer(name, pixels * weights, rows * columns * inputs + pixels * outputs + weights)

    def depthwise(name: str, channels: int, area: _Area, source: _Area | None = None) -> Layer:
        return conv(name, channels, channels, area, 3, channels, source)

    c32, c48, c64, c96, c128 = (8 * round(card.width_mult * channels / 8) for channels in (32, 48, 64, 96, 128))
    areas = [size]
    for _ in range(5):
        areas.append((-(-areas[-1][0] // 2), -(-areas[-1][1] // 2)))
    full, half, quarter, eighth, sixteenth, deep = areas
    # Tramac's first convolution does not pad, so it computes a row and a column less.
    first = ((full[0] - 1) // 2, (full[1] - 1) // 2) if card.variant == "tramac" else half
    yield conv("downsample", card.channels, c32, first, 3, source=full)
    for inputs, outputs, area, source in ((c32, c48, quarter, half), (c48, c64, eighth, quarter)):
        yield depthwise("downsample", inputs, area, source)
        yield conv("downsample", inputs, outputs, area)
    inputs, source = c64, eighth
    for outputs, area in ((c64, sixteenth), (c96, deep), (c128, deep)):
        for _ in range(3):
            yield conv("bottleneck", inputs, 6 * inputs, source)
            yield depthwise("bottleneck", 6 * inputs, area, source)
            yield conv("bottleneck", 6 * inputs, outputs, area)
            inputs, source = outputs, area
    for bins in _BINS:
        yield conv("pyramid pooling", c128, c128 // 4, (bins, bins))
    yield conv("pyramid pooling", 2 * c128, c128, deep, _PPM_KERNEL[card.variant])
    yield depthwise("feature fusion", c128, eighth)
    yield conv("feature fusion", c128, c128, eighth)
    yield conv("feature fusion", c64, c128, eighth)
    for _ in range(2):
        yield depthwise("classifier", c128, eighth)
        yield conv("classifier", c128, c128, eighth)
    yield conv("classifier", c128, len(card.label_set), eighth)
