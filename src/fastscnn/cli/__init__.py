"""How is it used from a shell? One module for each verb parses the call, calls the package and prints."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.cli.console import STDERR, complain, configure
from fastscnn.cli.missing import slower
from fastscnn.hub.address import is_address as is_hub_address
from fastscnn.media import addresses
from fastscnn.version import __version__

VERBS = {  # each is the module of that name, with `_` for `-`; it is imported only if it runs
    "segment": "Segment images, videos, a camera or a live stream.",
    "demo": "Segment a generated test scene, to test the installation.",
    "train": "Train on a dataset, by a recipe.",
    "tune": "Search for the values of a recipe that score best.",
    "evaluate": "Score weights on labelled images.",
    "export": "Write trained weights as an ONNX file, for fast inference.",
    "push": "Upload weights and their model card to the Hugging Face Hub.",
    "convert": "Convert a checkpoint of another implementation.",
    "soft-labels": "Write a network's class probabilities, for distillation.",
    "dataset": "Describe your own images and labels, or write shards.",
    "check": "Find what is wrong with a dataset.",
    "benchmark": "Measure speed and memory.",
    "web": "Write a web page that segments in the browser.",
    "serve": "Segment images over HTTP.",
    "cluster": "Segment many images on several machines.",
}
_WITH_COMMANDS = ("train", "tune", "dataset", "cluster")  # verbs that a recipe or a command follows
SHELLS = ("bash", "zsh", "fish")
_OVERVIEW = """\
usage: fastscnn [-h] [-V] [--completion SHELL] COMMAND ...

Fast-SCNN for real-time street-scene segmentation.

commands:
{commands}

options:
  -h, --help          Show this help.
  -V, --version       Show the version.
  --completion SHELL  Print a completion script for bash, zsh or fish.

`fastscnn COMMAND --help` lists the options of a command. Try `fastscnn demo`.
Exit codes: 0 success, 1 wrong input, 2 wrong call, 130 interrupted.
Completion: eval "$(fastscnn --completion bash)" in ~/.bashrc;
zsh: fastscnn --completion zsh > DIR/_fastscnn, for a folder DIR in $fpath;
fish: fastscnn --completion fish > ~/.config/fish/completions/fastscnn.fish\
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `fastscnn`; None takes those of the process.

    Returns:
        The exit code: 0, 1 for wrong input, 2 for a wrong call, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    configure()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # such as of corrupt EXIF tags; the image is read all the same
    try:
        return _run(words)
    except FastSCNNError as error:
        complain(str(error))
        return 1
    except MemoryError:
        complain("out of memory; use a smaller --size, or a smaller --batch and --crop.")
        return 1
    except KeyboardInterrupt:
        complain("interrupted; finished results are kept.")
        return 130
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        _drop_stdout()
        return 1
    except OSError as error:
        if error.filename is not None:  # not of stdout: a defect
            raise
        _drop_stdout()
        complain(f"standard output cannot be written ({error.strerror or error}); finished results are kept.")
        return 1


def _drop_stdout() -> None:
    """Let what is left to print go nowhere: Python flushes stdout once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        commands = "\n".join(f"  {verb:<11} {summary}" for verb, summary in VERBS.items())
        print(_OVERVIEW.format(commands=commands), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"fastscnn {__version__}", *slower(), sep="\n")
        return 0
    if words[0] == "--completion":
        return _completion(words[1:])
    verb, *rest = words
    if verb not in VERBS:
        return wrong_call("fastscnn COMMAND ...", "command", verb, VERBS)
    module = _module(verb)
    if verb in _WITH_COMMANDS:
        return int(module.main(rest))
    return parse(module.run, f"fastscnn {verb}", module.USAGE, rest, streams=getattr(module, "STREAMS", ""))


def _module(verb: str) -> ModuleType:
    return import_module(f"fastscnn.cli.{verb.replace('-', '_')}")


def parse(
    run: Callable[..., int], prog: str, usage: str, words: Sequence[str], description: str = "", streams: str = "",
    remote: bool = False,
) -> int:  # fmt: skip
    """Call `run` with the options in `words`; return its exit code, 2 for a wrong call, 0 after `--help`.

    `streams` names the argument that may be the address of a live stream. All of them may be addresses if `remote`; otherwise
    addresses are refused.
    """
    import tyro

    @functools.wraps(run)
    def options(*positional: Any, **named: Any) -> Callable[[], int]:
        return functools.partial(run, *positional, **named)  # called after parsing, outside tyro's error handling

    try:
        named = list(words) if remote else _without_secrets(run, words, streams)
    except FastSCNNError as error:
        complain(str(error))
        return 1
    printed = io.StringIO()
    asked = any(word in ("-h", "--help") for word in words)
    try:
        with contextlib.redirect_stdout(printed) if asked else contextlib.nullcontext():
            for args in (named, words) if named != words else (words,):  # first the one that an error may print
                call = tyro.cli(options, prog=prog, args=args, description=description or None,
                                config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stopped:
        if stopped.code:
            if "..." in usage and (apart := _apart(options, named)):
                many = usage.partition(" ...")[0].split()[-1]
                complain(f"{', '.join(apart)}: give every {many} in one place, without options between them.")
            STDERR.print(f"usage: {prog} {usage}", soft_wrap=True)
        else:
            print(_wrapped(printed.getvalue(), f"{prog} {usage}"))
        return int(stopped.code or 0)
    try:
        return call()
    except ArgumentError as error:
        complain(str(error))
        STDERR.print(f"usage: {prog} {usage}", soft_wrap=True)
        return 2


def _without_secrets(run: Callable[..., int], words: Sequence[str], streams: str) -> list[str]:
    """Return the words with the names of the streams in place of their addresses.

    Raises:
        FastSCNNError: an address that is not a stream, or that stands where none is opened.
    """
    parameters = inspect.signature(run).parameters
    result, option = [], ""  # the option whose value comes next
    for word in words:
        key, equals, value = word.partition("=") if word.startswith("--") else (option, "=", word)
        option = "" if equals else key
        if not files.is_address(value) or is_hub_address(value):
            result.append(word)
            continue
        place = key.lstrip("-").replace("-", "_")
        if place not in parameters or parameters[place].default is False:  # behind a switch, it is none's value
            place = "paths"
        if place != streams or not addresses.is_stream(value):
            raise FastSCNNError(f"{addresses.shown(value)}: is an address, and addresses are not opened here; download or "
                                "record a file first.")
        name = addresses.read(value).name
        result.append(f"{key}={name}" if word.startswith("--") else name)
    return result


def _apart(options: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """Return the words that tyro takes for no value, since an option separates them from the others of their list."""
    import tyro

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            _, unknown = tyro.cli(options, args=words, config=(tyro.conf.FlagCreatePairsOff,), return_unknown_args=True)
    except SystemExit:
        return []
    return [] if any(word.startswith("-") for word in unknown) else unknown


def _wrapped(text: str, usage: str) -> str:
    """Return tyro's help with our usage line, and with its description wrapped: tyro wraps the options only."""
    text = text.replace("show this help message and exit", "Show this help.")
    lines = [line.removeprefix(" ").rstrip() for line in text.rstrip().splitlines()[1:]]
    # tyro follows a line that fills the width by an empty one.
    lines = [line for line, after in pairwise([*lines, ""]) if line or not after.startswith(" ")]
    width = max(40, shutil.get_terminal_size().columns - 1)
    return "\n".join([f"usage: {usage}", *(textwrap.fill(line, width) if line[:1].isalnum() else line for line in lines)])


def _completion(words: list[str]) -> int:
    """Print the completion script of a shell; return the exit code."""
    if len(words) != 1 or words[0] not in SHELLS:
        return wrong_call("fastscnn --completion SHELL", "shell", " ".join(words), SHELLS)
    from tyro.extras import SubcommandApp

    from fastscnn.training.recipes import named, names

    app = SubcommandApp()
    for verb in VERBS:
        module = _module(verb)
        if verb in ("train", "tune"):
            recipes = SubcommandApp()
            for name in names():
                recipes.command(module.for_recipe(named(name)), name=name)
            app.command(recipes, name=verb)
        elif verb in _WITH_COMMANDS:
            commands = SubcommandApp()
            for name in module.COMMANDS:
                commands.command(getattr(module, name), name=name)
            app.command(commands, name=verb)
        else:
            app.command(module.run, name=verb)
    with contextlib.suppress(SystemExit):
        app.cli(prog="fastscnn", args=["--tyro-print-completion", words[0]])
    return 0


def with_commands(
    verb: str, about: str, commands: Mapping[str, str], words: Sequence[str], run: Callable[[str, Sequence[str]], int]
) -> int:
    """Run the command that `words` begin with; return the exit code.

    Args:
        verb: of the commands, such as `dataset`.
        about: a sentence about it.
        commands: name -> summary.
        words: those after the verb.
        run: called with the name of a command and the words after it.
    """
    if words and words[0] in ("-h", "--help"):
        width = max(map(len, commands)) + 2
        rows = "\n".join(f"  {name:<{width}} {summary}" for name, summary in commands.items())
        print(f"usage: fastscnn {verb} COMMAND ...\n\n{about}\n\ncommands:\n{rows}\n\n"
              f"`fastscnn {verb} COMMAND --help` lists the options of a command.")
        return 0
    name, *rest = words or ("",)
    if name not in commands:
        return wrong_call(f"fastscnn {verb} COMMAND ...", "command", name, commands)
    return run(name, rest)


def wrong_call(usage: str, kind: str, word: str, known: Iterable[str]) -> int:
    """Print the usage and the nearest known word; return exit code 2."""
    complain(str(unknown(kind, word, known)) if word else f"Missing {kind.upper()}: one of {', '.join(known)}.")
    STDERR.print(f"usage: {usage}", soft_wrap=True)
    return 2
