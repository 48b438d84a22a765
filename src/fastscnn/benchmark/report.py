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
        operations: operations of the network for one frame; one MAC is two operations.
        bytes: bytes that its convolutions read and write, each value once, in the backend's precision.
        matmul_peak: operations per second of a large matrix product, with the same backend, precision and threads.
        bandwidth: bytes per second read and written while copying a large array, on the device of the network.
        limit_ms: time for the operations or for the bytes at those rates, whichever is longer, in milliseconds.
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
        stages: stage name -> milliseconds: resize, network, labels or probabilities, and frame (their sum, per frame);
            also decode and write if files are timed.
        size: (height, width) of the image and of the network's input.
        channels: channels of the image. Those after RGB hold the scene in grey; for files, a PNG beside the JPEG.
        runs: frames measured.
        warmup: frames before them, not measured.
        streams: frames processed at the same time for `stream_fps`; 1 if files are not timed.
        stream_fps: frames per second with `streams` frames in parallel; None if files are not timed.
        roofline: the network against the limit of the machine; None if the backend cannot measure the limit of its device.
        backend: name of the backend.
        precision: precision of the backend.
        device: device of the backend.
        verified: the weights equal those that the card was written for (`Segmenter.verified`).
        threads: CPU threads of the backend.
        peak_memory_mib: peak memory of a new process that processes one such frame, in MiB.
        cold_start_s: seconds of that process from its first import to its output.
        weights_bytes: size of the weight file.
        labels_by: "compiled kernel", or "NumPy" if the installation lacks the kernel.
        machine: name of the processor or GPU that runs the network.
        processors: number of logical processors.
        python: version of Python.
        version: version of fastscnn.
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
    roofline: Roofline | None
    backend: str
    precision: str
    device: str
    verified: bool
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
