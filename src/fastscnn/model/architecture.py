"""Fast-SCNN, described once and without PyTorch (Poudel, Liwicki, Cipolla 2019, arXiv 1902.04502, Tables 1 to 3).

The torch module, the count of MACs, the converters, fusing and the CUDA backend read this description. Channels are those
of the paper; `scaled` multiplies them by a card's `width_mult`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, prod
from typing import Literal

from fastscnn.base.errors import unknown

Size = tuple[int, int]  # (height, width)
VariantName = Literal["paper", "mmseg", "tramac", "paddleseg"]
Padding = Literal["symmetric", "valid", "same"]


@dataclass(frozen=True)
class Stage:
    """One row of Table 1.

    Attributes:
        channels: output channels, `c` in the paper.
        stride: stride of the first block, `s`.
        repeats: number of blocks, `n`.
        expansion: expansion factor of a bottleneck, `t`.
    """

    channels: int
    stride: int = 1
    repeats: int = 1
    expansion: int = 1


DOWNSAMPLE = (Stage(32, stride=2), Stage(48, stride=2), Stage(64, stride=2))  # a convolution, then two separable ones
BOTTLENECKS = (
    Stage(64, stride=2, repeats=3, expansion=6),
    Stage(96, stride=2, repeats=3, expansion=6),
    Stage(128, stride=1, repeats=3, expansion=6),
)
PPM_BINS = (1, 2, 3, 6)  # bins per side of each level of the pyramid pooling module (PPM); the paper gives none
FUSION = Stage(128)
CLASSIFIER = Stage(128, repeats=2)  # separable convolutions; a 1x1 convolution to the classes follows
KERNEL = 3  # of the first convolution and of every depthwise convolution; the others are 1x1
AUXILIARY_CHANNELS = 32  # of the auxiliary heads, at any width_mult; from mmsegmentation's FCNHead

OUTPUT_STRIDE = prod(stage.stride for stage in DOWNSAMPLE)  # 8: the logits are at 1/8
DEEP_STRIDE = OUTPUT_STRIDE * prod(stage.stride for stage in BOTTLENECKS)  # 32
MIN_SIDE = DEEP_STRIDE  # smallest height and width of the network's input, in pixels
PPM = f"global_features.{sum(stage.repeats for stage in BOTTLENECKS)}"  # name of the pyramid pooling module


@dataclass(frozen=True)
class Variant:
    """The details in which implementations differ; docs/paper.md lists every difference.

    Attributes:
        name: its name in `VARIANTS` and in model cards.
        ppm_kernel: kernel size of the last convolution of the pyramid pooling.
        fusion_dilation: dilation of the depthwise convolution in the feature fusion.
        channel_dropout: dropout drops whole channels, and the auxiliary heads have it too.
        separable_relu: a ReLU between the depthwise and the pointwise half of each separable convolution.
        stem_padding: padding of the first convolution: one pixel on all sides, none, or "same" as in TensorFlow.
        ppm_align_corners: `align_corners` of the upsampling in the pyramid pooling.
        fusion_align_corners: `align_corners` of the upsampling in the feature fusion.
    """

    name: VariantName
    ppm_kernel: int
    fusion_dilation: int
    channel_dropout: bool
    separable_relu: bool = False
    stem_padding: Padding = "symmetric"
    ppm_align_corners: bool = False
    fusion_align_corners: bool = False


PAPER = Variant("paper", ppm_kernel=1, fusion_dilation=4, channel_dropout=False)  # Tables 1 and 3
MMSEG = Variant("mmseg", ppm_kernel=3, fusion_dilation=1, channel_dropout=True)  # mmsegmentation 0.x, 1.x: configs/fastscnn
TRAMAC = Variant(  # Tramac/Fast-SCNN-pytorch: models/fast_scnn.py
    "tramac", ppm_kernel=1, fusion_dilation=1, channel_dropout=False, separable_relu=True, stem_padding="valid",
    ppm_align_corners=True, fusion_align_corners=True,
)  # fmt: skip
PADDLESEG = Variant(  # PaddleSeg: paddleseg/models/fast_scnn.py
    "paddleseg", ppm_kernel=3, fusion_dilation=1, channel_dropout=False, stem_padding="same", ppm_align_corners=True,
)  # fmt: skip
VARIANTS: dict[str, Variant] = {known.name: known for known in (PAPER, MMSEG, TRAMAC, PADDLESEG)}


def variant(name: str) -> Variant:
    """Return the variant of that name.

    Raises:
        FastSCNNError: unknown name.
    """
    if name not in VARIANTS:
        raise unknown("variant", name, VARIANTS)
    return VARIANTS[name]


def scaled(stage: Stage, width_mult: float) -> int:
    """Return the channels of a stage at a width multiplier, rounded to a multiple of 8."""
    return 8 * round(width_mult * stage.channels / 8)


def congruent(side: float, trained: int) -> int:
    """Return the side of a network input nearest to `side` that differs from `trained` by a multiple of 32; halves go up.

    Weights are accurate only at the offset between the grids at 1/8 and at 1/32 that they were trained with. The offset
    depends on the side modulo 32; docs/accuracy.md has the figures. The result is at least 32.
    """
    nearest = trained + DEEP_STRIDE * floor((side - trained) / DEEP_STRIDE + 0.5)
    return max(nearest, MIN_SIDE + (trained - MIN_SIDE) % DEEP_STRIDE)


def reduced(size: Size, stride: int) -> Size:
    """Return the (height, width) after a stride, rounded up as every padded convolution does."""
    return -(-size[0] // stride), -(-size[1] // stride)


@dataclass(frozen=True)
class Layer:
    """One convolution of the network.

    Attributes:
        name: of its block in the state dict: the convolution is `NAME.0` and its batch norm `NAME.1`. Without batch norm,
            `NAME` is the convolution itself.
        part: the module of the paper that it belongs to.
        inputs, outputs: channels.
        kernel, stride, groups, dilation: of the convolution.
        scale: its input is at 1/scale of the image.
        bins: its input has this fixed height and width instead (pyramid pooling); 0: it depends on the image.
        padding: see `Variant.stem_padding`.
        batch_norm: a batch norm follows, and the convolution has no bias.
    """

    name: str
    part: str
    inputs: int
    outputs: int
    scale: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    bins: int = 0
    padding: Padding = "symmetric"
    batch_norm: bool = True

    def areas(self, size: Size) -> tuple[Size, Size]:
        """Return the (height, width) of its input and of its output, for an image of (height, width)."""
        if self.bins:
            return (self.bins, self.bins), (self.bins, self.bins)
        source = reduced(size, self.scale)
        if self.padding == "valid":
            height, width = ((side - self.kernel) // self.stride + 1 for side in source)
            return source, (height, width)
        return source, reduced(source, self.stride)


def layers(classes: int = 19, channels: int = 3, variant_name: str = "paper", width_mult: float = 1.0) -> list[Layer]:
    """Return every convolution of the network that runs, in the order of its computation.

    Args:
        classes: number of classes.
        channels: channels of the image.
        variant_name: a name in `VARIANTS`.
        width_mult: factor of all channels of the network.
    """
    return list(_layers(classes, channels, variant(variant_name), width_mult))


def _layers(classes: int, channels: int, form: Variant, width_mult: float) -> Iterator[Layer]:
    stem, *separable = DOWNSAMPLE
    inputs, scale = scaled(stem, width_mult), stem.stride
    yield Layer("downsample.0", "learning to downsample", channels, inputs, 1, KERNEL, stem.stride, padding=form.stem_padding)
    for index, stage in enumerate(separable, 1):
        outputs = scaled(stage, width_mult)
        yield from _separable(f"downsample.{index}", "learning to downsample", inputs, outputs, scale, stage.stride)
        inputs, scale = outputs, scale * stage.stride
    skip, index = inputs, 0
    for stage in BOTTLENECKS:
        for block in range(stage.repeats):
            name, outputs, stride = f"global_features.{index}", scaled(stage, width_mult), 1 if block else stage.stride
            hidden = stage.expansion * inputs
            yield Layer(f"{name}.expand", "bottleneck", inputs, hidden, scale)
            yield Layer(f"{name}.depthwise", "bottleneck", hidden, hidden, scale, KERNEL, stride, groups=hidden)
            scale *= stride
            yield Layer(f"{name}.project", "bottleneck", hidden, outputs, scale)
            inputs, index = outputs, index + 1
    deep, level = inputs, inputs // len(PPM_BINS)
    for index, bins in enumerate(PPM_BINS):
        yield Layer(f"{PPM}.levels.{index}", "pyramid pooling", deep, level, scale, bins=bins)
    yield Layer(f"{PPM}.project", "pyramid pooling", deep + level * len(PPM_BINS), deep, scale, form.ppm_kernel)
    fused, scale = scaled(FUSION, width_mult), OUTPUT_STRIDE
    yield Layer("fusion.depthwise", "feature fusion", deep, deep, scale, KERNEL, groups=deep, dilation=form.fusion_dilation)
    yield Layer("fusion.deep", "feature fusion", deep, fused, scale)
    yield Layer("fusion.skip", "feature fusion", skip, fused, scale)
    inputs, outputs = fused, scaled(CLASSIFIER, width_mult)
    for index in range(CLASSIFIER.repeats):
        yield from _separable(f"classifier.{index}", "classifier", inputs, outputs, scale)
        inputs = outputs
    # Dropout lies between the separable convolutions and the last one, hence the number.
    yield Layer(f"classifier.{CLASSIFIER.repeats + 1}", "classifier", inputs, classes, scale, batch_norm=False)


def _separable(name: str, part: str, inputs: int, outputs: int, scale: int, stride: int = 1) -> Iterator[Layer]:
    """A depthwise convolution, then a pointwise one."""
    yield Layer(f"{name}.0", part, inputs, inputs, scale, KERNEL, stride, groups=inputs)
    yield Layer(f"{name}.1", part, inputs, outputs, scale * stride)
