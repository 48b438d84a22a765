"""Bars, curves, a heat map and a reliability diagram, as SVG and HTML in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastscnn.base.types import Int64Array
from fastscnn.evaluation.report.page import Markup, element, join

Points = Sequence[tuple[float, float]]  # x and y
_INK_TURNS = 0.82  # opacity of a cell above which white text is easier to read than black
_MOST_DOTS = 60  # curves with more points have no dots
_TINY = 1e-300  # numbers below it are drawn as zero: their powers of 10 cannot be computed


@dataclass(frozen=True)
class Dot:
    """A result in a scatter chart: its place, its tooltip, and its style from 0 to 3."""

    x: float
    y: float
    text: str
    style: int = 0


def bar(figure: str, value: float | None, most: float = 100.0) -> Markup:
    """Return a table cell with a text and a bar of `value` out of `most`."""
    drawn = element("rect", width=f"{100 * value / most:.2f}" if value and most else 0, height=8)
    meter = element("svg", drawn, viewBox="0 0 100 8", preserveAspectRatio="none", class_="meter", aria_hidden="true")
    return element("td", element("div", figure, meter), class_="m")


def heat_map(names: Sequence[str], matrix: Int64Array, shown: Sequence[int] | None = None) -> Markup:
    """Return a confusion matrix in percent of each row. Zeros are empty; shading by the square root shows small values.

    Args:
        names: class names.
        matrix: int64 [classes, classes]; rows are true classes.
        shown: indices of the classes to show; None shows all.
    """
    kept = list(range(len(names)) if shown is None else shown)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)[np.ix_(kept, kept)]
    names = [names[index] for index in kept]
    corner = element("th", "true ↓ predicted →", scope="col")
    head = element("tr", corner, *(element("th", name, class_="turned", scope="col") for name in names))
    rows = (element("tr", element("th", name, scope="row"), *(
        _heat(share, f"{name} predicted as {other}: {100 * share:.2f} %") for other, share in zip(names, row, strict=True)
    )) for name, row in zip(names, shares.tolist(), strict=True))
    return element("div", element("table", element("thead", head), element("tbody", *rows), class_="heat"), class_="wide")


def _heat(share: float, title: str) -> Markup:
    if not share:
        return element("td", style="--p:0")
    shade = math.sqrt(share)
    figure = "<1" if share < 0.005 else f"{100 * share:.0f}"
    return element("td", figure, style=f"--p:{shade:.2f}", title=title, **({"class": "full"} if shade > _INK_TURNS else {}))


def lines(
    title: str,
    series: Mapping[str, Points],
    unit: str = "",
    size: tuple[int, int] = (480, 240),
    span: tuple[float, float] | None = None,
) -> Markup:
    """Return a line chart over training steps.

    Args:
        title: caption.
        series: name -> points with ascending x; at most four curves.
        unit: unit of y.
        size: (width, height) of the drawing in SVG units.
        span: (lowest, highest) y; None: those of the points.
    """
    small = size[0] < 300
    every = [point for points in series.values() for point in points]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    frame = _Frame(size, (first, last), span or (min(y for _, y in every), max(y for _, y in every)))
    parts = frame.grid()
    ends = [(first, "start" if last > first else "middle"), (last, "end")]
    for x, anchor in ends if last > first else ends[:1]:
        parts.append(frame.mark(x, _figure(x), anchor))
    for index, (name, points) in enumerate(series.items()):
        parts += _curve(f"s{index}", name, unit, points, [frame.place(*point) for point in points])
    ends_at = {name: points[-1] for name, points in series.items()}
    said = "; ".join(f"{name} {_figure(y)}{unit} at step {_figure(x)}" for name, (x, y) in ends_at.items())
    keys = (join((_key(index), name)) for index, name in enumerate(series)) if len(series) > 1 else ()
    return _drawing(join((title, f", {unit.strip()}" if unit and not small else "", *keys)), f"{title}: {said}", size, parts)


def scatter(title: str, dots: Sequence[Dot], marks: Sequence[tuple[float, str]], line: Points = ()) -> Markup:
    """Return a chart of single results.

    Args:
        title: caption.
        dots: the results, at least one.
        marks: (x, text) below the x-axis, with ascending x, that of the dots among them or around them.
        line: points of a line, with ascending x.
    """
    size, xs, ys = (480, 240), [x for x, _ in marks], [dot.y for dot in dots]
    frame = _Frame(size, (min(xs), max(xs)), (min(ys), max(ys)))
    parts = frame.grid()
    for index, (x, text) in enumerate(marks):
        anchor = "middle" if len(marks) == 1 or 0 < index < len(marks) - 1 else "end" if index else "start"
        parts.append(frame.mark(x, text, anchor))
    if line:
        places = (frame.place(*point) for point in line)
        parts.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="s1"))
    for dot in dots:
        across, down = frame.place(dot.x, dot.y)
        parts.append(element("circle", element("title", dot.text), cx=f"{across:.1f}", cy=f"{down:.1f}", r=4,
                             class_=f"s{dot.style}"))
    return _drawing(title, title, size, parts)


class _Frame:
    """Where points lie in a drawing.

    Args:
        size: (width, height) of the drawing in SVG units.
        across: lowest and highest x.
        up: lowest and highest y; the axis is extended to round numbers.
    """

    def __init__(self, size: tuple[int, int], across: tuple[float, float], up: tuple[float, float]) -> None:
        width, self._height = size
        small = width < 300
        self._left, self._right, self._top, self._bottom = (34 if small else 52), width - 8, 10, self._height - 24
        self._first, self._last = across
        self._rungs = _ticks(*up, 2 if small else 4)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point in SVG units."""
        first, last, low, high = self._first, self._last, self._rungs[0], self._rungs[-1]
        across = (x - first) / (last - first) if last > first else 0.5
        return (self._left + across * (self._right - self._left),
                self._bottom - (y - low) / (high - low) * (self._bottom - self._top))

    def grid(self) -> list[Markup]:
        """Return the horizontal lines with their values."""
        parts = []
        for rung in self._rungs:
            y = self.place(self._first, rung)[1]
            parts.append(element("line", x1=self._left, x2=self._right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="axis"))
            parts.append(element("text", _figure(rung), x=self._left - 6, y=f"{y + 4:.1f}", text_anchor="end"))
        return parts

    def mark(self, x: float, text: str, anchor: str) -> Markup:
        """Return a text below the x-axis."""
        return element("text", text, x=f"{self.place(x, self._rungs[0])[0]:.1f}", y=self._height - 6, text_anchor=anchor)


def _curve(style: str, name: str, unit: str, points: Points, places: Sequence[tuple[float, float]]) -> list[Markup]:
    """Return a line through the places, and a dot with a tooltip at each."""
    parts = [element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_=style)]
    if len(points) <= _MOST_DOTS:
        for (x, y), (across, down) in zip(points, places, strict=True):
            told = element("title", f"{name} at step {_figure(x)}: {_figure(y)}{unit}")
            parts.append(element("circle", told, cx=f"{across:.1f}", cy=f"{down:.1f}", r=2.5, class_=style))
    return parts


def _key(index: int) -> Markup:
    drawn = element("line", x1=0, x2=16, y1=3, y2=3, stroke_width=3, class_=f"s{index}")
    return element("svg", drawn, viewBox="0 0 16 6", class_="key", aria_hidden="true")


def reliability(title: str, bins: Sequence[tuple[float, float, float]]) -> Markup:
    """Return a reliability diagram: accuracy by confidence. A calibrated network is on the dashed line.

    Args:
        title: caption.
        bins: mean confidence, accuracy and share of the pixels of each bin of equal width, all from 0 to 1.
    """
    left, right, top, bottom, below, foot = 44, 372, 8, 288, 316, 376
    span, step = right - left, (right - left) / len(bins)
    parts = []
    for tenth in (0, 25, 50, 75, 100):
        y, x = bottom - (bottom - top) * tenth / 100, left + span * tenth / 100
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="axis"))
        parts.append(element("text", f"{tenth}", x=left - 6, y=y + 4, text_anchor="end"))
        parts.append(element("text", f"{tenth}", x=x, y=bottom + 17, text_anchor="middle"))
    most = max(share for _, _, share in bins) or 1.0
    for index, (confidence, accuracy, share) in enumerate(bins):
        if share:
            told = element("title", f"confidence {100 * confidence:.1f} %: {100 * accuracy:.1f} % right, "
                                    f"{100 * share:.2f} % of the pixels")
            drawn = (bottom, accuracy * (bottom - top), "solid"), (foot, share / most * (foot - below), "hollow")
            for end, high, style in drawn:
                parts.append(element("rect", told, x=f"{left + index * step + 1:.1f}", width=f"{step - 2:.1f}",
                                     y=f"{end - high:.1f}", height=f"{high:.1f}", class_=style))
    parts.append(element("line", x1=left, y1=bottom, x2=right, y2=top, class_="even"))
    parts.append(element("line", x1=left, x2=right, y1=foot, y2=foot, class_="axis"))
    parts.append(element("text", f"share of the pixels, at most {100 * most:.1f} %", x=left, y=foot + 16))
    return _drawing("accuracy in % by confidence in %", title, (right + 16, foot + 22), parts)


def _drawing(caption: str, title: str, size: tuple[int, int], parts: Sequence[Markup]) -> Markup:
    drawn = element("svg", element("title", title), *parts, viewBox=f"0 0 {size[0]} {size[1]}", role="img")
    return element("figure", element("figcaption", caption), drawn, class_="chart")


def _ticks(low: float, high: float, wished: int) -> list[float]:
    """Return round numbers from below `low` to above `high`, in about `wished` steps of 1, 2 or 5 times a power of 10.

    Values that are equal to nine digits are drawn as one.
    """
    largest = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * largest else largest
    span = span if span > _TINY else 1.0
    power = 10.0 ** math.floor(math.log10(span / wished))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * wished >= span * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
