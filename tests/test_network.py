"""The network: the counts of the paper, shapes at any size, variants, and agreement with `model.architecture`."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.base.errors import ArgumentError
from fastscnn.model import architecture
from fastscnn.model.architecture import DEEP_STRIDE, MIN_SIDE, OUTPUT_STRIDE, PPM, PPM_BINS, VARIANTS
from fastscnn.network.fast_scnn import Classifier, DepthwiseConv, FastSCNN, Stem, TrainingLogits, fused, pooling_matrix


def on_meta(classes: int, channels: int = 3, variant: str = "paper", **more: Any) -> FastSCNN:
    """A network that has shapes but computes nothing."""
    with torch.device("meta"):
        return FastSCNN(classes, channels, variant, **more).eval()


def size_of(model: FastSCNN) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def logits_of(model: FastSCNN, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(images)
    assert isinstance(logits, Tensor)
    return logits


def macs(model: FastSCNN, height: int, width: int) -> int:
    """Multiplications of all convolutions, counted as they run."""
    counted: list[int] = []

    def count(conv: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        counted.append(output.numel() * conv.weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    logits_of(model, torch.empty(1, height, width, 3, device="meta"))
    return sum(counted)


@pytest.mark.parametrize(
    ("variant", "parameters", "giga"),
    [("paper", 1_137_795, 6.71), ("mmseg", 1_399_939, 7.25), ("tramac", 1_137_795, 6.71), ("paddleseg", 1_399_939, 7.25)],
)
def test_counts_of_the_paper(variant: str, parameters: int, giga: float) -> None:
    model = on_meta(19, variant=variant)
    assert size_of(model) == parameters
    assert round(macs(model, 1024, 2048) / 1e9, 2) == giga


def test_no_convolution_before_a_batch_norm_has_a_bias() -> None:
    model = on_meta(19, auxiliary=True)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    followed = [layer for layer, after in pairwise(layers) if isinstance(after, nn.BatchNorm2d)]
    assert len(followed) == sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert all(isinstance(layer, nn.Conv2d) and layer.bias is None for layer in followed)
    biased = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    assert biased == ["classifier.3", "auxiliary.0.2", "auxiliary.1.2"]  # what gives logits


@pytest.mark.parametrize(("channels", "classes", "sizes"), [
    pytest.param(3, 19, [(32, 32), (33, 47), (63, 64), (65, 63), (100, 333), (255, 257), (360, 480), (721, 33)],
                 marks=pytest.mark.slow),
    (3, 19, [(33, 47), (100, 333)]), (1, 1, [(33, 47)]), pytest.param(4, 30, [(33, 47)], marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize("variant", ["paper", "mmseg", "tramac", "paddleseg"])
def test_logits_stand_at_an_eighth_rounded_up(
    channels: int, classes: int, sizes: list[tuple[int, int]], variant: str
) -> None:
    model = on_meta(classes, channels, variant, auxiliary=True)
    for size in sizes:
        images = torch.empty(2, *size, channels, device="meta", dtype=torch.uint8)
        expected = (2, classes, math.ceil(size[0] / 8), math.ceil(size[1] / 8))
        assert logits_of(model, images).shape == expected
    training = model.train()(images)
    assert isinstance(training, TrainingLogits)
    assert training.main.shape == training.auxiliary[1].shape == expected
    assert training.auxiliary[0].shape == (2, classes, math.ceil(size[0] / 32), math.ceil(size[1] / 32))


@pytest.mark.parametrize(("size", "channels"), [((32, 32), 1), ((33, 47), 3), ((75, 101), 4)])
def test_small_odd_images_run_for_real(size: tuple[int, int], channels: int) -> None:
    logits = logits_of(FastSCNN(5, channels).eval(), torch.randint(256, (1, *size, channels), dtype=torch.uint8))
    assert logits.shape == (1, 5, math.ceil(size[0] / 8), math.ceil(size[1] / 8))
    assert logits.isfinite().all()


def test_without_auxiliary_heads_training_gives_plain_logits() -> None:
    assert isinstance(on_meta(3).train()(torch.empty(2, 64, 64, 3, device="meta")), Tensor)


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (1, [127.5], [57.5]),
        (3, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        (4, [123.675, 116.28, 103.53, 127.5], [58.395, 57.12, 57.375, 57.5]),
    ],
)
def test_the_network_normalises(channels: int, mean: list[float], std: list[float]) -> None:
    torch.manual_seed(0)
    model = FastSCNN(4, channels).eval()
    images = torch.randint(256, (1, 40, 56, channels), dtype=torch.uint8)
    logits = logits_of(model, images)
    assert torch.equal(logits_of(model, images.float()), logits)
    model.mean, model.std = torch.zeros(channels), torch.ones(channels)
    by_hand = (images.double() - torch.tensor(mean).double()) / torch.tensor(std).double()
    torch.testing.assert_close(logits_of(model, by_hand.float()), logits)
    assert (logits_of(model, images.float()) - logits).abs().max() > 1e-3  # what is fed does matter


@pytest.mark.parametrize(("variant", "dilation", "kernel"), [("paper", 4, 1), ("mmseg", 1, 3)])
def test_variants(variant: str, dilation: int, kernel: int) -> None:
    model = on_meta(19, variant=variant)
    dilations = [module.dilation for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert dilations.count((1, 1)) == len(dilations) - (dilation > 1)
    fusion, closing = (model.get_submodule(path) for path in ("fusion.depthwise.0", "global_features.9.project.0"))
    assert isinstance(fusion, nn.Conv2d)
    assert isinstance(closing, nn.Conv2d)
    assert fusion.dilation == fusion.padding == (dilation, dilation)
    assert closing.kernel_size == (kernel, kernel)


@pytest.mark.parametrize("path", ["downsample.1", "downsample.2", "classifier.0", "classifier.1"])
def test_no_relu_within_a_separable_convolution(path: str) -> None:
    layers = [type(layer) for layer in on_meta(19).get_submodule(path).modules() if not list(layer.children())]
    assert layers == [DepthwiseConv, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


def test_bottlenecks_end_linear_and_add_only_where_sizes_match() -> None:
    model = on_meta(19)
    blocks = [model.get_submodule(f"global_features.{index}") for index in range(9)]
    assert [block.residual for block in blocks] == [False, True, True] * 3
    for block in blocks:
        layers = [type(layer) for layer in block.modules() if not list(layer.children())]
        assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, DepthwiseConv, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 6), (7, 11), (12, 15), (17, 4), (32, 64), (45, 61)])
@pytest.mark.parametrize("bins", PPM_BINS)
def test_pooling_by_matrices_is_adaptive_pooling(size: tuple[int, int], bins: int) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(bins))
    pooled = pooling_matrix(size[0], bins, x) @ x @ pooling_matrix(size[1], bins, x).T
    torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x, bins), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("stride", "dilation", "training", "exact"),
    [(1, 1, True, False), (2, 1, True, True), (1, 4, True, True), (2, 1, False, False), (1, 4, False, False)],
)
def test_depthwise_convolution_computes_in_float32_only_where_that_is_faster(
    stride: int, dilation: int, training: bool, exact: bool
) -> None:
    torch.manual_seed(1)
    conv = DepthwiseConv(8, stride, dilation).train(training)
    x = torch.randn(2, 8, 24, 32).bfloat16()
    in_float32 = F.conv2d(x.float(), conv.weight, None, stride, dilation, dilation, 8)
    with torch.autocast("cpu", torch.bfloat16):
        got = conv(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), in_float32, atol=0.03, rtol=0.02)  # bfloat16 keeps 8 bits
    assert torch.equal(got, in_float32.bfloat16()) == exact  # otherwise the weights were rounded too
    got.float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("width", [0.25, 1.5, *(pytest.param(width, marks=pytest.mark.slow) for width in (0.5, 2.0))])
def test_width_is_a_factor_of_all_channels(width: float) -> None:
    model, paper = on_meta(19, width_mult=width, auxiliary=True), on_meta(19, auxiliary=True)
    inner = "auxiliary.0.0.0", "auxiliary.1.0.0"  # what is 32 channels wide at any width
    for (name, layer), same in zip(model.named_modules(), paper.modules(), strict=True):
        if isinstance(layer, nn.Conv2d) and isinstance(same, nn.Conv2d) and layer.out_channels != 19 and name not in inner:
            assert layer.out_channels == pytest.approx(width * same.out_channels, abs=6 * 4)  # six times, rounded to eights
            assert layer.out_channels % (2 if "levels" in name else 8) == 0
    images = torch.empty(2, 65, 97, 3, device="meta")
    assert logits_of(model, images).shape == logits_of(paper, images).shape
    ours, theirs = (network.train()(images) for network in (model, paper))
    assert [head.shape for head in ours.auxiliary] == [head.shape for head in theirs.auxiliary]
    assert ours.main.shape == theirs.main.shape


def test_parameters_grow_with_the_width() -> None:
    sizes = [size_of(on_meta(19, width_mult=width)) for width in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)]
    assert sizes == sorted(set(sizes))
    assert sizes[3] == 1_137_795
    assert 3.8 < sizes[5] / sizes[3] < 4  # all but a few go by the square


def stepped(model: FastSCNN, seed: int = 0) -> FastSCNN:
    """The network in evaluation mode after a few steps, with running statistics and branches that matter."""
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with torch.no_grad():
        for conv in model.depthwise():
            if conv.branch is not None:
                conv.branch.weight.normal_(1, 0.5, generator=random)
                conv.branch.bias.normal_(0, 0.5, generator=random)
    for _ in range(3):
        images = torch.randint(256, (2, 64, 96, 3), generator=random, dtype=torch.uint8)
        labels = torch.randint(19, (2, 8, 12), generator=random)
        optimiser.zero_grad()
        F.cross_entropy(model.train()(images).main, labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval()


def depthwise_results(model: FastSCNN, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """What comes behind the batch norm of each depthwise convolution, and the logits."""
    results: list[Tensor] = []
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Sequential) and isinstance(layer[0], DepthwiseConv)]
    hooks = [layer[1].register_forward_hook(lambda *call: results.append(call[2].clone())) for layer in layers]
    logits = logits_of(model, images)
    for hook in hooks:
        hook.remove()
    return results, logits


@pytest.mark.parametrize("size", [(32, 32), (32, 33), (33, 32), (33, 33)])
def test_the_padding_same(size: tuple[int, int]) -> None:
    """As in Paddle and TensorFlow: half of what is missing before, the larger half behind."""
    torch.manual_seed(0)
    stem, x = Stem(3, 4, 2, "same"), torch.rand(1, 3, *size)
    missing = [max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in size]
    (top, left), (bottom, right) = [one // 2 for one in missing], [one - one // 2 for one in missing]
    torch.testing.assert_close(stem(x), F.conv2d(F.pad(x, (left, right, top, bottom)), stem.weight, stride=2))


def test_the_side_of_an_input() -> None:
    """The nearest side from 32 on that differs from the trained one by a multiple of 32; halves go up."""
    for trained in (32, 360, 480, 1000):
        for side in range(1, 1500, 7):
            fitting = range(MIN_SIDE + trained % DEEP_STRIDE, 2000, DEEP_STRIDE)
            assert architecture.congruent(side, trained) == min(fitting, key=lambda one: (abs(one - side), -one))


def test_a_variant_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        architecture.variant("paper").ppm_kernel = 5  # type: ignore[misc]


def test_classes_come_from_the_mean_over_the_image() -> None:
    torch.manual_seed(0)
    model = Classifier(3).eval()
    with torch.no_grad():
        images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
        deep = model.features(images)[1]
        means = torch.stack([one.flatten(1).mean(1) for one in deep])
        torch.testing.assert_close(model(images), means @ model.linear.weight.T + model.linear.bias)


def test_fused_branches_compute_the_same() -> None:
    torch.manual_seed(4)
    model = stepped(FastSCNN(19, auxiliary=True, reparam_branches=True))
    plain = fused(model)
    images = torch.randint(256, (2, 75, 101, 3), dtype=torch.uint8)
    before, logits = depthwise_results(model, images)
    after, plain_logits = depthwise_results(plain, images)
    assert len(before) == len(after) == 14
    assert {(conv.stride[0], conv.dilation[0]) for conv in plain.depthwise()} == {(1, 1), (2, 1), (1, 4)}
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain_logits, logits, atol=1e-5, rtol=1e-5)
    for conv in model.depthwise():  # the branches did matter
        conv.branch = None
    assert (logits_of(model, images) - logits).abs().max() > 0.01


@pytest.mark.parametrize("variant", ["paper", "mmseg"])
def test_fused_is_the_plain_network(variant: str) -> None:
    torch.manual_seed(0)
    model = FastSCNN(19, variant=variant, auxiliary=True, reparam_branches=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain, never = fused(model), FastSCNN(19, variant=variant)
    shapes = {name: tensor.shape for name, tensor in never.state_dict().items()}
    assert {name: tensor.shape for name, tensor in plain.state_dict().items()} == shapes
    assert list(plain.state_dict()) == list(never.state_dict())
    assert size_of(plain) == size_of(never) == {"paper": 1_137_795, "mmseg": 1_399_939}[variant]
    assert not plain.training
    assert model.training  # and is as it was
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert isinstance(model(torch.zeros(2, 32, 32, 3)), TrainingLogits)


def test_fusing_without_branches_keeps_every_bit() -> None:
    model = FastSCNN(5, auxiliary=True)
    plain = fused(model).state_dict()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in plain.items())


def test_every_depthwise_convolution_has_a_branch_where_asked() -> None:
    model = on_meta(19, reparam_branches=True)
    grouped = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert model.depthwise() == grouped
    assert len(grouped) == 14
    assert all(conv.branch is not None and conv.branch.num_features == conv.out_channels for conv in model.depthwise())
    assert all(conv.branch is None for conv in on_meta(19).depthwise())


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 4)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_branch_is_a_batch_norm_of_what_the_kernels_centre_sees(stride: int, dilation: int, size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    conv = DepthwiseConv(6, stride, dilation)
    x = torch.randn(2, 6, *size)
    without = conv(x)
    conv.branch = nn.BatchNorm2d(6)
    centre = torch.zeros_like(conv.weight)
    centre[:, 0, 1, 1] = 1
    seen = F.conv2d(x, centre, None, stride, dilation, dilation, 6)
    mean, spread = seen.mean((0, 2, 3), keepdim=True), seen.var((0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(conv(x) - without, (seen - mean) / (spread + 1e-5).sqrt(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("variant", "whole"), [("paper", False), ("mmseg", True)])
def test_dropout_of_the_variants(variant: str, whole: bool) -> None:
    """mmsegmentation drops whole channels, in its auxiliary heads too; we drop single values before the last layer only."""
    torch.manual_seed(0)
    model = FastSCNN(4, variant=variant, dropout=0.5, auxiliary=True).train()
    assert model.auxiliary is not None
    values = model.classifier[2](torch.ones(4, 128, 6, 6))
    assert set(values.unique().tolist()) == {0, 2}
    assert bool((values == values[..., :1, :1]).all()) == whole
    for head in model.auxiliary:
        values = head.get_submodule("1")(torch.ones(4, 32, 6, 6))
        assert torch.equal(values, values[..., :1, :1].expand_as(values))
        assert set(values.unique().tolist()) == ({0, 2} if whole else {1})


def network_layers(model: FastSCNN) -> list[tuple[object, ...]]:
    """Every convolution as `architecture.Layer` describes it, in the order of computation."""
    found: list[tuple[object, ...]] = []
    names = {module: name for name, module in model.named_modules()}

    def note(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        shape = (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], conv.groups, conv.dilation[0])
        found.append((names[conv], *shape, conv.bias is None, tuple(inputs[0].shape[2:]), tuple(output.shape[2:])))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    logits_of(model, torch.empty(1, 75, 101, model.mean.numel(), device="meta"))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("channels", "classes", "width"), [(3, 19, 1.0), (4, 2, 0.3), (1, 30, 1.5)])
def test_the_network_is_the_one_described(variant: str, channels: int, classes: int, width: float) -> None:
    model = on_meta(classes, channels, variant, width_mult=width)
    described = []
    for layer in architecture.layers(classes, channels, variant, width):
        source, target = layer.areas((75, 101))
        name = f"{layer.name}.0" if layer.batch_norm else layer.name
        shape = (layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.groups, layer.dilation)
        described.append((name, *shape, layer.batch_norm, source, target))
        if layer.batch_norm:
            assert isinstance(model.get_submodule(f"{layer.name}.1"), nn.BatchNorm2d)
    assert network_layers(model) == described


def test_the_stages_are_those_of_table_1_of_the_paper() -> None:
    stages = (*architecture.DOWNSAMPLE, *architecture.BOTTLENECKS, architecture.FUSION, architecture.CLASSIFIER)
    assert [(stage.expansion, stage.channels, stage.repeats, stage.stride) for stage in stages] == [
        (1, 32, 1, 2), (1, 48, 1, 2), (1, 64, 1, 2),
        (6, 64, 3, 2), (6, 96, 3, 2), (6, 128, 3, 1),
        (1, 128, 1, 1), (1, 128, 2, 1),
    ]  # fmt: skip


def test_the_constants_are_those_of_the_paper() -> None:
    assert (OUTPUT_STRIDE, DEEP_STRIDE, MIN_SIDE) == (8, 32, 32)
    assert PPM == "global_features.9"
    assert architecture.layers()[-1].name == "classifier.3"
    assert architecture.layers() == architecture.layers(19, 3, "paper", 1.0)


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"There is no variant 'papper'\. Did you mean 'paper'"):
        FastSCNN(3, variant="papper")
