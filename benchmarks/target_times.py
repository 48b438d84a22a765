"""Time the runtime of every export target in turn with our own backend, and its export.

    python benchmarks/target_times.py [TARGET ...] [--turns 15] [--parts graphs]

Two threads, float32, one image at a time; the median of all turns counts.

- targets: each target with its runtime in this environment. It returns labels; a target without labels returns logits, and our
  labels step is added. Beside it: ONNX Runtime with logits and our labels step. The seconds of its export, by step.
- graphs: `--output labels` in ONNX Runtime and OpenVINO, of any and of fixed size, beside logits with our labels step and
  beside upsampling and argmax that a user adds to the graph (files.with_labels).

Writes benchmarks/speed/targets.json. Targets that are not timed keep their earlier rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import torch
import tyro
from files import with_labels

from fastscnn import backends
from fastscnn.base import files, machine
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.exporting.pipeline import export
from fastscnn.exporting.targets import TARGETS, Runner
from fastscnn.model.weights import bundled
from fastscnn.upsampling import upsample

RESULTS = Path(__file__).parent / "speed" / "targets.json"
SIZES = ((360, 480), (1024, 2048))
TIMED = ("onnx", "openvino", "opencv", "torch-export", "litert", "ncnn")  # the others have no runtime of their own here
GRAPHS = ("onnx", "openvino")
THREADS = 2
_PER_TURN = 2  # images in a row; the first one wakes the threads of a runtime
_PAUSE = 0.3  # seconds, until the threads of the last runtime stop spinning

Way = Callable[[UInt8Array], object]


class Clock:
    """Measures the seconds of each step of an export, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[Callable[[int, int], None]]:
        start = perf_counter()
        yield lambda done, total: None
        self.seconds[what] = perf_counter() - start


def exported(name: str, size: tuple[int, int], folder: Path) -> tuple[Way, dict[str, Any]]:
    """Export the bundled weights for a target; return what labels an image with its runtime, and how the export went."""
    target, clock, path = TARGETS[name], Clock(), folder / f"{name}{TARGETS[name].suffix}"
    output = "labels" if "labels" in target.outputs else "logits"
    report = export(bundled("torch"), path, target=name, output=output, static=size, on_stage=clock)
    assert target.load
    return labelling(target.load(path, backends.load(bundled("onnx")).card), output, size), {
        "output": output, "bytes": report.file_size, "seconds": clock.seconds,
    }  # fmt: skip


def labelling(run: Runner, output: str, size: tuple[int, int]) -> Way:
    """Return what labels an image by a runtime, with our labels step if it returns logits."""
    if output == "labels":
        return lambda images: run(images)["labels"]
    return lambda images: upsample.labels(run(images)["logits"][0], size, THREADS)


def ours(backend: str, size: tuple[int, int]) -> Way:
    """Return what labels an image by our own backend in float32."""
    loaded = backends.load(bundled("onnx", "float32"), backend, THREADS, precision="float32")
    return lambda images: upsample.labels(loaded(images)[0], size, THREADS)


def timed(ways: Mapping[str, Way], size: tuple[int, int], turns: int) -> dict[str, float]:
    """Run all ways in turn; return the median milliseconds of each."""
    image = synthetic.draw(*size).image[None]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):  # the first one warms up
        for name, way in ways.items():
            sleep(_PAUSE)
            for repeat in range(_PER_TURN):
                start = perf_counter()
                way(image)
                if turn and repeat:
                    times[name].append(1e3 * (perf_counter() - start))
    found = {name: median(taken) for name, taken in times.items()}
    print(hxw(size), ", ".join(f"{name} {taken:.1f} ms" for name, taken in found.items()), flush=True)
    return found


def targets(names: Sequence[str], turns: int) -> Iterator[dict[str, Any]]:
    """Yield the times of each target at each size."""
    for name in names:
        try:
            TARGETS[name].check()
        except FastSCNNError as error:
            print(error, file=sys.stderr)
            continue
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                way, made = exported(name, size, Path(folder))
                found = timed({"ours": ours("onnx", size), name: way}, size, turns)
            yield {"target": name, "size": hxw(size), "ms": found[name], "ours_ms": found["ours"], **made}


def graphs(turns: int) -> Iterator[dict[str, Any]]:
    """Yield the times of labels in the graph, and of both alternatives, for each runtime and size."""
    for name in GRAPHS:
        load = TARGETS[name].load
        assert load
        card = backends.load(bundled("onnx")).card
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                suffix = TARGETS[name].suffix
                made = {"labels": Path(folder, f"labels{suffix}"), "static": Path(folder, f"static{suffix}"),
                        "naive": Path(folder, "naive.onnx")}
                export(bundled("torch"), made["labels"], target=name, output="labels")
                export(bundled("torch"), made["static"], target=name, output="labels", static=size)
                made["naive"].write_bytes(with_labels(bundled("onnx", "float32"), size))
                ways = {way: labelling(load(path, card), "labels", size) for way, path in made.items()}
                ways["logits"] = ours(name, size)
                yield {"runtime": TARGETS[name].runtime, "size": hxw(size), **timed(ways, size, turns)}


def main(names: tuple[str, ...] = TIMED, /, turns: int = 15, parts: tuple[str, ...] = ("targets", "graphs")) -> None:
    """Time targets and graphs.

    Args:
        names: Targets to time.
        turns: Turns of each runtime.
        parts: Which parts to run; the other keeps its last results.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # runtimes use all CPUs that they may use
    torch.set_num_threads(THREADS)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"targets": [], "graphs": []}
    found["machine"] = {"platform": platform.platform(), "processor": machine.processor(), "threads": THREADS}
    if "targets" in parts:
        for row in targets(names, turns):
            others = [each for each in found["targets"] if (each["target"], each["size"]) != (row["target"], row["size"])]
            found["targets"] = sorted([*others, row], key=lambda each: TIMED.index(each["target"]))
            files.write(RESULTS, json.dumps(found, indent=1).encode() + b"\n")
    if "graphs" in parts:
        found["graphs"] = list(graphs(turns))
        files.write(RESULTS, json.dumps(found, indent=1).encode() + b"\n")


if __name__ == "__main__":
    tyro.cli(main)
