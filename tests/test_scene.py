"""The generated street scene: deterministic, completely labelled, and arranged like a street."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.data.builtin import camvid


@pytest.fixture(scope="module", autouse=True)
def drawn_anew() -> Iterator[None]:
    """Draw each scene: other tests keep them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw", inspect.unwrap(synthetic.draw))
        yield


@pytest.fixture(scope="module")
def street() -> synthetic.Scene:
    return synthetic.draw()


def test_classes_are_camvids() -> None:
    assert camvid.LABELS.names == synthetic.CLASSES
    named = [synthetic.CLASSES[index] for index in (synthetic.SKY, synthetic.ROAD, synthetic.BICYCLIST)]
    assert named == ["Sky", "Road", "Bicyclist"]


def test_the_default_scene_shows_every_class(street: synthetic.Scene) -> None:
    assert street.image.shape == (720, 960, 3)
    assert street.labels.shape == (720, 960)
    assert street.image.dtype == street.labels.dtype == np.uint8
    counts = np.bincount(street.labels.ravel(), minlength=11)
    assert len(counts) == 11
    assert counts.min() > 300  # 0.04 % of the image


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_other_seeds_show_every_class_too(seed: int) -> None:
    assert set(np.unique(synthetic.draw(360, 480, seed).labels)) == set(range(11))


def test_the_same_seed_draws_the_same_scene() -> None:
    first, again, other = (synthetic.draw(120, 160, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.labels, other.labels)


def test_a_seed_is_one_street_at_every_size(street: synthetic.Scene) -> None:
    assert np.mean(synthetic.draw(360, 480).labels == street.labels[1::2, 1::2]) > 0.97


@pytest.mark.parametrize("size", [(64, 64), pytest.param((97, 301), marks=pytest.mark.slow), (333, 65)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    drawn = synthetic.draw(*size, seed=2)
    assert drawn.image.shape == (*size, 3)
    assert drawn.labels.shape == size
    assert drawn.labels.max() < len(synthetic.CLASSES)
    assert drawn.image.flags.c_contiguous
    assert drawn.labels.flags.c_contiguous


@pytest.mark.parametrize("size", [(63, 960), (720, 10), (0, 0)])
def test_a_scene_too_small_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(FastSCNNError, match="at least 64"):
        synthetic.draw(*size)


@pytest.mark.parametrize("seed", [0, 7])
def test_things_are_where_a_street_has_them(seed: int) -> None:
    labels = synthetic.draw(240, 320, seed).labels
    assert not np.any(labels[:100] == synthetic.ROAD)  # the horizon lies at row 113
    assert not np.any(labels[:100] == synthetic.PAVEMENT)
    assert not np.any(labels[115:] == synthetic.SKY)
    assert np.all(labels[-20:, 110:210] == synthetic.ROAD)
    assert 0.08 < np.mean(labels == synthetic.SKY) < 0.3
    assert 0.25 < np.mean(labels == synthetic.ROAD) < 0.45


def test_colours_lie_in_camvids_range(street: synthetic.Scene) -> None:
    """The mean of each class is within one standard deviation of its mean over CamVid's training frames."""
    camvid_means = {synthetic.SKY: (235, 36), synthetic.BUILDING: (91, 34), synthetic.ROAD: (75, 34),
                    synthetic.PAVEMENT: (69, 31),
                    synthetic.TREE: (98, 38), synthetic.CAR: (77, 33), synthetic.PEDESTRIAN: (41, 21),
                    synthetic.BICYCLIST: (42, 19)}
    for label, (mean, deviation) in camvid_means.items():
        drawn = float(street.image[street.labels == label].mean())
        assert abs(drawn - mean) < deviation, synthetic.CLASSES[label]
