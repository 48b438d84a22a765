"""pickles: tensors out of checkpoint files that are pickles, without running anything that stands in them.

PyTorch's files go through `torch.load(weights_only=True)` and nothing else. Paddle's are plain pickles of NumPy arrays:
they are read by an unpickler that knows a handful of names, and gives for each a stand-in of this module, so that not even
NumPy's own functions are called with what a file says. Any other name is refused before anything is made of it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn.base.errors import FastSCNNError

_ZIP, _LEGACY = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how PyTorch's files start; the second before 1.6
_SAFE = "2.10"  # the first PyTorch whose weights_only has no known hole (CVE-2025-32434, CVE-2026-24747)
_NAMES = "StructuredToParameterName@@"  # the table of names that paddle.save adds


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds: a dictionary whose arrays are tensors.

    Raises:
        FastSCNNError: missing, truncated, of another format, no dictionary, or with anything in it but data.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if start.startswith(_ZIP) or start == _LEGACY:
        content = _torch(path)
    elif start.startswith(b"\x80"):
        content = _paddle(path)
    else:
        raise FastSCNNError(f"{path}: is neither a checkpoint of PyTorch nor one of Paddle.")
    if not isinstance(content, Mapping):
        raise FastSCNNError(f"{path}: holds a {type(content).__name__}, not the tensors of a network by name.")
    return {str(name): value for name, value in content.items()}


class _Forgotten:
    """In place of what the log of a training is made of: takes anything and keeps nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_LOG = (  # of mmengine, beside the tensors
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",  # its methods, by name
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)


def _torch(path: Path) -> Any:
    if torch.__version__ < _SAFE:
        raise FastSCNNError(f"{path}: is a pickle; PyTorch {_SAFE} or newer reads it safely, and {torch.__version__} is here.")
    try:
        with torch.serialization.safe_globals([(_Forgotten, name) for name in _LOG]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            raise refused(path, found[1]) from error
        reason = str(error).splitlines()[0]
        raise FastSCNNError(f"{path}: is no checkpoint of tensors or is truncated ({reason}).") from error


def refused(path: Path, name: str) -> FastSCNNError:
    """The error for a pickle that asks for something that is no data."""
    return FastSCNNError(f"{path}: asks for {name}, which is code and no data; nothing of it was run, and it is not read.")


class _RefusedError(Exception):
    """A name that the unpickler does not give out."""


class _DType:
    """In place of numpy.dtype: takes its kind and byte order down."""

    def __init__(self, kind: object, *_: object) -> None:
        self.kind, self.order = str(kind), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])


class _Array:
    """In place of numpy.ndarray and of what reconstructs it: takes shape, type and bytes down."""

    value: np.ndarray[Any, Any] | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or not re.fullmatch(r"[fiu][1248]|b1", dtype.kind):
            raise _RefusedError(f"an array of {getattr(dtype, 'kind', dtype)!r}")
        if isinstance(content, _Bytes):
            content = content.content
        if not isinstance(content, bytes):
            raise _RefusedError(f"an array of {type(content).__name__}")
        flat = np.frombuffer(content, np.dtype(dtype.kind).newbyteorder(">" if dtype.order == ">" else "<"))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Bytes:
    """In place of _codecs.encode, by which protocol 2 writes bytes."""

    def __init__(self, text: str, _: object = "latin1") -> None:
        self.content = text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("bytes with a state")


_ADMITTED: dict[str, Any] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _DType,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "_codecs.encode": _Bytes,
    "collections.OrderedDict": dict,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of an admitted name. Raises _RefusedError for any other."""
        if f"{module}.{name}" not in _ADMITTED:
            raise _RefusedError(f"{module}.{name}")
        return _ADMITTED[f"{module}.{name}"]

    def persistent_load(self, _: object) -> Any:
        raise _RefusedError("a persistent object")


_BROKEN = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError,
)


def _paddle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
    except _RefusedError as error:
        raise refused(path, str(error)) from error
    except _BROKEN as error:
        raise FastSCNNError(f"{path}: is no checkpoint of arrays or is truncated ({error or 'it ends early'}).") from error
    if not isinstance(content, dict):
        return content
    content.pop(_NAMES, None)
    return {name: _tensor(value) for name, value in content.items()}


def _tensor(value: object) -> Tensor | object:
    """The tensor of an array; anything else as it is."""
    if not isinstance(value, _Array) or value.value is None:
        return value
    native = value.value.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(value.value, native, order="C"))
