"""machine: facts of any machine, and the CPUs that a container may use."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastscnn.base import machine


def test_facts() -> None:
    assert machine.processor()
    assert machine.threads() >= 1


@pytest.mark.usefixtures("one_round")
def test_bandwidth() -> None:
    assert 1e8 < machine.bandwidth(1) < 1e13


V2 = "0::/a/b\n"
V1 = "9:memory:/a\n4:cpu,cpuacct:/docker/1f\n2:cpuset:/a\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, 8),
        (V2, {}, 8),
        (V2, {"a/b/cpu.max": "max 100000\n"}, 8),
        (V2, {"a/b/cpu.max": "200000 100000\n"}, 2),
        (V2, {"a/b/cpu.max": "150000 100000\n"}, 2),
        (V2, {"a/b/cpu.max": "5000 100000\n"}, 1),
        (V2, {"a/b/cpu.max": "1600000 100000\n"}, 8),
        (V2, {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # a parent's limit holds
        (V2, {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "600000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),  # a cgroup namespace shows its own root
        ("0::/../x\n", {"cpu.max": "400000 100000\n"}, 4),
        (V2, {"unified/a/b/cpu.max": "200000 100000\n"}, 2),  # both versions mounted
        (V2, {"a/b/cpu.max": "broken\n"}, 8),
        (V1, {"cpu,cpuacct/docker/1f/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/1f/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n"}, 8),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "0\n"}, 8),
        (V1, {"cpuset/cpu.cfs_quota_us": "200000\n", "cpuset/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)  # fmt: skip
def test_cgroup_quotas_limit_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: Mapping[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.threads(tmp_path) == expected


def test_without_cgroups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert machine.threads(tmp_path) == 1


FREE = "MemTotal:       9000 kB\nMemAvailable:       8000 kB\n"
CURRENT = {"a/b/memory.current": "2048000\n", "a/memory.current": "3072000\n"}


@pytest.mark.parametrize(
    ("cgroup", "files", "kilobytes"),
    [
        ("", {}, 8000),
        (V2, {}, 8000),
        (V2, {**CURRENT, "a/b/memory.max": "max\n"}, 8000),
        (V2, {**CURRENT, "a/b/memory.max": "4096000\n"}, 2000),
        (V2, {**CURRENT, "a/b/memory.max": "4096000\n", "a/b/memory.stat": "anon 1\ninactive_file 1024000\n"}, 3000),
        (V2, {**CURRENT, "a/b/memory.max": "9216000\n", "a/memory.max": "4096000\n"}, 1000),  # a parent's limit holds
        (V2, {**CURRENT, "a/b/memory.max": "1024000\n"}, 0),  # a limit that was lowered
        (V2, {"a/b/memory.max": "1024000\n"}, 8000),
        (V2, {**CURRENT, "a/b/memory.max": "broken\n"}, 8000),
        (V1, {"memory/a/memory.limit_in_bytes": "4096000\n", "memory/a/memory.usage_in_bytes": "1024000\n"}, 3000),
        (V1, {"memory/memory.limit_in_bytes": "4096000\n", "memory/memory.usage_in_bytes": "2048000\n",
              "memory/memory.stat": "inactive_file 5\ntotal_inactive_file 1024000\n"}, 3000),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "1024\n"}, 8000),
        (V1, {"cpu/memory.limit_in_bytes": "1024000\n", "cpu/memory.usage_in_bytes": "0\n"}, 8000),
    ],
)  # fmt: skip
def test_cgroups_limit_the_memory(tmp_path: Path, cgroup: str, files: Mapping[str, str], kilobytes: int) -> None:
    names = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": cgroup, "proc/meminfo": FREE, **names}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.available_memory(tmp_path) == kilobytes << 10


@pytest.mark.parametrize("text", [None, "", "MemTotal: 9000 kB\n", "MemAvailable: many kB\n"])
def test_a_system_that_does_not_say_how_much_memory_is_free(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "proc").mkdir()
    if text is not None:
        (tmp_path / "proc/meminfo").write_text(text)
    assert machine.available_memory(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
def test_the_memory_of_this_process() -> None:
    before = machine.memory_use()
    with mmap.mmap(-1, 64 << 20) as held:  # new pages, which a bytearray may not need
        held.write(b"1" * len(held))
        assert machine.memory_use() > before + (60 << 20)
    assert machine.memory_use(peak=True) > before + (60 << 20)
    assert 0 < (machine.available_memory() or 0) < 1 << 50
