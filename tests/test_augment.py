"""Augmentation: in test images whose grey value is a coordinate, each pixel of a crop shows where it comes from."""

from __future__ import annotations

import colorsys
import itertools
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.training.augment import Crop, _distorted, _largest_share, _tone, augment, paste
from fastscnn.training.recipes import Recipe, named

HEIGHT, WIDTH = 96, 128
BoolArray = npt.NDArray[np.bool_]


def still(**changes: Any) -> Recipe:
    """Return a recipe without augmentation, with the given changes."""
    fields: dict[str, Any] = {"crop": (HEIGHT, WIDTH), "scale": (1.0, 1.0), "flip": 0.0, "brightness": 0.0, "contrast": 1.0,
                              "gamma": 1.0, "channel_noise": 0.0}
    return replace(named("debug"), **(fields | changes))


def ramp(axis: int) -> UInt8Array:
    """Return uint8 [HEIGHT, WIDTH] whose value is the row (axis 0) or the column (axis 1)."""
    return np.asarray(np.indices((HEIGHT, WIDTH))[axis], np.uint8)


def picture(seed: int = 0) -> tuple[UInt8Array, UInt8Array]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), random.integers(0, 11, (HEIGHT, WIDTH), np.uint8)


def coordinates(recipe: Recipe, seed: int) -> tuple[Float32Array, UInt8Array, BoolArray]:
    """Return rows and columns in the image of each pixel of a crop, by image and by labels, and which are inside.

    Returns:
        float32 and uint8 [2, h, w], and bool [h, w].
    """
    pairs = [augment(np.repeat(ramp(axis)[..., None], 3, axis=2), ramp(axis), recipe, np.random.default_rng(seed))
             for axis in (0, 1)]
    by_image, by_labels = np.stack([patch[..., 0] for patch, _, _ in pairs]), np.stack([ids for _, ids, _ in pairs])
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
    """The mean shift is below a tenth of a pixel."""
    recipe = still(scale=(0.6, 2.0), flip=0.5, crop=(48, 64))
    shifts = []
    for seed in range(60):
        by_image, by_labels, inside = coordinates(recipe, seed)
        shifts.append((by_image - by_labels)[:, inside].mean(axis=1))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.1


def test_nothing_switched_on_changes_nothing() -> None:
    image, labels = picture()
    patch, ids, _ = augment(image, labels, still(), np.random.default_rng(0))
    assert np.array_equal(patch, image)
    assert np.array_equal(ids, labels)


def test_flip_mirrors_both() -> None:
    image, labels = picture()
    patch, ids, _ = augment(image, labels, still(flip=1.0), np.random.default_rng(0))
    assert np.array_equal(patch, image[:, ::-1])
    assert np.array_equal(ids, labels[:, ::-1])


def test_a_flip_is_as_likely_as_the_recipe_says() -> None:
    image, labels = picture()
    random = np.random.default_rng(0)
    mirrored = sum(np.array_equal(augment(image, labels, still(flip=0.3), random)[1], labels[:, ::-1]) for _ in range(300))
    assert 60 < mirrored < 120


def test_beyond_the_image_is_ignored() -> None:
    image, labels = picture()
    patch, ids, _ = augment(image, labels, still(crop=(160, 200)), np.random.default_rng(3))
    rows, columns = (np.flatnonzero((ids != 255).any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (HEIGHT, WIDTH)
    assert np.array_equal(ids[np.ix_(rows, columns)], labels)
    assert 0 < rows[0] < 160 - HEIGHT  # anywhere, not in a corner
    assert 0 < columns[0] < 200 - WIDTH
    assert np.all(patch[: rows[0] - 1] == (124, 116, 104))


def test_small_image_in_one_direction_only() -> None:
    image, labels = picture()
    _, ids, _ = augment(image, labels, still(crop=(160, 64)), np.random.default_rng(3))
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
        ({"contrast": 2.0}, 128, 128, 128),  # the middle does not change
        ({"contrast": 2.0}, 85, 43, 106),  # 127.5 - 42.5 * 2 and / 2
    ],
)
def test_tone_stays_in_its_bounds(changes: dict[str, float], value: int, low: int, high: int) -> None:
    recipe = still(**changes)
    tables = np.concatenate([_tone(recipe, np.random.default_rng(seed)) for seed in range(300)])
    assert tables.shape == (300, 256, 3)
    assert tables.dtype == np.uint8
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()  # the order of grey levels is kept
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
    patch, _, _ = augment(grey, ramp(1), still(**strong), np.random.default_rng(1))
    assert np.array_equal(patch[..., 0], patch[..., 1])
    noisy, _, _ = augment(grey, ramp(1), still(**strong, channel_noise=0.3), np.random.default_rng(1))
    assert not np.array_equal(noisy[..., 0], noisy[..., 1])


def test_the_random_numbers_alone_decide() -> None:
    image, labels = picture()
    recipe = replace(named("camvid"), crop=(48, 64))
    first, again, other = (augment(image, labels, recipe, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first[0].shape, first[1].shape) == ((48, 64, 3), (48, 64))
    assert first[0].dtype == first[1].dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(first[:2], again[:2], strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


def test_scale_one_is_the_size_in_use() -> None:
    """At scale 1, an image is resized to the network input size."""
    image, labels = np.repeat(ramp(1)[..., None], 3, axis=2), ramp(1)
    height, width = labels.shape
    twice = still(size=(2 * height, 2 * width), crop=(2 * height, 2 * width))
    _, ids, _ = augment(image, labels, twice, np.random.default_rng(0))
    np.testing.assert_array_equal(ids, np.repeat(np.repeat(labels, 2, axis=0), 2, axis=1))


def nearest(patch: UInt8Array, ids: UInt8Array, row: int, column: int) -> float:
    """Return the distance from a pixel of the image to the nearest one in the crop. Red is the row, green the column."""
    away = np.maximum(np.abs(patch[..., 0].astype(int) - row), np.abs(patch[..., 1].astype(int) - column))
    return float(away[ids != 255].min())


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.8, 0.8), (1.0, 1.0), (1.37, 1.37), (3.0, 3.0), (0.5, 2.0)])
@pytest.mark.parametrize("crop", [(32, 32), (40, 300), (200, 36)])
def test_the_focus_is_in_the_patch(flip: float, scale: tuple[float, float], crop: tuple[int, int]) -> None:
    """The class has a single pixel, also in a corner; the image is larger or smaller than the crop."""
    image = np.stack([ramp(0), ramp(1), ramp(1)], axis=2)
    recipe = still(scale=scale, flip=flip, crop=crop)
    places = np.random.default_rng(1).integers(0, (HEIGHT, WIDTH), (20, 2)).tolist()
    corners = itertools.product((0, HEIGHT - 1), (0, WIDTH - 1))
    for seed, (row, column) in enumerate([*places, *corners]):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[row, column] = 7
        patch, ids, _ = augment(image, labels, recipe, np.random.default_rng(seed), 7)
        assert nearest(patch, ids, row, column) <= 0.5 / scale[0] + 1  # half a pixel of the crop, and rounding
        if scale[0] >= 1:  # otherwise it may lie between the pixels of the crop
            assert (ids == 7).any()


def test_the_focus_may_be_anywhere_in_the_patch() -> None:
    image, labels = picture()
    labels[:] = 0
    labels[48, 64] = 7
    found = [np.argwhere(augment(image, labels, still(crop=(32, 32), flip=0.5), np.random.default_rng(seed), 7)[1] == 7)[0]
             for seed in range(200)]
    assert np.min(found, axis=0).max() < 3
    assert np.max(found, axis=0).min() > 28
    assert np.mean(found, axis=0) == pytest.approx([15.5, 15.5], abs=2)


def test_every_pixel_of_the_class_may_be_the_focus() -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[::32, ::32] = 7  # 3 x 4 pixels, so far apart that a crop contains one
    image = np.stack([ramp(0), ramp(1), ramp(1)], axis=2)
    patches = [augment(image, labels, still(crop=(32, 32)), np.random.default_rng(seed), 7) for seed in range(150)]
    seen = {tuple(np.rint(patch[ids == 7][0, :2] / 32).astype(int).tolist()) for patch, ids, _ in patches}
    assert seen == set(itertools.product(range(3), range(4)))


def test_an_absent_class_is_no_focus() -> None:
    image, labels = picture()
    recipe = still(crop=(32, 32), scale=(0.6, 2.0), flip=0.5)
    with_it, without = (augment(image, labels, recipe, np.random.default_rng(2), focus) for focus in (12, None))
    assert all(np.array_equal(a, b) for a, b in zip(with_it[:2], without[:2], strict=True))


@pytest.fixture
def warps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list with an entry for each crop that was drawn."""
    drawn: list[None] = []
    warp = cv2.warpAffine

    def counting(pixels: Any, *arguments: Any, **more: Any) -> Any:
        if pixels.ndim == 2:  # labels
            drawn.append(None)
        return warp(pixels, *arguments, **more)

    monkeypatch.setattr(cv2, "warpAffine", counting)
    return drawn


def test_a_crop_is_drawn_again_if_one_class_is_too_frequent(warps: list[None]) -> None:
    image, labels = picture()
    labels[:, :64], labels[:, 64:] = 3, 5
    recipe = still(crop=(32, 32), cat_max_ratio=0.75)
    shares, counts = [], []
    for seed in range(200):
        warps.clear()
        ids = augment(image, labels, recipe, np.random.default_rng(seed))[1]
        shares.append(max((ids == 3).mean(), (ids == 5).mean()))
        counts.append(len(warps))
    given_up = [count == 11 for count in counts]
    assert all(share < 0.75 for share, last in zip(shares, given_up, strict=True) if not last)
    assert 1 in counts
    assert {2, 3, 4} <= set(counts)
    assert max(counts) == 11
    assert sum(given_up) < 60  # a sixth of all places is accepted, so 16 % of the crops miss it eleven times


@pytest.mark.parametrize(("ratio", "classes", "expected"), [(1.0, 1, 1), (0.99, 1, 11), (0.75, 11, 1), (0.01, 11, 11)])
def test_how_often_a_crop_is_drawn(warps: list[None], ratio: float, classes: int, expected: int) -> None:
    image, labels = picture()
    augment(image, labels % np.uint8(classes), still(crop=(48, 48), cat_max_ratio=ratio), np.random.default_rng(0))
    assert len(warps) == expected


@pytest.mark.parametrize(
    ("counts", "share"),
    [({0: 3, 1: 1}, 0.75), ({0: 3, 1: 1, 255: 96}, 0.75), ({4: 5}, 1.0), ({4: 5, 255: 5}, 1.0), ({255: 7}, 1.0),
     ({2: 5, 254: 5}, 0.5)],
)
def test_largest_share(counts: dict[int, int], share: float) -> None:
    ids = np.concatenate([np.full(count, class_, np.uint8) for class_, count in counts.items()])
    assert _largest_share(ids[None]) == share


def distorted_slowly(image: UInt8Array, rng: np.random.Generator) -> Float32Array:
    """Return mmsegmentation's PhotoMetricDistortion in floating point, pixel by pixel."""
    wanted = rng.random(4) < 0.5
    factor, first = rng.uniform(0.5, 1.5), rng.random() < 0.5
    values = image.astype(np.float64)
    if wanted[0]:
        values = np.clip(values + rng.uniform(-32, 32), 0, 255)
    if wanted[1] and first:
        values = np.clip(values * factor, 0, 255)
    saturation = rng.uniform(0.5, 1.5) if wanted[2] else 1.0
    turn = int(rng.integers(-18, 18)) / 180 if wanted[3] else 0.0
    for place in np.ndindex(values.shape[:2]):
        hue, strength, value = colorsys.rgb_to_hsv(*values[place] / 255)
        values[place] = 255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, min(1.0, strength * saturation), value))
    if wanted[1] and not first:
        values = np.clip(values * factor, 0, 255)
    return values.astype(np.float32)


def test_mmsegmentations_distortion() -> None:
    """The result equals floating-point arithmetic, except for the rounding of hue and saturation to bytes."""
    image = picture()[0][:8, :8]
    away, changed = [], []
    for seed in range(150):
        got = _distorted(image, np.random.default_rng(seed))
        assert got.dtype == np.uint8
        away.append(np.abs(got.astype(float) - distorted_slowly(image, np.random.default_rng(seed))))
        changed.append(np.abs(got.astype(float) - image))
    assert np.max(away) < 12
    assert np.mean(away) < 1
    assert np.mean(changed) > 10


def test_mmsegmentations_distortion_leaves_grey_grey() -> None:
    """Brightness and contrast change all channels alike, up to 132 * 1.5 and down to 68 * 0.5."""
    grey = np.full((2, 2, 3), 100, np.uint8)
    values = np.array([_distorted(grey, np.random.default_rng(seed)) for seed in range(600)], int)
    assert (values == values[:, :1, :1, :1]).all()
    unchanged = (values[:, 0, 0, 0] == 100).mean()
    assert 0.2 < unchanged < 0.32  # neither brightness nor contrast: a quarter
    assert 34 <= values.min() <= 45
    assert 185 <= values.max() <= 198


def test_mmsegmentations_distortion_often_does_nothing_at_all() -> None:
    image = picture()[0][:4, :4]
    same = [np.array_equal(_distorted(image, np.random.default_rng(seed)), image) for seed in range(600)]
    assert 20 < sum(same) < 60  # a sixteenth
    assert np.array_equal(image, picture()[0][:4, :4])


def test_the_colour_changes_of_a_recipe() -> None:
    image, labels = picture()
    tone = {"brightness": 40.0, "contrast": 1.5, "gamma": 2.0, "channel_noise": 0.3}
    for seed in range(5):
        mmseg = [augment(image, labels, still(colour="mmseg", **more), np.random.default_rng(seed)) for more in ({}, tone)]
        by_tone = augment(image, labels, still(**tone), np.random.default_rng(seed))
        assert np.array_equal(mmseg[0][0], mmseg[1][0])
        assert np.array_equal(mmseg[0][1], by_tone[1])
        assert not np.array_equal(by_tone[0], mmseg[0][0])


@pytest.mark.parametrize("classes", [[], [4], [0, 3, 7, 10], list(range(11))])
def test_paste(classes: list[int]) -> None:
    onto, source = picture(1), picture(2)
    for ids in (onto[1], source[1]):
        ids[:20, :20] = 255
    onto[1][10:40, 10:40] = 255
    kept = [array.copy() for array in (*onto, *source)]
    image, labels, _ = paste(Crop(*onto), Crop(*source), np.array(classes, np.int64))
    assert image.dtype == labels.dtype == np.uint8
    for place in np.ndindex(labels.shape):
        taken = source if source[1][place] in classes else onto
        assert labels[place] == taken[1][place]
        assert tuple(image[place]) == tuple(taken[0][place])
    assert all(np.array_equal(array, before) for array, before in zip((*onto, *source), kept, strict=True))
