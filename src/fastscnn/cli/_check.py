"""check: what is wrong with a dataset."""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.table import Table

from fastscnn import files
from fastscnn.cli._console import STDOUT, progress_bar


def check(
    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")],
    *,
    splits: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Read every image and label file of a dataset and say what is wrong with it. Exit code 1 on any error.

    Args:
        spec: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        splits: Which ones; all where none is given.
        json: Print the report as JSON.
    """
    from fastscnn import datasets
    from fastscnn.datasets.check import check as read_all

    dataset = datasets.load(spec)
    with progress_bar("check", quiet=json) as advance:
        report = read_all(dataset, splits or None, cache=files.cache("check"), progress=advance)
    if json:
        print(report.to_json())
        return 0 if report.ok else 1
    for finding in report.findings:
        STDOUT.print(f"{finding.severity}: {finding.message}", soft_wrap=True)
    table = Table("share of pixels in %", *report.counts, title=f"{dataset.name}: {sum(report.counts.values())} images")
    for name in dataset.label_set.names:
        table.add_row(name, *(f"{report.shares[split][name]:.2f}" for split in report.counts))
    table.add_section()
    table.add_row("ignored, of all", *(f"{report.ignored[split]:.2f}" for split in report.counts))
    table.add_row("images", *(str(count) for count in report.counts.values()))
    STDOUT.print(table)
    errors = sum(finding.severity == "error" for finding in report.findings)
    STDOUT.print(f"{errors} errors, {len(report.findings) - errors} warnings")
    return 0 if report.ok else 1
