"""Makes the bundled weights of a finished run, or exports those there are anew.

    python benchmarks/bundle.py camvid:ROOT [--run RUN]

The test split is read to report, never to choose: the card holds its scores. What faster engines and int8 lose is
measured on val. Writes src/fastscnn/weights/ and benchmarks/accuracy/.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import tyro
from torch import Tensor

from fastscnn import Segmenter
from fastscnn.base import files
from fastscnn.base.types import BackendName
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.accuracy_loss import by_size, losses
from fastscnn.evaluation.calibrate import calibrate
from fastscnn.evaluation.evaluate import Report, evaluate_pairs
from fastscnn.exporting.exported import with_card
from fastscnn.exporting.onnx_export import export
from fastscnn.exporting.quantize import Layer, calibration_images, quantize
from fastscnn.inference.segmenter import Size
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN

RESULTS = Path(__file__).parent / "accuracy"
INPUT = (360, 480)  # that of the images: a third less work than the 450x600 that was best on held-out drives, by 0.9
SIZES: dict[str, Size] = {"450x600": (450, 600), "720x960": (720, 960)}  # measured beside it
MULTISCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # mmsegmentation's ms+flip
MAX_MIOU_LOSS = 0.5  # points that int8 may cost a class on val
_KEPT_BITS = 12  # of the 24 significant bits of a weight


def main(data: str, /, run: Path | None = None) -> None:
    """Makes and scores the files.

    Args:
        data: camvid:ROOT.
        run: folder that `fastscnn train` wrote; the weights there are where none is given.
    """
    spec = datasets.load(data)
    if run:
        model, card = checkpoint.load(run / "best.safetensors")
        shorten(model)
        checkpoint.save(bundled("torch"), model, dataclasses.replace(card, size=INPUT))
        shutil.copy(run / "log.jsonl", RESULTS / "camvid-training.jsonl")
    with TemporaryDirectory() as name:
        plain = Path(name) / "plain.onnx"
        for agreement in export(bundled("torch"), plain):
            print(agreement)
        files.write(bundled("onnx", "float32"), described(plain.read_bytes(), plain, spec))
        files.write(bundled("onnx", "int8"), described(in_int8(plain, spec), plain, spec))
    model, card = checkpoint.load(bundled("torch"))
    calibration = Segmenter.load(bundled("onnx", "float32"), "onnx").card.calibration  # of the same weights
    checkpoint.save(bundled("torch"), model, dataclasses.replace(card, calibration=calibration))
    weights = {"onnx": bundled("onnx", "float32"), "torch": bundled("torch"), "int8": bundled("onnx", "int8")}
    reports = {name: scores(file, spec) for name, file in weights.items()}
    reports |= {name: scores(weights["onnx"], spec, size) for name, size in SIZES.items()}
    reports["ms-flip"] = scores(weights["onnx"], spec, scales=MULTISCALE)
    for name, report in reports.items():
        (RESULTS / f"camvid-test-{name}.json").write_text(report.to_json() + "\n")


def scores(weights: Path, spec: DatasetSpec, size: Size = None, scales: tuple[float, ...] = (1.0,)) -> Report:
    """On the test split, by ONNX Runtime or PyTorch."""
    backend = "torch" if weights.suffix == ".safetensors" else "onnx"
    segmenter = Segmenter.load(weights, cast(BackendName, backend), size, scales=scales, flip=len(scales) > 1)
    report = evaluate_pairs(segmenter, spec, spec.pairs("test"))
    print(f"{report.backend} {report.precision}, input {report.size}, {len(scales)} scales: {report.confusion.miou():.3f}")
    return report


def described(data: bytes, reference: Path, spec: DatasetSpec) -> bytes:
    """An exported file whose card holds its scores on test by input, what each engine loses on val, its calibration there."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(data)
        segmenter = Segmenter.load(file, "onnx")
        calibration = calibrate(segmenter, spec, spec.pairs("val"), "val")
        card = segmenter.card
        lost = losses(file, reference, spec, "val")
        metrics = by_size(file, spec, "test")
    # What was measured in float32 says nothing of the file in int8.
    kept = dict(card.metrics) if card.precision == "float32" else {}
    for name, loss in lost.items():
        print(f"{name}: {loss}")
    return with_card(data, dataclasses.replace(card, metrics=kept | metrics, losses=lost, calibration=calibration))


def in_int8(exported: Path, spec: DatasetSpec) -> bytes:
    """The file in int8, gated by class on val."""
    pairs = spec.pairs("val")
    before = evaluate_pairs(Segmenter.load(exported, "onnx"), spec, pairs).confusion.iou()

    def accept(attempt: Path, kept: Sequence[Layer]) -> bool:
        after = evaluate_pairs(Segmenter.load(attempt, "onnx"), spec, pairs).confusion.iou()
        worst = max(old - new for old, new in zip(before, after, strict=True) if old is not None and new is not None)
        print(f"int8 with {len(kept)} layers in float32: the worst class loses {worst:.3f}")
        return worst <= MAX_MIOU_LOSS

    @contextmanager
    def quiet(_: str) -> Iterator[Callable[[int, int], Any]]:
        yield lambda done, total: None

    made = quantize(exported, calibration_images(spec, "train", INPUT), accept, quiet)
    if made is None:
        raise SystemExit(f"int8 loses more than {MAX_MIOU_LOSS} points of a class")
    return made.data


def shorten(model: FastSCNN) -> None:
    """Rounds the weights to 12 significant bits, in place: the file compresses to little more than half.

    The mean and the standard deviation of the input stay as they are.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name not in ("mean", "std"):
            tensor.copy_(_rounded(tensor))


def _rounded(tensor: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(tensor)
    return torch.ldexp((mantissa * 2**_KEPT_BITS).round() / 2**_KEPT_BITS, exponent)


if __name__ == "__main__":
    tyro.cli(main)
