"""The positions of houses, trees, cars and people, and the order of painting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastscnn.data.synthetic.buildings import BRICKS, house
from fastscnn.data.synthetic.canvas import Canvas
from fastscnn.data.synthetic.cars import PAINTS, car
from fastscnn.data.synthetic.ground import Street, ground
from fastscnn.data.synthetic.nature import garden, sky, tree
from fastscnn.data.synthetic.shapes import BUILDING, pick, upright
from fastscnn.data.synthetic.things import cyclist, lamp, person, railing, signal, signpost

FAR = 120.0  # metres to the row of houses at the end of the street

Lot = tuple[int, float, float]  # side, and metres from the camera to both ends


def populate(canvas: Canvas) -> None:
    """Paint a street from far to near: sky and ground, rows of houses, then the objects between them."""
    rng = canvas.rng
    street = Street(middle=rng.uniform(1.5, 2.1), half=rng.uniform(4.4, 5.2), pavement=rng.uniform(2.6, 3.6))
    sky(canvas)
    ground(canvas, street)
    _backdrop(canvas)
    gardens = [lot for side in (-1, 1) for lot in _row(canvas, street, side)]
    for _, paint in sorted(_things(canvas, street, gardens), key=lambda thing: -thing[0]):
        paint()


def _backdrop(canvas: Canvas) -> None:
    """Paint the far end: a low row of houses with trees in front."""
    for x in np.arange(-90, 90, 9.0):
        high = canvas.rng.uniform(5, 10)
        canvas.fill(upright(x, FAR + 4, 5, 0, high), label=BUILDING, colour=pick(canvas.rng, BRICKS), grain=0.05)
    for _ in range(14):
        tree(canvas, canvas.rng.uniform(-60, 60), FAR - canvas.rng.uniform(0, 6), canvas.rng.uniform(5, 11))


def _row(canvas: Canvas, street: Street, side: int) -> list[Lot]:
    """Paint the houses and gardens of one side, from far to near. Return the gardens."""
    gardens: list[Lot] = []
    ends = np.cumsum(canvas.rng.uniform(7, 14, size=14)) - canvas.rng.uniform(3, 6)
    green = int(canvas.rng.integers(3))
    for lot in range(12, -1, -1):
        near, far = float(ends[lot]), min(float(ends[lot + 1]), FAR)
        if near > FAR - 4:
            continue
        if lot % 3 == green and lot > 0:
            garden(canvas, street.front(side), side, near, far)
            gardens.append((side, near, far))
        else:
            house(canvas, street.front(side), side, near, far)
    return gardens


def _things(canvas: Canvas, street: Street, gardens: list[Lot]) -> list[tuple[float, Callable[[], None]]]:
    """Return all objects between the house fronts: (depth, function that paints it)."""
    rng = canvas.rng
    things: list[tuple[float, Callable[[], None]]] = []

    def add(z: float, paint: Callable[..., None], *arguments: object) -> None:
        things.append((z, lambda: paint(canvas, *arguments)))

    paints = (PAINTS[index % len(PAINTS)] for index in rng.permutation(20))
    kerbs = {side: street.kerb(side) for side in (-1, 1)}
    add(z := rng.uniform(11, 17), car, street.middle - rng.uniform(1.5, 1.9), z, rng.uniform(-0.05, 0.05), next(paints))
    add(z := rng.uniform(30, 45), car, street.middle - rng.uniform(1.5, 1.9), z, rng.uniform(-0.05, 0.05), next(paints))
    for z in (rng.uniform(13, 20), rng.uniform(34, 60)):
        add(z, car, street.middle + 1.4, z, np.pi + rng.uniform(-0.06, 0.06), next(paints))
    parked = int(rng.choice((-1, 1)))
    for z in np.arange(rng.uniform(8.5, 13), 70, 5.9)[: rng.integers(4, 9)]:
        add(z, car, kerbs[parked] - parked * 1.0, z, (np.pi if parked > 0 else 0) + rng.uniform(-0.04, 0.04), next(paints))
    for side in (-1, 1):
        for z in np.arange(rng.uniform(11, 16), 90, 22):
            add(z, lamp, kerbs[side] + side * 0.4, z, side, rng.uniform(6.5, 8.5))
        for z in rng.uniform(12, 60, size=rng.integers(4, 8)):
            add(z, person, kerbs[side] + side * rng.uniform(0.7, street.pavement - 0.4), z)
        add(33.0, signal, kerbs[side] + side * 0.5, 33.0)
        add(z := rng.uniform(14, 26), signpost, kerbs[side] + side * 0.45, z)
    add(z := rng.uniform(15, 18), railing, kerbs[-parked] - parked * 0.25, z)
    for side, near, far in gardens:
        z = float(np.clip(rng.uniform(near + 2, far - 2), 17, 90))
        if near - 1 < z < far + 1:  # trees only in front of gardens, so that houses stay visible
            add(z, tree, street.front(side) - side * 0.6, z, rng.uniform(7, 11), bool(rng.random() < 0.35))
    add(z := rng.uniform(10.5, 13) + (1.5 if parked < 0 else 0), cyclist, kerbs[-parked] + parked * 0.8, z)
    return things
