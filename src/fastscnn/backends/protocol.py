"""The interface of a backend, and the names of backends, precisions and devices."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.card import Card

BACKENDS = ("onnx", "openvino", "torch", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
DEVICES = ("cpu", "cuda", "tensorrt", "coreml", "directml", "openvino-gpu")
MAX_THREADS = 1024  # also the limit of streams
MAX_STREAMS = 4  # concurrent frames that commands use at most; each holds the network's buffers


class Backend(Protocol):
    """A loaded network.

    Attributes:
        card: card of its weights.
        name: one of `BACKENDS`.
        precision: precision of the arithmetic, one of `PRECISIONS`.
        device: where the network runs, one of `DEVICES`.
        threads: number of CPU threads.
        streams: number of calls that can run concurrently, each from its own thread.
        notes: messages for the user about the device: what does not run on it, and that its accuracy is not measured.
    """

    card: Card
    name: str
    precision: str
    device: str
    threads: int
    streams: int
    notes: tuple[str, ...]

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

    def hardware(self) -> str:
        """Return the name of the processor or GPU that runs the network."""
        ...

    def matmul_peak(self) -> float | None:
        """Measure the compute limit: operations per second of a large matrix product in this backend and precision.

        A multiplication and an addition count as two. Memory does not limit such a product. None if the backend cannot keep
        the matrices on its device.
        """
        ...

    def bandwidth(self) -> float | None:
        """Measure the memory bandwidth: bytes per second read and written by copying a large array. None: as `matmul_peak`."""
        ...


@runtime_checkable
class LabelBackend(Protocol):
    """A backend that computes full-size labels on its device, so that only one byte per pixel is downloaded."""

    def labels(self, image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
        """Return the labels uint8 [H, W] of one image uint8 [h, w, channels], equal to `upsample.labels` of its logits."""
        ...


def unmeasured(device: str) -> str:
    """Return the note of a device for which the model card has no accuracy loss."""
    return f"The accuracy on {device} has not been measured: the losses in the model card are those of CPUs."
