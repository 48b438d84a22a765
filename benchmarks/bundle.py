"""Make the bundled weights from a finished run, or export the existing ones again.

    python benchmarks/bundle.py camvid:ROOT --twin RUN [RUN ...] [--run RUN [RUN ...]]

The bundled weights are the mean of the weights of several runs, one of which continues the other. The test split is used
for reporting only, never for choices. The accuracy loss of faster backends and of int8 is measured on val. The weights were
trained on val, where their confidence is therefore too high: the calibration is that of a twin, which the same recipes trained
on two drives, on the drives that the twin has not seen. Writes src/fastscnn/model/weights/ and benchmarks/accuracy/.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
import tyro
from ablation import FACADE_TERMS, HELD_OUT, TRAINED, folds
from onnx import numpy_helper

from fastscnn import Segmenter
from fastscnn.base import files
from fastscnn.base.types import BackendName, Float32Array
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.accuracy_loss import scores_by_size
from fastscnn.evaluation.evaluate import Report, evaluate_pairs
from fastscnn.exporting.metadata import with_card
from fastscnn.exporting.pipeline import export
from fastscnn.inference.segmenter import Size
from fastscnn.model.card import Calibration, Card
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN

RESULTS = Path(__file__).parent / "accuracy"
SIZES: dict[str, Size] = {"456x608": (456, 608), "720x960": (720, 960), "744x960": (744, 960)}  # also reported
MULTISCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # mmsegmentation's ms+flip
MAX_IOU_LOSS = 0.5  # points of a class's IoU on val
_KEPT_BITS = 10  # of the 24 significant bits of a weight


def main(data: str, /, twin: tuple[Path, ...], run: tuple[Path, ...] = ()) -> None:
    """Make and score the files.

    Args:
        data: camvid:ROOT.
        twin: Folders of the twin's runs.
        run: Folders of `fastscnn train`, first the one whose card describes the mean (default: export the bundled weights
            again).
    """
    spec = datasets.load(data)
    if run:
        model, card = average(run)
        assert card.data is not None
        card = dataclasses.replace(card, data=dataclasses.replace(card.data, terms=f"{spec.terms}; {FACADE_TERMS}"))
        shorten(model)
        checkpoint.save(bundled("torch"), model, card)
        for folder in run:
            shutil.copy(folder / "log.jsonl", RESULTS / f"camvid-{folder.name}.jsonl")
    for precision in ("float32", "int8"):
        file = bundled("onnx", precision)
        done = export(bundled("torch"), file, data=spec, precision=precision, max_iou_loss=MAX_IOU_LOSS)
        print(done.to_dict())
        if precision == "float32":
            shorten_file(file)
        complete_card(file, spec, twin_calibration(data, twin, precision))
    model, card = checkpoint.load(bundled("torch"))
    calibration = Segmenter.load(bundled("onnx", "float32"), "onnx").card.calibration  # of the same weights
    checkpoint.save(bundled("torch"), model, dataclasses.replace(card, calibration=calibration))
    weights = {"onnx": bundled("onnx", "float32"), "torch": bundled("torch"), "int8": bundled("onnx", "int8")}
    reports = {name: scores(file, spec) for name, file in weights.items()}
    reports |= {name: scores(weights["onnx"], spec, size) for name, size in SIZES.items()}
    reports["ms-flip"] = scores(weights["onnx"], spec, scales=MULTISCALE)
    for name, report in reports.items():
        (RESULTS / f"camvid-test-{name}.json").write_text(report.to_json() + "\n")


def average(runs: Sequence[Path]) -> tuple[FastSCNN, Card]:
    """Return the mean of the last weights of several runs, with the card of the first run."""
    loaded = [checkpoint.load(run / "last.safetensors") for run in runs]
    model, card = loaded[0]
    states = [each.state_dict() for each, _ in loaded]
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[name] for state in states]).mean(0))
    return model, card


def twin_calibration(data: str, twin: Sequence[Path], precision: str) -> Calibration:
    """Return the calibration of the twin on the drives that it has not seen."""
    spec = folds(data)
    with TemporaryDirectory() as folder:
        weights, file = Path(folder) / "twin.safetensors", Path(folder) / "twin.onnx"
        checkpoint.save(weights, *average(twin))
        export(weights, file, data=spec, split=HELD_OUT, calibration=TRAINED, precision=precision)
        found = Segmenter.load(file, "onnx").card.calibration
    assert found is not None
    return dataclasses.replace(found, split=f"{HELD_OUT}, of a twin trained on {TRAINED}")


def complete_card(file: Path, spec: DatasetSpec, calibration: Calibration) -> None:
    """Replace the scores in the card of an exported file by those on test, and its calibration."""
    segmenter = Segmenter.load(file, "onnx")
    metrics = scores_by_size(segmenter, spec, "test")
    if segmenter.card.precision == "float32":  # the card of the weights has more sizes
        metrics = {**checkpoint.load(bundled("torch"))[1].metrics, **metrics}
    card = dataclasses.replace(segmenter.card, metrics=metrics, calibration=calibration)
    files.write(file, with_card(file.read_bytes(), card))


def scores(weights: Path, spec: DatasetSpec, size: Size = None, scales: tuple[float, ...] = (1.0,)) -> Report:
    """Score weights on the test split, with ONNX Runtime or PyTorch."""
    backend: BackendName = "torch" if weights.suffix == ".safetensors" else "onnx"
    segmenter = Segmenter.load(weights, backend, size, scales=scales, flip=len(scales) > 1)
    report = evaluate_pairs(segmenter, spec, spec.pairs("test"))
    print(f"{report.backend} {report.precision}, input {report.input}, {len(scales)} scales: {report.confusion.miou():.3f}")
    return report


def shorten(model: FastSCNN) -> None:
    """Round the weights to 10 significant bits, in place: the file then compresses to about half its size.

    The mean and the standard deviation of the input are not rounded.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name not in ("mean", "std"):
            tensor.copy_(torch.from_numpy(_rounded(tensor.numpy())))


def shorten_file(file: Path) -> None:
    """Round the weights of an ONNX file in the same way: they contain the batch norms, so they are no longer short."""
    card, model = Segmenter.load(file, "onnx").card, onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) in (1, 4):  # biases and kernels
            tensor.CopyFrom(numpy_helper.from_array(_rounded(numpy_helper.to_array(tensor)), tensor.name))
    files.write(file, with_card(model, card))


def _rounded(weights: Float32Array) -> Float32Array:
    mantissa, exponent = np.frexp(weights)
    rounded: Float32Array = np.ldexp(np.round(mantissa * 2**_KEPT_BITS) / 2**_KEPT_BITS, exponent).astype(np.float32)
    return rounded


if __name__ == "__main__":
    tyro.cli(main)
