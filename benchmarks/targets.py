"""Compare every export target with our labels on a labelled dataset.

    python benchmarks/targets.py camvid:ROOT [TARGET ...] [--split val]

It exports the bundled weights, and writes accuracy/targets.json. Targets whose runtime is missing, and other splits, keep their
earlier rows.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import tyro

from fastscnn import backends
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets
from fastscnn.exporting.agreement import Agreement, compare
from fastscnn.exporting.finish import finished
from fastscnn.exporting.float16 import to_float16
from fastscnn.exporting.form import ExportPrecision, Form
from fastscnn.exporting.metadata import card_of
from fastscnn.exporting.quantize import calibration_images, quantize
from fastscnn.exporting.targets import TARGETS, Exported, Target
from fastscnn.exporting.trace import trace
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint

RESULTS = Path(__file__).parent / "accuracy" / "targets.json"
SIZE = (360, 480)


class Remembered:
    """The reference, which computes each image once. Images come in the same order for every target."""

    def __init__(self, data: bytes) -> None:
        self._backend = backends.load("float32.onnx", "onnx", data=data)
        self.card, self._known = self._backend.card, dict[int, Float32Array]()

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        key = hash(images.tobytes())
        if key not in self._known:
            self._known[key] = self._backend(images)
        return self._known[key]


@contextlib.contextmanager
def stage(what: str) -> Iterator[Callable[[int, int], None]]:
    print(what, file=sys.stderr, flush=True)
    yield lambda done, total: None


def contents(plain: bytes, pictures: list[UInt8Array]) -> dict[ExportPrecision, bytes]:
    """Return the network in every precision, with all layers in int8."""
    made: dict[ExportPrecision, bytes] = {"float32": plain, "float16": to_float16(plain)}
    kinds: tuple[ExportPrecision, ...] = ("int8", "int8-symmetric")
    for kind in kinds:
        found = quantize(plain, pictures, lambda *_: True, stage, kind == "int8-symmetric")
        assert found
        made[kind] = found.data
    return made


def row(target: Target, form: Form, split: str, found: Agreement, size: int) -> dict[str, Any]:
    """Return the measurements of a target in one form."""
    return {
        "target": target.name, "precision": form.precision, "split": split, "output": form.output,
        "input": "fixed" if form.static else "any", "runtime": target.runtime, "images": found.images,
        "equal_labels": found.equal_labels, "ties": found.ties, "others": found.others, "miou_before": found.iou_before["mIoU"],
        "miou": found.iou["mIoU"], "worst_class": found.worst_class, "largest_loss": found.largest_loss, "bytes": size,
    }  # fmt: skip


def main(data: str, names: tuple[str, ...] = tuple(TARGETS), /, split: Literal["val", "test"] = "test") -> None:
    """Compare targets.

    Args:
        data: Dataset and its root, camvid:ROOT.
        names: Targets to compare.
        split: Split to compare on.
    """
    spec = datasets.load(data)
    with stage("trace"):
        plain = trace(*checkpoint.load(bundled("torch")))
    pictures = calibration_images(spec, "train", SIZE)
    made, pairs = contents(plain, pictures), spec.pairs(split)
    reference: Any = Remembered(plain)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for target in (TARGETS[name] for name in names):
        try:
            target.check()
        except FastSCNNError as error:
            print(error, file=sys.stderr)
            continue
        rows = [each for each in rows if (each["target"], each["split"]) != (target.name, split)]
        for precision in target.precisions:
            form = Form("labels" if "labels" in target.outputs else "logits", precision, SIZE if target.static else None)
            content = finished(plain if precision in target.own_precisions else made[precision], form)
            exported = Exported(content, card_of(content), form, lambda: checkpoint.load(bundled("torch"))[0], tuple(pictures))
            with TemporaryDirectory() as folder, stage(f"{target.name} {precision} {hxw(SIZE)}"):
                path = Path(folder) / f"model{target.suffix}"
                target.write(exported, path)
                size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
                if target.load:
                    found = compare(reference, target.load(path, exported.card), form, spec, pairs)
                    rows.append(row(target, form, split, found, size))
                    print(found, flush=True)
        rows.sort(key=lambda each: (list(TARGETS).index(each["target"]), each["split"]))
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
