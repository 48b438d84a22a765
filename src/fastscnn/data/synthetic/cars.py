"""Cars and their shadows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastscnn.data.synthetic.canvas import Canvas
from fastscnn.data.synthetic.shapes import CAR, Points, Rgb, times

PAINTS: tuple[Rgb, ...] = ((164, 168, 173), (40, 46, 68), (36, 37, 40), (94, 42, 40), (136, 140, 144), (66, 80, 77),
                             (186, 187, 186))
GLASS: Rgb = (38, 41, 46)


def car(canvas: Canvas, x: float, z: float, turn: float, paint: Rgb) -> None:
    """Paint a hatchback with its rear at (x, z) for turn 0: a lofted body, then glass, wheels, lights, number plate."""
    rng = canvas.rng
    length, tall = rng.uniform(3.8, 4.4), rng.uniform(0.98, 1.12)
    # (along, up, half width) from the rear sill over the roof to the front sill
    profile = np.array([[0.05, 0.28, 0.80], [0, 0.55, 0.85], [0.07, 0.95, 0.82], [0.45, 1.38, 0.62], [1.8, 1.44, 0.62],
                        [2.8, 0.98, 0.78], [3.8, 0.80, 0.74], [4.0, 0.52, 0.82], [3.9, 0.28, 0.80]])
    profile *= (length / 4, tall, 1)
    cosine, sine = np.cos(turn), np.sin(turn)

    def place(points: npt.ArrayLike) -> Points:  # (across, up, along) -> world, rotated about the car's centre
        across, up, along = np.asarray(points, np.float64).T
        along = along - length / 2
        return np.stack([x + across * cosine + along * sine, up, z + length / 2 + along * cosine - across * sine], axis=1)

    def face(points: npt.ArrayLike, colour: Rgb, light: tuple[float, float] = (1, 1), grain: float = 0.03) -> None:
        world = place(points)
        (x, y), (next_x, next_y) = (ring := canvas.project(world)).T, np.roll(ring, -1, axis=0).T
        if np.sum(x * next_y - next_x * y) < 0:  # orientation of a face towards the camera
            canvas.fill(world, label=CAR, colour=colour, light=light, grain=grain)

    def strip(index: int, low: float, high: float, left: float, right: float) -> Points:  # part of a lofted band
        one, two = profile[index], profile[index + 1]
        ends = [(one + (two - one) * share)[::-1] for share in (low, high)]
        return np.array([ends[0] * (left, 1, 1), ends[0] * (right, 1, 1), ends[1] * (right, 1, 1), ends[1] * (left, 1, 1)])

    _shadow(canvas, place([[-0.95, 0, -0.15], [0.95, 0, -0.15], [0.95, 0, length + 0.15], [-0.95, 0, length + 0.15]]))
    for along in (0.5, length - 0.6):
        for across in (-0.68, 0.68):
            low, high = across - 0.12, across + 0.12
            tyre = [[low, 0, along], [low, 0.45, along], [high, 0.45, along], [high, 0, along]]
            canvas.fill(place(tyre), label=CAR, colour=(22, 22, 24))
    for index, shine in enumerate((0.5, 0.85, 1.0, 1.5, 1.0, 1.45, 0.9, 0.5)):
        face(strip(index, 0, 1, -1, 1), times(paint, shine), (1.1, 0.9))
    for index in (2, 4):
        face(strip(index, 0.1, 0.9, -0.88, 0.88), GLASS, (2.2, 0.6), 0.08)
    for index, low, high, colour in ((1, 0.55, 0.98, (112, 28, 27)), (6, 0.15, 0.75, (180, 184, 186))):
        face(strip(index, low, high, -0.98, -0.74), colour, (1.2, 0.8), 0.15)
        face(strip(index, low, high, 0.74, 0.98), colour, (1.2, 0.8), 0.15)
    face(strip(1, 0.1, 0.38, -0.32, 0.32), (164, 142, 66))
    face(strip(6, 0.2, 0.8, -0.5, 0.5), (30, 30, 32))
    face(strip(7, 0.1, 0.55, -0.32, 0.32), (190, 190, 186))
    _flanks(face, profile, paint)


def _flanks(face: Callable[..., None], profile: Points, paint: Rgb) -> None:
    """Paint both sides of a car: body, cabin, windows, wheels."""
    cabin, body, turn = profile[2:6], profile[[0, 1, 2, 5, 6, 7, 8]], np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for sign in (-1, 1):
        for ring, colour, size in ((body, times(paint, 0.85), 1.0), (cabin, times(paint, 0.9), 1.0), (cabin, GLASS, 0.82)):
            flank = (ring.mean(0) + (ring - ring.mean(0)) * size)[::-sign, ::-1] * (sign, 1, 1)
            face(flank, colour, (1.9, 0.7) if colour is GLASS else (1.2, 0.6))
        for along in (0.68, profile[-2, 0] - 0.8):
            for radius, shade in ((0.33, 25.0), (0.2, 88.0)):
                up, forward = 0.32 + radius * np.sin(turn), along + radius * np.cos(turn)
                wheel = np.stack([np.full(20, sign * 0.83), up, forward], axis=1)
                face(wheel[::sign], (shade, shade, shade + 2))


def _shadow(canvas: Canvas, corners: Points) -> None:
    """Paint a soft shadow on the ground below an object; keep the label of the ground."""
    middle = corners.mean(0)
    for size, alpha in ((1.3, 0.12), (1.18, 0.18), (1.06, 0.3), (0.95, 0.5)):
        canvas.fill(middle + (corners - middle) * size, label=None, colour=(14, 15, 17), alpha=alpha)
