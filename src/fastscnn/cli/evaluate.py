"""evaluate: scores of weights on labelled images, and submissions to a server that scores them."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.classifier import evaluate_classes
from fastscnn.cli.console import STDOUT, command, progress_bar
from fastscnn.cli.flags import load, parse_scales

if TYPE_CHECKING:
    from fastscnn.base.types import Int64Array
    from fastscnn.data.datasets import DatasetSpec
    from fastscnn.evaluation.evaluate import Report
    from fastscnn.inference.segmenter import Segmenter


def evaluate(
    *,
    data: str,
    weights: Path | None = None,
    split: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    size: str | None = None,
    scales: str = "1",
    flip: bool = False,
    threads: int | None = None,
    submit: Path | None = None,
    report: Path | None = None,
    json: Path | None = None,
) -> int:
    """Score weights on labelled images, through the same path that labels a user's.

    Args:
        data: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        split: What to evaluate on, test where none is given; several splits of labelled pixels joined by +. Of classes of
            images, val.
        backend: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        size: Of the network's input, HxW or native; the weights' own where none is given.
        scales: Times that size, the sizes at which each image is run, for example 0.5,1,1.5; probabilities are averaged.
        flip: Also run each scale mirrored left to right.
        threads: To compute with; all where none is given.
        submit: Do not score, but write the labels into this folder as the server of Cityscapes takes them.
        report: Also write a page into this folder: scores, confusions, the worst and the best images, calibration, speed.
        json: Also write the scores to this file.
    """
    from fastscnn.data import datasets
    from fastscnn.evaluation.evaluate import evaluate as score
    from fastscnn.evaluation.protocols.official import official
    from fastscnn.evaluation.report.page import PAGE, check_ours, write
    from fastscnn.evaluation.report.scores import Examination, by_class, render

    dataset = datasets.load_any(data)
    if isinstance(dataset, datasets.ClassFolders):
        given = (backend, precision, size, scales, flip, threads, submit, report)
        others = given != ("auto", "auto", None, "1", False, None, None, None)
        return evaluate_classes(dataset, weights, split or "val", json, others)
    split = split or "test"
    segmenter = load(weights, backend, size, threads, parse_scales(scales), flip, precision)
    if report:
        check_ours(report / PAGE)
    if submit and report:
        raise FastSCNNError("report: nothing is scored with --submit, so there is nothing to report; leave one of them out.")
    if submit:
        return _submit(segmenter, dataset, split, submit)
    pairs = dataset.pairs(split)
    authors = official(dataset, pairs)
    seen = Examination(dataset) if report else None
    observers = [part.see for part in (authors, seen) if part]
    with progress_bar("evaluate") as advance:
        found = score(segmenter, dataset, pairs, advance, observers, confidence=seen is not None)
    further = _categories(found) | (authors.to_dict() if authors else {})
    scores = found.to_dict() | further
    STDOUT.print(_scores_table(scores))
    STDOUT.print(_confusion_table(found.names, found.confusion.matrix))
    passes = f"scales {', '.join(f'{scale:g}' for scale in found.scales)}{' with flip' if found.flip else ''}"
    engine = f"{found.backend} {found.precision}"
    STDOUT.print(f"{found.images} images of {dataset.name} {split}, {engine}, input {found.size}, {passes}")
    if pairs[0].instances and not authors:
        STDOUT.print(f"iIoU is left out: there are no instance files, such as {pairs[0].instances}", soft_wrap=True)
    if "pst900_running_miou" in scores:
        STDOUT.print("The running mIoU of PST900's authors is the sum of the mIoU so far after each image, in the order of "
                     "file names, divided by one less than there are images", soft_wrap=True)
    if report and seen:
        shown = render(found, seen, segmenter, f"{dataset.name} {split}", command(), further)
        write(report / PAGE, shown)
        STDOUT.print(f"Look at {report / PAGE}", soft_wrap=True)
        scores |= {"by_class": by_class(found)} | seen.to_dict()
    if json:
        files.write(json, json_.dumps(scores, indent=1).encode())
    return 0


def _categories(report: Report) -> dict[str, Any]:
    """IoU of Cityscapes' categories, where the classes are its own."""
    from fastscnn.data.builtin import cityscapes
    from fastscnn.evaluation.protocols.cityscapes import grouping

    if report.names != cityscapes.LABELS.names:
        return {}
    names, places = grouping(cityscapes.CATEGORIES)
    confusion = report.confusion.grouped(places)
    return {"category_iou": dict(zip(names, confusion.iou(), strict=True)), "category_miou": confusion.miou()}


def _scores_table(scores: Mapping[str, Any]) -> Table:
    """Scores by class and their means, with a column of iIoU where there are instances."""
    instances: Mapping[str, float | None] = scores.get("class_iiou", {})
    table = Table("class", "IoU %", *(["iIoU %"] if instances else []))
    for column in table.columns[1:]:
        column.justify = "right"
    for name in scores["iou"]:
        table.add_row(name, *(_percent(row[name]) for row in (scores["iou"], instances) if name in row))
    table.add_section()
    means = {
        "mIoU": ("miou", "class_miiou"),
        "pixel accuracy": ("pixel_accuracy",),
        "category mIoU": ("category_miou", "category_miiou"),
        "running mIoU of PST900's authors": ("pst900_running_miou",),
    }
    for name, keys in means.items():
        if keys[0] in scores:
            table.add_row(name, *(_percent(scores[key]) for key in keys if key in scores))
    return table


def _percent(score: float | None) -> str:
    return "absent" if score is None else f"{score:.2f}"


def _submit(segmenter: Segmenter, dataset: DatasetSpec, split: str, folder: Path) -> int:
    """Writes the labels of a split of Cityscapes as its server wants them; the labels themselves are not needed."""
    from fastscnn.data.builtin import cityscapes
    from fastscnn.evaluation.protocols.cityscapes import write_submission
    from fastscnn.media import images

    if dataset.label_set.names != cityscapes.LABELS.names or segmenter.card.label_set.names != cityscapes.LABELS.names:
        raise FastSCNNError(f"submit: takes weights and images of Cityscapes' {len(cityscapes.LABELS)} classes.")
    found = dataset.image_files(split)
    if not found:
        raise FastSCNNError(f"{dataset.root}: no images in the split {split!r} of {dataset.name}.")
    with progress_bar("label") as advance:
        for done, image in enumerate(found, start=1):
            write_submission(folder, image, segmenter.segment(images.read(image)).labels, cityscapes.LABELS)
            advance(done, len(found))
    STDOUT.print(f"{len(found)} files of {dataset.name} {split} in {folder}", soft_wrap=True)
    return 0


def _confusion_table(class_names: Sequence[str], matrix: Int64Array) -> Table:
    """Percent of each true class (rows) that was given each label (columns)."""
    table = Table("truth \\ label", *(name[:6] for name in class_names), title="confusion in % of the true class")
    table.columns[0].no_wrap = True
    for name, row in zip(class_names, matrix, strict=True):
        total = int(row.sum())
        table.add_row(name, *(f"{100 * int(count) / total:.0f}" if total and count else "" for count in row))
    return table
