"""Full-size labels from logits at 1/8: bilinear interpolation and argmax, exactly, at a fraction of the work.

Bilinear interpolation is a convex combination of four corner logits. If all four corners of a cell agree on the class,
that class wins everywhere inside, so the cell is filled without interpolating. In other cells, only a class whose largest
corner reaches the best smallest corner of any class can win, and only those classes are interpolated. On street scenes
few cells are disputed, and between two or three classes. The result is that of interpolate-then-argmax (align_corners
False) on every pixel whose two best classes are not tied.

`labels` does this in C if the compiled kernel is installed (lazy.c), else in NumPy, as `labels_in_numpy`. `confidence`
also uses only the classes that matter in each cell. The probabilities of all classes, or the mean of several passes, allow
no such shortcut: `probabilities` interpolates everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastscnn.base.arguments import whole
from fastscnn.base.errors import ArgumentError, NotFiniteError
from fastscnn.base.types import BoolArray, Float32Array, Int64Array, UInt8Array
from fastscnn.upsampling import native

_BLOCK = 1 << 16  # values processed at a time: 256 KiB stay in the processor's cache
_WIDE_BLOCK = 1 << 18  # the same for whole rows: with less, two threads wait for Python longer than they compute


@dataclass(frozen=True)
class Axis:
    """How the output's pixels along one axis lie between the input's values.

    Cell k lies between inputs `low[k]` and `high[k]` and covers pixels `first[k]` to `last[k]`.
    """

    low: Int64Array  # [cells]
    high: Int64Array  # [cells]
    first: Int64Array  # [cells]
    last: Int64Array  # [cells]
    cell: Int64Array  # [pixels], the cell of each pixel
    weight: Float32Array  # [pixels], weight of the high input


def labels(logits: Float32Array, size: tuple[int, int], threads: int = 1) -> UInt8Array:
    """Return the class of every pixel: bilinear interpolation to `size`, then argmax over the classes.

    Args:
        logits: float32 [C, h, w], C at most 255.
        size: (height, width) of the result, whole numbers.
        threads: at most; only the compiled kernel uses more than one, and only for images large enough.

    Returns:
        uint8 [height, width]. Of classes that tie, one.

    Raises:
        ArgumentError: wrong dtype or shape of the logits, a size or a number of threads that is not whole or below 1.
        NotFiniteError: NaN or infinity in the logits.
    """
    size, threads = _check(logits, size), whole("threads", threads)
    if native.KERNEL is None:
        return labels_in_numpy(logits, size)
    result = native.KERNEL.labels(logits, size, threads)
    if result is None:
        raise _broken()
    return result


def labels_in_numpy(logits: Float32Array, size: tuple[int, int]) -> UInt8Array:
    """Return what `labels` returns, without the compiled kernel: if that is missing, and to test it. Same errors."""
    size = _check(logits, size)
    rows, columns = axis(logits.shape[1], size[0]), axis(logits.shape[2], size[1])
    coarse = argmax(logits)
    result: UInt8Array = coarse[:, columns.low[columns.cell]][rows.low[rows.cell]]
    corners = [coarse[np.ix_(y, x)] for y in (rows.low, rows.high) for x in (columns.low, columns.high)]
    disputed = (corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3])
    y, x = np.nonzero(disputed)
    if len(y):
        _settle(logits, rows, columns, y, x, result)
    return result


def confidence(logits: Float32Array, size: tuple[int, int], threads: int = 1) -> Float32Array:
    """Return the probability of each pixel's label: the best softmax of logits interpolated bilinearly to `size`.

    The compiled kernel leaves out classes that are far from the best everywhere in a cell, which adds up to 3e-4 for each
    of them. From row to row of a cell it multiplies powers instead of computing new ones.

    Args:
        logits: float32 [C, h, w].
        size, threads: see `labels`.

    Returns:
        float32 [height, width] in (0, 1].

    Raises:
        NotFiniteError: see `labels`.
    """
    size, threads = _check(logits, size), whole("threads", threads)
    if native.KERNEL is None:
        return confidence_in_numpy(logits, size)
    result = native.KERNEL.confidence(logits, size, threads)
    if result is None:
        raise _broken()
    return result


def confidence_in_numpy(logits: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Return what `confidence` returns, from all classes, without the compiled kernel: if that is missing, and to test it."""
    size = _check(logits, size)
    if not np.isfinite(logits).all():
        raise _broken()
    result = np.empty(size, np.float32)
    wide, rows = _widened(logits, size[1]), axis(logits.shape[1], size[0])
    for block in _blocks(len(logits), *size):
        values = _interpolated(wide, rows, block)
        result[block] = 1 / np.exp(values - values.max(axis=0)).sum(axis=0)
    return result


def ood_mask(logits: Float32Array, threshold: float, size: tuple[int, int], threads: int = 1) -> BoolArray:
    """Return the OOD mask: True where the best logit, interpolated bilinearly from the network's grid, is below `threshold`.

    Args:
        logits: float32 [C, h, w].
        threshold: see `Card.ood_threshold`.
        size, threads: see `labels`.

    Returns:
        bool [height, width].

    Raises:
        NotFiniteError: see `labels`.
    """
    _check(logits, size)
    best = logits.max(axis=0)  # keeps a NaN
    # The threshold acts as a second class that the best logit must beat: same rule, same shortcut.
    return labels(np.stack([best, np.full_like(best, threshold)]), size, threads).view(np.bool_)


def probabilities(passes: Sequence[Float32Array], size: tuple[int, int], threads: int = 1) -> Float32Array:
    """Return the softmax of logits interpolated bilinearly to `size`, averaged over the passes of one image.

    Args:
        passes: logits of each pass, float32 [C, h, w] with the same C and any h and w.
        size: (height, width) of the result, whole numbers.
        threads: any number gives the same result.

    Returns:
        float32 [C, height, width], the only array of that size in memory: 4 * C * height * width bytes.

    Raises:
        NotFiniteError: see `labels`.
        ArgumentError: there is no pass, or the passes differ in the number of classes.
    """
    wanted = size
    for logits in passes:
        size = _check(logits, wanted)
        if not np.isfinite(logits).all():
            raise _broken()
    if len({len(logits) for logits in passes}) != 1:
        raise ArgumentError("passes: at least one is needed, and all must have the same number of classes.")
    threads = whole("threads", threads)
    result = np.empty((len(passes[0]), *size), np.float32)
    parts = [(_widened(logits, size[1]), axis(logits.shape[1], size[0])) for logits in passes]

    def fill(block: slice) -> None:
        for index, (wide, rows) in enumerate(parts):
            share = _interpolated(wide, rows, block)
            share -= share.max(axis=0)
            np.exp(share, out=share)
            share /= len(parts) * share.sum(axis=0)
            if index:
                result[:, block] += share
            else:
                result[:, block] = share

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, _blocks(len(result), *size)):
            pass
    return result


def argmax(planes: Float32Array) -> UInt8Array:
    """Return the argmax over the first axis of [C, h, w], many times faster than NumPy's. The first of tied classes wins.

    Raises:
        NotFiniteError: NaN or infinity in the values.
    """
    best = planes[0].copy()
    winner = np.zeros(best.shape, np.uint8)
    for index, plane in enumerate(planes[1:], start=1):
        np.copyto(winner, np.uint8(index), where=plane > best)
        np.maximum(best, plane, out=best)  # keeps a NaN from either side
    if not np.isfinite(best).all() or not np.isfinite(planes.min()):  # the second finds -inf in a losing class
        raise _broken()
    return winner


def _check(logits: npt.NDArray[np.generic], size: tuple[SupportsIndex, ...]) -> tuple[int, int]:
    """Return `size` as ints, which the C code and the cache of `axis` need: to a cache, 64.0 is equal to 64."""
    if logits.ndim != 3 or logits.dtype != np.float32 or not 1 <= logits.shape[0] <= 255 or 0 in logits.shape:
        raise ArgumentError(f"Logits are float32 [1 to 255 classes, h, w], not {logits.dtype} {list(logits.shape)}.")
    try:
        height, width = size
    except (TypeError, ValueError):
        raise ArgumentError(f"size: must be (height, width), not {size!r}.") from None
    return whole("size: height", height), whole("size: width", width)


def _broken() -> NotFiniteError:
    return NotFiniteError("The logits contain NaN or infinity: the weights are broken; use other ones.")


def axis(source: int, target: int) -> Axis:
    """Return where `target` pixels along one axis lie between `source` logits. Do not change its arrays: it is cached."""
    return _axis(whole("source", source), whole("target", target))


@lru_cache(maxsize=16)  # the images of a video or a dataset have few sizes
def _axis(source: int, target: int) -> Axis:
    pixel = np.arange(target)
    position = np.clip((pixel + 0.5) * (source / target) - 0.5, 0, None)
    low = np.minimum(position.astype(np.int64), source - 1)
    starts = np.flatnonzero(np.diff(low, prepend=-1))
    return Axis(
        low=low[starts],
        high=np.minimum(low[starts] + 1, source - 1),
        first=starts,
        last=np.append(starts[1:], target) - 1,
        cell=np.cumsum(np.diff(low, prepend=low[0]) > 0),
        weight=(position - low).astype(np.float32),
    )


def _blocks(classes: int, height: int, width: int) -> Iterator[slice]:
    """Yield all rows of a result [classes, height, width], a few at a time."""
    step = max(1, _WIDE_BLOCK // (classes * width))
    return (slice(start, start + step) for start in range(0, height, step))


def _widened(logits: Float32Array, width: int) -> Float32Array:
    """Return logits [C, h, w] interpolated along their rows only, [C, h, width]."""
    columns = axis(logits.shape[2], width)
    return _between(logits, columns.low[columns.cell], columns.high[columns.cell], columns.weight, 2)


def _interpolated(wide: Float32Array, rows: Axis, block: slice) -> Float32Array:
    """Return a few rows at full size, [C, rows, width], of logits that have this width already."""
    cell = rows.cell[block]
    return _between(wide, rows.low[cell], rows.high[cell], rows.weight[block, None], 1)


def _between(values: Float32Array, low: Int64Array, high: Int64Array, weight: Float32Array, along: int) -> Float32Array:
    """Return values interpolated between those at `low` and at `high`."""
    start, result = values.take(low, along), values.take(high, along)  # in C order, unlike indexing
    result -= start
    result *= weight
    result += start
    return result


def _settle(logits: Float32Array, rows: Axis, columns: Axis, y: Int64Array, x: Int64Array, result: UInt8Array) -> None:
    """Interpolate the cells (y, x), whose corners disagree, and write their labels into `result`."""
    planes = np.ascontiguousarray(logits.reshape(len(logits), -1).T)  # [h * w, C]: the classes of one corner are contiguous
    ends = [(row, column) for row in (rows.low[y], rows.high[y]) for column in (columns.low[x], columns.high[x])]
    corners = [planes[row * logits.shape[2] + column] for row, column in ends]
    upper = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))  # [cells, C]
    lower = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    candidate = upper >= lower.max(axis=1, keepdims=True)

    # Cells with the most candidates come first: then round k uses a prefix, the cells that have a k-th candidate.
    count = candidate.sum(axis=1)
    order = np.argsort(-count, kind="stable")
    y, x, count = y[order], x[order], count[order]
    corners = [corner[order] for corner in corners]
    ranked = np.argsort(~candidate[order], axis=1, kind="stable")  # candidates first, in the order of the classes

    # Every cell gets the same number of pixels; surplus pixels repeat its last one.
    tall = _pixels(rows, y)  # [cells, most rows of any]
    wide = _pixels(columns, x)  # [cells, most columns of any]
    step = max(1, _BLOCK // (tall.shape[1] * wide.shape[1]))
    for start in range(0, len(y), step):
        part = slice(start, start + step)
        down, right = rows.weight[tall[part]], columns.weight[wide[part]]
        winner = _contest([corner[part] for corner in corners], ranked[part], count[part], down, right)
        result[tall[part, :, None], wide[part, None, :]] = winner


def _contest(
    corners: list[Float32Array], ranked: Int64Array, count: Int64Array, down: Float32Array, right: Float32Array
) -> UInt8Array:
    """Return the winning class of every pixel of some cells.

    Args:
        corners: logits of the four corners, each [cells, C].
        ranked: [cells, C], classes in the order to try them; the first `count` of each cell can win.
        count: [cells], in falling order.
        down, right: [cells, tall] and [cells, wide], weight of the lower and of the right corners.

    Returns:
        uint8 [cells, tall, wide].
    """
    best = np.full((len(count), down.shape[1], right.shape[1]), -np.inf, np.float32)
    winner = np.zeros(best.shape, np.uint8)
    for place in range(count[0]):
        live = int(np.searchsorted(-count, -place))  # cells with more than `place` candidates
        class_ = ranked[:live, place, None]
        a, b, c, d = (np.take_along_axis(corner[:live], class_, axis=1) for corner in corners)  # each [live, 1]
        left = a + (c - a) * down[:live]  # [live, tall]
        slope = b + (d - b) * down[:live] - left
        value = slope[:, :, None] * right[:live, None, :]
        value += left[:, :, None]
        np.copyto(winner[:live], class_[:, :, None].astype(np.uint8), where=value > best[:live])
        np.maximum(best[:live], value, out=best[:live])
    return winner


def _pixels(axis: Axis, cells: Int64Array) -> Int64Array:
    """Return the pixels of each cell, [len(cells), most pixels of any cell]; shorter cells repeat their last pixel."""
    most = int((axis.last - axis.first).max()) + 1
    pixels: Int64Array = np.minimum(axis.first[cells, None] + np.arange(most), axis.last[cells, None])
    return pixels
