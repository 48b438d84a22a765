"""Training batches: decoded once, kept in bounded memory, augmented ahead of time by threads.

What batch `step` holds depends on the seed and on `step` alone, so that a resumed training sees what an
uninterrupted one would have seen; of several processes each makes its part of that same batch. OpenCV and Pillow
release the interpreter's lock, so threads are enough.
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
from fastscnn.training import distributed
from fastscnn.training.augment import augment, paste
from fastscnn.training.recipes import Recipe

_CACHE_BYTES = 4 << 30  # decoded images kept in a machine's memory: 30 times CamVid, 500 frames of Cityscapes
_AHEAD = 4  # batches in the making while the network works on one

Sample = tuple[UInt8Array, UInt8Array, str]  # a patch, its labels, and the file they come from


@dataclass(frozen=True)
class Batch:
    """Patches of one step, or one process's part of them.

    Images uint8 [N, h, w, 3], labels uint8 [N, h, w], and the files they come from.
    """

    images: UInt8Array
    labels: UInt8Array | Int64Array  # int64 [N] where each image has one class
    names: tuple[str, ...]


class Loader:
    """Batches of `pairs` as `recipe` wants them; of several processes, the part of this one."""

    def __init__(self, spec: DatasetSpec, pairs: Sequence[Pair], recipe: Recipe, threads: int = 2) -> None:
        self._spec, self._pairs, self._recipe, self._threads = spec, pairs, recipe, threads
        self._cache: dict[int, tuple[UInt8Array, UInt8Array]] = {}
        self._room = _CACHE_BYTES // distributed.neighbours()
        self._part = distributed.part(recipe.batch)
        self._lock = Lock()  # of the two above
        if recipe.balanced_crops or recipe.paste:
            self._count()

    def __len__(self) -> int:
        """Steps an epoch, rounded up; an epoch may end within a batch."""
        return math.ceil(len(self._pairs) / self._recipe.batch)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`, in order."""
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
        """The batch of one step; every image comes once an epoch, in an order of that epoch's own, but for balanced crops."""
        recipe = self._recipe
        first = step * recipe.batch
        sample = cache(lambda index: self._sample(first + index))  # the one pasted may be another process's
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
        """The patch at `place`, with classes of the `source` over it where the recipe and chance have it so."""
        rng = np.random.default_rng((self._recipe.seed, 3, place))
        classmix, rare = rng.random(2) < (self._recipe.classmix, self._recipe.paste)
        if classmix:
            present = np.setdiff1d(source()[1], [IGNORE_INDEX])
            return paste(onto[:2], source()[:2], rng.permutation(present)[: len(present) // 2])
        if rare:
            return paste(onto[:2], source()[:2], self._rare)
        return onto[:2]

    def _count(self) -> None:
        """Counts the pixels of each class in each image, for the choices that depend on them."""
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


def loading_threads() -> int:
    """Threads that make batches: this process's part of the processors that it may use, but for one that trains."""
    return max(2, machine.threads() // distributed.neighbours() - 1)


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, count: int) -> Int64Array:
    """The images of an epoch in the order of their coming; kept, because every sample of the epoch asks for it."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)
