"""Measure mIoU on corrupted images: 15 kinds of corruption in 3 strengths, on whole images of a labelled dataset.

    python benchmarks/corruptions.py DATA [--weights FILE] [--split test] [--every N] [--out FILE.json]
    python benchmarks/corruptions.py DATA --sheet FILE.png

A corruption depends on the image's file name, the kind and the strength only. The strengths of a kind share their random
numbers, so they differ in the amount alone. Labels are those of `Segmenter`, scored by the confusion matrix of `evaluate`.

The amounts follow strengths 1, 3 and 5 of ImageNet-C (Hendrycks and Dietterich 2019), lowered because a street scene shows
smaller objects than an image of ImageNet. Lengths are pixels at 360 rows and grow with the height of the image.

| kind | amount | strengths 1, 2, 3 | ImageNet-C 1, 3, 5 |
| --- | --- | --- | --- |
| gaussian_noise | standard deviation, grey levels of 255 | 15, 40, 80 | 20, 46, 97 |
| shot_noise | photons of a white pixel | 80, 16, 4 | 60, 12, 3 |
| impulse_noise | fraction of the values that are black or white | 0.03, 0.09, 0.27 | the same |
| defocus_blur | radius of the disc | 1.5, 3, 5 | 3, 6, 10 at 224 rows |
| motion_blur | length of the line | 6, 12, 20 | about 6, 15, 30 at 224 rows |
| zoom_blur | largest zoom | 1.05, 1.1, 1.2 | 1.1, 1.2, 1.3 |
| fog | opacity at the horizon | 0.5, 0.7, 0.85 | another model |
| rain | streaks for 1000 pixels | 2, 5, 10 | none |
| snow | flakes for 1000 pixels | 2, 5, 12 | another model |
| brightness | added to the value (HSV), grey levels | 26, 77, 128 | the same |
| contrast | factor around the mean | 0.4, 0.2, 0.1 | 0.4, 0.2, 0.05 |
| night | gain, with gamma 1.3, warm light and noise | 0.7, 0.45, 0.28 | none |
| pixelate | size of the small image | 0.6, 0.4, 0.25 | the same |
| jpeg | quality | 25, 15, 7 | the same |
| colour_cast | relative change of red and blue, opposite | 0.1, 0.25, 0.4 | none |

Training with `corruption` (fastscnn/training/corruption.py) has its own gaussian_noise, shot_noise, defocus_blur, motion_blur,
fog, night and jpeg, and in exposure and colour_cast what brightness, contrast and colour_cast are here, in other amounts and
code. The other five kinds are in the benchmark only: impulse_noise, zoom_blur, rain, snow and pixelate.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import tyro
from PIL import Image, ImageDraw

from fastscnn import Segmenter
from fastscnn.base import files, machine
from fastscnn.base.errors import unknown
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.evaluation.metrics import Confusion
from fastscnn.media.stream import ordered
from fastscnn.model.weights import bundled

RESULTS = Path(__file__).parent / "accuracy"
WORKERS = 2  # threads that corrupt images while the network runs
STRENGTHS = (1, 2, 3)

Kind = Callable[[Float32Array, float, np.random.Generator], Any]
# A kind takes an image float32 [H, W, 3] of 0 to 255, which it does not change, and returns one that is not yet clipped.


def gaussian_noise(image: Float32Array, deviation: float, rng: np.random.Generator) -> Any:
    return image + deviation * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: Float32Array, photons: float, rng: np.random.Generator) -> Any:
    return rng.poisson(image * (photons / 255)) * np.float32(255 / photons)


def impulse_noise(image: Float32Array, fraction: float, rng: np.random.Generator) -> Any:
    drawn = rng.random(image.shape, np.float32)
    return np.where(drawn < fraction, np.where(drawn < fraction / 2, np.float32(0), np.float32(255)), image)


def defocus_blur(image: Float32Array, radius: float, rng: np.random.Generator) -> Any:
    radius *= _unit(image)
    down, right = _offsets(radius + 1)
    return _filtered(image, np.clip(radius + 0.5 - np.hypot(down, right), 0, 1))


def motion_blur(image: Float32Array, length: float, rng: np.random.Generator) -> Any:
    return _filtered(image, _line(length * _unit(image), rng.uniform(0, np.pi)))


def zoom_blur(image: Float32Array, zoom: float, rng: np.random.Generator) -> Any:
    height, width = image.shape[:2]
    steps = np.linspace(1, zoom, 12)
    centre = ((width - 1) / 2, (height - 1) / 2)
    zoomed = (cv2.warpAffine(image, cv2.getRotationMatrix2D(centre, 0, step), (width, height)) for step in steps)
    return sum(zoomed, np.float32(0)) / len(steps)


def fog(image: Float32Array, opacity: float, rng: np.random.Generator) -> Any:
    height, width = image.shape[:2]
    below = np.clip((np.arange(height) / height - 0.45) / 0.55, 0, 1)  # 0 at the horizon and above it
    distance = 1 / (1 + 5 * below[:, None]) * (1 + 0.3 * _clouds(height, width, rng))
    clear = ((1 - opacity) ** distance)[..., None].astype(np.float32)
    return image * clear + 215 * (1 - clear)


def rain(image: Float32Array, streaks: float, rng: np.random.Generator) -> Any:
    length, angle = 14 * _unit(image), np.pi / 2 + rng.uniform(-0.25, 0.25)
    layer = _filtered(_points(image, streaks, rng), _line(length, angle)) * (0.45 * length)
    veil = 0.03 * streaks
    return _over(image * (0.9 - veil) + 150 * veil, np.clip(layer, 0, 0.6), 205)


def snow(image: Float32Array, flakes: float, rng: np.random.Generator) -> Any:
    unit, angle = _unit(image), np.pi / 2 + rng.uniform(-0.6, 0.6)
    small = cv2.GaussianBlur(_points(image, flakes, rng), (0, 0), 0.7 * unit) * (4 * unit**2)
    large = cv2.GaussianBlur(_points(image, flakes / 8, rng), (0, 0), 1.6 * unit) * (20 * unit**2)
    layer = _filtered(small + large, _line(4 * unit, angle))
    white = 0.03 * flakes
    return _over(image * (1 - white) + 225 * white, np.clip(layer, 0, 0.9), 250)


def brightness(image: Float32Array, added: float, rng: np.random.Generator) -> Any:
    value = np.maximum(image.max(axis=2, keepdims=True), 1)
    return image * (np.minimum(value + added, 255) / value)


def contrast(image: Float32Array, factor: float, rng: np.random.Generator) -> Any:
    mean = image.mean(axis=(0, 1))
    return mean + factor * (image - mean)


def night(image: Float32Array, gain: float, rng: np.random.Generator) -> Any:
    light = gain * np.array([1.05, 0.92, 0.75], np.float32)  # of sodium lamps
    return 255 * light * (image / 255) ** 1.3 + 8 * (1 - gain) * rng.standard_normal(image.shape, np.float32)


def pixelate(image: Float32Array, factor: float, rng: np.random.Generator) -> Any:
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def jpeg(image: Float32Array, quality: float, rng: np.random.Generator) -> Any:
    stored = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(stored, "jpeg", quality=int(quality))
    return np.asarray(Image.open(stored))


def colour_cast(image: Float32Array, change: float, rng: np.random.Generator) -> Any:
    change *= 1 if rng.random() < 0.5 else -1  # warm or cool
    return image * np.array([1 + change, 1, 1 - change], np.float32)


AMOUNTS: Mapping[Kind, tuple[float, float, float]] = {
    gaussian_noise: (15, 40, 80),
    shot_noise: (80, 16, 4),
    impulse_noise: (0.03, 0.09, 0.27),
    defocus_blur: (1.5, 3, 5),
    motion_blur: (6, 12, 20),
    zoom_blur: (1.05, 1.1, 1.2),
    fog: (0.5, 0.7, 0.85),
    rain: (2, 5, 10),
    snow: (2, 5, 12),
    brightness: (26, 77, 128),
    contrast: (0.4, 0.2, 0.1),
    night: (0.7, 0.45, 0.28),
    pixelate: (0.6, 0.4, 0.25),
    jpeg: (25, 15, 7),
    colour_cast: (0.1, 0.25, 0.4),
}
KINDS: Mapping[str, Kind] = {kind.__name__: kind for kind in AMOUNTS}


def corrupted(image: UInt8Array, name: str, kind: str, strength: int) -> UInt8Array:
    """Return the image, corrupted.

    Args:
        image: uint8 [H, W, 3] RGB.
        name: file name of the image, which seeds the random numbers.
        kind: a name in `KINDS`.
        strength: 1, 2 or 3.
    """
    rng = np.random.default_rng((crc32(name.encode()), crc32(kind.encode())))
    values = KINDS[kind](image.astype(np.float32), AMOUNTS[KINDS[kind]][strength - 1], rng)
    result: UInt8Array = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _unit(image: Float32Array) -> float:
    """Return the length of one pixel of an image with 360 rows."""
    return int(image.shape[0]) / 360


def _offsets(reach: float) -> Any:
    """Return the rows and columns of a kernel, relative to its centre."""
    half = ceil(reach)
    return np.mgrid[-half : half + 1, -half : half + 1]


def _line(length: float, angle: float) -> Any:
    """Return a kernel: a line one pixel wide."""
    down, right = _offsets((length + 1) / 2)
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    return np.clip((length + 1) / 2 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)


def _filtered(image: Any, kernel: Any) -> Any:
    """Return the image after a filter with a kernel, whose sum is set to 1."""
    return cv2.filter2D(image, -1, (kernel / kernel.sum()).astype(np.float32))


def _points(image: Float32Array, number: float, rng: np.random.Generator) -> Float32Array:
    """Return float32 [H, W]: 0.4 to 1 at random points, so many for 1000 pixels of an image with 360 rows, and 0 elsewhere."""
    fraction = number / 1000 / _unit(image) ** 2
    drawn = rng.random(image.shape[:2], np.float32)
    return np.where(drawn < fraction, 0.4 + drawn * (0.6 / fraction), 0).astype(np.float32)


def _clouds(height: int, width: int, rng: np.random.Generator) -> Any:
    """Return smooth noise [H, W] of three sizes, mostly between -1 and 1."""
    drawn = (rng.uniform(-1, 1, (3 << octave, 4 << octave)) / 2**octave for octave in range(3))
    return sum((cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in drawn), np.zeros(()))


def _over(image: Any, layer: Any, grey: float) -> Any:
    """Return the image with a grey laid over it; the layer [H, W] is its opacity."""
    return image * (1 - layer[..., None]) + grey * layer[..., None]


def measure(
    segmenter: Segmenter, spec: DatasetSpec, pairs: Sequence[Pair], kinds: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return of each kind its amounts, mIoU in percent by strength, and their mean."""
    tasks = [(kind, strength) for kind in kinds for strength in STRENGTHS]
    confusions = {task: Confusion(len(spec.label_set)) for task in tasks}

    def items() -> Iterator[tuple[UInt8Array, UInt8Array, str, tuple[str, int]]]:
        for done, pair in enumerate(pairs, start=1):
            image, truth = spec.read(pair)
            print(f"\r{done} of {len(pairs)} images", end="", file=sys.stderr, flush=True)
            yield from ((image, truth, pair.image.name, task) for task in tasks)

    for (_, truth, _, task), image in ordered(lambda item: corrupted(item[0], item[2], *item[3]), items(), WORKERS):
        confusions[task].add(segmenter.segment(image).labels, truth)
    print(file=sys.stderr)
    scores = {kind: [confusions[kind, strength].miou() for strength in STRENGTHS] for kind in kinds}
    return {kind: {"amounts": AMOUNTS[KINDS[kind]], "miou": each, "mean": fmean(each)} for kind, each in scores.items()}


def contact_sheet(image: UInt8Array, name: str) -> Image.Image:
    """Return a contact sheet of one image: a row for each kind, a column for each strength, the clean image first."""
    height, width = 240, round(240 * image.shape[1] / image.shape[0])
    made = Image.new("RGB", (4 * width, len(KINDS) * height))
    draw = ImageDraw.Draw(made)
    for row, kind in enumerate(KINDS):
        for column in (0, *STRENGTHS):
            picture = corrupted(image, name, kind, column) if column else image
            place = (column * width, row * height)
            made.paste(Image.fromarray(picture).resize((width, height)), place)
            text = f"{kind} {AMOUNTS[KINDS[kind]][column - 1]:g}" if column else "clean"
            draw.text((place[0] + 4, place[1] + 2), text, (255, 255, 0), stroke_width=1, stroke_fill=(0, 0, 0))
    return made


def main(
    data: str,
    /,
    weights: Path | None = None,
    split: str = "test",
    every: int = 1,
    limit_kinds: tuple[str, ...] = tuple(KINDS),
    out: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Measure mIoU on corrupted images.

    Args:
        data: Dataset, such as camvid:ROOT.
        weights: Weight file, .onnx or .safetensors (default: the bundled float32 ONNX file).
        split: Split of the dataset.
        every: Use every N-th image.
        limit_kinds: Kinds of corruption (default: all).
        out: JSON file (default: benchmarks/accuracy/corruptions-NAME.json, NAME of the weight file).
        sheet: Write a contact sheet of the first image with all corruptions to this PNG file, and measure nothing.
    """
    for kind in limit_kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, list(KINDS))
    spec = datasets.load(data)
    pairs = spec.pairs(split)[::every]
    if sheet:
        contact_sheet(spec.read(pairs[0])[0], pairs[0].image.name).save(sheet)
        return
    path = weights or bundled("onnx", "float32")
    segmenter = Segmenter.load(path, "torch" if path.suffix == ".safetensors" else "onnx")
    clean = evaluate_pairs(segmenter, spec, pairs)
    found = measure(segmenter, spec, pairs, limit_kinds)
    result = {
        "weights": path.name, "weights_sha256": files.digest(path), "backend": clean.backend, "precision": clean.precision,
        "input": clean.input, "data": spec.name, "split": split, "every": every, "images": len(pairs),
        "machine": machine.processor(), "clean": clean.confusion.miou(), "mean": fmean(one["mean"] for one in found.values()),
        "kinds": found,
    }
    text = json.dumps(result, indent=1)
    print(text)
    files.write(out or RESULTS / f"corruptions-{path.stem}.json", text.encode() + b"\n")


if __name__ == "__main__":
    tyro.cli(main)
