"""Objects on the pavements: lamps, traffic lights, signs, railings, people, a cyclist."""

from __future__ import annotations

import numpy as np

from fastscnn.data.synthetic.canvas import Canvas
from fastscnn.data.synthetic.shapes import (
    BICYCLIST,
    FENCE,
    PEDESTRIAN,
    POLE,
    SIGN,
    Rgb,
    lengthwise,
    oval,
    pick,
    taper,
    times,
    upright,
)

BOARDS: tuple[Rgb, ...] = ((36, 52, 92), (132, 124, 76), (44, 68, 62))
HAIR: tuple[Rgb, ...] = ((30, 26, 24), (60, 46, 36), (84, 80, 76))
COATS: tuple[Rgb, ...] = ((16, 17, 22), (34, 22, 22), (20, 25, 42), (52, 48, 45), (12, 12, 14))


def lamp(canvas: Canvas, x: float, z: float, side: int, high: float) -> None:
    """Paint a street lamp with its arm over the road."""
    grey = times((80, 82, 84), canvas.rng.uniform(0.45, 1.5))
    canvas.fill(taper((x, 0), (x, high), 0.11, z), label=POLE, colour=grey)
    canvas.fill(taper((x, high), (x - side * 1.3, high + 0.25), 0.06, z), label=POLE, colour=grey)
    canvas.fill(oval(x - side * 1.6, high + 0.25, 0.4, 0.1, z), label=POLE, colour=(130, 132, 132))


def signal(canvas: Canvas, x: float, z: float) -> None:
    """Paint a traffic light: the head is SignSymbol, the post is Pole."""
    canvas.fill(upright(x, z, 0.08, 0, 3.4), label=POLE, colour=(58, 60, 62))
    canvas.fill(upright(x, z, 0.32, 2.1, 3.5), label=SIGN, colour=(26, 27, 28))
    lit = int(canvas.rng.choice((0, 2)))
    for place, colour in enumerate(((225, 60, 40), (230, 170, 60), (60, 215, 150))):
        lens = oval(x, 3.25 - 0.42 * place, 0.14, 0.14, z)
        canvas.fill(lens, label=SIGN, colour=times(colour, 1 if place == lit else 0.2))


def signpost(canvas: Canvas, x: float, z: float) -> None:
    """Paint a round sign or a board on a post."""
    canvas.fill(upright(x, z, 0.055, 0, 2.6), label=POLE, colour=(96, 98, 98))
    if canvas.rng.random() < 0.5:
        canvas.fill(oval(x, 2.5, 0.36, 0.36, z), label=SIGN, colour=(116, 46, 46))
        canvas.fill(oval(x, 2.5, 0.26, 0.26, z), label=SIGN, colour=(160, 160, 156))
    else:
        canvas.fill(upright(x, z, 0.42, 2.0, 2.8), label=SIGN, colour=pick(canvas.rng, BOARDS))
        canvas.fill(upright(x, z, 0.3, 2.3, 2.5), label=SIGN, colour=(166, 168, 168))


def railing(canvas: Canvas, x: float, z: float) -> None:
    """Paint a railing along the kerb; the gaps between its bars are Fence too."""
    far, grey = z + 13, (36, 38, 41)
    canvas.fill(lengthwise(x, z, far, 0.1, 1.1), label=FENCE, colour=grey, alpha=0.3)
    for low, high in ((0.1, 0.18), (1.02, 1.12)):
        canvas.fill(lengthwise(x, z, far, low, high), label=FENCE, colour=grey)
    for at in np.arange(far, z - 0.01, -0.16):
        canvas.fill(upright(x, at, 0.018, 0.1, 1.1), label=FENCE, colour=grey)


def person(canvas: Canvas, x: float, z: float) -> None:
    """Paint a standing or walking person."""
    rng = canvas.rng
    high, coat, stride = rng.uniform(0.92, 1.05), pick(rng, COATS), rng.uniform(0.06, 0.24)
    for sign in (-1, 1):
        leg = taper((x + sign * 0.09, 0.95 * high), (x + sign * stride, 0), 0.11, z)
        arm = taper((x + sign * 0.2, 1.42 * high), (x + sign * 0.28, 0.85 * high), 0.07, z)
        canvas.fill(leg, label=PEDESTRIAN, colour=times(coat, 0.8), light=(1, 0.8))
        canvas.fill(arm, label=PEDESTRIAN, colour=times(coat, 0.9), light=(1.2, 0.8))
    canvas.fill(oval(x, 1.15 * high, 0.22, 0.38, z), label=PEDESTRIAN, colour=coat, light=(1.9, 0.6), grain=0.2)
    _head(canvas, x, 1.62 * high, z, PEDESTRIAN)


def _head(canvas: Canvas, x: float, y: float, z: float, label: int) -> None:
    canvas.fill(oval(x, y, 0.1, 0.15, z), label=label, colour=(150, 114, 96), light=(1.15, 0.75))
    canvas.fill(oval(x, y + 0.06, 0.11, 0.1, z), label=label, colour=pick(canvas.rng, HAIR))


def cyclist(canvas: Canvas, x: float, z: float) -> None:
    """Paint a cyclist who rides away at an angle; the gaps in the wheels are Bicyclist too."""
    turn, slant, coat = np.linspace(0, 2 * np.pi, 24, endpoint=False), canvas.rng.uniform(0.5, 0.8), pick(canvas.rng, COATS)

    def limb(start: tuple[float, float], end: tuple[float, float], half: float, colour: Rgb) -> None:  # (along, up)
        one, two = ((x + slant * along, up) for along, up in (start, end))
        canvas.fill(taper(one, two, half, z), label=BICYCLIST, colour=colour, light=(1.3, 0.8))

    for along in (0.52, -0.52):
        hub = np.array([x + slant * along, 0.34, z + along])
        wheel = hub + 0.34 * np.stack([slant * np.cos(turn), np.sin(turn), np.cos(turn)], axis=1)
        canvas.fill(wheel, label=BICYCLIST, colour=(60, 60, 62), alpha=0.4)
        canvas.fill(wheel, hub + (wheel - hub) * 0.84, label=BICYCLIST, colour=(22, 22, 24))
    hip, shoulder, crank, head = (-0.22, 1.0), (0.2, 1.48), (0.0, 0.32), (0.42, 0.92)
    for start, end in ((hip, crank), (crank, head), (head, (-0.18, 0.86)), (head, (0.52, 0.34)), (crank, (-0.52, 0.34))):
        limb(start, end, 0.03, (62, 40, 42))
    for knee, foot in (((0.24, 0.9), (0.06, 0.48)), ((0.2, 0.68), (0.02, 0.16))):
        limb(hip, knee, 0.12, times(coat, 0.8))
        limb(knee, foot, 0.09, times(coat, 0.7))
    limb(shoulder, hip, 0.2, coat)
    limb((shoulder[0], shoulder[1] - 0.06), (0.46, 1.04), 0.08, times(coat, 1.3))
    _head(canvas, x + slant * 0.34, 1.68, z, BICYCLIST)
