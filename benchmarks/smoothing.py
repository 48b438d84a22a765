"""Measure temporal smoothing: flicker with and without it, on a video and a noisy still, and mIoU on a clip.

    python benchmarks/smoothing.py DATA VIDEO [--split val] [--out benchmarks/smoothing.json]

DATA is a dataset whose split is one clip in the order of file names, such as CamVid's val. Flicker is the percentage of
unchanged pixels whose label changes from one frame to the next (`smoothing.flicker`). The noisy still repeats one frame
of the video 60 times with Gaussian noise of 12 grey levels; all its pixels count as unchanged. After a cut from the
video to the clip, labels are compared with those of the clip's first frame alone.
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
    """Return the flicker in percent without and with smoothing, the reduction, and the milliseconds per frame.

    `still` is the picture without noise, for frames that differ only by noise.
    """
    frames = list(frames)
    found = {}
    for name, smoothing in (("plain", False), ("smoothing", True)):
        results = [segmentation for _, segmentation in segmenter.stream(frames, smoothing=smoothing)]
        pairs = pairwise(zip(frames, results, strict=True))
        counts = [
            flicker((a.labels, b.labels), (before, after) if still is None else (still, still))
            for (before, a), (after, b) in pairs
        ]
        found[name] = 100 * sum(changed for changed, _ in counts) / sum(same for _, same in counts)
        if smoothing:
            found["ms"] = median(1e3 * segmentation.seconds["smoothing"] for segmentation in results)
    return {**found, "reduction": 100 * (1 - found["smoothing"] / found["plain"])}


def scored(segmenter: Segmenter, spec: DatasetSpec, split: str, smoothing: bool) -> float:
    """Return the mIoU in percent of a split that is one clip."""
    confusion = Confusion(len(spec.label_set))
    read = [spec.read(pair) for pair in spec.pairs(split)]
    labelled = segmenter.stream((image for image, _ in read), smoothing=smoothing)
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
            "miou": {
                name: scored(segmenter, spec, arguments.split, on) for name, on in (("plain", False), ("smoothing", True))
            },
        },
        "labels unlike the first frame's after a cut, %": 100 * float((cut != segmenter.segment(clip[0]).labels).mean()),
        "ms at 1024x2048 input": median(1e3 * s.seconds["smoothing"] for _, s in native.stream([big] * 20, smoothing=True)),
    }
    print(json.dumps(found, indent=1))
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
