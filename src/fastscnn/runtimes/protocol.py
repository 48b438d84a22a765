"""Runtime: what an engine that runs the network looks like to the rest of the package."""

from __future__ import annotations

from typing import Protocol

from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.card import Card


class Runtime(Protocol):
    """A network ready to run.

    Attributes:
        card: what its weights say of themselves.
        name: of the engine, as `--runtime` spells it.
        precision: of the arithmetic, "float32" for example.
        threads: that it computes with.
    """

    card: Card
    name: str
    precision: str
    threads: int

    def __call__(self, images: UInt8Array) -> Float32Array:
        """Logits at 1/8 (rounded up) of images uint8 [N, H, W, channels], H and W at least 32: [N, C, H/8, W/8]."""
        ...
