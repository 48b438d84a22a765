"""Times full-size labels by the lazy rule, compiled and in NumPy, against interpolate-then-argmax in PyTorch, interleaved.

    python benchmarks/labels.py [IMAGE ...] [--out FILE.json]

The logits are those of the bundled weights on each image at 1024x2048 (without images: on the drawn scene), once as they
are (11 classes) and once with 19: eight classes are added, each a copy of one that is there, lowered by 0 to 2, because
the weights that would give 19 real ones need Cityscapes. PyTorch computes with two threads, the compiled kernel once with
one and once with two, NumPy's form with one.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from fastscnn import Segmenter
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.upsampling import native, upsample

SIZE, RUNS, THREADS = (1024, 2048), 15, 2


def by_torch(logits: Float32Array) -> UInt8Array:
    """The reference: bilinear interpolation of every class to full size, then argmax."""
    with torch.inference_mode():
        full = F.interpolate(torch.from_numpy(logits)[None], size=SIZE, mode="bilinear", align_corners=False)
        return np.asarray(full[0].argmax(0).to(torch.uint8).numpy(), np.uint8)


def untied(logits: Float32Array) -> np.typing.NDArray[np.bool_]:
    """Pixels [H, W] whose two best classes differ by more than rounding."""
    full = F.interpolate(torch.from_numpy(logits)[None], size=SIZE, mode="bilinear", align_corners=False)[0]
    best = full.topk(2, dim=0).values
    return np.asarray((best[0] - best[1] > 1e-5 * full.abs().max()).numpy())


def measure(logits: Float32Array) -> dict[str, float]:
    """Median milliseconds of each, PyTorch's over those of the kernel on as many threads, run by run, and how many labels
    differ from PyTorch's."""
    ways: dict[str, Callable[[], UInt8Array]] = {
        "torch_ms": lambda: by_torch(logits),
        "numpy_ms": lambda: upsample.labels_in_numpy(logits, SIZE),  # after PyTorch, whose idle threads spin for a while
        "lazy_ms": lambda: upsample.labels(logits, SIZE, THREADS),
        "one_thread_ms": lambda: upsample.labels(logits, SIZE),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    made = {}
    for _ in range(RUNS + 2):
        for name, way in ways.items():
            start = perf_counter()
            made[name] = way()
            times[name].append(1e3 * (perf_counter() - start))
    differ = made["lazy_ms"] != made["torch_ms"]
    ratios = [theirs / ours for ours, theirs in zip(times["lazy_ms"][2:], times["torch_ms"][2:], strict=True)]
    return {
        "classes": len(logits),
        **{name: statistics.median(taken[2:]) for name, taken in times.items()},
        "ratio": statistics.median(ratios),
        "labels_that_differ": int(differ.sum()),
        "of_them_not_tied": int((differ & untied(logits)).sum()),
    }


def main() -> None:
    """Prints a line for each image and number of classes; writes them all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if native.KERNEL is None:
        parser.error("there is no compiled kernel to time: pip install -v -e . compiles it, or says why not.")
    torch.set_num_threads(THREADS)
    segmenter = Segmenter.load(threads=THREADS)
    frames = {path.name: images.resize(images.read(path), SIZE) for path in arguments.images}
    frames = frames or {"drawn scene": synthetic.draw(*SIZE).image}
    rows = []
    for name, frame in frames.items():
        logits = segmenter.backend(frame[None])[0]
        rng = np.random.default_rng(0)
        more = logits[rng.choice(len(logits), 8, replace=False)] - rng.uniform(0, 2, (8, 1, 1)).astype(np.float32)
        for values in (logits, np.concatenate([logits, more])):
            rows.append({"image": name, "threads": THREADS, **measure(np.ascontiguousarray(values))})
            print(json.dumps(rows[-1]))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
