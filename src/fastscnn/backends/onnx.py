"""ONNX Runtime: the backend that every installation has. It runs on the CPU, or on the device of another package of it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime

from fastscnn.backends import providers
from fastscnn.backends.matmul_peak import SIDE, rate
from fastscnn.backends.protocol import unmeasured
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model import card, onnx_file

_MAX_CONSTANT = 2**26  # bytes; the largest one of the bundled networks has under 1 MB
_FATAL_ONLY = 4  # log severity: errors are raised, and a line of the log would repeat them


class OnnxBackend:
    """An ONNX file made by `fastscnn export`, in the precision that its card names.

    Args:
        path: the file.
        threads: number of CPU threads.
        streams: number of calls that can run concurrently, each from its own thread; they share `threads`.
        data: content of the file, if it is in memory; `path` then only names it in errors.
        device: one of `DEVICES`. On another one than "cpu", calls run one after another: not all providers are thread-safe.

    Raises:
        FastSCNNError: the file cannot be read or is refused (`onnx_file.load`), ONNX Runtime cannot run it, or the device is
            missing or would leave convolutions to the CPU (`providers`).
    """

    name = "onnx"

    def __init__(
        self, path: Path, threads: int, streams: int = 1, data: bytes | None = None, device: str = "cpu"
    ) -> None:
        self.threads, self.streams, self.device = threads, streams, device
        data, self.card = onnx_file.load(path, data)
        try:
            self._session = session(data, max(1, threads // streams), device)
        except FastSCNNError:
            raise
        except Exception as error:  # the errors of onnxruntime share no public base class
            raise (card.no_model(path) if device == "cpu" else providers.failed(path, device, error)) from error
        self.notes: tuple[str, ...] = ()
        self._turn: AbstractContextManager[object] = nullcontext()
        if device != "cpu":
            self.notes = (*providers.elsewhere(self._session, path, device), unmeasured(device))
            self._turn = Lock()
        self.precision = self.card.precision
        shapes = [output.shape for output in self._session.get_outputs()]
        classes = [shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None for shape in shapes]
        card.check_network(path, self.card, [image.name for image in self._session.get_inputs()], classes)

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Backend`."""
        try:
            with self._turn:
                (logits,) = self._session.run(None, {"images": np.ascontiguousarray(images)})
        except Exception as error:  # most often too little memory
            reason = str(error).splitlines()[0]
            message = f"ONNX Runtime cannot run images of shape {list(images.shape)} ({reason}); use a smaller input size."
            raise FastSCNNError(message) from error
        return np.asarray(logits, np.float32)

    def hardware(self) -> str:
        """See `Backend`. ONNX Runtime does not name a GPU, so this is the device and the processor of its machine."""
        return machine.processor() if self.device == "cpu" else f"{self.device}, {machine.processor()}"

    def bandwidth(self) -> float | None:
        """See `Backend`."""
        return machine.bandwidth(self.threads) if self.device == "cpu" else None

    def matmul_peak(self) -> float | None:
        """See `Backend`."""
        if self.device != "cpu":
            return None
        # uint8 by int8, or float32, in which ONNX Runtime also computes most of a float16 file.
        kind = "int8" if self.precision == "int8" else "float32"
        model = Path(__file__).with_name(f"matmul_peak.{kind}.onnx")
        product = session(model.read_bytes(), self.threads)
        types = (np.uint8, np.int8) if self.precision == "int8" else (np.float32, np.float32)
        factors = {name: np.ones((SIDE, SIDE), type_) for name, type_ in zip(("a", "b"), types, strict=True)}
        return rate(lambda: product.run(None, factors))


def session(data: bytes, threads: int, device: str = "cpu") -> onnxruntime.InferenceSession:
    """Return a session of the content of an ONNX file. Errors are those of ONNX Runtime, and FastSCNNError for a device."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    options.enable_mem_pattern = False  # it keeps a second buffer for each input size, and gains no time
    # The file was checked as ONNX; with certain bytes, ONNX Runtime would read it in its own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Constants above this size are computed when the network runs: a small file must not fill the memory as it is loaded.
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(_MAX_CONSTANT))
    # A file must not make ONNX Runtime open other files (external data), so their folder is one that cannot hold any.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    wanted = ["CPUExecutionProvider"] if device == "cpu" else providers.request(options, device)
    # Without the fallback to the CPU, which begins with a text on stdout.
    made = onnxruntime.InferenceSession(data, options, providers=wanted, enable_fallback=0)
    if device != "cpu":
        providers.check_started(made, device)
    return made
