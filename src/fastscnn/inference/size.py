"""The size of the network's input: how users write it, and the limits."""

from __future__ import annotations

import re
from typing import Literal

from fastscnn.base.arguments import is_number, whole
from fastscnn.base.errors import ArgumentError
from fastscnn.model.architecture import MIN_SIDE

Size = tuple[int, int] | str | None  # (height, width), "HxW", "native", or None for the card's own
NetworkSize = tuple[int, int] | Literal["native"]
_MAX_SCALE = 16
_HEIGHT_WIDTH = re.compile(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", re.ASCII)


def network_size(size: Size) -> NetworkSize | None:
    """Return a size in its normal form: (height, width) as ints, "native", or None.

    Args:
        size: "HxW" such as "360x480", (height, width) as whole numbers, "native", or None.

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
    return height, width


def height_width(text: str) -> tuple[int, int]:
    """Read "HxW", such as "360x480", as (height, width). Raise ArgumentError for anything else."""
    match = _HEIGHT_WIDTH.fullmatch(text)
    if match is None:
        raise ArgumentError(f"expected HxW, for example 360x480, not {text!r}")
    return int(match[1]), int(match[2])


def check_scales(scales: tuple[object, ...], size: NetworkSize) -> None:
    """Raise ArgumentError unless there is a scale, each is above 0 and at most 16, and none makes the input too small."""
    if not scales:
        raise ArgumentError("scales: at least one is needed; 1 is the input size itself.")
    for scale in scales:
        if not is_number(scale) or not 0 < float(scale) <= _MAX_SCALE:  # NaN fails this comparison too
            raise ArgumentError(f"scales: each must be above 0 and at most {_MAX_SCALE}, not {scale!r}.")
        if size != "native":
            scaled(size, float(scale))


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (height, width) times `scale`, in whole pixels: halves are rounded up, as in mmsegmentation."""
    height, width = (int(side * scale + 0.5) for side in size)
    if min(height, width) < MIN_SIDE:
        raise ArgumentError(f"scales: {scale:g} makes {height}x{width} of {size[0]}x{size[1]}, "
                            f"and the network needs at least {MIN_SIDE} pixels a side.")
    return height, width


def _unreadable(size: object) -> ArgumentError:
    return ArgumentError(f'size: must be HxW such as "360x480", a pair of whole numbers such as (360, 480), or "native", '
                         f"not {size!r}.")
