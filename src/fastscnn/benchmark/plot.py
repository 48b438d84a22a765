"""Plot benchmark reports. Needs the extra `[plot]`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fastscnn.base import files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError
from fastscnn.benchmark.report import BenchmarkReport

_FORMATS = (".svg", ".png", ".pdf")


def check(path: Path) -> None:
    """Raise ArgumentError unless the suffix is .svg, .png or .pdf."""
    if path.suffix.lower() not in _FORMATS:
        raise ArgumentError(f"{path}: unknown plot format; use the suffix {', '.join(_FORMATS)}.")


def growth(path: Path, reports: Sequence[BenchmarkReport]) -> None:
    """Plot the median time of every stage over the number of pixels, on logarithmic axes.

    Args:
        path: file to write, with the suffix .svg, .png or .pdf.
        reports: reports of one backend at several sizes.

    Raises:
        ArgumentError: the suffix is unknown.
        FastSCNNError: the file cannot be written.
    """
    check(path)
    reports = sorted(reports, key=lambda report: report.size[0] * report.size[1])
    pixels = [report.size[0] * report.size[1] / 1e6 for report in reports]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for stage in reports[0].stages:
        times = [report.stages[stage].p50 for report in reports]
        if min(times) > 0.02:  # skip stages that do nothing: a logarithmic axis cannot show 0
            axes.plot(pixels, times, marker="o", linewidth=2.5 if stage == "frame" else 1.5, label=stage)
    limits = [report.roofline.limit_ms for report in reports if report.roofline]
    if len(limits) == len(reports):
        axes.plot(pixels, limits, "k--", linewidth=1, label="limit of the network")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(pixels, [hxw(report.size) for report in reports], rotation=20)
    axes.minorticks_off()
    axes.set_xlabel("frame (height x width)")
    axes.set_ylabel("milliseconds, median")
    first = reports[0]
    axes.set_title(f"{first.backend} {first.precision} on {first.device}, {first.threads} threads\n{first.machine}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.lower()[1:], dpi=150)
    files.write(path, data.getvalue())
