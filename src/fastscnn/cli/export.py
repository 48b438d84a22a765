"""export: trained weights as a file for a runtime, with the accuracy loss printed and kept in the model card."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from tyro.conf import Positional

from fastscnn.base.errors import ArgumentError
from fastscnn.cli.console import STDOUT, configure, printable, progress_bar, show, table
from fastscnn.cli.flags import learning, weight_file
from fastscnn.cli.options import SPLIT, Json, OptionalDataset, Quiet, Verbose, described, path, required, value
from fastscnn.exporting.form import ExportPrecision, Output
from fastscnn.exporting.targets import TARGETS

if TYPE_CHECKING:
    from fastscnn.exporting.report import Attempt, ExportReport

USAGE = "[options] WEIGHTS --out FILE"


def run(
    weights: Annotated[Positional[Path], path("WEIGHTS"), required("Trained weights, .safetensors.")],
    *,
    out: Annotated[Path, path("FILE"), required("The file to write, .onnx for most targets; a folder for some.")],
    target: Annotated[str, value("NAME", str), described(
        f"Runtime to export for: {', '.join(TARGETS)} (docs/deploy.md).")] = "onnx",
    output: Annotated[Output, described(
        "logits: at 1/8 of the size, as fastscnn needs them. labels: uint8 at full size, computed in the graph. "
        "confidence: labels and their probability.")] = "logits",
    output_size: Annotated[str | None, value("HxW", str, "the input's"), described("Size of labels and confidence.")] = None,
    static: Annotated[str | None, value("HxW", str), described(
        "Fix the input size and batch 1, and fold sizes into constants, as NPU compilers require.")] = None,
    precision: Annotated[ExportPrecision, described(
        "int8: for CPUs. int8-symmetric: zero points 0, for TensorRT and NPUs. Layers that lose more than --max-iou-loss "
        "stay in float32.")] = "float32",
    opset: Annotated[int | None, value("N", int, "the exporter's"), described(
        "Version of the ONNX operators, 17 to 24.")] = None,
    data: OptionalDataset = None,
    split: Annotated[str | None, value("SPLIT", str, "val"), SPLIT] = None,
    calibration: Annotated[str | None, value("SPLIT", str, "train"), described("Split whose images calibrate int8.")] = None,
    max_iou_loss: Annotated[float | None, value("POINTS", float), described(
        "Fail if the IoU of a class, or the mIoU, drops by more than this many points.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write trained weights as a file for another runtime, verified against PyTorch.

    By default, it is an ONNX file that runs at any size. With --data, compare the scores before and after, and write them into
    the model card with the accuracy loss of each backend and the calibration.
    """
    configure(quiet, verbose)
    int8 = precision.startswith("int8")
    for option, needless in {"split": split and not data, "calibration": calibration and not int8}.items():
        if needless:
            raise ArgumentError(f"{option}: {'needs --data' if option == 'split' else 'is for int8'}; omit it otherwise.")
    source = weight_file(weights, "torch")
    exporting, reports = learning("export", "exporting.pipeline"), learning("export", "exporting.report")
    try:
        report: ExportReport = exporting.export(
            source, out, target=target, output=output, output_size=output_size, static=static, precision=precision,
            opset=opset, data=data, split=split or "val", calibration=calibration or "train", max_iou_loss=max_iou_loss,
            on_stage=lambda what: progress_bar(what, quiet=json),
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
    if report.layers:
        quantised = report.layers - len(report.attempts[-1].float32_layers)
        show(f"{report.precision}: {quantised} of {report.layers} layers, calibrated on {report.calibration_images} images of "
             f"{report.dataset} {report.calibration_split}")
    if found := report.calibration:
        show(f"temperature {found.temperature:.2f}: expected calibration error {found.ece_before:.2f} -> "
             f"{found.ece:.2f} %; OOD threshold of the maximum logit {found.ood_threshold:.2f}")
    if report.agreement:
        show(f"{report.target}, run by {report.runtime}: {report.agreement}")
    if not report.runtime:
        show(f"{report.target}: converted, not run: no runtime of this target runs here")
    if report.file_size is not None:
        show(f"Wrote {report.out} ({report.file_size / 1e6:.1f} MB)")


def _tables(report: ExportReport) -> Iterator[Table]:
    """Yield a table for each kind of measurement in the report."""
    verified = table("batch", "size", "logit difference", "equal labels %", title="Verified against PyTorch")
    for one in report.verifications:
        verified.add_row(str(one.batch), f"{one.height}x{one.width}", f"{one.logit_difference:.1e}", f"{one.equal_labels:.3f}")
    yield verified
    if report.precision.startswith("int8") and report.attempts:
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
    made = table("float32 layers", "mIoU %", "largest loss of IoU", "accepted", title=f"{report.precision} attempts{limit}")
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
