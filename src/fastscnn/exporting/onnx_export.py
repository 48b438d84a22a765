"""export: weights as an ONNX file that runs at any size, compared with PyTorch before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from fastscnn.backends.onnx import OnnxBackend
from fastscnn.backends.torch import TorchBackend
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.exporting import stem
from fastscnn.exporting.exported import with_card
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.upsampling import upsample

_TRACED = (2, 96, 160)  # batch, height and width of the example; every one of them is dynamic in the file
_COMPARED = ((1, 250, 333), (2, 360, 480), (1, 517, 131))  # sizes it is compared at: none divides by 32
_LOGITS, _LABELS = 1e-4, 99.99  # largest difference of a logit; least share of equal labels in percent


@dataclass(frozen=True)
class Agreement:
    """How an exported file compares with PyTorch at one size.

    Attributes:
        batch, height, width: of the input.
        logits: largest absolute difference of a logit.
        labels: percent of pixels with the same label.
    """

    batch: int
    height: int
    width: int
    logits: float
    labels: float


def export(weights: Path, out: Path, finish: Callable[[Path], bytes] = Path.read_bytes) -> list[Agreement]:
    """Writes the ONNX file of a .safetensors file: uint8 NHWC images of any number and size in, logits at 1/8 out.

    Args:
        weights: the .safetensors file.
        out: the .onnx file.
        finish: called with the compared file; gives what to write, or raises what keeps `out` from being written.

    Returns:
        How it compares with PyTorch at three sizes it was not traced at.

    Raises:
        FastSCNNError: weights that cannot be read, an `out` that does not end in .onnx, or a file that differs from
            PyTorch by more than 1e-4 or in more than one label of 10,000; `out` is not written then.
    """
    if out.suffix.lower() != ".onnx":
        raise FastSCNNError(f"{out}: exported files are ONNX; give --out a name that ends in .onnx.")
    model, described = checkpoint.load(weights)
    data = _trace(model, described)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(data)
        agreements = _compare(TorchBackend(model, described), OnnxBackend(file, torch.get_num_threads()))
        for agreement in agreements:
            if not (agreement.logits <= _LOGITS and agreement.labels >= _LABELS):  # so that NaN is refused
                raise FastSCNNError(f"{out}: not written, because ONNX Runtime and PyTorch disagree on it: {agreement}.")
        finished = finish(file)
    files.write(out, finished)
    return agreements


def _trace(model: FastSCNN, described: Card) -> bytes:
    batch, height, width = _TRACED
    example = torch.zeros(batch, height, width, described.channels, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            model,
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
    stem.fold(proto)  # dividing the image is a pass over it
    graph = proto.graph
    for place in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del place.metadata_props[:]  # stack traces with the paths of the machine that exported
        place.doc_string = ""
    return with_card(proto, described)


def _compare(reference: TorchBackend, exported: OnnxBackend) -> list[Agreement]:
    """On drawn scenes, because on noise every network sees the same thing everywhere."""
    agreements = []
    for batch, height, width in _COMPARED:
        drawn = (synthetic.draw(height, width, seed).image for seed in range(batch))
        pictures = np.stack([images.widened(picture, reference.card.channels) for picture in drawn])
        expected, got = reference(pictures), exported(pictures)
        same = [
            np.mean(upsample.labels(a, (height, width)) == upsample.labels(b, (height, width)))
            for a, b in zip(expected, got, strict=True)
        ]
        difference = float(np.abs(expected - got).max())
        agreements.append(Agreement(batch, height, width, difference, 100 * float(np.mean(same))))
    return agreements


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps and warns of its own internals; what matters is compared afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
