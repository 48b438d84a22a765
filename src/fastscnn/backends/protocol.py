"""Backend: what an engine that runs the network looks like to the rest of the package."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.card import Card


class Backend(Protocol):
    """A network ready to run.

    Attributes:
        card: what its weights say of themselves.
        name: of the engine, as `--backend` spells it.
        precision: of the arithmetic, "float32" for example.
        threads: that it computes with.
        streams: calls that may run at a time, each from a thread of its own.
    """

    card: Card
    name: str
    precision: str
    threads: int
    streams: int

    def __call__(self, images: UInt8Array) -> Float32Array:
        """Logits at 1/8 (rounded up) of images uint8 [N, H, W, channels], H and W at least 32: [N, C, H/8, W/8]."""
        ...

    def peak(self) -> float:
        """Operations a second of a large matrix product on this engine, in this precision, with these threads.

        A multiplication and an addition are two. It is what the processor can do where nothing waits for memory.
        """
        ...

    def bandwidth(self) -> float:
        """Bytes a second that copying a large array in the memory that the network works in reads and writes."""
        ...


@runtime_checkable
class Labeller(Protocol):
    """A backend that can make full-size labels where its logits are, so that only bytes leave the device."""

    def labels(self, image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
        """Labels uint8 [H, W] of one image uint8 [h, w, channels], as `upsample.labels` of its logits gives them."""
        ...
