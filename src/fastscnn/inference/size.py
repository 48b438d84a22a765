"""The size of the network's input: how users write it, and the limits."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Literal, NamedTuple

from fastscnn.base.arguments import height_width, hxw, is_number, whole
from fastscnn.base.errors import ArgumentError
from fastscnn.model.architecture import MIN_SIDE, congruent

Size = tuple[int, int] | str | None  # (height, width), a BaseSize, "HxW", "native", or None for the card's own
NetworkSize = tuple[int, int] | Literal["native"]
_MAX_SCALE = 16
_SAME_SHAPE = 1.1  # ratio of two aspect ratios up to which resizing an image to the other shape costs no accuracy


class BaseSize(NamedTuple):
    """A size of the network's input that takes the shape of each image (`in_shape`); a plain tuple is used exactly."""

    height: int
    width: int


def network_size(size: Size) -> NetworkSize | None:
    """Return a size in its normal form: (height, width) as ints, a BaseSize, "native", or None.

    Args:
        size: "HxW" such as "360x480", (height, width) as whole numbers, a BaseSize, "native", or None.

    Raises:
        ArgumentError: any other value, or a side under 32.
    """
    if size is None:
        return None
    if isinstance(size, str):
        if size == "native":
            return "native"
        try:
            height, width = height_width(size)
        except ArgumentError:
            raise _unreadable(size) from None
    else:
        try:
            height, width = size
        except (TypeError, ValueError):
            raise _unreadable(size) from None
        height, width = whole("size: height", height, MIN_SIDE), whole("size: width", width, MIN_SIDE)
    if min(height, width) < MIN_SIDE:
        raise ArgumentError(f"size: the network needs at least {MIN_SIDE}x{MIN_SIDE}, not {height}x{width}.")
    return BaseSize(height, width) if isinstance(size, BaseSize) else (height, width)


def in_shape(size: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Return a network input size in the shape of an image and of about the area of `size`, so that it takes the same time.

    Its sides differ from those of `size` by multiples of 32 (`architecture.congruent`). If the aspect ratios differ by less
    than 10 %, it is `size`. docs/accuracy.md has the figures of this rule.

    Args:
        size: base size (height, width): that of the card, or one of `Card.inputs`.
        image: (height, width) of an image.
    """
    stretch = (image[1] * size[0]) / (image[0] * size[1])  # of the aspect ratios, width over height
    if 1 / _SAME_SHAPE < stretch < _SAME_SHAPE:
        return size
    height, width = size[0] / sqrt(stretch), size[1] * sqrt(stretch)
    return congruent(height, size[0]), congruent(width, size[1])


def network_scales(scales: object, size: NetworkSize | None, max_pixels: int) -> tuple[float, ...]:
    """Return scales in their normal form: a tuple.

    Args:
        scales: one number or several, each above 0 and at most 16.
        size: of the network's input; None if it is that of a card that is not read yet.
        max_pixels: limit of the network's input.

    Raises:
        ArgumentError: no scale, another value, or an input that is too small or too large.
    """
    several = tuple(scales) if isinstance(scales, Iterable) else (scales,)
    if not several:
        raise ArgumentError("scales: at least one is needed; 1 is the input size itself.")
    for scale in several:
        if not is_number(scale) or not 0 < scale <= _MAX_SCALE:
            raise ArgumentError(f"scales: each must be above 0 and at most {_MAX_SCALE}, not {scale!r}.")
        if size is not None and size != "native":
            height, width = scaled(size, float(scale))
            if height * width > max_pixels:
                raise ArgumentError(f"size: {height}x{width} is over the limit of {max_pixels // 1_000_000} megapixels.")
    return several


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (height, width) times `scale`, in whole pixels: halves are rounded up, as in mmsegmentation."""
    height, width = (int(side * scale + 0.5) for side in size)
    if min(height, width) < MIN_SIDE:
        raise ArgumentError(f"scales: {scale:g} makes {height}x{width} of {hxw(size)}, "
                            f"and the network needs at least {MIN_SIDE} pixels a side.")
    return height, width


def _unreadable(size: object) -> ArgumentError:
    return ArgumentError(f'size: must be HxW such as "360x480", a pair of whole numbers such as (360, 480), or "native", '
                         f"not {size!r}.")
