"""The command line: the verbs, their flags and what they print. What they do is imported where it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import tyro

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.cli.benchmark import benchmark
from fastscnn.cli.check import check
from fastscnn.cli.console import complain
from fastscnn.cli.convert import convert
from fastscnn.cli.evaluate import evaluate
from fastscnn.cli.export import export
from fastscnn.cli.segment import segment
from fastscnn.cli.train import Training, train
from fastscnn.cli.web import web
from fastscnn.training.recipes import named, names
from fastscnn.version import __version__

_VERBS: dict[str, Callable[..., int]] = {
    "segment": segment,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "convert": convert,
    "check": check,
    "benchmark": benchmark,
    "web": web,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 where the input was wrong, 2 where the call was, 130 on Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except FastSCNNError as error:
        complain(str(error))
        return 1
    except MemoryError:
        complain("out of memory; give a smaller --size, or a smaller --batch and --crop.")
        return 1
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept.")
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        _print_overview()
        return 0 if words else 2
    if words[0] == "--version":
        print(f"fastscnn {__version__}")
        return 0
    verb, *rest = words
    if verb not in _VERBS:
        raise unknown("command", verb, _VERBS)
    config = (tyro.conf.FlagCreatePairsOff,)
    if verb != "train":
        return tyro.cli(_VERBS[verb], prog=f"fastscnn {verb}", args=rest, config=config)
    if not rest or rest[0].startswith("-"):
        known = ", ".join(names())
        raise FastSCNNError(f"Say the recipe first: fastscnn train RECIPE --data SPEC --out DIR, RECIPE one of {known}.")
    default = Training(data=tyro.MISSING, out=tyro.MISSING, recipe=named(rest[0]))
    return train(tyro.cli(Training, prog=f"fastscnn train {rest[0]}", args=rest[1:], default=default, config=config))


def _print_overview() -> None:
    print("usage: fastscnn COMMAND ...; `fastscnn COMMAND --help` tells its flags\n")
    summaries = {verb: (function.__doc__ or "").split("\n")[0] for verb, function in _VERBS.items()}
    summaries["train"] = (Training.__doc__ or "").split("\n")[0]
    for verb, summary in summaries.items():
        print(f"  {verb:<10} {summary}")
