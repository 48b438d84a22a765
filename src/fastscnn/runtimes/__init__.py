"""Engines that run the network, and the choice among them."""

from __future__ import annotations

import os
from pathlib import Path

from fastscnn.errors import FastSCNNError, unknown
from fastscnn.runtimes.protocol import Runtime

__all__ = ["NAMES", "Runtime", "load"]

NAMES = ("onnx", "torch")
_MOST_THREADS = 1024
_SUFFIXES = {".onnx": "onnx", ".safetensors": "torch"}


def load(path: Path, runtime: str = "auto", threads: int | None = None) -> Runtime:
    """The network of a weight file, ready to run.

    Args:
        path: an .onnx or a .safetensors file that carries a card.
        runtime: a name in `NAMES`, or "auto": the one that runs files of this kind.
        threads: to compute with; None: one for each processor that this process may use.

    Raises:
        FastSCNNError: unknown runtime, a file it does not run, or what the runtime says of the file.
    """
    if runtime not in (*NAMES, "auto"):
        raise unknown("runtime", runtime, (*NAMES, "auto"))
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise FastSCNNError(f"threads: must lie between 1 and {_MOST_THREADS}, not {threads}.")
    if not path.is_file():
        raise FastSCNNError(f"{path}: no such weight file.")
    needed = _SUFFIXES.get(path.suffix.lower())
    if needed is None:
        raise FastSCNNError(f"{path}: weights are .onnx or .safetensors files; others, pickles among them, are not read.")
    if runtime not in ("auto", needed):
        message = f"{path}: is run by the runtime {needed}, not by {runtime}; `fastscnn export` makes .onnx of .safetensors."
        raise FastSCNNError(message)
    count = threads or _processors()
    if needed == "onnx":
        from fastscnn.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, count)
    try:
        from fastscnn.learn.runtime import TorchRuntime
    except ModuleNotFoundError as error:
        message = f"{path}: runs in PyTorch, and {error.name} is not installed; pip install 'fastscnn[train]'."
        raise FastSCNNError(message) from error
    return TorchRuntime.load(path, count)


def _processors() -> int:
    """Processors that this process may use, which in a container are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
