"""Types and bounds of the fields of a recipe."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from math import inf
from typing import Any, Literal, get_args, get_origin

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import ArgumentError, unknown
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.card import MAX_WIDTH_MULT

_MAX_INT = 1 << 63
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "batch": (2, inf),  # in a batch of 1, pooling to 1x1 leaves batch norm a single value for each channel
    **dict.fromkeys(("epochs", "iterations", "loss_stride", "auxiliary_stride", "validate_every"), (1, inf)),
    **dict.fromkeys(("lr", "min_lr", "power", "warmup", "momentum", "weight_decay", "brightness"), (0, inf)),
    **dict.fromkeys(("auxiliary", "distillation", "soft_head", "lovasz"), (0, inf)),  # weights of losses
    **dict.fromkeys(("contrast", "gamma"), (1, inf)),  # the smallest factors are the inverses
    **dict.fromkeys(("dropout", "norm_momentum", "label_smoothing", "ema", "channel_noise"), (0, 1)),
    **dict.fromkeys(("flip", "balanced_crops", "classmix", "paste", "corruption"), (0, 1)),  # probabilities
    **dict.fromkeys(("ohem_ratio", "ohem_threshold", "cat_max_ratio"), (0.01, 1)),
    "width_mult": (0.25, MAX_WIDTH_MULT),
    "seed": (0, (1 << 31) - 1),
}


def check(hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check the type and the bounds of each field.

    Args:
        hints: name of a field -> its type.
        values: name of a field -> its value.

    Raises:
        ArgumentError: a value of the wrong type or out of bounds; the message names the field.
    """
    for name, value in values.items():
        _check_type(name, hints[name], value)
        if value is None or value == "auto":
            continue
        if name in _BOUNDS:
            low, high = _BOUNDS[name]
            if not (low <= value <= high and value < inf):
                bounds = f"at least {low}" if high == inf else f"from {low} to {high}"
                raise ArgumentError(f"{name}: must be {bounds}, not {value}.")
        elif name in ("crop", "size"):
            _check_size(name, *value)
        elif name == "scale" and not 0 < value[0] <= value[1] < inf:
            raise ArgumentError(f"scale: must be two factors above 0, the smaller one first, not {value[0]},{value[1]}.")
        elif name == "class_weights" and not isinstance(value, str) and not all(0 < weight < inf for weight in value):
            raise ArgumentError(f"class_weights: must be finite numbers above 0, not {reprlib.repr(list(value))}.")


def _check_type(name: str, hint: Any, value: object) -> None:
    """Check that a value is of one of the types in a hint."""
    parts = (hint,) if get_origin(hint) in (Literal, tuple) else get_args(hint) or (hint,)
    if any(_is(part, value) for part in parts):
        return
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if choices and isinstance(value, str):
        raise ArgumentError(f"{name}: {unknown('choice', value, choices)}")
    raise ArgumentError(f"{name}: must be {' or '.join(map(_described, parts))}, not {reprlib.repr(value)}.")


def _is(kind: Any, value: object) -> bool:
    """Return whether a value is of a type; a bool is no number, and a whole number is also a float."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        return isinstance(value, tuple) and (Ellipsis in items or len(value) == len(items)) and all(
            _is(items[0], item) for item in value)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INT
        return whole or (kind is float and isinstance(value, float))
    return isinstance(value, kind)


def _described(kind: Any) -> str:
    """Return a type in words."""
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        items = get_args(kind)
        return "numbers" if Ellipsis in items else "a height and a width" if items[0] is int else "two numbers"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}[kind]


def _check_size(name: str, height: int, width: int) -> None:
    """Check a size in pixels."""
    if min(height, width) < MIN_SIDE:
        raise ArgumentError(f"{name}: must be at least {MIN_SIDE}x{MIN_SIDE}, not {height}x{width}.")
    if height * width > MAX_PIXELS:
        raise ArgumentError(f"{name}: {height}x{width} has more than {MAX_PIXELS} pixels; use a smaller size.")
