"""Temporal smoothing: what is averaged over time, what is not, and how flicker is counted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.inference.smoothing import TemporalSmoothing, cell_means, flicker
from fastscnn.upsampling import upsample

RANDOM = np.random.default_rng(0)


def picture(height: int = 64, width: int = 96, seed: int = 0) -> UInt8Array:
    """Blocks of 8x8 in random colours, far from each other in brightness."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def logits(rows: int = 8, columns: int = 12) -> Float32Array:
    return RANDOM.normal(size=(5, rows, columns)).astype(np.float32)


def test_a_still_picture_is_averaged() -> None:
    smooth, image, ones = TemporalSmoothing(), picture(), np.ones((5, 8, 12), np.float32)
    assert smooth(image, 0 * ones).max() == 0
    after_one, after_two = smooth(image, ones), smooth(image, ones)
    np.testing.assert_allclose(after_one, 0.15, rtol=1e-6)
    np.testing.assert_allclose(after_two, 0.15 + 0.85 * 0.15, rtol=1e-6)


def test_noise_is_taken_for_a_still_picture() -> None:
    smooth, image = TemporalSmoothing(), np.full((64, 96, 3), 128, np.uint8)
    zeros = np.zeros((5, 8, 12), np.float32)
    smooth(image, zeros)
    noisy = np.clip(image + RANDOM.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    assert smooth(noisy, zeros + 1).max() < 0.2


def test_what_moved_counts_by_itself_alone() -> None:
    smooth, before = TemporalSmoothing(), np.full((64, 96, 3), 100, np.uint8)
    smooth(before, np.zeros((5, 8, 12), np.float32))
    after = before.copy()
    after[8:16, 16:24] += 12  # cell (1, 2)
    result = smooth(after, np.ones((5, 8, 12), np.float32))
    moved = np.zeros((8, 12), bool)
    moved[:3, 1:4] = True  # with the eight around it
    np.testing.assert_allclose(result, np.broadcast_to(np.where(moved, 1, 0.15), result.shape), rtol=1e-6)


def test_half_a_change_counts_half() -> None:
    smooth, image, ones = TemporalSmoothing(), np.full((64, 96, 3), 100, np.uint8), np.ones((5, 8, 12), np.float32)
    smooth(image, 0 * ones)
    np.testing.assert_allclose(smooth(image + np.uint8(6), ones), 1 - 0.85 * 6 / 9, rtol=1e-6)


def test_after_a_cut_a_frame_is_as_if_it_were_the_first() -> None:
    smooth, first, second = TemporalSmoothing(), picture(seed=1), picture(seed=2)
    same = slice(0, 24), slice(0, 48)  # whose past must not count either
    second[same] = first[same]
    for _ in range(3):
        smooth(first, logits())
    new = logits()
    np.testing.assert_array_equal(smooth(second, new), new)


def test_another_size_begins_anew() -> None:
    smooth = TemporalSmoothing()
    smooth(picture(), logits())
    new = logits(4, 4)
    np.testing.assert_array_equal(smooth(picture(32, 32), new), new)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_cell_means(height: int, width: int, channels: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)
    rows, columns = -(-height // 8), -(-width // 8)
    edged = np.pad(image, ((0, 8 * rows - height), (0, 8 * columns - width), (0, 0)), mode="edge").astype(np.float64)
    means = cell_means(image, (rows, columns))
    for row in range(rows):
        for column in range(columns):
            part = edged[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert means[row, column] == pytest.approx(part.mean(), rel=1e-5)
    assert means.dtype == np.float32


def test_flicker_counts_changes_where_the_picture_stays() -> None:
    before = np.full((40, 60, 3), 90, np.uint8)
    after = before.copy()
    after[:, 30:] = 200  # the right half moved, and by the blur two columns of the left half
    labels = np.zeros((40, 60), np.uint8)
    others = labels.copy()
    others[:10] = 1
    changed, still = flicker((labels, others), (before, after))
    assert (changed, still) == (10 * 28, 40 * 28)
    assert flicker((labels, labels), (before, before)) == (0, 40 * 60)
    assert flicker((labels, 1 + labels), (before, before + np.uint8(3))) == (40 * 60, 40 * 60)
    assert flicker((labels, 1 + labels), (before, before + np.uint8(4)))[1] == 0


def test_a_stream_is_smoothed_frame_by_frame(tiny: Segmenter) -> None:
    frames = [np.clip(picture(seed=3) + RANDOM.normal(0, 12, (64, 96, 3)), 0, 255).astype(np.uint8) for _ in range(6)]
    plain = [segmentation.labels for _, segmentation in tiny.stream(frames)]
    smoothed = [segmentation for _, segmentation in tiny.stream(frames, smoothing=True, confidence=True)]
    smooth = TemporalSmoothing()
    expected = [upsample.labels(smooth(frame, tiny.backend(frame[None])[0]), (64, 96)) for frame in frames]
    for segmentation, labels in zip(smoothed, expected, strict=True):
        np.testing.assert_array_equal(segmentation.labels, labels)
        assert segmentation.confidence is not None
        assert list(segmentation.seconds) == ["resize", "network", "smoothing", "labels", "confidence"]
    changes = [sum(flicker((a, b), (frames[0], frames[0]))[0] for a, b in pairwise(labels)) for labels in (plain, expected)]
    assert changes[1] < changes[0] / 2


def test_smoothing_needs_a_single_pass(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="smoothing: needs a single pass"):
        Segmenter(tiny.backend, flip=True).stream([picture()], smoothing=True)
