"""Full-size labels on the GPU in one Triton kernel that never writes full-size logits.

Each program computes one tile of labels. First it reads the logits at the corners under its tile, about two dozen at
eightfold size. If the same class wins at all corners, it wins everywhere between them (see `upsampling.upsample`), and the
tile is filled with it. Otherwise the program interpolates each class in registers and keeps the best.

The CPU kernel lists the cells whose corners disagree; tiles are better on a GPU. The logits (19 classes at 1024x2048 in
float16: 1.2 MB) fit into the L2 cache, so device memory is read once for them and written once for the labels (2 MB). A
list needs a count, a scan and a second launch, which cost more than the tiles at class borders. If every tile had to be
interpolated, the 4 loads per pixel and class would take about 20 microseconds on a large GPU (an estimate).
"""

from __future__ import annotations

from typing import Any

import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from fastscnn.backends.cuda.labels_torch import Axis

_TALL, _WIDE = 16, 32  # tile in pixels: 2x4 cells at eightfold size; each row is one 32-byte sector of memory


@triton.jit  # type: ignore[untyped-decorator,misc,unused-ignore]
def _winners(corner, stride_class, classes: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the lowest and the highest class that wins at any corner; `corner` points to class 0 of each."""
    best = tl.load(corner).to(tl.float32)
    winner = tl.zeros_like(best).to(tl.int32)
    for class_ in range(1, classes):
        value = tl.load(corner + class_ * stride_class).to(tl.float32)
        winner = tl.where(value > best, class_, winner)
        best = tl.maximum(best, value)
    return tl.min(tl.min(winner, axis=1), axis=0), tl.max(tl.max(winner, axis=1), axis=0)


@triton.jit  # type: ignore[untyped-decorator,misc,unused-ignore]
def _fill(  # type: ignore[no-untyped-def]
    logits,
    row_low,
    row_weight,
    column_low,
    column_weight,
    labels,
    inputs_down,
    inputs_right,
    height,
    width,
    stride_class,
    stride_down,
    stride_right,
    classes: tl.constexpr,
    tall: tl.constexpr,
    wide: tl.constexpr,
    corners_down: tl.constexpr,  # rows of corners that cover any tile; 0: skip the test of the corners
    corners_right: tl.constexpr,
):
    first_y = tl.program_id(1) * tall
    first_x = tl.program_id(0) * wide
    y = first_y + tl.arange(0, tall)
    x = first_x + tl.arange(0, wide)
    inside = (y < height)[:, None] & (x < width)[None, :]
    target = labels + y.to(tl.int64)[:, None] * width + x[None, :]
    if corners_down > 0:
        top = tl.load(row_low + first_y)
        bottom = tl.load(row_low + tl.minimum(first_y + tall, height) - 1) + 1
        begin = tl.load(column_low + first_x)
        end = tl.load(column_low + tl.minimum(first_x + wide, width) - 1) + 1
        rows = tl.minimum(top + tl.arange(0, corners_down), tl.minimum(bottom, inputs_down - 1))
        columns = tl.minimum(begin + tl.arange(0, corners_right), tl.minimum(end, inputs_right - 1))
        lowest, highest = _winners(
            logits + rows[:, None] * stride_down + columns[None, :] * stride_right, stride_class, classes
        )
    else:
        lowest, highest = 0, 1
    if lowest == highest:
        tl.store(target, (tl.zeros((tall, wide), tl.int32) + lowest).to(tl.uint8), mask=inside)
    else:
        # Pixels beyond the border read the last pixel's logits and are not written.
        y = tl.minimum(y, height - 1)
        x = tl.minimum(x, width - 1)
        low = tl.load(row_low + y)
        left = tl.load(column_low + x)
        high = tl.minimum(low + 1, inputs_down - 1)
        right = tl.minimum(left + 1, inputs_right - 1)
        below = tl.load(row_weight + y)[:, None]
        beside = tl.load(column_weight + x)[None, :]
        upper_left = logits + low[:, None] * stride_down + left[None, :] * stride_right
        upper_right = logits + low[:, None] * stride_down + right[None, :] * stride_right
        lower_left = logits + high[:, None] * stride_down + left[None, :] * stride_right
        lower_right = logits + high[:, None] * stride_down + right[None, :] * stride_right
        most = tl.full((tall, wide), float("-inf"), tl.float32)
        label = tl.zeros((tall, wide), tl.int32)
        for class_ in range(classes):
            plane = class_ * stride_class
            a = tl.load(upper_left + plane).to(tl.float32)
            b = tl.load(upper_right + plane).to(tl.float32)
            a += (tl.load(lower_left + plane).to(tl.float32) - a) * below
            b += (tl.load(lower_right + plane).to(tl.float32) - b) * below
            a += (b - a) * beside
            label = tl.where(a > most, class_, label)
            most = tl.maximum(most, a)
        tl.store(target, label.to(tl.uint8), mask=inside)


def fill(logits: Tensor, rows: Axis, columns: Axis, labels: Tensor) -> None:
    """Launch the kernel on the current stream; see `labels_torch.fill`. All arguments on one GPU; labels contiguous."""
    down, right = _corners(rows, _TALL), _corners(columns, _WIDE)
    if 4 * down * right > _TALL * _WIDE:  # at small upsampling factors, the test of the corners costs as much as it saves
        down = right = 0
    grid = (triton.cdiv(columns.pixels, _WIDE), triton.cdiv(rows.pixels, _TALL))
    kernel: Any = _fill[grid]
    kernel(
        logits, rows.low, rows.weight, columns.low, columns.weight, labels,
        rows.inputs, columns.inputs, rows.pixels, columns.pixels, *logits.stride(),
        classes=len(logits), tall=_TALL, wide=_WIDE, corners_down=down, corners_right=right,
        num_warps=4, enable_fp_fusion=False,  # round after each step, as NumPy does, for equal labels even at ties
    )  # fmt: skip


def _corners(along: Axis, pixels: int) -> int:
    """Return a power of two that is at least the number of corners under `pixels` consecutive pixels."""
    # From the first to the last corner: whole steps, one more, the corner after the last, and one for rounding.
    steps = (pixels - 1) * along.inputs // along.pixels
    return 1 << (steps + 2).bit_length()
