"""The ground of the scene: road with markings, kerbs, pavements, grass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastscnn.base.types import Float32Array
from fastscnn.data.synthetic.canvas import EYE, HAZE, HAZE_DEPTH, TILE, Canvas, Mask
from fastscnn.data.synthetic.shapes import PAVEMENT, ROAD, TREE, rgb


@dataclass(frozen=True)
class Street:
    """The x coordinates of a street: centre line and, by side (-1 left, 1 right), kerbs and house fronts, in metres."""

    middle: float
    half: float
    pavement: float

    def kerb(self, side: int) -> float:
        return self.middle + side * self.half

    def front(self, side: int) -> float:
        return self.kerb(side) + side * self.pavement


def ground(canvas: Canvas, street: Street) -> None:
    """Paint road, markings, kerbs, pavements and grass: each pixel is looked up where its ray meets y = 0."""
    height, width = canvas.labels.shape
    rows, columns = np.arange(int(canvas.horizon) + 2, height), np.arange(width)
    z = (canvas.focal * EYE / (rows - canvas.horizon)).astype(np.float32)[:, None]
    x = (columns - canvas.centre).astype(np.float32)[None] * z / np.float32(canvas.focal)
    across = x - np.float32(street.middle)
    beyond = np.abs(across) - np.float32(street.half)  # metres beyond the kerb
    fine, coarse = _lookup(canvas.speckle, x, z, 90), _lookup(canvas.noise, x + 40, z * 0.3, 12)
    fade = np.minimum(1, 14 / z)
    road = 77 * (1 + 0.09 * fade * fine + 0.035 * coarse) * (1 + 0.16 * np.minimum(1, z / 60))
    patches = (np.mod(across * 0.21 + 0.13, 1) < 0.42) & (np.mod(z * 0.043 + np.floor(across * 0.21 + 0.13) * 0.37, 1) < 0.3)
    road[patches] *= 0.9
    road *= 1 - 0.06 * np.exp(-((np.abs(np.abs(across) - street.half / 2) - 0.75) ** 2) * 6)  # wheel tracks
    marks = _markings(street, across, z) * np.clip(0.7 + 0.2 * fine + 0.25 * coarse, 0.1, 0.95)
    road += marks * (160 - road)
    yellow = (np.abs(np.abs(beyond + 0.37) - 0.09) < 0.035) & (coarse > -1.4)
    road *= 1 - 0.3 * np.exp(-np.abs(beyond) * 9) * (beyond < 0)  # the gutter
    joints = ((np.mod(z, 0.9) < 0.04) & (z < 30)) | (np.mod(beyond, 0.6) < 0.035)
    slabs = canvas.speckle[(z // 0.9).astype(np.int32) * 7 % TILE, (beyond // 0.6).astype(np.int32) * 13 % TILE]
    pavement = 84 * (1 + 0.1 * fade * fine + 0.05 * coarse + 0.09 * slabs)
    pavement[joints] *= 0.68
    for edge, tone in ((0.16, 128), (0.05, 48)):  # the kerb stone and its face
        pavement[beyond < edge] = tone
    pavement *= np.clip(0.5 + 0.3 * (street.pavement - beyond), 0.5, 1)  # darker below the walls
    roofs = 0.6 * _lookup(canvas.noise, np.zeros_like(z), z, 0.8) + 2.8  # metres from the centre to the end of their shadow
    sunlight = 0.9 + np.clip((canvas.sunny * across - roofs) * 0.5, 0, 0.3)
    clear = np.exp(-z / HAZE_DEPTH)
    grass = beyond > street.pavement
    grey = np.where(beyond < 0, road, np.where(grass, 72 + 18 * fine, pavement)) * sunlight * clear
    picture = grey[:, :, None] * rgb((0.97, 1.0, 1.035)) + rgb(HAZE) * (1 - clear)[:, :, None]
    picture[beyond >= 0] *= rgb((1.08, 1.0, 0.95))
    picture[yellow] *= rgb((1.85, 1.65, 1.05))
    picture[grass] *= rgb((0.9, 1.05, 0.72))
    canvas.image[rows[0] :] = np.clip(picture, 0, 255).astype(np.uint8)
    canvas.labels[rows[0] :] = np.where(beyond < 0, ROAD, np.where(grass, TREE, PAVEMENT))


def _lookup(tile: Float32Array, x: Float32Array, z: Float32Array, density: float) -> Float32Array:
    """Sample a noise tile on the ground, `density` tile pixels per metre, at x [h, w] or [h, 1] and z [h, 1]."""
    above, left = np.floor(z[:, 0] * density), np.floor(x * density)
    below, right = z * density - above[:, None], x * density - left  # weights of the next row and column
    row, column = above.astype(np.int32) % TILE, left.astype(np.int32) % TILE
    lines = tile[row] * (1 - below) + tile[(row + 1) % TILE] * below  # one line per row of the image, [h, TILE]
    start = TILE * np.arange(len(lines), dtype=np.int32)[:, None]
    one, two = lines.take(start + column), lines.take(start + (column + 1) % TILE)
    return np.asarray(one + (two - one) * right, np.float32)


def _markings(street: Street, across: Float32Array, z: Float32Array) -> Mask:
    """Return the white markings: a dashed centre line, and a distant stop line across the camera's lane."""
    dashes = (np.abs(across) < 0.07) & (np.mod(z, 6.0) < 3.6)
    stop = (np.abs(z - 34) < 0.5) & (across < 0) & (across > -street.half + 0.5)
    return dashes | stop
