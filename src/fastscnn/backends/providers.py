"""Execution providers of ONNX Runtime: what a device needs, and what of a network really runs on it.

ONNX Runtime runs a network on the CPU, without an error, if a provider cannot start. It does the same with single operators
that a provider does not support. Here, the first is an error; the second is an error for convolutions, which are most of the
computation, and a note for other operators.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

from fastscnn.base.errors import FastSCNNError

_RECORD = "session.record_ep_graph_assignment_info"
_LONGEST = 200  # characters of a reason; some are pages of C++ types


@dataclass(frozen=True)
class _Provider:
    """An execution provider.

    Attributes:
        name: in ONNX Runtime.
        package: the package of ONNX Runtime that has it.
        needs: what else it needs on the machine.
        options: its options, which keep the precision of the file: some providers take a lower one by default.
        then: the provider that runs what it does not support, before the CPU.
    """

    name: str
    package: str
    needs: str
    options: Mapping[str, str] = field(default_factory=dict)
    then: str = ""


PROVIDERS: Mapping[str, _Provider] = {
    "cuda": _Provider(
        "CUDAExecutionProvider", "onnxruntime-gpu",
        "an NVIDIA GPU with its driver, CUDA and cuDNN (`pip install 'onnxruntime-gpu[cuda,cudnn]'`)", {"use_tf32": "0"},
    ),
    "tensorrt": _Provider(
        "TensorrtExecutionProvider", "onnxruntime-gpu",
        "an NVIDIA GPU with its driver, CUDA, cuDNN and TensorRT (`pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt`)",
        then="CUDAExecutionProvider",
    ),
    "coreml": _Provider("CoreMLExecutionProvider", "onnxruntime for macOS", "macOS 12 or newer", {"ModelFormat": "MLProgram"}),
    "directml": _Provider("DmlExecutionProvider", "onnxruntime-directml", "Windows and a GPU with DirectX 12"),
    "openvino-gpu": _Provider(
        "OpenVINOExecutionProvider", "onnxruntime-openvino", "an Intel GPU with its OpenCL driver",
        {"device_type": "GPU", "precision": "ACCURACY"},
    ),
}


def request(options: onnxruntime.SessionOptions, device: str) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a session on a device, and let the session record what runs where.

    Args:
        options: of the session; they are changed.
        device: one of `DEVICES`, not "cpu".

    Raises:
        FastSCNNError: the installed ONNX Runtime lacks the provider, or is too old to say what runs where.
    """
    wanted, installed = PROVIDERS[device], onnxruntime.get_available_providers()
    if wanted.name not in installed:
        raise FastSCNNError(f"device: {device} needs {wanted.name}, but the installed ONNX Runtime {onnxruntime.__version__} "
                            f"has only {' and '.join(installed)}; install {wanted.package} in its place.")
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        raise FastSCNNError(f"device: {device} needs ONNX Runtime 1.24 or newer, which says what runs on the CPU instead, "
                            f"not {onnxruntime.__version__}; upgrade {wanted.package}.")
    options.add_session_config_entry(_RECORD, "1")
    if "CUDA" in wanted.name + wanted.then:
        with redirect_stdout(io.StringIO()):  # it prints what it does not find; `check_started` says it, too
            onnxruntime.preload_dlls()  # of CUDA and cuDNN from pip; the system's are found without it
    others = [(wanted.then, dict(PROVIDERS["cuda"].options))] if wanted.then in installed else []
    return [(wanted.name, dict(wanted.options)), *others]


def check_started(session: onnxruntime.InferenceSession, device: str) -> None:
    """Raise FastSCNNError if ONNX Runtime could not start the provider, and took the CPU in its place."""
    wanted = PROVIDERS[device]
    if wanted.name not in session.get_providers():
        raise FastSCNNError(f"device: ONNX Runtime could not start {wanted.name} for {device}, which needs {wanted.needs}; "
                            "see its message above, or omit the device to run on the CPU.")


def elsewhere(session: onnxruntime.InferenceSession, path: Path, device: str) -> tuple[str, ...]:
    """Return a note for each provider that runs operators in place of the device's.

    Args:
        session: of the network, with the options and providers of `request`.
        path: the weight file, for errors.
        device: its device.

    Raises:
        FastSCNNError: a convolution runs elsewhere.
    """
    operators: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for part in session.get_provider_graph_assignment_info():
        operators[part.ep_name].update(node.op_type for node in part.get_nodes())
    total = sum(count.total() for count in operators.values())
    operators.pop(PROVIDERS[device].name, None)
    for name, counts in operators.items():
        if lost := sum(count for operator, count in counts.items() if "Conv" in operator):
            raise FastSCNNError(f"{path}: {PROVIDERS[device].name} leaves {lost} of its convolutions to {name}; for {device}, "
                                "use a float32 file, or omit the device to run on the CPU.")
    return tuple(f"{path}: {counts.total()} of {total} operators run in {name}, not on {device}: {', '.join(sorted(counts))}."
                 for name, counts in operators.items())


def failed(path: Path, device: str, error: Exception) -> FastSCNNError:
    """Return the error for a provider that started and cannot run the network."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1][:_LONGEST] if lines else type(error).__name__
    return FastSCNNError(f"{path}: {PROVIDERS[device].name} cannot run it ({reason}); for {device}, use a float32 file, or "
                         "omit the device to run on the CPU.")
