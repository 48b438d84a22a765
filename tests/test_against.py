"""against: the talk with a peer's process, and mmsegmentation itself where it is installed."""

from __future__ import annotations

import stat
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
    """An environment whose Python runs this script, whatever it is told to run."""
    (folder / "bin").mkdir(parents=True)
    (folder / "fake.py").write_text(script)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return folder


def test_turns_and_ratios(tiny: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmseg, "_PAUSE", 0.0)
    calls: list[tuple[int, int]] = []
    found = mmseg.against([tiny], (64, 96), interpreter(tmp_path / "e", ANSWERS), 2, lambda *call: calls.append(call))
    assert found.version == "9.9"
    assert found.peers == {
        "default": 1000, "kept memory": 990, "channels_last, bfloat16": 900, "channels_last, bfloat16, kept memory": 890,
    }
    (name,) = found.ours
    assert 0 < found.ours[name] < 1000
    assert found.ratios(name) == (1000 / found.ours[name], 890 / found.ours[name])
    assert calls == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import mmsegmentation_is_not_here", "No module named 'mmsegmentation_is_not_here'"),
        ("", "it ended with exit code 0 and said nothing"),
        (ANSWERS.replace("for line", "os._exit(9)\nfor line"), "it ended with exit code 9 and said nothing"),
    ],
)
def test_a_peer_that_cannot_run(tiny: Segmenter, tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(FastSCNNError, match=f"mmsegmentation cannot be run there: .*{reason}"):
        mmseg.against([tiny], (64, 96), interpreter(tmp_path / "e", script))


def test_no_environment(tiny: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="holds no Python; give the virtual environment"):
        mmseg.against([tiny], (64, 96), tmp_path)
