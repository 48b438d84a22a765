"""Losses: compared with those of PyTorch at full size, and with slow implementations of their definitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.network.fast_scnn import TrainingLogits
from fastscnn.training.loss import at_points, lovasz_softmax, pixel_loss, training_loss
from fastscnn.training.recipes import Recipe, named

WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 7.0, 0.0])
BOTH = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


def losing(**changes: Any) -> Recipe:
    """Return a recipe with plain cross-entropy and the given changes."""
    return replace(named("paper"), **changes)


def example(small: tuple[int, int], full: tuple[int, int], ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    """Return logits [2, 5, h, w] and labels [2, H, W], of which a fraction is ignored."""
    random = torch.Generator().manual_seed(small[0] + full[1])
    labels = torch.randint(5, (2, *full), generator=random, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=random) < ignored] = 255
    return torch.randn(2, 5, *small, generator=random).mul(3).requires_grad_(), labels


def points(logits: Tensor, labels: Tensor, stride: int = 1, phase: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    rows, columns = slice(phase[0], None, stride), slice(phase[1], None, stride)
    return full[..., rows, columns], labels[:, rows, columns].long()


def reference(
    logits: Tensor, labels: Tensor, weights: Tensor | None, stride: int = 1, phase: tuple[int, int] = (0, 0)
) -> Tensor:
    return F.cross_entropy(*points(logits, labels, stride, phase), weights, ignore_index=255)


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, stride: int = 1, phase: tuple[int, int] = (0, 0)
) -> Tensor:
    return pixel_loss(*at_points(logits, labels, stride, phase), losing(), weights)


@BOTH
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
    torch.testing.assert_close(total / (labels != 255).sum(), cross_entropy(logits, labels, None))


@BOTH
def test_ignored_labels_give_no_loss_and_no_gradient(weights: Tensor | None) -> None:
    logits, labels = example((8, 12), (64, 96), ignored=1.1)
    assert (labels == 255).all()
    loss = cross_entropy(logits, labels, weights, 2, (1, 1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_pixel_of_weight_zero_counts_as_nothing() -> None:
    logits, labels = example((4, 4), (32, 32), ignored=0)
    labels[:] = 4
    assert cross_entropy(logits, labels, WEIGHTS).item() == 0


def test_bfloat16_logits_give_a_float32_loss() -> None:
    logits, labels = example((8, 12), (64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(logits.bfloat16(), labels, WEIGHTS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference(logits.bfloat16().float(), labels, WEIGHTS))


@pytest.mark.parametrize(("stride", "phase"), [(1, (0, 0)), (2, (13, 38)), (8, (5, 7))])
def test_points(stride: int, phase: tuple[int, int]) -> None:
    """The phase is taken modulo the stride."""
    logits, labels = example((5, 7), (33, 50))
    values, targets = at_points(logits, labels, stride, phase)
    expected = points(logits, labels, stride, (phase[0] % stride, phase[1] % stride))
    torch.testing.assert_close(values, expected[0], atol=1e-5, rtol=1e-5)
    assert targets.dtype == torch.int64
    assert torch.equal(targets, expected[1])


def test_training_loss_weighs_its_heads() -> None:
    main, labels = example((8, 12), (64, 96))
    deep, skip = (example(size, (64, 96))[0] for size in ((2, 3), (8, 12)))
    skip = skip * 2
    recipe = losing(auxiliary=0.4, loss_stride=2, auxiliary_stride=8)
    loss = training_loss(TrainingLogits(main, (deep, skip)), labels, recipe, WEIGHTS, (13, 38))
    sides = [reference(head, labels, WEIGHTS, 8, (5, 6)) for head in (deep, skip)]
    parts = [reference(main, labels, WEIGHTS, 2, (1, 0)), *sides]
    torch.testing.assert_close(loss, parts[0] + 0.4 * parts[1] + 0.4 * parts[2], atol=1e-5, rtol=1e-5)
    alone = training_loss(main, labels, recipe, WEIGHTS, (13, 38))
    torch.testing.assert_close(alone, parts[0], atol=1e-5, rtol=1e-5)


@BOTH
def test_sigmoid_is_a_mean_over_pixels_and_classes(weights: Tensor | None) -> None:
    """As in mmsegmentation, an ignored pixel counts as 0 in the mean."""
    logits, labels = example((8, 12), (64, 96))
    values, targets = points(logits, labels, 2, (1, 0))
    truth = torch.stack([(targets == class_) for class_ in range(5)], dim=1).float()
    share = (targets < 255).float()[:, None] * (torch.ones(5) if weights is None else weights)[:, None, None]
    expected = F.binary_cross_entropy_with_logits(values, truth, share, reduction="sum") / values.numel()
    loss = training_loss(logits, labels, losing(loss="sigmoid", loss_stride=2), weights, (1, 0))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_sigmoid_of_heads() -> None:
    main, labels = example((8, 12), (64, 96))
    recipe = losing(loss="sigmoid", auxiliary=0.4)
    alone = training_loss(main, labels, recipe, None, (0, 0))
    torch.testing.assert_close(training_loss(TrainingLogits(main, (main, main)), labels, recipe, None, (0, 0)), 1.8 * alone)


def hardest(values: Tensor, targets: Tensor, share: float, weights: Tensor | None) -> Tensor:
    """Return the mean over the hardest fraction of the pixels that are not ignored, by sorting them."""
    factors = torch.ones(5) if weights is None else weights
    pixels = []
    for vector, target in zip(values.movedim(1, 3).reshape(-1, 5), targets.reshape(-1).tolist(), strict=True):
        if target < 255:
            factor = float(factors[target])
            pixels.append((-factor * vector.log_softmax(0)[target], factor))
    pixels.sort(key=lambda pixel: -pixel[0].item())
    kept = pixels[: max(1, round(share * len(pixels)))]
    return torch.stack([loss for loss, _ in kept]).sum() / sum(factor for _, factor in kept)


@BOTH
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5])
def test_hard_pixels_are_the_hardest_share(weights: Tensor | None, share: float) -> None:
    logits, labels = example((2, 3), (10, 15))
    values, targets = points(logits, labels)
    loss = pixel_loss(values, targets, losing(ohem_ratio=share), weights, hard=True)
    expected = hardest(values, targets, share, weights)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)
    assert loss > pixel_loss(values, targets, losing(), weights)


@BOTH
def test_hard_pixels_are_of_the_main_head_only(weights: Tensor | None) -> None:
    logits, labels = example((2, 3), (10, 15))
    recipe = losing(ohem_ratio=0.2, auxiliary=0.4)
    loss = training_loss(TrainingLogits(logits, (logits, logits)), labels, recipe, weights, (0, 0))
    expected = hardest(*points(logits, labels), 0.2, weights) + 0.8 * reference(logits, labels, weights)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def uncertain(values: Tensor, targets: Tensor, threshold: float, weights: Tensor | None) -> Tensor:
    """Return the cross-entropy as PST900's authors compute it, by sorting; the other pixels are ignored."""
    chances = values.softmax(1).gather(1, targets.where(targets < 255, 0)[:, None])[:, 0]
    counted = sorted(chances[targets < 255].tolist())
    kept = targets.where(chances <= max(threshold, counted[255]), 255) if len(counted) > 256 else targets
    return F.cross_entropy(values, kept, weights, ignore_index=255)


@BOTH
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("full", [(10, 15), (30, 40)])  # fewer pixels than the minimum of 256, and more
def test_hard_pixels_are_the_uncertain_ones(weights: Tensor | None, threshold: float, full: tuple[int, int]) -> None:
    logits, labels = example((2, 3), full)
    values, targets = points(logits, labels)
    loss = pixel_loss(values, targets, losing(ohem_threshold=threshold), weights, hard=True)
    expected = uncertain(values, targets, threshold, weights)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"ohem_ratio": 0.2}, {"ohem_threshold": 0.7}, {"loss": "sigmoid"}, {"lovasz": 1.0}, {"label_smoothing": 0.1}],
)
def test_no_loss_learns_from_ignored_pixels(changes: dict[str, Any]) -> None:
    logits, labels = example((8, 12), (64, 96), ignored=1.1)
    loss = training_loss(TrainingLogits(logits, (logits, logits)), labels, losing(**changes), None, (0, 0))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@BOTH
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_label_smoothing_is_torchs(weights: Tensor | None, share: float) -> None:
    logits, labels = example((2, 3), (10, 15))
    values, targets = points(logits, labels)
    recipe = losing(label_smoothing=0.2, auxiliary=0.0)
    if share == 1:
        expected = F.cross_entropy(values, targets, weights, ignore_index=255, label_smoothing=0.2)
        got = training_loss(logits, labels, recipe, weights, (0, 0))
    else:
        each = F.cross_entropy(values, targets, weights, ignore_index=255, label_smoothing=0.2, reduction="none").flatten()
        order = each.argsort(descending=True)[: round(share * int((targets != 255).sum()))]
        factors = torch.ones(5) if weights is None else weights
        expected = each[order].sum() / factors[targets.flatten()[order]].sum()
        got = pixel_loss(values, targets, replace(recipe, ohem_ratio=share), weights, hard=True)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def lovasz_by_definition(values: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over present classes of the sum of errors, largest first, times the growth of 1 - IoU.

    With M the wrong pixels and T those of the class, 1 - IoU is |M| / |T or M|, whichever way they are wrong.
    """
    chances = values.softmax(1)
    losses = []
    for class_ in range(values.shape[1]):
        places = [tuple(place) for place in (targets != 255).nonzero().tolist()]
        truth = {place for place in places if targets[place] == class_}
        errors = {(n, y, x): (1 - chances[n, class_, y, x]) if (n, y, x) in truth else chances[n, class_, y, x]
                  for n, y, x in places}
        wrong: set[tuple[int, ...]] = set()
        before, loss = 0.0, torch.zeros(())
        for place in sorted(errors, key=lambda place: -errors[place].item()):
            wrong.add(place)
            after = len(wrong) / len(truth | wrong)
            loss, before = loss + errors[place] * (after - before), after
        losses += [loss] if truth else []
    return torch.stack(losses).mean()


@pytest.mark.parametrize("classes_there", [5, 2])
def test_lovasz_is_its_definition(classes_there: int) -> None:
    logits, labels = example((4, 5), (4, 5))
    labels[labels != 255] %= classes_there
    targets = labels.long()
    loss, expected = lovasz_softmax(logits, targets), lovasz_by_definition(logits, targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_lovasz_of_certain_predictions_is_one_minus_iou() -> None:
    random = torch.Generator().manual_seed(3)
    guessed, targets = (torch.randint(4, (2, 6, 9), generator=random) for _ in range(2))
    targets[targets == 2] = 255
    logits = (1000.0 * F.one_hot(guessed, 5).movedim(3, 1)).requires_grad_()
    guessed[targets == 255] = 255
    ious = []
    for class_ in (0, 1, 3):
        both, either = ((guessed == class_) & (targets == class_)).sum(), ((guessed == class_) | (targets == class_)).sum()
        ious.append(both / either)
    loss = lovasz_softmax(logits, targets)
    torch.testing.assert_close(loss, 1 - torch.stack(ious).mean())
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_lovasz_falls_down_its_gradient() -> None:
    logits, labels = example((8, 12), (8, 12))
    before = lovasz_softmax(logits, labels.long())
    (gradient,) = torch.autograd.grad(before, logits)
    assert gradient.isfinite().all()
    assert (gradient.movedim(1, 3)[labels == 255] == 0).all()
    assert lovasz_softmax(logits - 300 * gradient, labels.long()) < before - 0.01


def test_lovasz_comes_beside_the_cross_entropy_at_every_second_point() -> None:
    logits, labels = example((8, 12), (64, 96))
    loss = training_loss(logits, labels, losing(lovasz=0.7, loss_stride=2), WEIGHTS, (1, 2))
    values, targets = points(logits, labels, 4, (1, 2))
    expected = reference(logits, labels, WEIGHTS, 2, (1, 0)) + 0.7 * lovasz_softmax(values, targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_a_teacher_with_the_same_probabilities_changes_nothing() -> None:
    logits, labels = example((8, 12), (64, 96))
    recipe = losing(distillation=3.0)
    losses = [training_loss(logits, labels, recipe, None, (0, 0), teacher) for teacher in (None, logits.detach().softmax(1))]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-7, rtol=1e-5)


def test_distillation_is_the_mean_divergence_of_a_point() -> None:
    logits, labels = example((8, 12), (64, 96))
    teacher = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(5)).mul(200).softmax(1)
    assert (teacher == 0).any()  # a teacher may be certain that a class is absent
    recipe = losing(distillation=0.7, loss_stride=2, auxiliary=0.4)
    loss = training_loss(TrainingLogits(logits, (logits, logits)), labels, recipe, None, (0, 0), teacher)
    without = training_loss(TrainingLogits(logits, (logits, logits)), labels, recipe, None, (0, 0))
    divergence = F.kl_div(logits.log_softmax(1), teacher, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss - without, 0.7 * divergence, atol=1e-5, rtol=1e-4)


PARTIAL: list[dict[str, Any]] = [
    {}, {"lovasz": 0.5}, {"ohem_ratio": 0.3}, {"ohem_threshold": 0.4}, {"label_smoothing": 0.1},
    {"label_smoothing": 0.2, "ohem_ratio": 0.5}, {"loss": "sigmoid"},
]  # fmt: skip


def heads_of(labels_seed: int = 3) -> tuple[list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(labels_seed)
    logits = [torch.randn(2, 5, *size, generator=random).mul(3).requires_grad_() for size in ((8, 12), (2, 3), (8, 12))]
    labels = torch.randint(5, (2, 64, 96), generator=random, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=random) < 0.2] = 255
    return logits, labels


@BOTH
@pytest.mark.parametrize("changes", PARTIAL)
def test_with_all_classes_annotated_no_bit_changes(weights: Tensor | None, changes: dict[str, Any]) -> None:
    logits, labels = heads_of()
    recipe = losing(auxiliary_stride=4, **changes)
    every = torch.ones(2, 5, dtype=torch.bool)
    heads = TrainingLogits(logits[0], tuple(logits[1:]))
    losses = [training_loss(heads, labels, recipe, weights, (1, 2), annotated=known) for known in (None, every)]
    gradients = [torch.autograd.grad(loss, logits) for loss in losses]
    for one, other in zip((losses[0], *gradients[0]), (losses[1], *gradients[1]), strict=True):
        if "label_smoothing" in changes:
            torch.testing.assert_close(one, other)
        else:
            assert torch.equal(one, other)


@BOTH
@pytest.mark.parametrize("changes", PARTIAL)
def test_partial_labels_are_those_of_a_network_with_fewer_classes(weights: Tensor | None, changes: dict[str, Any]) -> None:
    """The oracle: logits, labels and weights without the classes that are not annotated."""
    logits, labels = heads_of()
    known = torch.tensor([0, 2, 3])
    labels = labels.where(torch.isin(labels, known) | (labels == 255), 3)
    small = torch.full((256,), 255, dtype=torch.uint8)
    small[known] = torch.arange(3, dtype=torch.uint8)
    annotated = torch.zeros(2, 5, dtype=torch.bool)
    annotated[:, known] = True
    recipe = losing(auxiliary_stride=4, **changes)
    loss = training_loss(TrainingLogits(logits[0], tuple(logits[1:])), labels, recipe, weights, (1, 2), annotated=annotated)
    fewer = TrainingLogits(logits[0][:, known], tuple(head[:, known] for head in logits[1:]))
    expected = training_loss(fewer, small[labels.long()], recipe, None if weights is None else weights[known], (1, 2))
    if recipe.loss == "sigmoid":
        expected = expected * 3 / 5  # the mean is over all classes
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
        assert not ours[:, [1, 4]].any()


def test_each_image_has_its_own_annotated_classes() -> None:
    logits, labels = heads_of()
    labels[1] = labels[1].where(labels[1] == 255, 2)
    annotated = torch.tensor([[True] * 5, [False, False, True, False, True]])
    loss = training_loss(logits[0], labels, losing(), None, (0, 0), annotated=annotated)
    (gradient,) = torch.autograd.grad(loss, logits[0])
    assert not gradient[1, [0, 1, 3]].any()
    assert all(gradient[1, class_].any() for class_ in (2, 4))
    assert all(gradient[0, class_].any() for class_ in range(5))
    parts = [training_loss(logits[0][row : row + 1], labels[row : row + 1], losing(), None, (0, 0),
                           annotated=annotated[row : row + 1]) for row in range(2)]
    pixels = [(labels[row] != 255).sum() for row in range(2)]
    torch.testing.assert_close(loss, (parts[0] * pixels[0] + parts[1] * pixels[1]) / (pixels[0] + pixels[1]))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_large_logits_stay_finite(precision: torch.dtype) -> None:
    logits = torch.full((1, 5, 8, 8), 300.0, requires_grad=True)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    annotated = torch.tensor([[True, False, False, True, False]])
    for changes in PARTIAL:
        loss = training_loss(logits.to(precision), labels, losing(**changes), None, (0, 0), annotated=annotated)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_distillation_also_teaches_classes_that_are_not_annotated() -> None:
    logits, labels = heads_of()
    labels = labels.where(labels == 255, 2)
    teacher = torch.randn(2, 5, 8, 12).softmax(1)
    annotated = torch.tensor([[False, False, True, True, False]]).expand(2, 5)
    plain, taught = (training_loss(logits[0], labels, losing(distillation=0.7), None, (0, 0), given, annotated=annotated)
                     for given in (None, teacher))
    divergence = (teacher * (teacher.log() - logits[0].log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(taught - plain, 0.7 * divergence)
    (gradient,) = torch.autograd.grad(taught, logits[0])
    assert gradient[:, [0, 1, 4]].any()
