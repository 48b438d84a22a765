"""A drawn street scene with exact labels: what a first run segments, and what tests and docs look at.

The world is metres: x to the right, y up from the road, z ahead of the camera, which drives on the left. Everything is
painted from far to near through one pinhole camera, picture and labels through the same mask, at twice the size: the
picture is then averaged, the labels are taken at the pixel. Colours and contrast were picked by eye and against the mean
and deviation of each class over 62 of CamVid's training frames (the test holds the means). CamVid's, too, are the habits
of the annotators: foliage, railings and spokes are labelled whole, and so is what shows through them;
grass is Tree, chimneys are Building, shadows and lane markings are Road.
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
SIZE = (720, 960)  # (height, width) where none is given


@dataclass(frozen=True)
class Scene:
    """A picture and its labels.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        labels: train ids of CLASSES, uint8 [H, W]; every pixel has one.
    """

    image: UInt8Array
    labels: UInt8Array


def draw(height: int = SIZE[0], width: int = SIZE[1], seed: int = 0) -> Scene:
    """The street scene number `seed` at `height` x `width`; the same street at every size of one aspect.

    Raises:
        FastSCNNError: a side is under 64 pixels.
    """
    if min(height, width) < MIN_SIDE:
        raise FastSCNNError(f"A scene of {height}x{width} is too small; each side takes at least {MIN_SIDE} pixels.")
    canvas = Canvas(2 * height, 2 * width, np.random.default_rng(seed))
    populate(canvas)
    return Scene(photograph(canvas, height, width), np.ascontiguousarray(canvas.labels[1::2, 1::2]))
