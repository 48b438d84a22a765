"""The machine: its processor, the CPUs and the memory that this process may use, and the speed of the memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from time import perf_counter

import numpy as np

_COPIED_BYTES = 256 << 20  # larger than any processor's cache
_ROUNDS = 5


def processor() -> str:
    """Return the name of the processor and of the operating system."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {platform.system()}"
    return f"{platform.processor() or platform.machine()}, {platform.system()}"


def threads(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use: its affinity or its cgroup quota, whichever is less.

    A quota of 1.5 CPUs counts as 2.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(ceil(quota) for quota in _quotas(root))]))


def available_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes of main memory are free for this process: of the machine or of its cgroup, whichever is less.

    Pages of files count as free if they can be dropped. None if the system does not say: only Linux does.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    return max(0, min([free, *(left for group in _groups(root, "memory") for left in _memory_left(group))]))


def memory_use(peak: bool = False) -> int:
    """Return the bytes of main memory that this process occupies, or its `peak`. Linux only: getrusage knows the parent's."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(wanted))


def _memory_left(group: Path) -> Iterator[int]:
    """Yield what the limit of one cgroup leaves, if it has one; the names of its files depend on the version."""
    second = (group / "memory.max").is_file()
    limit, used = ("max", "current") if second else ("limit_in_bytes", "usage_in_bytes")
    files = "inactive_file" if second else "total_inactive_file"
    try:
        left = int((group / f"memory.{limit}").read_text()) - int((group / f"memory.{used}").read_text())
        stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
        yield left + int(stat.get(files, 0))
    except (OSError, ValueError):  # missing, or "max": no limit
        return


def _text(file: Path) -> str:
    """Return the content of a file; "" if there is none."""
    return file.read_text() if file.is_file() else ""


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quota of every cgroup that this process belongs to, in CPUs; nothing where there is no limit."""
    for group in _groups(root, "cpu"):
        yield from _quota(group)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of every cgroup that this process belongs to and that may limit what a controller controls."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in memberships:
        _, _, controllers_and_path = line.partition(":")
        controllers, _, own = controllers_and_path.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 names no controllers. Version 1 mounts the controller by its own name, by all names, or both.
        mounts = {mounted / controllers, mounted / controller} if controllers else {mounted, mounted / "unified"}
        # A limit on a parent holds too. In a container the path may be the host's, and only the root is visible.
        path = Path(own.lstrip("/"))
        yield from (mount / part for mount in mounts for part in (path, *path.parents))


def _quota(group: Path) -> Iterator[float]:
    """Yield the quota of one cgroup, if it has one: `cpu.max` in version 2, two files in version 1."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        if int(quota) > 0 and int(period) > 0:  # -1 is no limit in version 1
            yield int(quota) / int(period)
    except (OSError, ValueError):  # missing, or "max": no limit
        return


def bandwidth(workers: int) -> float:
    """Return the bytes per second, read and written, of copying a large array with `workers` threads: the best of 5 rounds."""
    source = np.ones(_COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, workers), np.array_split(target, workers), strict=True))
    with ThreadPoolExecutor(workers) as pool:
        return 2 * _COPIED_BYTES / fastest(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), _ROUNDS)


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Return the seconds of the fastest of `rounds` calls: other processes can only make a call slower."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds)
