"""check: what is wrong with a dataset."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError
from fastscnn.cli import classifier
from fastscnn.cli.console import STDOUT, command, configure, printable, progress_bar, show, table
from fastscnn.cli.options import SPLIT, Dataset, Json, MoreDatasets, Quiet, Report, Verbose, switch, value

if TYPE_CHECKING:
    from pathlib import Path

    from fastscnn.data.check.findings import Finding
    from fastscnn.data.datasets import ClassFolders, DatasetSpec

USAGE = "[options] DATASET ..."
_SHOWN = 3  # files of each kind of finding


def run(
    dataset: Dataset,
    more: MoreDatasets = (),
    *,
    split: Annotated[str | None, value("SPLIT", str, "all"), SPLIT] = None,
    report: Report = None,
    all: Annotated[bool, switch("List every finding, not the first three of each kind.")] = False,  # noqa: A002
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Read every image and label of a dataset, and list what is wrong.

    The exit code is 1 if there is an error, 0 if there are only warnings.
    """
    from fastscnn.data import mixture

    configure(quiet, verbose)
    specs = mixture.load_each([dataset, *more])
    if report and len(specs) > 1:
        raise ArgumentError("report: describes one dataset; check one at a time with --report.")
    return max(_check(spec, split.split("+") if split else None, report, all, json, len(specs) > 1)
               for spec in specs)


def _check(
    spec: DatasetSpec | ClassFolders,
    splits: Sequence[str] | None,
    report: Path | None,
    all: bool,  # noqa: A002
    json: bool,
    named: bool,
) -> int:
    """Check one dataset, and print and write the result; return the exit code. With `named`, the JSON has its name."""
    from fastscnn.data import datasets
    from fastscnn.data.check.dataset import check
    from fastscnn.evaluation.report.data import render
    from fastscnn.evaluation.report.page import PAGE, check_ours, write

    if isinstance(spec, datasets.ClassFolders):
        if report:
            raise ArgumentError("report: not available for imagenet, which has no labels of pixels; omit --report.")
        return classifier.check(spec, splits, json, all)
    if report:
        check_ours(report / PAGE)
    with progress_bar("check", quiet=json) as advance:
        found = check(spec, splits, cache=files.cache("check"), progress=advance)
    if report:
        write(report / PAGE, render(spec, found, command()))
    if json:
        print(json_.dumps({"dataset": spec.name} | json_.loads(found.to_json())) if named else found.to_json())
        return 0 if found.ok else 1
    print_findings(found.findings, all)
    classes = table("% of pixels", *found.counts, title=f"{spec.name}: {sum(found.counts.values())} images")
    for name in spec.label_set.names:
        classes.add_row(printable(name), *(f"{found.class_percentages[split][name]:.2f}" for split in found.counts))
    classes.add_section()
    classes.add_row("ignored, of all", *(f"{found.ignored[split]:.2f}" for split in found.counts))
    classes.add_row("images", *(str(count) for count in found.counts.values()))
    STDOUT.print(classes)
    show(summary(found.findings))
    if report:
        show(f"Open {report / PAGE}")
    return 0 if found.ok else 1


def print_findings(findings: Sequence[Finding], every: bool) -> None:
    """Print findings grouped by kind: their number, the first files and the fix."""
    from fastscnn.data.check.findings import grouped

    for group in grouped(findings):
        show(f"{group.severity}: {group.kind} ({len(group.findings)})")
        for finding in group.findings if every else group.findings[:_SHOWN]:
            show(f"  {finding.message}")
        if not every and len(group.findings) > _SHOWN:
            show(f"  and {len(group.findings) - _SHOWN} more; list them with --all")
        show(f"  Fix: {group.fix}")


def summary(findings: Sequence[Finding]) -> str:
    """Return the numbers of errors and warnings."""
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
