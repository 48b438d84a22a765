"""PyTorch as a backend: the same call as every other engine, for weights in training and as their reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.base import machine
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN


class TorchBackend:
    """A network in PyTorch, float32, on the device where its weights are."""

    name = "torch"
    precision = "float32"
    streams = 1

    def __init__(self, model: FastSCNN, card: Card) -> None:
        self.card, self.threads = card, torch.get_num_threads()
        self._model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, path: Path, threads: int) -> TorchBackend:
        """The network of a .safetensors file; on the CUDA device where there is one. `threads` is PyTorch's, process-wide."""
        torch.set_num_threads(threads)
        model, card = checkpoint.load(path)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), card)

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        with torch.inference_mode():
            logits = self._model(torch.from_numpy(np.array(images, order="C")).to(self._model.mean.device))
        result: Float32Array = logits.float().cpu().numpy()
        return np.ascontiguousarray(result)

    def bandwidth(self) -> float:
        """See `Backend`."""
        on_card = self._model.mean.device.type == "cuda"
        return bandwidth_of_card() if on_card else machine.bandwidth(self.threads)

    def peak(self) -> float:
        """See `Backend`."""
        factor = torch.ones(SIDE, SIDE, device=self._model.mean.device)

        def multiply() -> float:
            return (factor @ factor)[0, 0].item()  # which waits for a CUDA device

        return rate(multiply)


def bandwidth_of_card() -> float:
    """Bytes a second that copying a large tensor on the current CUDA device reads and writes."""
    source = torch.ones(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return 2 * source.numel() / machine.fastest(copy, 5)
