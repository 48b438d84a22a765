"""What the verbs print with: results on the output stream, progress and complaints on the error stream."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean, median

from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

STDOUT = Console(markup=False, highlight=False)  # a class or a folder may well be called "[road]"
STDERR = Console(markup=False, highlight=False, stderr=True)


def complain(message: str) -> None:
    """Says what went wrong, in one line that bears our name."""
    STDERR.print(f"fastscnn: {message}", soft_wrap=True)


def print_stages(title: str, times: Sequence[Mapping[str, float]], shares: Sequence[Mapping[str, float]]) -> None:
    """Median time of each stage, in milliseconds, and mean share of each class, in percent, over what was labelled."""
    table = Table("stage", "ms", title=title)
    for stage in times[0]:
        table.add_row(stage, f"{median(frame[stage] for frame in times):.1f}")
    classes = Table("class", "share %")
    for name in sorted(shares[0], key=lambda name: -fmean(image[name] for image in shares)):
        classes.add_row(name, f"{fmean(image[name] for image in shares):.2f}")
    STDOUT.print(Columns([table, classes]))


class _Rate(ProgressColumn):
    """Steps a second, lately."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def command() -> str:
    """The command that runs, as one types it."""
    return shlex.join(["fastscnn", *sys.argv[1:]])


@contextmanager
def progress_bar(what: str, quiet: bool = False, rate: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on the error stream, moved by calls of (done, all), which is None where nobody knows; with its rate."""
    if quiet:  # not by rich's own switch, which prints an empty line before rich 15
        yield lambda done, total: None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), *((_Rate(),) if rate else ()), TimeRemainingColumn())
    with Progress(*columns, console=STDERR, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
