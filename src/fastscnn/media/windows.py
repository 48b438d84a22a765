"""Windows: parts of a large image, read without the rest of the file where its format allows.

TIFF and JPEG 2000 store blocks of pixels that can be decoded one by one. rasterio does that (extra `large`); Pillow, which
decodes whole files only, gives the mode, the palette and the orientation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.media import decoding
from fastscnn.media.decoding import Source

_T = TypeVar("_T", bound=np.generic)

_DRIVERS = {"TIFF": "GTiff", "JPEG2000": "JP2OpenJPEG"}  # Pillow's name of a format -> GDAL's
_BANDS = {"1": 1, "L": 1, "P": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4, "RGBX": 4}
_PHOTOMETRIC, _ORIENTATION, _WHITE_IS_ZERO = 262, 274, 0  # tags of TIFF


class SizeMismatchError(FastSCNNError):
    """A file has another size than the image whose window is read.

    Attributes:
        found, wanted: (height, width) of the file, and of the image.
    """

    def __init__(self, path: str, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
        super().__init__(f"{path}: is {hxw(found)} but its image is {hxw(wanted)}; make them the same size.")
        self.found, self.wanted = found, wanted


class Box(NamedTuple):
    """A window of an upright image.

    Attributes:
        left, top, right, bottom: in pixels; the last two are outside.
        size: (height, width) of the whole image. Files of another size are refused.
    """

    left: int
    top: int
    right: int
    bottom: int
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the window in pixels."""
        return self.bottom - self.top, self.right - self.left

    def __str__(self) -> str:
        return f"rows {self.top} to {self.bottom - 1}, columns {self.left} to {self.right - 1}"


def size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) in pixels of a TIFF or JPEG 2000 file, upright and whatever its size; else None.

    Raises:
        FastSCNNError: the file is missing.
    """
    with decoding.header(path) as image:
        return (image.height, image.width) if image is not None and image.format in _DRIVERS else None


def large_size(path: Path) -> tuple[int, int] | None:
    """Return `size` of a file over the limit of files that are decoded as a whole; else None."""
    extent = size(path)
    return extent if extent and extent[0] * extent[1] > MAX_PIXELS else None


def boxes(size: tuple[int, int], window: tuple[int, int]) -> list[Box]:
    """Divide an image into windows of nearly equal size, none larger than `window`; they neither overlap nor leave gaps.

    Args:
        size: (height, width) of the image.
        window: (height, width).

    Examples:
        >>> [box[:4] for box in boxes((100, 250), (100, 100))]
        [(0, 0, 83, 100), (83, 0, 166, 100), (166, 0, 250, 100)]
    """
    rows, columns = (_edges(length, part) for length, part in zip(size, window, strict=True))
    return [
        Box(left, top, right, bottom, size)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def _edges(length: int, part: int) -> list[int]:
    count = -(-length // part)
    return [length * index // count for index in range(count + 1)]


@contextmanager
def opened(
    source: Source, box: Box | None, max_pixels: int = MAX_PIXELS, *, one_page: bool = False
) -> Iterator[tuple[Image.Image, Box | None]]:
    """Open an image like `decoding.opened`, or a window of one, with what is left to cut: None if only the window was read.

    Args:
        source: see `decoding.opened`; of a window, a path.
        box: the window; None for the whole image.
        max_pixels: limit of a file that is decoded as a whole.
        one_page: refuse files of several pages or frames; else the first one is opened.

    Raises:
        FastSCNNError: see `decoding.opened`; also a window of a file that is over the limit and has to be decoded as a whole.
    """
    if box is not None and isinstance(source, Path):
        image = part(source, box, one_page=one_page)
        if image is not None:
            yield image, None
            return
    with decoding.opened(source, max_pixels) as whole:
        if one_page:
            decoding.check_one_page(source, whole)
        yield whole, box


def part(path: Path, box: Box, *, one_page: bool = False) -> Image.Image | None:
    """Return a window as Pillow would return it from the whole image; None if only the whole file can be decoded.

    Raises:
        FastSCNNError: the file is truncated or broken; or has several pages, with `one_page`.
    """
    with decoding.header(path) as image:
        if image is None or (image.format not in _DRIVERS and image.width * image.height <= MAX_PIXELS):
            return None
        _check_size(path, (image.height, image.width), box)
        if one_page:
            decoding.check_one_page(path, image)
        large = f"is {image.height}x{image.width} (HxW), over the limit of {MAX_PIXELS // 1_000_000} megapixels"
        must = image.width * image.height > MAX_PIXELS
        if not _has_windows(image):
            if must:
                raise FastSCNNError(f"{path}: {large} of files that are decoded as a whole; save it as TIFF, upright.")
            return None
        try:
            import rasterio
        except ImportError as error:
            if must:
                raise missing_extra(f"{path}: {large}; reading its windows", "large") from error
            return None
        kind, mode, palette = str(image.format), image.mode, image.getpalette("RGB") if image.mode == "P" else None
    left, top, right, bottom, _ = box
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)  # a photograph has no map coordinates
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"),  # no files beside it
            rasterio.open(path, driver=_DRIVERS[kind]) as file,
        ):
            if file.count != _BANDS[mode]:
                return None
            values = file.read(window=((top, bottom), (left, right)))
    except rasterio.errors.RasterioError as error:
        raise FastSCNNError(f"{path}: is truncated or broken ({error}); copy it again from its source.") from error
    return _image(values, mode, palette)


def cropped(pixels: npt.NDArray[_T], path: Source, box: Box | None) -> npt.NDArray[_T]:
    """Return the pixels [H, W, ...] inside a box; None: all.

    Raises:
        FastSCNNError: the file `path` has another size than the box's image.
    """
    if box is None:
        return pixels
    _check_size(path, pixels.shape[:2], box)
    left, top, right, bottom, _ = box
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _check_size(path: Source, size: tuple[int, ...], box: Box) -> None:
    if size != box.size:
        raise SizeMismatchError(decoding.name(path), size, box.size)


def _has_windows(image: Image.Image) -> bool:
    """Return whether `part` gives the pixels that Pillow gives."""
    tags = getattr(image, "tag_v2", {})
    return (
        image.format in _DRIVERS
        and image.mode in _BANDS
        and tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO  # which Pillow inverts, and GDAL does not
        and tags.get(_ORIENTATION, 1) == 1
    )


def _image(values: npt.NDArray[Any], mode: str, palette: list[int] | None) -> Image.Image:
    """Return the bands [bands, h, w] of a window as an image of Pillow's mode."""
    size = values.shape[2], values.shape[1]
    if mode in ("RGB", "RGBA", "RGBX", "LA", "L") and values.dtype == np.uint16:
        values = values >> 8  # Pillow's mode has the high byte
    if mode == "1":
        return Image.frombytes("L", size, (values * 255).astype(np.uint8).tobytes()).convert("1")
    wanted = {"I;16": "<u2", "I": "<i4", "F": "<f4"}.get(mode, "u1")
    image = Image.frombytes(mode, size, np.moveaxis(values, 0, -1).astype(wanted).tobytes())
    if palette:
        image.putpalette(palette)
    image.format = "TIFF"  # upright
    return image
