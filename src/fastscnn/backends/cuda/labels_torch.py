"""Full-size labels on the device in plain PyTorch, used where the Triton kernel cannot run.

The geometry is that of `upsampling.upsample`: bilinear with half-pixel centres (align_corners=False). Its tables are
computed on the host in float64, so that every implementation uses the same float32 weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastscnn.upsampling import upsample

BLOCK = 1 << 24  # interpolated logits per step, 64 MB


class Axis(NamedTuple):
    """The position of each pixel along one axis of the labels, between the logits."""

    low: Tensor  # int32 [pixels]: index of the logit before each pixel; the one after it is the next, or the last again
    weight: Tensor  # float32 [pixels]: weight of the logit after each pixel
    inputs: int  # number of logits

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return len(self.low)


def axis(inputs: int, pixels: int, device: torch.device) -> Axis:
    """Return the tables of an axis with that number of logits and pixels."""
    cells = upsample.axis(inputs, pixels)
    low = torch.tensor(cells.low[cells.cell], dtype=torch.int32, device=device)
    return Axis(low, torch.tensor(cells.weight, device=device), inputs)


def fill(logits: Tensor, rows: Axis, columns: Axis, labels: Tensor) -> None:
    """Write the class of every pixel.

    Args:
        logits: [C, h, w] of any floating-point dtype; interpolated in float32.
        rows, columns: axes of h and of w logits.
        labels: uint8 [rows.pixels, columns.pixels], the output.
    """
    left, right = columns.low.long(), (columns.low.long() + 1).clamp(max=columns.inputs - 1)
    top, bottom = rows.low.long(), (rows.low.long() + 1).clamp(max=rows.inputs - 1)
    planes = logits.float()
    begin = planes[:, :, left]
    wide = begin + (planes[:, :, right] - begin) * columns.weight  # [C, h, width]
    step = max(1, BLOCK // (len(planes) * columns.pixels))
    for start in range(0, rows.pixels, step):
        block = slice(start, start + step)
        upper = wide[:, top[block]]
        labels[block] = (upper + (wide[:, bottom[block]] - upper) * rows.weight[block, None]).argmax(0)
