"""Corruption of training crops: fog, night, exposure, colour cast, blur, noise and JPEG compression, of random strength."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from statistics import NormalDist

import cv2
import numpy as np

from fastscnn.base.types import Float32Array, UInt8Array

_SECOND = 0.25  # probability of a second kind
GRAINS = (1, 1, 2, 3)  # pixels across a grain of the noise, equally likely
# Standard normal quantiles of 256 equal steps. Random bytes and this table are faster than normal random numbers.
_NORMAL = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)


def corrupt(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Return the image with one of `KINDS`, or with two, in their order there.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        rng: source of random numbers.
    """
    kinds = tuple(KINDS.values())
    count = 2 if rng.random() < _SECOND else 1
    for place in np.sort(rng.choice(len(kinds), count, replace=False)).tolist():
        image = kinds[place](image, rng.random(), rng)
    return image


# The image is uint8 [H, W, 3] and the strength 0 to 1 in all kinds. Sizes are in pixels, amounts in grey levels of 255.


def fog(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Blend towards a bright grey: more at the top, and in clouds."""
    haze = np.full_like(image, rng.integers(185, 241))
    down, clouds = np.linspace(0, rng.uniform(0, 0.6), 4)[:, None], rng.uniform(-0.2, 0.2, (4, 4))
    coarse = np.clip((0.25 + 0.65 * strength) * (1 - down + clouds), 0, 0.9).astype(np.float32)
    amount = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.blendLinear(image, haze, 1 - np.asarray(amount), amount), np.uint8)


def night(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Darken by a gamma and a gain, with a colour cast and a little noise."""
    gamma, gain = 1.1 + 0.7 * strength, 0.95 - 0.5 * strength
    cast = 1 - 0.4 * strength * rng.random(3)
    table = np.rint(255 * gain * cast * (np.arange(256)[:, None] / 255) ** gamma).astype(np.uint8)
    dark = np.asarray(cv2.LUT(image, table[None]), np.uint8)
    return _added(dark, _grains(image.shape, 1 + 5 * strength, rng))


def exposure(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Shift the brightness by up to 110 grey levels, and reduce the contrast around the mean by a factor of up to 10."""
    shift = rng.choice((-1, 1)) * rng.uniform(0.2, 1) * (8 + 102 * strength)
    factor = 0.1 ** (strength * rng.random())
    mean = image.mean()
    table = np.clip(np.rint((np.arange(256) - mean) * factor + mean + shift), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def colour_cast(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Change each channel by a factor of its own, of 0.5 to 1.5 at most."""
    gains = 1 + (0.08 + 0.42 * strength) * rng.uniform(-1, 1, 3)
    table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def defocus_blur(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Blur by a disc with a radius of 0.6 to 5 pixels."""
    radius = _between(0.6, 5, strength)
    down, right = _offsets(radius + 0.5)
    return _blurred(image, np.clip(radius + 0.5 - np.hypot(down, right), 0, 1))


def motion_blur(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Blur along a line of 2 to 16 pixels in a random direction."""
    length, angle = _between(2, 16, strength), rng.uniform(0, np.pi)
    down, right = _offsets((length + 1) / 2)
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    return _blurred(image, np.clip((length + 1) / 2 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1))


def gaussian_noise(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Add noise with a standard deviation of 4 to 60 grey levels."""
    return _added(image, _grains(image.shape, _between(4, 60, strength), rng))


def shot_noise(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Add noise that grows with the root of the grey value; its standard deviation at white is 6 to 80 grey levels."""
    deviation = (_between(6, 80, strength) * np.sqrt(np.arange(256) / 255)).astype(np.float32)
    return _added(image, cv2.multiply(_grains(image.shape, 1, rng), cv2.LUT(image, deviation)))


def jpeg(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Compress as JPEG, with a quality of 60 down to 5."""
    quality = round(60 - 55 * strength)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


# In the order in which a camera meets them.
KINDS: Mapping[str, Callable[[UInt8Array, float, np.random.Generator], UInt8Array]] = {
    kind.__name__: kind for kind in (
        fog, night, exposure, colour_cast, defocus_blur, motion_blur, gaussian_noise, shot_noise, jpeg
    )
}


def _between(low: float, high: float, strength: float) -> float:
    """Return the amount at a strength: equal steps of it multiply the amount by equal factors."""
    return float(low * (high / low) ** strength)


def _grains(shape: tuple[int, ...], deviation: float, rng: np.random.Generator) -> Float32Array:
    """Return normal noise, float32 [H, W, 3], of a random grain. Grains of several pixels are interpolated, thus weaker."""
    height, width, channels = shape
    grain = GRAINS[rng.integers(len(GRAINS))]
    drawn = rng.integers(0, 256, (ceil(height / grain), ceil(width / grain), channels), np.uint8)
    noise = cv2.LUT(drawn, np.float32(deviation) * _NORMAL)
    return np.asarray(noise if grain == 1 else cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _added(image: UInt8Array, noise: cv2.typing.MatLike) -> UInt8Array:
    """Return the sum, rounded and clipped to bytes."""
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)


def _offsets(reach: float) -> tuple[Float32Array, Float32Array]:
    """Return the row and column of each place of a kernel, relative to its centre; places beyond `reach` are left out."""
    half = ceil(reach) - 1
    down, right = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    return down, right


def _blurred(image: UInt8Array, kernel: Float32Array) -> UInt8Array:
    """Return the image after a filter with a kernel, whose sum is set to 1."""
    return np.asarray(cv2.filter2D(image, -1, (kernel / kernel.sum()).astype(np.float32)), np.uint8)
