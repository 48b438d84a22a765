"""Batches of images with one class each: random patches to train on, the middle of each image to validate on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.data.class_folders import Picture
from fastscnn.data.datasets import ClassFolders
from fastscnn.media import images
from fastscnn.media.stream import ordered
from fastscnn.training import distributed
from fastscnn.training.augment import augment
from fastscnn.training.loader import Batch, order
from fastscnn.training.recipes import Recipe

_LONGEST = 16  # times its shorter side: a longer strip would be resized to gigabytes
_MAKING = 4  # batches in the making at a time
_VALIDATED = 64  # images at a time: enough for a GPU, little memory on a CPU

_Sample = tuple[UInt8Array, int, str]  # a patch, its class and the file that it comes from


class ClassLoader:
    """Batches of `pictures` as `recipe` wants them; of several processes, the part of this one. Nothing is kept in memory.

    Args:
        data: the dataset.
        pictures: what to train on.
        recipe: its `size` is a square: what the shorter side of each image becomes at scale 1.
        threads: that decode and augment.
    """

    def __init__(self, data: ClassFolders, pictures: Sequence[Picture], recipe: Recipe, threads: int) -> None:
        self._data, self._pictures, self._recipe, self._threads = data, pictures, recipe, threads
        self._part = distributed.part(recipe.batch)

    def __len__(self) -> int:
        """Steps an epoch, rounded up; an epoch may end within a batch."""
        return math.ceil(len(self._pictures) / self._recipe.batch)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`, in order; labels are int64 [N]."""
        with ThreadPoolExecutor(self._threads) as pool:
            making: deque[list[Future[_Sample]]] = deque()
            try:
                for step in range(start, stop):
                    making.append([pool.submit(self._sample, step * self._recipe.batch + index) for index in self._part])
                    if len(making) == _MAKING:
                        yield _stacked([sample.result() for sample in making.popleft()])
                while making:
                    yield _stacked([sample.result() for sample in making.popleft()])
            finally:
                for sample in (sample for batch in making for sample in batch):
                    sample.cancel()

    def batch(self, step: int) -> Batch:
        """The batch of one step, from the seed and the step alone; every image comes once an epoch, in an order of its own."""
        first = step * self._recipe.batch
        return _stacked([self._sample(first + index) for index in self._part])

    def _sample(self, place: int) -> _Sample:
        """The patch at a place in the training: `crop` of the image whose shorter side is `size` times a random scale."""
        recipe = self._recipe
        epoch, index = divmod(place, len(self._pictures))
        picture = self._pictures[order(recipe.seed, epoch, len(self._pictures))[index]]
        rng = np.random.default_rng((recipe.seed, 1, place))
        assert recipe.size
        path = self._data.path(picture)
        image = _shorter(images.read(path), round(rng.uniform(*recipe.scale) * recipe.size[0]))
        # It is already at its size, by the resizer that validation uses.
        patch, _ = augment(image, np.zeros(image.shape[:2], np.uint8), replace(recipe, size=None, scale=(1.0, 1.0)), rng)
        return patch, picture.class_, str(path)


def _stacked(samples: Sequence[_Sample]) -> Batch:
    patches, classes, names = zip(*samples, strict=True)
    named = (names[0], *([f"{len(names) - 1} more"] if len(names) > 1 else []))  # all 256 would be no message
    return Batch(np.stack(patches), np.array(classes, np.int64), named)


def centres(
    data: ClassFolders, pictures: Sequence[Picture], shorter: int, size: tuple[int, int], threads: int
) -> Iterator[tuple[UInt8Array, Int64Array]]:
    """The middle of every image, in order and in batches: uint8 [N, *size, 3] and its class, int64 [N].

    Args:
        shorter: what the shorter side of an image is resized to before.
        size: (height, width) of the middle.
    """

    def read(picture: Picture) -> UInt8Array:
        return centre(images.read(data.path(picture)), shorter, size)

    patches: list[UInt8Array] = []
    classes: list[int] = []
    for picture, patch in ordered(read, pictures, threads):
        patches.append(patch)
        classes.append(picture.class_)
        if len(patches) == _VALIDATED:
            yield np.stack(patches), np.array(classes, np.int64)
            patches, classes = [], []
    if patches:
        yield np.stack(patches), np.array(classes, np.int64)


def centre(image: UInt8Array, shorter: int, size: tuple[int, int]) -> UInt8Array:
    """The middle uint8 [*size, 3] of an image [H, W, 3] whose shorter side is resized to `shorter`."""
    resized = _shorter(image, shorter)
    top, left = (resized.shape[0] - size[0]) // 2, (resized.shape[1] - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]


def _shorter(image: UInt8Array, side: int) -> UInt8Array:
    """The image with its shorter side resized to `side`, of the same shape; of a strip, its middle part."""
    longest = _LONGEST * min(image.shape[:2])
    top, left = (max(0, length - longest) // 2 for length in image.shape[:2])
    image = image[top : top + longest, left : left + longest]
    height, width = image.shape[:2]
    factor = side / min(height, width)
    return images.resize(image, (max(side, round(height * factor)), max(side, round(width * factor))))
