"""Ids in files of arrays: NumPy's .npy and Matlab's .mat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base import archives
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data.formats import matlab, text
from fastscnn.data.formats.matlab import Matrix
from fastscnn.media.integers import integers
from fastscnn.media.windows import Box, cropped

_LISTED = 20  # names in an error
_HDF5 = b"\x89HDF\r\n\x1a\n"


def npy(path: Path, box: Box | None = None) -> npt.NDArray[np.integer[Any]]:
    """Return the whole numbers in a .npy file, [H, W], or those in a box. Pickled objects are not read.

    Raises:
        FastSCNNError: missing, truncated, not two-dimensional, over 40 megapixels without a box, or numbers that are not whole.
    """
    try:
        # Mapped: the header is checked before the data is read. Unlike `np.load`, it reads no .npz file of this name.
        array = np.lib.format.open_memmap(path, mode="r") if archives.member(path) is None else _read_npy(path)
    except FastSCNNError:
        raise
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except Exception as error:  # NumPy parses the header as Python, with errors of half a dozen kinds
        raise FastSCNNError(f"{path}: is no .npy file of numbers, or is truncated ({error}); save it again.") from error
    _check_shape(path, array.shape, limited=box is None)
    return integers(path, np.array(cropped(array, path, box)))


def _read_npy(path: Path) -> npt.NDArray[Any]:
    """Return the array of a .npy file in an archive."""
    with archives.opened(path) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def mat(path: Path, variable: str = "") -> npt.NDArray[np.integer[Any]]:
    """Return the whole numbers in a variable of a .mat file (Matlab 4 to 7.2), [H, W].

    Args:
        path: the file.
        variable: name of the variable, or of a field of a struct, "GTcls.Segmentation"; "" takes the only matrix of the file.

    Raises:
        FastSCNNError: missing, truncated, of Matlab 7.3, no such variable, several matrices, or numbers that are not whole.
    """
    data = text.read_bytes(path)
    if data.startswith(_HDF5) or b"MATLAB 7.3" in data[:128]:
        raise FastSCNNError(f"{path}: is a file of Matlab 7.3; save it with the option -v7.")
    try:
        matrices, fields = matlab.matrices(data)
    except matlab.TooLargeError:
        raise FastSCNNError(f"{path}: its matrices take over 400 MB; save the labels in a file of their own.") from None
    except ValueError as error:
        raise FastSCNNError(f"{path}: is no .mat file, or is truncated ({error}); save it again.") from error
    array = _chosen(path, matrices, fields, variable)
    _check_shape(path, array.shape)
    return integers(path, array)


def _chosen(path: Path, matrices: Mapping[str, Matrix], inner: Mapping[str, Matrix], variable: str) -> Matrix:
    """Return the matrix of a variable; of a struct, only a field that is named."""
    if variable:
        if variable not in (known := {**inner, **matrices}):
            raise FastSCNNError(f"{path}: {unknown('matrix', variable, list(known)[:_LISTED] or ['none'])}")
        return known[variable]
    if len(matrices) == 1:
        return next(iter(matrices.values()))
    if not matrices and not inner:
        raise FastSCNNError(f"{path}: has no matrix of numbers; save the labels as a matrix.")
    what = f"{len(matrices)} matrices" if matrices else "no matrix but in a struct"
    names = sorted(matrices or inner)
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    raise FastSCNNError(f"{path}: has {what} ({listed}); name one with variable in dataset.toml.")


def _check_shape(path: Path, shape: tuple[int, ...], limited: bool = True) -> None:
    if len(shape) != 2 or 0 in shape:
        raise FastSCNNError(f"{path}: has the shape {list(shape)}; labels are [height, width].")
    if limited and shape[0] * shape[1] > MAX_PIXELS:
        raise FastSCNNError(f"{path}: is {hxw(shape)}, over the limit of {MAX_PIXELS // 1_000_000} megapixels.")
