"""The loader: which images a step holds, in which order they come, and how much memory they take."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn import datasets, images
from fastscnn.arrays import UInt8Array
from fastscnn.datasets import DatasetSpec, Pair
from fastscnn.errors import FastSCNNError
from fastscnn.learn import loader as module
from fastscnn.learn.loader import Batch, Loader
from fastscnn.recipes import named

BYTES = 96 * 128 * 4  # of a decoded pair of the tiny dataset


def of(toml: Path, **changes: Any) -> Loader:
    spec = datasets.load(str(toml))
    fields: dict[str, Any] = {"crop": (32, 48), "batch": 4} | changes
    return Loader(spec, spec.pairs("train"), replace(named("debug"), **fields))


def same(one: Batch, other: Batch) -> bool:
    return (
        np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels) and one.names == other.names
    )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was decoded."""
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
    assert len(loader) == 2  # steps an epoch, rounded up
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
    batch = Loader.batch

    def slow(loader: Loader, step: int) -> Batch:
        time.sleep(0.05 if step % 3 == 0 else 0)
        return batch(loader, step)

    monkeypatch.setattr(Loader, "batch", slow)
    loader = of(tiny_dataset)
    for step, got in enumerate(loader.batches(0, 12)):
        assert same(got, batch(loader, step))


def test_leaving_early_is_fine(tiny_dataset: Path) -> None:
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
    monkeypatch.setattr(module, "_CACHE_BYTES", room)
    loader = of(tiny_dataset, batch=6)
    first = loader.batch(0)
    assert reads.total() == 6
    loader.batch(1)
    assert reads.total() == 6 + decoded_again
    assert sum(image.nbytes + labels.nbytes for image, labels in loader._cache.values()) <= room
    assert same(first, of(tiny_dataset, batch=6).batch(0))


def test_threads_at_once_do_not_lose_room(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_BYTES", 6 * BYTES)
    loader = of(tiny_dataset, batch=12)
    list(loader.batches(0, 6))
    assert len(loader._cache) == 6
    assert loader._room == 0


def test_an_image_and_labels_that_differ_in_size_are_named(tiny_dataset: Path, tmp_path: Path) -> None:
    spec = datasets.load(str(tiny_dataset))
    image = spec.pairs("train")[0].image
    images.write(tmp_path / "wrong.png", np.zeros((96, 64), np.uint8))
    loader = Loader(spec, [Pair(image, tmp_path / "wrong.png")], replace(named("debug"), crop=(32, 32)))
    with pytest.raises(FastSCNNError, match=r"wrong\.png: has 64x96 pixels but its image 128x96"):
        list(loader.batches(0, 1))
