"""Compare devices and backends on a dataset with the classes of the bundled weights: mIoU, and labels that differ.

    python benchmarks/devices.py DATASET SYSTEM ... [--split val] [--out OUT.json]

SYSTEM is a backend and a precision, such as cuda:float16 or torch:float32, or a device of ONNX Runtime, such as device:cuda.
Labels are compared with those of ONNX Runtime in float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import fastscnn
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Confusion

REFERENCE = "onnx:float32"


def loaded(system: str) -> fastscnn.Segmenter:
    """Return the bundled weights on a system."""
    backend, _, second = system.partition(":")
    how: dict[str, Any] = {"device": second} if backend == "device" else {"backend": backend, "precision": second}
    return fastscnn.Segmenter.load(**how)


def scored(system: str, spec: DatasetSpec, pairs: list[Pair], expected: list[UInt8Array]) -> dict[str, Any]:
    """Run one system; fill `expected` with its labels if it is empty, else compare with them."""
    segmenter, scores = loaded(system), Confusion(len(spec.label_set))
    made = []
    for pair in pairs:
        image, truth = spec.read(pair)
        made.append(segmenter(image).labels)
        scores.add(made[-1], truth)
    expected[:] = expected or made
    differ = sum(int((own != other).sum()) for own, other in zip(made, expected, strict=True))
    return {"system": system, "hardware": segmenter.backend.hardware(), "miou": scores.miou(),
            "labels": sum(map(np.size, made)), "differ": differ}


def main() -> None:
    """Run one system after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("systems", nargs="+", metavar="SYSTEM")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    spec = datasets.load(arguments.dataset)
    pairs = list(spec.pairs(arguments.split))
    expected: list[UInt8Array] = []
    report: dict[str, Any] = {"dataset": spec.name, "split": arguments.split, "images": len(pairs), "systems": []}
    for system in (REFERENCE, *arguments.systems):
        report["systems"].append(scored(system, spec, pairs, expected))
        print(json.dumps(report["systems"][-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
