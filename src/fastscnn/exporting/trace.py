"""Trace a PyTorch network to ONNX with dynamic sizes, and verify the result against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from fastscnn.backends import Backend
from fastscnn.data import synthetic
from fastscnn.exporting import stem
from fastscnn.exporting.metadata import with_card
from fastscnn.exporting.quiet import quiet
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.fuse import folded
from fastscnn.upsampling import upsample

_TRACED = (2, 96, 160)  # batch, height and width of the example; all three are dynamic in the file
_VERIFIED = ((1, 250, 333), (2, 360, 480), (1, 517, 131))  # other sizes than the traced one; none is a multiple of 32
_MOST_DIFFERENCE = 1e-4  # of a logit; float32 rounding stays below 1e-5
_LEAST_EQUAL = 99.99  # percent of pixels with the same label


@dataclass(frozen=True)
class Verification:
    """Agreement of an exported network with PyTorch at one input size.

    Attributes:
        batch, height, width: of the input.
        logit_difference: largest absolute difference of a logit.
        equal_labels: percent of pixels with the same label.
    """

    batch: int
    height: int
    width: int
    logit_difference: float
    equal_labels: float

    @property
    def passed(self) -> bool:
        """Whether both are within the limits: 1e-4 and 99.99 %. NaN is not."""
        return self.logit_difference <= _MOST_DIFFERENCE and self.equal_labels >= _LEAST_EQUAL


def trace(model: FastSCNN, described: Card) -> bytes:
    """Return the ONNX file of a network, with its card.

    The file takes `images`, uint8 [N, H, W, channels] of any N, H and W, and returns `logits`,
    float32 [N, classes, H/8, W/8], rounded up.

    Args:
        model: the network, in evaluation mode on the CPU.
        described: its card.
    """
    batch, height, width = _TRACED
    plain = folded(model)  # the exporter would fold the batch norms, too, but takes half as long again to trace them first
    example = torch.zeros(batch, height, width, described.channels, dtype=torch.uint8)
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            plain,
            (example,),
            dynamo=True,
            external_data=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: "batch", 1: "height", 2: "width"}},
            verbose=False,
        )
    assert program is not None  # only the legacy exporter returns None
    proto: onnx.ModelProto = program.model_proto
    stem.fuse_std(proto)  # saves a pass over the image
    graph = proto.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # stack traces, with paths of this machine
        part.doc_string = ""
    return with_card(proto, described)


def verify(
    reference: Backend, exported: Backend, progress: Callable[[int, int], None] | None = None
) -> tuple[Verification, ...]:
    """Compare an exported network with PyTorch at three sizes that it was not traced at.

    The images are generated street scenes: on noise, a network predicts the same class everywhere.

    Args:
        reference: the network in PyTorch.
        exported: the exported network.
        progress: called with (done, total) after each size.
    """
    found = []
    for batch, height, width in _VERIFIED:
        drawn = (synthetic.draw(height, width, seed).image for seed in range(batch))
        pictures = np.stack([images.widened(picture, reference.card.channels) for picture in drawn])
        expected, got = reference(pictures), exported(pictures)
        same = [
            np.mean(upsample.labels(a, (height, width)) == upsample.labels(b, (height, width)))
            for a, b in zip(expected, got, strict=True)
        ]
        difference = float(np.abs(expected - got).max())
        found.append(Verification(batch, height, width, difference, 100 * float(np.mean(same))))
        if progress:
            progress(len(found), len(_VERIFIED))
    return tuple(found)
