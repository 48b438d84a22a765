"""Measure the backend cuda on an NVIDIA GPU, and the same kind of network in plain PyTorch.

    python benchmarks/gpu.py OUT.json [--size 1024x2048 ...] [--precision float16 ...] [--runs 100] [--rounds 5]

Four systems alternate in rounds; the table gives the medians of the rounds:

- ours: `CudaBackend`, one graph replay from a frame on the GPU to its labels, with the Triton kernel.
- ours compiled: the same, with the network compiled by `torch.compile` first.
- mmseg eager: the network in mmsegmentation's layout, then interpolation to full size and argmax.
- mmseg compiled: all of that by `torch.compile(mode="reduce-overhead")`, which captures its own graphs.

The comparison is OUR RE-IMPLEMENTATION of mmsegmentation's model, `FastSCNN(variant="mmseg")` with random weights, not
mmsegmentation itself, which is rarely installable next to a recent PyTorch. So these figures exclude the cost of
mmsegmentation's data pipeline and wrappers. Random weights do not change its speed.

"device" is from a frame on the GPU to labels on the GPU, timed by CUDA events. "host" is from a frame on the host to labels
on the host, one at a time. "stream" is the same with two frames in progress (ours only). Frames per second are those of a
whole block of runs. cuDNN selects its fastest kernels for all systems; float32 is not TF32. Nothing needs internet access.
The JSON is written after each size and precision. A dry run on any machine:

    python benchmarks/gpu.py /tmp/gpu.json --device cpu --size 64x128 --runs 2
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.backends.cuda.backend import PRECISIONS, CudaBackend
from fastscnn.backends.cuda.streams import settings
from fastscnn.backends.torch import TorchBackend
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.model.card import Card
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.upsampling import upsample

SIZES = ("1024x2048", "512x1024", "256x512")
SCENES, WARM_UP, CPU_SCENES = 4, 10, 3

Report = dict[str, Any]


class System(Protocol):
    """A system that turns frames into labels."""

    def device(self, frame: Tensor) -> object:
        """Compute labels on the device from a frame there, without waiting for them."""

    def host(self, frame: UInt8Array) -> UInt8Array:
        """Return labels on the host from a frame there."""

    def stream(self, frames: Sequence[UInt8Array]) -> Iterator[UInt8Array] | None:
        """Yield the labels of many frames; None if the system cannot stream."""


class Ours:
    """`CudaBackend`."""

    def __init__(self, model: FastSCNN, card: Card, size: tuple[int, int], precision: str, device: str, compiled: bool) -> None:
        self.backend, self.size = CudaBackend(model, card, precision, device, compiled), size
        with torch.inference_mode():
            self.plan = self.backend._plan((1, *size, card.channels), size)

    def device(self, frame: Tensor) -> object:
        with self.backend._streams.computing(), torch.inference_mode():
            self.plan.source.copy_(frame)
            self.plan.run()
        return None

    def host(self, frame: UInt8Array) -> UInt8Array:
        return self.backend.labels(frame, self.size)

    def stream(self, frames: Sequence[UInt8Array]) -> Iterator[UInt8Array]:
        return self.backend.labels_many(frames, self.size)


class Mmseg:
    """Our re-implementation of mmsegmentation's model in plain PyTorch."""

    def __init__(self, classes: int, channels: int, size: tuple[int, int], precision: str, device: str, compiled: bool) -> None:
        torch.manual_seed(0)
        model = FastSCNN(classes, channels, "mmseg").eval().to(device, PRECISIONS[precision])
        self._device = device

        def labels(frame: Tensor) -> Tensor:
            full = F.interpolate(model(frame), size=size, mode="bilinear", align_corners=False)
            return full.argmax(1).to(torch.uint8)

        self._labels: Callable[[Tensor], Tensor] = torch.compile(labels, mode="reduce-overhead") if compiled else labels

    def device(self, frame: Tensor) -> object:
        with torch.inference_mode():
            return self._labels(frame)

    def host(self, frame: UInt8Array) -> UInt8Array:
        with torch.inference_mode():
            labels: UInt8Array = self._labels(torch.from_numpy(frame[None]).to(self._device))[0].cpu().numpy()
        return labels

    def stream(self, frames: Sequence[UInt8Array]) -> None:
        return None


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def block_on_device(system: System, frames: Sequence[Tensor], runs: int, device: str) -> Report:
    """Run one block on frames that are on the device."""
    if device != "cuda":
        return block(system.device, frames, runs)
    stream = system.backend._streams.computing() if isinstance(system, Ours) else torch.cuda.stream(torch.cuda.current_stream())
    events = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]  # type: ignore[no-untyped-call]
    with stream:
        events[0].record()
        for index in range(runs):
            system.device(frames[index % len(frames)])
            events[index + 1].record()
    synchronize(device)
    times = [before.elapsed_time(after) for before, after in pairwise(events)]
    return {"fps": 1e3 * runs / events[0].elapsed_time(events[-1]), **percentiles(times)}


def block(call: Callable[[Any], object], frames: Sequence[Any], runs: int) -> Report:
    """Run one block; each run ends on the host."""
    times = []
    begin = perf_counter()
    for index in range(runs):
        start = perf_counter()
        call(frames[index % len(frames)])
        times.append(1e3 * (perf_counter() - start))
    return {"fps": runs / (perf_counter() - begin), **percentiles(times)}


def block_of_stream(system: System, frames: Sequence[UInt8Array], runs: int) -> Report | None:
    """Run one block with two frames in progress; only the frame rate is meaningful."""
    begin = perf_counter()
    results = system.stream([frames[index % len(frames)] for index in range(runs)])
    if results is None:
        return None
    for _ in results:
        pass
    return {"fps": runs / (perf_counter() - begin)}


def percentiles(milliseconds: Sequence[float]) -> Report:
    return {"p50_ms": float(np.percentile(milliseconds, 50)), "p95_ms": float(np.percentile(milliseconds, 95))}


def built(make: Callable[[], System], frames: Sequence[UInt8Array], device: str) -> tuple[System | None, Report]:
    """Build a system and run it a few times; report the seconds and the GPU memory that this took."""
    before = 0
    if device == "cuda":
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = perf_counter()
    try:
        system = make()
        first = torch.from_numpy(frames[0][None]).to(device)
        for _ in range(WARM_UP if device == "cuda" else 1):
            system.device(first)
            system.host(frames[0])
            list(system.stream(frames) or ())
        synchronize(device)
    except Exception as error:  # a missing compiler must not stop the measurement
        return None, {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    report: Report = {"first_s": perf_counter() - start}
    if device == "cuda":
        report["peak_memory_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    if isinstance(system, Ours):
        report["fallbacks"] = system.backend.fallbacks
    return system, report


def agreement(system: Ours, reference: TorchBackend, frames: Sequence[UInt8Array]) -> Report:
    """Compare labels with the CPU in float32: percent equal, and how many differ by more than half a logit."""
    same, differ, clear = 0, 0, 0
    for frame in frames[:CPU_SCENES]:
        logits = reference(frame[None])[0]
        expected, got = upsample.labels(logits, system.size), system.host(frame)
        wrong = expected != got
        same, differ = same + int((~wrong).sum()), differ + int(wrong.sum())
        if wrong.any():
            full = F.interpolate(torch.from_numpy(logits)[None], size=system.size, mode="bilinear")[0]
            best = full.topk(2, dim=0).values
            clear += int((wrong & (best[0] - best[1] > 0.5).numpy()).sum())
    return {"percent": 100 * same / (same + differ), "differ": differ, "differ_by_over_half_a_logit": clear,
            "scenes": min(len(frames), CPU_SCENES)}


def medians(rounds: Sequence[Report]) -> Report:
    return {key: median(round_[key] for round_ in rounds) for key in rounds[0]}


def measure(model: FastSCNN, card: Card, size: tuple[int, int], precision: str, arguments: argparse.Namespace) -> Report:
    """Measure all systems at one size and precision."""
    device, classes = arguments.device, len(card.label_set)
    if arguments.compile:
        torch.compiler.reset()  # it compiles one function for eight sizes at most
    frames = [synthetic.draw(*size, seed).image for seed in range(SCENES)]
    on_device = [torch.from_numpy(frame[None]).to(device) for frame in frames]
    makers: dict[str, Callable[[], System]] = {
        "ours": lambda: Ours(model, card, size, precision, device, False),
        "mmseg eager": lambda: Mmseg(classes, card.channels, size, precision, device, False),
    }
    if arguments.compile:
        makers["ours compiled"] = lambda: Ours(model, card, size, precision, device, True)
        makers["mmseg compiled"] = lambda: Mmseg(classes, card.channels, size, precision, device, True)
    systems: dict[str, System] = {}
    report: Report = {"size": size, "precision": precision, "systems": {}}
    for name, make in makers.items():
        system, report["systems"][name] = built(make, frames, device)
        if system is not None:
            systems[name] = system
    found: dict[str, dict[str, list[Report]]] = {name: {"device": [], "host": [], "stream": []} for name in systems}
    for _ in range(arguments.rounds):
        for name, system in systems.items():
            found[name]["device"].append(block_on_device(system, on_device, arguments.runs, device))
        for name, system in systems.items():
            found[name]["host"].append(block(system.host, frames, arguments.runs))
            if (streamed := block_of_stream(system, frames, arguments.runs)) is not None:
                found[name]["stream"].append(streamed)
    reference = TorchBackend(model, card)
    for name, system in systems.items():
        row = report["systems"][name]
        row |= {what: medians(rounds) for what, rounds in found[name].items() if rounds}
        if isinstance(system, Ours):
            row["labels_of_cpu_float32"] = agreement(system, reference, frames)
    for name, row in report["systems"].items():
        print(f"{size[0]}x{size[1]} {precision:9s} {name:15s} {json.dumps(row)}", flush=True)
    return report


def sides(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main() -> None:
    """Measure each size in each precision; write the report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=sides, nargs="+", default=[sides(text) for text in SIZES])
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--runs", type=int, default=100, help="runs per block")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=bundled("cuda"), help="weights of ours (default: the bundled ones)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="with torch.compile (default: on a GPU)")
    arguments = parser.parse_args()
    if arguments.compile is None:
        arguments.compile = arguments.device == "cuda"
    model, card = checkpoint.load(arguments.weights)
    on_cuda = arguments.device == "cuda"
    report: Report = {
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
        "torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version(),
        "weights": arguments.weights.name, "classes": len(card.label_set), "runs": arguments.runs, "rounds": arguments.rounds,
        "mmseg": "our re-implementation of mmsegmentation's model, not mmsegmentation itself",
        "rows": [],
    }  # fmt: skip
    for size in arguments.size:
        for precision in arguments.precision:
            with settings():  # for mmseg, too
                report["rows"].append(measure(model, card, size, precision, arguments))
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
