"""What `train` and `tune` share: the recipe that their words begin with, or that of `--config`, and options of a training."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastscnn.cli import parse, wrong_call
from fastscnn.cli.flags import weight_file
from fastscnn.cli.options import described, path, value
from fastscnn.training.recipes import Recipe, from_run, named, names

Patience = Annotated[int | None, value("N", int, "take all steps"), described(
    "Stop after N validations in a row without a better score.")]
Config = Annotated[Path | None, path("FILE"), described(
    "Use the values in the run.json of an earlier run: the file or its folder.")]
Init = Annotated[Path | None, path("FILE", "from scratch"), described(
    "Fine-tune these .safetensors weights, a file or hf://OWNER/NAME; `bundled`: the bundled weights, whose licence then "
    "applies to yours. If the classes differ, the last layer is replaced.")]
Teacher = Annotated[tuple[Path, ...], described(
    "Teachers for --distillation, .safetensors; their probabilities are averaged.", metavar="FILE ...")]
_HELP = """\
usage: fastscnn {verb} RECIPE {usage}
       fastscnn {verb} --config FILE {usage}

{summary}

recipes:
{recipes}

`fastscnn {verb} RECIPE --help` lists the options and the values of the recipe.
`--config run.json` uses the recipe of an earlier run.\
"""


def with_recipe(
    verb: str, words: Sequence[str], command: Callable[[Recipe], Any], usage: str, summary: str, by: str
) -> int:
    """Call a command whose options have the values of a recipe as defaults; return the exit code.

    Args:
        verb: `train` or `tune`.
        words: those after the verb.
        command: returns the function behind the verb for a recipe.
        usage: the words after the recipe.
        summary: help of the verb.
        by: beginning of its help with a recipe, before the name of the recipe.
    """
    call = f"fastscnn {verb} RECIPE {usage}"
    if not words or words[0] in ("-h", "--help"):
        recipes = "\n".join(f"  {name:<18} {_summary(name)}" for name in names())
        if words:
            print(_HELP.format(verb=verb, usage=usage, summary=textwrap.fill(summary, 79), recipes=recipes))
            return 0
        return wrong_call(call, "recipe", "", names())
    rest = list(words)
    name = rest.pop(0) if not rest[0].startswith("-") else None
    if name is not None and name not in names():
        return wrong_call(call, "recipe", name, names())
    config, rest = _config(rest)
    if name is None and config is None:
        return wrong_call(call, "recipe", "", names())
    recipe = from_run(config, named(name) if name else None) if config else named(name or "")
    prog = f"fastscnn {verb} {name}" if name else f"fastscnn {verb} --config {config}"
    return parse(command(recipe), prog, usage, rest, f"{by} {recipe.name}.\n\nOrigin: {recipe.source}.")


def weight_files(init: Path | None, teacher: Sequence[Path], quiet: bool = False) -> dict[str, Any]:
    """Return the arguments `init` and `teacher` of a training; weights on the hub are downloaded."""
    from fastscnn.model.weights import bundled

    start = bundled("torch") if init == Path("bundled") else init and weight_file(init, "torch", quiet=quiet)
    return {"init": start, "teacher": [weight_file(path, "torch", quiet=quiet) for path in teacher]}


def _summary(name: str) -> str:
    """Return the origin of a recipe, wrapped to stand beside its name."""
    return textwrap.fill(named(name).source, 58, break_on_hyphens=False).replace("\n", "\n" + " " * 21)


def _config(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the file of `--config`, and the other words."""
    rest: list[str] = []
    config = None
    waiting = iter(words)
    for word in waiting:
        if word == "--config":
            config = next(waiting, None)
            if config is None:
                return None, list(words)
        elif word.startswith("--config="):
            config = word.removeprefix("--config=")
        else:
            rest.append(word)
    return Path(config) if config else None, rest
