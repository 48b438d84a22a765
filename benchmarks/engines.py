"""Measure every backend and precision of this machine, and mmsegmentation in the same run.

    python benchmarks/engines.py camvid:ROOT --mmseg ENV

ENV is a virtual environment with mmsegmentation. Writes benchmarks/speed/engines.json after each part:

- labels: agreement with PyTorch in float32, and mIoU, on CamVid test;
- mmseg: from 1024x2048 frames in memory to full-size labels, all backends and four mmsegmentation pipelines in turn;
- reports: `fastscnn benchmark` of each backend, from JPEG file to PNG file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from fastscnn import Segmenter
from fastscnn.base import files
from fastscnn.base.types import BackendName, PrecisionName
from fastscnn.benchmark.benchmark import benchmark
from fastscnn.benchmark.mmseg import compare_with_mmseg
from fastscnn.data import datasets
from fastscnn.evaluation.accuracy_loss import accuracy_loss
from fastscnn.model.weights import bundled

RESULT = Path(__file__).parent / "speed" / "engines.json"
BACKENDS: tuple[tuple[BackendName, PrecisionName], ...] = (
    ("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8"),
)
SIZES = ((360, 480), (512, 1024), (1024, 2048))


def main(data: str, /, mmseg: Path, rounds: int = 6) -> None:
    """Run all parts."""
    spec = datasets.load(data)
    segmenters = {
        f"{backend} {precision}": Segmenter.load(None, backend, precision=precision) for backend, precision in BACKENDS
    }
    found: dict[str, Any] = {}

    comparison = compare_with_mmseg(list(segmenters.values()), SIZES[-1], mmseg, rounds)
    found["mmseg"] = dataclasses.asdict(comparison)
    print(json.dumps(found["mmseg"], indent=1), flush=True)
    save(found)

    found["reports"] = []
    for name, segmenter in segmenters.items():
        for size in SIZES:
            report = benchmark(segmenter, size)
            found["reports"].append(json.loads(report.to_json()))
            print(f"{name} {size}: frame {report.stages['frame'].p50:.1f} ms, network {report.stages['network'].p50:.1f} ms, "
                  f"labels {report.stages['labels'].p50:.2f} ms, {report.stream_fps:.1f} frames/s", flush=True)
            save(found)

    reference = Segmenter.load(bundled("torch"), "torch")
    own, losses = accuracy_loss(reference, segmenters, spec, spec.pairs("test"))
    found["labels"] = {"torch float32": {"labels": 100.0, "miou": own.miou()}} | {
        name: {"labels": one.labels, "miou": one.confusion.miou(), "worst": one.worst, "class": one.class_}
        for name, one in losses.items()
    }
    save(found)


def save(found: dict[str, Any]) -> None:
    """Write the results so far."""
    files.write(RESULT, json.dumps(found, indent=1).encode() + b"\n")


if __name__ == "__main__":
    tyro.cli(main)
