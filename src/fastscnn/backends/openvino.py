"""OpenVINO on the CPU (extra `openvino`): the fastest backend on processors with bfloat16 arithmetic.

Importing OpenVINO writes an id into the home folder and reports to its maker, through the package openvino_telemetry. Without
that package it uses a stub, so the import does not find it here.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock

import numpy as np

from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model import card, onnx_file

_REPORTS = "openvino_telemetry"
sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - after that line
from openvino import opset13 as opset  # noqa: E402

if sys.modules[_REPORTS] is None:
    del sys.modules[_REPORTS]  # others may import it

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_ZERO_POINT = 128  # of images in int8 files
_SHAPES = 16  # compiled networks that are kept, one per shape; compiling takes up to half a second
_OFTEN = 8  # calls after which a shape gets its own compiled network


class OpenVinoBackend:
    """An ONNX file made by `fastscnn export`, compiled for the shape of the first images.

    Other shapes run in a network with dynamic shapes, up to three times slower, until they are frequent enough to get
    their own. In int8 both give equal logits, in float32 equal ones up to rounding.

    Args:
        path: the file.
        threads: number of CPU threads.
        precision: "float32" or "bfloat16" for a float32 file, else that of the file. "auto" takes bfloat16 for a float32
            file if the processor supports it and the card allows its accuracy loss.
        streams: number of calls that can run concurrently, each from its own thread; they share `threads`.
        data: content of the file, if it is in memory; `path` then only names it in errors.

    Raises:
        FastSCNNError: the file cannot be read or is refused (`onnx_file.load`), OpenVINO cannot run it, or a precision that
            the file or the processor does not support.
    """

    name = "openvino"
    device = "cpu"
    notes: tuple[str, ...] = ()

    def __init__(
        self, path: Path, threads: int, precision: str = "auto", streams: int = 1, data: bytes | None = None
    ) -> None:
        self.threads, self.streams = threads, streams
        data, self.card = onnx_file.load(path, data)
        self._core = core()
        try:
            self._model = read(data)
        except Exception as error:  # most often, but not always, a RuntimeError
            raise card.no_model(path) from error
        card.check_network(path, self.card, *_signature(self._model))
        self.precision = self._precision(path, precision)
        self._compiled: OrderedDict[tuple[int, ...], _Compiled] = OrderedDict()
        self._any_shape: _Compiled | None = None
        self._calls: Counter[tuple[int, ...]] = Counter()
        self._lock = Lock()

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        try:
            # OpenVINO refuses read-only arrays, although it does not write to them.
            return self._network(images.shape)(np.require(images, requirements=["C", "W"]))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            message = f"OpenVINO cannot run images of shape {list(images.shape)} ({reason}); use a smaller input size."
            raise FastSCNNError(message) from error

    def hardware(self) -> str:
        """See `Backend`."""
        return machine.processor()

    def bandwidth(self) -> float:
        """See `Backend`."""
        return machine.bandwidth(self.threads)

    def matmul_peak(self) -> float:
        """See `Backend`."""
        network = self._core.compile_model(_matmul_model(self.precision), "CPU", self._options(streams=1))
        request = network.create_infer_request()
        request.set_input_tensor(openvino.Tensor(np.ones((SIDE, SIDE), np.float32)))
        return rate(request.infer)

    def _precision(self, path: Path, wanted: str) -> str:
        """Return the precision to compute in, and set the hint for OpenVINO."""
        if self.card.precision == "int8":
            # The rest, mostly resizing, is in floating point. In bfloat16 it is no faster, and a network for any shape gives
            # other logits than that of one shape: then labels would depend on the images before.
            self._hint = "f32"
            if wanted not in ("auto", "int8"):
                raise FastSCNNError(f"{path}: is an int8 file; for {wanted}, use the float32 file that it was exported from.")
            return "int8"
        if self.card.precision == "float16":
            self._hint = "f32"  # it computes with the weights as they are
            if wanted not in ("auto", "float16"):
                raise FastSCNNError(f"{path}: is a float16 file; for {wanted}, use the float32 file of the same weights.")
            return "float16"
        native = _computes_in_bfloat16(self._core)
        if wanted == "auto":
            wanted = "bfloat16" if native and self.card.keeps_accuracy(self.name, "bfloat16") else "float32"
        if wanted not in _HINTS:
            fix = {
                "int8": "create an int8 file with `fastscnn export --precision int8`",
                "float16": "create a float16 file with `fastscnn export --precision float16`",
            }[wanted]
            raise FastSCNNError(f"{path}: OpenVINO runs it in float32 or bfloat16, not in {wanted}; {fix}.")
        if wanted == "bfloat16" and not native:
            raise FastSCNNError("precision: this processor does not support bfloat16; use auto or float32.")
        self._hint = _HINTS[wanted]
        return wanted

    def _network(self, shape: tuple[int, ...]) -> _Compiled:
        """Return the compiled network for images of a shape."""
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
    """A compiled network with its idle inference requests; each request has its own buffers."""

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


def read(data: bytes) -> openvino.Model:
    """Return the network of an ONNX file, prepared for OpenVINO. Errors are those of OpenVINO."""
    model = core().read_model(data, b"")
    _read_bytes(model)
    return model


def _read_bytes(model: openvino.Model) -> None:
    """Let the first convolution of an int8 network read the bytes of the image, in place.

    `exporting.stem` subtracts 128 from the image. OpenVINO computes a convolution in int8 if it knows the range of its input,
    which it learns from a FakeQuantize. This one changes no value, since they are integers from -128 to 127. Without it, the
    convolution is in floating point, with a change of layout: 1.1 times the time of the network, 2.3 times without bfloat16.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Subtract" or not _is_the_image(node.input_value(0).get_node()):
            continue
        zero = node.input_value(1).get_node()
        while zero.get_type_name() == "Convert":
            zero = zero.input_value(0).get_node()
        if zero.get_type_name() == "Constant" and np.array_equal(np.unique(zero.get_data()), [_ZERO_POINT]):
            readers = list(node.output(0).get_target_inputs())
            ends = (opset.constant(np.float32(end)) for end in (-128, 127, -128, 127))
            known = opset.fake_quantize(node.output(0), *ends, 256)
            for reader in readers:
                reader.replace_source_output(known.output(0))


def _is_the_image(node: openvino.Node) -> bool:
    """Return whether a value is the uint8 image, converted to float after changes of layout at most."""
    if node.get_type_name() != "Convert":
        return False
    node = node.input_value(0).get_node()
    while node.get_type_name() in ("Transpose", "Reshape", "Pad") and node.get_output_element_type(0) == openvino.Type.u8:
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Parameter" and node.get_output_element_type(0) == openvino.Type.u8)


@cache
def core() -> openvino.Core:
    """Return the core of the process, which is never destroyed.

    On processors with AMX, a core gives the thread that creates it a larger signal stack. Destroying the core frees that
    stack while it is still in use, and the next signal, such as Ctrl-C, crashes the process.
    """
    return openvino.Core()


def _computes_in_bfloat16(core: openvino.Core) -> bool:
    """Return whether the processor has bfloat16 arithmetic; without it, bfloat16 is slower than float32."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _matmul_model(precision: str) -> openvino.Model:
    """A large matrix product; in int8 as in quantised networks, between rounded activations and weights."""
    left = opset.parameter([SIDE, SIDE], openvino.Type.f32)
    right = opset.constant(np.ones((SIDE, SIDE), np.float32))
    if precision != "int8":
        return openvino.Model([opset.matmul(left, right, False, False)], [left])
    rounded = opset.fake_quantize(left, *(opset.constant(np.float32(end)) for end in (0, 255, 0, 255)), 256)
    weights = opset.fake_quantize(right, *(opset.constant(np.float32(end)) for end in (-127, 127, -127, 127)), 255)
    return openvino.Model([opset.matmul(rounded, weights, False, False)], [left])


def _signature(model: openvino.Model) -> tuple[list[str], list[int | None]]:
    """Return the names of the inputs and the number of classes of each output."""
    shapes = [output.get_partial_shape() for output in model.outputs]
    classes = [shape[1].get_length() if len(shape) == 4 and shape[1].is_static else None for shape in shapes]
    return [image.any_name for image in model.inputs], classes
