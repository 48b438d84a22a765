"""Training batches: images are decoded once, kept in bounded memory, and augmented ahead of time by threads.

A batch depends on the seed and its step only, so a resumed training sees the same batches as an uninterrupted one. With
several processes, each makes its part of the same batch. OpenCV and Pillow release the interpreter's lock, so threads are
enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from threading import Lock

import numpy as np

from fastscnn.base import machine
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.training.augment import augment, paste
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.recipes import Recipe

_CACHE_BYTES = 4 << 30  # of decoded images kept in memory per machine: 30 times CamVid, 500 frames of Cityscapes
_AHEAD = 4  # batches prepared while the network works on one

Sample = tuple[UInt8Array, UInt8Array, str]  # a crop, its labels, and the image file


@dataclass(frozen=True)
class Batch:
    """Crops of one step, or one process's part of them.

    Attributes:
        images: uint8 [N, h, w, channels].
        labels: uint8 [N, h, w] train ids; in classification, int64 [N] classes.
        names: the image files, for messages.
    """

    images: UInt8Array
    labels: UInt8Array | Int64Array
    names: tuple[str, ...]


class Loader:
    """Batches of augmented crops.

    Args:
        spec: the dataset.
        pairs: images and labels to train on.
        recipe: batch, crop and augmentation; `size` is the network's input.
        threads: number of threads that decode and augment.
        world: the processes that train together; each makes its part of a batch.
    """

    def __init__(
        self, spec: DatasetSpec, pairs: Sequence[Pair], recipe: Recipe, threads: int = 2, world: World = ALONE
    ) -> None:
        self._spec, self._pairs, self._recipe, self._threads = spec, pairs, recipe, threads
        self._cache: dict[int, tuple[UInt8Array, UInt8Array]] = {}
        self._room = _CACHE_BYTES // world.local_size  # bytes left in the cache
        self._lock = Lock()  # for both of these
        self._part = world.part(recipe.batch)
        if recipe.balanced_crops or recipe.paste:
            self._count()

    def __len__(self) -> int:
        """Steps per epoch, rounded up; an epoch may end within a batch."""
        return math.ceil(len(self._pairs) / self._recipe.batch)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps `start` to `stop - 1`, in order."""
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in range(start, stop):
                    ahead.append(pool.submit(self.batch, step))
                    if len(ahead) > _AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def batch(self, step: int) -> Batch:
        """Return the batch of one step. Without balanced crops, an epoch has every image once, in its own random order."""
        recipe = self._recipe
        first = step * recipe.batch
        sample = cache(lambda index: self._sample(first + index))  # the source of a paste may be another process's sample
        pasted = [
            self._paste(first + index, sample(index), partial(sample, (index - 1) % recipe.batch)) for index in self._part
        ]
        patches, labels = zip(*pasted, strict=True)
        return Batch(np.stack(patches), np.stack(labels), tuple(sample(index)[2] for index in self._part))

    def _sample(self, place: int) -> Sample:
        recipe = self._recipe
        epoch, index = divmod(place, len(self._pairs))
        chosen = int(order(recipe.seed, epoch, len(self._pairs))[index])
        rng = np.random.default_rng((recipe.seed, 1, place))
        focus = None
        if recipe.balanced_crops and rng.random() < recipe.balanced_crops:
            focus = int(rng.choice(np.flatnonzero(self._pixels.any(axis=0))))
            chosen = int(rng.choice(np.flatnonzero(self._pixels[:, focus])))
        patch, ids = augment(*self._read(chosen), recipe, rng, focus)
        return patch, ids, str(self._pairs[chosen].image)

    def _paste(self, place: int, onto: Sample, source: Callable[[], Sample]) -> tuple[UInt8Array, UInt8Array]:
        """Return the crop `onto`, with classes of `source` pasted over it as often as the recipe says."""
        rng = np.random.default_rng((self._recipe.seed, 3, place))
        classmix, rare = rng.random(2) < (self._recipe.classmix, self._recipe.paste)
        if classmix:
            present = np.setdiff1d(source()[1], [IGNORE_INDEX])
            return paste(onto[:2], source()[:2], rng.permutation(present)[: len(present) // 2])
        if rare:
            return paste(onto[:2], source()[:2], self._rare)
        return onto[:2]

    def _count(self) -> None:
        """Count the pixels of each class in each image, for balanced crops and pasting."""
        with ThreadPoolExecutor(self._threads) as pool:
            labels = pool.map(lambda index: self._read(index)[1], range(len(self._pairs)))
            counts = [np.bincount(ids.ravel(), minlength=256)[: len(self._spec.label_set)] for ids in labels]
        self._pixels: Int64Array = np.stack(counts)
        pixels = self._pixels.sum(axis=0)
        self._rare: Int64Array = np.flatnonzero(pixels < pixels.sum() / (4 * len(pixels)))

    def _read(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        if index in self._cache:
            return self._cache[index]
        image, labels = self._spec.read(self._pairs[index])
        with self._lock:
            if index not in self._cache and image.nbytes + labels.nbytes <= self._room:
                self._room -= image.nbytes + labels.nbytes
                self._cache[index] = image, labels
        return image, labels


def loading_threads(world: World = ALONE) -> int:
    """Return the number of threads that make batches: this process's part of the CPUs, less one that trains; at least 2."""
    return max(2, machine.threads() // world.local_size - 1)


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, count: int) -> Int64Array:
    """Return the order of the images in an epoch. Cached, since every sample of the epoch needs it."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)
