"""The loader: the images of a step, their order, and the memory they take."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets, mixture
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet
from fastscnn.training import loader as module
from fastscnn.training.augment import Crop
from fastscnn.training.loader import Batch, Loader
from fastscnn.training.recipes import Recipe, named

BYTES = 96 * 128 * 4  # size of a decoded pair of the tiny dataset


def of(toml: Path, **changes: Any) -> Loader:
    spec = datasets.load(str(toml))
    fields: dict[str, Any] = {"crop": (32, 48), "batch": 4} | changes
    return Loader(mixture.load(spec), [spec.pairs("train")], replace(named("debug"), **fields))


def same(one: Batch, other: Batch) -> bool:
    return (
        np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels) and one.names == other.names
    )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often each image was decoded."""
    counter: Counter[str] = Counter()
    read = DatasetSpec.read

    def counting(spec: DatasetSpec, pair: Pair) -> tuple[UInt8Array, UInt8Array]:
        counter[pair.image.name] += 1
        return read(spec, pair)

    monkeypatch.setattr(DatasetSpec, "read", counting)
    return counter


def test_each_image_once_an_epoch(tiny_dataset: Path) -> None:
    loader = of(tiny_dataset)
    names = [name for batch in loader.batches(0, 6) for name in batch.names]
    epochs = [names[start : start + 6] for start in range(0, 24, 6)]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert len(loader) == 2  # steps per epoch, rounded up
    assert set(names) == {str(pair.image) for pair in datasets.load(str(tiny_dataset)).pairs("train")}


def test_what_a_batch_is(tiny_dataset: Path) -> None:
    batch = of(tiny_dataset).batch(0)
    assert (batch.images.shape, batch.labels.shape, len(batch.names)) == ((4, 32, 48, 3), (4, 32, 48), 4)
    assert batch.images.dtype == batch.labels.dtype == np.uint8
    assert set(np.unique(batch.labels)) <= {*range(11), 255}


@pytest.mark.parametrize("start", [0, 1, 5, 17])
def test_a_step_is_the_same_wherever_one_begins(tiny_dataset: Path, start: int) -> None:
    batches = list(of(tiny_dataset).batches(start, start + 7))
    assert len(batches) == 7
    for step, batch in enumerate(batches, start):
        assert same(batch, of(tiny_dataset).batch(step))


def test_steps_epochs_and_seeds_differ(tiny_dataset: Path) -> None:
    loader = of(tiny_dataset, batch=6)
    first, second = loader.batch(0), loader.batch(1)
    image = first.names[0]
    assert not np.array_equal(first.images[0], second.images[second.names.index(image)])
    assert not same(first, of(tiny_dataset, batch=6, seed=1).batch(0))


def test_threads_keep_the_order(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, made = Loader.batch, defaultdict[int, threading.Event](threading.Event)

    def overtaken(loader: Loader, step: int) -> Batch:
        """Each third batch is ready after the next one."""
        assert step % 3 or made[step + 1].wait(60)
        found = batch(loader, step)
        made[step].set()
        return found

    monkeypatch.setattr(Loader, "batch", overtaken)
    loader = of(tiny_dataset)
    for step, got in enumerate(loader.batches(0, 12)):
        assert same(got, batch(loader, step))


def test_iteration_may_stop_early(tiny_dataset: Path) -> None:
    batches = of(tiny_dataset).batches(0, 1_000_000)
    assert same(next(batches), of(tiny_dataset).batch(0))
    del batches
    assert list(of(tiny_dataset).batches(3, 3)) == []


def test_fewer_images_than_a_batch(tiny_dataset: Path) -> None:
    loader = of(tiny_dataset, batch=14)
    assert len(loader) == 1
    batch = loader.batch(0)
    assert sorted(Counter(batch.names).values()) == [2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(("room", "decoded_again"), [(0, 6), (2 * BYTES + 1, 4), (6 * BYTES, 0)])
def test_memory_is_bounded(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, reads: Counter[str], room: int, decoded_again: int
) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", room)
    loader = of(tiny_dataset, batch=6)
    first = loader.batch(0)
    assert reads.total() == 6
    loader.batch(1)
    assert reads.total() == 6 + decoded_again
    assert sum(image.nbytes + labels.nbytes for image, labels, _ in loader._cache.values()) <= room
    assert same(first, of(tiny_dataset, batch=6).batch(0))


def test_threads_at_once_do_not_lose_room(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 6 * BYTES)
    loader = of(tiny_dataset, batch=12)
    list(loader.batches(0, 6))
    assert len(loader._cache) == 6
    assert loader._room == 0


def test_an_image_and_labels_that_differ_in_size_are_named(tiny_dataset: Path, tmp_path: Path) -> None:
    spec = datasets.load(str(tiny_dataset))
    image = spec.pairs("train")[0].image
    images.write(tmp_path / "wrong.png", np.zeros((96, 64), np.uint8))
    loader = Loader(mixture.load(spec), [[Pair(image, tmp_path / "wrong.png")]], replace(named("debug"), crop=(32, 32)))
    with pytest.raises(FastSCNNError, match=r"wrong\.png: is 96x64 but its image is 96x128"):
        list(loader.batches(0, 1))


MIXES: list[dict[str, float]] = [{"balanced_crops": 0.5}, {"classmix": 0.7}, {"paste": 0.7},
                                 {"balanced_crops": 0.5, "classmix": 0.4, "paste": 0.6}]


@pytest.mark.parametrize("mix", MIXES)
def test_a_mixed_step_is_the_same_wherever_one_begins(tiny_dataset: Path, mix: dict[str, float]) -> None:
    for step, batch in enumerate(of(tiny_dataset, **mix).batches(3, 8), 3):
        assert same(batch, of(tiny_dataset, **mix).batch(step))
    assert not same(of(tiny_dataset, **mix).batch(3), of(tiny_dataset, **mix, seed=1).batch(3))


def test_images_are_counted_only_where_that_is_needed(tiny_dataset: Path, reads: Counter[str]) -> None:
    of(tiny_dataset)
    of(tiny_dataset, classmix=1.0)
    assert reads.total() == 0
    for mix in ({"balanced_crops": 0.1}, {"paste": 0.1}):
        reads.clear()
        loader = of(tiny_dataset, **mix)
        assert (len(reads), reads.total()) == (6, 6)
        loader.batch(0)
        assert reads.total() == 6  # they are cached


def test_classes_without_pixels_do_not_change_what_is_rare(tiny_dataset: Path) -> None:
    spec = datasets.load(tiny_dataset)
    more = replace(spec, label_set=LabelSet((*spec.label_set.names, *(f"ghost {number}" for number in range(30)))))
    rare = [Loader(mixture.load(one), [one.pairs("train")], replace(named("debug"), paste=0.5))._rare for one in (spec, more)]
    assert len(rare[0])
    assert rare[0].tolist() == rare[1].tolist()


@pytest.fixture
def focuses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, bytes]]:
    """Return the focus class of each crop and the labels of its image; nothing is augmented."""
    asked: list[tuple[int | None, bytes]] = []

    def note(
        image: UInt8Array, labels: UInt8Array, recipe: Recipe, rng: np.random.Generator, focus: int | None, soft: None
    ) -> Crop:
        assert recipe.balanced_crops
        assert focus is None or (labels == focus).any()
        asked.append((focus, labels.tobytes()))
        return Crop(image[:32, :48], labels[:32, :48])

    monkeypatch.setattr(module, "augment", note)
    return asked


def labels_of(toml: Path) -> list[UInt8Array]:
    spec = datasets.load(str(toml))
    return [spec.read(pair)[1] for pair in spec.pairs("train")]


def test_balanced_crops_are_uniform(tiny_dataset: Path, focuses: list[tuple[int | None, bytes]]) -> None:
    """Classes are drawn uniformly, and for each class the images that contain it."""
    loader = of(tiny_dataset, balanced_crops=1.0)
    for step in range(400):
        loader.batch(step)
    labels = labels_of(tiny_dataset)
    present = [class_ for class_ in range(11) if any((ids == class_).any() for ids in labels)]
    asked = Counter(focus for focus, _ in focuses)
    assert sorted(key for key in asked if key is not None) == present
    even = 1600 / len(present)
    assert all(abs(count - even) < 4 * even**0.5 for count in asked.values())
    for class_ in present:
        having = [ids.tobytes() for ids in labels if (ids == class_).any()]
        images_asked = Counter(ids for focus, ids in focuses if focus == class_)
        assert set(images_asked) == set(having)
        share = asked[class_] / len(having)
        assert all(abs(count - share) < 5 * share**0.5 for count in images_asked.values())


def test_balanced_crops_come_as_often_as_the_recipe_says(
    tiny_dataset: Path, focuses: list[tuple[int | None, bytes]]
) -> None:
    loader = of(tiny_dataset, balanced_crops=0.3)
    for step in range(150):
        loader.batch(step)
    assert 130 < sum(focus is not None for focus, _ in focuses) < 230  # of 600
    once = of(tiny_dataset, batch=6, balanced_crops=1e-9)
    assert len(set(once.batch(0).names)) == 6  # without a focus, an epoch still has every image once


def test_a_balanced_patch_names_its_image_and_holds_its_class(tiny_dataset: Path) -> None:
    """A random crop contains few of the eleven classes; each class is the focus of about a tenth of the balanced crops."""
    loader, plain = (of(tiny_dataset, balanced_crops=chance, scale=(1.0, 1.0)) for chance in (1.0, 0.0))
    spec = datasets.load(str(tiny_dataset))
    known = {str(pair.image) for pair in spec.pairs("train")}
    held, usual = Counter[int](), Counter[int]()
    for step in range(60):
        batch = loader.batch(step)
        assert set(batch.names) <= known
        for counter, labels in ((held, batch.labels), (usual, plain.batch(step).labels)):
            counter.update(class_ for ids in labels for class_ in np.unique(ids).tolist())
    present = {int(class_) for ids in labels_of(tiny_dataset) for class_ in np.unique(ids)} - {255}
    assert min(held[class_] for class_ in present) >= 12  # of 240
    rarest = min(present, key=lambda class_: usual[class_])
    assert held[rarest] > usual[rarest]


def mixed(onto: Batch, source: int, index: int, classes: tuple[int, ...]) -> tuple[UInt8Array, UInt8Array]:
    """Return the crop `index` with these classes of the crop `source` pasted over it."""
    mask = np.isin(onto.labels[source], classes)
    image = np.where(mask[..., None], onto.images[source], onto.images[index])
    return image, np.where(mask, onto.labels[source], onto.labels[index])


def test_classmix_pastes_half_of_the_classes_of_the_patch_before(tiny_dataset: Path) -> None:
    chosen: set[int] = set()
    for step in range(4):
        plain, batch = (of(tiny_dataset, classmix=chance).batch(step) for chance in (0.0, 1.0))
        assert batch.names == plain.names
        for index in range(4):
            present = [class_ for class_ in np.unique(plain.labels[index - 1]).tolist() if class_ != 255]
            fitting = []
            for classes in itertools.combinations(present, len(present) // 2):
                image, labels = mixed(plain, index - 1, index, classes)
                if np.array_equal(image, batch.images[index]) and np.array_equal(labels, batch.labels[index]):
                    fitting.append(classes)
            assert fitting
            chosen.update(fitting[0])
    assert len(chosen) > 5  # not always the same classes


@pytest.mark.parametrize("mean", ["classmix", "paste"])
def test_patches_are_mixed_as_often_as_the_recipe_says(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, mean: str) -> None:
    pasted: list[None] = []

    def note(onto: tuple[UInt8Array, UInt8Array], *_: object) -> tuple[UInt8Array, UInt8Array]:
        pasted.append(None)
        return onto

    monkeypatch.setattr(module, "paste", note)
    for chance, low, high in ((0.3, 70, 170), (1.0, 400, 400), (0.0, 0, 0)):
        pasted.clear()
        loader = of(tiny_dataset, crop=(32, 32), **{mean: chance})
        for step in range(100):
            loader.batch(step)
        assert low <= len(pasted) <= high


def test_paste_takes_the_rare_classes_of_the_patch_before(tiny_dataset: Path) -> None:
    counts = np.bincount(np.stack(labels_of(tiny_dataset)).ravel(), minlength=256)[:11]
    rare = tuple(np.flatnonzero(counts < counts.sum() / 44).tolist())
    assert 1 < len(rare) < 9
    changed = 0
    for step in range(6):
        plain, batch = (of(tiny_dataset, paste=chance).batch(step) for chance in (0.0, 1.0))
        for index in range(4):
            image, labels = mixed(plain, index - 1, index, rare)
            assert np.array_equal(batch.images[index], image)
            assert np.array_equal(batch.labels[index], labels)
            changed += not np.array_equal(labels, plain.labels[index])
    assert changed > 6


def test_a_patch_is_mixed_once(tiny_dataset: Path) -> None:
    assert same(of(tiny_dataset, classmix=1.0, paste=1.0).batch(2), of(tiny_dataset, classmix=1.0).batch(2))
