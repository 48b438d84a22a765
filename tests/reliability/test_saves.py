"""Files that are saved on a full disk, or by a process that is killed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from promises import Some

from reliability import saves

Record = Callable[[str, object], None]
TESTS = Path(__file__).parents[1]
CALLS = ("openat", "write", "lseek", "fsync", "close", "rename", "mkdir")


def works(*words: str) -> bool:
    return shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def old_and_new(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with an old file of each kind that may be replaced, and one with the new files of all kinds."""
    for seed, name in enumerate(("old", "new")):
        saves.save(tmp_path / name, seed)
    for name in saves.NEW_ONLY:
        shutil.rmtree(tmp_path / "old" / name)
    return tmp_path / "old", tmp_path / "new"


def places(trace: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each system call of the first process that touches the folder: its name, and its number among those of its name."""
    counted: Counter[str] = Counter()
    first = ""
    for line in trace.read_text(errors="replace").splitlines():
        if (found := re.match(r"(\d+) +(\w+)\(", line)) is None:
            continue
        first = first or found[1]
        if found[1] == first:
            counted[found[2]] += 1
            if str(folder) in line:
                yield found[2], counted[found[2]]


@pytest.mark.slow
@pytest.mark.reliability("kill-call")
def test_killed_in_a_system_call(
    tmp_path: Path, old_and_new: tuple[Path, Path], some: Some, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not works("strace", "true"):
        pytest.skip("needs strace")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=":")
    (old, new), folder, trace = old_and_new, tmp_path / "folder", tmp_path / "trace"

    def run(*options: str) -> int:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)
        traced = ["-e", "signal=none", "-e", f"trace={','.join(CALLS)}", *options]
        strace = ["strace", "-f", "-y", "-qq", "-o", str(trace), *traced]
        program = [sys.executable, str(Path(saves.__file__)), str(folder), "1"]
        return subprocess.run([*strace, *program], check=False, stderr=subprocess.DEVNULL).returncode

    assert run() == 0
    before, after = saves.content(old), saves.content(new)
    assert saves.content(folder) == after
    assert run() == 0  # once more: the first run may have compiled modules
    found = list(places(trace, folder))
    assert {call for call, _ in found} >= {"openat", "write", "fsync", "rename"}
    chosen = [found[number * len(found) // 30] for number in some(range(30))]
    for call, number in chosen:
        assert run("-e", f"inject={call}:signal=SIGKILL:when={number}") != 0, (call, number)
        left = saves.content(folder)
        assert before.keys() <= left.keys() <= after.keys(), (call, number)
        assert all(data in (before.get(name), after[name]) for name, data in left.items()), (call, number)
    record_property("cases", len(chosen))


FULL_DISK = """
import json, os, shutil, sys
from pathlib import Path
from fastscnn.base.errors import FastSCNNError
from reliability import saves

disk, new, page = Path(sys.argv[1]), saves.content(Path(sys.argv[2])), os.sysconf("SC_PAGESIZE")

def pages():
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize // page

for name, write in saves.SAVES.items():
    largest = max(-(-len(data) // page) for path, data in new.items() if path.startswith(name + "/"))
    for room in sorted({0, largest // 2, largest - 1}):
        folder = disk / "folder"
        folder.mkdir()
        if name not in saves.NEW_ONLY:
            write(folder, 0)
        before = saves.content(folder)
        (disk / "filler").write_bytes(bytes((pages() - room) * page))
        error = None
        try:
            write(folder, 1)
        except FastSCNNError as raised:
            error = str(raised)
        after = saves.content(folder)
        wrong = [path for path, data in before.items() if after.get(path) not in (data, new[f"{name}/{path}"])]
        wrong += [path for path in after.keys() - before.keys() if after[path] != new[f"{name}/{path}"]]
        parts = [path.name for path in folder.rglob("*.part")]
        print(json.dumps({"save": name, "room": room, "error": error, "wrong": wrong, "parts": parts}))
        shutil.rmtree(folder)
        (disk / "filler").unlink()
"""


@pytest.mark.slow
@pytest.mark.reliability("full-disk")
def test_a_full_disk(
    tmp_path: Path, old_and_new: tuple[Path, Path], record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system of 8 MB in memory, filled up to 0 pages, half of the largest file, or all but its last page."""
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1" && exec "${@:2}"'
    inside = ["unshare", "--map-root-user", "--mount", "bash", "-c", mount, "bash", str(tmp_path / "disk")]
    if not works(*inside, "true"):
        pytest.skip("needs unshare, and user namespaces that may mount tmpfs")
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=":")
    program = [sys.executable, "-c", FULL_DISK, str(tmp_path / "disk"), str(old_and_new[1])]
    done = subprocess.run([*inside, *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) >= 25
    for one in found:
        assert one["error"] is not None, one
        assert "No space left on device" in one["error"], one
        assert (one["wrong"], one["parts"]) == ([], []), one
    record_property("cases", len(found))
