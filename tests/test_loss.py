"""The loss against torch's own, which interpolates to full size first."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.learn.loss import cross_entropy, training_loss
from fastscnn.learn.model import TrainingLogits

WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 7.0, 0.0])


def example(small: tuple[int, int], full: tuple[int, int], ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    """Logits [2, 5, h, w] and labels [2, H, W] of which a share is ignored."""
    random = torch.Generator().manual_seed(small[0] + full[1])
    labels = torch.randint(5, (2, *full), generator=random, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=random) < ignored] = 255
    return torch.randn(2, 5, *small, generator=random).mul(3).requires_grad_(), labels


def reference(
    logits: Tensor, labels: Tensor, weights: Tensor | None, stride: int = 1, phase: tuple[int, int] = (0, 0)
) -> Tensor:
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    rows, columns = slice(phase[0], None, stride), slice(phase[1], None, stride)
    return F.cross_entropy(full[..., rows, columns], labels[:, rows, columns].long(), weights, ignore_index=255)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(("stride", "phase"), [(1, (0, 0)), (2, (1, 0)), (3, (2, 1)), (8, (0, 7))])
@pytest.mark.parametrize(("small", "full"), [((8, 12), (64, 96)), ((5, 7), (33, 50)), ((2, 3), (64, 96)), ((1, 1), (32, 32))])
def test_equals_torch(
    weights: Tensor | None, stride: int, phase: tuple[int, int], small: tuple[int, int], full: tuple[int, int]
) -> None:
    logits, labels = example(small, full)
    loss = cross_entropy(logits, labels, weights, stride, phase)
    expected = reference(logits, labels, weights, stride, phase)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [2, 3])
def test_all_phases_together_are_the_full_loss(stride: int) -> None:
    logits, labels = example((5, 7), (33, 50))
    total = torch.zeros(())
    for phase in [(row, column) for row in range(stride) for column in range(stride)]:
        counted = labels[:, phase[0] :: stride, phase[1] :: stride] != 255
        total += cross_entropy(logits, labels, None, stride, phase) * counted.sum()
    torch.testing.assert_close(total / (labels != 255).sum(), cross_entropy(logits, labels, None, 1, (0, 0)))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_nothing_to_learn_from_is_no_loss_and_no_gradient(weights: Tensor | None) -> None:
    logits, labels = example((8, 12), (64, 96), ignored=1.1)
    assert (labels == 255).all()
    loss = cross_entropy(logits, labels, weights, 2, (1, 1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_pixel_of_weight_zero_counts_as_nothing() -> None:
    logits, labels = example((4, 4), (32, 32), ignored=0)
    labels[:] = 4
    assert cross_entropy(logits, labels, WEIGHTS, 1, (0, 0)).item() == 0


def test_bfloat16_logits_give_a_float32_loss() -> None:
    logits, labels = example((8, 12), (64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(logits.bfloat16(), labels, WEIGHTS, 1, (0, 0))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference(logits.bfloat16().float(), labels, WEIGHTS))


def test_training_loss_weighs_its_heads() -> None:
    main, labels = example((8, 12), (64, 96))
    deep, skip = (example(size, (64, 96))[0] for size in ((2, 3), (8, 12)))
    skip = skip * 2
    loss = training_loss(TrainingLogits(main, deep, skip), labels, WEIGHTS, 0.4, (2, 8), (13, 38))
    sides = [reference(head, labels, WEIGHTS, 8, (5, 6)) for head in (deep, skip)]
    parts = [reference(main, labels, WEIGHTS, 2, (1, 0)), *sides]
    torch.testing.assert_close(loss, parts[0] + 0.4 * parts[1] + 0.4 * parts[2], atol=1e-5, rtol=1e-5)
    alone = training_loss(main, labels, WEIGHTS, 0.4, (2, 8), (13, 38))
    torch.testing.assert_close(alone, parts[0], atol=1e-5, rtol=1e-5)
