"""PyTorch in float32: runs .safetensors files and is the reference for the other backends."""

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

_COPIED = 1 << 28  # bytes; more than any cache holds
_ROUNDS = 5


class TorchBackend:
    """A network in PyTorch, in float32, on the device of its weights.

    Args:
        model: the network; it is set to evaluation mode.
        card: card of its weights.
    """

    name = "torch"
    precision = "float32"
    streams = 1
    notes: tuple[str, ...] = ()

    def __init__(self, model: FastSCNN, card: Card) -> None:
        self.card, self.threads, self.device = card, torch.get_num_threads(), model.mean.device.type
        self._model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, path: Path, threads: int) -> TorchBackend:
        """Load a .safetensors file, on the CPU; the backend "cuda" runs it on an NVIDIA device.

        Args:
            path: the file.
            threads: number of CPU threads of PyTorch in this process.

        Raises:
            FastSCNNError: as `checkpoint.load`.
        """
        torch.set_num_threads(threads)
        return cls(*checkpoint.load(path))

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        with torch.inference_mode():
            logits = self._model(torch.from_numpy(np.array(images, order="C")).to(self._model.mean.device))
        result: Float32Array = logits.float().cpu().numpy()
        return np.ascontiguousarray(result)

    def hardware(self) -> str:
        """See `Backend`."""
        return torch.cuda.get_device_name(self._model.mean.device) if self.device == "cuda" else machine.processor()

    def bandwidth(self) -> float:
        """See `Backend`."""
        return device_bandwidth() if self.device == "cuda" else machine.bandwidth(self.threads)

    def matmul_peak(self) -> float:
        """See `Backend`."""
        factor = torch.ones(SIDE, SIDE, device=self._model.mean.device)

        def multiply() -> float:
            return (factor @ factor)[0, 0].item()  # waits for a CUDA device

        return rate(multiply)


def device_bandwidth() -> float:
    """Measure the memory bandwidth of the current CUDA device: bytes per second read and written by a copy."""
    source = torch.ones(_COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return 2 * source.numel() / machine.fastest(copy, _ROUNDS)
