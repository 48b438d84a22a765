"""Measure the quality and the time of confidences and of the out-of-distribution (OOD) mask.

    python benchmarks/confidence.py DATA [--splits val test] [--out benchmarks/confidence.json]

For each split: expected calibration error in percent (15 bins, every pixel), without and with the temperature of the
bundled weights' card. For the first split also OOD detection: textured polygons that belong to no class are pasted into
every image, for five seeds, and the best logit is the score. Reported are FPR at 95 % TPR (for all seeds together and
for each), the area under the ROC curve, and TPR and FPR at the card's threshold. Times are median milliseconds at
1024x2048 with the logits of the card's input size, two threads, in turn with PyTorch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from fastscnn import Segmenter
from fastscnn.base.types import BoolArray, Float32Array, UInt8Array
from fastscnn.data import datasets, synthetic
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.metrics import Reliability
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.upsampling import upsample

SIZE, RUNS, SEEDS = (1024, 2048), 25, 5


def texture(random: np.random.Generator, side: int) -> UInt8Array:
    """Return a square texture of soft blots, hard blots or waves around one colour, with noise."""
    kind, count = random.integers(3), int(random.integers(2, 12))
    blots = np.clip(random.normal(size=(count, count, 3)) * 70 + random.integers(0, 256, 3), 0, 255).astype(np.uint8)
    picture = Image.fromarray(blots).resize((side, side), Image.Resampling.BICUBIC if kind else Image.Resampling.NEAREST)
    values = np.asarray(picture, np.float64)
    if kind == 2:
        y, x = np.mgrid[:side, :side]
        pitch, turn = random.uniform(0.1, 0.8), random.uniform(0, np.pi)
        values = values + 60 * np.sin(pitch * (x * np.cos(turn) + y * np.sin(turn)))[..., None]
    return np.clip(values + random.normal(0, 8, values.shape), 0, 255).astype(np.uint8)


def with_objects(random: np.random.Generator, image: UInt8Array) -> tuple[UInt8Array, BoolArray]:
    """Return the image with one to three polygons pasted into its lower two thirds, and their mask."""
    image, mask = image.copy(), np.zeros(image.shape[:2], bool)
    height, width = image.shape[:2]
    for _ in range(random.integers(1, 4)):
        side = int(random.integers(height // 15, height // 4))
        top, left = int(random.integers(height // 3, height - side)), int(random.integers(0, width - side))
        corners = int(random.integers(5, 10))
        angles, radii = np.sort(random.uniform(0, 2 * np.pi, corners)), random.uniform(0.25, 0.5, corners) * side
        shape = Image.new("L", (side, side))
        outline = [(side / 2 + r * np.cos(a), side / 2 + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)]
        ImageDraw.Draw(shape).polygon(outline, fill=255)
        inside, place = np.asarray(shape) > 0, (slice(top, top + side), slice(left, left + side))
        image[place][inside] = texture(random, side)[inside]
        mask[place] |= inside
    return image, mask


def calibration(segmenter: Segmenter, spec: DatasetSpec, split: str) -> dict[str, float]:
    """Return the expected calibration error in percent, without and with the card's temperature."""
    before, after = Reliability(), Reliability()
    for pair in spec.pairs(split):
        image, truth = spec.read(pair)
        logits = segmenter.logits(image)
        labels = upsample.labels(logits, truth.shape)
        before.add(upsample.confidence(logits, truth.shape), labels, truth)
        after.add(upsample.confidence(logits / np.float32(segmenter.card.temperature), truth.shape), labels, truth)
    return {"before": before.error(), "after": after.error()}


def ood_detection(segmenter: Segmenter, spec: DatasetSpec, split: str) -> dict[str, Any]:
    """Return how well the best logit separates pasted objects from the rest, in percent."""
    assert segmenter.card.ood_threshold is not None
    objects, rest = [], []
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        strange: list[Float32Array] = []
        known: list[Float32Array] = []
        for pair in spec.pairs(split):
            image, truth = spec.read(pair)
            pasted, mask = with_objects(random, image)
            best = torch.from_numpy(segmenter.logits(pasted).max(axis=0))[None, None]
            full = torch.nn.functional.interpolate(best, truth.shape, mode="bilinear")[0, 0].numpy()
            strange.append(full[mask])
            known.append(full[(truth != IGNORE_INDEX) & ~mask][:: SEEDS])
        objects.append(np.concatenate(strange))
        rest.append(np.concatenate(known))
    each = [100 * float((ours < np.quantile(theirs, 0.95)).mean()) for ours, theirs in zip(rest, objects, strict=True)]
    pooled, others = np.concatenate(objects), np.concatenate(rest)
    sorted_ = np.sort(others)
    return {
        "FPR at 95 % TPR": 100 * float((others < np.quantile(pooled, 0.95)).mean()),
        "of each seed": each,
        "area under the ROC curve": 100 * (1 - float(np.searchsorted(sorted_, pooled).mean()) / len(sorted_)),
        "TPR at the card's threshold": 100 * float((pooled < segmenter.card.ood_threshold).mean()),
        "FPR at the card's threshold": 100 * float((others < segmenter.card.ood_threshold).mean()),
    }


def times(segmenter: Segmenter) -> dict[str, float]:
    """Return median milliseconds at 1024x2048 on a generated street."""
    threshold = segmenter.card.ood_threshold
    assert threshold is not None
    logits = segmenter.logits(synthetic.draw(*SIZE).image)

    def by_torch() -> Any:
        with torch.inference_mode():
            full = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], SIZE, mode="bilinear")
            return full.softmax(1).amax(1)

    ways: dict[str, Callable[[], Any]] = {
        "torch interpolate, softmax, max": by_torch,
        "confidence": lambda: upsample.confidence(logits, SIZE, 2),
        "unknown": lambda: upsample.ood_mask(logits, threshold, SIZE),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, way in ways.items():
            for _ in range(2):  # the first run directly after PyTorch is slow: PyTorch's idle threads spin
                start = perf_counter()
                way()
                seconds = perf_counter() - start
            taken[name].append(1e3 * seconds)
    return {name: median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--splits", nargs="+", default=["val", "test"])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    spec = datasets.load(arguments.data)
    found: dict[str, Any] = {}
    for precision in ("float32", "int8"):
        segmenter = Segmenter.load(backend="onnx", precision=precision)
        assert segmenter.card.calibration is not None
        found[precision] = {
            "card": segmenter.card.calibration and segmenter.card.calibration.to_dict(),
            "ece": {split: calibration(segmenter, spec, split) for split in arguments.splits},
            "ood": ood_detection(segmenter, spec, arguments.splits[0]),
        }
    found["ms"] = times(segmenter)
    print(json.dumps(found, indent=1))
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
