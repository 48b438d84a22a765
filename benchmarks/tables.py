"""Writes the tables of docs/figures.md anew from the JSON files beside this script: python benchmarks/tables.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures.md"


def read(name: str) -> Any:
    """One of the JSON files."""
    return json.loads((HERE / name).read_text())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def accuracy() -> str:
    """IoU by class on both engines."""
    onnx, torch = read("accuracy/camvid-test-onnx.json"), read("accuracy/camvid-test-torch.json")
    rows = [[name, f"{iou:.2f}", f"{torch['iou'][name]:.2f}"] for name, iou in onnx["iou"].items()]
    for name, key in (("**mIoU**", "miou"), ("pixels", "pixel_accuracy")):
        rows.append([name, f"{onnx[key]:.2f}", f"{torch[key]:.2f}"])
    return table(["CamVid test, %", "ONNX Runtime", "PyTorch"], rows)


def labels() -> str:
    """The lazy rule against PyTorch."""
    rows = [
        [row["image"], str(row["classes"]), f"{row['lazy_ms']:.1f}", f"{row['torch_ms']:.0f}", f"{row['ratio']:.1f}",
         str(row["labels_that_differ"])]
        for row in read("speed/labels.json")
    ]
    return table(["image", "classes", "lazy ms", "PyTorch ms", "ratio", "labels that differ"], rows)


def speed() -> str:
    """Stages of a frame at both sizes, p50 and p95."""
    small, large = read("speed/onnx-360x480.json"), read("speed/onnx-1024x2048.json")
    rows = [
        [stage, *(f"{report['stages'][stage]['p50']:.1f} / {report['stages'][stage]['p95']:.1f}" for report in (small, large))]
        for stage in small["stages"]
    ]
    rows.append(["cold start, s", *(f"{report['cold_start_s']:.2f}" for report in (small, large))])
    rows.append(["peak memory, MiB", *(f"{report['peak_memory_mib']:.0f}" for report in (small, large))])
    return table(["p50 / p95", "360x480", "1024x2048"], rows)


def main() -> None:
    """Replaces what stands between the marks of each table."""
    text = FIGURES.read_text()
    for make in (accuracy, labels, speed):
        start, end = f"<!-- {make.__name__} -->\n", f"\n<!-- /{make.__name__} -->"
        before, after = text.split(start)[0], text.split(end)[1]
        text = before + start + make() + end + after
    FIGURES.write_text(text)


if __name__ == "__main__":
    main()
