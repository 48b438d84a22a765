"""The search space: the fields of a recipe that a search varies, each with a range or choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from fastscnn.base.arguments import is_number
from fastscnn.base.errors import ArgumentError, unknown
from fastscnn.training.recipes import Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_AROUND = 10.0  # the default space reaches from a tenth of the recipe's value to ten times it
_FIXED = ("name", "source", "task")  # fields that identify the recipe


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole numbers for a field of whole numbers.

    Attributes:
        low, high: the bounds.
        log: draw evenly on a logarithmic scale; `low` must be above 0.
    """

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | Sequence[Any]]  # name of a field -> its range or its choices


def default_space(recipe: Recipe) -> Space:
    """Return the space to search by default: learning rate and weight decay around the recipe's, and the Lovasz loss."""
    around = {name: value for name in ("lr", "weight_decay") if (value := getattr(recipe, name)) > 0}
    return {
        **{name: Range(value / _AROUND, value * _AROUND, log=True) for name, value in around.items()},
        "lovasz": Range(0.0, 1.0),
    }


def checked_space(space: Space, recipe: Recipe) -> dict[str, Range | tuple[Any, ...]]:
    """Return the space with choices as tuples, and bounds of the type of their field.

    Args:
        space: as the caller wrote it.
        recipe: has the values of the other fields.

    Raises:
        ArgumentError: an unknown field, an empty range, a single choice, a value that the recipe refuses, or the batch "auto".
    """
    _refuse_auto(recipe.batch)
    known = [field.name for field in dataclasses.fields(Recipe) if field.name not in _FIXED]
    if not space:
        raise ArgumentError("search: names no field; give at least one, for example lr=0.001:0.1:log.")
    found: dict[str, Range | tuple[Any, ...]] = {}
    for name, values in space.items():
        if name not in known:
            raise ArgumentError(f"search: {unknown('recipe field', name, known)}")
        found[name] = _range(name, values) if isinstance(values, Range) else _choices(name, values)
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            _refuse_auto(value)
            changed: dict[str, Any] = {name: value}
            try:
                dataclasses.replace(recipe, **changed)
            except ArgumentError as error:
                raise ArgumentError(f"search: {error}") from error
    return found


def _refuse_auto(value: object) -> None:
    if value == "auto":
        raise ArgumentError("batch: auto depends on the memory that is free, so a search cannot compare trials with it; give a "
                            "number.")


def _range(name: str, values: Range) -> Range:
    """Return a range with bounds of the type of its field."""
    low, high = values.low, values.high
    if not (is_number(low) and is_number(high)):
        raise ArgumentError(f"search: {name}: a range needs two numbers, not {low!r} and {high!r}.")
    if low >= high:
        raise ArgumentError(f"search: {name}: the range {low:g}:{high:g} is empty; give the smaller number first.")
    if values.log and low <= 0:
        raise ArgumentError(f"search: {name}: a logarithmic range must start above 0, not at {low:g}; omit log, or raise it.")
    return values if is_whole(name) else Range(float(low), float(high), values.log)


def _choices(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return choices as a tuple."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentError(f"search: {name}: must be a Range or a list of choices, not {values!r}.")
    if len(set(values)) < max(2, len(values)):
        raise ArgumentError(f"search: {name}: needs two or more different choices; to fix a field, change it in the recipe.")
    return tuple(values)


def is_whole(name: str) -> bool:
    """Return whether a field holds whole numbers, or also a word or nothing."""
    hint = get_type_hints(Recipe)[name]
    return hint is int or (get_origin(hint) is not tuple and int in get_args(hint))


def distributions(space: Mapping[str, Range | tuple[Any, ...]]) -> dict[str, BaseDistribution]:
    """Return the space for Optuna. Choices become their indices, since Optuna does not accept sizes."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name, values in space.items():
        if not isinstance(values, Range):
            found[name] = CategoricalDistribution(range(len(values)))
        elif is_whole(name):
            found[name] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            found[name] = FloatDistribution(values.low, values.high, log=values.log)
    return found


def encoded(space: Mapping[str, Range | tuple[Any, ...]], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of fields as Optuna's parameters."""
    return {name: value if isinstance(values := space[name], Range) else values.index(value) for name, value in params.items()}


def decoded(space: Mapping[str, Range | tuple[Any, ...]], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's parameters as values of fields."""
    return {name: value if isinstance(values := space[name], Range) else values[value] for name, value in params.items()}
