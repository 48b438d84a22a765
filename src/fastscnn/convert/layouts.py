"""layouts: what other implementations of Fast-SCNN call the tensors that ours holds.

Every implementation has the same pairs of convolution and batch norm and one last convolution. A `Pair` says where one
stands here and there; what else differs is a field of `Layout`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple

_LEVELS = 4  # of the pyramid pooling
_BLOCKS = tuple((3 * stage + block, stage + 1, block) for stage in range(3) for block in range(3))  # (ours, stage, block)


class Pair(NamedTuple):
    """A convolution and the batch norm behind it.

    Attributes:
        ours: our name of both; the convolution is its `.0` and the batch norm its `.1`.
        conv: the other name of the convolution.
        norm: the other name of the batch norm.
        bias: whether the convolution has a bias, which ours has not.
    """

    ours: str
    conv: str
    norm: str
    bias: bool = False


@dataclass(frozen=True)
class Layout:
    """How an implementation names and orders its tensors.

    Attributes:
        project: the implementation, as errors name it.
        variant: the name in `learn.model.VARIANTS` of what it computes.
        pairs: of all convolutions but the last.
        last: its name of the last convolution, whose channels are the classes.
        auxiliary: how the names of its auxiliary heads start, which ours drops.
        mean_name: what it calls the running mean of a batch norm.
        variance_name: what it calls the running variance.
        reversed_levels: whether the levels of the pyramid pooling are concatenated from the finest to the coarsest.
        mean: of the colours, from 0 to 255, that its training subtracts; None: ours, ImageNet's.
        std: by which it then divides; None: ours.
    """

    project: str
    variant: str
    pairs: tuple[Pair, ...]
    last: str
    auxiliary: str
    mean_name: str = "running_mean"
    variance_name: str = "running_var"
    reversed_levels: bool = False
    mean: float | None = None
    std: float | None = None

    def share(self, names: Container[str]) -> float:
        """Share of its convolutions, 0 to 1, that are among these names of tensors."""
        return sum(f"{pair.conv}.weight" in names for pair in self.pairs) / len(self.pairs)


PROJECT = "global_features.9.project"  # our convolution that reads all levels of the pyramid pooling

def _mmseg() -> Iterator[Pair]:
    """mmsegmentation 0.x and 1.x: ConvModule's `conv` and `bn`, DepthwiseSeparableConvModule's two halves."""

    def pair(ours: str, theirs: str) -> Pair:
        return Pair(ours, f"{theirs}.conv", f"{theirs}.bn")

    def halves(ours: str, theirs: str) -> Iterator[Pair]:
        yield pair(f"{ours}.0", f"{theirs}.depthwise_conv")
        yield pair(f"{ours}.1", f"{theirs}.pointwise_conv")

    start, deep = "backbone.learning_to_downsample", "backbone.global_feature_extractor"
    yield pair("downsample.0", f"{start}.conv")
    for index in (1, 2):
        yield from halves(f"downsample.{index}", f"{start}.dsconv{index}")
    for ours, stage, block in _BLOCKS:
        for index, part in enumerate(("expand", "depthwise", "project")):
            yield pair(f"global_features.{ours}.{part}", f"{deep}.bottleneck{stage}.{block}.conv.{index}")
    for level in range(_LEVELS):
        yield pair(f"global_features.9.levels.{level}", f"{deep}.ppm.{level}.1")
    yield pair(PROJECT, f"{deep}.out")
    for part, name in (("depthwise", "dwconv"), ("deep", "conv_lower_res"), ("skip", "conv_higher_res")):
        yield pair(f"fusion.{part}", f"backbone.feature_fusion.{name}")
    for index in (0, 1):
        yield from halves(f"classifier.{index}", f"decode_head.convs.{index}")


def _tramac() -> Iterator[Pair]:
    """Tramac/Fast-SCNN-pytorch: numbers within `conv`, a separable convolution as one sequence of six."""

    def pair(ours: str, theirs: str, first: int = 0, bias: bool = False) -> Pair:
        return Pair(ours, f"{theirs}.{first}", f"{theirs}.{first + 1}", bias)

    def halves(ours: str, theirs: str) -> Iterator[Pair]:
        yield pair(f"{ours}.0", f"{theirs}.conv")
        yield pair(f"{ours}.1", f"{theirs}.conv", 3)

    start, deep = "learning_to_downsample", "global_feature_extractor"
    yield pair("downsample.0", f"{start}.conv.conv")
    for index in (1, 2):
        yield from halves(f"downsample.{index}", f"{start}.dsconv{index}")
    for ours, stage, block in _BLOCKS:
        theirs = f"{deep}.bottleneck{stage}.{block}.block"
        yield pair(f"global_features.{ours}.expand", f"{theirs}.0.conv")
        yield pair(f"global_features.{ours}.depthwise", f"{theirs}.1.conv")
        yield pair(f"global_features.{ours}.project", theirs, 2)
    for level in range(_LEVELS):
        yield pair(f"global_features.9.levels.{level}", f"{deep}.ppm.conv{level + 1}.conv")
    yield pair(PROJECT, f"{deep}.ppm.out.conv")
    yield pair("fusion.depthwise", "feature_fusion.dwconv.conv")
    yield pair("fusion.deep", "feature_fusion.conv_lower_res", bias=True)
    yield pair("fusion.skip", "feature_fusion.conv_higher_res", bias=True)
    for index in (0, 1):
        yield from halves(f"classifier.{index}", f"classifier.dsconv{index + 1}")


def _paddleseg() -> Iterator[Pair]:
    """PaddleSeg: `_conv` and `_batch_norm`, biases wherever none asked for none, and `piontwise` as it is spelled there."""

    def pair(ours: str, theirs: str, bias: bool = True) -> Pair:
        return Pair(ours, f"{theirs}._conv", f"{theirs}._batch_norm", bias)

    def halves(ours: str, theirs: str) -> Iterator[Pair]:
        yield pair(f"{ours}.0", f"{theirs}.depthwise_conv")
        yield pair(f"{ours}.1", f"{theirs}.piontwise_conv")

    start, deep = "learning_to_downsample", "global_feature_extractor"
    yield pair("downsample.0", f"{start}.conv_bn_relu")
    for index in (1, 2):
        yield from halves(f"downsample.{index}", f"{start}.dsconv_bn_relu{index}")
    for ours, stage, block in _BLOCKS:
        for index, part in enumerate(("expand", "depthwise", "project")):
            yield pair(f"global_features.{ours}.{part}", f"{deep}.bottleneck{stage}.{block}.block.{index}", bias=False)
    for level in range(_LEVELS):
        yield pair(f"global_features.9.levels.{level}", f"{deep}.ppm.stages.{level}.1")
    yield pair(PROJECT, f"{deep}.ppm.conv_bn_relu2")
    yield pair("fusion.depthwise", "feature_fusion.dwconv", bias=False)
    yield pair("fusion.deep", "feature_fusion.conv_low_res")
    yield pair("fusion.skip", "feature_fusion.conv_high_res")
    for index in (0, 1):
        yield from halves(f"classifier.{index}", f"classifier.dsconv{index + 1}")


LAYOUTS = {
    "mmseg": Layout("mmsegmentation", "mmseg", tuple(_mmseg()), "decode_head.conv_seg", "auxiliary_head."),
    "tramac": Layout("Tramac/Fast-SCNN-pytorch", "tramac", tuple(_tramac()), "classifier.conv.1", "auxlayer."),
    "paddleseg": Layout(
        "PaddleSeg", "paddleseg", tuple(_paddleseg()), "classifier.conv", "auxlayer.",
        mean_name="_mean", variance_name="_variance", reversed_levels=True, mean=127.5, std=127.5,
    ),
}
