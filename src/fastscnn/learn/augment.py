"""Random changes of a training image: one affine warp and one lookup table, whatever is switched on."""

from __future__ import annotations

import cv2
import numpy as np

from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.labels import IGNORE
from fastscnn.recipes import Recipe

_OUTSIDE = (124, 116, 104)  # ImageNet's mean colour: about zero in the network, as its own padding is


def augment(
    image: UInt8Array, labels: UInt8Array, recipe: Recipe, rng: np.random.Generator
) -> tuple[UInt8Array, UInt8Array]:
    """A random patch of the image and its labels.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W] train ids.

    Returns:
        The patch and its labels at `recipe.crop`; what lies outside the image is ignored.
    """
    warp = _warp(labels.shape[0], labels.shape[1], recipe, rng)
    height, width = recipe.crop
    flags = cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(image, warp, (width, height), flags=flags | cv2.INTER_LINEAR, borderValue=_OUTSIDE)
    ids = cv2.warpAffine(labels, warp, (width, height), flags=flags | cv2.INTER_NEAREST, borderValue=(IGNORE,))
    return np.asarray(cv2.LUT(patch, _tone(recipe, rng)), np.uint8), np.asarray(ids, np.uint8)


def _warp(height: int, width: int, recipe: Recipe, rng: np.random.Generator) -> Float32Array:
    """Matrix [2, 3] from pixels of the patch to pixels of the image: random size, place and flip."""
    used = recipe.size or (height, width)
    scale = rng.uniform(*recipe.scale)
    tall, wide = scale * (used[0] / height), scale * (used[1] / width)
    # How much of the resized image lies beyond the patch; negative where the patch is larger and gets a border.
    spare = np.array([width * wide - recipe.crop[1], height * tall - recipe.crop[0]])
    left, top = rng.uniform(np.minimum(spare, 0), np.maximum(spare, 0))
    # The centre of pixel p is p + 0.5 in both images.
    warp = np.array([[1 / wide, 0, (left + 0.5) / wide - 0.5], [0, 1 / tall, (top + 0.5) / tall - 0.5]])
    if rng.random() < recipe.flip:
        warp[0] = -warp[0, 0], 0, width - 1 - warp[0, 2]
    return warp.astype(np.float32)


def _tone(recipe: Recipe, rng: np.random.Generator) -> UInt8Array:
    """Lookup table [1, 256, 3]: gamma, contrast, brightness and a gain of each channel, in that order."""
    gamma, contrast = recipe.gamma ** rng.uniform(-1, 1), recipe.contrast ** rng.uniform(-1, 1)
    brightness = rng.uniform(-recipe.brightness, recipe.brightness)
    gains = 1 + recipe.channel_noise * rng.uniform(-1, 1, 3)
    tone = 255 * (np.arange(256) / 255) ** gamma
    tone = (tone - 127.5) * contrast + 127.5 + brightness
    table: UInt8Array = np.clip(np.rint(tone[:, None] * gains), 0, 255).astype(np.uint8)
    return table[None]
