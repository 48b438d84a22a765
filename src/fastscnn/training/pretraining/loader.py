"""Batches of classified images: random crops to train on, centre crops to validate on."""

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
from fastscnn.training.augment import augment
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.loader import Batch, order
from fastscnn.training.recipes import Recipe

_LONGEST = 16  # times the shorter side: a longer image would take gigabytes once resized
_AHEAD = 4  # batches prepared at a time
VALIDATION_BATCH = 64  # enough for a GPU, and little memory on a CPU

_Sample = tuple[UInt8Array, int, str]  # a crop, its class and the image file


class ClassLoader:
    """Batches of augmented crops. Decoded images are not kept in memory.

    Args:
        data: the dataset.
        pictures: images to train on.
        recipe: batch, crop and augmentation; `size` is a square whose side is the shorter side of each image at scale 1.
        threads: number of threads that decode and augment.
        world: the processes that train together; each makes its part of a batch.
    """

    def __init__(
        self, data: ClassFolders, pictures: Sequence[Picture], recipe: Recipe, threads: int, world: World = ALONE
    ) -> None:
        self._data, self._pictures, self._recipe, self._threads = data, pictures, recipe, threads
        self._part = world.part(recipe.images_per_step)

    def __len__(self) -> int:
        """Steps per epoch, rounded up; an epoch may end within a batch."""
        return math.ceil(len(self._pictures) / self._recipe.images_per_step)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps `start` to `stop - 1`, in order; labels are int64 [N]."""
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[list[Future[_Sample]]] = deque()
            try:
                for step in range(start, stop):
                    first = step * self._recipe.images_per_step
                    ahead.append([pool.submit(self._sample, first + index) for index in self._part])
                    if len(ahead) == _AHEAD:
                        yield _stacked([sample.result() for sample in ahead.popleft()])
                while ahead:
                    yield _stacked([sample.result() for sample in ahead.popleft()])
            finally:
                for sample in (sample for batch in ahead for sample in batch):
                    sample.cancel()

    def batch(self, step: int) -> Batch:
        """Return the batch of one step, from the seed and the step only. An epoch has every image once, in its own order."""
        first = step * self._recipe.images_per_step
        return _stacked([self._sample(first + index) for index in self._part])

    def _sample(self, place: int) -> _Sample:
        """Return a sample: a crop of the image, whose shorter side is `size` times a random scale."""
        recipe = self._recipe
        epoch, index = divmod(place, len(self._pictures))
        picture = self._pictures[order(recipe.seed, epoch, len(self._pictures))[index]]
        rng = np.random.default_rng((recipe.seed, 1, place))
        assert recipe.size
        path = self._data.path(picture)
        image = _shorter(images.read(path), round(rng.uniform(*recipe.scale) * recipe.size[0]))
        # The image has its size already, from the resizer that validation uses too.
        patch = augment(image, np.zeros(image.shape[:2], np.uint8), replace(recipe, size=None, scale=(1.0, 1.0)), rng).image
        return patch, picture.class_, str(path)


def _stacked(samples: Sequence[_Sample]) -> Batch:
    patches, classes, names = zip(*samples, strict=True)
    named = (names[0], *([f"{len(names) - 1} more"] if len(names) > 1 else []))  # 256 names are too many for a message
    return Batch(np.stack(patches), np.array(classes, np.int64), named)


def centres(
    data: ClassFolders, pictures: Sequence[Picture], shorter: int, size: tuple[int, int], threads: int
) -> Iterator[tuple[UInt8Array, Int64Array]]:
    """Yield centre crops uint8 [N, *size, 3] and their classes int64 [N], in order and in batches.

    Args:
        data: the dataset.
        pictures: the images.
        shorter: the shorter side of an image before the crop, in pixels.
        size: (height, width) of the crop.
        threads: number of threads that decode.
    """

    def read(picture: Picture) -> UInt8Array:
        return centre(images.read(data.path(picture)), shorter, size)

    patches: list[UInt8Array] = []
    classes: list[int] = []
    for picture, patch in ordered(read, pictures, threads):
        patches.append(patch)
        classes.append(picture.class_)
        if len(patches) == VALIDATION_BATCH:
            yield np.stack(patches), np.array(classes, np.int64)
            patches, classes = [], []
    if patches:
        yield np.stack(patches), np.array(classes, np.int64)


def centre(image: UInt8Array, shorter: int, size: tuple[int, int]) -> UInt8Array:
    """Return the centre crop uint8 [*size, 3] of an image [H, W, 3] whose shorter side is resized to `shorter`."""
    resized = _shorter(image, shorter)
    top, left = (resized.shape[0] - size[0]) // 2, (resized.shape[1] - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]


def _shorter(image: UInt8Array, side: int) -> UInt8Array:
    """Return the image with its shorter side resized to `side`; only the middle of very long images is kept."""
    longest = _LONGEST * min(image.shape[:2])
    top, left = (max(0, length - longest) // 2 for length in image.shape[:2])
    image = image[top : top + longest, left : left + longest]
    height, width = image.shape[:2]
    factor = side / min(height, width)
    return images.resize(image, (max(side, round(height * factor)), max(side, round(width * factor))))
