"""Read tensors from checkpoints that are pickles, without running any code in them.

PyTorch checkpoints are read by `torch.load(weights_only=True)` only. Paddle checkpoints are plain pickles of NumPy arrays. A
restricted unpickler reads them: it allows a few names and replaces each by a class of this module, so that a file cannot call
even NumPy's functions. It refuses any other name before creating an object. `pickle_limits` comes first.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn.base.errors import FastSCNNError
from fastscnn.convert import pickle_limits

_ZIP, _LEGACY = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of PyTorch files; the second before 1.6
_LEGACY_PICKLES = 5  # its number, version and system, the object, and the keys of its storages
_SAFE = "2.10"  # first PyTorch with a safe weights_only (CVE-2025-32434, CVE-2026-24747)
_MOST_BYTES = 4 << 30  # of a file: a Fast-SCNN with the state of its optimiser has 20 MB
_NAMES = "StructuredToParameterName@@"  # table of names that paddle.save adds
_BROKEN = (  # what readers of pickles raise on broken ones
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError,
)


def read(path: Path) -> dict[str, Any]:
    """Return the dictionary of a checkpoint, with its arrays as tensors.

    Raises:
        FastSCNNError: missing, truncated, another format, not a dictionary, or the file contains code.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise FastSCNNError(f"{path}: has {size / 1e9:.1f} GB, which is no checkpoint of a Fast-SCNN.")
        data = path.read_bytes()
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if data.startswith(_ZIP):
        content = _torch(path, pickle_limits.checked_archive(path, data))
    elif data.startswith(_LEGACY):
        pickle_limits.check(path, data, _LEGACY_PICKLES)
        content = _torch(path, data)
    elif data.startswith(b"\x80"):
        pickle_limits.check(path, data)
        content = _paddle(path, data)
    else:
        raise FastSCNNError(f"{path}: is not a checkpoint of PyTorch or Paddle.")
    if not isinstance(content, Mapping):
        raise FastSCNNError(f"{path}: contains the type {type(content).__name__}, not a dictionary; save a state dict.")
    return {str(name): value for name, value in content.items()}


class _Ignored:
    """Replacement for the classes of `_LOG`: accepts any arguments and stores nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_LOG = (  # classes of mmengine's training log, and of the arguments of training scripts, stored beside the tensors
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",  # Python 3.13
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",  # its methods, by name
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)


def _torch(path: Path, data: bytes) -> Any:
    if torch.__version__ < _SAFE:
        raise FastSCNNError(f"{path}: is a pickle, which only PyTorch {_SAFE} or newer reads safely; "
                            f"upgrade PyTorch {torch.__version__}.")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_Ignored, name) for name in _LOG]):
            warnings.simplefilter("ignore")  # of protocols that PyTorch may not read; the error below names them
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (*_BROKEN, RuntimeError, struct.error) as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            raise refused(path, found[1]) from error
        reason = str(error)
        if "weights_only" in reason:  # PyTorch advises to load the file unsafely
            reason = "or its pickle_protocol is above 2, which PyTorch cannot read safely: save it with 2, the default"
        raise pickle_limits.broken(path, reason) from error


def refused(path: Path, name: str) -> FastSCNNError:
    """Return the error for a pickle that refers to code."""
    return FastSCNNError(f"{path}: refers to {name}, which is code, not data. The file is refused; no code was run. "
                         "If you trust its source, save the state dict of the network alone.")


class _RefusedError(Exception):
    """A name or a value that the unpickler does not allow."""


class _DType:
    """Replacement for numpy.dtype: stores kind and byte order."""

    def __init__(self, kind: object, *_: object) -> None:
        self.kind, self.order = kind if isinstance(kind, str) else "", "<"  # the text of a value may be endless

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if isinstance(state[1], str) else ""


class _Array:
    """Replacement for numpy.ndarray and its reconstruction: stores shape, dtype and bytes."""

    value: np.ndarray[Any, Any] | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or not re.fullmatch(r"[fiu][1248]|b1", dtype.kind):
            raise _RefusedError(f"an array of {getattr(dtype, 'kind', type(dtype).__name__)!r}")
        if isinstance(content, _Bytes):
            content = content.content
        if not isinstance(content, bytes):
            raise _RefusedError(f"an array of {type(content).__name__}")
        flat = np.frombuffer(content, np.dtype(dtype.kind).newbyteorder(">" if dtype.order == ">" else "<"))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Bytes:
    """Replacement for _codecs.encode, with which protocol 2 stores bytes."""

    def __init__(self, text: str, _: object = "latin1") -> None:
        self.content = text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("bytes with a state")


def _no_bytes() -> bytes:
    """Replacement for bytes, called with no arguments: so protocol 2 stores empty bytes."""
    return b""


_ALLOWED: dict[str, Any] = {
    "__builtin__.bytes": _no_bytes,
    "numpy.ndarray": _Array,
    "numpy.dtype": _DType,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "_codecs.encode": _Bytes,
    "collections.OrderedDict": dict,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for an allowed name; raise _RefusedError for any other."""
        if f"{module}.{name}" not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return _ALLOWED[f"{module}.{name}"]

    def persistent_load(self, _: object) -> Any:
        raise _RefusedError("a persistent object")


def _paddle(path: Path, data: bytes) -> Any:
    try:
        content = _Unpickler(io.BytesIO(data)).load()
    except _RefusedError as error:
        raise refused(path, str(error)) from error
    except _BROKEN as error:
        raise FastSCNNError(f"{path}: is not a checkpoint of arrays or is truncated ({error or 'it ends early'}).") from error
    if not isinstance(content, dict):
        return content
    content.pop(_NAMES, None)
    return {name: _tensor(value) for name, value in content.items()}


def _tensor(value: object) -> Tensor | object:
    """Return the tensor of an array; any other value as it is."""
    if not isinstance(value, _Array) or value.value is None:
        return value
    native = value.value.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(value.value, native, order="C"))
