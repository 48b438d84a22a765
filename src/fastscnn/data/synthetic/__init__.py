"""Where do I get an image with exact labels? A generated street scene for demos, tests, benchmarks and docs.

World coordinates are metres: x to the right, y up from the road, z ahead of the camera, which drives on the left.
Objects are painted from far to near through one pinhole camera, image and labels through the same mask, at twice the
final size. The image is then averaged, the labels are sampled. Colours and contrast were chosen by eye, and by the mean
and standard deviation of each class over 62 training frames of CamVid (the tests check the means). Labels follow
CamVid's conventions: foliage, railings and spokes are labelled including their gaps; grass is Tree, chimneys are
Building, shadows and lane markings are Road.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.synthetic.canvas import Canvas, photograph
from fastscnn.data.synthetic.shapes import (
    BICYCLIST,
    BUILDING,
    CAR,
    CLASSES,
    FENCE,
    PAVEMENT,
    PEDESTRIAN,
    POLE,
    ROAD,
    SIGN,
    SKY,
    TREE,
)
from fastscnn.data.synthetic.street import populate

__all__ = [
    "BICYCLIST", "BUILDING", "CAR", "CLASSES", "FENCE", "MIN_SIDE", "PAVEMENT", "PEDESTRIAN", "POLE", "ROAD", "SIGN", "SIZE",
    "SKY", "TREE", "Scene", "draw",
]

MIN_SIDE = 64
SIZE = (720, 960)  # default (height, width)


@dataclass(frozen=True)
class Scene:
    """An image and its labels.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        labels: uint8 [H, W], index in CLASSES; every pixel has one.
    """

    image: UInt8Array
    labels: UInt8Array


def draw(height: int = SIZE[0], width: int = SIZE[1], seed: int = 0) -> Scene:
    """Return the street scene number `seed`. It is the same street at every size of one aspect ratio.

    Args:
        height: Height in pixels, at least `MIN_SIDE`.
        width: Width in pixels, at least `MIN_SIDE`.
        seed: Number of the scene.

    Raises:
        FastSCNNError: a side is under 64 pixels.
    """
    if min(height, width) < MIN_SIDE:
        raise FastSCNNError(f"A scene of {height}x{width} is too small; each side needs at least {MIN_SIDE} pixels.")
    canvas = Canvas(2 * height, 2 * width, np.random.default_rng(seed))
    populate(canvas)
    return Scene(photograph(canvas, height, width), np.ascontiguousarray(canvas.labels[1::2, 1::2]))
