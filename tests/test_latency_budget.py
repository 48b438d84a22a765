"""The latency budget: what is measured, what is cached, and which size is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn import Segmenter
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.benchmark import latency_budget
from fastscnn.benchmark.latency_budget import LatencyBudget, LatencyChoice, measure_latency
from fastscnn.inference.size import BaseSize, in_shape
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.upsampling import native

CHOICES = tuple(LatencyChoice(BaseSize(*size), milliseconds, (720, 960))
                for size, milliseconds in (((360, 480), 20.0), ((264, 352), 12.0), ((168, 224), 6.0)))
BUDGET = LatencyBudget(CHOICES, "2026-01-02", Path("remembered.json"))
SIZES = [(64, 96), (32, 64)]  # of `tiny`: 3/4 becomes the card's size again, a quarter is too small for the network


@pytest.mark.parametrize(("milliseconds", "size"), [(100, 360), (20, 360), (19.9, 264), (12, 264), (6, 168)])
def test_the_largest_that_fits(milliseconds: float, size: int) -> None:
    assert BUDGET.largest(milliseconds).size[0] == size


@pytest.mark.parametrize("milliseconds", [5.9, 0, -1, float("nan")])
def test_none_fits(milliseconds: float) -> None:
    message = r"the fastest, 168x224, takes 6\.0 ms .*\(measured on 2026-01-02; delete remembered\.json to measure again\)"
    with pytest.raises(FastSCNNError, match=message):
        BUDGET.largest(milliseconds)


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_budget, "RUNS", 4)


def test_sizes_and_progress(tiny: Segmenter) -> None:
    calls: list[tuple[int, int]] = []
    measured = measure_latency(tiny, [(96, 128)], progress=lambda done, total: calls.append((done, total)))
    assert [choice.size for choice in measured.choices] == SIZES
    assert all(0 < choice.milliseconds < 1000 for choice in measured.choices)
    assert calls == [(done, 28) for done in range(1, 29)]
    assert measured.file is None
    assert measured.source() == ""


def test_slow_sizes_take_fewer_runs(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_budget, "SECONDS", 0.0)
    calls: list[tuple[int, int]] = []
    measure_latency(tiny, [(96, 128)], progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == 10


@pytest.mark.parametrize("frame", [(40, 50), (3000, 70), pytest.param((2500, 3000), marks=pytest.mark.slow)])
def test_frames_that_are_no_size_to_draw(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch, frame: tuple[int, int]) -> None:
    """Frames smaller than a scene can be, and frames that would take minutes to draw."""
    seen = []
    segment = Segmenter.segment

    def note(self: Segmenter, image: Any, confidence: bool = False, unknown: bool = False) -> Any:
        seen.append(image.shape)
        return segment(self, image, confidence, unknown)

    monkeypatch.setattr(Segmenter, "segment", note)
    monkeypatch.setattr(latency_budget, "SECONDS", 0.0)
    measure_latency(tiny, [frame])
    assert set(seen) == {(*frame, 3)}


@pytest.mark.slow
def test_measured_once(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1)
    first = measure_latency(segmenter, [(96, 128)], tmp_path)

    def fail(*_: Any) -> None:
        pytest.fail("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", fail)
        assert measure_latency(segmenter, [(96, 128)], tmp_path) == first
    assert [first.file] == list(tmp_path.iterdir())
    measure_latency(segmenter, [(96, 160)], tmp_path)  # other frames
    measure_latency(Segmenter.load(tiny_onnx, "onnx", threads=2), [(96, 128)], tmp_path)  # other threads
    for name, other in {
        "fastscnn.base.machine.processor": lambda: "another",
        "fastscnn.backends.onnx.OnnxBackend.hardware": lambda _: "another",
        "fastscnn.benchmark.latency_budget.in_shape": lambda size, _: (size[0] + 32, size[1]),
        "fastscnn.model.card.FRACTIONS": (1.0, 0.9, 0.5),
        "fastscnn.model.card.congruent": lambda side, _: 8 * round(side / 8),
        "fastscnn.benchmark.latency_budget.version": lambda _: "9.9",
        "fastscnn.upsampling.native.KERNEL": None if native.KERNEL else True,
    }.items():
        before = set(tmp_path.iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(name, other)
            measure_latency(segmenter, [(96, 128)], tmp_path)
        same_sizes = name.endswith("FRACTIONS")  # 0.9 becomes the card's size too
        assert (set(tmp_path.iterdir()) == before) == same_sizes, name
    assert measure_latency(segmenter, [(96, 128)], tmp_path) == first


CARD = Card(LabelSet(("a", "b")), (64, 96))


@dataclass
class Instant:
    """A backend that computes nothing."""

    name: str = "instant"
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    streams: int = 1
    processor: str = "a"
    notes: tuple[str, ...] = ()
    card: Card = CARD

    def __call__(self, images: UInt8Array) -> Float32Array:
        return np.zeros((1, 2, images.shape[1] // 8, images.shape[2] // 8), np.float32)

    def hardware(self) -> str:
        return self.processor

    def matmul_peak(self) -> float:
        return 1.0

    bandwidth = matmul_peak


def cached(folder: Path, weights: bytes = b"a", **facts: Any) -> Path | None:
    """Measure the latency of a backend with these facts, and return the cache file."""
    (folder / "weights.onnx").write_bytes(weights)
    return measure_latency(Segmenter(Instant(**facts), path=folder / "weights.onnx"), [(64, 96)], folder / "cache").file


@pytest.mark.parametrize("other", [
    {"name": "other"}, {"precision": "int8"}, {"device": "cuda"}, {"threads": 2}, {"streams": 2}, {"processor": "b"},
    {"weights": b"b"},
], ids=str)  # fmt: skip
def test_another_backend_or_file_is_measured_again(tmp_path: Path, other: Mapping[str, Any]) -> None:
    assert cached(tmp_path) == cached(tmp_path) != cached(tmp_path, **other)


@pytest.mark.parametrize(("name", "value"), [("threads", 99), ("processor", "another")])
def test_another_machine_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    before = cached(tmp_path)
    monkeypatch.setattr(machine, name, lambda: value)
    assert cached(tmp_path) != before


def test_another_version_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cached(tmp_path)
    monkeypatch.setattr(latency_budget, "__version__", "0.0.1")
    assert cached(tmp_path) != before


@pytest.mark.parametrize("frame", [(96, 144), (96, 96), (60, 240), (240, 60)])
def test_the_network_gets_the_shape_of_the_frame(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch, frame: tuple[int, int]
) -> None:
    seen: list[tuple[int, ...]] = []
    call = type(tiny.backend).__call__

    def note(self: Any, images: UInt8Array) -> Any:
        seen.append(images.shape[1:3])
        return call(self, images)

    monkeypatch.setattr(type(tiny.backend), "__call__", note)
    monkeypatch.setattr(latency_budget, "SECONDS", 0.0)
    measured = measure_latency(tiny, [frame])
    assert list(dict.fromkeys(seen)) == [in_shape(choice.size, frame) for choice in measured.choices]


def test_a_cache_that_cannot_be_written(tiny: Segmenter) -> None:
    measured = measure_latency(tiny, [(96, 128)], Path("/proc/nowhere"))
    assert [choice.size for choice in measured.choices] == SIZES
    assert measured.file is None


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "null", '{"day": "x", "choices": []}', '{"day": "x", "choices": [{"size": [1]}]}']
)
def test_a_broken_cache_file_is_replaced(tiny: Segmenter, tmp_path: Path, text: str) -> None:
    measure_latency(tiny, [(96, 128)], tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert [choice.size for choice in measure_latency(tiny, [(96, 128)], tmp_path).choices] == SIZES


def test_weights_not_from_a_file(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="needs weights loaded from a file"):
        measure_latency(Segmenter(tiny.backend), [(96, 128)])


def test_the_slowest_of_several_frames_counts(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest frame, and a smaller one with a larger input, are measured; others are not."""
    frames = [(96, 144), (64, 300), (90, 135)]
    inputs = [in_shape(BaseSize(*SIZES[0]), frame) for frame in frames]
    assert inputs == [(64, 96), (32, 160), (64, 96)]
    assert latency_budget._slowest(BaseSize(64, 96), frames) == [(64, 300), (96, 144)]
    seconds = {(96, 144): 5.0, (64, 300): 1.0}
    clock = [0.0]

    def segment(self: Segmenter, image: UInt8Array) -> None:
        clock[0] += seconds[image.shape[0], image.shape[1]]

    monkeypatch.setattr(Segmenter, "segment", segment)
    monkeypatch.setattr(latency_budget, "perf_counter", lambda: clock[0])
    for slow, fast in (((96, 144), (64, 300)), ((64, 300), (96, 144))):
        seconds[slow], seconds[fast] = 5.0, 1.0
        choice = measure_latency(tiny, frames).choices[0]
        assert (choice.milliseconds, choice.frame) == (5000, slow)
