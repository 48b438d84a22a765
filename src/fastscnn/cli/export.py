"""export: weights as an ONNX file, with what it loses printed and kept in its card."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from tyro.conf import Positional

from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.console import STDOUT, configure, progress_bar
from fastscnn.cli.flags import learning, load
from fastscnn.cli.options import SPLIT, OptionalDataset, Quiet, Verbose, described, required, switch, value

if TYPE_CHECKING:
    from fastscnn.data.datasets import DatasetSpec
    from fastscnn.exporting.quantize import Layer
_Scores = dict[str, float | None]


USAGE = "[options] WEIGHTS --out FILE"


def run(
    weights: Annotated[Positional[Path], required("Trained weights, .safetensors.", "WEIGHTS")],
    *,
    out: Annotated[Path, required("The .onnx file to write.", "FILE")],
    data: OptionalDataset = None,
    split: Annotated[str | None, value("SPLIT", str, "val"), SPLIT] = None,
    int8: Annotated[bool, switch("Quantise to int8; layers that lose more than --max-iou-loss stay in float32.")] = False,
    calibration: Annotated[str, value("SPLIT", str), described("Split whose images calibrate --int8.")] = "train",
    max_iou_loss: Annotated[float | None, value("POINTS", float), described(
        "Fail if the IoU of a class, or the mIoU, drops by more than this many points.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write trained weights as an ONNX file that runs at any size, verified against PyTorch.

    With --data, compare the scores before and after, and write them into the model card with the accuracy loss of each
    backend and the calibration.
    """
    configure(quiet, verbose)
    split, gate = split or "val", max_iou_loss
    from fastscnn.data import datasets

    exporting = learning("export", "exporting.onnx_export")
    for flag, given in {"max-iou-loss": gate is not None, "int8": int8}.items():
        if given and data is None:
            raise FastSCNNError(f"{flag}: needs labelled images; give --data too.")
    dataset = datasets.load(data) if data else None

    def finish(candidate: Path) -> bytes:
        if dataset is None:
            return candidate.read_bytes()
        if int8:
            data = _quantize(candidate, out, dataset, calibration, split, gate)
        else:
            before, after = _scores(weights, "torch", dataset, split), _scores(candidate, "onnx", dataset, split)
            worst = _compare_scores(before, after, dataset, split)
            if gate is not None and worst > gate:
                raise FastSCNNError(f"{out}: not written, because it loses {worst:.3f} points of IoU; the limit is {gate}.")
            data = candidate.read_bytes()
        return _measured(data, candidate, dataset, split)

    table = Table("batch", "size", "largest difference of a logit", "equal labels %", title="ONNX Runtime against PyTorch")
    for agreement in exporting.export(weights, out, finish):
        size = f"{agreement.height}x{agreement.width}"
        table.add_row(str(agreement.batch), size, f"{agreement.logits:.1e}", f"{agreement.labels:.3f}")
    STDOUT.print(table)
    STDOUT.print(f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    return 0


def _quantize(exported: Path, out: Path, dataset: DatasetSpec, calibration: str, split: str, gate: float | None) -> bytes:
    """An exported file in int8 that passes the gate; prints the scores of each attempt beside those in float32."""
    quantising = learning("export", "exporting.quantize")
    before = _scores(exported, "onnx", dataset, split)
    pictures = quantising.calibration_images(dataset, calibration, load(exported, "onnx", None, None).card.size)

    def accept(attempt: Path, kept: Sequence[Layer]) -> bool:
        if kept:
            layers = Table("kept in float32", "error of the logits %", title="the layers that lose most when quantised alone")
            for layer in kept:
                layers.add_row(layer.name, f"{layer.error:.2f}")
            STDOUT.print(layers)
        worst = _compare_scores(before, _scores(attempt, "onnx", dataset, split), dataset, split)
        passed = gate is None or worst <= gate
        if not passed:
            STDOUT.print(f"int8 with {len(kept)} layers in float32 loses {worst:.3f} points of IoU where the limit is {gate}")
        return passed

    quantized = quantising.quantize(exported, pictures, accept, progress_bar)
    if quantized is None:
        raise FastSCNNError(f"{out}: not written, because int8 loses more than {gate} points of IoU even with half of the "
                            "layers in float32; give a larger --max-iou-loss, or leave out --int8.")
    STDOUT.print(f"int8: {quantized.layers - len(quantized.kept)} of {quantized.layers} layers, "
                 f"calibrated on {len(pictures)} images of {dataset.name} {calibration}")
    made: bytes = quantized.data
    return made


def _measured(data: bytes, reference: Path, dataset: DatasetSpec, split: str) -> bytes:
    """An exported file whose card says how good it is at smaller inputs, what engines lose, and how sure it may be."""
    from fastscnn.evaluation.accuracy_loss import by_size, losses
    from fastscnn.evaluation.calibrate import calibrate

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(data)
        with progress_bar("compare engines") as advance:
            lost = losses(file, reference, dataset, split, advance)
        with progress_bar("compare inputs") as advance:
            scores = by_size(file, dataset, split, advance)
        segmenter = load(file, "onnx", None, None)
        with progress_bar("calibrate") as advance:
            calibration = calibrate(segmenter, dataset, dataset.pairs(split), split, advance)
        described = segmenter.card
    if lost:
        engines = Table("engine", "equal labels %", "mIoU lost", "worst class", title="against ONNX Runtime in float32")
        for name, loss in lost.items():
            engines.add_row(name, f"{loss['labels']:.2f}", f"{loss['miou']:.3f}", f"{loss['class']} {loss['worst']:.3f}")
        STDOUT.print(engines)
    inputs = Table("input", "mIoU")
    for name, score in scores.items():
        inputs.add_row(name, f"{score['miou']:.2f}")
    STDOUT.print(inputs)
    STDOUT.print(f"temperature {calibration.temperature:.2f}: expected calibration error {calibration.ece_before:.2f} -> "
                 f"{calibration.ece:.2f} %; unknown below a best logit of {calibration.ood_threshold:.2f}", soft_wrap=True)
    # Scores of the same weights in float32, or on other data, say nothing of this file on this data.
    same = described.precision == "float32" and described.data is not None and described.data.name == dataset.name
    metrics = {**(described.metrics if same else {}), **scores}
    described = dataclasses.replace(described, metrics=metrics, losses=lost, calibration=calibration)
    made: bytes = learning("export", "exporting.exported").with_card(data, described)
    return made


def _scores(weights: Path, backend: str, dataset: DatasetSpec, split: str) -> _Scores:
    """IoU of each class in percent, None where it is absent, and the mIoU."""
    from fastscnn.evaluation.evaluate import evaluate as score

    with progress_bar(f"evaluate {weights.name}") as advance:
        report = score(load(weights, backend, None, None), dataset, dataset.pairs(split), advance).to_dict()
    return {**report["iou"], "mIoU": report["miou"]}


def _compare_scores(before: _Scores, after: _Scores, dataset: DatasetSpec, split: str) -> float:
    """Prints the IoU of each class before and after; returns the largest loss in points."""
    images = len(dataset.pairs(split))
    table = Table("class", "before", "after", "change", title=f"IoU in % on {dataset.name} {split}, {images} images")
    losses = [0.0]
    for name, old in before.items():
        new = after[name]
        if old is None or new is None:
            table.add_row(name, "absent" if old is None else f"{old:.3f}", "absent" if new is None else f"{new:.3f}", "")
            continue
        table.add_row(name, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}")
        losses.append(old - new)
    STDOUT.print(table)
    return max(losses)
