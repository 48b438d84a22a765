"""What the verbs print with: results on the output stream, progress and complaints on the error stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

STDOUT = Console(markup=False, highlight=False)  # a class or a folder may well be called "[road]"
STDERR = Console(markup=False, highlight=False, stderr=True)


def complain(message: str) -> None:
    """Says what went wrong, in one line that bears our name."""
    STDERR.print(f"fastscnn: {message}", soft_wrap=True)


@contextmanager
def progress_bar(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the error stream, moved by calls of (done, all)."""
    if quiet:  # not by rich's own switch, which prints an empty line before rich 15
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=STDERR, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
