"""Output of the verbs: results on stdout, progress, notes and errors on stderr."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from statistics import fmean, median
from typing import Protocol

from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

STDOUT = Console(markup=False, highlight=False)  # class and folder names may look like markup: "[road]"
STDERR = Console(markup=False, highlight=False, stderr=True)
# C0 and C1 control characters but tab and newline: a class or file name must not send escapes to the terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_verbose: ContextVar[bool] = ContextVar("verbose", default=False)


def configure(quiet: bool = False, verbose: bool = False) -> None:
    """Set what this call of the command line prints on stderr."""
    _quiet.set(quiet)
    _verbose.set(verbose)
    for stream in (sys.stdout, sys.stderr):  # names outside the stream's encoding are escaped, not an error
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")


def is_quiet() -> bool:
    """Return whether progress and notes are hidden (`--quiet`)."""
    return _quiet.get()


def printable(text: str) -> str:
    """Return the text with control characters written as escape sequences, such as \\x1b."""
    return text.translate(_CONTROLS)


def show(text: str) -> None:
    """Print a sentence on stdout, unwrapped, so that paths can be copied."""
    STDOUT.print(printable(text), soft_wrap=True)


def note(text: str) -> None:
    """Print a note on stderr, unless `--quiet`."""
    if not is_quiet():
        STDERR.print(printable(text), soft_wrap=True)


def complain(message: str) -> None:
    """Print an error on stderr; with `--verbose`, after the traceback of the exception in progress."""
    if _verbose.get() and sys.exception():
        STDERR.print(printable(traceback.format_exc()), soft_wrap=True)
    STDERR.print(f"fastscnn: {printable(message)}", soft_wrap=True)


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table whose columns after the first are numbers, aligned right."""
    made = Table(*(printable(column) for column in columns), title=None if title is None else printable(title))
    for column in made.columns[1:]:
        column.justify = "right"
    return made


def print_stages(title: str, times: Sequence[Mapping[str, float]], percentages: Sequence[Mapping[str, float]]) -> None:
    """Print the median milliseconds of each stage and the mean percentage of each class."""
    show(title)
    stages = table("stage", "ms")
    for stage in times[0]:
        stages.add_row(stage, f"{median(frame[stage] for frame in times):.1f}")
    classes = table("class", "% of pixels")
    for name in sorted(percentages[0], key=lambda name: -fmean(image[name] for image in percentages)):
        classes.add_row(printable(name), f"{fmean(image[name] for image in percentages):.2f}")
    STDOUT.print(Columns([stages, classes]))


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def command() -> str:
    """Return the running command as it was typed."""
    return shlex.join(["fastscnn", *sys.argv[1:]])


class Advance(Protocol):
    """Updates a progress bar."""

    def __call__(self, done: int, total: int | None, text: str = "") -> None:
        """Show how much is done, of how much (None if unknown), and a text."""


@contextmanager
def progress_bar(what: str, quiet: bool = False, rate: bool = False) -> Iterator[Advance]:
    """Show a progress bar on stderr; yield the function that updates it."""
    if quiet or is_quiet() or not STDERR.is_terminal:  # rich would print an empty line where there is no terminal
        yield lambda done, total, text="": None
        return
    name = TextColumn("{task.description}", markup=False)
    text = TextColumn("{task.fields[text]}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), *((_Rate(), text) if rate else ()), TimeRemainingColumn())
    with Progress(*columns, console=STDERR, transient=True) as bar:
        task = bar.add_task(printable(what), total=None, text="")
        yield lambda done, total, text="": bar.update(task, completed=done, total=total, text=text)
