"""The tensor names of other implementations of Fast-SCNN.

Every implementation has the same convolutions with batch norm and one last convolution. Each generator below yields the
names of one implementation in the order of `architecture.layers`; `Layout` has the other differences.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fastscnn.model import architecture
from fastscnn.model.architecture import BOTTLENECKS, CLASSIFIER, DOWNSAMPLE, PPM, PPM_BINS, VariantName

PROJECT = f"{PPM}.project"  # our convolution that reads all levels of the pyramid pooling
_SEPARABLE = range(1, len(DOWNSAMPLE))  # numbers of the separable convolutions in learning to downsample
_BLOCKS = tuple((stage, block) for stage, row in enumerate(BOTTLENECKS, 1) for block in range(row.repeats))
_LEVELS = range(len(PPM_BINS))
_HEADS = range(CLASSIFIER.repeats)  # numbers of the separable convolutions in the classifier


class Theirs(NamedTuple):
    """The names of a convolution and of its batch norm in another implementation.

    Attributes:
        conv: the convolution.
        norm: the batch norm.
        bias: whether the convolution has a bias; ours has none.
    """

    conv: str
    norm: str
    bias: bool = False


class Pair(NamedTuple):
    """A convolution and its batch norm, here and there.

    Attributes:
        ours: our name of both; the convolution is its `.0` and the batch norm its `.1`.
        conv, norm, bias: see `Theirs`.
    """

    ours: str
    conv: str
    norm: str
    bias: bool


@dataclass(frozen=True)
class Layout:
    """How an implementation names and orders its tensors.

    Attributes:
        project: name of the implementation in messages.
        variant: the variant that it computes.
        pairs: all convolutions but the last.
        last: name of the last convolution, whose output channels are the classes.
        auxiliary: prefix of its auxiliary heads, which are not converted.
        mean_name: name of the running mean of a batch norm.
        variance_name: name of the running variance.
        reversed_levels: whether the levels of the pyramid pooling are concatenated from the finest to the coarsest.
        mean: mean of its input normalisation, for values from 0 to 255; None: ImageNet's, as ours.
        std: its standard deviation; None: ours.
    """

    project: str
    variant: VariantName
    pairs: tuple[Pair, ...]
    last: str
    auxiliary: str
    mean_name: str = "running_mean"
    variance_name: str = "running_var"
    reversed_levels: bool = False
    mean: float | None = None
    std: float | None = None

    def share(self, names: Container[str]) -> float:
        """Return the fraction, 0 to 1, of its convolutions that are among these tensor names."""
        return sum(f"{pair.conv}.weight" in names for pair in self.pairs) / len(self.pairs)


def _paired(theirs: Iterable[Theirs]) -> tuple[Pair, ...]:
    """Pair the names with ours; both are in the order of the network."""
    ours = [layer.name for layer in architecture.layers() if layer.batch_norm]
    return tuple(Pair(name, *other) for name, other in zip(ours, theirs, strict=True))


def _mmseg() -> Iterator[Theirs]:
    """mmsegmentation 0.x and 1.x: `conv` and `bn` of ConvModule, the two halves of DepthwiseSeparableConvModule."""

    def conv(name: str) -> Theirs:
        return Theirs(f"{name}.conv", f"{name}.bn")

    def separable(name: str) -> Iterator[Theirs]:
        yield conv(f"{name}.depthwise_conv")
        yield conv(f"{name}.pointwise_conv")

    start, deep = "backbone.learning_to_downsample", "backbone.global_feature_extractor"
    yield conv(f"{start}.conv")
    for index in _SEPARABLE:
        yield from separable(f"{start}.dsconv{index}")
    for stage, block in _BLOCKS:
        for part in range(3):
            yield conv(f"{deep}.bottleneck{stage}.{block}.conv.{part}")
    for level in _LEVELS:
        yield conv(f"{deep}.ppm.{level}.1")
    yield conv(f"{deep}.out")
    for name in ("dwconv", "conv_lower_res", "conv_higher_res"):
        yield conv(f"backbone.feature_fusion.{name}")
    for index in _HEADS:
        yield from separable(f"decode_head.convs.{index}")


def _tramac() -> Iterator[Theirs]:
    """Tramac/Fast-SCNN-pytorch: numbers within `conv`, a separable convolution as one sequence of six."""

    def conv(name: str, first: int = 0, bias: bool = False) -> Theirs:
        return Theirs(f"{name}.{first}", f"{name}.{first + 1}", bias)

    def separable(name: str) -> Iterator[Theirs]:
        yield conv(f"{name}.conv")
        yield conv(f"{name}.conv", 3)

    start, deep = "learning_to_downsample", "global_feature_extractor"
    yield conv(f"{start}.conv.conv")
    for index in _SEPARABLE:
        yield from separable(f"{start}.dsconv{index}")
    for stage, block in _BLOCKS:
        name = f"{deep}.bottleneck{stage}.{block}.block"
        yield conv(f"{name}.0.conv")
        yield conv(f"{name}.1.conv")
        yield conv(name, 2)
    for level in _LEVELS:
        yield conv(f"{deep}.ppm.conv{level + 1}.conv")
    yield conv(f"{deep}.ppm.out.conv")
    yield conv("feature_fusion.dwconv.conv")
    yield conv("feature_fusion.conv_lower_res", bias=True)
    yield conv("feature_fusion.conv_higher_res", bias=True)
    for index in _HEADS:
        yield from separable(f"classifier.dsconv{index + 1}")


def _paddleseg() -> Iterator[Theirs]:
    """PaddleSeg: `_conv` and `_batch_norm`, a bias unless it is disabled, and `piontwise`, as it is spelled there."""

    def conv(name: str, bias: bool = True) -> Theirs:
        return Theirs(f"{name}._conv", f"{name}._batch_norm", bias)

    def separable(name: str) -> Iterator[Theirs]:
        yield conv(f"{name}.depthwise_conv")
        yield conv(f"{name}.piontwise_conv")

    start, deep = "learning_to_downsample", "global_feature_extractor"
    yield conv(f"{start}.conv_bn_relu")
    for index in _SEPARABLE:
        yield from separable(f"{start}.dsconv_bn_relu{index}")
    for stage, block in _BLOCKS:
        for part in range(3):
            yield conv(f"{deep}.bottleneck{stage}.{block}.block.{part}", bias=False)
    for level in _LEVELS:
        yield conv(f"{deep}.ppm.stages.{level}.1")
    yield conv(f"{deep}.ppm.conv_bn_relu2")
    yield conv("feature_fusion.dwconv", bias=False)
    yield conv("feature_fusion.conv_low_res")
    yield conv("feature_fusion.conv_high_res")
    for index in _HEADS:
        yield from separable(f"classifier.dsconv{index + 1}")


LAYOUTS = {
    "mmseg": Layout("mmsegmentation", "mmseg", _paired(_mmseg()), "decode_head.conv_seg", "auxiliary_head."),
    "tramac": Layout("Tramac/Fast-SCNN-pytorch", "tramac", _paired(_tramac()), "classifier.conv.1", "auxlayer."),
    "paddleseg": Layout(
        "PaddleSeg", "paddleseg", _paired(_paddleseg()), "classifier.conv", "auxlayer.",
        mean_name="_mean", variance_name="_variance", reversed_levels=True, mean=127.5, std=127.5,
    ),
}  # fmt: skip
