"""One training at a time in the folder of a run."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from fastscnn.base.errors import FastSCNNError
from fastscnn.training.distributed import World

_LOCK = ".lock"  # the operating system frees it when its process ends, however that is
LEASE = 120.0  # seconds in which a file server frees the locks of a machine that has failed; NFSv4's default is 90
_UNKNOWN = "another process"
# Files of a killed process.
_LEFT = re.compile(r"\.((run|tracking|study|best)\.json|log\.jsonl|report\.html|[a-z]+\.safetensors)\.[0-9a-f]{16}\.part")


@contextmanager
def held(folder: Path, world: World, on_message: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a run's folder, and remove what a killed training left half written in it.

    On a file system without locks nothing is held. A lock of another machine is waited for, since a file server keeps the locks
    of a machine that has failed for a while.

    Args:
        folder: of the run; created if it is missing.
        world: the processes that train together; the first holds the lock.
        on_message: called before it waits.

    Raises:
        FastSCNNError: another process trains in this folder.
    """
    if not world.first:
        yield
        return
    path = folder / _LOCK
    lock, existed = FileLock(path, timeout=0), folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, on_message)
    except Timeout:
        raise FastSCNNError(f"{folder}: {_holder(path)} trains there; wait for it, or use another --out.") from None
    except (OSError, NotImplementedError):  # what is wrong with the folder, the first file that is written says
        yield
        return
    try:
        with suppress(OSError):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        for left in folder.iterdir():
            if _LEFT.fullmatch(left.name):
                left.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        lock.release()
        if not existed:
            with suppress(OSError):  # it is not empty: the training has begun
                folder.rmdir()


def _acquire(lock: BaseFileLock, path: Path, on_message: Callable[[str], None] | None) -> None:
    try:
        lock.acquire()
    except Timeout:
        holder = _holder(path)
        if holder == _UNKNOWN or holder.endswith(f" on {socket.gethostname()}"):
            raise
        if on_message:
            on_message(f"{path.parent}: {holder} trains there; waiting up to {LEASE:.0f} s, in case that machine failed.")
        lock.acquire(timeout=LEASE, poll_interval=1)


def _holder(path: Path) -> str:
    with suppress(OSError):
        if text := path.read_text(encoding="utf-8", errors="replace").strip():
            return text
    return _UNKNOWN
