"""Time whole frames, stage by stage, and relate the network to the limit of the machine."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np

from fastscnn.backends import MAX_STREAMS
from fastscnn.base.arguments import MAX_PIXELS, hxw, whole
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.base.types import BackendName, DeviceName, PrecisionName, UInt8Array
from fastscnn.benchmark.cold_start import cold_start
from fastscnn.benchmark.flops import cost
from fastscnn.benchmark.report import BenchmarkReport, Roofline, Stage
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.media.inputs import Job
from fastscnn.media.stream import ordered
from fastscnn.upsampling import native
from fastscnn.version import __version__


@dataclass(frozen=True)
class Protocol:
    """How frames are timed.

    Attributes:
        what: description in words.
        files: True: from a JPEG file to a PNG file; False: from a frame in memory to its labels in memory.
        warmup: frames before the measured ones.
        runs: frames measured.
    """

    what: str
    files: bool
    warmup: int
    runs: int


PROTOCOLS: Mapping[str, Protocol] = {
    "files": Protocol("JPEG file to PNG file of labels", True, 10, 50),
    "paper": Protocol("the paper's: frame in memory to labels, the mean of 100 after 100", False, 100, 100),
    "mmseg": Protocol("mmsegmentation's: frame in memory to labels, batch 1, the mean of 195 after 5", False, 5, 195),
}

OUTPUTS: Mapping[str, str] = {"cls": "segment", "prob": "probabilities"}  # the paper's name -> method of Segmenter


def benchmark(
    segmenter: Segmenter,
    size: tuple[int, int],
    protocol: str = "files",
    runs: int | None = None,
    warmup: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    output: str = "cls",
) -> BenchmarkReport:
    """Time whole frames of a generated street scene, with the same calls as `segment` and `evaluate`.

    Args:
        segmenter: loaded from a file. Its network runs at `size`.
        size: (height, width) of the frame.
        protocol: A name in `PROTOCOLS`.
        runs: frames to measure, at least 1; None: the protocol's number.
        warmup: frames before them; None: the protocol's number.
        progress: called with (done, total) after each frame.
        output: A name in `OUTPUTS`; "prob" only for frames in memory.

    Raises:
        ArgumentError: as `check`.
        FastSCNNError: the weights are in no file.
    """
    chosen, runs, warmup = check(size, protocol, runs, warmup, output)
    backend, path = segmenter.backend, segmenter.path
    if path is None:
        raise FastSCNNError("Only weights from a file can be benchmarked: the cold start loads the file.")
    segmenter = Segmenter(backend, size, path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = images.widened(synthetic.draw(*size).image, segmenter.card.channels)
        frame = _write(folder, image)
        times: list[dict[str, float]] = []
        for done in range(warmup + runs):
            times.append(_file(segmenter, frame, folder / "labels.png") if chosen.files else _frame(segmenter, image, output))
            if progress:
                progress(done + 1, warmup + runs)
        stages = {stage: _stage([1e3 * one[stage] for one in times[warmup:]]) for stage in times[0]}
        streams, rate = _stream(segmenter, frame, folder, runs) if chosen.files else (1, None)
        cold, peak_memory = cold_start(segmenter, frame, OUTPUTS[output])
    return BenchmarkReport(
        protocol=protocol,
        output=output,
        stages=stages,
        size=size,
        channels=segmenter.card.channels,
        runs=runs,
        warmup=warmup,
        streams=streams,
        stream_fps=rate,
        roofline=_roofline(segmenter, size, stages["network"].p50),
        backend=backend.name,
        precision=backend.precision,
        device=backend.device,
        verified=segmenter.verified,
        threads=backend.threads,
        peak_memory_mib=peak_memory,
        cold_start_s=cold,
        weights_bytes=path.stat().st_size,
        labels_by="NumPy" if native.KERNEL is None else "compiled kernel",
        machine=backend.hardware(),
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        version=__version__,
    )


def check(
    size: tuple[int, int], protocol: str, runs: int | None, warmup: int | None, output: str
) -> tuple[Protocol, int, int]:
    """Return the protocol and the numbers of timed and warm-up frames. Arguments are those of `benchmark`.

    Raises:
        ArgumentError: an unknown name, a number out of range, or an output that the protocol does not compute. Or a frame
            below 64 pixels a side or over 40 megapixels.
    """
    for kind, name, known in (("protocol", protocol, PROTOCOLS), ("output", output, OUTPUTS)):
        if name not in known:
            raise unknown(kind, name, known)
    chosen = PROTOCOLS[protocol]
    if chosen.files and output == "prob":
        raise ArgumentError("output: prob needs frames in memory, but the protocol files writes labels; "
                            "choose the protocol paper or mmseg.")
    runs = whole("runs", chosen.runs if runs is None else runs, 1)
    warmup = whole("warmup", chosen.warmup if warmup is None else warmup, 0)
    if min(size) < synthetic.MIN_SIDE:
        raise ArgumentError(f"size: a frame needs at least {synthetic.MIN_SIDE} pixels a side, not {hxw(size)}.")
    if size[0] * size[1] > MAX_PIXELS:
        raise ArgumentError(f"size: {hxw(size)} is over the limit of {MAX_PIXELS // 1_000_000} megapixels.")
    return chosen, runs, warmup


def _write(folder: Path, image: UInt8Array) -> Job:
    """Write RGB as a JPEG, and the further channels, which are all equal, as one grey PNG."""
    frame = Job(folder / "frame.jpg", folder / "frame", (folder / "grey.png",) * (image.shape[2] - 3))
    images.write(frame.image, image[:, :, :3])
    for path in frame.extra_channels:
        images.write(path, image[:, :, 3])
    return frame


def _frame(segmenter: Segmenter, image: UInt8Array, output: str) -> dict[str, float]:
    """Return the seconds of each stage of one frame in memory."""
    seconds: dict[str, float] = {}
    start = perf_counter()
    if output == "prob":
        segmenter.probabilities(image, seconds)
    else:
        seconds = segmenter.segment(image).seconds
    return {**seconds, "frame": perf_counter() - start}


def _file(segmenter: Segmenter, source: Job, target: Path) -> dict[str, float]:
    """Return the seconds of each stage of one frame from file to file."""
    start = perf_counter()
    image = images.stack(images.read(source.image), source.image, source.extra_channels)
    decoded = perf_counter()
    segmentation = segmenter.segment(image)
    labelled = perf_counter()
    segmentation.save_labels(target)
    written = perf_counter()
    return {"decode": decoded - start, **segmentation.seconds, "write": written - labelled, "frame": written - start}


def _stream(segmenter: Segmenter, frame: Job, folder: Path, runs: int) -> tuple[int, float]:
    """Return the number of parallel frames and the frames per second from file to file with them."""
    backend, size = segmenter.backend, segmenter.size
    wanted = min(MAX_STREAMS, backend.threads)
    name, precision = cast(BackendName, backend.name), cast(PrecisionName, backend.precision)
    device = cast(DeviceName, backend.device)
    many = Segmenter.load(segmenter.path, name, size, backend.threads, precision=precision, streams=wanted, device=device)
    streams = many.backend.streams  # some backends have one stream only
    runs = max(runs, 10 * streams)
    for _ in ordered(lambda index: _file(many, frame, folder / f"{index}.png"), range(2 * streams), streams):
        pass  # warm-up: the backend allocates its buffers
    start = perf_counter()
    for _ in ordered(lambda index: _file(many, frame, folder / f"{index % (2 * streams)}.png"), range(runs), streams):
        pass
    return streams, runs / (perf_counter() - start)


def _stage(milliseconds: list[float]) -> Stage:
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 95, 99)))
    return Stage(float(np.mean(milliseconds)), p50, p95, p99)


def _roofline(segmenter: Segmenter, size: tuple[int, int], milliseconds: float) -> Roofline | None:
    backend = segmenter.backend
    needed = cost(backend.card, size, backend.precision)
    peak, bandwidth = backend.matmul_peak(), backend.bandwidth()
    if peak is None or bandwidth is None:
        return None
    limit = 1e3 * max(2 * needed.macs / peak, needed.bytes / bandwidth)
    return Roofline(2 * needed.macs, needed.bytes, peak, bandwidth, limit, 100 * limit / milliseconds)
