"""Engines that run the network, and the choice among them."""

from __future__ import annotations

from pathlib import Path

from fastscnn.backends.protocol import Backend, Labeller
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError, unknown

__all__ = ["MAX_STREAMS", "NAMES", "PRECISIONS", "Backend", "Labeller", "load"]

NAMES = ("onnx", "openvino", "torch", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
MAX_STREAMS = 4  # frames worked on at a time, where a command chooses: each holds the network's buffers
_MOST_THREADS = 1024
_ENGINES = {".onnx": ("openvino", "onnx"), ".safetensors": ("cuda", "torch")}  # who runs a file; the fastest first


def load(
    path: Path,
    backend: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    streams: int = 1,
    data: bytes | None = None,
) -> Backend:
    """The network of a weight file, ready to run.

    Args:
        path: an .onnx or a .safetensors file that carries a card.
        backend: a name in `NAMES`; "auto" takes the fastest that is installed and, by the card, as good as float32.
        threads: to compute with; None: one for each processor that this process may use.
        precision: a name in `PRECISIONS`; "auto": the fastest that is, by the card, as good as float32.
        streams: how many calls may run at a time, each from a thread of its own; they share `threads`.
        data: content of an .onnx file in memory; `path` then only names it in errors, and need not exist.

    Raises:
        FastSCNNError: unknown backend or precision, one that this file or machine does not have, or what the backend says
            of the file.
    """
    if backend not in (*NAMES, "auto"):
        raise unknown("backend", backend, (*NAMES, "auto"))
    if precision not in (*PRECISIONS, "auto"):
        raise unknown("precision", precision, (*PRECISIONS, "auto"))
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise FastSCNNError(f"threads: must lie between 1 and {_MOST_THREADS}, not {threads}.")
    if data is None and not path.is_file():
        raise FastSCNNError(f"{path}: no such weight file.")
    engines = _ENGINES.get(path.suffix.lower())
    if engines is None:
        raise FastSCNNError(f"{path}: weights are .onnx or .safetensors files; others, pickles among them, are not read.")
    if backend not in ("auto", *engines):
        message = f"{path}: is run by the backends {' and '.join(engines)}, not by {backend}; " \
                  "`fastscnn export` makes .onnx of .safetensors."
        raise FastSCNNError(message)
    count = threads or machine.threads()
    if "onnx" in engines:
        return _of_onnx(path, backend, count, precision, streams, data)
    return _of_safetensors(path, backend, count, precision)


def _of_onnx(path: Path, backend: str, threads: int, precision: str, streams: int, data: bytes | None) -> Backend:
    if backend != "onnx":
        try:
            from fastscnn.backends.openvino import OpenVinoBackend
        except ImportError as error:  # not there, or there and broken
            if backend == "openvino":
                message = f"backend openvino: cannot be loaded ({error}); pip install 'fastscnn[openvino]'."
                raise FastSCNNError(message) from error
        else:
            fast = OpenVinoBackend(path, threads, precision, streams, data)
            if backend == "openvino" or precision != "auto" or fast.card.keeps_accuracy(fast.name, fast.precision):
                return fast
    from fastscnn.backends.onnx import OnnxBackend

    plain = OnnxBackend(path, threads, streams, data)
    if precision not in ("auto", plain.precision):
        other = {
            "bfloat16": "the backend openvino has it, pip install 'fastscnn[openvino]'",
            "float16": "the backend cuda has it",
            "int8": "`fastscnn export --int8` makes such a file",
            "float32": "give the file that it was made of",
        }[precision]
        raise FastSCNNError(f"{path}: ONNX Runtime runs it in {plain.precision}, not in {precision}; {other}.")
    return plain


def _of_safetensors(path: Path, backend: str, threads: int, precision: str) -> Backend:
    try:
        from fastscnn.backends.cuda.backend import CudaBackend
        from fastscnn.backends.torch import TorchBackend
    except ModuleNotFoundError as error:
        message = f"{path}: runs in PyTorch, and {error.name} is not installed; pip install 'fastscnn[train]'."
        raise FastSCNNError(message) from error
    if backend == "cuda" or (backend == "auto" and CudaBackend.available()):
        return CudaBackend.load(path, precision)
    if precision not in ("auto", "float32"):
        raise FastSCNNError(f"{path}: PyTorch runs it in float32 on the CPU, not in {precision}; `fastscnn export` it.")
    return TorchBackend.load(path, threads)
