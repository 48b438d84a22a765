"""Augmentation: pictures whose grey value is their coordinate tell where every pixel of a patch comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.learn.augment import _tone, augment
from fastscnn.recipes import Recipe, named

HEIGHT, WIDTH = 96, 128
BoolArray = npt.NDArray[np.bool_]


def still(**changes: Any) -> Recipe:
    """A recipe that changes nothing but what is named."""
    fields: dict[str, Any] = {"crop": (HEIGHT, WIDTH), "scale": (1.0, 1.0), "flip": 0.0, "brightness": 0.0, "contrast": 1.0,
                              "gamma": 1.0, "channel_noise": 0.0}
    return replace(named("debug"), **(fields | changes))


def ramp(axis: int) -> UInt8Array:
    """uint8 [HEIGHT, WIDTH] whose value is the row (axis 0) or the column (axis 1)."""
    return np.asarray(np.indices((HEIGHT, WIDTH))[axis], np.uint8)


def picture(seed: int = 0) -> tuple[UInt8Array, UInt8Array]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), random.integers(0, 11, (HEIGHT, WIDTH), np.uint8)


def coordinates(recipe: Recipe, seed: int) -> tuple[Float32Array, UInt8Array, BoolArray]:
    """Rows and columns of the image that a patch shows: by the image, by the labels, and where neither meets the border.

    Returns:
        float32 and uint8 [2, h, w], and bool [h, w].
    """
    pairs = [augment(np.repeat(ramp(axis)[..., None], 3, axis=2), ramp(axis), recipe, np.random.default_rng(seed))
             for axis in (0, 1)]
    by_image, by_labels = np.stack([patch[..., 0] for patch, _ in pairs]), np.stack([ids for _, ids in pairs])
    rows, columns = by_labels
    inside = (rows > 0) & (rows < HEIGHT - 1) & (columns > 0) & (columns < WIDTH - 1)
    return by_image.astype(np.float32), by_labels, inside


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.37, 2.0])
def test_image_and_labels_stay_aligned(flip: float, scale: float) -> None:
    recipe = still(scale=(scale, scale), flip=flip, crop=(64, 80))
    for seed in range(5):
        by_image, by_labels, inside = coordinates(recipe, seed)
        assert inside.mean() > 0.4
        assert np.abs(by_image - by_labels)[:, inside].max() <= 1  # half a pixel, rounded
        down = np.diff(by_image[0], axis=0)[inside[1:] & inside[:-1]].mean()
        right = np.diff(by_image[1], axis=1)[inside[:, 1:] & inside[:, :-1]].mean()
        assert down == pytest.approx(1 / scale, abs=0.03)
        assert right == pytest.approx((-1 if flip else 1) / scale, abs=0.03)


def test_image_and_labels_agree_on_the_mean() -> None:
    """Neither is shifted, by as little as a tenth of a pixel."""
    recipe = still(scale=(0.6, 2.0), flip=0.5, crop=(48, 64))
    shifts = []
    for seed in range(60):
        by_image, by_labels, inside = coordinates(recipe, seed)
        shifts.append((by_image - by_labels)[:, inside].mean(axis=1))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.1


def test_nothing_switched_on_changes_nothing() -> None:
    image, labels = picture()
    patch, ids = augment(image, labels, still(), np.random.default_rng(0))
    assert np.array_equal(patch, image)
    assert np.array_equal(ids, labels)


def test_flip_mirrors_both() -> None:
    image, labels = picture()
    patch, ids = augment(image, labels, still(flip=1.0), np.random.default_rng(0))
    assert np.array_equal(patch, image[:, ::-1])
    assert np.array_equal(ids, labels[:, ::-1])


def test_a_flip_is_as_likely_as_the_recipe_says() -> None:
    image, labels = picture()
    random = np.random.default_rng(0)
    mirrored = sum(np.array_equal(augment(image, labels, still(flip=0.3), random)[1], labels[:, ::-1]) for _ in range(300))
    assert 60 < mirrored < 120


def test_beyond_the_image_is_ignored() -> None:
    image, labels = picture()
    patch, ids = augment(image, labels, still(crop=(160, 200)), np.random.default_rng(3))
    rows, columns = (np.flatnonzero((ids != 255).any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (HEIGHT, WIDTH)
    assert np.array_equal(ids[np.ix_(rows, columns)], labels)
    assert 0 < rows[0] < 160 - HEIGHT  # anywhere, not in a corner
    assert 0 < columns[0] < 200 - WIDTH
    assert np.all(patch[: rows[0] - 1] == (124, 116, 104))


def test_small_image_in_one_direction_only() -> None:
    image, labels = picture()
    _, ids = augment(image, labels, still(crop=(160, 64)), np.random.default_rng(3))
    assert (ids != 255).any(axis=1).sum() == HEIGHT
    assert (ids != 255).any(axis=0).all()


def test_every_place_of_a_larger_image_is_reached() -> None:
    labels = ramp(1)
    image = np.repeat(labels[..., None], 3, axis=2)
    firsts = [augment(image, labels, still(crop=(32, 32)), np.random.default_rng(seed))[1][0, 0] for seed in range(200)]
    assert min(firsts) < 4
    assert max(firsts) > WIDTH - 32 - 4


@pytest.mark.parametrize(
    ("changes", "value", "low", "high"),
    [
        ({}, 128, 128, 128),
        ({"brightness": 30.0}, 128, 98, 158),
        ({"channel_noise": 0.2}, 128, 102, 154),
        ({"gamma": 2.0}, 128, 64, 181),  # 255 * (128 / 255) ** 2 and ** 0.5
        ({"contrast": 2.0}, 128, 128, 128),  # turns about the middle
        ({"contrast": 2.0}, 85, 43, 106),  # 127.5 - 42.5 * 2 and / 2
    ],
)
def test_tone_stays_in_its_bounds(changes: dict[str, float], value: int, low: int, high: int) -> None:
    recipe = still(**changes)
    tables = np.concatenate([_tone(recipe, np.random.default_rng(seed)) for seed in range(300)])
    assert tables.shape == (300, 256, 3)
    assert tables.dtype == np.uint8
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()  # brighter stays brighter
    got = tables[:, value]
    assert low <= got.min() <= low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) <= got.max() <= high


def test_extreme_tones_are_clipped() -> None:
    recipe = still(brightness=255.0, contrast=8.0, gamma=5.0, channel_noise=1.0)
    tables = np.concatenate([_tone(recipe, np.random.default_rng(seed)) for seed in range(50)])
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()
    assert (tables.min(), tables.max()) == (0, 255)


def test_without_channel_noise_grey_stays_grey() -> None:
    grey = np.repeat(ramp(1)[..., None], 3, axis=2)
    strong = {"brightness": 40.0, "contrast": 1.5, "gamma": 2.0}
    patch, _ = augment(grey, ramp(1), still(**strong), np.random.default_rng(1))
    assert np.array_equal(patch[..., 0], patch[..., 1])
    noisy, _ = augment(grey, ramp(1), still(**strong, channel_noise=0.3), np.random.default_rng(1))
    assert not np.array_equal(noisy[..., 0], noisy[..., 1])


def test_the_random_numbers_alone_decide() -> None:
    image, labels = picture()
    recipe = replace(named("camvid"), crop=(48, 64))
    first, again, other = (augment(image, labels, recipe, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first[0].shape, first[1].shape) == ((48, 64, 3), (48, 64))
    assert first[0].dtype == first[1].dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


def test_scale_one_is_the_size_in_use() -> None:
    """An image of another size than the network's input is trained on as it will be seen: resized to that input."""
    image, labels = np.repeat(ramp(1)[..., None], 3, axis=2), ramp(1)
    height, width = labels.shape
    _, ids = augment(image, labels, still(size=(2 * height, 4 * width), crop=(2 * height, 4 * width)), np.random.default_rng(0))
    np.testing.assert_array_equal(ids, np.repeat(np.repeat(labels, 2, axis=0), 4, axis=1))
