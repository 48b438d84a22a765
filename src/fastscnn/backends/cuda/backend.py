"""An NVIDIA card as a backend: frame on the host in, labels on the host out, everything between on the card.

What a size needs is made once (`_Plan`): buffers, and the network with what follows it as one CUDA graph. A frame goes
through three streams, for upload, computing and download, so that the transfers of one frame hide behind the computing
of another; what it needs for that (`_Slot`) is borrowed, so that several threads may call at a time.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.backends.cuda import labels_torch
from fastscnn.backends.cuda.labels_torch import Axis
from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.backends.torch import bandwidth_of_card
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.fuse import FusedNetwork

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_PLANS = 4  # sizes whose graphs are kept
_FLIGHTS = 2  # frames that `labels_many` has on their way
_WARM_UP = 3  # runs before a graph is captured: kernels are compiled and picked in them
_PRODUCTS = 50  # that `peak` waits for at a time
_HEAD = 16  # bytes before the labels: the sum of the logits, and what aligns the labels

Work = Callable[[], None]
Network = Callable[[Tensor, Tensor], Tensor]
Fill = Callable[[Tensor, Axis, Axis, Tensor], None]
Size = tuple[int, int]


class CudaBackend:
    """A network on an NVIDIA card; see `Backend`. Safe to call from several threads.

    Args:
        model: left as it is.
        card: of its weights.
        precision: a name in `PRECISIONS`. float32 is that, not TF32.
        device: a CUDA device; "cpu" runs the same code without graphs, streams and pinned memory, as the tests do.
        compiled: also let `torch.compile` fuse the network's kernels: tens of seconds for each new size, and by PyTorch's
            own limit for eight sizes at most; later ones run as without it.

    Attributes:
        threads: 1, the host's thread that feeds the card.
        streams: 2, calls that overlap: one computes while the other's frame or result is under way.
        lacks: what it does without, and why; empty where both the graph and the kernel of the labels are in use. The
            kernel is first tried by `labels`, the graph by any call.
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
        self.lacks: list[str] = []
        self._device = torch.device(device)
        self._dtype = PRECISIONS[precision]
        self._folded = FusedNetwork(model, self._dtype).to(self._device)
        self._network: Network = torch.compile(self._folded, dynamic=False) if compiled else self._folded
        self._lanes = _Lanes(self._device)
        self._graphs = self._lanes.on_card
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None
        self._fill = self._find_kernel()
        self._plans: OrderedDict[tuple[tuple[int, ...], Size | None], _Plan] = OrderedDict()
        self._lock = Lock()  # one thread at a time makes plans and hands work to the streams
        if not self._graphs:
            self.lacks.append(f"CUDA graphs: the device is {self._device.type}")

    @staticmethod
    def available() -> bool:
        """Whether this machine has a card that this PyTorch can use."""
        return torch.cuda.is_available() and torch.version.cuda is not None  # an AMD card answers the first, too

    @classmethod
    def load(cls, path: Path, precision: str = "auto", compiled: bool = False) -> CudaBackend:
        """The network of a .safetensors file, on the current CUDA device; "auto" takes float16 where the card of the
        weights says that it costs no accuracy, else float32.

        Raises:
            FastSCNNError: no card, one that lacks the precision or the memory, or what is wrong with the file.
        """
        if precision not in (*PRECISIONS, "auto"):
            raise unknown("precision of the backend cuda", precision, PRECISIONS)
        if not cls.available():
            missing = f"PyTorch {torch.__version__} finds no card or no driver that it can use"
            if torch.version.cuda is None:
                missing = f"PyTorch {torch.__version__} is built without CUDA; install a build with it"
            message = f"{path}: the backend cuda needs an NVIDIA card, and {missing}. The backend torch runs this file on " \
                      "the CPU, and onnx and openvino run faster what `fastscnn export` makes of it."
            raise FastSCNNError(message)
        if precision == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
            raise FastSCNNError(f"{torch.cuda.get_device_name()} does not compute in bfloat16; take float16.")
        model, card = checkpoint.load(path)
        if precision == "auto":
            precision = "float16" if card.keeps_accuracy(cls.name, "float16") else "float32"
        try:
            return cls(model, card, precision, f"cuda:{torch.cuda.current_device()}", compiled)
        except torch.OutOfMemoryError as error:
            raise FastSCNNError(f"{path}: the card has too little free memory for the network.") from error

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        logits: Float32Array = self._send(images, None).land()
        return logits

    def bandwidth(self) -> float:
        """See `Backend`."""
        return bandwidth_of_card() if self._lanes.on_card else machine.bandwidth(self.threads)

    def peak(self) -> float:
        """See `Backend`. Many products are waited for at a time: one is over before the host has asked for it."""
        products = _PRODUCTS if self._lanes.on_card else 1
        with torch.inference_mode():
            factor = torch.ones(SIDE, SIDE, dtype=self._dtype, device=self._device)
            result = torch.empty_like(factor)

            def multiply() -> object:
                for _ in range(products):
                    torch.mm(factor, factor, out=result)
                return result[0, 0].item()  # which waits for the card

            return products * rate(multiply)

    def labels(self, image: UInt8Array, size: Size) -> UInt8Array:
        """Class of every pixel, as `upsample.labels` gives them of the logits in this precision.

        Args:
            image: uint8 [h, w, channels] at the size of the network's input, at least 32 a side.
            size: (height, width) of the labels, any.

        Returns:
            uint8 [height, width].

        Raises:
            FastSCNNError: an image or size of another kind, too little memory, or NaN or infinity among the logits.
        """
        return self._labels(self._send_image(image, size), size)

    def labels_many(self, images: Iterable[UInt8Array], size: Size) -> Iterator[UInt8Array]:
        """`labels` of each image, in order; the upload, computing and download of two neighbours overlap.

        Labels come when the image after the next is drawn, or when there is none. The images may differ in size.

        Raises:
            What `images` or `labels` raise, after the labels of all images before.
        """
        flights: deque[_Flight] = deque()
        source = iter(images)
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    image = next(source, None)
                except Exception as error:  # whatever it is, it is raised in its place among the results
                    failure = error
                    break
                if image is None:
                    break
                if len(flights) == _FLIGHTS:
                    yield self._labels(flights.popleft(), size)
                try:
                    flights.append(self._send_image(image, size))
                except Exception as error:
                    failure = error
            while flights:
                yield self._labels(flights.popleft(), size)
            if failure is not None:
                raise failure
        finally:  # where the caller, or an error, stops in the middle
            for flight in flights:
                flight.land()

    def _send_image(self, image: UInt8Array, size: Size) -> _Flight:
        channels = self.card.channels
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels or min(image.shape[:2]) < MIN_SIDE:
            message = f"An image is uint8 [height, width, {channels}] of at least {MIN_SIDE} pixels a side, " \
                      f"not {image.dtype} {list(image.shape)}."
            raise FastSCNNError(message)
        if len(size) != 2 or min(size) < 1:
            raise FastSCNNError(f"The size of the labels is (height, width), each at least 1, not {tuple(size)}.")
        return self._send(image[None], size)

    def _labels(self, flight: _Flight, size: Size) -> UInt8Array:
        """Waits for labels of that size."""
        landed: UInt8Array = flight.land()
        if not math.isfinite(landed[:4].view(np.float32)[0]):
            also = ", or they are too large for float16; take bfloat16" if self.precision == "float16" else ""
            raise FastSCNNError(f"The logits hold NaN or infinity: the weights are broken, and no label would be right{also}.")
        return landed[_HEAD:].reshape(size)

    def _send(self, images: UInt8Array, size: Size | None) -> _Flight:
        """Starts the way of some images to labels of that size, or to logits, and does not wait for its end."""
        try:
            with self._lock, torch.inference_mode():
                plan = self._plan(images.shape, size)
                slot = plan.spare.pop() if plan.spare else self._slot(plan)
            np.copyto(slot.images, images)  # outside the lock: other threads may go on
            with self._lock, torch.inference_mode():
                done = self._lanes.send(
                    lambda: slot.card_in.copy_(slot.host_in, non_blocking=True),
                    lambda: (plan.source.copy_(slot.card_in), plan.run(), slot.card_out.copy_(plan.target)),
                    lambda: slot.host_out.copy_(slot.card_out, non_blocking=True),
                )
        except torch.OutOfMemoryError as error:
            message = f"The card has too little free memory for {list(images.shape)}; give a smaller --size."
            raise FastSCNNError(message) from error
        return _Flight(plan, slot, done)

    def _plan(self, shape: tuple[int, ...], size: Size | None) -> _Plan:
        """The plan for images of that shape; the one that was not used for longest gives way to a new one."""
        key = (shape, size)
        if key not in self._plans:
            while len(self._plans) >= _PLANS:
                self._plans.popitem(last=False)  # a frame that is under way holds its plan itself
            with self._lanes.computing():  # what makes its buffers, too, is in order with what uses them
                self._plans[key] = self._made(shape, size)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _made(self, shape: tuple[int, ...], size: Size | None) -> _Plan:
        source = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        averages = self._folded.averages(*shape[1:3])
        classes, inputs = len(self.card.label_set), (-(-shape[1] // 8), -(-shape[2] // 8))
        if size is None:
            target = torch.zeros((shape[0], classes, *inputs), device=self._device)

            def work() -> None:
                with settings():
                    target.copy_(self._network(source, averages))
        else:
            rows, columns = (labels_torch.axis(*ends, self._device) for ends in zip(inputs, size, strict=True))
            target = torch.zeros(_HEAD + size[0] * size[1], dtype=torch.uint8, device=self._device)
            total, labels = target[:4].view(torch.float32), target[_HEAD:].view(size)
            self._try_kernel(torch.zeros((classes, *inputs), dtype=self._dtype, device=self._device), rows, columns, labels)

            def work() -> None:
                with settings():
                    logits = self._network(source, averages)[0].contiguous()  # each class by itself: neighbours share sectors
                # Where a logit is NaN or infinite, so is their sum: one small kernel, and one number to look at.
                total.copy_(logits.sum(dtype=torch.float32))
                self._fill(logits, rows, columns, labels)

        return _Plan(source, target, self._captured(work), work, [])

    def _captured(self, work: Work) -> Work:
        """The work as a CUDA graph, which one call starts; where that cannot be, the work itself."""
        if not self._graphs:
            return work
        for _ in range(_WARM_UP):
            work()
        graph = torch.cuda.CUDAGraph()
        try:
            # One pool for all graphs: they run one after another in one stream and leave nothing in it. Other threads
            # may use the card for other things meanwhile.
            with torch.cuda.graph(graph, self._pool, torch.cuda.current_stream(), capture_error_mode="thread_local"):
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._graphs = False
            self.lacks.append(f"CUDA graphs: {_first_line(error)}")
            return work
        return graph.replay

    def _slot(self, plan: _Plan) -> _Slot:
        with self._lanes.computing():
            ends = [torch.empty(x.shape, dtype=x.dtype, pin_memory=self._lanes.on_card) for x in (plan.source, plan.target)]
            slot = _Slot(ends[0], torch.empty_like(plan.source), torch.empty_like(plan.target), ends[1], ends[0].numpy())
        # The memory may have been another's, whose work is not done yet; the stream for uploads does not wait for it.
        self._lanes.wait()
        return slot

    def _find_kernel(self) -> Fill:
        if not self._lanes.on_card:
            return self._without_kernel(f"the device is {self._device.type}")
        try:
            from fastscnn.backends.cuda import labels_triton
        except ImportError as error:
            return self._without_kernel(_first_line(error))
        return labels_triton.fill

    def _try_kernel(self, logits: Tensor, rows: Axis, columns: Axis, labels: Tensor) -> None:
        """Runs the kernel once, which compiles it; Triton needs a C compiler for that, which not every machine has."""
        try:
            self._fill(logits, rows, columns, labels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's errors share no public base class
            if self._fill is labels_torch.fill:
                raise
            self._fill = self._without_kernel(_first_line(error))

    def _without_kernel(self, reason: str) -> Fill:
        self.lacks.append(f"the Triton kernel of the labels: {reason}")
        return labels_torch.fill


class _Plan(NamedTuple):
    """What images of one shape need on the card; used in the computing stream alone."""

    source: Tensor  # uint8 [N, H, W, channels]
    target: Tensor  # logits float32 [N, C, h, w]; or uint8, `_HEAD` bytes and the labels
    run: Work  # reads `source` and writes `target`
    work: Work  # what a graph in `run` was captured of: it holds the tensors that the graph reads
    spare: list[_Slot]  # that no frame uses at present


class _Slot(NamedTuple):
    """What a frame under way needs for itself, so that the next may follow on its heels."""

    host_in: Tensor
    card_in: Tensor
    card_out: Tensor
    host_out: Tensor
    images: UInt8Array  # `host_in` for NumPy


class _Flight(NamedTuple):
    """Images under way."""

    plan: _Plan
    slot: _Slot
    done: torch.cuda.Event | None

    def land(self) -> npt.NDArray[Any]:
        """Waits, and gives a copy of what came back."""
        if self.done is not None:
            self.done.synchronize()
        result = self.slot.host_out.numpy().copy()
        self.plan.spare.append(self.slot)
        return result


class _Lanes:
    """Three streams of a card: upload, computing, download. On a CPU, one thing after the other."""

    def __init__(self, device: torch.device) -> None:
        self.on_card = device.type == "cuda"
        self._streams: list[torch.cuda.Stream] = []
        if self.on_card:
            self._streams = [torch.cuda.Stream(device) for _ in range(3)]  # type: ignore[no-untyped-call]
            torch.cuda.synchronize(device)  # the weights came through another stream

    def computing(self) -> AbstractContextManager[object]:
        """Inside, the card's work goes to the computing stream."""
        return torch.cuda.stream(self._streams[1]) if self.on_card else nullcontext()

    def wait(self) -> None:
        """Until the computing stream has done all that it was given."""
        if self.on_card:
            self._streams[1].synchronize()

    def send(self, *steps: Callable[[], object]) -> torch.cuda.Event | None:
        """Hands one step to each stream, each to begin when the one before is done; gives the end of the last."""
        if not self.on_card:
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


@contextmanager
def settings() -> Iterator[None]:
    """Inside, cuDNN takes the fastest of its kernels, which it finds at their first use, and float32 is not TF32."""
    cudnn: Any = torch.backends.cudnn
    # PyTorch 2.9 brought a second switch for TF32, and is at odds with itself where both are used.
    tf32, name, off = (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    before = cudnn.benchmark, getattr(tf32, name)
    cudnn.benchmark = True
    setattr(tf32, name, off)
    try:
        yield
    finally:
        cudnn.benchmark = before[0]
        setattr(tf32, name, before[1])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
