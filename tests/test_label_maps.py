"""Label maps counted, painted and blended: the compiled code against NumPy and Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base import kernels
from fastscnn.base.types import UInt8Array
from fastscnn.media import label_maps

COMPILED = pytest.mark.skipif(label_maps.KERNEL is None, reason="needs a C compiler")


def maps(seed: int, height: int, width: int, run: int) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """An image, labels in runs of about `run` pixels, and a palette."""
    rng = np.random.default_rng(seed)
    changes = rng.random(height * width) < 1 / run
    labels = rng.integers(0, 256, height * width, np.uint8)[np.cumsum(changes) % (height * width)].reshape(height, width)
    return rng.integers(0, 256, (height, width, 3), np.uint8), labels, rng.integers(0, 256, (256, 3), np.uint8)


@COMPILED
@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), height=st.integers(1, 9), width=st.integers(1, 90), run=st.sampled_from([1, 3, 16, 40, 900]),
       opacity=st.floats(0, 1, width=32))
def test_the_compiled_code_equals_its_oracles(seed: int, height: int, width: int, run: int, opacity: float) -> None:
    image, labels, palette = maps(seed, height, width, run)
    result = np.empty_like(image)
    label_maps.blend(image, labels, palette, opacity, result)
    assert np.array_equal(result, label_maps.blend_in_pillow(image, labels, palette, opacity))
    counts = label_maps.counts(labels)
    assert np.array_equal(counts, label_maps.counts_in_numpy(labels))
    assert counts.dtype == np.int64


@COMPILED
def test_the_end_of_an_array_is_not_passed() -> None:
    """The last run ends with the array, although the memory after it goes on with the same label."""
    label_maps.KERNEL.count(np.zeros((3, 5), np.uint8)[:0])  # type: ignore[union-attr] # no pixel at all
    whole = np.full((40, 41), 7, np.uint8)
    part = whole.ravel()[:37].reshape(1, 37)
    assert label_maps.counts(part)[7] == 37
    result = np.zeros((1, 40, 3), np.uint8)
    label_maps.blend(np.full((1, 37, 3), 9, np.uint8), part, np.full((256, 3), 90, np.uint8), 1.0, result[:, :37])
    assert (result[:, :37] == 90).all()
    assert not result[:, 37:].any()


def test_strides_and_other_orders_do_not_matter() -> None:
    image, labels, palette = maps(1, 40, 60, 20)
    expected, result = np.empty((20, 30, 3), np.uint8), np.empty((20, 30, 3), np.uint8)
    label_maps.blend(np.ascontiguousarray(image[::2, ::2]), np.ascontiguousarray(labels[::2, ::2]), palette, 0.4, expected)
    label_maps.blend(image[::2, ::2], labels[::2, ::2], palette, 0.4, result)
    assert np.array_equal(result, expected)
    assert np.array_equal(label_maps.counts(labels.T), label_maps.counts(labels))


@pytest.mark.parametrize("opacity", [0.0, 0.55, 1.0])
def test_without_the_compiled_code_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch, opacity: float) -> None:
    image, labels, palette = maps(2, 50, 70, 12)
    compiled, plain = np.empty_like(image), np.empty_like(image)
    label_maps.blend(image, labels, palette, opacity, compiled)
    counts = label_maps.counts(labels)
    monkeypatch.setattr(label_maps, "KERNEL", None)
    label_maps.blend(image, labels, palette, opacity, plain)
    assert np.array_equal(compiled, plain)
    assert np.array_equal(counts, label_maps.counts(labels))
    assert np.array_equal(label_maps.painted(labels, palette), palette[labels])


@pytest.mark.parametrize("name", ["missing.so", "text.so"])
def test_what_is_no_library_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.so").write_text("no library")
    assert kernels.load(label_maps.Kernel, tmp_path / name) is None
