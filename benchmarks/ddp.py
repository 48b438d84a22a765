"""Time training steps in one process and in two, with DistributedDataParallel and, if asked, with fastscnn 0.1.

    python benchmarks/ddp.py camvid:ROOT [--old PYTHON] [--steps 20] [--rounds 3] [--out benchmarks/ddp.json]

`--old` is the Python of an environment with fastscnn 0.1, whose processes add gradients by hand and share the statistics of
batch norm. All runs use the CPU and the recipe camvid-quick, with 12 images per step. They alternate over the rounds, so that
a change in the load of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

RECIPE, CHANGES = "camvid-quick", {"dropout": 0.0, "ema": 0.0}
WARM_UP = 3  # steps that are not timed
MOST_STEPS = 50  # Progress.loss is a mean of at most 50 steps


def child(spec: str, steps: int, out: Path) -> None:
    """Train in this process, or in this one of several; the first writes the times and losses of its steps."""
    import dataclasses

    old = _is_old()
    datasets = import_module("fastscnn.datasets" if old else "fastscnn.data.datasets")
    recipes = import_module("fastscnn.recipes" if old else "fastscnn.training.recipes")
    train = import_module("fastscnn.learn.train" if old else "fastscnn.training.train").train
    means: list[float] = []
    times: list[float] = []

    def on_step(progress: Any) -> None:
        means.append(progress.loss)
        times.append(perf_counter())

    fields: dict[str, Any] = {**CHANGES, "iterations": steps, "validate_every": steps}
    recipe = dataclasses.replace(recipes.named(RECIPE), **fields)
    arguments: dict[str, Any] = {"observe" if old else "on_step": on_step}
    card = train(recipe, datasets.load(spec), out / "run", **arguments)
    if means:  # only the first process is called
        sums = [0.0, *(mean * count for count, mean in enumerate(means, 1))]
        losses = [after - before for before, after in pairwise(sums)]
        seconds = [after - before for before, after in pairwise(times[:-1])]  # the last step validates
        result = {"losses": losses, "seconds": seconds[WARM_UP:], "miou": card.metrics["val"]["miou"]}
        (out / "result.json").write_text(json.dumps(result))


def _is_old() -> bool:
    """Return whether fastscnn 0.1 is installed."""
    from fastscnn import __version__

    return str(__version__).startswith("0.1.")


def run(python: str, spec: str, steps: int, processes: int, threads: int) -> dict[str, Any]:
    """Return the losses, the seconds of each timed step and the validation score of a training."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
        words = [python, *launcher, __file__, spec, "--steps", str(steps), "--child", folder]
        own = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or python == sys.executable}
        subprocess.run(words, env={**environment, **own}, check=True)
        result: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    return result


def main() -> None:
    """Train in all ways, print the seconds per step, and write the results."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="dataset with splits train and val, for example camvid:ROOT")
    parser.add_argument("--old", help="Python of an environment with fastscnn 0.1")
    parser.add_argument("--steps", type=int, default=20, help=f"steps of each run, {WARM_UP + 3} to {MOST_STEPS} (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "ddp.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not WARM_UP + 3 <= arguments.steps <= MOST_STEPS:
        parser.error(f"--steps: must be between {WARM_UP + 3} and {MOST_STEPS}, not {arguments.steps}")
    if arguments.child:
        return child(arguments.data, arguments.steps, arguments.child)
    kinds = {  # name -> Python, processes, threads of each
        "one process, one thread": (sys.executable, 1, 1),
        "one process, two threads": (sys.executable, 1, 2),
        "two processes": (sys.executable, 2, 1),
        **({"two processes of 0.1": (arguments.old, 2, 1)} if arguments.old else {}),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for _ in range(arguments.rounds):
        for name, (python, processes, threads) in kinds.items():
            results[name].append(run(python, arguments.data, arguments.steps, processes, threads))
    rows = {
        name: {
            "seconds_per_step": [round(median(result["seconds"]), 4) for result in found],
            "losses": found[0]["losses"],
            "miou": found[0]["miou"],
        }
        for name, found in results.items()
    }
    report = {"recipe": RECIPE, "changes": CHANGES, "steps": arguments.steps, "rounds": arguments.rounds, "runs": rows,
              "torch": torch.__version__, "machine": platform.platform()}  # fmt: skip
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, row in rows.items():
        print(f"{name:<26} {median(row['seconds_per_step']):.3f} s per step, first loss {row['losses'][0]:.4f}")
    return None


if __name__ == "__main__":
    main()
