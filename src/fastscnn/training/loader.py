"""Training batches: images are decoded once, kept in bounded memory, and augmented ahead of time by threads.

A batch depends on the seed and its step only, so a resumed training sees the same batches as an uninterrupted one. Of a
mixture, an epoch has as many crops as all datasets have images, each dataset its share of them. Every crop that is pasted from
comes from the same dataset as the one that it is pasted onto, so one image never has labels of two datasets. With
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
from fastscnn.base.types import BoolArray, Float32Array, Int64Array, UInt8Array
from fastscnn.data.datasets import Pair
from fastscnn.data.mixture import Member, Mixture
from fastscnn.data.soft import grid_size
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.training.augment import Crop, augment, paste
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.recipes import Recipe

CACHE_BYTES = 4 << 30  # of decoded images kept in memory per machine: 30 times CamVid, 500 frames of Cityscapes
AHEAD = 4  # batches prepared while the network works on one

Read = tuple[UInt8Array, UInt8Array, UInt8Array | None]  # an image, its labels, and its soft labels if it has any
Sample = tuple[Crop, str]  # a crop and the image file


@dataclass(frozen=True)
class Batch:
    """Crops of one step, or one process's part of them.

    Attributes:
        images: uint8 [N, h, w, channels].
        labels: uint8 [N, h, w] train ids; in classification, int64 [N] classes.
        names: the image files, for messages.
        annotated: bool [N, classes], the classes that the labels of each image contain; None: all.
        soft: soft labels, float32 [N, soft classes, h/8, w/8], 0 in cells without any; None if the recipe uses none.
    """

    images: UInt8Array
    labels: UInt8Array | Int64Array
    names: tuple[str, ...]
    annotated: BoolArray | None = None
    soft: Float32Array | None = None


class Loader:
    """Batches of augmented crops.

    Args:
        mixture: the datasets.
        pairs: of each dataset, the images and labels to train on.
        recipe: batch, crop and augmentation; `size` is the network's input.
        threads: number of threads that decode and augment.
        world: the processes that train together; each makes its part of a batch.
    """

    def __init__(
        self,
        mixture: Mixture,
        pairs: Sequence[Sequence[Pair]],
        recipe: Recipe,
        threads: int = 2,
        world: World = ALONE,
    ) -> None:
        self._mixture, self._pairs, self._recipe, self._threads = mixture, pairs, recipe, threads
        self._images = tuple(len(some) for some in pairs)  # of each dataset
        self._shares = mixture.shares(self._images) if mixture.weighted else None
        self._annotated = np.stack([member.annotated for member in mixture.members])  # [datasets, classes]
        to_classes = mixture.soft_to_classes if recipe.learns_soft_labels else None
        self._soft_classes = 0 if to_classes is None else len(to_classes)
        self._cache: dict[tuple[int, int], Read] = {}
        self._room = CACHE_BYTES // world.local_size  # bytes left in the cache
        self._lock = Lock()  # for both of these
        self._part = world.part(recipe.images_per_step)
        if recipe.balanced_crops or recipe.paste:
            self._count()

    def __len__(self) -> int:
        """Steps per epoch, rounded up; an epoch may end within a batch."""
        return math.ceil(sum(self._images) / self._recipe.images_per_step)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps `start` to `stop - 1`, in order."""
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in range(start, stop):
                    ahead.append(pool.submit(self.batch, step))
                    if len(ahead) > AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def batch(self, step: int) -> Batch:
        """Return the batch of one step. Without balanced crops and weights, an epoch has every image once, in random order."""
        first = step * self._recipe.images_per_step
        sources = [self._place(first + index)[0] for index in range(self._recipe.images_per_step)]
        sample = cache(lambda index: self._sample(first + index))  # the source of a paste may be another process's sample
        pasted = [
            self._paste(first + index, sample(index)[0], partial(sample, _before(index, sources))) for index in self._part
        ]
        own = [sources[index] for index in self._part]
        return Batch(
            np.stack([crop.image for crop in pasted]),
            np.stack([crop.labels for crop in pasted]),
            tuple(sample(index)[1] for index in self._part),
            None if self._annotated.all() else self._annotated[own],
            np.stack([crop.soft for crop in pasted if crop.soft is not None]) if self._soft_classes else None,
        )

    def _place(self, place: int) -> tuple[int, int]:
        """Return the dataset of a sample of the training, and its image in it."""
        epoch, index = divmod(place, sum(self._images))
        source, image = epoch_samples(self._recipe.seed, epoch, self._images, self._shares)[index].tolist()
        return source, image

    def _sample(self, place: int) -> Sample:
        recipe = self._recipe
        source, image = self._place(place)
        rng = np.random.default_rng((recipe.seed, 1, place))
        focus = None
        if recipe.balanced_crops and rng.random() < recipe.balanced_crops:
            pixels = self._pixels[source]
            focus = int(rng.choice(np.flatnonzero(pixels.any(axis=0))))
            image = int(rng.choice(np.flatnonzero(pixels[:, focus])))
        picture, labels, soft = self._read(source, image)
        return augment(picture, labels, recipe, rng, focus, soft), str(self._pairs[source][image].image)

    def _paste(self, place: int, onto: Crop, source: Callable[[], Sample]) -> Crop:
        """Return the crop `onto`, with classes of `source` pasted over it as often as the recipe says."""
        rng = np.random.default_rng((self._recipe.seed, 3, place))
        classmix, rare = rng.random(2) < (self._recipe.classmix, self._recipe.paste)
        if classmix:
            present = np.setdiff1d(source()[0].labels, [IGNORE_INDEX])
            return paste(onto, source()[0], rng.permutation(present)[: len(present) // 2])
        if rare:
            return paste(onto, source()[0], self._rare)
        return onto

    def _count(self) -> None:
        """Count the pixels of each class in each image, for balanced crops and pasting."""
        with ThreadPoolExecutor(self._threads) as pool:
            self._pixels: list[Int64Array] = [  # of each dataset: [images, classes]
                np.stack(list(pool.map(partial(self._counted, source), range(count))))
                for source, count in enumerate(self._images)
            ]
        pixels = np.sum([counts.sum(axis=0) for counts in self._pixels], axis=0)
        self._rare: Int64Array = np.flatnonzero((pixels > 0) & (pixels < pixels.sum() / (4 * np.count_nonzero(pixels))))

    def _counted(self, source: int, image: int) -> Int64Array:
        return np.bincount(self._read(source, image)[1].ravel(), minlength=256)[: self._annotated.shape[1]]

    def _read(self, source: int, index: int) -> Read:
        key = source, index
        if key in self._cache:
            return self._cache[key]
        member, pair = self._mixture.members[source], self._pairs[source][index]
        image, labels = member.read(pair)
        soft = self._read_soft(member, pair, (image.shape[0], image.shape[1]))
        read = image, labels, soft
        size = sum(array.nbytes for array in read if array is not None)
        with self._lock:
            if key not in self._cache and size <= self._room:
                self._room -= size
                self._cache[key] = read
        return read

    def _read_soft(self, member: Member, pair: Pair, size: tuple[int, int]) -> UInt8Array | None:
        """Return the soft labels of an image, 0 if it has none; None if the recipe uses none."""
        if not self._soft_classes:
            return None
        soft = member.spec.read_soft(pair, size)
        return np.zeros((self._soft_classes, *grid_size(size)), np.uint8) if soft is None else soft


def _before(index: int, sources: Sequence[int]) -> int:
    """Return the sample of the batch before `index` that is of the same dataset; the first one follows the last."""
    others = [(index - step) % len(sources) for step in range(1, len(sources) + 1)]
    return next(other for other in others if sources[other] == sources[index])


def loading_threads(world: World = ALONE) -> int:
    """Return the number of threads that make batches: this process's part of the CPUs, less one that trains; at least 2."""
    return max(2, machine.threads() // world.local_size - 1)


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, count: int) -> Int64Array:
    """Return the order of the images in an epoch. Cached, since every sample of the epoch needs it."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


@lru_cache(maxsize=4)
def epoch_samples(seed: int, epoch: int, images: tuple[int, ...], shares: tuple[float, ...] | None) -> Int64Array:
    """Return the samples of an epoch, in order: int64 [sum(images), 2], the dataset and its image.

    Args:
        seed: of the training.
        epoch: counted from 0.
        images: number of images of each dataset.
        shares: fraction of the samples from each dataset; None: each image once. A dataset with more samples than images has
            each image equally often, and the rest are random images of it. Fractions of a sample are rounded at random, so
            that the shares are exact on average.
    """
    rng, total = np.random.default_rng((seed, 4, epoch)), sum(images)
    samples = images
    if shares is not None:
        ends = np.floor(np.cumsum(shares).round(12) * total + rng.random()).astype(np.int64)
        samples = tuple(np.diff(ends, prepend=0).tolist())
    rows = []
    for source, (count, wanted) in enumerate(zip(images, samples, strict=True)):
        passes, rest = divmod(wanted, count)
        chosen = np.concatenate([np.tile(np.arange(count), passes), rng.permutation(count)[:rest]])
        rows.append(np.stack([np.full(wanted, source), chosen], axis=1))
    return np.concatenate(rows)[order(seed, epoch, total)]
