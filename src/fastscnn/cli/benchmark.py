"""benchmark: times of whole frames at several sizes, and a comparison with mmsegmentation."""

from __future__ import annotations

import dataclasses
import json as json_
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.cli.console import STDOUT, configure, progress_bar, show, table
from fastscnn.cli.flags import load
from fastscnn.cli.options import (
    Backend,
    Device,
    Json,
    Precision,
    Quiet,
    Threads,
    Verbose,
    Weights,
    described,
    path,
    several_sizes,
    value,
    write_size,
)  # fmt: skip

if TYPE_CHECKING:
    from fastscnn.base.types import BackendName, DeviceName
    from fastscnn.benchmark.mmseg import MmsegComparison
    from fastscnn.benchmark.report import BenchmarkReport

USAGE = "[options]"


def run(
    *,
    weights: Weights = None,
    sizes: Annotated[
        tuple[tuple[int, int], ...],
        value("HxW,...", several_sizes, write=lambda frames: ",".join(map(write_size, frames))),
        described("Sizes of the frame and of the network input, separated by commas."),
    ] = ((1024, 2048),),
    backend: Backend = "auto",
    precision: Precision = "auto",
    device: Device = None,
    threads: Threads = None,
    protocol: Annotated[Literal["files", "paper", "mmseg"], described(
        "What is timed. files: JPEG file to PNG file; paper, mmseg: frames in memory, timed as the paper or "
        "mmsegmentation does.")] = "files",
    output: Annotated[Literal["cls", "prob"], described(
        "cls: the label of each pixel; prob: the probability of each class, for frames in memory.")] = "cls",
    runs: Annotated[int | None, value("N", int, "the protocol's"), described("Timed frames.")] = None,
    warmup: Annotated[int | None, value("N", int, "the protocol's"), described("Frames before the timed ones.")] = None,
    mmseg: Annotated[Path | None, path("ENV"), described(
        "Also time mmsegmentation at the last size: the virtual environment that holds it.")] = None,
    plot: Annotated[Path | None, path("FILE"), described(
        "Also draw milliseconds over pixels, as .svg, .png or .pdf (needs the extra 'plot').")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Measure whole frames, stage by stage, with memory and cold start.

    Also print how close the network comes to the limit of the machine.
    """
    from fastscnn.benchmark.benchmark import PROTOCOLS, benchmark, check
    from fastscnn.benchmark.mmseg import compare_with_mmseg

    configure(quiet, verbose)
    for frame in sizes:
        check(frame, protocol, runs, warmup, output)
    if mmseg:
        _check_mmseg(mmseg, backend, device, output)
    draw = _plotter(plot) if plot else None
    segmenter = load(weights, backend, None, threads, precision=precision, device=device)
    if mmseg and segmenter.card.channels != 3:
        raise FastSCNNError(f"mmseg: its network takes RGB, and {segmenter.path} takes {segmenter.card.channels} channels; "
                            "give weights for RGB, or omit --mmseg.")
    reports = []
    for frame in sizes:
        with progress_bar(f"benchmark {write_size(frame)}", quiet=json) as advance:
            reports.append(benchmark(segmenter, frame, protocol, runs, warmup, advance, output))
        if json:
            print(json_.dumps(dataclasses.asdict(reports[-1])), flush=True)
        else:
            _print_benchmark(reports[-1], PROTOCOLS[protocol].what.replace("labels", _made(reports[-1])))
    if draw:
        draw(reports)
    if len(reports) > 1 and not json:
        _print_growth(reports)
    if mmseg:
        with progress_bar("compare with mmsegmentation", quiet=json) as advance:
            comparison = compare_with_mmseg([segmenter], reports[-1].size, mmseg, progress=advance)
        if json:
            print(json_.dumps({"mmseg": dataclasses.asdict(comparison)}))
        else:
            _print_comparison(comparison)
    return 0


def _check_mmseg(environment: Path, backend: BackendName, device: DeviceName | None, output: str) -> None:
    """Raise FastSCNNError for options that cannot be compared, or an environment without an interpreter."""
    from fastscnn.benchmark.mmseg import interpreter

    if backend == "cuda" or device not in ("cpu", None):
        raise ArgumentError("mmseg: is timed on the CPU; omit --backend cuda and --device, or --mmseg.")
    if output != "cls":
        raise ArgumentError("mmseg: compares labels only; omit --output or --mmseg.")
    interpreter(environment)


def _print_growth(reports: Sequence[BenchmarkReport]) -> None:
    """Print how times grow with the size."""
    made = _made(reports[0])
    growth = table("size", "megapixels", "network ms", f"{made} ms", "frame ms", "network ns/pixel")
    for report in reports:
        pixels = report.size[0] * report.size[1]
        network, last, whole = (report.stages[name].p50 for name in ("network", made, "frame"))
        per_pixel = f"{1e6 * network / pixels:.1f}"
        milliseconds = (f"{ms:.2f}" for ms in (network, last, whole))
        growth.add_row(write_size(report.size), f"{pixels / 1e6:.2f}", *milliseconds, per_pixel)
    STDOUT.print(growth)


def _print_comparison(comparison: MmsegComparison) -> None:
    """Print the times beside those of mmsegmentation."""
    times = table("frame in memory to labels", "ms", "ours is faster by", title=f"mmsegmentation {comparison.mmseg_version}")
    (ours,) = comparison.fastscnn_ms.values()
    for name, milliseconds in {**comparison.fastscnn_ms, **comparison.mmseg_ms}.items():
        times.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / ours:.1f}")
    STDOUT.print(times)


def _plotter(path: Path) -> Callable[[Sequence[BenchmarkReport]], None]:
    """Return what draws the plot. A wrong file name or a missing extra is an error before the measurement."""
    try:
        from fastscnn.benchmark import plot
    except ImportError as error:
        raise missing_extra(f"plot ({error.name} is missing)", "plot") from error
    plot.check(path)
    return lambda reports: plot.growth(path, reports)


def _made(report: BenchmarkReport) -> str:
    """Return the name of the last stage."""
    return "probabilities" if report.output == "prob" else "labels"


def _print_benchmark(report: BenchmarkReport, protocol: str) -> None:
    """Print one size: times of the stages, rates, and the machine."""
    more = "" if report.channels == 3 else f" in {report.channels} channels"
    title = f"{hxw(report.size)}{more}, {report.backend} {report.precision} on {report.device}, {report.threads} threads"
    times = table("stage", "mean ms", "p50", "p95", "p99", title=title)
    for name, stage in report.stages.items():
        times.add_row(name, *(f"{value:.2f}" for value in (stage.mean, stage.p50, stage.p95, stage.p99)))
    STDOUT.print(times)
    show(f"{1e3 / report.stages['frame'].mean:.1f} frames per second, {protocol}; "
         f"{report.runs} timed after {report.warmup} warm-up")
    if report.stream_fps is not None:
        show(f"{report.stream_fps:.1f} frames per second with {report.streams} at a time")
    if roof := report.roofline:
        show(f"network {report.stages['network'].p50:.2f} ms, {roof.share:.0f} % of the limit of {roof.limit_ms:.2f} ms: "
             f"{roof.operations / 1e9:.2f} G operations at {roof.matmul_peak / 1e9:.0f} G/s, "
             f"{roof.bytes / 1e6:.0f} MB at {roof.bandwidth / 1e9:.1f} GB/s")
    show(f"cold start to first {_made(report)} {report.cold_start_s:.2f} s, "
         f"peak memory {report.peak_memory_mib:.0f} MiB, weights {report.weights_bytes / 1e6:.1f} MB")
    show(f"{report.machine}, {report.processors} processors, Python {report.python}, fastscnn {report.version}")
