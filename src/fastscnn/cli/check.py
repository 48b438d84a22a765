"""check: what is wrong with a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.classifier import check_classes
from fastscnn.cli.console import STDOUT, command, progress_bar


def check(
    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")],
    *,
    splits: tuple[str, ...] = (),
    report: Path | None = None,
    json: bool = False,
) -> int:
    """Read every image and label file of a dataset and say what is wrong with it. Exit code 1 on any error.

    Args:
        spec: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        splits: Which ones; all where none is given.
        report: Also write a page into this folder: what is wrong, shares of the classes, sizes, pictures with their labels.
        json: Print what was found as JSON.
    """
    from fastscnn.data import datasets
    from fastscnn.data.check.dataset import check as read_all
    from fastscnn.evaluation.report.data import render
    from fastscnn.evaluation.report.page import PAGE, check_ours, write

    dataset = datasets.load_any(spec)
    if isinstance(dataset, datasets.ClassFolders):
        if report:
            raise FastSCNNError("report: is for datasets with a class for each pixel; leave it out for imagenet.")
        return check_classes(dataset, splits, json)
    if report:
        check_ours(report / PAGE)
    with progress_bar("check", quiet=json) as advance:
        found = read_all(dataset, splits or None, cache=files.cache("check"), progress=advance)
    if report:
        write(report / PAGE, render(dataset, found, command()))
    if json:
        print(found.to_json())
        return 0 if found.ok else 1
    for finding in found.findings:
        STDOUT.print(f"{finding.severity}: {finding.message}", soft_wrap=True)
    table = Table("share of pixels in %", *found.counts, title=f"{dataset.name}: {sum(found.counts.values())} images")
    for name in dataset.label_set.names:
        table.add_row(name, *(f"{found.class_percentages[split][name]:.2f}" for split in found.counts))
    table.add_section()
    table.add_row("ignored, of all", *(f"{found.ignored[split]:.2f}" for split in found.counts))
    table.add_row("images", *(str(count) for count in found.counts.values()))
    STDOUT.print(table)
    errors = sum(finding.severity == "error" for finding in found.findings)
    STDOUT.print(f"{errors} errors, {len(found.findings) - errors} warnings")
    if report:
        STDOUT.print(f"Look at {report / PAGE}", soft_wrap=True)
    return 0 if found.ok else 1
