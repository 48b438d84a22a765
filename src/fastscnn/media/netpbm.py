"""The stored numbers of PGM files, which Pillow stretches to 8 or 16 bits by the largest value in the header (maxval)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastscnn.base.errors import FastSCNNError


def stored(path: str | Path, image: Image.Image) -> npt.NDArray[np.integer[Any]]:
    """Return the numbers of a grey Netpbm file that is open and not decoded yet, [H, W].

    Raises:
        FastSCNNError: a PBM, in which 1 is black: some programs write class 1 as 1 and others as white, which is 0; or a number
            over the file's maxval.
    """
    if image.mode == "1":
        raise FastSCNNError(f"{path}: is a PBM file, in which 1 is black, so that classes 0 and 1 may be swapped; "
                            "save it as a greyscale PNG.")
    decoder, _, offset, arguments = image.tile[0]  # type: ignore[attr-defined]
    if decoder == "raw":  # maxval is 255 or 65535: Pillow stretches nothing
        return np.array(image)
    maxval = int(arguments[-1])
    if decoder == "ppm_plain":
        return np.rint(np.array(image) * (maxval / (65535 if image.mode == "I" else 255))).astype(np.int32)
    kind = np.dtype(np.uint8 if maxval < 256 else ">u2")
    width, height = image.size
    image.fp.seek(offset)  # type: ignore[attr-defined]
    data: bytes = image.fp.read(width * height * kind.itemsize)  # type: ignore[attr-defined]
    values = np.frombuffer(data, kind)
    if values.size < width * height:
        raise FastSCNNError(f"{path}: is truncated or broken (it ends too early); copy it again from its source.")
    if values.max() > maxval:
        raise FastSCNNError(f"{path}: holds the value {values.max()}, but its header says that {maxval} is the largest; "
                            "save it again with a correct header.")
    return values.reshape(height, width).astype(np.uint8 if maxval < 256 else np.int32)
