"""export: trained weights as an ONNX file, with the accuracy loss printed and kept in the model card."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from tyro.conf import Positional

from fastscnn.base.errors import ArgumentError
from fastscnn.cli.console import STDOUT, configure, printable, progress_bar, show, table
from fastscnn.cli.flags import learning
from fastscnn.cli.options import SPLIT, Json, OptionalDataset, Quiet, Verbose, described, path, required, switch, value

if TYPE_CHECKING:
    from fastscnn.exporting.report import Attempt, ExportReport

USAGE = "[options] WEIGHTS --out FILE"


def run(
    weights: Annotated[Positional[Path], path("WEIGHTS"), required("Trained weights, .safetensors.")],
    *,
    out: Annotated[Path, path("FILE"), required("The .onnx file to write.")],
    data: OptionalDataset = None,
    split: Annotated[str | None, value("SPLIT", str, "val"), SPLIT] = None,
    int8: Annotated[bool, switch("Quantise to int8; layers that lose more than --max-iou-loss stay in float32.")] = False,
    calibration: Annotated[str | None, value("SPLIT", str, "train"), described("Split whose images calibrate --int8.")] = None,
    max_iou_loss: Annotated[float | None, value("POINTS", float), described(
        "Fail if the IoU of a class, or the mIoU, drops by more than this many points.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write trained weights as an ONNX file that runs at any size, verified against PyTorch.

    With --data, compare the scores before and after, and write them into the model card with the accuracy loss of each
    backend and the calibration.
    """
    configure(quiet, verbose)
    for option, needless in {"split": split and not data, "calibration": calibration and not int8}.items():
        if needless:
            raise ArgumentError(f"{option}: {'needs --data' if option == 'split' else 'is for --int8'}; omit it otherwise.")
    exporting, reports = learning("export", "exporting.pipeline"), learning("export", "exporting.report")
    try:
        report: ExportReport = exporting.export(
            weights, out, data=data, split=split or "val", int8=int8, calibration=calibration or "train",
            max_iou_loss=max_iou_loss, on_stage=lambda what: progress_bar(what, quiet=json),
        )
    except reports.AccuracyLossError as error:  # the tables show which classes lose
        _print(error.report, json)
        raise
    _print(report, json)
    return 0


def _print(report: ExportReport, json: bool) -> None:
    """Print the report, as tables or as one line of JSON."""
    if json:
        print(json_.dumps(report.to_dict()))
        return
    for each in _tables(report):
        STDOUT.print(each)
    if report.precision == "int8" and report.layers:
        quantised = report.layers - len(report.attempts[-1].float32_layers)
        show(f"int8: {quantised} of {report.layers} layers, calibrated on {report.calibration_images} images of "
             f"{report.dataset} {report.calibration_split}")
    if found := report.calibration:
        show(f"temperature {found.temperature:.2f}: expected calibration error {found.ece_before:.2f} -> "
             f"{found.ece:.2f} %; OOD threshold of the maximum logit {found.ood_threshold:.2f}")
    if report.file_size is not None:
        show(f"Wrote {report.out} ({report.file_size / 1e6:.1f} MB)")


def _tables(report: ExportReport) -> Iterator[Table]:
    """Yield a table for each kind of measurement in the report."""
    verified = table("batch", "size", "logit difference", "equal labels %", title="Verified against PyTorch")
    for one in report.verifications:
        verified.add_row(str(one.batch), f"{one.height}x{one.width}", f"{one.logit_difference:.1e}", f"{one.equal_labels:.3f}")
    yield verified
    if report.precision == "int8" and report.attempts:
        yield _attempts_table(report)
        if layers := report.attempts[-1].float32_layers:
            kept = table("layer", "error if quantised alone %", title="Layers kept in float32")
            for layer in layers:
                kept.add_row(printable(layer.name), f"{layer.error:.2f}")
            yield kept
    if report.attempts:
        yield _iou_table(report, report.attempts[-1])
    if report.losses:
        backends = table("backend", "equal labels %", "mIoU lost", "worst class", title="Accuracy loss against float32")
        for name, loss in report.losses.items():
            worst = printable(f"{loss['class']} {loss['worst']:.3f}")
            backends.add_row(name, f"{loss['labels']:.2f}", f"{loss['miou']:.3f}", worst)
        yield backends
    if report.metrics:
        sizes = table("scores", "mIoU %", title="mIoU by input size")
        for name, score in report.metrics.items():
            sizes.add_row(printable(name), f"{score['miou']:.2f}")
        yield sizes


def _attempts_table(report: ExportReport) -> Table:
    """Return a table of the int8 candidates, one per row."""
    limit = "" if report.max_iou_loss is None else f" (limit: {report.max_iou_loss})"
    made = table("float32 layers", "mIoU %", "largest loss of IoU", "accepted", title=f"int8 attempts{limit}")
    for attempt in report.attempts:
        worst = printable(f"{attempt.worst_class} {attempt.largest_loss:.3f}") if attempt.worst_class else "none"
        miou = attempt.iou["mIoU"]
        made.add_row(str(len(attempt.float32_layers)), "" if miou is None else f"{miou:.3f}", worst,
                     "yes" if attempt.accepted else "no")
    return made


def _iou_table(report: ExportReport, attempt: Attempt) -> Table:
    """Return a table of the IoU of each class before the last attempt, and after it."""
    title = f"IoU in % on {report.dataset} {report.split}, {report.images} images"
    made = table("class", "before", "after", "change", title=title)
    for name, old in report.iou_before.items():
        new = attempt.iou[name]
        before, after = ("absent" if value is None else f"{value:.3f}" for value in (old, new))
        made.add_row(printable(name), before, after, "" if old is None or new is None else f"{new - old:+.3f}")
    return made
