"""Soft labels: the class probabilities of another network, one .npz file for each image, to be learned by distillation.

A file has the array `probabilities`, uint8 [classes, round(H/8), round(W/8)] for an image of HxW: 255 times the mean
probability of each class in a cell of 8x8 pixels. It may have `classes`, the names, which are then compared with those of the
dataset.toml. `fastscnn soft-labels` writes such files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base import archives
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.model.architecture import OUTPUT_STRIDE
from fastscnn.model.label_set import IGNORE_INDEX

_FULL = 255  # the probability 1
_TOLERANCE = 0.1  # largest difference from 1 of the sum of a cell's probabilities, beside rounding
_MAX_BYTES = IGNORE_INDEX * MAX_PIXELS // OUTPUT_STRIDE**2


@dataclass(frozen=True)
class SoftClasses:
    """What the soft labels of a dataset mean.

    Attributes:
        classes: their classes, in the order of the files.
        train_ids: for each of them, the train id of its class of the dataset; 255 if it is none of them.
        terms: terms of use of the network that made them, for the card; "" if they are those of the dataset.
    """

    classes: tuple[str, ...]
    train_ids: tuple[int, ...]
    terms: str = ""

    def to_classes(self, train_ids: Sequence[int], count: int) -> Float32Array:
        """Return the matrix float32 [soft classes, count] that sums probabilities into trained classes.

        Args:
            train_ids: of each class of the dataset, its trained class; 255 if it is none.
            count: number of trained classes.
        """
        table = np.array([*train_ids, *[IGNORE_INDEX] * (IGNORE_INDEX + 1 - len(train_ids))])
        targets = table[list(self.train_ids)]
        matrix: Float32Array = (targets[:, None] == np.arange(count)).astype(np.float32)
        return matrix

    def read(self, path: Path, size: tuple[int, int]) -> UInt8Array:
        """Read the soft labels of an image.

        Args:
            path: the file.
            size: (height, width) of the image.

        Returns:
            uint8 [classes, round(H/8), round(W/8)], 255 times the probability of each class.

        Raises:
            FastSCNNError: missing, no .npz file of such an array, or soft labels of another size or of other classes.
        """
        arrays = _arrays(path)
        if "probabilities" not in arrays:
            raise FastSCNNError(f"{path}: has no array 'probabilities'; save it under this name, or make the file with "
                                "`fastscnn soft-labels`.")
        probabilities, names = arrays["probabilities"], arrays.get("classes")
        if names is not None and tuple(names.tolist()) != self.classes:
            raise FastSCNNError(f"{path}: holds probabilities of other classes ({_listed(names.tolist())}) than [soft] "
                                f"in dataset.toml ({_listed(self.classes)}); correct classes there, or make the file again.")
        if probabilities.dtype != np.uint8:
            raise FastSCNNError(f"{path}: probabilities have the type {probabilities.dtype}; save 255 times the probability "
                                "as uint8.")
        rows, columns = grid_size(size)
        if probabilities.ndim != 3 or probabilities.shape[0] != len(self.classes):
            raise FastSCNNError(f"{path}: probabilities have the shape {list(probabilities.shape)}, but there are "
                                f"{len(self.classes)} soft classes; name the classes of the file in [soft] of dataset.toml.")
        if probabilities.shape[1:] != (rows, columns):
            raise FastSCNNError(f"{path}: has {hxw(probabilities.shape[1:])} cells, but its image of {hxw(size)} has "
                                f"{rows}x{columns} cells of {OUTPUT_STRIDE} pixels; make the file again from this image.")
        sums = probabilities.sum(axis=0, dtype=np.int64) / _FULL
        if abs(sums - 1).max() > _TOLERANCE + len(self.classes) / (2 * _FULL):
            raise FastSCNNError(f"{path}: the probabilities of a cell add up to {sums.ravel()[abs(sums - 1).argmax()]:.2f} "
                                "in place of 1; make the file again.")
        return np.asarray(probabilities, np.uint8)


def grid_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Return (rows, columns) of the soft labels of an image of (height, width): 1/8, rounded as Python does, half to even."""
    return round(size[0] / OUTPUT_STRIDE), round(size[1] / OUTPUT_STRIDE)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a .npz file that soft labels need. Pickled objects are not read."""
    try:
        with archives.opened(path) as file:
            with zipfile.ZipFile(file) as zipped:
                sizes = {member.filename.removesuffix(".npy"): member.file_size for member in zipped.infolist()}
            if max(sizes.values(), default=0) > _MAX_BYTES:
                raise FastSCNNError(f"{path}: holds {max(sizes.values()) / 1e6:.0f} MB, more than the soft labels of an image "
                                    f"of {MAX_PIXELS // 1_000_000} megapixels; make it again.")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ("probabilities", "classes") if name in arrays}
        if not all(isinstance(array, np.ndarray) for array in found.values()):
            raise ValueError("no array in it")
        if "classes" in found:
            _text(found["classes"])
        return found
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except FastSCNNError:
        raise
    except Exception as error:  # the readers of zip files and arrays raise errors of a dozen kinds on damaged files
        raise FastSCNNError(f"{path}: is no .npz file of numbers, or is truncated ({error}); make it again.") from error


def _text(names: npt.NDArray[Any]) -> None:
    """Raise ValueError if an array is no list of names."""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"classes have the type {names.dtype} and the shape {list(names.shape)}, but are a list of names")
    "".join(names.tolist()).encode()  # a damaged array holds numbers that are no characters


def _listed(names: Sequence[object], most: int = 4) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
