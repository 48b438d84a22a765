"""Measures every engine and precision of this machine, and mmsegmentation beside them in the same run.

    python benchmarks/engines.py camvid:ROOT --mmseg ENV

ENV is a virtual environment with mmsegmentation. Writes benchmarks/speed/engines.json, part after part:

- labels: agreement with PyTorch in float32 and mIoU on all of CamVid test;
- mmseg: frames of 1024x2048 in memory to full-size labels, all engines and mmsegmentation's four ways in turn;
- reports: `fastscnn benchmark` of each engine, from JPEG file to PNG file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from fastscnn import Segmenter
from fastscnn.base import files
from fastscnn.benchmark.benchmark import benchmark
from fastscnn.benchmark.mmseg import compare_with_mmseg
from fastscnn.data import datasets
from fastscnn.evaluation.accuracy_loss import compare
from fastscnn.model.weights import bundled

RESULT = Path(__file__).parent / "speed" / "engines.json"
ENGINES = (
    ("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8"),
)
SIZES = ((360, 480), (512, 1024), (1024, 2048))


def main(data: str, /, mmseg: Path, rounds: int = 6) -> None:
    """Runs all parts."""
    spec = datasets.load(data)
    segmenters = {f"{engine} {precision}": Segmenter.load(None, engine, precision=precision) for engine, precision in ENGINES}
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
    own, differences = compare(reference, segmenters, spec, spec.pairs("test"))
    found["labels"] = {"torch float32": {"labels": 100.0, "miou": own.miou()}} | {
        name: {"labels": one.labels, "miou": one.confusion.miou(), "worst": one.worst, "class": one.class_}
        for name, one in differences.items()
    }
    save(found)


def save(found: dict[str, Any]) -> None:
    """Writes what there is so far."""
    files.write(RESULT, json.dumps(found, indent=1).encode() + b"\n")


if __name__ == "__main__":
    tyro.cli(main)
