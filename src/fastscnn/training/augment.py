"""Augmentation of a training image: one affine warp, one change of colours, corruption, and pasting from another crop."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from fastscnn.base.types import Float32Array, Int64Array, UInt8Array
from fastscnn.inference.size import in_shape
from fastscnn.model.architecture import OUTPUT_STRIDE
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.training.corruption import corrupt
from fastscnn.training.recipes import Recipe

# The mean colour of ImageNet, and the middle of a fourth channel: about zero after normalisation, like padding.
_OUTSIDE = (124, 116, 104, 127)
_CROPS = 11  # most crops tried while one class is too frequent, as in mmsegmentation's RandomCrop


class Crop(NamedTuple):
    """A crop of a training image.

    Attributes:
        image: uint8 [h, w, channels].
        labels: uint8 [h, w] train ids; 255 is ignored.
        soft: soft labels, float32 [soft classes, h/8, w/8], 0 to 1, and 0 in cells outside the image; None without any.
    """

    image: UInt8Array
    labels: UInt8Array
    soft: Float32Array | None = None


def augment(
    image: UInt8Array,
    labels: UInt8Array,
    recipe: Recipe,
    rng: np.random.Generator,
    focus: int | None = None,
    soft: UInt8Array | None = None,
) -> Crop:
    """Return a random crop of the image and its labels, augmented.

    Args:
        image: uint8 [H, W, 3] RGB, or [H, W, 4]; the values of the fourth channel are not changed.
        labels: uint8 [H, W] train ids.
        recipe: crop and augmentation. At scale 1, the image has the size that inference gives it: that of `in_shape`.
        rng: source of random numbers.
        focus: a class of which the crop contains a random pixel; None, or an absent class: the crop is anywhere.
        soft: the soft labels of the image, uint8 [soft classes, H/8, W/8], 255 times a probability; None without any.

    Returns:
        The crop, of the size `recipe.crop`; labels are 255 outside the image.
    """
    point = None if focus is None else _pixel(labels, focus, rng)
    height, width = recipe.crop
    zoom = _zoom(labels.shape[0], labels.shape[1], recipe)
    scale, flipped = rng.uniform(*recipe.scale), rng.random() < recipe.flip
    for _ in range(_CROPS):
        warp = _warp(labels.shape[0], labels.shape[1], recipe, rng, (scale * zoom[0], scale * zoom[1]), flipped, point)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
        ids = np.asarray(cv2.warpAffine(labels, warp, (width, height), flags=flags, borderValue=(IGNORE_INDEX,)), np.uint8)
        if recipe.cat_max_ratio >= 1 or _largest_share(ids) < recipe.cat_max_ratio:
            break
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    patch = cv2.warpAffine(image, warp, (width, height), flags=flags, borderValue=_OUTSIDE)
    colours = np.ascontiguousarray(patch[..., :3])
    changed = _distorted(colours, rng) if recipe.colour == "mmseg" else cv2.LUT(colours, _tone(recipe, rng))
    made = np.asarray(changed, np.uint8)
    if recipe.corruption and rng.random() < recipe.corruption:
        made = corrupt(made, rng)
    made = np.concatenate([made, patch[..., 3:]], axis=2) if patch.shape[2] > 3 else made
    return Crop(made, ids, None if soft is None else _warped(soft, warp, labels.shape, recipe.crop))


def paste(onto: Crop, source: Crop, classes: Int64Array) -> Crop:
    """Return the crop `onto` with the pixels of `classes` of the crop `source` pasted over it.

    From ClassMix (Olsson et al. 2021). Both crops have the same size; neither is changed. A cell of soft labels goes with the
    pixel at its centre.
    """
    taken = np.zeros(256, bool)
    taken[classes] = True
    mask = taken[source.labels]
    soft = onto.soft
    if soft is not None:
        assert source.soft is not None  # the loader gives soft labels to all crops or to none
        sides = zip(mask.shape, soft.shape[1:], strict=True)
        rows, columns = (((np.arange(cells) + 0.5) * side / cells).astype(np.int64) for side, cells in sides)
        soft = np.where(mask[np.ix_(rows, columns)], source.soft, soft)
    image = np.where(mask[..., None], source.image, onto.image)
    return Crop(image, np.where(mask, source.labels, onto.labels), soft)


def _warped(soft: UInt8Array, warp: Float32Array, image: tuple[int, ...], crop: tuple[int, int]) -> Float32Array:
    """Return soft labels at the centres of the cells of a crop, by bilinear interpolation; 0 outside the image.

    Args:
        soft: uint8 [classes, H/8, W/8].
        warp: the matrix of `_warp`; it neither rotates nor shears.
        image, crop: (height, width).
    """
    across, down = (
        _interpolation(image[axis], crop[axis], soft.shape[axis + 1], float(warp[1 - axis, 1 - axis]), float(warp[1 - axis, 2]))
        for axis in (1, 0)
    )
    return np.asarray(down @ (soft / np.float32(255)) @ across.T, np.float32)


def _interpolation(side: int, crop: int, cells: int, factor: float, shift: float) -> Float32Array:
    """Return the matrix [cells of the crop, cells of the image] that interpolates along one axis.

    Args:
        side, crop: pixels of the image and of the crop.
        cells: cells of the image.
        factor, shift: pixel p of the crop is pixel factor * p + shift of the image.
    """
    wanted = -(-crop // OUTPUT_STRIDE)  # as the network rounds
    pixel = factor * ((np.arange(wanted) + 0.5) * crop / wanted - 0.5) + shift
    place = np.clip((pixel + 0.5) * cells / side - 0.5, 0, cells - 1)
    inside = (pixel > -0.5) & (pixel < side - 0.5)
    weights = np.maximum(0, 1 - abs(place[:, None] - np.arange(cells))) * inside[:, None]
    return np.asarray(weights, np.float32)


def _pixel(labels: UInt8Array, class_: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return row and column of a random pixel of the class; None if there is none."""
    places = np.flatnonzero(labels == class_)
    if not len(places):
        return None
    row, column = divmod(int(places[rng.integers(len(places))]), labels.shape[1])
    return row, column


def _largest_share(ids: UInt8Array) -> float:
    """Return the fraction of the most frequent class among pixels that are not ignored; 1 with one class or none."""
    counts = np.bincount(ids.ravel(), minlength=256)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if np.count_nonzero(counts) > 1 else 1.0


def _zoom(height: int, width: int, recipe: Recipe) -> tuple[float, float]:
    """Return the factors of height and width at scale 1."""
    used = in_shape(recipe.size, (height, width)) if recipe.size else (height, width)
    return used[0] / height, used[1] / width


def _warp(
    height: int,
    width: int,
    recipe: Recipe,
    rng: np.random.Generator,
    zoom: tuple[float, float],
    flipped: bool,
    point: tuple[int, int] | None,
) -> Float32Array:
    """Return the matrix [2, 3] from pixels of the crop to pixels of the image, at a random place.

    The image is resized by the factors `zoom`. The crop contains the `point` (row, column), if one is given.
    """
    tall, wide = zoom
    # Pixels by which the resized image exceeds the crop; negative if the crop is larger and gets a border.
    spare = np.array([width * wide - recipe.crop[1], height * tall - recipe.crop[0]])
    low, high = np.minimum(spare, 0), np.maximum(spare, 0)
    if point is not None:
        column = width - 1 - point[1] if flipped else point[1]
        wanted = np.array([(column + 0.5) * wide, (point[0] + 0.5) * tall])  # the point in the resized image
        low, high = np.maximum(low, wanted - recipe.crop[::-1]), np.minimum(high, wanted)
    left, top = rng.uniform(low, high)
    # The centre of pixel p is at p + 0.5 in both images.
    warp = np.array([[1 / wide, 0, (left + 0.5) / wide - 0.5], [0, 1 / tall, (top + 0.5) / tall - 0.5]])
    if flipped:
        warp[0] = -warp[0, 0], 0, width - 1 - warp[0, 2]
    return warp.astype(np.float32)


def _tone(recipe: Recipe, rng: np.random.Generator) -> UInt8Array:
    """Return a lookup table [1, 256, 3]: gamma, contrast, brightness and a gain per channel, in that order."""
    gamma, contrast = recipe.gamma ** rng.uniform(-1, 1), recipe.contrast ** rng.uniform(-1, 1)
    brightness = rng.uniform(-recipe.brightness, recipe.brightness)
    gains = 1 + recipe.channel_noise * rng.uniform(-1, 1, 3)
    tone = 255 * (np.arange(256) / 255) ** gamma
    tone = (tone - 127.5) * contrast + 127.5 + brightness
    table: UInt8Array = np.clip(np.rint(tone[:, None] * gains), 0, 255).astype(np.uint8)
    return table[None]


def _distorted(image: cv2.typing.MatLike, rng: np.random.Generator) -> cv2.typing.MatLike:
    """Return the image after mmsegmentation's PhotoMetricDistortion: each of four changes with probability 0.5."""

    def scaled(values: cv2.typing.MatLike, factor: float, shift: float = 0.0) -> cv2.typing.MatLike:
        clipped: UInt8Array = np.clip(values.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)
        return clipped

    chosen = rng.random(4) < 0.5
    contrast, contrast_first = rng.uniform(0.5, 1.5), rng.random() < 0.5
    if chosen[0]:
        image = scaled(image, 1, rng.uniform(-32, 32))
    if chosen[1] and contrast_first:
        image = scaled(image, contrast)
    if chosen[2] or chosen[3]:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        if chosen[2]:
            hsv[..., 1] = scaled(hsv[..., 1], rng.uniform(0.5, 1.5))
        if chosen[3]:
            hsv[..., 0] = (hsv[..., 0].astype(np.int32) + rng.integers(-18, 18)) % 180  # OpenCV's hue is 0 to 179
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if chosen[1] and not contrast_first:
        image = scaled(image, contrast)
    return image
