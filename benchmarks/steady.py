"""Measures what steady labels gain and cost: flicker with and without, on a video and a noisy still, and mIoU on a clip.

    python benchmarks/steady.py DATA VIDEO [--split val] [--out benchmarks/steady.json]

DATA is a dataset whose split is one clip, its images in the order of their names, as CamVid's val is. Flicker is the share
of the pixels whose picture stays the same from one frame to the next and whose label changes (`steady.flicker`). The noisy
still is a frame of the video 60 times over with Gaussian noise of 12 grey levels; there every pixel stays the same. After a
cut, which goes from the video to the clip, the labels are compared with those of the clip's first frame alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

import numpy as np

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.smoothing import flicker
from fastscnn.media import video

STILLS, NOISE = 60, 12.0


def video_frames(path: Path) -> Iterator[UInt8Array]:
    return (frame.image for frame in video.read(path, sound=False).frames)


def noisy(still: UInt8Array) -> Iterator[UInt8Array]:
    random = np.random.default_rng(0)
    for _ in range(STILLS):
        yield np.clip(still + random.normal(0, NOISE, still.shape), 0, 255).astype(np.uint8)


def flickering(segmenter: Segmenter, frames: Iterable[UInt8Array], still: UInt8Array | None = None) -> dict[str, float]:
    """Percent of the unmoved pixels that change their label, without and with steadiness, and its milliseconds a frame.

    `still` is what the frames show where they differ by noise alone.
    """
    frames = list(frames)
    found = {}
    for name, steady in (("plain", False), ("steady", True)):
        results = [segmentation for _, segmentation in segmenter.stream(frames, smoothing=steady)]
        pairs = pairwise(zip(frames, results, strict=True))
        counts = [
            flicker((a.labels, b.labels), (before, after) if still is None else (still, still))
            for (before, a), (after, b) in pairs
        ]
        found[name] = 100 * sum(changed for changed, _ in counts) / sum(same for _, same in counts)
        if steady:
            found["ms"] = median(1e3 * segmentation.seconds["smoothing"] for segmentation in results)
    return {**found, "gone": 100 * (1 - found["steady"] / found["plain"])}


def scored(segmenter: Segmenter, spec: DatasetSpec, split: str, steady: bool) -> float:
    """mIoU in percent of a split taken as one clip."""
    confusion = Confusion(len(spec.label_set))
    read = [spec.read(pair) for pair in spec.pairs(split)]
    labelled = segmenter.stream((image for image, _ in read), smoothing=steady)
    for (_, segmentation), (_, truth) in zip(labelled, read, strict=True):
        confusion.add(segmentation.labels, truth)
    return confusion.miou()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("video", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    spec = datasets.load(arguments.data)
    segmenter = Segmenter.load(backend="onnx", precision="float32")
    frames = list(video_frames(arguments.video))
    clip = [spec.read(pair)[0] for pair in spec.pairs(arguments.split)]
    cut = [s.labels for _, s in segmenter.stream(chain(frames[-5:], clip[:1]), smoothing=True)][-1]
    native = Segmenter(segmenter.backend, "native")
    big = np.resize(frames[0], (1024, 2048, 3))
    found = {
        "video": flickering(segmenter, frames),
        "noisy still": flickering(segmenter, noisy(frames[len(frames) // 2]), frames[len(frames) // 2]),
        "clip": {
            "flicker": flickering(segmenter, clip),
            "miou": {name: scored(segmenter, spec, arguments.split, on) for name, on in (("plain", False), ("steady", True))},
        },
        "labels unlike the first frame's after a cut, %": 100 * float((cut != segmenter.segment(clip[0]).labels).mean()),
        "ms at 1024x2048 input": median(1e3 * s.seconds["smoothing"] for _, s in native.stream([big] * 20, smoothing=True)),
    }
    print(json.dumps(found, indent=1))
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
