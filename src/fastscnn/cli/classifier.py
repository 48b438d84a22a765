"""check and evaluate where each image has one class: what they print of folders of images and of a classifier."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.console import STDOUT, progress_bar
from fastscnn.cli.flags import learning

if TYPE_CHECKING:
    from fastscnn.data.datasets import ClassFolders


def check_classes(data: ClassFolders, splits: tuple[str, ...], json: bool) -> int:
    """As `check`, of images in a folder for each class."""
    from fastscnn.data.check.class_folders import check_classes as read_all

    with progress_bar("check", quiet=json) as advance:
        report = read_all(data, splits or None, progress=advance)
    if json:
        print(report.to_json())
        return 0 if report.ok else 1
    for finding in report.findings:
        STDOUT.print(f"{finding.severity}: {finding.message}", soft_wrap=True)
    table = Table("split", "images", "classes", "images of the smallest", title=f"{data.name}: {len(data.classes)} classes")
    for split, count in report.counts.items():
        table.add_row(split, str(count), str(report.classes[split]), str(report.smallest[split]))
    STDOUT.print(table)
    errors = sum(finding.severity == "error" for finding in report.findings)
    STDOUT.print(f"{errors} errors, {len(report.findings) - errors} warnings")
    return 0 if report.ok else 1


def evaluate_classes(data: ClassFolders, weights: Path | None, split: str, json: Path | None, others: bool) -> int:
    """As `evaluate`, of a classifier's weights.

    Args:
        others: whether flags were given that act on labels of pixels; they are refused.
    """
    if weights is None:
        raise FastSCNNError("weights: give the file of a classifier, made by `fastscnn train imagenet`; none is bundled.")
    if others:
        raise FastSCNNError(f"{data.name}: a classifier is scored by --weights, --split and --json alone; leave others out.")
    learned = learning("evaluate", "training.pretraining.classify")
    with progress_bar("evaluate") as advance:
        scores = learned.evaluate(weights, data, split, advance)
    STDOUT.print(f"top-1 {scores['top1']:.2f}, top-5 {scores['top5']:.2f} on {scores['images']} images of {data.name} {split}")
    if json:
        files.write(json, json_.dumps(scores, indent=1).encode())
    return 0
