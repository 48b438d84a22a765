"""files.write: whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that holds b"old", alone in its folder."""
    path = tmp_path / "card.json"
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_new_files_and_over_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "a.bin"
    for data in (b"first, and longer", b"second", b""):
        files.write(path, data)
        assert path.read_bytes() == data
        assert names(path.parent) == ["a.bin"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FastSCNNError, r"card\.json: cannot be written \(No space left"),
        (OSError("odd"), FastSCNNError, "\\(odd\\); the old file"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_failure_keeps_the_old_file_alone(
    old: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    raised: type[BaseException],
    message: str | None,
) -> None:
    def fail(*_: object) -> None:
        assert old.read_bytes() == b"old"
        assert len(names(old.parent)) == 2, "the temporary file lies beside it"
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(raised, match=message):
        files.write(old, b"new" * 1000)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["card.json"]


def test_a_result_is_not_flushed_and_still_atomic(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("flushed"))
    files.write(old, b"new", durable=False)
    assert old.read_bytes() == b"new"
    images.write(old.with_name("a.png"), np.zeros((4, 4), np.uint8))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(FastSCNNError, match="No space left"):
        files.write(old, b"newer", durable=False)
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["a.png", "card.json"]


def test_kill_during_the_write_keeps_the_old_file(old: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from fastscnn.base import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write(Path(sys.argv[1]), b'new' * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("place", ["folder", "file/inside"])
def test_impossible_places(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FastSCNNError, match="cannot be written"):
        files.write(tmp_path / place, b"new")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_permissions_are_ordinary(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        files.write(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_the_cache_needs_no_home(tmp_path: Path) -> None:
    code = (
        "import os, pwd\n"
        "def nobody(_): raise KeyError\n"
        "pwd.getpwuid = nobody\n"
        "from fastscnn.base import files\n"
        "folder = files.cache('check')\n"
        "assert folder == files.cache('check') and folder.is_absolute() and folder.parent.is_dir(), folder\n"
        "assert str(files.expand('~/a')) == '~/a'\n"
        "print(folder)"
    )
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", code], env=bare, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == []
    assert not Path(done.stdout.strip()).parent.exists(), "it goes with the process"


def test_home_folders_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand("~/a.png") == tmp_path / "a.png"
    assert files.expand(Path("~")) == tmp_path
    for path in ("a/~", "~nobody-of-that-name/a", "a.png", ""):
        assert files.expand(path) == Path(path)


def test_names_of_250_bytes_are_written(tmp_path: Path) -> None:
    path = tmp_path / ("\u8857" * 80 + "abcdef.png")
    files.write(path, b"x")
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"x"]


def test_staged_files_and_folders_are_moved_together(tmp_path: Path) -> None:
    (tmp_path / "model" / "old").mkdir(parents=True)
    (tmp_path / "model" / "1.bin").write_bytes(b"before")
    with files.staged(tmp_path / "model") as path:
        (path / "2").mkdir(parents=True)
        (path / "1.bin").write_bytes(b"after")
        (path / "2" / "deep.bin").touch()
        path.with_suffix(".xml").touch()
        assert names(tmp_path / "model") == ["1.bin", "old"]
        assert (tmp_path / "model" / "1.bin").read_bytes() == b"before"
    assert names(tmp_path) == ["model", "model.xml"]
    assert names(tmp_path / "model") == ["1.bin", "2", "old"]
    assert (tmp_path / "model" / "1.bin").read_bytes() == b"after"


@pytest.mark.parametrize(("error", "raised", "message"), [
    (OSError(errno.ENOSPC, "No space left on device"), FastSCNNError, r"card\.json: cannot be written \(No space left"),
    (FastSCNNError("a network that differs"), FastSCNNError, "^a network that differs$"),
    (KeyboardInterrupt(), KeyboardInterrupt, None),
])
def test_an_error_leaves_nothing_staged(
    old: Path, error: BaseException, raised: type[BaseException], message: str | None
) -> None:
    def fail() -> None:
        with files.staged(old) as path:
            path.write_bytes(b"half")
            raise error

    with pytest.raises(raised, match=message):
        fail()
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["card.json"]
