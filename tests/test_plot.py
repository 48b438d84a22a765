"""plot: one file of each format, from reports of several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.benchmark.benchmark import benchmark
from fastscnn.benchmark.report import BenchmarkReport

pytest.importorskip("matplotlib")
from fastscnn.benchmark.plot import growth


@pytest.fixture(scope="module")
def reports(tiny: Segmenter) -> list[BenchmarkReport]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastscnn.benchmark.benchmark.cold_start", lambda *_: (1.0, 50.0))  # another process
        patch.setattr("fastscnn.base.machine.bandwidth", lambda *_: 1e10)  # the rates of the machine take seconds
        patch.setattr("fastscnn.backends.onnx.OnnxBackend.matmul_peak", lambda _: 1e11)
        return [benchmark(tiny, (side, 2 * side), runs=2, warmup=1) for side in (128, 64)]


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_growth(reports: list[BenchmarkReport], tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"growth{suffix}"
    growth(path, reports)
    assert path.read_bytes().startswith(start)


def test_other_suffixes(reports: list[BenchmarkReport], tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"unknown plot format; use the suffix \.svg, \.png, \.pdf"):
        growth(tmp_path / "growth.txt", reports)
