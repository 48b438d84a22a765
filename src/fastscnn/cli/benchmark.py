"""benchmark: times of whole frames, of several sizes and beside a peer."""

from __future__ import annotations

import dataclasses
import json as json_
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.console import STDOUT, progress_bar
from fastscnn.cli.flags import load, parse_frames

if TYPE_CHECKING:
    from fastscnn.benchmark.benchmark import BenchmarkReport


def benchmark(
    *,
    weights: Path | None = None,
    sizes: str = "1024x2048",
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    protocol: str = "files",
    output: str = "cls",
    runs: int | None = None,
    warmup: int | None = None,
    against: Path | None = None,
    plot: Path | None = None,
    json: Path | None = None,
) -> int:
    """Time whole frames, stage by stage, with memory, cold start and the share of the machine's limit.

    Args:
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        sizes: Of the frame and of the network's input, HxW; several with commas between show the growth.
        backend: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        threads: To compute with; all where none is given.
        protocol: files, from JPEG to PNG; paper or mmseg, frames in memory as those count them.
        output: cls, the label of every pixel, or prob, the probability of every class there, of frames in memory.
        runs: Frames measured; the protocol's where none is given.
        warmup: Frames before them; the protocol's where none is given.
        against: An environment that holds mmsegmentation, which is timed in turn with ours at the last size.
        plot: Also draw the milliseconds over the pixels, as .svg, .png or .pdf.
        json: Also write everything to this file.
    """
    from fastscnn.benchmark.benchmark import PROTOCOLS
    from fastscnn.benchmark.benchmark import benchmark as measure
    from fastscnn.benchmark.mmseg import against as compare
    from fastscnn.benchmark.mmseg import interpreter

    frames = parse_frames(sizes)
    if against and output != "cls":
        raise FastSCNNError("against: times labels on both sides; leave --output out, or --against.")
    if against:
        interpreter(against)  # what cannot be done is said before the measuring
    draw = _plotter(plot) if plot else None
    segmenter = load(weights, backend, None, threads, precision=precision)
    if against and segmenter.card.channels != 3:
        raise FastSCNNError(f"against: mmsegmentation's network takes RGB, and {segmenter.path} {segmenter.card.channels} "
                            "channels; give weights of RGB, or leave --against out.")
    reports = []
    for frame in frames:
        with progress_bar(f"benchmark {frame[0]}x{frame[1]}") as advance:
            reports.append(measure(segmenter, frame, protocol, runs, warmup, advance, output))
        _print_benchmark(reports[-1], PROTOCOLS[protocol].what.replace("labels", _made(reports[-1])))
    found: dict[str, Any] = {"reports": [json_.loads(report.to_json()) for report in reports]}
    if json:
        files.write(json, json_.dumps(found, indent=1).encode())
    if draw:
        draw(reports)
    if len(reports) > 1:
        made = _made(reports[0])
        growth = Table("size", "megapixels", "network ms", f"{made} ms", "frame ms", "network ns a pixel")
        for report in reports:
            pixels = report.size[0] * report.size[1]
            network, last, whole = (report.stages[name].p50 for name in ("network", made, "frame"))
            size = f"{report.size[0]}x{report.size[1]}"
            per_pixel = f"{1e6 * network / pixels:.1f}"
            growth.add_row(size, f"{pixels / 1e6:.2f}", f"{network:.2f}", f"{last:.2f}", f"{whole:.2f}", per_pixel)
        STDOUT.print(growth)
    if against:
        with progress_bar("against mmsegmentation") as advance:
            comparison = compare([segmenter], reports[-1].size, against, progress=advance)
        found["against"] = dataclasses.asdict(comparison)
        table = Table("frame in memory to labels", "ms", "ours is faster by", title=f"mmsegmentation {comparison.version}")
        (ours,) = comparison.ours.values()
        for name, milliseconds in {**comparison.ours, **comparison.peers}.items():
            table.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / ours:.1f}")
        STDOUT.print(table)
        if json:
            files.write(json, json_.dumps(found, indent=1).encode())
    return 0


def _plotter(path: Path) -> Callable[[Sequence[BenchmarkReport]], None]:
    """What draws the growth over the sizes into a file; refuses a file or a machine that cannot before all measuring."""
    try:
        from fastscnn.benchmark import plot
    except ImportError as error:
        raise FastSCNNError(f"plot: {error.name} is not installed; pip install 'fastscnn[plot]'.") from error
    plot.check(path)
    return lambda reports: plot.growth(path, reports)


def _made(report: BenchmarkReport) -> str:
    """What the frames became, as the stage is called that made it."""
    return "probabilities" if report.output == "prob" else "labels"


def _print_benchmark(report: BenchmarkReport, protocol: str) -> None:
    """One size: times of the stages, rates, and the machine."""
    more = "" if report.channels == 3 else f" in {report.channels} channels"
    title = f"{report.size[0]}x{report.size[1]}{more}, {report.backend} {report.precision}, {report.threads} threads"
    table = Table("stage", "mean ms", "p50", "p95", "p99", title=title)
    for name, stage in report.stages.items():
        table.add_row(name, *(f"{value:.2f}" for value in (stage.mean, stage.p50, stage.p95, stage.p99)))
    STDOUT.print(table)
    STDOUT.print(f"{1e3 / report.stages['frame'].mean:.1f} frames per second, {protocol}; {report.runs} after {report.warmup}",
                 soft_wrap=True)
    if report.stream_fps is not None:
        STDOUT.print(f"{report.stream_fps:.1f} frames per second with {report.streams} at a time")
    roof = report.roofline
    STDOUT.print(f"network {report.stages['network'].p50:.2f} ms, {roof.share:.0f} % of the limit of {roof.limit_ms:.2f} ms: "
                 f"{roof.operations / 1e9:.2f} G operations at {roof.peak / 1e9:.0f} G/s, "
                 f"{roof.bytes / 1e6:.0f} MB at {roof.bandwidth / 1e9:.1f} GB/s", soft_wrap=True)
    STDOUT.print(f"cold start to first {_made(report)} {report.cold_start_s:.2f} s, "
                 f"peak memory {report.peak_memory_mib:.0f} MiB, weights {report.weights_bytes / 1e6:.1f} MB", soft_wrap=True)
    STDOUT.print(f"{report.machine}, {report.processors} processors, Python {report.python}, fastscnn {report.version}")
