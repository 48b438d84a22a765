"""The fields of a recipe as options of `train`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import OmitArgPrefixes

from fastscnn.base.arguments import height_width
from fastscnn.cli.options import described, numbers, switch, value, write_numbers, write_size
from fastscnn.training.recipes import Recipe

_NO_OPTIONS = ("name", "source", "task")  # fields that identify the recipe


def _range(text: str) -> tuple[float, ...]:
    """Read two numbers separated by a comma. Raise ValueError for anything else."""
    pair = numbers(text)
    if len(pair) != 2:
        raise ValueError(f"expected two numbers separated by a comma, for example 0.5,2, not {text!r}")
    return pair


def _class_weights(text: str) -> str | tuple[float, ...]:
    """Read none, log or one number for each class. Raise ValueError for anything else."""
    return text if text in ("none", "log") else numbers(text)


def _write_class_weights(weights: str | tuple[float, ...]) -> str:
    """Write class weights as they are read."""
    return weights if isinstance(weights, str) else write_numbers(weights)


def _batch(text: str) -> str | int:
    """Read auto or a number. Raise ValueError for anything else."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number or auto, not {text!r}") from None


def _kind(field: str, hint: Any) -> Any:
    """Return how a field is read and shown."""
    if field == "class_weights":
        return value("none|log|W,W,...", _class_weights, write=_write_class_weights)
    if field == "batch":
        return value("N|auto", _batch)
    if hint == tuple[float, float]:
        return value("LOW,HIGH", _range, write=write_numbers)
    optional = NoneType in get_args(hint)
    if tuple[int, int] in (hint, *get_args(hint)):
        size = partial(_or_none, height_width) if optional else height_width
        return value("HxW", size, "the first training image's", write_size)
    read: Callable[[str], Any] = int if int in (hint, *get_args(hint)) else float
    metavar, write = ("N", str) if read is int else ("X", lambda number: f"{number:g}")
    return value(metavar, partial(_or_none, read) if optional else read, write=write)


def _or_none(read: Callable[[str], Any], text: str) -> Any:
    """Read none as None, and anything else by `read`."""
    return None if text == "none" else read(text)


def read_field(field: str, text: str) -> Any:
    """Read a value of a field as its option does. Raise ValueError for anything else."""
    hint = get_type_hints(Recipe)[field]
    if get_origin(hint) is Literal:
        return text
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError(f"expected true or false, not {text!r}")
        return text == "true"
    return _kind(field, hint).instance_from_str([text])


def _options() -> type[Any]:
    """Return a dataclass of the recipe's fields, each with its help and how it is read."""
    hints, texts = get_type_hints(Recipe), _texts()
    fields = []
    for field in dataclasses.fields(Recipe):
        if field.name not in _NO_OPTIONS:
            hint, text = hints[field.name], texts[field.name]
            how = () if get_origin(hint) is Literal or hint is bool else (_kind(field.name, hint),)
            fields.append((field.name, Annotated[(hint, *how, switch(text) if hint is bool else described(text))]))
    return dataclasses.make_dataclass("recipe", fields, frozen=True)


def _texts() -> dict[str, str]:
    """Return the description of each field of a recipe: the string below it in the source."""
    (recipe,) = ast.parse(textwrap.dedent(inspect.getsource(Recipe))).body
    assert isinstance(recipe, ast.ClassDef)
    return {
        before.target.id: " ".join(str(after.value.value).split())
        for before, after in pairwise(recipe.body)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


RecipeOptions = _options()
RecipeFlags = OmitArgPrefixes[RecipeOptions]  # type: ignore[valid-type]


def flags_of(recipe: Recipe) -> Any:
    """Return the values of a recipe as defaults of the options."""
    return RecipeOptions(**{field.name: getattr(recipe, field.name) for field in dataclasses.fields(RecipeOptions)})
