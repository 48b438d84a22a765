"""Fast-SCNN, the whole network in one file (Poudel, Liwicki, Cipolla 2019, arXiv 1902.04502, Tables 1 to 3).

Shapes stand at the line ends for an image of H x W; `H/8` is rounded up, as every stride-2 convolution does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MEAN_RGB, _STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, as mmsegmentation uses
_MEAN_OTHER, _STD_OTHER = 127.5, 57.5  # further channels (thermal, depth): the middle of the range, the same spread


@dataclass(frozen=True)
class Variant:
    """What differs between the paper's network and a peer's. Every difference is listed in docs/paper.md."""

    ppm_kernel: int  # kernel of the convolution that closes the pyramid pooling
    fusion_dilation: int  # dilation of the depthwise convolution in the feature fusion
    channel_dropout: bool  # whether dropout takes whole channels, and acts in the auxiliary heads too
    separable_relu: bool = False  # a ReLU between the two halves of each depthwise separable convolution
    stem_padding: Literal["both", "none", "same"] = "both"  # of the first convolution; `Stem` says what each means
    ppm_corners: bool = False  # align_corners of the upsampling in the pyramid pooling
    fusion_corners: bool = False  # align_corners of the upsampling in the feature fusion


VARIANTS = {
    "paper": Variant(ppm_kernel=1, fusion_dilation=4, channel_dropout=False),  # Table 1 and Table 3
    "mmseg": Variant(ppm_kernel=3, fusion_dilation=1, channel_dropout=True),  # mmsegmentation 0.x and 1.x, configs/fastscnn
    "tramac": Variant(  # Tramac/Fast-SCNN-pytorch, models/fast_scnn.py
        ppm_kernel=1, fusion_dilation=1, channel_dropout=False, separable_relu=True, stem_padding="none",
        ppm_corners=True, fusion_corners=True,
    ),
    "paddleseg": Variant(  # PaddleSeg, paddleseg/models/fast_scnn.py
        ppm_kernel=3, fusion_dilation=1, channel_dropout=False, stem_padding="same", ppm_corners=True,
    ),
}


class TrainingLogits(NamedTuple):
    """What the network gives in training: class logits of the main head and of both auxiliary heads."""

    main: Tensor  # [N, classes, H/8, W/8]
    global_features: Tensor  # [N, classes, H/32, W/32], after the global feature extractor
    downsample: Tensor  # [N, classes, H/8, W/8], after learning to downsample


class DepthwiseConv(nn.Conv2d):
    """Convolution of each channel by itself, in float32 where a CPU trains it in bfloat16 with a stride or dilation.

    oneDNN has no fast bfloat16 backward pass for those.

    Attributes:
        branch: batch norm of the input, which is added to the result; None in the network that runs.
    """

    def __init__(self, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False)
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
    """The first convolution, 3x3 with stride 2, where it does not pad by one on all sides.

    `same` pads as TensorFlow and Paddle do: an even side by one at its end, an odd one by one at both ends. `none` does
    not pad; the row and the column that are then missing are added as zeros behind the ReLU (`_stem`), which is what the
    next convolution would have padded with. So the sizes are those of every variant, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, padding: Literal["none", "same"]) -> None:
        super().__init__(inputs, outputs, 3, 2, bias=False)
        self.same = padding == "same"

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            x = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))
        return super().forward(x)


def _stem(inputs: int, outputs: int, padding: Literal["both", "none", "same"]) -> nn.Sequential:
    """The first convolution, batch norm and ReLU."""
    if padding == "both":
        return _conv(inputs, outputs, 3, stride=2)
    layers = [Stem(inputs, outputs, padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.ZeroPad2d((0, 1, 0, 1))] if padding == "none" else []))


def _conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution and batch norm, then ReLU unless the layer is linear."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _depthwise(channels: int, *, stride: int = 1, dilation: int = 1, relu: bool = True) -> nn.Sequential:
    """3x3 convolution of each channel by itself and batch norm, then ReLU unless the layer is linear."""
    conv = DepthwiseConv(channels, stride, dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), *([nn.ReLU(inplace=True)] if relu else []))


def _dsconv(inputs: int, outputs: int, *, stride: int = 1, relu: bool = False) -> nn.Sequential:
    """Depthwise separable convolution; the paper has no non-linearity between its two halves (section 3.2.1)."""
    return nn.Sequential(_depthwise(inputs, stride=stride, relu=relu), _conv(inputs, outputs))


class Bottleneck(nn.Module):
    """Inverted residual block of Table 2: expand by t, depthwise, project without non-linearity."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _conv(inputs, hidden)
        self.depthwise = _depthwise(hidden, stride=stride)
        self.project = _conv(hidden, outputs, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def averages(length: int, bins: int, like: Tensor) -> Tensor:
    """Matrix [bins, length] whose product with a signal is its adaptive average pooling.

    Plain arithmetic on `arange`, because `adaptive_avg_pool2d` cannot be exported for sizes unknown at export.
    """
    position = torch.arange(length, device=like.device)[None, :]
    bin_ = torch.arange(bins, device=like.device)[:, None]
    start = torch.div(bin_ * length, bins, rounding_mode="trunc")  # a plain Div in ONNX, unlike `//`
    stop = torch.div((bin_ + 1) * length + bins - 1, bins, rounding_mode="trunc")
    inside = (position >= start) & (position < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)


class PyramidPooling(nn.Module):
    """PPM: averages over 1, 2, 3 and 6 bins a side beside the features themselves. Bins as everyone has them.

    Attributes:
        align_corners: of the upsampling.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, channels: int, kernel: int, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.levels = nn.ModuleList(_conv(channels, channels // 4) for _ in self.BINS)
        self.project = _conv(2 * channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        parts = [x]
        for bins, level in zip(self.BINS, self.levels, strict=True):
            pooled = averages(height, bins, x) @ x @ averages(width, bins, x).transpose(0, 1)  # [N, C, bins, bins]
            parts.append(resize(level(pooled), x, self.align_corners))
        y: Tensor = self.project(torch.cat(parts, dim=1))
        return y


class FeatureFusion(nn.Module):
    """FFM of Table 3: deep features upsampled by 4 and refined, plus the skip connection's; ReLU after the sum."""

    def __init__(self, skip: int, deep: int, outputs: int, dilation: int, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.depthwise = _depthwise(deep, dilation=dilation)
        self.deep = _conv(deep, outputs, relu=False)
        self.skip = _conv(skip, outputs, relu=False)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        return F.relu(self.deep(self.depthwise(resize(deep, skip, self.align_corners))) + self.skip(skip))


def resize(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """Bilinear resizing of x [N, C, h, w] to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=align_corners)


class Backbone(nn.Module):
    """What labelling and classifying have in common: normalisation, learning to downsample and global features.

    Args:
        channels: channels of the image; the first three of three or more are RGB.
        variant: a name in `VARIANTS`.
        width_mult: factor of all channels inside; 1 is the paper's, more makes a teacher.

    The network normalises its input itself: mean and standard deviation are buffers and travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, variant: str, width_mult: float) -> None:
        super().__init__()
        layout = VARIANTS[variant]
        rgb = 3 if channels >= 3 else 0
        self.register_buffer("mean", torch.tensor(_MEAN_RGB[:rgb] + (_MEAN_OTHER,) * (channels - rgb)))
        self.register_buffer("std", torch.tensor(_STD_RGB[:rgb] + (_STD_OTHER,) * (channels - rgb)))

        c32, c48, c64, c96, c128 = (8 * round(width_mult * c / 8) for c in (32, 48, 64, 96, 128))
        self.skip_channels, self.deep_channels = c64, c128
        self.downsample = nn.Sequential(  # learning to downsample
            _stem(channels, c32, layout.stem_padding),  # [N, 32, H/2, W/2]
            _dsconv(c32, c48, stride=2, relu=layout.separable_relu),  # [N, 48, H/4, W/4]
            _dsconv(c48, c64, stride=2, relu=layout.separable_relu),  # [N, 64, H/8, W/8]
        )
        self.global_features = nn.Sequential(  # global feature extractor
            *_stage(c64, c64, blocks=3, stride=2),  # [N, 64, H/16, W/16]
            *_stage(c64, c96, blocks=3, stride=2),  # [N, 96, H/32, W/32]
            *_stage(c96, c128, blocks=3, stride=1),  # [N, 128, H/32, W/32]
            PyramidPooling(c128, layout.ppm_kernel, layout.ppm_corners),  # [N, 128, H/32, W/32]
        )

    def depthwise(self) -> list[DepthwiseConv]:
        """All its depthwise convolutions."""
        return [module for module in self.modules() if isinstance(module, DepthwiseConv)]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What learning to downsample and the global feature extractor make of images.

        Args:
            images: [N, H, W, channels] uint8, or float with the same 0 to 255 range; H and W at least 32.

        Returns:
            [N, 64, H/8, W/8] and [N, 128, H/32, W/32], at width 1.
        """
        x = images.permute(0, 3, 1, 2).to(self.mean.dtype)  # [N, channels, H, W], channels last in memory
        x = (x - self.mean[:, None, None]) / self.std[:, None, None]
        skip = self.downsample(x)
        return skip, self.global_features(skip)


class FastSCNN(Backbone):
    """Images in, class logits at 1/8 of their size out; `upsample.labels` makes full-size labels of them.

    Args:
        classes: number of classes.
        channels, variant, width_mult: see `Backbone`.
        dropout: rate before the last layer (the paper states none; 0.1 is what everyone uses).
        auxiliary: adds the two heads of the auxiliary losses; they only work in training mode.
        reparam_branches: adds a branch to every depthwise convolution, for training; `fused` takes them out again.
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
    ) -> None:
        super().__init__(channels, variant, width_mult)
        layout, skip, deep = VARIANTS[variant], self.skip_channels, self.deep_channels
        drop = nn.Dropout2d if layout.channel_dropout else nn.Dropout
        self.fusion = FeatureFusion(skip, deep, deep, layout.fusion_dilation, layout.fusion_corners)  # [N, 128, H/8, W/8]
        self.classifier = nn.Sequential(
            _dsconv(deep, deep, relu=layout.separable_relu),
            _dsconv(deep, deep, relu=layout.separable_relu),
            drop(dropout),
            nn.Conv2d(deep, classes, 1),  # [N, classes, H/8, W/8]
        )
        side_dropout = dropout if layout.channel_dropout else 0.0
        heads = (_auxiliary_head(inputs, classes, side_dropout) for inputs in (deep, skip))
        self.auxiliary = nn.ModuleList(heads) if auxiliary else None
        if reparam_branches:
            for conv in self.depthwise():
                conv.branch = nn.BatchNorm2d(conv.in_channels)

    def forward(self, images: Tensor) -> Tensor | TrainingLogits:
        """Class logits.

        Args:
            images: [N, H, W, channels] uint8, or float with the same 0 to 255 range; H and W at least 32.

        Returns:
            [N, classes, H/8, W/8]; in training mode with auxiliary heads, a `TrainingLogits`.
        """
        skip, deep = self.features(images)
        logits: Tensor = self.classifier(self.fusion(skip, deep))  # [N, classes, H/8, W/8]
        if self.auxiliary is None or not self.training:
            return logits
        return TrainingLogits(logits, self.auxiliary[0](deep), self.auxiliary[1](skip))


class Classifier(Backbone):
    """Images in, logits of their one class out: the network of the paper's pretraining on ImageNet.

    There, the feature fusion is replaced by average pooling, and the classifier is a softmax layer only; the softmax is
    the loss's. Whether the pyramid pooling stays is not stated: it does here, so that all of the global feature extractor
    is pretrained.

    Args:
        classes: number of classes.
        channels, variant, width_mult: see `Backbone`.
    """

    def __init__(self, classes: int, channels: int = 3, variant: str = "paper", width_mult: float = 1.0) -> None:
        super().__init__(channels, variant, width_mult)
        self.linear = nn.Linear(self.deep_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits [N, classes] of images as `FastSCNN.forward` takes them."""
        _, deep = self.features(images)
        logits: Tensor = self.linear(deep.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, *, blocks: int, stride: int) -> list[Bottleneck]:
    """One row of Table 1: `blocks` bottlenecks, the first with the stride and the change of channels."""
    first = Bottleneck(inputs, outputs, stride=stride)
    return [first, *(Bottleneck(outputs, outputs, stride=1) for _ in range(blocks - 1))]


def _auxiliary_head(inputs: int, classes: int, dropout: float) -> nn.Sequential:
    """The paper states only the weight of these losses; the head is mmsegmentation's FCNHead of 32 channels."""
    return nn.Sequential(_conv(inputs, 32, 3), nn.Dropout2d(dropout), nn.Conv2d(32, classes, 1))


def fused(model: FastSCNN) -> FastSCNN:
    """A copy without auxiliary heads and reparam_branches that computes the same in evaluation mode.

    A branch is a scale and a shift of each channel. The scale goes to the centre of the channel's kernel, the shift
    through the batch norm behind it.
    """
    plain = copy.deepcopy(model).eval()
    plain.auxiliary = None
    for layer in plain.modules():
        if not isinstance(layer, nn.Sequential) or not isinstance(conv := layer[0], DepthwiseConv) or conv.branch is None:
            continue
        branch, conv.branch = conv.branch, None
        scale = branch.weight / (branch.get_buffer("running_var") + branch.eps).sqrt()
        with torch.no_grad():
            conv.weight[:, 0, 1, 1] += scale
            layer[1].get_buffer("running_mean").sub_(branch.bias - branch.get_buffer("running_mean") * scale)
    return plain
