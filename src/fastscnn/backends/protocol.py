"""The interface of a backend, and the names of backends and precisions."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.card import Card

BACKENDS = ("onnx", "openvino", "torch", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
MAX_THREADS = 1024  # also the limit of streams
MAX_STREAMS = 4  # concurrent frames that commands use at most; each holds the network's buffers


class Backend(Protocol):
    """A loaded network.

    Attributes:
        card: card of its weights.
        name: one of `BACKENDS`.
        precision: precision of the arithmetic, one of `PRECISIONS`.
        threads: number of CPU threads.
        streams: number of calls that can run concurrently, each from its own thread.
    """

    card: Card
    name: str
    precision: str
    threads: int
    streams: int

    def __call__(self, images: UInt8Array) -> Float32Array:
        """Return class logits.

        Args:
            images: uint8 [N, H, W, channels]; H and W at least 32.

        Returns:
            float32 [N, classes, H/8, W/8], rounded up.

        Raises:
            FastSCNNError: the backend cannot run images of this shape.
        """
        ...

    def device(self) -> str:
        """Return the name of the processor or GPU that runs the network."""
        ...

    def matmul_peak(self) -> float:
        """Measure the compute limit: operations per second of a large matrix product in this backend and precision.

        A multiplication and an addition count as two. Memory does not limit such a product.
        """
        ...

    def bandwidth(self) -> float:
        """Measure the memory bandwidth: bytes per second read and written by copying a large array."""
        ...


@runtime_checkable
class LabelBackend(Protocol):
    """A backend that computes full-size labels on its device, so that only one byte per pixel is downloaded."""

    def labels(self, image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
        """Return the labels uint8 [H, W] of one image uint8 [h, w, channels], equal to `upsample.labels` of its logits."""
        ...
