"""Corruption of crops: each kind by what it does to a picture, and its place in the augmentation."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.training import corruption
from fastscnn.training.augment import augment
from fastscnn.training.corruption import KINDS, corrupt
from fastscnn.training.recipes import named

SCENE = synthetic.draw(96, 128)
STRENGTHS = (0.0, 0.5, 1.0)
RECIPE = replace(named("debug"), crop=(64, 96), channel_noise=0.2)


def made(kind: str, strength: float, seed: int = 0, image: UInt8Array = SCENE.image) -> UInt8Array:
    return KINDS[kind](image, strength, np.random.default_rng(seed))


def grey(value: int = 128) -> UInt8Array:
    return np.full((96, 128, 3), value, np.uint8)


def deviation(kind: str, strength: float, value: int = 128) -> float:
    """Return the standard deviation that a kind gives to an even picture, over seeds."""
    return float(np.mean([made(kind, strength, seed, grey(value)).std() for seed in range(12)]))


def gradient(image: UInt8Array) -> float:
    """Return the energy of the differences between neighbours."""
    values = image.astype(float)
    return float(np.square(np.diff(values, axis=0)).mean() + np.square(np.diff(values, axis=1)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    """The image keeps its shape, is not changed itself, and depends on the strength and the random numbers only."""
    image = SCENE.image.copy()
    changes = []
    for strength in STRENGTHS:
        first, again = made(kind, strength, 1, image), made(kind, strength, 1, image)
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        changes.append(np.abs(first.astype(float) - image).mean())
    assert np.array_equal(image, SCENE.image)
    assert 0 < changes[0] < changes[1] < changes[2]
    assert changes[0] < 40
    assert kind in ("defocus_blur", "jpeg") or not np.array_equal(made(kind, 1.0, 1), made(kind, 1.0, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(32, 32), (33, 47)])
def test_small_and_odd_sizes(kind: str, shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(SCENE.image[: shape[0], : shape[1]])
    for strength in STRENGTHS:
        assert made(kind, strength, 0, image).shape == (*shape, 3)


@pytest.mark.parametrize(("kind", "low", "high"), [("gaussian_noise", 4, 60), ("shot_noise", 6 * 0.71, 80 * 0.71)])
def test_noise_has_its_standard_deviation(kind: str, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "GRAINS", (1,))
    assert deviation(kind, 0) == pytest.approx(low, rel=0.03)
    assert deviation(kind, 1) == pytest.approx(high, rel=0.05)  # some values are clipped
    assert deviation(kind, 0) < deviation(kind, 0.3) < deviation(kind, 0.6) < deviation(kind, 1)
    even = made(kind, 0.5, 3, grey())
    assert even.mean() == pytest.approx(128, abs=0.5)
    assert abs(np.corrcoef(even[..., 0].ravel(), even[..., 1].ravel())[0, 1]) < 0.05


def test_shot_noise_grows_with_the_root_of_the_grey_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "GRAINS", (1,))
    assert deviation("shot_noise", 0.5, 160) / deviation("shot_noise", 0.5, 40) == pytest.approx(2, rel=0.05)
    assert deviation("shot_noise", 1.0, 0) == 0


@pytest.mark.parametrize(("grain", "low", "high"), [(1, -0.05, 0.05), (2, 0.65, 0.8), (3, 0.8, 0.92)])
def test_coarse_grains_make_neighbours_alike(grain: int, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "GRAINS", (grain,))
    noise = made("gaussian_noise", 0.5, 0, grey()).astype(float) - 128
    assert low < (noise[:, 1:] * noise[:, :-1]).mean() / np.square(noise).mean() < high


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur"])
def test_blur(kind: str) -> None:
    """A blur takes gradients away, the weakest one already, and keeps the mean."""
    energies = [gradient(SCENE.image), *(gradient(made(kind, strength, 2)) for strength in (0, 0.3, 0.6, 1))]
    assert all(after < before for before, after in pairwise(energies))
    assert energies[1] > 0.3 * energies[0]
    assert energies[-1] < 0.3 * energies[0]
    assert made(kind, 1.0).mean() == pytest.approx(SCENE.image.mean(), abs=1.5)
    assert np.array_equal(made(kind, 1.0, 0, grey()), grey())


@pytest.mark.parametrize(("strength", "radius"), [(0.0, 0.6), (1.0, 5.0)])
def test_defocus_spreads_a_point_over_a_disc(strength: float, radius: float) -> None:
    point = grey(0)
    point[48, 64] = 255
    spread = made("defocus_blur", strength, 0, point)[..., 0].astype(float)
    down, right = np.indices(spread.shape) - np.array([48, 64])[:, None, None]
    away = np.hypot(down, right)
    assert spread[away >= radius + 0.5].max() == 0
    assert spread[away < radius - 0.5].min(initial=255) >= spread.max() - 1
    assert spread.sum() == pytest.approx(255, rel=0.15)


def test_motion_spreads_a_point_over_a_line() -> None:
    point = grey(0)
    point[48, 64] = 255
    angles = []
    for seed in range(20):
        rows, columns = np.nonzero(made("motion_blur", 1.0, seed, point)[..., 0])
        spread, directions = np.linalg.eigh(np.cov(np.stack([rows, columns])))
        assert spread[0] < 1
        assert spread[1] > 12  # a line of 16 pixels has a variance of 21
        angles.append(np.arctan2(*directions[:, 1]) % np.pi)
    assert np.std(angles) > 0.5


@pytest.mark.parametrize(("strength", "quality"), [(0.0, 60), (0.5, 32), (1.0, 5)])
def test_jpeg_is_that_of_another_codec(strength: float, quality: int) -> None:
    """Pillow and OpenCV differ in their transforms by rounding only; exchanged channels or another quality give far more."""
    stored = io.BytesIO()
    Image.fromarray(SCENE.image).save(stored, "jpeg", quality=quality)
    by_pillow = np.asarray(Image.open(stored).convert("RGB"), float)
    assert np.abs(made("jpeg", strength) - by_pillow).mean() < 0.5


def test_fog_is_bright_and_pale() -> None:
    for seed in range(10):
        pictures = [SCENE.image, *(made("fog", strength, seed) for strength in STRENGTHS)]
        means, contrasts = [picture.mean() for picture in pictures], [gradient(picture) for picture in pictures]
        assert means == sorted(means)
        assert contrasts == sorted(contrasts, reverse=True)
        assert contrasts[-1] < 0.3 * contrasts[0]
    falls = [fog[:16].mean() - fog[-16:].mean() for fog in (made("fog", 0.6, seed, grey(0)) for seed in range(30))]
    assert np.mean(falls) > 10  # more at the top
    assert all(made("fog", 0.6, seed, grey(0)).std(axis=1).max() > 3 for seed in range(10))  # clouds


def test_night_is_dark_and_of_low_contrast() -> None:
    for seed in range(10):
        pictures = [SCENE.image, *(made("night", strength, seed) for strength in STRENGTHS)]
        means, contrasts = [picture.mean() for picture in pictures], [picture.std() for picture in pictures]
        assert means == sorted(means, reverse=True)
        assert contrasts == sorted(contrasts, reverse=True)
        assert means[-1] < 0.5 * means[0]
    casts = np.array([made("night", 1.0, seed, grey()).mean(axis=(0, 1)) for seed in range(10)])
    assert (np.ptp(casts, axis=1) > 2).all()


def test_exposure_shifts_the_mean_and_reduces_the_contrast() -> None:
    pictures = [made("exposure", 1.0, seed) for seed in range(60)]
    shifts = np.array([picture.mean() for picture in pictures]) - SCENE.image.mean()
    assert shifts.min() < -50
    assert shifts.max() > 50
    contrasts = np.array([picture.std() for picture in pictures]) / SCENE.image.std()
    assert contrasts.max() < 1.05
    assert contrasts.min() < 0.2
    even = made("exposure", 1.0, 3, grey())
    assert np.ptp(even) == 0  # the mean keeps its contrast
    assert np.array_equal(made("exposure", 0.5, 4)[..., ::-1], made("exposure", 0.5, 4, SCENE.image[..., ::-1].copy()))


def test_a_colour_cast_is_a_factor_of_each_channel() -> None:
    factors = np.array([made("colour_cast", 1.0, seed, grey(100))[0, 0] / 100 for seed in range(60)])
    assert factors.min() >= 0.5
    assert factors.max() <= 1.5
    assert np.ptp(factors, axis=0).min() > 0.8
    weak = np.array([made("colour_cast", 0.0, seed, grey(100))[0, 0] / 100 for seed in range(60)])
    assert abs(weak - 1).max() < 0.085
    ramp = np.repeat(np.arange(0, 128, dtype=np.uint8)[None, :, None], 3, axis=2)
    cast = made("colour_cast", 1.0, 1, ramp)
    np.testing.assert_allclose(cast, ramp * (cast[:, -1:] / 127), atol=1)  # both are rounded


def test_every_kind_occurs_alone_and_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds of each call are recorded: one or two different ones, in the order of KINDS, of all strengths."""
    calls: list[tuple[int, float]] = []

    def kind(place: int) -> Callable[..., UInt8Array]:
        def record(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
            calls.append((place, strength))
            return image

        return record

    monkeypatch.setattr(corruption, "KINDS", {name: kind(place) for place, name in enumerate(KINDS)})
    rng, alone, pairs, strengths = np.random.default_rng(0), set(), 0, []
    for _ in range(800):
        calls.clear()
        corrupt(SCENE.image, rng)
        places = [place for place, _ in calls]
        assert places == sorted(set(places))
        strengths += [strength for _, strength in calls]
        if len(places) == 1:
            alone.add(places[0])
        pairs += len(places) == 2
    assert alone == set(range(len(KINDS)))
    assert 150 < pairs < 250  # a quarter
    assert np.quantile(strengths, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.05)


def test_without_corruption_no_random_number_is_drawn() -> None:
    """Earlier trainings are resumed with the same crops: scale, flip, place and colours are all that is drawn."""
    drawn, counted = np.random.default_rng(5), np.random.default_rng(5)
    augment(SCENE.image, SCENE.labels, RECIPE, drawn)
    counted.random(1 + 1 + 2 + 6)
    assert drawn.bit_generator.state == counted.bit_generator.state


def test_corruption_comes_last_and_leaves_the_labels() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        clean, labels, _ = augment(SCENE.image, SCENE.labels, RECIPE, rng)
        assert rng.random() < 1
        expected = corrupt(clean, rng)
        found, ids, _ = augment(SCENE.image, SCENE.labels, replace(RECIPE, corruption=1.0), np.random.default_rng(seed))
        assert np.array_equal(found, expected)
        assert not np.array_equal(found, clean)
        assert np.array_equal(ids, labels)


def test_a_fourth_channel_is_left() -> None:
    image = np.concatenate([SCENE.image, SCENE.image[..., :1]], axis=2)
    for seed in range(10):
        clean, corrupted = (
            augment(image, SCENE.labels, replace(RECIPE, corruption=share), np.random.default_rng(seed))[0]
            for share in (0.0, 1.0)
        )
        assert np.array_equal(clean[..., 3], corrupted[..., 3])
        assert not np.array_equal(clean[..., :3], corrupted[..., :3])


def test_as_many_crops_are_corrupted_as_the_recipe_says() -> None:
    changed = 0
    for seed in range(400):
        clean, corrupted = (
            augment(SCENE.image, SCENE.labels, replace(RECIPE, corruption=share), np.random.default_rng(seed))[0]
            for share in (0.0, 0.3)
        )
        changed += not np.array_equal(clean, corrupted)
    assert 90 < changed < 150
