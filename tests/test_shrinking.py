"""Images reduced by averages: the compiled code against Pillow, and both against a mean written down here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base import kernels
from fastscnn.base.types import UInt8Array
from fastscnn.media import images, shrinking

SIDES = st.integers(1, 90)


def noise(seed: int, *shape: int) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.skipif(shrinking.KERNEL is None, reason="needs a C compiler")
@settings(deadline=None, derandomize=True, max_examples=400)
@given(SIDES, SIDES, st.data(), st.sampled_from([(), (1,), (3,), (4,), (5,)]))
def test_the_compiled_code_equals_pillow(height: int, width: int, data: st.DataObject, channels: tuple[int, ...]) -> None:
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    image = noise(height * width, height, width, *channels)
    result = shrinking.shrink(image, size)
    assert result.shape == (*size, *channels)
    assert np.array_equal(result, shrinking.shrink_in_pillow(image, size))


@pytest.mark.parametrize(("before", "after"), [(1024, 296), (2048, 592), (1920, 544), (255, 1), (257, 1), (999, 998)])
def test_every_pixel_is_the_mean_of_its_window(before: int, after: int) -> None:
    windows = shrinking.windows(before, after)
    assert windows.first[0] == 0
    assert windows.first[-1] + windows.count[-1] == before
    assert abs(windows.count - before / after).max() <= 1
    row = noise(1, 1, before)
    means = [row[0, first : first + count].mean() for first, count in zip(windows.first, windows.count, strict=True)]
    assert abs(shrinking.shrink(row, (1, after))[0] - np.array(means)).max() <= 0.5 + 1e-4


def test_windows_that_are_too_large_for_16_bits_are_pillows() -> None:
    image = np.full((3, 700), 255, np.uint8)
    assert np.array_equal(shrinking.shrink(image, (1, 2)), [[255, 255]])
    image = noise(2, 1200, 3)
    assert np.array_equal(shrinking.shrink(image, (2, 2)), shrinking.shrink_in_pillow(image, (2, 2)))


def test_the_largest_sums_do_not_overflow() -> None:
    assert (shrinking.shrink(np.full((514, 514, 3), 255, np.uint8), (2, 2)) == 255).all()


def test_strides_do_not_matter() -> None:
    image = noise(3, 80, 90, 3)
    assert np.array_equal(shrinking.shrink(image[::2, ::-1], (11, 22)),
                          shrinking.shrink(np.ascontiguousarray(image[::2, ::-1]), (11, 22)))


@pytest.mark.parametrize("size", [(20, 30), (20, 200), (200, 30), (200, 200), (50, 70)])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_resize_without_the_compiled_code(
    size: tuple[int, int], channels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(4, 50, 70, *channels)
    compiled = images.resize(image, size)
    monkeypatch.setattr(shrinking, "KERNEL", None)
    assert np.array_equal(images.resize(image, size), compiled)
    assert compiled.shape == (*size, *channels)


@pytest.mark.parametrize("name", ["missing.so", "text.so"])
def test_what_is_no_library_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.so").write_text("no library")
    assert kernels.load(shrinking.Kernel, tmp_path / name) is None
