"""Choose the backend that runs a weight file."""

from __future__ import annotations

from pathlib import Path

from fastscnn.backends.protocol import BACKENDS, DEVICES, MAX_THREADS, PRECISIONS, Backend
from fastscnn.base import files, machine
from fastscnn.base.arguments import whole
from fastscnn.base.errors import FastSCNNError, missing_extra, unknown

_BY_SUFFIX = {".onnx": ("openvino", "onnx"), ".safetensors": ("torch", "cuda")}


def load(
    path: str | Path,
    backend: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    streams: int = 1,
    data: bytes | None = None,
    device: str | None = None,
) -> Backend:
    """Load a weight file.

    Args:
        path: an .onnx or .safetensors file with a model card; `~` is expanded.
        backend: a `BackendName`. "auto" takes the fastest installed CPU backend whose accuracy loss, by the card, is at
            most `card.MAX_MIOU_LOSS`; it never takes "cuda": a GPU is used only if it is named.
        threads: number of CPU threads; None: all that this process may use.
        precision: a `PrecisionName`. "auto" takes the fastest by the same rule.
        streams: number of calls that can run concurrently, each from its own thread; they share `threads`.
        data: content of an .onnx file, if it is in memory; `path` then only names it in errors.
        device: a `DeviceName`. None: "cpu", or "cuda" for the backend of that name. Another one than "cpu" is for .onnx files,
            and "auto" then takes the backend "onnx".

    Raises:
        FastSCNNError: the file cannot be loaded, or this file or machine does not support the backend, the precision or the
            device.
        ArgumentError: unknown backend, precision or device; threads or streams out of range.
    """
    if backend not in (*BACKENDS, "auto"):
        raise unknown("backend", backend, (*BACKENDS, "auto"))
    if precision not in (*PRECISIONS, "auto"):
        raise unknown("precision", precision, (*PRECISIONS, "auto"))
    if device not in (*DEVICES, None):
        raise unknown("device", device, DEVICES)
    count = machine.threads() if threads is None else whole("threads", threads, 1, MAX_THREADS)
    streams = whole("streams", streams, 1, MAX_THREADS)
    path = files.expand(path)
    if data is None and not path.is_file():
        raise FastSCNNError(f"{path}: no such weight file.{files.download_hint(path)}")
    backends = _BY_SUFFIX.get(path.suffix.lower())
    if backends is None:
        raise FastSCNNError(f"{path}: weights are .onnx or .safetensors files; others, such as pickles, are not read.")
    if backend not in ("auto", *backends):
        message = f"{path}: runs with the backends {' and '.join(backends)}, not with {backend}; " \
                  "`fastscnn export` converts .safetensors to .onnx."
        raise FastSCNNError(message)
    chosen = _device(path, backend, device, "onnx" in backends)
    if "onnx" in backends:
        return _load_onnx(path, backend, count, precision, streams, data, chosen)
    return _load_safetensors(path, backend, count, precision)


def _device(path: Path, backend: str, device: str | None, onnx: bool) -> str:
    """Return the device. It is the CPU, or the GPU of the backend cuda, unless another one is asked for.

    Raises:
        FastSCNNError: the backend does not run on that device.
    """
    if backend == "onnx" or (backend == "auto" and onnx):
        return device or "cpu"
    only = "cuda" if backend == "cuda" else "cpu"
    if device not in (only, None):
        runs = f"the backend {backend} runs" if backend != "auto" else "a .safetensors file runs"
        fix = "omit the backend" if onnx else "convert the file to .onnx with `fastscnn export`"
        raise FastSCNNError(f"{path}: {runs} on the device {only}, not on {device}; omit the device, or {fix}.")
    return only


def _load_onnx(
    path: Path, backend: str, threads: int, precision: str, streams: int, data: bytes | None, device: str
) -> Backend:
    if backend != "onnx" and device == "cpu":
        try:
            from fastscnn.backends.openvino import OpenVinoBackend
        except ImportError as error:  # missing, or installed and broken
            if backend == "openvino":
                raise missing_extra(f"backend openvino: cannot be imported ({error}). It", "openvino") from error
        else:
            fast = OpenVinoBackend(path, threads, precision, streams, data)
            if backend == "openvino" or precision != "auto" or fast.card.keeps_accuracy(fast.name, fast.precision):
                return fast
    from fastscnn.backends.onnx import OnnxBackend

    plain = OnnxBackend(path, threads, streams, data, device)
    if precision in ("auto", plain.precision):
        return plain
    if precision == "bfloat16":
        raise missing_extra(f"{path}: ONNX Runtime runs it in {plain.precision}; bfloat16", "openvino")
    fix = {
        "float16": "create a float16 file with `fastscnn export --precision float16`",
        "int8": "create an int8 file with `fastscnn export --precision int8`",
        "float32": "use the float32 file that it was exported from",
    }[precision]
    raise FastSCNNError(f"{path}: ONNX Runtime runs it in {plain.precision}, not in {precision}; {fix}.")


def _load_safetensors(path: Path, backend: str, threads: int, precision: str) -> Backend:
    try:
        if backend == "cuda":  # only on request
            from fastscnn.backends.cuda.backend import CudaBackend

            return CudaBackend.load(path, precision)
        from fastscnn.backends.torch import TorchBackend
    except ModuleNotFoundError as error:
        raise missing_extra(f"{path}: {error.name} is missing. Running a .safetensors file", "train") from error
    if precision not in ("auto", "float32"):
        raise FastSCNNError(f"{path}: PyTorch runs it in float32 on the CPU, not in {precision}; "
                            "export it to ONNX with `fastscnn export`.")
    return TorchBackend.load(path, threads)
