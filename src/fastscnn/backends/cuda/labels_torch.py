"""Full-size labels on the device where the logits are, in plain PyTorch: what runs where the Triton kernel cannot.

The geometry is that of `upsampling.upsample`: bilinear, half-pixel centres (align_corners False). It is laid out in tables
made on the host in float64, so that every way to labels weighs the same inputs by the same float32 numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastscnn.upsampling import upsample

_BLOCK = 1 << 24  # interpolated logits held at a time, 64 MB


class Axis(NamedTuple):
    """Where the pixels along one axis of the labels lie between the inputs."""

    low: Tensor  # int32 [pixels], the input before each pixel; the one behind is the next, or the last again
    weight: Tensor  # float32 [pixels], share of the input behind
    inputs: int

    @property
    def pixels(self) -> int:
        """Pixels of the labels along this axis."""
        return len(self.low)


def axis(inputs: int, pixels: int, device: torch.device) -> Axis:
    """The tables of an axis of so many inputs and pixels."""
    cells = upsample.axis(inputs, pixels)
    low = torch.tensor(cells.low[cells.cell], dtype=torch.int32, device=device)
    return Axis(low, torch.tensor(cells.weight, device=device), inputs)


def fill(logits: Tensor, rows: Axis, columns: Axis, labels: Tensor) -> None:
    """Writes the class of every pixel.

    Args:
        logits: [C, h, w] of any float type; interpolated in float32.
        rows, columns: axes of h and w inputs.
        labels: uint8 [rows.pixels, columns.pixels], written.
    """
    left, right = columns.low.long(), (columns.low.long() + 1).clamp(max=columns.inputs - 1)
    top, bottom = rows.low.long(), (rows.low.long() + 1).clamp(max=rows.inputs - 1)
    planes = logits.float()
    begin = planes[:, :, left]
    wide = begin + (planes[:, :, right] - begin) * columns.weight  # [C, h, width]
    step = max(1, _BLOCK // (len(planes) * columns.pixels))
    for start in range(0, rows.pixels, step):
        block = slice(start, start + step)
        upper = wide[:, top[block]]
        labels[block] = (upper + (wide[:, bottom[block]] - upper) * rows.weight[block, None]).argmax(0)
