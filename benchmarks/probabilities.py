"""Time the probabilities of every class at full size, in turn with interpolation and softmax in PyTorch.

    python benchmarks/probabilities.py [--out FILE.json]

The logits are those of the bundled weights on the generated scene at 1024x2048, with 11 classes and with 19 (eight
copies of classes, lowered by 0 to 2, as in labels.py). PyTorch uses two threads, fastscnn two and one.
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
from labels import RUNS, SIZE, THREADS

from fastscnn import Segmenter
from fastscnn.base.types import Float32Array
from fastscnn.data import synthetic
from fastscnn.upsampling import upsample


def by_torch(logits: Float32Array) -> Float32Array:
    """Return the reference: bilinear interpolation of every class to full size, then softmax."""
    with torch.inference_mode():
        full = F.interpolate(torch.from_numpy(logits)[None], size=SIZE, mode="bilinear", align_corners=False)
        return np.asarray(full[0].softmax(0).numpy(), np.float32)


def measure(logits: Float32Array) -> dict[str, float]:
    """Return the median milliseconds of each method, the median ratio of PyTorch to fastscnn, and their largest difference."""
    ways: dict[str, Callable[[], Float32Array]] = {
        "torch_ms": lambda: by_torch(logits),
        "one_thread_ms": lambda: upsample.probabilities([logits], SIZE),
        "ours_ms": lambda: upsample.probabilities([logits], SIZE, THREADS),
    }
    difference = float(np.abs(ways["torch_ms"]() - ways["ours_ms"]()).max())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS + 2):
        for name, way in ways.items():
            start = perf_counter()
            way()
            times[name].append(1e3 * (perf_counter() - start))
    ratios = [theirs / ours for ours, theirs in zip(times["ours_ms"][2:], times["torch_ms"][2:], strict=True)]
    return {
        "classes": len(logits),
        **{name: statistics.median(taken[2:]) for name, taken in times.items()},
        "ratio": statistics.median(ratios),
        "difference": difference,
    }


def main() -> None:
    """Print one line per number of classes, and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    logits = Segmenter.load(threads=THREADS).backend(synthetic.draw(*SIZE).image[None])[0]
    rng = np.random.default_rng(0)
    more = logits[rng.choice(len(logits), 8, replace=False)] - rng.uniform(0, 2, (8, 1, 1)).astype(np.float32)
    rows = []
    for values in (logits, np.concatenate([logits, more])):
        rows.append({"threads": THREADS, **measure(np.ascontiguousarray(values))})
        print(json.dumps(rows[-1]))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
