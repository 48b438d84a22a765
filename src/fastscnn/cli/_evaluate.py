"""evaluate: scores of weights on labelled images, and submissions to a server that scores them."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fastscnn import files
from fastscnn.cli._console import STDOUT, progress_bar
from fastscnn.cli._flags import load, parse_scales
from fastscnn.errors import FastSCNNError

if TYPE_CHECKING:
    from fastscnn.arrays import Int64Array
    from fastscnn.datasets import DatasetSpec
    from fastscnn.segmenter import Segmenter


def evaluate(
    *,
    data: str,
    weights: Path | None = None,
    split: str = "test",
    runtime: str = "auto",
    precision: str = "auto",
    size: str | None = None,
    scales: str = "1",
    flip: bool = False,
    threads: int | None = None,
    submit: Path | None = None,
    json: Path | None = None,
) -> int:
    """Score weights on labelled images, through the same path that labels a user's.

    Args:
        data: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        split: What to evaluate on; several splits joined by +.
        runtime: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        size: Of the network's input, HxW or native; the weights' own where none is given.
        scales: Times that size, the sizes at which each image is run, for example 0.5,1,1.5; probabilities are averaged.
        flip: Also run each scale mirrored left to right.
        threads: To compute with; all where none is given.
        submit: Do not score, but write the labels into this folder as the server of Cityscapes takes them.
        json: Also write the scores to this file.
    """
    from fastscnn import datasets
    from fastscnn.datasets import cityscapes
    from fastscnn.evaluate import evaluate as score

    segmenter = load(weights, runtime, size, threads, parse_scales(scales), flip, precision)
    dataset = datasets.load(data)
    if submit:
        return _submit(segmenter, dataset, split, submit)
    with progress_bar("evaluate") as advance:
        report = score(segmenter, dataset, dataset.pairs(split), advance)
    scores = report.to_dict()
    table = Table("class", "IoU %")
    table.columns[1].justify = "right"
    for name, iou in scores["iou"].items():
        table.add_row(name, "absent" if iou is None else f"{iou:.2f}")
    table.add_section()
    table.add_row("mIoU", f"{scores['miou']:.2f}")
    table.add_row("pixel accuracy", f"{scores['pixel_accuracy']:.2f}")
    if report.names == cityscapes.LABELS.names:
        order = list(dict.fromkeys(cityscapes.CATEGORIES))
        categories = report.confusion.grouped([order.index(name) for name in cityscapes.CATEGORIES])
        scores["category_iou"] = dict(zip(order, categories.iou(), strict=True))
        scores["category_miou"] = categories.miou()
        table.add_row("category mIoU", f"{scores['category_miou']:.2f}")
    STDOUT.print(table)
    STDOUT.print(_confusion_table(report.names, report.confusion.matrix))
    passes = f"scales {', '.join(f'{scale:g}' for scale in report.scales)}{' with flip' if report.flip else ''}"
    engine = f"{report.runtime} {report.precision}"
    STDOUT.print(f"{report.images} images of {dataset.name} {split}, {engine}, input {report.size}, {passes}")
    if json:
        files.write(json, json_.dumps(scores, indent=1).encode())
    return 0


def _submit(segmenter: Segmenter, dataset: DatasetSpec, split: str, folder: Path) -> int:
    """Writes the labels of a split of Cityscapes as its server wants them; the labels themselves are not needed."""
    from fastscnn import images
    from fastscnn.cityscapes import write_submission
    from fastscnn.datasets import cityscapes

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
