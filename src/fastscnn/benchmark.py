"""benchmark: what a frame costs from file to file, stage by stage, on this machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from fastscnn import images, scene
from fastscnn.errors import FastSCNNError
from fastscnn.segmenter import Segmenter
from fastscnn.version import __version__

# What a fresh process does from its first import to its first labels; prints seconds and its peak memory in MiB.
_COLD = """
import time; start = time.perf_counter()
import json, resource, sys
import fastscnn, fastscnn.images
from pathlib import Path
image, weights, runtime, size, threads = json.loads(sys.argv[1])
segmenter = fastscnn.Segmenter.load(weights, runtime, tuple(size) if isinstance(size, list) else size, threads)
segmenter.segment(fastscnn.images.read(Path(image)))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)]))
"""


@dataclass(frozen=True)
class Stage:
    """Milliseconds of one stage of a frame: median and 95th percentile."""

    p50: float
    p95: float


@dataclass(frozen=True)
class BenchmarkReport:
    """What a frame costs.

    Attributes:
        stages: decode, resize, network, labels, write, and frame (their sum frame by frame), in milliseconds.
        size: (height, width) of the image and of the network's input.
        runs, warmup: frames measured, and frames before them that were not.
        runtime, precision, threads: of the engine.
        peak_memory_mib: of a fresh process that labels one such frame.
        cold_start_s: of that process, from its first import to its labels.
        weights_bytes: size of the weight file.
        machine, processors, python, version: what it ran on.
    """

    stages: dict[str, Stage]
    size: tuple[int, int]
    runs: int
    warmup: int
    runtime: str
    precision: str
    threads: int
    peak_memory_mib: float
    cold_start_s: float
    weights_bytes: int
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
    runs: int = 50,
    warmup: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkReport:
    """Times whole frames: JPEG file -> image -> labels -> PNG file, of a drawn street scene.

    Args:
        segmenter: what is measured, loaded from a file.
        size: (height, width) of the frame; the network runs at the segmenter's own size.
        runs: frames measured, at least 1.
        warmup: frames before them.
        progress: called with (done, all) after each frame.
    """
    if runs < 1 or warmup < 0:
        raise FastSCNNError(f"runs: must be at least 1 and warmup at least 0, not {runs} and {warmup}.")
    if size[0] * size[1] > images.MAX_PIXELS:
        raise FastSCNNError(f"size: {size[0]}x{size[1]} is over the limit of {images.MAX_PIXELS // 1_000_000} megapixels.")
    if segmenter.path is None:
        raise FastSCNNError("Only weights from a file can be benchmarked: the cold start reads it.")
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.jpg"
        images.write(frame, scene.draw(*size).image)
        times: list[dict[str, float]] = []
        for done in range(warmup + runs):
            times.append(_frame(segmenter, frame, Path(folder) / "labels.png"))
            if progress:
                progress(done + 1, warmup + runs)
        cold, peak = _cold_start(segmenter, frame)
    return BenchmarkReport(
        stages={stage: _stage([1e3 * frame_[stage] for frame_ in times[warmup:]]) for stage in times[0]},
        size=size,
        runs=runs,
        warmup=warmup,
        runtime=segmenter.runtime.name,
        precision=segmenter.runtime.precision,
        threads=segmenter.runtime.threads,
        peak_memory_mib=peak,
        cold_start_s=cold,
        weights_bytes=segmenter.path.stat().st_size,
        machine=_processor(),
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        version=__version__,
    )


def _frame(segmenter: Segmenter, source: Path, target: Path) -> dict[str, float]:
    """Seconds of each stage of one frame."""
    start = perf_counter()
    image = images.read(source)
    decoded = perf_counter()
    segmentation = segmenter.segment(image)
    labelled = perf_counter()
    segmentation.save_labels(target)
    written = perf_counter()
    return {"decode": decoded - start, **segmentation.seconds, "write": written - labelled, "frame": written - start}


def _stage(milliseconds: list[float]) -> Stage:
    return Stage(float(np.percentile(milliseconds, 50)), float(np.percentile(milliseconds, 95)))


def _cold_start(segmenter: Segmenter, frame: Path) -> tuple[float, float]:
    """Seconds to the first labels of a fresh process, and its peak memory in MiB."""
    runtime = segmenter.runtime
    arguments = json.dumps([str(frame), str(segmenter.path), runtime.name, segmenter.size, runtime.threads])
    result = subprocess.run([sys.executable, "-c", _COLD, arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise FastSCNNError(f"The cold start failed: {reason}")
    seconds, peak = json.loads(result.stdout)
    return seconds, peak


def _processor() -> str:
    """Name of the processor, and of the system."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {platform.system()}"
    return f"{platform.processor() or platform.machine()}, {platform.system()}"
