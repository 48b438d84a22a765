"""Trains the same batches in one process and in two, and compares the losses of every step: the proof behind docs/cluster.md.

    python benchmarks/ddp.py camvid:ROOT [--steps 30] [--lr 0.0005] [--out benchmarks/ddp.json]

On the CPU, in float32, without dropout, small crops, each process with one thread. A third run, in one process with two
threads, shows what another order of adding does by itself: rounding grows from step to step in any training, the faster the
higher the learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

BATCH, CROP, SEED = 8, (96, 128), 0
CHANGES = {"batch": BATCH, "crop": CROP, "precision": "float32", "dropout": 0.0, "seed": SEED}
RUNS = {"one": (1, 1), "two": (2, 1), "one, two threads": (1, 2)}  # name -> processes, threads of each


def child(spec: str, steps: int, lr: float, out: Path, losses: Path) -> None:
    """Trains in this process, or in this one of several; the first writes the loss of every step."""
    import dataclasses

    from fastscnn.data import datasets
    from fastscnn.training import distributed, loop
    from fastscnn.training.recipes import named
    from fastscnn.training.train import train

    recorded: list[float] = []
    step = loop.step

    def record(*arguments: Any) -> float:
        recorded.append(step(*arguments))
        return recorded[-1]

    fields: dict[str, Any] = {**CHANGES, "lr": lr, "iterations": steps, "validate_every": steps}
    recipe = dataclasses.replace(named("camvid-quick"), **fields)
    with patch.object(loop, "step", record):
        card = train(recipe, datasets.load(spec), out)
    if distributed.first():
        losses.write_text(json.dumps({"losses": recorded, "validation": card.metrics["val"]}))


def run(spec: str, steps: int, lr: float, processes: int, threads: int) -> dict[str, Any]:
    """The losses, the last validation and the seconds of a training by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [spec, "--steps", str(steps), "--lr", str(lr), "--child", folder]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
        own = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}
        began = perf_counter()
        subprocess.run([sys.executable, *launcher, __file__, *words], env={**os.environ, **own}, check=True)
        result: dict[str, Any] = json.loads((Path(folder) / "losses.json").read_text())
    return {"processes": processes, "threads": threads, "seconds": round(perf_counter() - began, 1), **result}


def differences(one: list[float], other: list[float]) -> list[float]:
    """Of each step, how far the losses lie apart, relative to the first."""
    return [abs(ours - theirs) / ours for ours, theirs in zip(one, other, strict=True)]


def main() -> None:
    """Trains all ways and writes the curves."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset with splits train and val, for example camvid:ROOT")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--lr", type=float, default=0.0005)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "ddp.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        out, losses = arguments.child / "run", arguments.child / "losses.json"
        return child(arguments.data, arguments.steps, arguments.lr, out, losses)
    runs = {name: run(arguments.data, arguments.steps, arguments.lr, *how) for name, how in RUNS.items()}
    apart = {name: differences(runs["one"]["losses"], runs[name]["losses"]) for name in RUNS if name != "one"}
    report = {
        "recipe": "camvid-quick", "changes": CHANGES, "lr": arguments.lr, "steps": arguments.steps,
        "runs": runs, "relative differences": apart,
        "largest": {name: max(values) for name, values in apart.items()},
        "median": {name: median(values) for name, values in apart.items()},
        "torch": torch.__version__, "machine": platform.platform(),
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, values in apart.items():
        print(f"{name}: first step {values[0]:.1e}, median {median(values):.1e}, largest {max(values):.1e}")
    return None


if __name__ == "__main__":
    main()
