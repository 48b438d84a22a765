"""Classes, flat shapes in metres, and colours of the scene."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import Float32Array

CLASSES = ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist")
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

Rgb = tuple[float, float, float]
Points = npt.NDArray[np.float64]


def upright(x: float, z: float, half: float, low: float, high: float) -> Points:
    """Return a rectangle that faces the camera."""
    return np.array([[x - half, low, z], [x - half, high, z], [x + half, high, z], [x + half, low, z]])


def lengthwise(x: float, near: float, far: float, low: float, high: float) -> Points:
    """Return an upright rectangle along the street, starting at its near top corner."""
    return np.array([[x, high, near], [x, high, far], [x, low, far], [x, low, near]])


def taper(start: tuple[float, float], end: tuple[float, float], half: float, z: float) -> Points:
    """Return a tapered bar from start to end, both (x, y); its end has 60 % of its width."""
    one, two = np.array(start), np.array(end)
    along = (two - one) / max(float(np.hypot(*(two - one))), 1e-6)
    out = np.array([-along[1], along[0]]) * half
    flat = np.stack([one - out, one + out, two + out * 0.6, two - out * 0.6])
    return np.column_stack([flat, np.full(4, z)])


def oval(x: float, y: float, wide: float, high: float, z: float) -> Points:
    """Return an ellipse with half axes `wide` and `high` that faces the camera."""
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack([x + wide * np.cos(turn), y + high * np.sin(turn), np.full(20, z)], axis=1)


def pick(rng: np.random.Generator, colours: tuple[Rgb, ...]) -> Rgb:
    return times(colours[int(rng.integers(len(colours)))], rng.uniform(0.85, 1.12))


def rgb(colour: Rgb) -> Float32Array:
    return np.array(colour, np.float32)


def times(colour: Rgb, factor: float) -> Rgb:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
