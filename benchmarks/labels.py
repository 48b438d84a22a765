"""Time full-size labels by the lazy rule, compiled and in NumPy, in turn with interpolation and argmax in PyTorch.

    python benchmarks/labels.py [IMAGE ...] [--out FILE.json]

The logits are those of the bundled weights on each image at 1024x2048 (without images: on the generated scene), with 11
classes and with 19. The eight extra classes are copies of existing ones, lowered by 0 to 2: weights with 19 real
classes need Cityscapes. PyTorch uses two threads, the compiled kernel one and two, NumPy one.
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
    """Return the reference: bilinear interpolation of every class to full size, then argmax."""
    with torch.inference_mode():
        full = F.interpolate(torch.from_numpy(logits)[None], size=SIZE, mode="bilinear", align_corners=False)
        return np.asarray(full[0].argmax(0).to(torch.uint8).numpy(), np.uint8)


def untied(logits: Float32Array) -> np.typing.NDArray[np.bool_]:
    """Return the pixels [H, W] whose two best classes differ by more than rounding errors."""
    full = F.interpolate(torch.from_numpy(logits)[None], size=SIZE, mode="bilinear", align_corners=False)[0]
    best = full.topk(2, dim=0).values
    return np.asarray((best[0] - best[1] > 1e-5 * full.abs().max()).numpy())


def measure(logits: Float32Array) -> dict[str, float]:
    """Return the median milliseconds of each method, the median ratio of PyTorch to the kernel on equal threads, and the number
    of labels that differ from PyTorch's."""
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
    """Print one line per image and number of classes, and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if native.KERNEL is None:
        parser.error("no compiled kernel to time; `pip install -v -e .` compiles it and prints compiler errors.")
    torch.set_num_threads(THREADS)
    segmenter = Segmenter.load(threads=THREADS)
    frames = {path.name: images.resize(images.read(path), SIZE) for path in arguments.images}
    frames = frames or {"generated scene": synthetic.draw(*SIZE).image}
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
