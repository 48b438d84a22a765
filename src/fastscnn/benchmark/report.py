"""The result of `benchmark`: times of every stage, memory, cold start, and the machine's limit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Stage:
    """Milliseconds of one stage of a frame: mean, median, 95th and 99th percentile."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Roofline:
    """The network against the limit of the machine (roofline model).

    Attributes:
        operations: Operations of the network for one frame; one MAC is two operations.
        bytes: Bytes that its convolutions read and write, each value once, in the backend's precision.
        matmul_peak: Operations per second of a large matrix product, with the same backend, precision and threads.
        bandwidth: Bytes per second read and written while copying a large array, on the device of the network.
        limit_ms: Time for the operations or for the bytes at those rates, whichever is longer, in milliseconds.
        share: `limit_ms` in percent of the network's median time.
    """

    operations: int
    bytes: int
    matmul_peak: float
    bandwidth: float
    limit_ms: float
    share: float


@dataclass(frozen=True)
class BenchmarkReport:
    """The cost of a frame.

    Attributes:
        protocol: A name in `PROTOCOLS`.
        output: "cls", the label of every pixel, or "prob", the probability of every class at every pixel.
        stages: Stage name -> milliseconds: resize, network, labels or probabilities, and frame (their sum, per frame);
            also decode and write if files are timed.
        size: (height, width) of the image and of the network's input.
        channels: Channels of the image. Those after RGB hold the scene in grey; for files, a PNG beside the JPEG.
        runs: Frames measured.
        warmup: Frames before them, not measured.
        streams: Frames processed at the same time for `stream_fps`; 1 if files are not timed.
        stream_fps: Frames per second with `streams` frames in parallel; None if files are not timed.
        roofline: The network against the limit of the machine.
        backend: Name of the backend.
        precision: Precision of the backend.
        threads: CPU threads of the backend.
        peak_memory_mib: Peak memory of a new process that processes one such frame, in MiB.
        cold_start_s: Seconds of that process from its first import to its output.
        weights_bytes: Size of the weight file.
        labels_by: "compiled kernel", or "NumPy" if the installation lacks the kernel.
        machine: Name of the processor.
        processors: Number of logical processors.
        python: Version of Python.
        version: Version of fastscnn.
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
        """Return the report as one JSON object."""
        return json.dumps(asdict(self), indent=1)
