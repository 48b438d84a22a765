"""Time the reading of training batches from a folder of files and from tar shards, over the same images.

    python benchmarks/shards.py DATASET [--split train] [--repeat 50] [--batches 60] [--threads 2] [--rounds 3]
                                [--work DIR] [--out benchmarks/shards.json]

The images and labels of the split are copied `--repeat` times into a folder, and that is packed into shards, both in `--work`.
Measured are, in turn: listing the dataset, and random batches of crops as a training takes them, without the cache of decoded
images. "cold" is after the pages of all files were dropped from memory, which needs no rights. Both must give equal batches. To
measure a file server, choose a `--work` on it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastscnn.base import archives
from fastscnn.data import datasets, mixture
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.shards import write_shards
from fastscnn.training import loader
from fastscnn.training.loader import Batch, Loader
from fastscnn.training.recipes import named

RECIPE = "camvid"  # crop, batch and augmentation


def repeated(spec: DatasetSpec, split: str, repeat: int, folder: Path) -> DatasetSpec:
    """Return a dataset of so many copies of a split, whose only split is `train`, in a new folder."""
    pairs = spec.pairs(split)
    kinds = {kind: getattr(pairs[0], kind).suffix for kind in ("image", "labels")}
    for kind, suffix in kinds.items():
        (folder / kind).mkdir(parents=True)
        for copy, (number, pair) in product(range(repeat), enumerate(pairs)):
            shutil.copyfile(getattr(pair, kind), folder / kind / f"{copy:03}-{number:05}{suffix}")
    place = replace(spec.split(split), images=f"image/*{kinds['image']}", labels=f"labels/{{stem}}{kinds['labels']}")
    return replace(spec, root=folder, splits={"train": place})


def all_files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


def drop(root: Path) -> None:
    """Drop the pages of all files of a folder from memory."""
    for path in all_files(root):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def listing(spec: DatasetSpec) -> float:
    """Return the seconds that finding all pairs takes."""
    archives._scanned.cache_clear()
    start = perf_counter()
    spec.pairs("train")
    return perf_counter() - start


def reading(spec: DatasetSpec, batches: int, threads: int) -> tuple[float, list[Batch]]:
    """Return the images per second of the loader, and the first and the last batch."""
    pairs = spec.pairs("train")
    made = Loader(mixture.load(spec), [pairs], named(RECIPE), threads)
    start = perf_counter()
    found = [batch for number, batch in enumerate(made.batches(0, batches)) if number in (0, batches - 1)]
    return batches * named(RECIPE).images_per_step / (perf_counter() - start), found


def measured(specs: dict[str, DatasetSpec], batches: int, threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return the medians over the rounds, of each way of storing."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in specs}
    for number in range(rounds):
        first: list[Batch] = []
        for name, spec in sorted(specs.items(), reverse=bool(number % 2)):
            for state in ("cold", "warm"):
                if state == "cold":
                    drop(spec.root)
                seconds = listing(spec)
                if state == "cold":
                    drop(spec.root)
                rate, seen = reading(spec, batches, threads)
                first = first or seen
                assert all(np.array_equal(one.images, other.images) for one, other in zip(first, seen, strict=True))
                found[name].setdefault(f"listing_{state}_seconds", []).append(seconds)
                found[name].setdefault(f"{state}_images_per_second", []).append(rate)
                print(f"{name} {state}: listed in {seconds:.3f} s, {rate:.1f} images/s", file=sys.stderr)
    return {name: {key: {"median": median(values), "all": values} for key, values in rows.items()}
            for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("shards.json"))
    given = parser.parse_args()
    loader.CACHE_BYTES = 0  # each image is read again
    with tempfile.TemporaryDirectory(dir=given.work) as work:
        folder = repeated(datasets.load(given.dataset), given.split, given.repeat, Path(work) / "folder")
        start = perf_counter()
        shards = datasets.load(write_shards(folder, Path(work) / "shards"))
        writing = perf_counter() - start
        specs = {"folder": folder, "shards": shards}
        result = {
            "dataset": f"{folder.name} {given.split}, {given.repeat} times",
            "images": len(folder.pairs("train")),
            "files": {name: len(all_files(spec.root)) for name, spec in specs.items()},
            "bytes": {name: sum(path.stat().st_size for path in all_files(spec.root)) for name, spec in specs.items()},
            "writing_shards_seconds": writing,
            "recipe": RECIPE, "batches": given.batches, "threads": given.threads, "machine": platform.platform(),
            **measured(specs, given.batches, given.threads, given.rounds),
        }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
