"""Opening images of every accepted kind, with a limit on their size, before a pixel is decoded."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fastscnn.base import archives, files
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.media import jpeg

# Pillow's name of each format of photographs -> its suffixes. Left out: EPS, which runs Ghostscript; WMF, drawings; PSD,
# layers; icons, brushes and textures of games; FITS, GRIB and HDF5, measurements. JPEG includes MPO, which phones write.
_FORMATS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "SUN": (".ras",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# Their files have no signature, so that Pillow reads almost anything as them: the suffix decides.
_BY_SUFFIX = {"DIB": (".dib",), "PCX": (".pcx",), "TGA": (".tga",)}
SUFFIXES = frozenset(suffix for table in (_FORMATS, _BY_SUFFIX) for suffixes in table.values() for suffix in suffixes)
_SUBFILE_TYPE, _OVERVIEW, _MASK = 254, 1, 4  # a tag of TIFF, and bits of its value
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
_MOST_SCANS = 100  # of a JPEG; encoders write about 10, and each takes as long as an image
_BYTES_PER_PIXEL = 16  # largest size of a file for its pixels: 4 channels of 16 bits, and as much for metadata

# RuntimeError: of libavif; IndexError: of QOI in Pillow 12.0
_DECODING = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, IndexError, struct.error, Warning)


class _Tiff(TiffImageFile):
    """A TIFF without Pillow's own limit of pixels, which is below that of an image in tiles; `opened` applies ours."""

    def load_prepare(self) -> None:
        if getattr(self, "_im", None) is None:
            self.im = Image.new(self.mode, getattr(self, "_tile_size", self.size)).im
        ImageFile.ImageFile.load_prepare(self)


_FACTORIES = {"JPEG": JpegImageFile, "TIFF": _Tiff}  # JPEG: not MPO's, which reads every frame
Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image


class _Strict:
    """Pillow's switch `LOAD_TRUNCATED_IMAGES`, off while an image is open here: with it, half an image is read in silence.

    The switch counts for the whole process, and other programs set it as they are imported; theirs comes back at the end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._theirs = False

    def __enter__(self) -> None:
        with self._lock:
            if self._open == 0:
                self._theirs, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            self._open += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._theirs


_strict = _Strict()


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
    # A PIL image belongs to the caller: it stays open.
    own = None if isinstance(source, Image.Image) else _bytes(source, max_pixels)
    named = name(source)
    try:
        if own is None:
            assert isinstance(source, Image.Image)
            image: Image.Image | None = source
        else:
            with _strict:
                image = _header(io.BytesIO(own), Path(file_name(source) or "").suffix.lower())
        if image is None:
            known = ", ".join(sorted(SUFFIXES))
            raise FastSCNNError(f"{named}: is not an image that can be read ({known}), or its header is broken.")
        if own is not None and image.format == "JPEG" and (scans := jpeg.scans(own)) > _MOST_SCANS:
            raise FastSCNNError(f"{named}: has {scans} scans, over the limit of {_MOST_SCANS} for a JPEG; save it again.")
        width, height = image.size
        if width * height > max_pixels:
            fix = "reduce its size" if max_pixels > MAX_PIXELS else (
                "reduce its size, or segment it in tiles (tile); to train on it, save it and its labels as TIFF")
            raise FastSCNNError(f"{named}: is {height}x{width} (HxW), over the limit of {max_pixels // 1_000_000} megapixels; "
                                f"{fix}.")
        if own is not None and image.format == "TIFF":
            tile = _number(image, _TILE_LENGTH), _number(image, _TILE_WIDTH)
            if tile[0] * tile[1] > max_pixels:  # libtiff decodes whole tiles, also those of a smaller image
                raise FastSCNNError(f"{named}: has tiles of {hxw(tile)} (HxW), over the limit of {max_pixels // 1_000_000} "
                                    "megapixels; save it without tiles.")
        with _strict:
            yield image
    except Image.DecompressionBombError as error:
        message = f"{named}: is over the limit of its format, or damaged ({error}); save it as TIFF or PNG."
        raise FastSCNNError(message) from error
    # What Pillow's decoders raise on broken data. Its warnings are errors for those who run Python with -W error.
    except _DECODING as error:
        if isinstance(error, FastSCNNError):
            raise
        if "MAX_TEXT" in str(error):  # a limit of Pillow for PNG, which counts colour profiles as text
            raise FastSCNNError(f"{named}: has metadata or a colour profile of over 1 MB; save it without.") from error
        raise FastSCNNError(f"{named}: is truncated or broken ({error}); copy it again from its source.") from error


@contextmanager
def header(path: Path) -> Iterator[Image.Image | None]:
    """Open an image file of any size, and read its header only; None if it is no image.

    Raises:
        FastSCNNError: the file is missing or cannot be read.
    """
    try:
        with archives.opened(path) as file, _strict:
            yield _header(file, path.suffix.lower())
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror or error}).") from error


def check_one_page(path: Source, image: Image.Image) -> None:
    """Refuse a file of several pages or frames, of which only the first would be read.

    The overviews and masks of a TIFF are no pages of their own.
    """
    try:
        if (count := getattr(image, "n_frames", 1)) < 2:
            return
        if image.format == "TIFF":
            count = sum(not _subfile(image, page) & (_OVERVIEW | _MASK) for page in range(count))
            image.seek(0)
    except (*_DECODING, TypeError, KeyError) as error:  # TypeError: of a second page of a TIFF without size
        raise FastSCNNError(f"{name(path)}: what follows its first page or frame is truncated or broken ({error!r}); save the "
                            "first one as an image of its own.") from error
    if count > 1:
        raise FastSCNNError(f"{name(path)}: has {count} pages or frames, but labels are one image; combine the pages into one "
                            "image with a class id for each pixel.")


def _subfile(image: Image.Image, page: int) -> int:
    """Return what the tag NewSubfileType says about a page of a TIFF."""
    image.seek(page)
    return _number(image, _SUBFILE_TYPE)


def _number(image: Image.Image, tag: int) -> int:
    """Return the value of a tag of a TIFF; 0 if it has none, or one that is no integer."""
    value = getattr(image, "tag_v2", {}).get(tag, 0)
    return value if isinstance(value, int) else 0


def embedded(data: bytes) -> npt.NDArray[Any]:
    """Return an image inside a label file as it is stored, [H, W] or [H, W, channels].

    Palette indices stay indices, except that a palette with transparency becomes RGBA.

    Raises:
        FastSCNNError: not an image, truncated, or over 40 megapixels.
    """
    with opened(data) as image:
        return np.array(image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image)


def _bytes(source: object, max_pixels: int) -> bytes:
    """Return the content of an image file."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return _file(os.fspath(source), max_pixels)
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


def _file(path: str, max_pixels: int) -> bytes:
    try:
        place = files.expand(path)
        member = archives.member(place)
        mode, size = (stat.S_IFREG, member.size) if member else _mode_and_size(place)
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading could wait for ever
            raise FastSCNNError(f"{path}: is a pipe or a device, not a file; save the image to a file first.")
        if size > _BYTES_PER_PIXEL * max_pixels:
            raise FastSCNNError(f"{path}: has {size / 1e9:.1f} GB, over the limit of "
                                f"{_BYTES_PER_PIXEL * max_pixels / 1e9:.2f} GB for an image; reduce its size first.")
        return member.read() if member else place.read_bytes()
    except FileNotFoundError:
        hint = files.download_hint(path)
        raise FastSCNNError(f"{path}: no such file.{hint}") from None
    except IsADirectoryError:
        raise FastSCNNError(f"{path}: is a folder, not an image.") from None
    except (OSError, ValueError) as error:  # the second: a zero byte in the path
        raise FastSCNNError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _mode_and_size(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mode, status.st_size


def _header(file: BinaryIO, suffix: str) -> Image.Image | None:
    """Return the image whose header Pillow could read, not decoded yet; None if it is of no format that is read.

    `Image.open` would warn of large images and of odd MPO files, of which only the first frame is read anyway. Filtering
    its warnings is no way out: `warnings.catch_warnings` changes filters that all threads share.
    """
    Image.preinit()
    start = file.read(16)
    for kind in (*_FORMATS, *(kind for kind, suffixes in _BY_SUFFIX.items() if suffix in suffixes)):
        if kind not in Image.OPEN:
            Image.init()
        if kind not in Image.OPEN:  # an older Pillow
            continue
        factory, accept = Image.OPEN[kind]
        factory = _FACTORIES.get(kind, factory)
        accepted = accept is None or accept(start)
        if accepted and not isinstance(accepted, str):  # a text says that Pillow was built without this format
            try:
                file.seek(0)
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    return None
