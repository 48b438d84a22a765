"""Drawing shapes with Pillow, by whose rules several annotation tools fill their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fastscnn.base.types import BoolArray, UInt8Array

Points = Sequence[tuple[float, float]]


class Canvas:
    """Labels on which shapes are drawn over each other. Points are (x, y) in pixels and may lie outside.

    Args:
        size: (height, width).
        background: value of pixels without a shape.
    """

    def __init__(self, size: tuple[int, int], background: int = 0) -> None:
        self._image = Image.new("L", size[::-1], background)
        self._pencil = ImageDraw.Draw(self._image)

    def polygon(self, corners: Points, value: int) -> None:
        """Fill a polygon of two or more corners."""
        self._pencil.polygon(corners, fill=value)

    def line(self, points: Points, value: int, width: int) -> None:
        """Draw a line through two or more points, `width` pixels wide."""
        self._pencil.line(points, fill=value, width=width)

    def circle(self, centre: tuple[float, float], radius: float, value: int) -> None:
        """Fill a circle."""
        (x, y) = centre
        self._pencil.ellipse(((x - radius, y - radius), (x + radius, y + radius)), fill=value)

    def rectangle(self, corners: Points, value: int) -> None:
        """Fill a rectangle between two opposite corners, both of them inside."""
        (x0, y0), (x1, y1) = corners
        self._pencil.rectangle(((min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))), fill=value)

    def mask(self, mask: BoolArray, corner: tuple[int, int], value: int) -> None:
        """Fill the pixels of a mask [H, W] whose upper left pixel is at `corner`, (x, y)."""
        self._image.paste(value, corner, Image.fromarray(mask))

    def labels(self) -> UInt8Array:
        """Return the result, uint8 [height, width]."""
        return np.array(self._image, np.uint8)
