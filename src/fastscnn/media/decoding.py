"""Opening images of every accepted kind, with a limit on their size, before a pixel is decoded."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fastscnn.base import files
from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import ArgumentError, FastSCNNError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # JPEG includes MPO, which phones write: its first frame



class _Tiff(TiffImageFile):
    """A TIFF without Pillow's own limit of pixels, which is below that of an image in tiles; `opened` applies ours."""

    def load_prepare(self) -> None:
        if getattr(self, "_im", None) is None:
            self.im = Image.new(self.mode, getattr(self, "_tile_size", self.size)).im
        ImageFile.ImageFile.load_prepare(self)


_FACTORIES = {"JPEG": JpegImageFile, "TIFF": _Tiff}  # JPEG: not MPO's, which reads every frame
Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image


def name(source: object) -> str:
    """Return what errors call an image: its path or file name, else "the image"."""
    return file_name(source) or "the image"


def file_name(source: object) -> str | None:
    """Return the path or file name of an image; None if it has none."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    for attribute in ("filename", "name"):  # of a PIL image, of a file object
        value = getattr(source, attribute, None)
        if isinstance(value, str) and value:
            return value
    return None


@contextmanager
def opened(source: Source, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image and check its size before it is decoded. All errors of opening and decoding become FastSCNNError."""
    own = None if isinstance(source, Image.Image) else _bytes(source)  # a PIL image belongs to the caller: it stays open
    named = name(source)
    try:
        if own is None:
            assert isinstance(source, Image.Image)
            image: Image.Image | None = source
        else:
            image = _header(own)
        if image is None:
            known = ", ".join(sorted(SUFFIXES))
            raise FastSCNNError(f"{named}: is not an image that can be read ({known}), or its header is broken.")
        width, height = image.size
        if width * height > max_pixels:
            fix = "reduce its size first" if max_pixels > MAX_PIXELS else "reduce its size first, or segment it in tiles (tile)"
            raise FastSCNNError(f"{named}: is {height}x{width} (HxW), over the limit of {max_pixels // 1_000_000} megapixels; "
                                f"{fix}.")
        yield image
    except Image.DecompressionBombError as error:
        raise FastSCNNError(f"{named}: is over the limit of its format ({error}); save it as TIFF or PNG.") from error
    # What Pillow's decoders raise on broken data. Its warnings are errors for those who run Python with -W error.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Warning) as error:
        if isinstance(error, FastSCNNError):
            raise
        raise FastSCNNError(f"{named}: is truncated or broken ({error}); copy it again from its source.") from error


def embedded(data: bytes) -> npt.NDArray[Any]:
    """Return an image inside a label file as it is stored, [H, W] or [H, W, channels].

    Palette indices stay indices, except that a palette with transparency becomes RGBA.

    Raises:
        FastSCNNError: not an image, truncated, or over 40 megapixels.
    """
    with opened(data) as image:
        return np.array(image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image)


def _bytes(source: object) -> bytes:
    """Return the content of an image file."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return _file(os.fspath(source))
    read = getattr(source, "read", None)
    if read is None:
        raise ArgumentError(f"An image is a path, bytes, a binary file object or a PIL image, not {type(source).__name__}.")
    try:
        data = read()
    except (OSError, ValueError) as error:  # the second: a closed file
        raise FastSCNNError(f"{name(source)}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not isinstance(data, bytes):
        raise ArgumentError(f'{name(source)}: gives text, not bytes; open it in binary mode, open(path, "rb").')
    return data


def _file(path: str) -> bytes:
    try:
        return files.expand(path).read_bytes()
    except FileNotFoundError:
        hint = files.download_hint(path)
        raise FastSCNNError(f"{path}: no such file.{hint}") from None
    except IsADirectoryError:
        raise FastSCNNError(f"{path}: is a folder, not an image.") from None
    except (OSError, ValueError) as error:  # the second: a zero byte in the path
        raise FastSCNNError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _header(data: bytes) -> Image.Image | None:
    """Return the image whose header Pillow could read, not decoded yet; None if it has none of `_FORMATS`.

    `Image.open` would warn of large images and of odd MPO files, of which only the first frame is read anyway. Filtering
    its warnings is no way out: `warnings.catch_warnings` changes filters that all threads share.
    """
    Image.preinit()
    for kind in _FORMATS:
        if kind not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN[kind]
        factory = _FACTORIES.get(kind, factory)
        accepted = accept is None or accept(data[:16])
        if accepted and not isinstance(accepted, str):  # a text says that Pillow was built without this format
            try:
                return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    return None
