"""The mmseg comparison: the protocol of the worker process, and its failures."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.benchmark import mmseg

ANSWERS = """
import json, os, sys
assert sys.argv[2:6] == ["64", "96", "3", "1"], sys.argv
fast = sys.argv[6] == "tuned", "MALLOC_MMAP_MAX_" in os.environ
print(json.dumps("9.9"), flush=True)
for line in sys.stdin:
    print(json.dumps([1000.0 - 100 * fast[0] - 10 * fast[1]] * int(line)), flush=True)
"""


def interpreter(folder: Path, script: str) -> Path:
    """Make an environment whose Python always runs this script."""
    (folder / "bin").mkdir(parents=True)
    (folder / "fake.py").write_text(script)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return folder


def test_the_worker_imports_mmsegmentation_and_not_our_module(tmp_path: Path) -> None:
    (tmp_path / "mmseg.py").write_text("raise SystemExit('the installed mmseg')")
    command = [sys.executable, mmseg.__file__.replace("mmseg.py", "mmseg_worker.py"), "64", "96", "3", "1", "default"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "the installed mmseg"


def test_turns_and_ratios(tiny: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmseg, "PAUSE", 0.0)
    calls: list[tuple[int, int]] = []
    environment = interpreter(tmp_path / "e", ANSWERS)
    found = mmseg.compare_with_mmseg([tiny], (64, 96), environment, 2, lambda *call: calls.append(call))
    assert found.mmseg_version == "9.9"
    assert found.mmseg_ms == {
        "default": 1000, "kept memory": 990, "channels_last, bfloat16": 900, "channels_last, bfloat16, kept memory": 890,
    }
    (name,) = found.fastscnn_ms
    assert 0 < found.fastscnn_ms[name] < 1000
    assert found.ratios(name) == (1000 / found.fastscnn_ms[name], 890 / found.fastscnn_ms[name])
    assert calls == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import mmsegmentation_is_not_here", "No module named 'mmsegmentation_is_not_here'"),
        ("", "exit code 0, no error output"),
        (ANSWERS.replace("for line", "os._exit(9)\nfor line"), "exit code 9, no error output"),
    ],
)
def test_a_worker_that_cannot_run(tiny: Segmenter, tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(FastSCNNError, match=f"mmsegmentation does not run in that environment: .*{reason}"):
        mmseg.compare_with_mmseg([tiny], (64, 96), interpreter(tmp_path / "e", script))


def test_no_environment(tiny: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="contains no Python interpreter; give the virtual environment"):
        mmseg.compare_with_mmseg([tiny], (64, 96), tmp_path)
