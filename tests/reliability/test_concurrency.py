"""Several threads on one Segmenter, and several processes in one folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from promises import Some

from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images

Record = Callable[[str, object], None]
PROCESSES, THREADS = 4, 8


def shifted(count: int) -> list[UInt8Array]:
    """Different images of one street: drawing a street takes half a second."""
    scene = synthetic.draw(96, 128).image
    return [np.ascontiguousarray(np.roll(scene, 5 * number, axis=1)[: 64 + 8 * (number % 3), :96]) for number in range(count)]


@pytest.mark.reliability("threads")
def test_threads_share_a_segmenter(some: Some, record_property: Record) -> None:
    scenes = shifted(16)
    with Segmenter.load(backend="onnx", precision="int8", threads=1, size="64x96") as segmenter:
        expected = [segmenter.segment(scene).labels for scene in scenes]
        assert len({labels.tobytes() for labels in expected}) > 10
        cases = some(range(2000))
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda number: segmenter.segment(scenes[number % 16]).labels, cases)
            assert all(np.array_equal(labels, expected[number % 16]) for number, labels in zip(cases, found, strict=True))
    record_property("cases", len(cases))


@pytest.mark.slow
@pytest.mark.reliability("processes")
def test_processes_write_into_one_folder(
    tmp_path: Path, tiny_onnx: Path, some: Some, record_property: Record
) -> None:
    scenes = shifted(len(some(range(100))))
    for number, scene in enumerate(scenes):
        images.write(tmp_path / f"drive/{number}.png", scene)

    def started(out: str) -> subprocess.Popen[str]:
        words = ["segment", "drive", "--out", out, "--weights", str(tiny_onnx), "--threads", "1", "-q"]
        return subprocess.Popen([sys.executable, "-m", "fastscnn", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    for out, count in (("alone", 1), ("shared", PROCESSES)):
        for process in [started(out) for _ in range(count)]:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
    alone, shared = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("alone", "shared"))
    assert len(alone) == 2 * len(scenes)
    assert shared == alone
    record_property("cases", len(scenes) * PROCESSES)
