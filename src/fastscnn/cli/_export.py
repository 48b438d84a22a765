"""The verb export: write weights as an ONNX file, and print what was measured."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.table import Table

from fastscnn.cli._console import STDOUT, progress_bar
from fastscnn.cli._flags import learning

if TYPE_CHECKING:
    from fastscnn.exporting.report import Attempt, ExportReport


def export(
    weights: tyro.conf.Positional[Path],
    *,
    out: Path,
    data: str | None = None,
    split: str = "val",
    max_iou_loss: float | None = None,
    int8: bool = False,
    calibration: str = "train",
    json: bool = False,
) -> int:
    """Export weights to an ONNX file that runs without PyTorch, verified against PyTorch.

    Args:
        weights: The .safetensors file.
        out: The .onnx file to write.
        data: Dataset to measure accuracy on: NAME:ROOT or the path of a dataset.toml. The model card then holds the scores.
        split: Split of the dataset to score on.
        max_iou_loss: Fail if the IoU of a class, or the mIoU, drops by more than this many points (needs --data).
        int8: Quantise to int8; layers that lose too much for --max-iou-loss stay in float32 (needs --data).
        calibration: Split of the dataset to measure the int8 ranges on.
        json: Print the result as one JSON line.
    """
    exporting, reports = learning("export", "exporting.pipeline"), learning("export", "exporting.report")
    try:
        report: ExportReport = exporting.export(
            weights, out, data=data, split=split, int8=int8, calibration=calibration, max_iou_loss=max_iou_loss,
            on_stage=partial(progress_bar, quiet=json),
        )
    except reports.AccuracyLossError as error:  # the tables show which classes lose
        _print(error.report, json)
        raise
    _print(report, json)
    return 0


def _print(report: ExportReport, json: bool) -> None:
    if json:
        print(json_.dumps(report.to_dict()))
        return
    for table in _tables(report):
        STDOUT.print(table)
    if report.precision == "int8" and report.layers:
        quantised = report.layers - len(report.attempts[-1].float32_layers)
        STDOUT.print(f"int8: {quantised} of {report.layers} layers, calibrated on {report.calibration_images} images of "
                     f"{report.dataset} {report.calibration_split}", soft_wrap=True)
    if found := report.calibration:
        STDOUT.print(f"temperature {found.temperature:.2f}: expected calibration error {found.ece_before:.2f} -> "
                     f"{found.ece:.2f} %; OOD threshold of the maximum logit {found.ood_threshold:.2f}", soft_wrap=True)
    if report.file_size is not None:
        STDOUT.print(f"wrote {report.out} ({report.file_size / 1e6:.1f} MB)", soft_wrap=True)


def _tables(report: ExportReport) -> Iterator[Table]:
    verified = _table("Verified against PyTorch", "batch", "size", "logit difference", "equal labels %")
    for one in report.verifications:
        verified.add_row(str(one.batch), f"{one.height}x{one.width}", f"{one.logit_difference:.1e}", f"{one.equal_labels:.3f}")
    yield verified
    if report.precision == "int8" and report.attempts:
        yield _attempts_table(report)
        if layers := report.attempts[-1].float32_layers:
            kept = _table("Layers kept in float32", "layer", "error if quantised alone %")
            for layer in layers:
                kept.add_row(layer.name, f"{layer.error:.2f}")
            yield kept
    if report.attempts:
        yield _iou_table(report, report.attempts[-1])
    if report.losses:
        backends = _table("Accuracy loss against float32", "backend", "equal labels %", "mIoU lost", "worst class")
        for name, loss in report.losses.items():
            backends.add_row(name, f"{loss['labels']:.2f}", f"{loss['miou']:.3f}", f"{loss['class']} {loss['worst']:.3f}")
        yield backends
    if report.metrics:
        sizes = _table("mIoU by input size", "scores", "mIoU %")
        for name, score in report.metrics.items():
            sizes.add_row(name, f"{score['miou']:.2f}")
        yield sizes


def _attempts_table(report: ExportReport) -> Table:
    """The int8 candidates, one per row."""
    limit = "" if report.max_iou_loss is None else f" (limit: {report.max_iou_loss})"
    table = _table(f"int8 attempts{limit}", "float32 layers", "mIoU %", "largest loss of IoU", "accepted")
    for attempt in report.attempts:
        worst = f"{attempt.worst_class} {attempt.largest_loss:.3f}" if attempt.worst_class else "none"
        miou = attempt.iou["mIoU"]
        table.add_row(str(len(attempt.float32_layers)), "" if miou is None else f"{miou:.3f}", worst,
                      "yes" if attempt.accepted else "no")
    return table


def _iou_table(report: ExportReport, attempt: Attempt) -> Table:
    """IoU of each class before the last attempt, and after it."""
    title = f"IoU in % on {report.dataset} {report.split}, {report.images} images"
    table = _table(title, "class", "before", "after", "change")
    for name, old in report.iou_before.items():
        new = attempt.iou[name]
        before, after = ("absent" if value is None else f"{value:.3f}" for value in (old, new))
        table.add_row(name, before, after, "" if old is None or new is None else f"{new - old:+.3f}")
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(first, title=title)
    for column in numbers:
        table.add_column(column, justify="right")
    return table
