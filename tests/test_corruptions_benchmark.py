"""The corruptions of benchmarks/corruptions.py: each changes an image by its amount, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made.modules import loaded
from made.street import street

from fastscnn.base.types import UInt8Array

benchmark = loaded(Path(__file__).parents[1] / "benchmarks" / "corruptions.py")
IMAGE = street(180, 240).image


def changed(image: UInt8Array) -> float:
    return float(np.abs(image.astype(float) - IMAGE).mean())


def test_fifteen_kinds_in_three_strengths() -> None:
    assert len(benchmark.KINDS) == 15
    assert all(len(amounts) == 3 for amounts in benchmark.AMOUNTS.values())
    assert {15, 40} <= set(benchmark.AMOUNTS[benchmark.KINDS["gaussian_noise"]])


def test_the_table_states_the_amounts() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in benchmark.__doc__.splitlines() if line[:1] == "|"]
    stated = {row[0]: row[2] for row in rows[2:]}
    assert stated == {
        kind: ", ".join(f"{amount:g}" for amount in benchmark.AMOUNTS[apply]) for kind, apply in benchmark.KINDS.items()
    }


@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_every_kind(kind: str) -> None:
    before, changes = IMAGE.copy(), []
    for strength in benchmark.STRENGTHS:
        first, again = (benchmark.corrupted(IMAGE, "a.png", kind, strength) for _ in range(2))
        assert first.shape == IMAGE.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        changes.append(changed(first))
    assert np.array_equal(IMAGE, before)
    assert 1 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "rain", "snow"])
def test_the_file_name_decides(kind: str) -> None:
    one, other = (benchmark.corrupted(IMAGE, name, kind, 2) for name in ("a.png", "b.png"))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_gaussian_noise_has_its_standard_deviation(strength: int) -> None:
    grey = np.full((180, 240, 3), 128, np.uint8)
    deviation = benchmark.AMOUNTS[benchmark.KINDS["gaussian_noise"]][strength - 1]
    assert benchmark.corrupted(grey, "a", "gaussian_noise", strength).std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur", "zoom_blur", "fog", "rain", "snow"])
def test_lengths_grow_with_the_image(kind: str) -> None:
    """At twice the size, an image reduced again is about as corrupted as at its own."""
    large = np.repeat(np.repeat(IMAGE, 2, axis=0), 2, axis=1)
    reduced = benchmark.corrupted(large, "a", kind, 2).reshape(180, 2, 240, 2, 3).mean(axis=(1, 3))
    assert changed(reduced) == pytest.approx(changed(benchmark.corrupted(IMAGE, "a", kind, 2)), rel=0.35)


def test_a_sheet_shows_all() -> None:
    assert benchmark.contact_sheet(IMAGE, "a").size == (4 * 320, 15 * 240)
