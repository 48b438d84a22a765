"""Training batches: decoded once, kept in bounded memory, augmented ahead of time by threads.

What batch `step` holds depends on the seed and on `step` alone, so that a resumed training sees what an
uninterrupted one would have seen. OpenCV and Pillow release the interpreter's lock, so threads are enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from fastscnn.arrays import Int64Array, UInt8Array
from fastscnn.datasets.spec import DatasetSpec, Pair
from fastscnn.learn.augment import augment
from fastscnn.recipes import Recipe

_CACHE_BYTES = 4 << 30  # decoded images kept in memory: 30 times CamVid, 500 frames of Cityscapes
_AHEAD = 4  # batches in the making while the network works on one


@dataclass(frozen=True)
class Batch:
    """Patches of one step: images uint8 [N, h, w, 3], labels uint8 [N, h, w], and the files they come from."""

    images: UInt8Array
    labels: UInt8Array
    names: tuple[str, ...]


class Loader:
    """Batches of `pairs` as `recipe` wants them."""

    def __init__(self, spec: DatasetSpec, pairs: Sequence[Pair], recipe: Recipe, threads: int = 2) -> None:
        self._spec, self._pairs, self._recipe, self._threads = spec, pairs, recipe, threads
        self._cache: dict[int, tuple[UInt8Array, UInt8Array]] = {}
        self._room = _CACHE_BYTES
        self._lock = Lock()  # of the two above

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
        """The batch of one step; every image comes once an epoch, in an order of that epoch's own."""
        first = step * self._recipe.batch
        samples = [self._sample(place) for place in range(first, first + self._recipe.batch)]
        patches, labels, names = zip(*samples, strict=True)
        return Batch(np.stack(patches), np.stack(labels), names)

    def _sample(self, place: int) -> tuple[UInt8Array, UInt8Array, str]:
        epoch, index = divmod(place, len(self._pairs))
        chosen = int(_order(self._recipe.seed, epoch, len(self._pairs))[index])
        image, labels = self._read(chosen)
        rng = np.random.default_rng((self._recipe.seed, 1, place))
        patch, ids = augment(image, labels, self._recipe, rng)
        return patch, ids, str(self._pairs[chosen].image)

    def _read(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        if index in self._cache:
            return self._cache[index]
        image, labels = self._spec.read(self._pairs[index])
        with self._lock:
            if index not in self._cache and image.nbytes + labels.nbytes <= self._room:
                self._room -= image.nbytes + labels.nbytes
                self._cache[index] = image, labels
        return image, labels


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Int64Array:
    """The images of an epoch in the order of their coming; kept, because every sample of the epoch asks for it."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)
