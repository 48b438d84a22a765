"""Cross-entropy at the size of the labels, from logits at 1/8, with the paper's two auxiliary losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.labels import IGNORE
from fastscnn.learn.model import TrainingLogits


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, stride: int, phase: tuple[int, int]) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored, each counted by its class's weight.

    Args:
        logits: [N, classes, h, w], any float type; interpolated bilinearly to the labels' size.
        labels: [N, H, W] train ids, 255 ignored.
        weights: [classes] or None.
        stride: the loss is taken at every `stride`-th row and column,
        phase: (row, column) of the first.

    Returns:
        A float32 scalar; 0 where every pixel is ignored.
    """
    rows = _interpolation(logits.shape[2], labels.shape[1], stride, phase[0], logits.device)
    columns = _interpolation(logits.shape[3], labels.shape[2], stride, phase[1], logits.device)
    points = labels[:, phase[0] :: stride, phase[1] :: stride].long()
    with torch.autocast(logits.device.type, enabled=False):
        values = rows @ logits.float().contiguous() @ columns.T  # [N, classes, H/stride, W/stride]
        total = F.cross_entropy(values, points, weights, ignore_index=IGNORE, reduction="sum")
    counted = points != IGNORE
    share = counted.sum() if weights is None else weights[points[counted]].sum()
    return total / share.clamp(min=1e-6)


def training_loss(
    logits: Tensor | TrainingLogits,
    labels: Tensor,
    weights: Tensor | None,
    auxiliary: float,
    strides: tuple[int, int],
    phase: tuple[int, int],
) -> Tensor:
    """The paper's loss: the main head's, plus `auxiliary` times that of each auxiliary head (section 4.1).

    Args:
        logits: what the network gives in training mode.
        labels: [N, H, W] train ids, 255 ignored.
        weights: weight of each class, or None.
        auxiliary: weight of each auxiliary loss.
        strides: of the main and of the auxiliary losses, see `cross_entropy`.
        phase: row and column of the first pixel; taken modulo each stride.
    """
    main, side = strides
    if isinstance(logits, Tensor):
        return cross_entropy(logits, labels, weights, main, _modulo(phase, main))
    loss = cross_entropy(logits.main, labels, weights, main, _modulo(phase, main))
    for head in (logits.global_features, logits.downsample):
        loss = loss + auxiliary * cross_entropy(head, labels, weights, side, _modulo(phase, side))
    return loss


def _modulo(phase: tuple[int, int], stride: int) -> tuple[int, int]:
    return phase[0] % stride, phase[1] % stride


def _interpolation(source: int, target: int, stride: int, phase: int, device: torch.device) -> Tensor:
    """Matrix [points, source] that interpolates a signal of `source` values at every `stride`-th of `target` points.

    As F.interpolate with align_corners False; as a matrix, because its product is far faster on a CPU, forwards
    and backwards, and gives only the points that the loss takes.
    """
    points = torch.arange(phase, target, stride, device=device)
    position = ((points + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    distance = (position[:, None] - torch.arange(source, device=device)[None, :]).abs()
    return (1 - distance).clamp(min=0)
