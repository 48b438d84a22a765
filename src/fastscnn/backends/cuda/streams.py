"""CUDA streams and buffers: upload, compute and download of consecutive frames overlap.

On the CPU, where the tests run the same code, the steps run one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.base.types import UInt8Array

Work = Callable[[], None]


class Plan(NamedTuple):
    """Everything on the device for images of one shape; used in the compute stream only."""

    source: Tensor  # uint8 [N, H, W, channels]
    target: Tensor  # float32 logits [N, C, h, w]; or uint8: a header, then the labels
    run: Work  # reads `source` and writes `target`
    work: Work  # the work that a CUDA graph in `run` captured; it keeps the tensors of the graph alive
    free: list[Buffers]  # buffers that no frame uses at present


class Buffers(NamedTuple):
    """The buffers of one frame in progress, so that the next frame can start before it is done."""

    host_in: Tensor
    device_in: Tensor
    device_out: Tensor
    host_out: Tensor
    images: UInt8Array  # NumPy view of `host_in`


class Pending(NamedTuple):
    """Images in progress on the device."""

    plan: Plan
    buffers: Buffers
    done: torch.cuda.Event | None

    def result(self) -> npt.NDArray[Any]:
        """Wait for the result, release the buffers and return a copy of it."""
        if self.done is not None:
            self.done.synchronize()
        result = self.buffers.host_out.numpy().copy()
        self.plan.free.append(self.buffers)
        return result


class Streams:
    """Three streams of a CUDA device: upload, compute and download.

    Args:
        device: a CUDA device, or the CPU.

    Attributes:
        on_cuda: whether the device is a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self._streams: list[torch.cuda.Stream] = []
        if self.on_cuda:
            self._streams = [torch.cuda.Stream(device) for _ in range(3)]  # type: ignore[no-untyped-call]
            torch.cuda.synchronize(device)  # the weights were copied in another stream

    def computing(self) -> AbstractContextManager[object]:
        """Return a context in which work on the device goes to the compute stream."""
        return torch.cuda.stream(self._streams[1]) if self.on_cuda else nullcontext()

    def wait(self) -> None:
        """Wait until the compute stream is idle."""
        if self.on_cuda:
            self._streams[1].synchronize()

    def send(self, *steps: Callable[[], object]) -> torch.cuda.Event | None:
        """Queue one step in each stream, each after the one before it; return the event at the end of the last."""
        if not self.on_cuda:
            for step in steps:
                step()
            return None
        done: torch.cuda.Event | None = None
        for stream, step in zip(self._streams, steps, strict=True):
            if done is not None:
                stream.wait_event(done)
            with torch.cuda.stream(stream):
                step()
            done = stream.record_event()
        return done

    def buffers(self, plan: Plan) -> Buffers:
        """Allocate the buffers of one more frame."""
        with self.computing():
            ends = [torch.empty(x.shape, dtype=x.dtype, pin_memory=self.on_cuda) for x in (plan.source, plan.target)]
            made = Buffers(ends[0], torch.empty_like(plan.source), torch.empty_like(plan.target), ends[1], ends[0].numpy())
        # The memory may come from a tensor that queued work still uses, and the upload stream does not wait for that work.
        self.wait()
        return made


@contextmanager
def settings() -> Iterator[None]:
    """Within the context, cuDNN benchmarks its kernels and takes the fastest; float32 is not TF32."""
    cudnn: Any = torch.backends.cudnn
    # PyTorch 2.9 added a second switch for TF32 and raises errors where both are used.
    tf32, name, off = (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    before = cudnn.benchmark, getattr(tf32, name)
    cudnn.benchmark = True
    setattr(tf32, name, off)
    try:
        yield
    finally:
        cudnn.benchmark = before[0]
        setattr(tf32, name, before[1])
