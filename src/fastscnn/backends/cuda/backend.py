"""The CUDA backend: image on the host in, labels on the host out, everything between on the GPU.

For each size, a `Plan` is built once: buffers, and the network with its post-processing as one CUDA graph. Upload, compute
and download run in three streams, so that the transfers of one frame overlap with the computation of another. Each frame
in progress has its own `Buffers`, so several threads can call at the same time.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from fastscnn.backends.cuda import labels_torch
from fastscnn.backends.cuda.labels_torch import Axis
from fastscnn.backends.cuda.streams import Pending, Plan, Streams, Work, settings
from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.backends.protocol import unmeasured
from fastscnn.backends.torch import device_bandwidth
from fastscnn.base import machine
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model import architecture
from fastscnn.model.architecture import MIN_SIDE, OUTPUT_STRIDE
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.fuse import FusedNetwork

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_PLANS = 4  # sizes whose plans are kept
_IN_PROGRESS = 2  # frames that `labels_many` keeps on the device
_WARM_UP = 3  # runs before a graph is captured: they compile and select the kernels
_PRODUCTS = 50  # matrix products per measurement of `matmul_peak`
_HEADER = 16  # bytes before the labels: the sum of the logits in float32, then padding that aligns the labels

Network = Callable[[Tensor, Tensor], Tensor]
Fill = Callable[[Tensor, Axis, Axis, Tensor], None]
Size = tuple[int, int]


class CudaBackend:
    """A network on an NVIDIA GPU; see `Backend`. Several threads can call it at the same time.

    Args:
        model: the network; it is not changed.
        card: card of its weights.
        precision: a name in `PRECISIONS`; float32 does not use TF32.
        device: a CUDA device; "cpu" runs the same code without graphs, streams and pinned memory, as the tests do.
        compiled: also fuse kernels with `torch.compile`. This takes tens of seconds for each new size; after eight sizes,
            the limit of PyTorch, new ones run without it.

    Attributes:
        threads: 1, the host thread that queues the work.
        streams: 2, calls that overlap: one computes while the other uploads or downloads.
        fallbacks: the features that are not in use (CUDA graphs, the Triton kernel of the labels) and why. The kernel is
            first tried by `labels`, the graph by any call.
    """

    name = "cuda"
    threads = 1
    streams = 2

    def __init__(
        self,
        model: FastSCNN,
        card: Card,
        precision: str = "float16",
        device: str | torch.device = "cuda",
        compiled: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise unknown("precision of the backend cuda", precision, PRECISIONS)
        self.card, self.precision = card, precision
        self.fallbacks: list[str] = []
        self._device = torch.device(device)
        self.device = self._device.type
        measured = self.device == "cpu" or f"{self.name} {precision}" in card.losses
        self.notes: tuple[str, ...] = () if measured else (unmeasured(self.device),)
        self._dtype = PRECISIONS[precision]
        self._fused = FusedNetwork(model, self._dtype).to(self._device)
        self._network: Network = torch.compile(self._fused, dynamic=False) if compiled else self._fused
        self._streams = Streams(self._device)
        self._graphs = self._streams.on_cuda
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None
        self._fill = self._find_kernel()
        self._plans: OrderedDict[tuple[tuple[int, ...], Size | None], Plan] = OrderedDict()
        self._lock = Lock()  # one thread at a time builds plans and queues work in the streams
        if not self._graphs:
            self.fallbacks.append(f"CUDA graphs: the device is {self._device.type}")

    @staticmethod
    def available() -> bool:
        """Return whether this PyTorch can use an NVIDIA GPU of this machine."""
        return torch.cuda.is_available() and torch.version.cuda is not None  # `is_available` is also true for AMD GPUs

    @classmethod
    def load(cls, path: Path, precision: str = "auto", compiled: bool = False) -> CudaBackend:
        """Load a .safetensors file on the current CUDA device.

        Args:
            path: the file.
            precision: a name in `PRECISIONS`; "auto" takes float16 if the card allows its accuracy loss, else float32.
            compiled: see `CudaBackend`.

        Raises:
            FastSCNNError: no GPU, one without the precision or with too little memory, or as `checkpoint.load`.
        """
        if precision not in (*PRECISIONS, "auto"):
            raise unknown("precision of the backend cuda", precision, PRECISIONS)
        if not cls.available():
            missing = f"PyTorch {torch.__version__} finds no GPU or no driver for it"
            if torch.version.cuda is None:
                missing = f"PyTorch {torch.__version__} is built without CUDA; install a build with CUDA"
            message = f"{path}: the backend cuda needs an NVIDIA GPU, and {missing}. On the CPU, use the backend torch, or " \
                      "`fastscnn export` and the faster backends onnx or openvino."
            raise FastSCNNError(message)
        if precision == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
            raise FastSCNNError(f"{torch.cuda.get_device_name()} does not support bfloat16; use float16.")
        model, card = checkpoint.load(path)
        if precision == "auto":
            precision = "float16" if card.keeps_accuracy(cls.name, "float16") else "float32"
        try:
            return cls(model, card, precision, f"cuda:{torch.cuda.current_device()}", compiled)
        except torch.OutOfMemoryError as error:
            raise FastSCNNError(f"{path}: the GPU has too little free memory for the network; free some.") from error

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        logits: Float32Array = self._send(images, None).result()
        return logits

    def hardware(self) -> str:
        """See `Backend`."""
        return torch.cuda.get_device_name(self._device) if self._streams.on_cuda else machine.processor()

    def bandwidth(self) -> float:
        """See `Backend`."""
        return device_bandwidth() if self._streams.on_cuda else machine.bandwidth(self.threads)

    def matmul_peak(self) -> float:
        """See `Backend`. Many products are measured together, because one is over before the host waits for it."""
        products = _PRODUCTS if self._streams.on_cuda else 1
        with torch.inference_mode():
            factor = torch.ones(SIDE, SIDE, dtype=self._dtype, device=self._device)
            result = torch.empty_like(factor)

            def multiply() -> object:
                for _ in range(products):
                    torch.mm(factor, factor, out=result)
                return result[0, 0].item()  # waits for the device

            return products * rate(multiply)

    def labels(self, image: UInt8Array, size: Size) -> UInt8Array:
        """Return the class of every pixel, equal to `upsample.labels` of the logits in this precision.

        Args:
            image: uint8 [h, w, channels] at the size of the network's input; h and w at least 32.
            size: (height, width) of the labels.

        Returns:
            uint8 [height, width].

        Raises:
            FastSCNNError: wrong image or size, too little memory, or NaN or infinity among the logits.
        """
        return self._labels(self._send_image(image, size), size)

    def labels_many(self, images: Iterable[UInt8Array], size: Size) -> Iterator[UInt8Array]:
        """Yield `labels` of each image, in order; upload, compute and download of consecutive images overlap.

        The labels of an image are yielded after two more images were read, or when there are no more. The images may
        differ in size.

        Raises:
            FastSCNNError: as `labels`, after the labels of all images before. Errors of `images` are passed on likewise.
        """
        pending: deque[Pending] = deque()
        source = iter(images)
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    image = next(source, None)
                except Exception as error:  # raised below, after the results before it
                    failure = error
                    break
                if image is None:
                    break
                if len(pending) == _IN_PROGRESS:
                    yield self._labels(pending.popleft(), size)
                try:
                    pending.append(self._send_image(image, size))
                except Exception as error:
                    failure = error
            while pending:
                yield self._labels(pending.popleft(), size)
            if failure is not None:
                raise failure
        finally:  # if the caller or an error stops early
            for one in pending:
                one.result()

    def _send_image(self, image: UInt8Array, size: Size) -> Pending:
        channels = self.card.channels
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels or min(image.shape[:2]) < MIN_SIDE:
            message = f"An image must be uint8 [height, width, {channels}] of at least {MIN_SIDE}x{MIN_SIDE} pixels, " \
                      f"not {image.dtype} {list(image.shape)}."
            raise ArgumentError(message)
        if len(size) != 2 or min(size) < 1:
            raise ArgumentError(f"The size of the labels must be (height, width), each at least 1, not {tuple(size)}.")
        return self._send(image[None], size)

    def _labels(self, pending: Pending, size: Size) -> UInt8Array:
        """Wait for labels of that size."""
        result: UInt8Array = pending.result()
        if not math.isfinite(result[:4].view(np.float32)[0]):
            fix = "use bfloat16 or float32, or other weights" if self.precision == "float16" else "the weights are broken"
            raise FastSCNNError(f"The logits contain NaN or infinity in {self.precision}: {fix}.")
        return result[_HEADER:].reshape(size)

    def _send(self, images: UInt8Array, size: Size | None) -> Pending:
        """Queue images for labels of that size, or for logits if it is None, without waiting for the result."""
        try:
            with self._lock, torch.inference_mode():
                plan = self._plan(images.shape, size)
                buffers = plan.free.pop() if plan.free else self._streams.buffers(plan)
            np.copyto(buffers.images, images)  # outside the lock, so that other threads can continue
            with self._lock, torch.inference_mode():
                done = self._streams.send(
                    lambda: buffers.device_in.copy_(buffers.host_in, non_blocking=True),
                    lambda: (plan.source.copy_(buffers.device_in), plan.run(), buffers.device_out.copy_(plan.target)),
                    lambda: buffers.host_out.copy_(buffers.device_out, non_blocking=True),
                )
        except torch.OutOfMemoryError as error:
            message = f"The GPU has too little free memory for images of shape {list(images.shape)}; use a smaller input size."
            raise FastSCNNError(message) from error
        return Pending(plan, buffers, done)

    def _plan(self, shape: tuple[int, ...], size: Size | None) -> Plan:
        """Return the plan for images of that shape; a new one replaces the least recently used."""
        key = (shape, size)
        if key not in self._plans:
            while len(self._plans) >= _PLANS:
                self._plans.popitem(last=False)  # a frame in progress keeps its plan alive
            with self._streams.computing():  # allocations, too, must be ordered with their use
                self._plans[key] = self._build(shape, size)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _build(self, shape: tuple[int, ...], size: Size | None) -> Plan:
        source = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        pooling = self._fused.pooling_matrix(shape[1], shape[2])
        classes, inputs = len(self.card.label_set), architecture.reduced((shape[1], shape[2]), OUTPUT_STRIDE)
        if size is None:
            target = torch.zeros((shape[0], classes, *inputs), device=self._device)

            def work() -> None:
                with settings():
                    target.copy_(self._network(source, pooling))
        else:
            rows, columns = (labels_torch.axis(*ends, self._device) for ends in zip(inputs, size, strict=True))
            target = torch.zeros(_HEADER + size[0] * size[1], dtype=torch.uint8, device=self._device)
            total, labels = target[:4].view(torch.float32), target[_HEADER:].view(size)
            self._try_kernel(torch.zeros((classes, *inputs), dtype=self._dtype, device=self._device), rows, columns, labels)

            def work() -> None:
                with settings():
                    logits = self._network(source, pooling)[0].contiguous()  # one plane per class, for coalesced reads
                # The sum is NaN or infinite if a logit is: one small kernel, and one number to check on the host.
                total.copy_(logits.sum(dtype=torch.float32))
                self._fill(logits, rows, columns, labels)

        return Plan(source, target, self._captured(work), work, [])

    def _captured(self, work: Work) -> Work:
        """Return the work as a CUDA graph, which starts with one call; if capturing fails, the work itself."""
        if not self._graphs:
            return work
        for _ in range(_WARM_UP):
            work()
        graph = torch.cuda.CUDAGraph()
        try:
            # All graphs share one memory pool: they run one after another in one stream and keep nothing in it.
            # "thread_local" lets other threads use the GPU meanwhile.
            with torch.cuda.graph(graph, self._pool, torch.cuda.current_stream(), capture_error_mode="thread_local"):
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._graphs = False
            self.fallbacks.append(f"CUDA graphs: {_first_line(error)}")
            return work
        return graph.replay

    def _find_kernel(self) -> Fill:
        if not self._streams.on_cuda:
            return self._without_kernel(f"the device is {self._device.type}")
        try:
            from fastscnn.backends.cuda import labels_triton
        except ImportError as error:
            return self._without_kernel(_first_line(error))
        return labels_triton.fill

    def _try_kernel(self, logits: Tensor, rows: Axis, columns: Axis, labels: Tensor) -> None:
        """Run the kernel once to compile it; Triton needs a C compiler for that, which not every machine has."""
        try:
            self._fill(logits, rows, columns, labels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the errors of Triton share no public base class
            if self._fill is labels_torch.fill:
                raise
            self._fill = self._without_kernel(_first_line(error))

    def _without_kernel(self, reason: str) -> Fill:
        self.fallbacks.append(f"the Triton kernel of the labels: {reason}")
        return labels_torch.fill


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
