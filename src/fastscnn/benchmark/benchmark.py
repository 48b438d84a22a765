"""benchmark: what a frame costs, stage by stage, on this machine, and how close to the machine's limit that is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from fastscnn.backends import MAX_STREAMS
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import UInt8Array
from fastscnn.benchmark.flops import cost
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.media.inputs import Job
from fastscnn.media.stream import ordered
from fastscnn.upsampling import native
from fastscnn.version import __version__

# What a fresh process does from its first import to its first labels; prints seconds and its peak memory in MiB.
_COLD = """
import time; start = time.perf_counter()
import json, sys
import fastscnn
from fastscnn.media import images
from pathlib import Path
image, more, weights, backend, precision, size, threads, call = json.loads(sys.argv[1])
segmenter = fastscnn.Segmenter.load(weights, backend, tuple(size), threads, precision=precision)
getattr(segmenter, call)(images.stack(images.read(image), image, more))
seconds = time.perf_counter() - start
status = Path("/proc/self/status")
if status.is_file():  # Linux passes the peak of the process that started this one on to getrusage
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(json.dumps([seconds, peak]))
"""


@dataclass(frozen=True)
class Protocol:
    """How frames are timed.

    Attributes:
        what: in words.
        files: from a JPEG file to a PNG file; otherwise from a frame in memory to its labels in memory.
        warmup, runs: frames before those that count, and those.
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

OUTPUTS: Mapping[str, str] = {"cls": "segment", "prob": "probabilities"}  # the paper's names -> what Segmenter calls them


@dataclass(frozen=True)
class Stage:
    """Milliseconds of one stage of a frame: mean, median, 95th and 99th percentile."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Roofline:
    """The network beside what the machine could do at most.

    Attributes:
        operations: of the network for one frame, a multiplication and an addition being two.
        bytes: that its convolutions read and write, each value once, in the engine's precision.
        peak: operations a second of a large matrix product, on the same engine, precision and threads.
        bandwidth: bytes a second that copying a large array reads and writes, where the network works.
        limit_ms: the longer of the times that the operations and the bytes need at those rates.
        share: percent of the limit that the network reaches, at its median.
    """

    operations: int
    bytes: int
    peak: float
    bandwidth: float
    limit_ms: float
    share: float


@dataclass(frozen=True)
class BenchmarkReport:
    """What a frame costs.

    Attributes:
        protocol: a name in `PROTOCOLS`.
        output: "cls", the label of every pixel, or "prob", the probability of every class there.
        stages: decode and write where files are read and written, resize, network, labels or probabilities, and frame
            (their sum frame by frame), in milliseconds.
        size: (height, width) of the image and of the network's input.
        channels: of the image; what stands behind RGB is the scene's grey, where files are timed a PNG beside the JPEG.
        runs, warmup: frames measured, and frames before them that were not.
        streams, stream_fps: frames a second where so many are worked on at a time; 1 and None where files are not timed.
        roofline: the network beside the machine's limit.
        backend, precision, threads: of the engine.
        peak_memory_mib: of a fresh process that labels one such frame.
        cold_start_s: of that process, from its first import to its labels.
        weights_bytes: size of the weight file.
        labels_by: "compiled kernel", or "NumPy" where the installation lacks it.
        machine, processors, python, version: what it ran on.
    """

    protocol: str
    output: str
    stages: dict[str, Stage]
    size: tuple[int, int]
    channels: int
    runs: int
    warmup: int
    streams: int
    stream_fps: float | None
    roofline: Roofline
    backend: str
    precision: str
    threads: int
    peak_memory_mib: float
    cold_start_s: float
    weights_bytes: int
    labels_by: str
    machine: str
    processors: int
    python: str
    version: str

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps(asdict(self), indent=1)


def benchmark(
    segmenter: Segmenter,
    size: tuple[int, int],
    protocol: str = "files",
    runs: int | None = None,
    warmup: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    output: str = "cls",
) -> BenchmarkReport:
    """Times whole frames of a drawn street scene, with the call that `segment` and `evaluate` make.

    Args:
        segmenter: what is measured, loaded from a file; its network runs at the size of the frame.
        size: (height, width) of the frame.
        protocol: a name in `PROTOCOLS`.
        runs: frames measured, at least 1; None: the protocol's.
        warmup: frames before them; None: the protocol's.
        progress: called with (done, all) after each frame.
        output: a name in `OUTPUTS`; "prob" for frames in memory alone.

    Raises:
        FastSCNNError: what is wrong with these, before anything is timed.
    """
    for kind, name, known in (("protocol", protocol, PROTOCOLS), ("output", output, OUTPUTS)):
        if name not in known:
            raise unknown(kind, name, known)
    chosen = PROTOCOLS[protocol]
    if chosen.files and output == "prob":
        raise FastSCNNError("output: prob is of frames in memory, and the protocol files writes labels; "
                            "take the protocol paper or mmseg.")
    runs, warmup = chosen.runs if runs is None else runs, chosen.warmup if warmup is None else warmup
    if runs < 1 or warmup < 0:
        raise FastSCNNError(f"runs: must be at least 1 and warmup at least 0, not {runs} and {warmup}.")
    if size[0] * size[1] > images.MAX_PIXELS:
        raise FastSCNNError(f"size: {size[0]}x{size[1]} is over the limit of {images.MAX_PIXELS // 1_000_000} megapixels.")
    if segmenter.path is None:
        raise FastSCNNError("Only weights from a file can be benchmarked: the cold start reads it.")
    backend, path = segmenter.backend, segmenter.path
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
        cold, peak_memory = _cold_start(segmenter, frame, OUTPUTS[output])
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
        threads=backend.threads,
        peak_memory_mib=peak_memory,
        cold_start_s=cold,
        weights_bytes=path.stat().st_size,
        labels_by="NumPy" if native.KERNEL is None else "compiled kernel",
        machine=machine.processor(),
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        version=__version__,
    )


def _write(folder: Path, image: UInt8Array) -> Job:
    """The image as a JPEG, and what stands behind RGB, all the same grey, as a PNG."""
    frame = Job(folder / "frame.jpg", folder / "frame", (folder / "grey.png",) * (image.shape[2] - 3))
    images.write(frame.image, image[:, :, :3])
    for path in frame.more:
        images.write(path, image[:, :, 3])
    return frame


def _frame(segmenter: Segmenter, image: UInt8Array, output: str) -> dict[str, float]:
    """Seconds of each stage of one frame in memory."""
    seconds: dict[str, float] = {}
    start = perf_counter()
    if output == "prob":
        segmenter.probabilities(image, seconds)
    else:
        seconds = segmenter.segment(image).seconds
    return {**seconds, "frame": perf_counter() - start}


def _file(segmenter: Segmenter, source: Job, target: Path) -> dict[str, float]:
    """Seconds of each stage of one frame from file to file."""
    start = perf_counter()
    image = images.stack(images.read(source.image), source.image, source.more)
    decoded = perf_counter()
    segmentation = segmenter.segment(image)
    labelled = perf_counter()
    segmentation.save_labels(target)
    written = perf_counter()
    return {"decode": decoded - start, **segmentation.seconds, "write": written - labelled, "frame": written - start}


def _stream(segmenter: Segmenter, frame: Job, folder: Path, runs: int) -> tuple[int, float]:
    """How many frames are worked on at a time, and frames a second from file to file then."""
    backend, size = segmenter.backend, segmenter.size
    wanted = min(MAX_STREAMS, backend.threads)
    many = Segmenter.load(segmenter.path, backend.name, size, backend.threads, precision=backend.precision, streams=wanted)
    streams = many.backend.streams  # not every engine has several
    runs = max(runs, 10 * streams)
    for _ in ordered(lambda index: _file(many, frame, folder / f"{index}.png"), range(2 * streams), streams):
        pass  # not timed: the engine makes its buffers
    start = perf_counter()
    for _ in ordered(lambda index: _file(many, frame, folder / f"{index % (2 * streams)}.png"), range(runs), streams):
        pass
    return streams, runs / (perf_counter() - start)


def _stage(milliseconds: list[float]) -> Stage:
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, (50, 95, 99)))
    return Stage(float(np.mean(milliseconds)), p50, p95, p99)


def _roofline(segmenter: Segmenter, size: tuple[int, int], milliseconds: float) -> Roofline:
    backend = segmenter.backend
    needed = cost(backend.card, size, backend.precision)
    peak, bandwidth = backend.matmul_peak(), backend.bandwidth()
    limit = 1e3 * max(2 * needed.macs / peak, needed.bytes / bandwidth)
    return Roofline(2 * needed.macs, needed.bytes, peak, bandwidth, limit, 100 * limit / milliseconds)


def _cold_start(segmenter: Segmenter, frame: Job, call: str) -> tuple[float, float]:
    """Seconds to the first output of a fresh process, and its peak memory in MiB."""
    backend = segmenter.backend
    arguments = json.dumps([
        str(frame.image), [str(path) for path in frame.more], str(segmenter.path), backend.name, backend.precision,
        segmenter.size, backend.threads, call,
    ])
    result = subprocess.run([sys.executable, "-c", _COLD, arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise FastSCNNError(f"The cold start failed: {reason}")
    seconds, peak = json.loads(result.stdout)
    return seconds, peak
