"""Makes the bundled weights of a finished run: scores them on the test split, puts the scores into their card, exports.

    python benchmarks/bundle.py RUN camvid:ROOT

The test split is read to report, never to choose. Writes src/fastscnn/weights/ and benchmarks/accuracy/.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from fastscnn import Segmenter, datasets
from fastscnn.evaluate import Report, evaluate
from fastscnn.learn import checkpoint
from fastscnn.learn.export import export
from fastscnn.learn.model import FastSCNN
from fastscnn.segmenter import Size
from fastscnn.weights import bundled

RESULTS = Path(__file__).parent / "accuracy"
INPUT = (360, 480)  # that of the images: a third less work than the 450x600 that was best on held-out drives, by 0.9
SIZES: dict[str, Size] = {"450x600": (450, 600), "720x960": (720, 960)}  # measured beside it
MULTISCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # mmsegmentation's ms+flip
_KEPT_BITS = 12  # of the 24 significant bits of a weight


def main(run: Path, data: str) -> None:
    """`run` is the folder that `fastscnn train` wrote, `data` the dataset with the test split."""
    spec = datasets.load(data)
    pairs = spec.pairs("test")

    def scores(weights: Path, size: Size = None, scales: tuple[float, ...] = (1.0,)) -> Report:
        report = evaluate(Segmenter.load(weights, size=size, scales=scales, flip=len(scales) > 1), spec, pairs)
        print(f"{report.runtime}, input {report.size}, {len(scales)} scales: mIoU {report.confusion.miou():.3f}", flush=True)
        return report

    model, card = checkpoint.load(run / "best.safetensors")
    card = dataclasses.replace(card, size=INPUT)
    shorten(model)
    with TemporaryDirectory() as folder:
        short, candidate = Path(folder) / "short.safetensors", Path(folder) / "candidate.onnx"
        checkpoint.save(short, model, card)
        export(short, candidate)
        metrics = dict(card.metrics)
        for name, size in {"test": None, **{f"test at {name}": size for name, size in SIZES.items()}}.items():
            measured = scores(candidate, size).to_dict()
            metrics[name] = {key: measured[key] for key in ("miou", "pixel_accuracy", "iou")}
    checkpoint.save(bundled("torch"), model, dataclasses.replace(card, metrics=metrics))
    for agreement in export(bundled("torch"), bundled("onnx")):
        print(agreement)
    reports = {runtime: scores(bundled(runtime)) for runtime in ("onnx", "torch")}
    reports |= {name: scores(bundled("onnx"), size) for name, size in SIZES.items()}
    reports["ms-flip"] = scores(bundled("onnx"), scales=MULTISCALE)
    for name, report in reports.items():
        (RESULTS / f"camvid-test-{name}.json").write_text(report.to_json() + "\n")
    shutil.copy(run / "log.jsonl", RESULTS / "camvid-training.jsonl")


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
    main(Path(sys.argv[1]), sys.argv[2])
