"""Training losses at the size of the labels, from logits at 1/8, with the paper's two auxiliary losses.

With several processes, each computes a loss of its own images. The mean of these losses over the processes is the loss of
the whole batch, so the mean of their gradients is its gradient. OHEM and Lovasz-softmax are exceptions: they see the images
of one process only.

A dataset of a mixture may annotate a part of the classes. In its images, the logits of the other classes are replaced by a
constant so low that their probability is exactly 0 in float32. So these classes get no gradient, and every loss is the one of a
network with the annotated classes alone. Distillation is the exception: the teacher gives probabilities of all classes, and the
student learns those that the labels do not contain.

Soft labels may have other classes than the network. Their probabilities are summed into the classes of the network for the
main head; a cell counts as much as the sum of what is mapped, and a class of the network that no soft class maps to gets no
gradient. The second last layer (`recipe.soft_head`) learns them with their own classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.network.fast_scnn import TrainingLogits
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.recipes import Recipe

_MIN_OHEM_PIXELS = 256  # minimum pixels that OHEM by probability keeps, from the code of PST900's authors
_EXCLUDED = -1e4  # logit of a class that is not annotated; finite, since logits are interpolated
_LOVASZ_STRIDE = 2  # in points of the cross-entropy: sorting all of them would cost more than the network


def training_loss(
    logits: Tensor | TrainingLogits,
    labels: Tensor,
    recipe: Recipe,
    weights: Tensor | None,
    phase: tuple[int, int],
    teacher: Tensor | None = None,
    world: World = ALONE,
    annotated: Tensor | None = None,
    soft: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the main head's loss, plus `recipe.auxiliary` times that of each auxiliary head (section 4.1 of the paper).

    Args:
        logits: output of the network in training mode.
        labels: uint8 [N, H, W] train ids; 255 is ignored.
        recipe: which losses, of which pixels.
        weights: float32 [classes], the weight of each class, or None.
        phase: row and column of the first pixel that counts; taken modulo each stride.
        teacher: float32 [N, classes, H/8, W/8], the teacher's probabilities for `recipe.distillation`.
        world: the processes that train together.
        annotated: bool [N, classes], the classes that the labels of each image contain; None: all.
        soft: soft labels, float32 [N, soft classes, H/8, W/8], 0 in cells without any; and float32 [soft classes, classes],
            which sums them into the classes of the network.

    Returns:
        A float32 scalar whose mean over the processes is the loss of the batch; 0 if every pixel is ignored.
    """
    main, sides, soft_head = TrainingLogits(logits) if isinstance(logits, Tensor) else logits
    known = _only_annotated(main, annotated)
    points = at_points(known, labels, recipe.loss_stride, phase)
    loss = pixel_loss(*points, recipe, weights, hard=True, world=world, annotated=annotated)
    if recipe.lovasz:
        lovasz = lovasz_softmax(*at_points(known, labels, _LOVASZ_STRIDE * recipe.loss_stride, phase))
        loss = loss + recipe.lovasz * lovasz
    if teacher is not None:
        divergence = F.kl_div(main.float().log_softmax(1), teacher, reduction="sum")
        loss = loss + recipe.distillation * divergence / (teacher.numel() / teacher.shape[1])
    if soft is not None:
        loss = loss + recipe.distillation * soft_loss(main, *soft, weights, world)
        if soft_head is not None:
            loss = loss + recipe.soft_head * soft_loss(soft_head, soft[0], world=world)
    for side in sides:
        points = at_points(_only_annotated(side, annotated), labels, recipe.auxiliary_stride, phase)
        loss = loss + recipe.auxiliary * pixel_loss(*points, recipe, weights, world=world, annotated=annotated)
    return loss


def soft_loss(
    logits: Tensor,
    soft: Tensor,
    to_classes: Tensor | None = None,
    weights: Tensor | None = None,
    world: World = ALONE,
) -> Tensor:
    """Return the Kullback-Leibler divergence of probabilities from soft labels, the weighted mean over cells.

    Args:
        logits: [N, classes, h, w], any float type.
        soft: float32 [N, soft classes, h, w], 0 in cells without soft labels.
        to_classes: float32 [soft classes, classes], which sums soft labels into classes; None: the classes are the same.
        weights: float32 [classes], factors of the soft labels, as the weights of hard labels; None: all equal.
        world: the processes that train together.

    Returns:
        A float32 scalar. Each cell is weighted by the sum of the soft labels that are mapped, times the weights.
    """
    values = logits.float()
    if to_classes is not None:
        soft = torch.einsum("nshw,sc->nchw", soft, to_classes)
        values = values.masked_fill(to_classes.sum(0)[:, None, None] == 0, _EXCLUDED)
    counted = soft if weights is None else soft * weights[:, None, None]
    share = counted / counted.sum(1, keepdim=True).clamp(min=1e-6)
    each = torch.xlogy(counted, share) - counted * values.log_softmax(1)
    return each.sum() / world.mean(counted.sum()).clamp(min=1e-6)


def _only_annotated(logits: Tensor, annotated: Tensor | None) -> Tensor:
    """Return the logits, with those of classes that are not annotated replaced."""
    return logits if annotated is None else logits.masked_fill(~annotated[:, :, None, None], _EXCLUDED)


def at_points(logits: Tensor, labels: Tensor, stride: int, phase: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return logits, interpolated bilinearly, and labels at every `stride`-th row and column of the labels.

    Args:
        logits: [N, classes, h, w], any float type.
        labels: [N, H, W].
        stride: in pixels.
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


def pixel_loss(
    values: Tensor,
    targets: Tensor,
    recipe: Recipe,
    weights: Tensor | None,
    hard: bool = False,
    world: World = ALONE,
    annotated: Tensor | None = None,
) -> Tensor:
    """Return the recipe's loss, averaged over pixels.

    Softmax: cross-entropy, the mean over pixels that are not ignored, weighted by the weight of their class. The sum of
    weights is the mean over the processes. Sigmoid: binary cross-entropy, the mean over all pixels and classes, ignored
    pixels and classes that are not annotated counted as 0, as mmsegmentation counts ignored pixels.

    Args:
        values: float32 [N, classes, h, w] logits; -1e4 for a class that is not annotated.
        targets: int64 [N, h, w]; 255 is ignored.
        recipe: which loss.
        weights: float32 [classes], the weight of each class, or None.
        hard: use the pixels that the recipe's OHEM chooses.
        world: the processes that train together.
        annotated: bool [N, classes], over which label smoothing spreads its part; None: all.
    """
    if recipe.loss == "sigmoid":
        truth = F.one_hot(targets.where(targets != IGNORE_INDEX, 0), values.shape[1]).permute(0, 3, 1, 2)
        each = F.binary_cross_entropy_with_logits(values, truth.float(), reduction="none")
        each = each * (targets != IGNORE_INDEX)[:, None]
        return (each if weights is None else each * weights[:, None, None]).mean()
    plain = (targets != IGNORE_INDEX).float()
    counted = plain if weights is None else F.pad(weights, (0, IGNORE_INDEX + 1 - len(weights)))[targets]
    if not hard or min(recipe.ohem_ratio, recipe.ohem_threshold) == 1:
        total = _cross_entropy(values, targets, weights, recipe.label_smoothing, annotated, "sum")
        return total / world.mean(counted.sum()).clamp(min=1e-6)
    each = _cross_entropy(values, targets, weights, recipe.label_smoothing, annotated, "none").flatten()
    kept = _hardest(each.detach(), targets, recipe) if recipe.ohem_ratio < 1 else _uncertain(values.detach(), targets, recipe)
    return each[kept].sum() / world.mean(counted.flatten()[kept].sum()).clamp(min=1e-6)


def _cross_entropy(
    values: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    smoothing: float,
    annotated: Tensor | None,
    reduction: Literal["sum", "none"],
) -> Tensor:
    """Return F.cross_entropy, with the part of label smoothing spread evenly over the annotated classes."""
    if annotated is None or not smoothing:
        return F.cross_entropy(
            values, targets, weights, ignore_index=IGNORE_INDEX, reduction=reduction, label_smoothing=smoothing
        )
    hard = F.cross_entropy(values, targets, weights, ignore_index=IGNORE_INDEX, reduction="none")
    spread = annotated.float() / annotated.sum(1, keepdim=True)
    spread = spread if weights is None else spread * weights
    soft = -(values.log_softmax(1) * spread[:, :, None, None]).sum(1) * (targets != IGNORE_INDEX)
    each = (1 - smoothing) * hard + smoothing * soft
    return each.sum() if reduction == "sum" else each


def _hardest(losses: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the indices of the pixels with the highest loss: the fraction `recipe.ohem_ratio` of those not ignored."""
    count = max(1, round(recipe.ohem_ratio * int((targets != IGNORE_INDEX).sum())))
    return losses.topk(count, sorted=False).indices


def _uncertain(values: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the indices of pixels whose class has at most probability `recipe.ohem_threshold`, but at least 256."""
    counted = targets != IGNORE_INDEX
    probabilities = values.softmax(1).gather(1, targets.where(counted, 0)[:, None])[:, 0][counted]
    minimum = min(_MIN_OHEM_PIXELS, len(probabilities))
    threshold = max(recipe.ohem_threshold, float(probabilities.kthvalue(minimum).values)) if minimum else 1.0
    return counted.flatten().nonzero()[:, 0][probabilities <= threshold]


def lovasz_softmax(values: Tensor, targets: Tensor) -> Tensor:
    """Return the Lovasz extension of 1 - IoU, the mean over the present classes (Berman, Rannen Triki, Blaschko 2018).

    Args:
        values: float32 [N, classes, h, w] logits.
        targets: int64 [N, h, w]; 255 is ignored.
    """
    classes = values.shape[1]
    counted = targets != IGNORE_INDEX
    probabilities = values.softmax(1).permute(1, 0, 2, 3)[:, counted]  # [classes, pixels]
    truth = targets[counted][None] == torch.arange(classes, device=values.device)[:, None]
    errors, order = torch.where(truth, 1 - probabilities, probabilities).sort(dim=1, descending=True)
    hits = truth.gather(1, order).float()
    present = truth.sum(1).float()[:, None]
    intersection = present - hits.cumsum(1)
    union = present + (1 - hits).cumsum(1)
    jaccard = 1 - intersection / union  # 1 - IoU if the pixels up to each one are wrong
    slope = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    losses = (errors * slope).sum(1)
    return losses[present[:, 0] > 0].sum() / (present > 0).sum().clamp(min=1)


def _interpolation(source: int, target: int, stride: int, phase: int, device: torch.device) -> Tensor:
    """Return the matrix [points, source] that interpolates `source` values at every `stride`-th of `target` points.

    It equals F.interpolate with align_corners=False. A matrix product is much faster on a CPU, forwards and backwards, and
    computes only the points that the loss uses.
    """
    points = torch.arange(phase, target, stride, device=device)
    position = ((points + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    distance = (position[:, None] - torch.arange(source, device=device)[None, :]).abs()
    return (1 - distance).clamp(min=0)
