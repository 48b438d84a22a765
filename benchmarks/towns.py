"""Measure the IoU on street photographs of other towns: every fifth image of LabelMeFacade.

    python benchmarks/towns.py FACADE [--weights FILE] [--out FILE.json]

FACADE has the folders images and labels of LabelMeFacade. Its classes are mapped to CamVid's as in the training: door and
window are Building, vegetation is Tree. Its labels name six of CamVid's eleven classes. A pixel that is predicted as one of
the other five counts as a miss, so the scores are lower bounds. The bundled weights were not trained on LabelMeFacade.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro
from ablation import FACADE_TO_CAMVID, facade

from fastscnn import Segmenter, evaluate
from fastscnn.base import files
from fastscnn.base.types import BackendName
from fastscnn.data import mixture
from fastscnn.data.mixture import Source
from fastscnn.data.spec import DatasetSpec

EVERY = 5


def divided(root: Path) -> DatasetSpec:
    """Return LabelMeFacade with the splits train and held-out: every fifth image is held out."""
    spec = facade(root)
    names = sorted(path.name for path in (root / "images").iterdir())
    parts = {"train": [name for place, name in enumerate(names) if place % EVERY], "held-out": names[::EVERY]}
    splits = {
        split: dataclasses.replace(spec.split("all"), files=tuple((f"images/{name}", "") for name in chosen))
        for split, chosen in parts.items()
    }
    return dataclasses.replace(spec, splits=splits)


def main(root: Path, /, weights: Path | None = None, out: Path | None = None) -> None:
    """Print and write the scores.

    Args:
        root: Folder of LabelMeFacade.
        weights: Weight file (default: the bundled float32 weights).
        out: JSON file to write.
    """
    backend: BackendName = "torch" if weights and weights.suffix == ".safetensors" else "onnx"
    segmenter = Segmenter.load(weights, backend, precision="float32")
    spec = divided(root)
    classes = DatasetSpec("camvid", root, segmenter.card.label_set, spec.splits)  # only its classes are used
    (_, member) = mixture.load([Source(classes, "train"), Source(spec, "held-out", map=FACADE_TO_CAMVID)]).members
    report = evaluate(segmenter, member, "held-out")
    annotated = [iou or 0.0 for name, iou in report.to_dict()["iou"].items() if name not in report.not_annotated]
    found = {**report.to_dict(), "miou": sum(annotated) / len(annotated), "classes": len(annotated)}
    print(f"{report.images} images, {len(annotated)} classes: mIoU {found['miou']:.2f}, pixels {found['pixel_accuracy']:.2f}, "
          f"predicted as another class {report.not_annotated_percentage:.2f} %")
    if out:
        files.write(out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    tyro.cli(main)
