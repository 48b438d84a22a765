"""Draw the picture of docs/lazy-labels.md from the code that it explains.

    python website/lazy_picture.py

Writes docs/lazy-labels.svg: the classes of a few logits, the cells whose corners agree, and the labels of the other cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.upsampling import upsample

PICTURE = Path(__file__).parents[1] / "docs" / "lazy-labels.svg"
COLOURS = ("#7fb2e5", "#b06a55", "#8c8c9c", "#2f4d9e")  # sky, building, road, car
GRID, STRIDE = (9, 12), 8  # logits, and pixels from one to the next
PIXEL, GAP, TOP = 3, 24, 34  # units of the picture
Rectangle = tuple[int, int, int, int]  # left, top, width and height in pixels


def logits() -> Float32Array:
    """Return logits of a small street, float32 [4, 9, 12]."""
    y, x = np.mgrid[: GRID[0], : GRID[1]].astype(np.float32)
    sky = 3.2 - 1.3 * y + 0.05 * x
    building = 2.6 - 0.9 * np.abs(y - 3) + 0.9 * (x - 7.4)
    road = 1.2 * (y - 4.6) + 0.1 * (5 - x)
    car = 3.6 - 1.6 * np.hypot(y - 5.2, 0.7 * (x - 3.2))
    return np.stack([sky, building, road, car]).astype(np.float32)


def cells(values: Float32Array, size: tuple[int, int]) -> tuple[list[tuple[int, Rectangle]], list[Rectangle]]:
    """Return the cells whose corners agree, each with its class, and the other ones."""
    coarse = upsample.argmax(values)
    rows, columns = upsample.axis(values.shape[1], size[0]), upsample.axis(values.shape[2], size[1])
    agreed, disputed = [], []
    for top, bottom, above, below in zip(rows.first, rows.last, rows.low, rows.high, strict=True):
        for left, right, before, after in zip(columns.first, columns.last, columns.low, columns.high, strict=True):
            place = (int(left), int(top), int(right - left) + 1, int(bottom - top) + 1)
            corners = {int(coarse[y, x]) for y in (above, below) for x in (before, after)}
            if len(corners) == 1:
                agreed.append((corners.pop(), place))
            else:
                disputed.append(place)
    return agreed, disputed


def runs(labels: UInt8Array, place: Rectangle) -> Iterable[tuple[int, Rectangle]]:
    """Yield the labels inside a rectangle as rows of equal pixels."""
    left, top, width, height = place
    for y in range(top, top + height):
        start = left
        for class_, pixels in groupby(labels[y, left : left + width].tolist()):
            length = len(list(pixels))
            yield class_, (start, y, length, 1)
            start += length


def paths(shapes: Iterable[tuple[int, Rectangle]], opacity: float = 1) -> str:
    """Return one path for each class."""
    drawn = [""] * len(COLOURS)
    for class_, (left, top, width, height) in shapes:
        drawn[class_] += f"M{left} {top}h{width}v{height}h-{width}z"
    return "".join(f'<path fill="{colour}" opacity="{opacity:g}" d="{path}"/>'
                   for colour, path in zip(COLOURS, drawn, strict=True) if path)


def outlines(places: Iterable[Rectangle]) -> str:
    """Return the borders of cells."""
    path = "".join(f"M{left} {top}h{width}v{height}h-{width}z" for left, top, width, height in places)
    return f'<path fill="none" stroke="#999" stroke-width=".25" d="{path}"/>'


def dots(coarse: UInt8Array) -> str:
    """Return a dot at the centre of each logit, in the colour of its class."""
    return "".join(
        f'<circle cx="{STRIDE * (x + 0.5):g}" cy="{STRIDE * (y + 0.5):g}" r="1.6" fill="{COLOURS[class_]}" stroke="#fff" '
        'stroke-width=".4"/>'
        for (y, x), class_ in np.ndenumerate(coarse)
    )


def picture() -> str:
    """Return the picture as SVG."""
    values = logits()
    height, width = size = (GRID[0] * STRIDE, GRID[1] * STRIDE)
    labels = upsample.labels_in_numpy(values, size)
    agreed, disputed = cells(values, size)
    borders = outlines([*(place for _, place in agreed), *disputed])
    marks = dots(upsample.argmax(values))
    settled = [run for place in disputed for run in runs(labels, place)]
    panels = [borders + marks, paths(agreed) + borders + marks, paths(agreed, 0.35) + paths(settled) + borders + marks]
    across, down = PIXEL * width + GAP, PIXEL * height + TOP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(panels) * across + GAP} {down + GAP}" role="img">',
        "<title>Classes of the logits; cells whose corners agree; labels of the other cells</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        left = GAP + index * across
        lines += [
            f'<text x="{left}" y="{TOP - 8}" font-family="sans-serif" font-size="24" fill="#333">{index + 1}</text>',
            f'<g transform="translate({left} {TOP}) scale({PIXEL})" shape-rendering="geometricPrecision">{panel}</g>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
