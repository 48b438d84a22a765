"""Networks to export for phones, without the trace to ONNX, which those targets do not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import nn

from fastscnn import backends
from fastscnn.base.types import UInt8Array
from fastscnn.exporting.form import checked_form
from fastscnn.exporting.targets import Exported
from fastscnn.model.card import Card
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN

# Every kind of padding and of upsampling, sides that are no multiples of 32, and images of one and four channels.
UNUSUAL = [("tramac", (75, 101), 3), ("paddleseg", (33, 98), 1), ("mmseg", (64, 96), 4)]


@cache
def reference() -> backends.Backend:
    """The bundled network in PyTorch; the weights of the bundled ONNX file are rounded."""
    return backends.load(bundled("torch"), "torch", threads=2)


def bundled_export(
    size: tuple[int, int], precision: str = "float32", output: str = "logits", calibration: Sequence[UInt8Array] = ()
) -> Exported:
    """The bundled network in a form."""
    model, card = checkpoint.load(bundled("torch"))
    return Exported(b"", card, checked_form(output, precision, size), lambda: model, tuple(calibration))


def untrained_export(variant: str, size: tuple[int, int], channels: int) -> Exported:
    """An untrained network whose batch norms all do something."""
    torch.manual_seed(0)
    model = FastSCNN(3, channels, variant, width_mult=0.5).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            norm.get_buffer("running_mean").normal_()
            norm.get_buffer("running_var").uniform_(0.5, 2)
    card: Card = replace(reference().card, channels=channels)
    return Exported(b"", card, checked_form(static=size), lambda: model)


def noise(exported: Exported) -> UInt8Array:
    """A batch of one random image for a network, uint8 [1, H, W, channels]."""
    assert exported.form.static is not None
    return np.random.default_rng(0).integers(0, 256, (1, *exported.form.static, exported.card.channels), np.uint8)


@torch.inference_mode()
def expected(exported: Exported) -> np.ndarray:
    """Its logits for `noise`, computed by PyTorch."""
    logits: np.ndarray = exported.network(torch.from_numpy(noise(exported))).numpy()
    return logits
