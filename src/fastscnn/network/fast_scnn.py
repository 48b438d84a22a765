"""Fast-SCNN, the whole network in one file (Poudel, Liwicki, Cipolla 2019, arXiv 1902.04502, Tables 1 to 3).

Channels, strides and variants come from `model.architecture`. Comments at line ends give shapes at width_mult 1 for an
image of HxW; `H/8` is rounded up, as in every stride-2 convolution.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.model import architecture
from fastscnn.model.architecture import (
    AUXILIARY_CHANNELS,
    BOTTLENECKS,
    CLASSIFIER,
    DOWNSAMPLE,
    FUSION,
    KERNEL,
    PPM_BINS,
    Padding,
    Stage,
    scaled,
)

_MEAN_RGB, _STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, as in mmsegmentation
_MEAN_OTHER, _STD_OTHER = 127.5, 57.5  # extra channels (thermal, depth): the middle of the range, the same spread


class TrainingLogits(NamedTuple):
    """The output in training mode with further heads: the logits of the main head, and of those that exist beside it."""

    main: Tensor  # [N, classes, H/8, W/8]
    # After the global feature extractor [N, classes, H/32, W/32], and after learning to downsample [N, classes, H/8, W/8].
    auxiliary: tuple[Tensor, ...] = ()
    soft: Tensor | None = None  # [N, soft classes, H/8, W/8], of the layer beside the last one


class DepthwiseConv(nn.Conv2d):
    """Depthwise 3x3 convolution.

    With bfloat16 autocast on a CPU, training with a stride or dilation runs in float32: oneDNN has no fast bfloat16
    backward pass for those.

    Attributes:
        branch: batch norm of the input whose output is added (re-parameterised branch); None in the network that runs.
    """

    def __init__(self, channels: int, stride: int, dilation: int) -> None:
        padding = dilation * (KERNEL // 2)
        super().__init__(channels, channels, KERNEL, stride, padding, dilation, groups=channels, bias=False)
        self.branch: nn.BatchNorm2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self._convolve(x)
        if self.branch is None:
            return y
        step = self.stride[0]
        branch: Tensor = self.branch(x[:, :, ::step, ::step])
        return y + branch.to(y.dtype)

    def _convolve(self, x: Tensor) -> Tensor:
        slow = x.device.type == "cpu" and self.training and (self.stride[0] > 1 or self.dilation[0] > 1)
        if not slow or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class Stem(nn.Conv2d):
    """The first convolution, 3x3 with stride 2, without symmetric padding.

    `same` pads as TensorFlow and Paddle do: one pixel at the end of an even side, one at both ends of an odd side.
    `valid` does not pad; `_stem` then adds the missing row and column as zeros after the ReLU. These zeros equal the
    padding of the next convolution, so all variants have the same sizes, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, padding: Padding) -> None:
        super().__init__(inputs, outputs, KERNEL, stride, bias=False)
        self.same = padding == "same"

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            x = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))
        return super().forward(x)


def _stem(inputs: int, outputs: int, stride: int, padding: Padding) -> nn.Sequential:
    """The first convolution, batch norm and ReLU."""
    if padding == "symmetric":
        return _conv(inputs, outputs, KERNEL, stride=stride)
    layers = [Stem(inputs, outputs, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.ZeroPad2d((0, 1, 0, 1))] if padding == "valid" else []))


def _conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution and batch norm, then ReLU unless the layer is linear."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _depthwise(channels: int, *, stride: int = 1, dilation: int = 1, relu: bool = True) -> nn.Sequential:
    """Depthwise convolution and batch norm, then ReLU unless the layer is linear."""
    conv = DepthwiseConv(channels, stride, dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), *([nn.ReLU(inplace=True)] if relu else []))


def _dsconv(inputs: int, outputs: int, *, stride: int = 1, relu: bool = False) -> nn.Sequential:
    """Depthwise separable convolution; the paper has no non-linearity between its two halves (section 3.2.1)."""
    return nn.Sequential(_depthwise(inputs, stride=stride, relu=relu), _conv(inputs, outputs))


class Bottleneck(nn.Module):
    """Inverted residual block of Table 2: expand by t, depthwise convolution, linear projection."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _conv(inputs, hidden)
        self.depthwise = _depthwise(hidden, stride=stride)
        self.project = _conv(hidden, outputs, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def pooling_matrix(length: int, bins: int, like: Tensor) -> Tensor:
    """Return the matrix [bins, length] whose product with a signal is its adaptive average pooling.

    It is computed from `arange` because `adaptive_avg_pool2d` cannot be exported with dynamic sizes.
    """
    position = torch.arange(length, device=like.device)[None, :]
    bin_ = torch.arange(bins, device=like.device)[:, None]
    start = torch.div(bin_ * length, bins, rounding_mode="trunc")  # a plain Div in ONNX, unlike `//`
    stop = torch.div((bin_ + 1) * length + bins - 1, bins, rounding_mode="trunc")
    inside = (position >= start) & (position < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)


class PyramidPooling(nn.Module):
    """Pyramid pooling module (PPM): averages over 1, 2, 3 and 6 bins per side, concatenated with the features.

    Attributes:
        align_corners: of the upsampling.
    """

    def __init__(self, channels: int, kernel: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.levels = nn.ModuleList(_conv(channels, channels // len(PPM_BINS)) for _ in PPM_BINS)
        self.project = _conv(2 * channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        parts = [x]
        for bins, level in zip(PPM_BINS, self.levels, strict=True):
            # The exported graph has its nodes in this order.
            pooled = pooling_matrix(height, bins, x) @ x @ pooling_matrix(width, bins, x).transpose(0, 1)  # [N, C, bins, bins]
            parts.append(resize(level(pooled), x, self.align_corners))
        y: Tensor = self.project(torch.cat(parts, dim=1))
        return y


class FeatureFusion(nn.Module):
    """Feature fusion module (FFM) of Table 3: upsample the deep features by 4, refine them and add the skip connection."""

    def __init__(self, skip: int, deep: int, outputs: int, dilation: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.depthwise = _depthwise(deep, dilation=dilation)
        self.deep = _conv(deep, outputs, relu=False)
        self.skip = _conv(skip, outputs, relu=False)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        return F.relu(self.deep(self.depthwise(resize(deep, skip, self.align_corners))) + self.skip(skip))


def resize(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """Resize x [N, C, h, w] bilinearly to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=align_corners)


class Backbone(nn.Module):
    """The shared part of segmentation and classification: normalisation, learning to downsample, global features.

    Args:
        channels: channels of the image; the first three of three or more are RGB.
        variant: a name in `architecture.VARIANTS`.
        width_mult: factor of all channels of the network; 1 is the paper's network.

    The network normalises its input itself: mean and standard deviation are buffers and are saved with the weights.

    Raises:
        FastSCNNError: unknown variant.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, variant: str, width_mult: float) -> None:
        super().__init__()
        form = architecture.variant(variant)
        rgb = 3 if channels >= 3 else 0
        self.register_buffer("mean", torch.tensor(_MEAN_RGB[:rgb] + (_MEAN_OTHER,) * (channels - rgb)))
        self.register_buffer("std", torch.tensor(_STD_RGB[:rgb] + (_STD_OTHER,) * (channels - rgb)))

        (stem, second, third), relu = DOWNSAMPLE, form.separable_relu
        c32, c48, c64 = (scaled(stage, width_mult) for stage in DOWNSAMPLE)
        self.downsample = nn.Sequential(  # learning to downsample
            _stem(channels, c32, stem.stride, form.stem_padding),  # [N, 32, H/2, W/2]
            _dsconv(c32, c48, stride=second.stride, relu=relu),  # [N, 48, H/4, W/4]
            _dsconv(c48, c64, stride=third.stride, relu=relu),  # [N, 64, H/8, W/8]
        )
        first, second, third = BOTTLENECKS
        c64_deep, c96, c128 = (scaled(stage, width_mult) for stage in BOTTLENECKS)
        self.global_features = nn.Sequential(  # global feature extractor
            *_bottlenecks(c64, c64_deep, first),  # [N, 64, H/16, W/16]
            *_bottlenecks(c64_deep, c96, second),  # [N, 96, H/32, W/32]
            *_bottlenecks(c96, c128, third),  # [N, 128, H/32, W/32]
            PyramidPooling(c128, form.ppm_kernel, form.ppm_align_corners),  # [N, 128, H/32, W/32]
        )
        self.skip_channels, self.deep_channels = c64, c128

    def depthwise(self) -> list[DepthwiseConv]:
        """Return all depthwise convolutions."""
        return [module for module in self.modules() if isinstance(module, DepthwiseConv)]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of learning to downsample and that of the global feature extractor.

        Args:
            images: [N, H, W, channels] uint8, or float with the same 0 to 255 range; H and W at least 32.

        Returns:
            [N, 64, H/8, W/8] and [N, 128, H/32, W/32], at width_mult 1.
        """
        x = images.permute(0, 3, 1, 2).to(self.mean.dtype)  # [N, channels, H, W], channels last in memory
        x = (x - self.mean[:, None, None]) / self.std[:, None, None]
        skip = self.downsample(x)
        return skip, self.global_features(skip)


class FastSCNN(Backbone):
    """Images in, class logits at 1/8 of their size out; `upsample.labels` turns these into full-size labels.

    Args:
        classes: number of classes.
        channels, variant, width_mult: see `Backbone`.
        dropout: rate before the last layer (the paper states none; 0.1 is usual).
        auxiliary: add the two auxiliary heads; they are used in training mode only.
        reparam_branches: add a branch to every depthwise convolution for training; `fused` merges them.
        soft_classes: add a second last layer with this number of classes, which learns soft labels of other classes; it is
            used in training mode only. 0: none.

    Raises:
        FastSCNNError: unknown variant.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        variant: str = "paper",
        width_mult: float = 1.0,
        dropout: float = 0.1,
        auxiliary: bool = False,
        reparam_branches: bool = False,
        soft_classes: int = 0,
    ) -> None:
        super().__init__(channels, variant, width_mult)
        form, skip, deep = architecture.variant(variant), self.skip_channels, self.deep_channels
        fused, last = scaled(FUSION, width_mult), scaled(CLASSIFIER, width_mult)
        drop = nn.Dropout2d if form.channel_dropout else nn.Dropout
        self.fusion = FeatureFusion(skip, deep, fused, form.fusion_dilation, form.fusion_align_corners)  # [N, 128, H/8, W/8]
        self.classifier = nn.Sequential(
            _dsconv(fused, last, relu=form.separable_relu),
            _dsconv(last, last, relu=form.separable_relu),
            drop(dropout),
            nn.Conv2d(last, classes, 1),  # [N, classes, H/8, W/8]
        )
        head_dropout = dropout if form.channel_dropout else 0.0
        heads = (_auxiliary_head(inputs, classes, head_dropout) for inputs in (deep, skip))
        self.auxiliary = nn.ModuleList(heads) if auxiliary else None
        self.soft_head = nn.Conv2d(last, soft_classes, 1) if soft_classes else None
        if reparam_branches:
            for conv in self.depthwise():
                conv.branch = nn.BatchNorm2d(conv.in_channels)

    def forward(self, images: Tensor) -> Tensor | TrainingLogits:
        """Return class logits.

        Args:
            images: [N, H, W, channels] uint8, or float with the same 0 to 255 range; H and W at least 32.

        Returns:
            [N, classes, H/8, W/8]; in training mode with further heads, a `TrainingLogits`.
        """
        skip, deep = self.features(images)
        *layers, last = self.classifier
        x = self.fusion(skip, deep)
        for layer in layers:
            x = layer(x)
        logits: Tensor = last(x)  # [N, classes, H/8, W/8]
        if not self.training or (self.auxiliary is None and self.soft_head is None):
            return logits
        sides = () if self.auxiliary is None else (self.auxiliary[0](deep), self.auxiliary[1](skip))
        return TrainingLogits(logits, sides, None if self.soft_head is None else self.soft_head(x))


class Classifier(Backbone):
    """Image classifier for pretraining on ImageNet: average pooling and a linear layer replace the feature fusion.

    The paper does not state whether the pyramid pooling stays. It stays here, so that the whole global feature extractor
    is pretrained.

    Args:
        classes: number of classes.
        channels, variant, width_mult: see `Backbone`.
    """

    def __init__(self, classes: int, channels: int = 3, variant: str = "paper", width_mult: float = 1.0) -> None:
        super().__init__(channels, variant, width_mult)
        self.linear = nn.Linear(self.deep_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits [N, classes] of images as `FastSCNN.forward` takes them."""
        _, deep = self.features(images)
        logits: Tensor = self.linear(deep.mean((2, 3)))
        return logits


def _bottlenecks(inputs: int, outputs: int, stage: Stage) -> list[Bottleneck]:
    """One row of Table 1: the first block has the stride and the change of channels."""
    first = Bottleneck(inputs, outputs, stride=stage.stride, expansion=stage.expansion)
    others = (Bottleneck(outputs, outputs, stride=1, expansion=stage.expansion) for _ in range(stage.repeats - 1))
    return [first, *others]


def _auxiliary_head(inputs: int, classes: int, dropout: float) -> nn.Sequential:
    """Head of an auxiliary loss: mmsegmentation's FCNHead; the paper states only the weight of these losses."""
    conv = _conv(inputs, AUXILIARY_CHANNELS, KERNEL)
    return nn.Sequential(conv, nn.Dropout2d(dropout), nn.Conv2d(AUXILIARY_CHANNELS, classes, 1))


def fused(model: FastSCNN) -> FastSCNN:
    """Return a copy without the heads and branches of training, with the same output in evaluation mode.

    In evaluation mode, a branch scales and shifts each channel. The scale is added to the centre of the channel's kernel;
    the shift is subtracted from the running mean of the batch norm that follows.
    """
    plain = copy.deepcopy(model).eval()
    plain.auxiliary = plain.soft_head = None
    for layer in plain.modules():
        if not isinstance(layer, nn.Sequential) or not isinstance(conv := layer[0], DepthwiseConv) or conv.branch is None:
            continue
        branch, conv.branch = conv.branch, None
        scale = branch.weight / (branch.get_buffer("running_var") + branch.eps).sqrt()
        with torch.no_grad():
            conv.weight[:, 0, 1, 1] += scale
            layer[1].get_buffer("running_mean").sub_(branch.bias - branch.get_buffer("running_mean") * scale)
    return plain
