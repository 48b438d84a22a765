"""Stored values as whole numbers: some programs write ids as floats, or as integers of 64 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError


def integers(path: str | Path, values: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """Return the values of a file as integers of at most 32 bits.

    Raises:
        FastSCNNError: values of another kind, fractions, or numbers beyond 32 bits.
    """
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 4:
        return values
    if values.dtype.kind not in "uif":
        raise FastSCNNError(f"{path}: holds {values.dtype} values, but ids are whole numbers; save them as integers.")
    wrong = ~np.isfinite(values) | (values != np.rint(values)) | (values <= -(1 << 31)) | (values >= 1 << 31)
    if np.isnan(values).any():
        raise FastSCNNError(f"{path}: holds the value nan (NaN), which is no class id; save an id in its place, such as 255.")
    if wrong.any():
        raise FastSCNNError(f"{path}: holds the value {values[wrong][0]:g}, which is no class id; ids are whole numbers of at "
                            "most 32 bits.")
    return values.astype(np.int32)
