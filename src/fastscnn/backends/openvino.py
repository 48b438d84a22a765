"""OpenVINO on the CPU, the extra `[openvino]`: the fastest engine on processors that compute in bfloat16."""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock

import numpy as np
import openvino
from openvino import opset13 as opset

from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model import card

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_SHAPES = 16  # networks compiled for one shape that are kept; making one takes up to half a second
_OFTEN = 8  # calls after which a shape is worth a network of its own


class OpenVinoBackend:
    """An ONNX file made by `fastscnn export`, compiled for the first shape of images that it sees.

    Other shapes run in a network for any shape, up to three times slower, until they have come often enough to be worth
    one of their own.

    Args:
        path: the file.
        threads: to compute with.
        precision: "float32" or "bfloat16" for a file in float32; "auto" takes bfloat16 where the processor has it and
            the card says that it costs no accuracy. A file in int8 runs in int8 alone.
        streams: how many calls may run at a time, each from a thread of its own; they share `threads`.
        data: content of the file, if it is in memory; `path` then only names it in errors.

    Raises:
        FastSCNNError: missing, truncated, not ONNX, without a card, or a precision that the file or the processor lacks.
    """

    name = "openvino"

    def __init__(
        self, path: Path, threads: int, precision: str = "auto", streams: int = 1, data: bytes | None = None
    ) -> None:
        self.threads, self.streams = threads, streams
        try:
            data = path.read_bytes() if data is None else data
        except OSError as error:
            raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
        self._core = _core()
        try:
            self._model = self._core.read_model(data, b"")
        except Exception as error:  # RuntimeError with the text of a C++ error most often, but not always
            raise card.no_model(path) from error
        try:
            text = self._model.get_rt_info(["framework", card.KEY]).astype(str)
        except RuntimeError as error:
            raise card.missing(path) from error
        if b"location" in data.replace(text.encode(), b""):  # how ONNX names other files that hold weights: none is used
            raise card.no_model(path)
        self.card = card.Card.from_json(text, path)
        card.check_network(path, self.card, *_signature(self._model))
        self.precision = self._precision(path, precision)
        self._compiled: OrderedDict[tuple[int, ...], _Compiled] = OrderedDict()
        self._any_shape: _Compiled | None = None
        self._calls: Counter[tuple[int, ...]] = Counter()
        self._lock = Lock()

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        try:
            # OpenVINO takes no array that must not be written to, though it does not write.
            return self._network(images.shape)(np.require(images, requirements=["C", "W"]))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise FastSCNNError(f"OpenVINO cannot run {list(images.shape)} ({reason}); give a smaller --size.") from error

    def bandwidth(self) -> float:
        """See `Backend`."""
        return machine.bandwidth(self.threads)

    def peak(self) -> float:
        """See `Backend`."""
        network = self._core.compile_model(_product(self.precision), "CPU", self._options(streams=1))
        request = network.create_infer_request()
        request.set_input_tensor(openvino.Tensor(np.ones((SIDE, SIDE), np.float32)))
        return rate(request.infer)

    def _precision(self, path: Path, wanted: str) -> str:
        """The precision to compute in, from the one that is wanted."""
        native = _computes_in_bfloat16(self._core)
        if self.card.precision == "int8":
            # What int8 leaves in floating point, resizing mostly, takes the faster of the two as well.
            self._hint = "bf16" if native else "f32"
            if wanted not in ("auto", "int8"):
                raise FastSCNNError(f"{path}: is in int8; for {wanted} give the file that it was made of.")
            return "int8"
        if wanted == "auto":
            wanted = "bfloat16" if native and self.card.keeps_accuracy(self.name, "bfloat16") else "float32"
        if wanted not in _HINTS:
            other = {"int8": "`fastscnn export --int8` makes such a file", "float16": "the backend cuda has it"}[wanted]
            raise FastSCNNError(f"{path}: OpenVINO runs it in float32 or bfloat16, not in {wanted}; {other}.")
        if wanted == "bfloat16" and not native:
            raise FastSCNNError("precision: this processor does not compute in bfloat16; leave --precision out, or float32.")
        self._hint = _HINTS[wanted]
        return wanted

    def _network(self, shape: tuple[int, ...]) -> _Compiled:
        """The network to run images of a shape by."""
        with self._lock:
            if shape in self._compiled:
                self._compiled.move_to_end(shape)
                return self._compiled[shape]
            self._calls[shape] += 1
            if self._compiled and self._calls[shape] <= _OFTEN:
                if self._any_shape is None:
                    self._any_shape = self._compile([-1, -1, -1, shape[-1]])
                return self._any_shape
            if len(self._compiled) == _SHAPES:
                self._compiled.popitem(last=False)
            self._compiled[shape] = self._compile(list(shape))
            return self._compiled[shape]

    def _compile(self, shape: list[int]) -> _Compiled:
        self._model.reshape(shape)
        return _Compiled(self._core.compile_model(self._model, "CPU", self._options(self.streams)))

    def _options(self, streams: int) -> dict[str, str | int]:
        return {"INFERENCE_PRECISION_HINT": self._hint, "INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": streams}


class _Compiled:
    """A compiled network with the requests that threads run it by: each holds its own buffers."""

    def __init__(self, network: openvino.CompiledModel) -> None:
        self._network = network
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()

    def __call__(self, images: UInt8Array) -> Float32Array:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._network.create_infer_request()
        request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        request.infer()
        logits = np.array(request.get_output_tensor().data, np.float32)  # a copy: the next call overwrites the buffer
        self._idle.put(request)
        return logits


@cache
def _core() -> openvino.Core:
    """One for the whole process, never destroyed.

    Where the processor has AMX, it gives the thread that makes it a stack for signals, which large registers need. When it
    goes, that stack is freed but stays in use: the next signal, Ctrl-C for one, would crash the process.
    """
    return openvino.Core()


def _computes_in_bfloat16(core: openvino.Core) -> bool:
    """Whether the processor has arithmetic for it; without, bfloat16 would be slower than float32."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _product(precision: str) -> openvino.Model:
    """A large matrix product; int8 as quantised networks have it, between rounded activations and weights."""
    left = opset.parameter([SIDE, SIDE], openvino.Type.f32)
    right = opset.constant(np.ones((SIDE, SIDE), np.float32))
    if precision != "int8":
        return openvino.Model([opset.matmul(left, right, False, False)], [left])
    rounded = opset.fake_quantize(left, *(opset.constant(np.float32(end)) for end in (0, 255, 0, 255)), 256)
    weights = opset.fake_quantize(right, *(opset.constant(np.float32(end)) for end in (-127, 127, -127, 127)), 255)
    return openvino.Model([opset.matmul(rounded, weights, False, False)], [left])


def _signature(model: openvino.Model) -> tuple[list[str], list[int | None]]:
    """Names of the inputs, and how many classes each output has."""
    shapes = [output.get_partial_shape() for output in model.outputs]
    classes = [shape[1].get_length() if len(shape) == 4 and shape[1].is_static else None for shape in shapes]
    return [image.any_name for image in model.inputs], classes
