"""Limits of arguments, and checks of those that reach C code, where a wrong type would crash the interpreter."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import SupportsIndex, TypeGuard

from fastscnn.base.errors import ArgumentError

_HEIGHT_WIDTH = re.compile(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", re.ASCII)
MAX_PIXELS = 40_000_000  # of an image that is read, and of the network's input


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a finite real number: an int that fits into a float, a float or a NumPy scalar, but no bool."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # an int of more than 308 digits
        return False


def whole(name: str, value: SupportsIndex, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int.

    Args:
        name: of the argument, for the error.
        value: an int or a NumPy integer. A bool or a float is refused, 64.0 too.
        least, most: the accepted range; None is no upper limit.

    Raises:
        ArgumentError: another type, or a number outside the range.
    """
    wanted = f"at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ArgumentError(f"{name}: must be a whole number, {wanted}, not {value!r}.")
    if number < least or (most is not None and number > most):
        raise ArgumentError(f"{name}: must be {wanted}, not {number}.")
    return number


def height_width(text: str) -> tuple[int, int]:
    """Read "HxW", such as "360x480", as (height, width). Raise ArgumentError for anything else."""
    match = _HEIGHT_WIDTH.fullmatch(text)
    if match is None:
        raise ArgumentError(f"expected HxW, for example 360x480, not {text!r}")
    return int(match[1]), int(match[2])


def hxw(size: Sequence[int]) -> str:
    """Return (height, width) as text, "HxW"; further numbers, such as the channels of an array, are left out."""
    return f"{size[0]}x{size[1]}"
