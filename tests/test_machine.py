"""machine: facts of any machine, and the CPUs that a container may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastscnn.base import machine


def test_facts() -> None:
    assert machine.processor()
    assert machine.threads() >= 1


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
