"""budget: what is measured, what is remembered, and what fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastscnn import Segmenter, budget
from fastscnn.budget import Choice, choices, largest
from fastscnn.errors import FastSCNNError

MEASURED = [Choice((360, 480), 20.0), Choice((270, 360), 12.0), Choice((180, 240), 6.0)]


@pytest.mark.parametrize(("milliseconds", "size"), [(100, 360), (20, 360), (19.9, 270), (12, 270), (6, 180)])
def test_the_largest_that_fits(milliseconds: float, size: int) -> None:
    assert largest(MEASURED, milliseconds).size[0] == size


@pytest.mark.parametrize("milliseconds", [5.9, 0, -1, float("nan")])
def test_none_fits(milliseconds: float) -> None:
    with pytest.raises(FastSCNNError, match=r"the fastest, 180x240, takes 6\.0 ms"):
        largest(MEASURED, milliseconds)


def test_sizes_and_progress(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_RUNS", 4)
    calls: list[tuple[int, int]] = []
    measured = choices(tiny, (96, 128), progress=lambda done, total: calls.append((done, total)))
    assert [choice.size for choice in measured] == [(64, 96), (48, 72), (32, 48)]  # a quarter is too small for the network
    assert all(0 < choice.milliseconds < 1000 for choice in measured)
    assert calls == [(done, 42) for done in range(1, 43)]


def test_measured_once(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_RUNS", 4)
    segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1)
    first = choices(segmenter, (96, 128), tmp_path)

    def fail(*_: Any) -> None:
        pytest.fail("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", fail)
        assert choices(segmenter, (96, 128), tmp_path) == first
    assert len(list(tmp_path.iterdir())) == 1
    choices(segmenter, (96, 160), tmp_path)  # other frames
    choices(Segmenter.load(tiny_onnx, "onnx", threads=2), (96, 128), tmp_path)  # other threads
    monkeypatch.setattr("fastscnn.machine.processor", lambda: "another")
    choices(segmenter, (96, 128), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("text", ["", "[", "{}", "[[1, 2]]", "null", "[[1, 2, 3], 4]"])
def test_a_broken_memory_is_measured_anew(tiny: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(budget, "_RUNS", 4)
    choices(tiny, (96, 128), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert [choice.size for choice in choices(tiny, (96, 128), tmp_path)] == [(64, 96), (48, 72), (32, 48)]


def test_weights_that_are_in_no_file(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="Only weights from a file"):
        choices(Segmenter(tiny.runtime), (96, 128))
