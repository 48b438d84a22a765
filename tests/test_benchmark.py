"""benchmark: the contents of the report; no claims about speed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastscnn import Segmenter
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.benchmark.benchmark import benchmark
from fastscnn.upsampling import native
from fastscnn.version import __version__


@pytest.mark.usefixtures("one_round")
def test_report(tiny: Segmenter, tiny_onnx: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = benchmark(tiny, (96, 128), runs=5, warmup=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(1, 8)]
    facts = json.loads(report.to_json())
    stages = facts.pop("stages")
    assert list(stages) == ["decode", "resize", "network", "labels", "write", "frame"]
    assert all(0 < stage["p50"] <= stage["p95"] <= stage["p99"] for stage in stages.values())
    roofline = facts.pop("roofline")
    assert roofline["limit_ms"] == pytest.approx(
        1e3 * max(roofline["operations"] / roofline["matmul_peak"], roofline["bytes"] / roofline["bandwidth"])
    )
    assert roofline["share"] == pytest.approx(100 * roofline["limit_ms"] / stages["network"]["p50"])
    assert facts.pop("stream_fps") > 0
    parts = {name: stage for name, stage in stages.items() if name != "frame"}
    assert sum(part["p50"] for part in parts.values()) < 1.5 * stages["frame"]["p50"]
    assert sum(part["p95"] for part in parts.values()) > 0.5 * stages["frame"]["p50"]
    assert 20 < facts.pop("peak_memory_mib") < 2000
    assert 0.01 < facts.pop("cold_start_s") < 60
    assert facts.pop("machine")
    assert facts.pop("processors") >= 1
    assert facts.pop("python").startswith("3.")
    assert facts == {
        "protocol": "files",
        "output": "cls",
        "size": [96, 128],
        "channels": 3,
        "streams": 1,
        "runs": 5,
        "warmup": 2,
        "backend": "onnx",
        "precision": "float32",
        "device": "cpu",
        "verified": True,
        "threads": 1,
        "labels_by": "NumPy" if native.KERNEL is None else "compiled kernel",
        "weights_bytes": tiny_onnx.stat().st_size,
        "version": __version__,
    }


@pytest.fixture
def frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds beside the frames: the cold start, and the limit of the machine."""
    monkeypatch.setattr("fastscnn.benchmark.benchmark.cold_start", lambda *_: (1.0, 50.0))
    monkeypatch.setattr(OnnxBackend, "matmul_peak", lambda _: 1e11)
    monkeypatch.setattr(OnnxBackend, "bandwidth", lambda _: 1e10)


@pytest.mark.usefixtures("frames_only")
def test_stages_of_every_frame_sum_to_the_frame(tiny: Segmenter) -> None:
    stages = benchmark(tiny, (96, 128), runs=1, warmup=0).stages  # of one run, p50 is the run itself
    parts = sum(stage.p50 for name, stage in stages.items() if name != "frame")
    assert 0.5 * stages["frame"].p50 < parts <= stages["frame"].p50 + 1e-6


@pytest.mark.usefixtures("frames_only")
@pytest.mark.parametrize(("protocol", "frames"), [("paper", 200), ("mmseg", 200)])
def test_protocols_in_memory(tiny: Segmenter, protocol: str, frames: int) -> None:
    calls: list[tuple[int, int]] = []
    report = benchmark(tiny, (96, 128), protocol, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (frames, frames)
    assert list(report.stages) == ["resize", "network", "labels", "frame"]
    assert report.runs + report.warmup == frames
    assert report.stream_fps is None


@pytest.mark.usefixtures("one_round")
def test_probabilities(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Segmenter, "segment", None)  # must not be called
    monkeypatch.setattr("fastscnn.benchmark.benchmark.cold_start", lambda *_: (1.0, 50.0))  # another process
    report = benchmark(tiny, (96, 128), "paper", runs=3, warmup=1, output="prob")
    assert report.output == "prob"
    assert list(report.stages) == ["resize", "network", "probabilities", "frame"]
    parts = sum(stage.mean for name, stage in report.stages.items() if name != "frame")
    assert 0 < parts <= report.stages["frame"].mean + 1e-6


def test_the_cold_start_makes_what_is_timed(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", command[-1])

    monkeypatch.setattr("fastscnn.benchmark.cold_start.subprocess.run", run)
    for output, call in (("cls", "segment"), ("prob", "probabilities")):
        with pytest.raises(FastSCNNError, match=f'The cold start failed: .*"{call}"\\]'):
            benchmark(tiny, (96, 128), "paper", runs=1, warmup=0, output=output)


@pytest.mark.parametrize(
    ("protocol", "output", "message"),
    [
        ("files", "prob", "prob needs frames in memory, .*; choose the protocol paper or mmseg"),
        ("paper", "prop", r"There is no output 'prop'\. Did you mean 'prob'"),
    ],
)
def test_outputs_that_cannot_be_timed(tiny: Segmenter, protocol: str, output: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        benchmark(tiny, (96, 128), protocol, output=output)


@pytest.mark.usefixtures("frames_only")
def test_the_network_runs_at_the_size_of_the_frame(tiny: Segmenter) -> None:
    small, large = (benchmark(tiny, (side, side), runs=1, warmup=0).roofline for side in (64, 128))
    assert small is not None
    assert large is not None
    assert large.operations > 3 * small.operations


def test_an_unknown_protocol(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match=r"There is no protocol 'papre'\. Did you mean 'paper'"):
        benchmark(tiny, (96, 128), "papre")


@pytest.mark.parametrize(("runs", "warmup", "message"), [
    (0, 1, "runs: must be at least 1, not 0"), (1, -1, "warmup: must be at least 0, not -1"),
    (1.5, 0, "runs: must be a whole number"),
])
def test_wrong_counts(tiny: Segmenter, runs: int, warmup: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        benchmark(tiny, (96, 128), "files", runs, warmup)


def test_weights_not_from_a_file(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="Only weights from a file"):
        benchmark(Segmenter(tiny.backend), (96, 128))


@pytest.mark.parametrize(("stderr", "message"), [("", "exit code -9"), ("Traceback\nMemoryError\n", "MemoryError")])
def test_a_cold_start_that_fails(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str) -> None:
    def run(*arguments: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, -9, "", stderr)

    monkeypatch.setattr("fastscnn.benchmark.cold_start.subprocess.run", run)
    with pytest.raises(FastSCNNError, match=f"The cold start failed: {message}"):
        benchmark(tiny, (96, 128), runs=1, warmup=0)
