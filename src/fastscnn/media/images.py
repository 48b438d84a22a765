"""Still images: reading with limits and stated policies, resizing, writing.

Pillow does all three: it tells the mode of a file (palette, 16-bit, CMYK, alpha) and its size before decoding, and one
resizer everywhere keeps accuracy what it was measured to be. How each kind of file is taken:

| file | becomes |
| --- | --- |
| grey, palette, bilevel | RGB of the same look |
| alpha | dropped: the colour values count, however transparent |
| CMYK | RGB by Pillow's conversion, without colour profiles |
| 16 bits per channel | the high byte |
| EXIF orientation | applied: the image stands as a viewer shows it |
| several frames | the first |
| over 40 megapixels, floats, 32-bit integers | refused |
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFile, UnidentifiedImageError

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array

MAX_PIXELS = 40_000_000
_JPEG_SIDE = 65_500  # pixels, libjpeg's limit
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # JPEG takes in MPO, what phones make; MPO has no opener of its own
_ORIENTATION = 0x0112
_ONE_BYTE = ("L", "P", "1")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def read(path: str | Path) -> UInt8Array:
    """The image as RGB, uint8 [H, W, 3], upright by its EXIF orientation.

    Raises:
        FastSCNNError: missing, not an image, truncated, over 40 megapixels, or of a kind that is refused.
    """
    return read_oriented(path)[0]


def read_oriented(path: str | Path) -> tuple[UInt8Array, int]:
    """As `read`, and the EXIF orientation it was turned by: 1 (it was upright) to 8."""
    with _opened(path) as image:
        if image.mode in ("I", "F"):
            raise FastSCNNError(f"{path}: has 32 bits per pixel; save it with 8 or 16 bits per channel.")
        orientation = _orientation(image)
        pixels = _rgb(image)
        return (pixels if _turns_itself(image) else _turned(pixels, orientation)), orientation


def read_ids(path: str | Path) -> UInt8Array:
    """A label file as its stored values, uint8 [H, W]: grey values or palette indices, never colours.

    Raises:
        FastSCNNError: as `read`; also where the file holds colours, or values over 255.
    """
    with _opened(path) as image:
        if image.mode in _ONE_BYTE:
            stretch = {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)  # Pillow spreads 2 and 4 bits of grey over 0 to 255
            return np.array(image, np.uint8) // np.uint8(stretch)
        if image.mode in (*_SIXTEEN_BIT, "I"):
            values = np.array(image)
            strange = values[(values < 0) | (values > 255)]
            if strange.size:
                raise FastSCNNError(f"{path}: holds the id {int(strange[0])}; class ids go from 0 to 255.")
            return values.astype(np.uint8)
        raise FastSCNNError(f"{path}: is a colour image ({image.mode}) where class ids were expected; "
                            'say labels_are = "colours" in the dataset file if colours stand for classes.')


def read_wide_ids(path: str | Path) -> npt.NDArray[np.uint16]:
    """A file of ids over 255, such as Cityscapes' instanceIds, as its stored values, uint16 [H, W].

    Raises:
        FastSCNNError: as `read`; also where the file has not one channel of 16 bits, or holds values beyond them.
    """
    with _opened(path) as image:
        if image.mode not in (*_SIXTEEN_BIT, "I"):  # "I": what some versions of Pillow make of 16 bits
            raise FastSCNNError(f"{path}: has the mode {image.mode} where one channel of 16 bits was expected; "
                                "take the file as its dataset ships it.")
        values = np.array(image)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise FastSCNNError(f"{path}: holds ids from {values.min()} to {values.max()}; 16 bits hold 0 to 65535.")
        return values.astype(np.uint16)


def read_colours(path: str | Path) -> UInt8Array:
    """A label file as its colours, uint8 [H, W, 3]; alpha is dropped, palettes are looked up.

    Raises:
        FastSCNNError: as `read`; also where the file has more than 8 bits per channel.
    """
    with _opened(path) as image:
        mode = _raw_mode(image) if "16" in _raw_mode(image) else image.mode
        if mode not in ("RGB", "RGBA", "P", "L", "LA"):
            raise FastSCNNError(f"{path}: has the mode {mode}; labels stored as colours are 8-bit RGB or RGBA.")
        return np.array(image.convert("RGBA").convert("RGB"), np.uint8)


def read_grey(path: str | Path) -> UInt8Array:
    """A further channel of an image, such as thermal, uint8 [H, W], upright by its own EXIF orientation.

    Of 16 bits, the values between the 1st and the 99th percentile of those over 0 are spread over 1 to 255, file by file,
    and those beyond are cut; 0, which marks holes, stays 0. A file that stores grey as colours is taken.

    Raises:
        FastSCNNError: as `read`; also where the file holds colours: what they stand for, grey does not tell.
    """
    with _opened(path) as image:
        wide = image.mode in (*_SIXTEEN_BIT, "I")
        if image.mode == "F":
            raise FastSCNNError(f"{path}: has 32 bits per pixel; save it with 8 or 16 bits per channel.")
        if "16" in _raw_mode(image) and not wide:  # of several channels, of which Pillow keeps the high byte
            raise FastSCNNError(f"{path}: has 16 bits in each of several channels; save it with one.")
        orientation = 1 if _turns_itself(image) else _orientation(image)
        return _turned(_spread(image) if wide else _uncoloured(path, image), orientation)


def stack(image: UInt8Array, path: str | Path, more: Sequence[str | Path]) -> UInt8Array:
    """An image with the grey of further files behind its channels: what a network of more than RGB is trained on and reads.

    Args:
        image: uint8 [H, W, 3], as `read` gives it.
        path: of its file, for errors.
        more: files of one further channel each, as `read_grey` takes them.

    Returns:
        uint8 [H, W, 3 + len(more)].

    Raises:
        FastSCNNError: what `read_grey` says of a file, or one of another size than the image.
    """
    channels = [read_grey(file) for file in more]
    for file, channel in zip(more, channels, strict=True):
        if channel.shape != image.shape[:2]:
            raise FastSCNNError(f"{file}: has {channel.shape[1]}x{channel.shape[0]} pixels but its image {path} "
                                f"{image.shape[1]}x{image.shape[0]}, both upright; make them the same.")
    return np.dstack([image, *channels]) if channels else image


def widened(image: UInt8Array, channels: int) -> UInt8Array:
    """RGB uint8 [H, W, 3] as [H, W, channels]: its own grey stands in for what no camera recorded behind RGB."""
    grey = np.array(Image.fromarray(image).convert("L"), np.uint8)
    return np.ascontiguousarray(np.dstack([image, *[grey] * (channels - 3)])[:, :, :channels])


def size(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels as `read` would give them. Raises as `read` does.

    From the header alone, except that a PNG is decoded, since its orientation may stand behind its pixels.
    """
    with _opened(path) as image:
        width, height = image.size
        swapped = _orientation(image) >= 5 and not _turns_itself(image)
        return (width, height) if swapped else (height, width)


def resize(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """The image at (height, width): along each axis the average of areas where it shrinks, bilinear where it grows.

    Args:
        image: uint8 [H, W] or [H, W, channels].
        size: (height, width) of the result.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    if height * width > MAX_PIXELS:
        raise FastSCNNError(f"size: {height}x{width} is over the limit of {MAX_PIXELS // 1_000_000} megapixels.")
    if image.ndim == 3 and image.shape[2] != 3:  # one by one: Pillow would take a fourth channel for transparency
        return np.stack([resize(image[:, :, channel], size) for channel in range(image.shape[2])], axis=2)
    shrunk = Image.fromarray(image).resize((min(width, image.shape[1]), min(height, image.shape[0])), Image.Resampling.BOX)
    return np.array(shrunk.resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def draw(size: tuple[int, int], shapes: Sequence[tuple[Sequence[tuple[float, float]], int]]) -> UInt8Array:
    """Polygons drawn over each other on 0, uint8 [height, width].

    Args:
        size: (height, width) of the result.
        shapes: (corners, value) of each: two or more (x, y), which may lie outside, and a value from 0 to 255.
    """
    drawn = Image.new("L", (size[1], size[0]))
    pencil = ImageDraw.Draw(drawn)
    for corners, value in shapes:
        pencil.polygon(corners, fill=value)
    return np.array(drawn, np.uint8)


def write(path: str | Path, image: UInt8Array, quality: int = 92) -> None:
    """Writes uint8 [H, W] (grey) or [H, W, 3] (RGB) as the suffix says, in one piece. `quality` is for JPEG."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise FastSCNNError(f"{path}: images are written as .png or .jpg.")
    if suffix != ".png" and max(image.shape[:2]) > _JPEG_SIDE:
        raise FastSCNNError(f"{path}: a JPEG has at most {_JPEG_SIDE} pixels a side; cut the image into parts.")
    files.write(path, _png(image) if suffix == ".png" else jpeg(image, quality))


def jpeg(image: UInt8Array, quality: int = 92) -> bytes:
    """The bytes of a JPEG file of uint8 [H, W] (grey) or [H, W, 3] (RGB)."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def _png(image: UInt8Array) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG", compress_level=1)  # labels shrink well at any level: take the fastest
    return encoded.getvalue()


@contextmanager
def _opened(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    """The file opened by Pillow, its header checked; errors of opening and decoding become one sentence."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise FastSCNNError(f"{path}: is a folder, not an image.") from None
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        # Pillow warns of large and odd files; what we refuse is said below
        with _quiet, Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise FastSCNNError(_too_large(path, f"{width}x{height} pixels"))
            yield image
    except UnidentifiedImageError:
        known = ", ".join(sorted(SUFFIXES))
        raise FastSCNNError(f"{path}: is not an image that can be read ({known}), or its header is broken.") from None
    except Image.DecompressionBombError:
        raise FastSCNNError(_too_large(path, "far more pixels")) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # what Pillow's decoders raise on broken data
        raise FastSCNNError(f"{path}: is truncated or broken ({error}); copy it again from its source.") from error


class _Quiet:
    """Ignores warnings while any thread is inside.

    `warnings.catch_warnings` alone swaps a list that all threads share: two that overlap would restore the wrong one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()


def _too_large(path: str | Path, what: str) -> str:
    return f"{path}: has {what}, over the limit of {MAX_PIXELS // 1_000_000} megapixels; make it smaller first."


def _rgb(image: ImageFile.ImageFile) -> UInt8Array:
    """The pixels as stored, RGB uint8 [H, W, 3]."""
    if image.mode in _SIXTEEN_BIT:
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P":  # through RGBA, so that a palette with transparency keeps its colours
        return np.array(image.convert("RGBA").convert("RGB"), np.uint8)
    return np.array(image.convert("RGB"), np.uint8)


def _spread(image: ImageFile.ImageFile) -> UInt8Array:
    """More than 8 bits as 8, [H, W]; see `read_grey`."""
    values = np.array(image).astype(np.int64)
    seen = values[values > 0]
    if not seen.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(seen, (1, 99))
    spread = np.clip(np.rint((values - low) / max(high - low, 1) * 254 + 1), 1, 255)
    return np.where(values > 0, spread, 0).astype(np.uint8)


def _uncoloured(path: str | Path, image: ImageFile.ImageFile) -> UInt8Array:
    """8 bits of grey [H, W], whatever they are stored as; refuses colours."""
    pixels = _rgb(image)
    if (pixels != pixels[:, :, :1]).any():
        raise FastSCNNError(f"{path}: is a colour image where one channel was expected; save it as grey, "
                            "of the values themselves and not of the colours they are shown in.")
    return np.ascontiguousarray(pixels[:, :, 0])


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where the file has none, or one that means nothing."""
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _turns_itself(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow turns the pixels as it loads them, and says their turned size before."""
    return image.format == "TIFF"


def _turned(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Stored pixels [H, W, ...] as viewers show them; our own, as Pillow's refuses images whose other EXIF tags are broken."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How a PNG stores its pixels ("L;4", "RGB;16B"), which Pillow's mode does not tell; "" for other files."""
    return str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
