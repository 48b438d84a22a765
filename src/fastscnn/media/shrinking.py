"""Images reduced by averages of their pixels: compiled (shrink.c), if hatch_build.py could compile it, else by Pillow.

The result is exactly that of Pillow's filter BOX, applied to the width and then to the height. Pillow itself chooses the order
by a rule that differs between its versions, and the order changes roundings.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastscnn.base import kernels
from fastscnn.base.types import Int64Array, UInt8Array

LIBRARY = Path(__file__).with_name(f"shrink{kernels.SUFFIX}")
_PRECISION = 22  # bits of a weight, as in Pillow
_MOST = 257  # pixels of a window, whose sum fits in 16 bits


@dataclass(frozen=True)
class Windows:
    """Along one axis, the pixels that each pixel of the result is the mean of.

    Attributes:
        first: of each pixel of the result, the first one.
        count: of each pixel of the result, how many.
    """

    first: Int64Array
    count: Int64Array

    @property
    def weight(self) -> npt.NDArray[np.uint32]:
        """What a sum is multiplied by, in units of 2 to the power of -22."""
        return (1 / self.count * (1 << _PRECISION) + 0.5).astype(np.uint32)


class Kernel:
    """The compiled function. It runs without the GIL.

    Args:
        path: the shared library.

    Raises:
        OSError: it is missing, or this process cannot load it.
        AttributeError: it has the interface of another version.
    """

    def __init__(self, path: Path) -> None:
        self._shrink = ctypes.CDLL(str(path.resolve())).fastscnn_shrink_1
        data, size, windows = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(_WindowsInC)
        self._shrink.argtypes = (data, size, size, windows, windows, data)
        self._shrink.restype = ctypes.c_int

    def __call__(self, image: UInt8Array, rows: Windows, columns: Windows) -> UInt8Array:
        """Return the image reduced. Raises MemoryError if no memory is left for a few rows."""
        image = np.ascontiguousarray(image, np.uint8)
        result = np.empty((len(rows.first), len(columns.first), *image.shape[2:]), np.uint8)
        tables = _WindowsInC(rows), _WindowsInC(columns)
        channels = image.shape[2] if image.ndim == 3 else 1
        if self._shrink(image.ctypes.data, image.shape[1], channels, *tables, result.ctypes.data):
            raise MemoryError("no memory for a few rows of the image")
        return result


class _WindowsInC(ctypes.Structure):
    """struct windows of shrink.c."""

    _fields_ = (
        ("pixels", ctypes.c_int64),
        ("least", ctypes.c_int64),
        ("most", ctypes.c_int64),
        ("first", ctypes.c_void_p),
        ("count", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )

    def __init__(self, windows: Windows) -> None:
        # Held here while C reads them. Their type is forced: C would read an array of another type as garbage.
        self._held = [np.require(windows.first, np.int64, "C"), np.require(windows.count, np.int64, "C"),
                      np.require(windows.weight, np.uint32, "C")]
        ends = int(windows.count.min()), int(windows.count.max())
        super().__init__(len(windows.first), *ends, *(array.ctypes.data for array in self._held))


KERNEL = kernels.load(Kernel, LIBRARY)


def shrink(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Return an image reduced by averages of its pixels.

    Args:
        image: uint8 [H, W] or [H, W, channels].
        size: (height, width) of the result, neither larger than the image's.
    """
    rows, columns = (windows(before, after) for before, after in zip(image.shape[:2], size, strict=True))
    if KERNEL is None or max(rows.count.max(), columns.count.max()) > _MOST:
        return shrink_in_pillow(image, size)
    return KERNEL(image, rows, columns)


def shrink_in_pillow(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Return what `shrink` returns, by Pillow: the oracle of the compiled function."""
    if image.ndim == 3 and image.shape[2] != 3:  # one by one: to Pillow, a fourth channel is transparency
        channels = range(image.shape[2])
        return np.stack([shrink_in_pillow(image[:, :, channel], size) for channel in channels], axis=2)
    narrow = Image.fromarray(image).resize((size[1], image.shape[0]), Image.Resampling.BOX)
    return np.array(narrow.resize(size[::-1], Image.Resampling.BOX), np.uint8)


@lru_cache(64)
def windows(before: int, after: int) -> Windows:
    """Return the windows that reduce `before` pixels to `after`, as Pillow computes them."""
    scale = before / after
    centre = (np.arange(after) + 0.5) * scale
    low = np.maximum((centre - 0.5 * scale + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + 0.5 * scale + 0.5).astype(np.int64), before)
    # Of a window that was rounded outwards, the pixels whose centre is outside do not count.
    low += (low - centre + 0.5) * (1 / scale) <= -0.5
    high -= (high - 1 - centre + 0.5) * (1 / scale) > 0.5
    return Windows(low, high - low)
