"""machine: facts that any machine has."""

from __future__ import annotations

from fastscnn.base import machine


def test_facts() -> None:
    assert machine.processor()
    assert machine.threads() >= 1


def test_bandwidth() -> None:
    assert 1e8 < machine.bandwidth(1) < 1e13
