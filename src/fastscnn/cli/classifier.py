"""check and evaluate for datasets with one class for each image (ImageNet)."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastscnn.base.errors import ArgumentError
from fastscnn.cli.console import STDOUT, progress_bar, show, table
from fastscnn.cli.flags import learning, weight_file

if TYPE_CHECKING:
    from fastscnn.data.datasets import ClassFolders


def check(data: ClassFolders, splits: Sequence[str] | None, json: bool, every: bool) -> int:
    """Check images in class folders; return the exit code."""
    from fastscnn.cli.check import print_findings, summary
    from fastscnn.data.check.class_folders import check_classes

    with progress_bar("check", quiet=json) as advance:
        report = check_classes(data, splits, progress=advance)
    if json:
        print(report.to_json())
        return 0 if report.ok else 1
    print_findings(report.findings, every)
    counts = table("split", "images", "classes", "images of the smallest", title=f"{data.name}: {len(data.classes)} classes")
    for split, count in report.counts.items():
        counts.add_row(split, str(count), str(report.classes[split]), str(report.smallest[split]))
    STDOUT.print(counts)
    show(summary(report.findings))
    return 0 if report.ok else 1


def evaluate(data: ClassFolders, weights: Path | None, split: str, json: bool, others: bool) -> int:
    """Score a classifier; return the exit code.

    Args:
        data: the dataset.
        weights: the classifier.
        split: of the dataset.
        json: print JSON in place of a sentence.
        others: whether options were given that apply to labels of pixels; they are refused.
    """
    if weights is None:
        raise ArgumentError("weights: give a classifier made by `fastscnn train imagenet`; none is bundled.")
    if others:
        raise ArgumentError(f"{data.name}: a classifier takes --weights, --split and --json only; omit the others.")
    classify = learning("evaluate", "training.pretraining.classify")
    weights = weight_file(weights, "torch")
    with progress_bar("evaluate", quiet=json) as advance:
        scores = classify.evaluate(weights, data, split, advance)
    if json:
        print(json_.dumps(scores))
        return 0
    show(f"top-1 {scores['top1']:.2f}, top-5 {scores['top5']:.2f} on {scores['images']} images of {data.name} {split}")
    return 0
