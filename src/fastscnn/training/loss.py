"""What training minimises: losses at the size of the labels, from logits at 1/8, with the paper's two auxiliary ones.

Of several processes each works out its share of the loss of the whole batch, so that the shares, and their gradients,
add up to what one process gives. Hard pixels are chosen, and Lovasz-softmax is taken, of each process's own images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.network.fast_scnn import TrainingLogits
from fastscnn.training import distributed
from fastscnn.training.recipes import Recipe

_FEWEST = 256  # pixels of a batch that OHEM by probability takes at least, as PST900's authors have it
_LOVASZ_STRIDE = 2  # of the points of the cross-entropy: sorting all of them would cost more than the network


def training_loss(
    logits: Tensor | TrainingLogits,
    labels: Tensor,
    recipe: Recipe,
    weights: Tensor | None,
    phase: tuple[int, int],
    taught: Tensor | None = None,
) -> Tensor:
    """The main head's loss, plus `recipe.auxiliary` times that of each auxiliary head (section 4.1 of the paper).

    Args:
        logits: what the network gives in training mode.
        labels: uint8 [N, H, W] train ids, 255 ignored.
        recipe: which loss, of which pixels.
        weights: float32 [classes], the weight of each class, or None.
        phase: row and column of the first pixel that counts; taken modulo each stride.
        taught: float32 [N, classes, H/8, W/8], probabilities that the main head is to follow too.

    Returns:
        A float32 scalar, this process's share; 0 where every pixel is ignored.
    """
    main = logits if isinstance(logits, Tensor) else logits.main
    sides = () if isinstance(logits, Tensor) else (logits.global_features, logits.downsample)
    loss = pixel_loss(*at_points(main, labels, recipe.loss_stride, phase), recipe, weights, hard=True)
    if recipe.lovasz:
        lovasz = lovasz_softmax(*at_points(main, labels, _LOVASZ_STRIDE * recipe.loss_stride, phase))
        loss = loss + recipe.lovasz * lovasz / distributed.size()
    if taught is not None:
        divergence = F.kl_div(main.float().log_softmax(1), taught, reduction="sum")
        loss = loss + recipe.distillation * divergence / (distributed.size() * taught.numel() / taught.shape[1])
    for side in sides:
        loss = loss + recipe.auxiliary * pixel_loss(*at_points(side, labels, recipe.auxiliary_stride, phase), recipe, weights)
    return loss


def at_points(logits: Tensor, labels: Tensor, stride: int, phase: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Logits, interpolated bilinearly, and labels at every `stride`-th row and column of the labels.

    Args:
        logits: [N, classes, h, w], any float type.
        labels: [N, H, W].
        stride: in pixels of the labels.
        phase: row and column of the first point; taken modulo the stride.

    Returns:
        float32 [N, classes, H/stride, W/stride] and int64 [N, H/stride, W/stride].
    """
    row, column = phase[0] % stride, phase[1] % stride
    rows = _interpolation(logits.shape[2], labels.shape[1], stride, row, logits.device)
    columns = _interpolation(logits.shape[3], labels.shape[2], stride, column, logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        values = rows @ logits.float().contiguous() @ columns.T
    return values, labels[:, row::stride, column::stride].long()


def pixel_loss(values: Tensor, targets: Tensor, recipe: Recipe, weights: Tensor | None, hard: bool = False) -> Tensor:
    """The recipe's loss of each pixel, averaged over the pixels of all processes; the share of this one.

    Softmax: cross-entropy, each pixel counted by its class's weight and ignored ones not at all; where `hard` is set, of the
    recipe's hard pixels alone. Sigmoid: as mmsegmentation averages it, over all pixels and classes.
    """
    if recipe.loss == "sigmoid":
        truth = F.one_hot(targets.where(targets != IGNORE_INDEX, 0), values.shape[1]).permute(0, 3, 1, 2)
        each = F.binary_cross_entropy_with_logits(values, truth.float(), reduction="none")
        each = each * (targets != IGNORE_INDEX)[:, None]
        return (each if weights is None else each * weights[:, None, None]).mean() / distributed.size()
    plain = (targets != IGNORE_INDEX).float()
    counted = plain if weights is None else F.pad(weights, (0, IGNORE_INDEX + 1 - len(weights)))[targets]
    smoothing = recipe.label_smoothing
    if not hard or min(recipe.ohem_ratio, recipe.ohem_threshold) == 1:
        total = F.cross_entropy(values, targets, weights, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=smoothing)
        return total / distributed.total(counted.sum()).clamp(min=1e-6)
    each = F.cross_entropy(values, targets, weights, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=smoothing)
    each = each.flatten()
    kept = _hardest(each.detach(), targets, recipe) if recipe.ohem_ratio < 1 else _doubtful(values.detach(), targets, recipe)
    return each[kept].sum() / distributed.total(counted.flatten()[kept].sum()).clamp(min=1e-6)


def _hardest(losses: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Indices of the share `recipe.ohem_ratio` of the pixels that are not ignored, those with the highest loss."""
    count = max(1, round(recipe.ohem_ratio * int((targets != IGNORE_INDEX).sum())))
    return losses.topk(count, sorted=False).indices


def _doubtful(values: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Indices of the pixels whose class has at most the probability `recipe.ohem_threshold`, `_FEWEST` at least."""
    counted = targets != IGNORE_INDEX
    chances = values.softmax(1).gather(1, targets.where(counted, 0)[:, None])[:, 0][counted]
    fewest = min(_FEWEST, len(chances))
    threshold = max(recipe.ohem_threshold, float(chances.kthvalue(fewest).values)) if fewest else 1.0
    return counted.flatten().nonzero()[:, 0][chances <= threshold]


def lovasz_softmax(values: Tensor, targets: Tensor) -> Tensor:
    """Lovasz extension of 1 - IoU, averaged over the classes that are present (Berman, Rannen Triki, Blaschko 2018).

    Args:
        values: float32 [N, classes, h, w] logits.
        targets: int64 [N, h, w], 255 ignored.
    """
    classes = values.shape[1]
    counted = targets != IGNORE_INDEX
    chances = values.softmax(1).permute(1, 0, 2, 3)[:, counted]  # [classes, pixels]
    truth = targets[counted][None] == torch.arange(classes, device=values.device)[:, None]
    errors, order = torch.where(truth, 1 - chances, chances).sort(dim=1, descending=True)
    hits = truth.gather(1, order).float()
    present = truth.sum(1).float()[:, None]
    intersection = present - hits.cumsum(1)
    union = present + (1 - hits).cumsum(1)
    jaccard = 1 - intersection / union  # loss in IoU when the pixels up to each are wrong
    slope = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    losses = (errors * slope).sum(1)
    return losses[present[:, 0] > 0].sum() / (present > 0).sum().clamp(min=1)


def _interpolation(source: int, target: int, stride: int, phase: int, device: torch.device) -> Tensor:
    """Matrix [points, source] that interpolates a signal of `source` values at every `stride`-th of `target` points.

    As F.interpolate with align_corners False; as a matrix, because its product is far faster on a CPU, forwards
    and backwards, and gives only the points that the loss takes.
    """
    points = torch.arange(phase, target, stride, device=device)
    position = ((points + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    distance = (position[:, None] - torch.arange(source, device=device)[None, :]).abs()
    return (1 - distance).clamp(min=0)
