"""Houses: front, end wall, roof, chimneys."""

from __future__ import annotations

import numpy as np

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data.synthetic.canvas import Canvas
from fastscnn.data.synthetic.shapes import BUILDING, Rgb, lengthwise, pick, rgb, times, upright

BRICKS: tuple[Rgb, ...] = ((116, 102, 94), (150, 142, 128), (92, 85, 81), (206, 205, 201), (134, 128, 118), (112, 111, 110))
SIGNS: tuple[Rgb, ...] = ((40, 46, 60), (104, 40, 38), (42, 66, 52), (150, 148, 140))


def house(canvas: Canvas, x: float, side: int, near: float, far: float) -> None:
    """Paint a house: a street front with windows, an end wall with a gable, a slate roof and chimneys."""
    rng = canvas.rng
    storeys = int(rng.integers(2, 4))
    high, deep, rise = 3.0 * storeys + rng.uniform(0.3, 1.2), 8.0, rng.uniform(2.0, 3.5)
    colour, light = pick(rng, BRICKS), (0.7, 1.2)[side == canvas.sunny] * rng.uniform(0.85, 1.1)
    back, ridge = x + side * deep, x + side * deep / 2
    for z in (far - 1, near + 1):
        canvas.fill(upright(ridge, z, 0.6, high, high + rise + 1.3), label=BUILDING, colour=(84, 70, 62), grain=0.15)
    gable = np.array([[x, 0, near], [x, high, near], [ridge, high + rise, near], [back, high, near], [back, 0, near]])
    canvas.fill(gable, label=BUILDING, colour=times(colour, light * 0.85), light=(1.05, 0.8), grain=0.12)
    slope = np.array([[x, high, near], [ridge, high + rise, near], [ridge, high + rise, far], [x, high, far]])
    canvas.fill(slope, label=BUILDING, colour=(82, 80, 82), grain=0.14)
    density = float(np.clip(0.6 * canvas.focal / near, 5, 56))
    end = _facade(canvas, (deep, high), density, times(colour, light * 0.85), False)
    canvas.texture(np.array([[x, high, near], [back, high, near], [back, 0, near], [x, 0, near]]), end, BUILDING)
    front = _facade(canvas, (far - near, high), density, times(colour, light), bool(rng.random() < 0.35))
    canvas.texture(lengthwise(x, near, far, 0, high), front, BUILDING)


def _facade(canvas: Canvas, size: tuple[float, float], density: float, wall: Rgb, shop: bool) -> UInt8Array:
    """Return the texture of a house front of `size` (width, height in metres), `density` pixels per metre."""
    rng = canvas.rng
    width, height = (max(8, round(length * density)) for length in size)
    stain = 0.05 * canvas.grain(height, width, 20 / density) + 0.04 * canvas.grain(height, width, 2 / density)
    rows = np.arange(height)[:, None] / density  # metres below the eaves
    courses = 0.05 * (np.mod(rows, 0.3) < 0.06)
    face = (rgb(wall) * (1 + stain - courses)[:, :, None]).astype(np.float32)

    def panel(x: float, y: float, wide: float, high: float, colour: Rgb) -> Float32Array:
        top, left, bottom, right = (round(metres * density) for metres in (y, x, y + high, x + wide))
        view: Float32Array = face[top:bottom, left:right]
        view[:] = view * np.float32(0.1) + rgb(colour) * np.float32(0.9)
        return view

    frame = times((200, 200, 196), min(1.0, sum(wall) / 420) * rng.uniform(0.7, 1.1))
    pitch, wide = rng.uniform(1.8, 2.7), rng.uniform(0.9, 1.3)
    for floor in range(int(size[1] // 3)):
        y = size[1] - 3.0 * (floor + 1) + 0.6
        if floor == 0 and shop:
            panel(0, y - 0.35, size[0], 0.6, pick(rng, SIGNS))
            for x in np.arange(rng.uniform(0.5, 3), size[0] - rng.uniform(0.5, 3), 0.26):  # letters of the sign
                panel(x, y - 0.2 + rng.choice((0, 0.08)), rng.uniform(0.0, 0.2), 0.22, (186, 184, 176))
            panel(0, y + 0.25, size[0], 2.2, times(wall, 0.88))
        for x in np.arange(0.5, size[0] - wide - 0.2, pitch):
            if floor == 0 and shop:
                panel(x - 0.36, y + 0.3, pitch - 0.18, 1.6, frame)
                _glass(canvas, panel(x - 0.3, y + 0.36, pitch - 0.3, 1.48, (37, 38, 40)), True)
            elif floor == 0 and rng.random() < 0.3:
                panel(x, y - 0.1, 1.0, 2.5, pick(rng, ((36, 44, 52), (70, 40, 38), (46, 54, 48))))
            else:
                panel(x - 0.1, y - 0.12, wide + 0.2, 1.8, frame)
                panel(x - 0.1, y - 0.2, wide + 0.2, 0.12, times(wall, 0.6))
                _glass(canvas, panel(x, y, wide, 1.55, (32, 35, 39)), False)
                panel(x, y + 0.72, wide, 0.09, frame)
                panel(x + wide / 2 - 0.04, y, 0.08, 1.55, frame)
    panel(0, 0, size[0], 0.22, times(wall, 1.15))
    panel(0, 0.22, size[0], 0.2, times(wall, 0.6))
    face *= np.clip(0.85 + 0.15 * (size[1] - rows), 0.85, 1)[:, :, None].astype(np.float32)  # darker near the ground
    return np.asarray(np.clip(face, 0, 255), np.uint8)


def _glass(canvas: Canvas, view: Float32Array, shop: bool) -> None:
    """Turn a panel into glass: windows reflect the sky at the top; shop windows show goods and lamps."""
    if shop:
        high, wide = view.shape[:2]
        for left, top in canvas.rng.uniform((0, 0.35), (0.9, 0.8), size=(7, 2)):
            goods = view[int(top * high) : int((top + 0.25) * high), int(left * wide) : int((left + 0.16) * wide)]
            goods += np.float32(canvas.rng.uniform(0, 50)) + canvas.rng.uniform(0, 22, 3).astype(np.float32)
        view += np.linspace(canvas.rng.uniform(20, 60), 0, high, dtype=np.float32)[:, None, None]
    else:
        view += np.linspace(canvas.rng.uniform(0, 90), 0, view.shape[0], dtype=np.float32)[:, None, None]
        view += np.float32(canvas.rng.uniform(-16, 12))
