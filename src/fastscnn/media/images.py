"""Still images: reading with limits and fixed policies, resizing, writing.

Pillow does all three. It gives the mode of a file (palette, 16-bit, CMYK, alpha) and its size before decoding. Faster libraries
decode ordinary JPEG files (`jpeg`) and write label maps (`png`). One resizer everywhere keeps the accuracy that was measured.
How each kind of file is read:

| file | becomes |
| --- | --- |
| grey, palette, bilevel | RGB that looks the same |
| alpha | dropped: the colour values count, however transparent |
| CMYK | RGB by Pillow's conversion, without colour profiles |
| 16 bits per channel | the high byte |
| EXIF orientation | applied, as in a viewer |
| several pages or frames | the first; an error in label files |
| over 40 megapixels (a larger limit if it is segmented in tiles), floats, 32-bit integers | refused |
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastscnn.base import files
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import jpeg, netpbm, png, windows
from fastscnn.media.decoding import SUFFIXES, Source, file_name, name, opened
from fastscnn.media.integers import integers
from fastscnn.media.shrinking import shrink
from fastscnn.media.windows import Box

__all__ = [
    "SUFFIXES", "Source", "file_name", "name", "read", "read_channel", "read_colours",
    "read_grey", "read_oriented", "read_reduced", "read_values", "read_wide_ids", "resize", "size", "stack", "widened", "write",
]  # fmt: skip

_T = TypeVar("_T", bound=np.generic)
_JPEG_SIDE = 65_500  # pixels, libjpeg's limit
BAND = 4_000_000  # pixels that are converted at a time
_ORIENTATION = 0x0112
_ONE_BYTE = ("L", "P", "1")
_PNG, _PNG_METADATA = b"\x89PNG\r\n\x1a\n", (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def read(source: Source, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Return an image as RGB, upright by its EXIF orientation.

    Args:
        source: a path, the bytes of an image file, a binary file object, or a PIL image. Addresses (URLs) are not fetched.
        max_pixels: larger images are refused before they are decoded. Decoding takes up to 8 bytes per pixel, WebP 14.

    Returns:
        uint8 [H, W, 3].

    Raises:
        FastSCNNError: missing, not an image, truncated, over `max_pixels`, or of a kind that is refused.
        ArgumentError: another type.

    Examples:
        >>> from pathlib import Path
        >>> import fastscnn, numpy as np
        >>> from PIL import Image
        >>> Image.fromarray(np.zeros((360, 480, 3), np.uint8)).save("street.png")
        >>> fastscnn.read_image("street.png").shape
        (360, 480, 3)
        >>> fastscnn.read_image(Path("street.png").read_bytes()).shape
        (360, 480, 3)
    """
    return read_oriented(source, max_pixels)[0]


def read_reduced(
    source: Source, least: Callable[[tuple[int, int]], tuple[int, int]], max_pixels: int = MAX_PIXELS
) -> tuple[UInt8Array, tuple[int, int]]:
    """Return what `read` returns, but perhaps at a fraction of its size, and the (height, width) that `read` would return.

    A JPEG file is decoded at 1/2, 3/8, 1/4 or 1/8 of its size if that is enough, in less time and memory.

    Args:
        source: as for `read`.
        least: (height, width) of the image -> the (height, width) that is enough.
        max_pixels: as for `read`.
    """
    with windows.opened(source, None, max_pixels) as (image, _):
        if image.format != "JPEG" or isinstance(source, Image.Image):
            pixels = _read(source, image)
            return pixels, (pixels.shape[0], pixels.shape[1])
        turned = _own_orientation(image) >= 5
        size = (image.width, image.height) if turned else (image.height, image.width)
        return _read(source, image, least(size)[::-1] if turned else least(size)), size


def read_oriented(source: Source, max_pixels: int = MAX_PIXELS, box: Box | None = None) -> tuple[UInt8Array, int]:
    """Return what `read` returns, and the EXIF orientation that was applied: 1 (upright already) to 8.

    Args:
        source: as for `read`; with a box, a path.
        max_pixels: as for `read`. TIFF and JPEG 2000 files may be larger if a box is given (extra `large`).
        box: the window that is read; None for the whole image.
    """
    with windows.opened(source, box, max_pixels) as (image, cut):
        orientation = orientation_of(image)
        return windows.cropped(_read(source, image), source, cut), orientation


def read_values(path: str | Path, box: Box | None = None) -> tuple[npt.NDArray[np.integer[Any]], UInt8Array | None]:
    """Return a label file as its stored values, upright by its EXIF orientation: grey values or palette indices.

    Files have 1 to 32 bits, or floats that are whole numbers. Alpha is accepted if it is the same everywhere, and colours if
    their channels are equal. With a box, only this window is returned.

    Returns:
        Integers [H, W]: uint8 for files of up to 8 bits. The palette of an indexed file, uint8 [N, 3] RGB; else None.

    Raises:
        FastSCNNError: as `read`; also if the file has several pages, or holds colours, fractions, or transparent parts.
    """
    with windows.opened(path, box, one_page=True) as (image, cut):
        if image.format == "JPEG2000":
            raise FastSCNNError(f"{path}: is a JPEG 2000 file, in which ids may be changed by the compression; save it as PNG.")
        if image.format == "PPM" and image.mode in ("1", "L", "I"):
            return windows.cropped(netpbm.stored(path, image), path, cut), None
        raw_mode = _raw_mode(image)  # lost when the file is decoded
        palette = palette_of(image)
        values = _values(path, image, raw_mode)
        return _upright(values, path, image, cut), palette


def read_channel(path: str | Path, channel: str, box: Box | None = None) -> UInt8Array:
    """Return one channel of a colour image, uint8 [H, W], upright by its EXIF orientation.

    Args:
        path: the file.
        channel: "red", "green", "blue" or "alpha".
        box: the window that is returned; None for the whole image.

    Raises:
        FastSCNNError: as `read`; also if the file has no such channel of 8 bits.
    """
    with windows.opened(path, box, one_page=True) as (image, cut):
        letter = channel[0].upper()
        if letter not in image.getbands() or len(image.getbands()) == 1 or "16" in _raw_mode(image):
            mode = _raw_mode(image) or image.mode
            kinds = "8-bit RGBA or grey with alpha" if channel == "alpha" else "8-bit RGB or RGBA"
            raise FastSCNNError(f"{path}: has the mode {mode}; ids in the channel {channel} need {kinds}.")
        values = np.array(image.getchannel(letter), np.uint8)
        return _upright(values, path, image, cut)


def read_wide_ids(path: str | Path) -> npt.NDArray[np.uint16]:
    """Return a file of ids over 255, such as Cityscapes' instanceIds, as its stored values, uint16 [H, W].

    Raises:
        FastSCNNError: as `read`; also if the file does not have one channel of 16 bits, or holds values beyond them.
    """
    with opened(path) as image:
        if image.mode not in (*_SIXTEEN_BIT, "I"):  # "I": what some versions of Pillow make of 16 bits
            raise FastSCNNError(f"{path}: has the mode {image.mode}, but one channel of 16 bits is expected; "
                                "use the file as its dataset ships it.")
        values = np.array(image)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise FastSCNNError(f"{path}: holds ids from {values.min()} to {values.max()}; 16 bits hold 0 to 65535.")
        return values.astype(np.uint16)


def read_colours(path: str | Path, box: Box | None = None) -> UInt8Array:
    """Return a label file as its colours, uint8 [H, W, 3], upright by its EXIF orientation.

    Alpha is dropped, and palettes are looked up. Files of 16 bits per channel are read if they hold values of 8 bits: each
    times 257 or 256, or as it is. With a box, only this window is returned.

    Raises:
        FastSCNNError: as `read`; also if the file is neither RGB, nor RGBA, indexed or grey, or holds more than 8 bits.
    """
    colours: npt.NDArray[Any]
    with windows.opened(path, box, one_page=True) as (image, cut):
        raw_mode, grey = _raw_mode(image), image.mode in _SIXTEEN_BIT
        if image.mode not in ("RGB", "RGBA", "P", "L", "LA", "1", *_SIXTEEN_BIT) or ("16" in raw_mode and image.mode == "LA"):
            if image.mode in ("F", "I"):
                raise FastSCNNError(f"{path}: has one channel of numbers (mode {image.mode}), not colours; if they are ids, "
                                    "save them as whole numbers, with an id such as 255 in place of NaN.")
            raise FastSCNNError(f"{path}: has the mode {raw_mode or image.mode}; labels stored as colours are RGB or RGBA.")
        colours = np.repeat(np.array(image)[:, :, None], 3, axis=2) if grey else _rgb(image)
        colours = _upright(colours, path, image, cut)
    if not grey and "16" in raw_mode:
        return _eight_bits(path, colours.astype(np.uint16) << 8 | _low_bytes(path, cut))
    return _eight_bits(path, colours) if grey else colours.astype(np.uint8, copy=False)


def read_grey(path: str | Path, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Return an extra channel of an image, such as thermal, uint8 [H, W], upright by its own EXIF orientation.

    16-bit values are scaled file by file: the 1st to 99th percentile of the values over 0 becomes 1 to 255, and values
    beyond are clipped. 0, which marks holes, stays 0. A file that stores grey as colours is accepted.

    Raises:
        FastSCNNError: as `read`; also if the file holds colours, since their meaning is lost in grey.
    """
    with opened(path, max_pixels) as image:
        wide = image.mode in (*_SIXTEEN_BIT, "I")
        if image.mode == "F":
            raise FastSCNNError(f"{path}: has 32 bits per pixel; save it with 8 or 16 bits per channel.")
        if "16" in _raw_mode(image) and not wide:  # several channels: Pillow keeps only their high byte
            raise FastSCNNError(f"{path}: has 16 bits in each of several channels; save it with one.")
        return _turned(_scaled_to_bytes(image) if wide else _uncoloured(path, image), _own_orientation(image))


def stack(
    image: UInt8Array, path: str | Path, extra_channels: Sequence[str | Path], max_pixels: int = MAX_PIXELS
) -> UInt8Array:
    """Return an image with extra channels behind its own: the input of a network of more than RGB.

    Args:
        image: uint8 [H, W, 3], from `read`.
        path: its file, for errors.
        extra_channels: files of one channel each, read by `read_grey`.
        max_pixels: of these files.

    Returns:
        uint8 [H, W, 3 + len(extra_channels)].

    Raises:
        FastSCNNError: an error of `read_grey`, or a file whose size differs from the image's.
    """
    channels = [read_grey(file, max_pixels) for file in extra_channels]
    for file, channel in zip(extra_channels, channels, strict=True):
        if channel.shape != image.shape[:2]:
            raise FastSCNNError(f"{file}: is {hxw(channel.shape)} (HxW) but its image {path} is "
                                f"{hxw(image.shape)}, both upright; make their sizes equal.")
    return np.dstack([image, *channels]) if channels else image


def widened(image: UInt8Array, channels: int) -> UInt8Array:
    """Return RGB uint8 [H, W, 3] as [H, W, channels]: the image's own grey replaces channels that were not recorded."""
    grey = np.array(Image.fromarray(image).convert("L"), np.uint8)
    return np.ascontiguousarray(np.dstack([image, *[grey] * (channels - 3)])[:, :, :channels])


def size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) in pixels of what `read` would return.

    The pixels are not decoded, so damage in them is not found. Other errors are those of `read`. A PNG whose metadata follows
    its pixels is decoded, since the metadata may hold the orientation.
    """
    with opened(path) as image:
        width, height = image.size
        swapped = orientation_of(image) >= 5 and not _turns_itself(image)
        return (width, height) if swapped else (height, width)


def resize(image: UInt8Array, size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Return the image resized to (height, width): area average along an axis that shrinks, bilinear along one that grows.

    Args:
        image: uint8 [H, W] or [H, W, channels].
        size: (height, width) of the result.
        max_pixels: limit of the result.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    if height * width > max_pixels:
        raise FastSCNNError(f"size: {height}x{width} is over the limit of {max_pixels // 1_000_000} megapixels.")
    least = min(height, image.shape[0]), min(width, image.shape[1])
    return _enlarged(image if least == image.shape[:2] else shrink(image, least), size)


def _enlarged(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    if image.shape[:2] == size:
        return image
    if image.ndim == 3 and image.shape[2] != 3:  # one by one: to Pillow, a fourth channel is transparency
        return np.stack([_enlarged(image[:, :, channel], size) for channel in range(image.shape[2])], axis=2)
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), np.uint8)


def write(path: str | Path, image: UInt8Array, quality: int = 92) -> None:
    """Write uint8 [H, W] (grey) or [H, W, 3] (RGB) as PNG or JPEG, by the suffix. `quality` is for JPEG."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise FastSCNNError(f"{path}: images are written as .png or .jpg.")
    if suffix != ".png" and max(image.shape[:2]) > _JPEG_SIDE:
        raise FastSCNNError(f"{path}: a JPEG has at most {_JPEG_SIDE} pixels a side; cut the image into parts.")
    files.write(path, png.encoded(image) if suffix == ".png" else jpeg.encoded(image, quality), durable=False)


def _read(source: Source, image: Image.Image, least: tuple[int, int] | None = None) -> UInt8Array:
    """Return an opened image as RGB, upright; `least` as for `jpeg.decoded`."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # PPM: 16 bits
        raise FastSCNNError(f"{name(source)}: has 32 bits per pixel; save it with 8 or 16 bits per channel.")
    pixels = None if isinstance(source, Image.Image) else jpeg.decoded(image, least)
    return _turned(_rgb(image) if pixels is None else pixels, _own_orientation(image))


def _rgb(image: Image.Image) -> UInt8Array:
    """Return the pixels as stored, RGB uint8 [H, W, 3].

    A large image is converted in bands of rows. At once, the copies that Pillow makes would need 14 bytes per pixel.
    """
    rows = max(1, BAND // image.width)
    if rows >= image.height:
        return _converted(image)
    result = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        result[top:bottom] = _converted(image.crop((0, top, image.width, bottom)))
    return result


def _converted(image: Image.Image) -> UInt8Array:
    """Return the pixels as stored, RGB uint8 [H, W, 3]."""
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P":  # through RGBA: a palette with transparency keeps its colours
        return np.array(image.convert("RGBA").convert("RGB"), np.uint8)
    return np.array(image.convert("RGB"), np.uint8)


def _values(path: str | Path, image: Image.Image, raw_mode: str) -> npt.NDArray[np.integer[Any]]:
    """Return the stored values, [H, W]."""
    mode = image.mode
    if mode in _ONE_BYTE:
        stretch = {"L;2": 85, "L;4": 17}.get(raw_mode, 1)  # Pillow scales 2 and 4 bits of grey to 0 to 255
        return np.array(image, np.uint8) // np.uint8(stretch) if stretch > 1 else np.array(image, np.uint8)
    if mode in (*_SIXTEEN_BIT, "I"):
        return np.array(image)
    if mode == "F":
        return integers(path, np.array(image))
    if mode not in ("LA", "PA", "La", "RGB", "RGBA") or "16" in raw_mode:
        raise FastSCNNError(f"{path}: has the mode {raw_mode or mode}, but class ids are expected; save it as greyscale.")
    channels = np.array(image)
    if mode != "RGB":
        if (channels[:, :, -1] != channels[0, 0, -1]).any():
            raise FastSCNNError(f"{path}: has transparent parts, and they may or may not be labels; save it without alpha, "
                                'or, if they are the mask, set channel = "alpha" in dataset.toml.')
        channels = channels[:, :, :-1]
    if (channels != channels[:, :, :1]).any():
        raise FastSCNNError(f"{path}: is a colour image ({mode}), but class ids are expected; if its colours are classes, "
                            'set labels_are = "colours" in dataset.toml; if one channel holds the ids, set channel = "red".')
    return np.ascontiguousarray(channels[:, :, 0])


def _low_bytes(path: str | Path, box: Box | None) -> UInt8Array:
    """Return the low bytes of a PNG of 16 bits per channel, upright, [H, W, 3].

    Pillow gives the first byte of each value, which is the low one if the file is read as little-endian.
    """
    with opened(path) as image:
        image.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in image.tile]  # type: ignore[attr-defined]
        return _upright(_rgb(image), path, image, box)


def _eight_bits(path: str | Path, values: npt.NDArray[np.integer[Any]]) -> UInt8Array:
    """Return values of 8 bits that are stored in 16."""
    low, high = (values & 255).astype(np.uint8), (values >> 8).astype(np.uint8)
    if (low == high).all() or not low.any():
        return high
    if high.any():
        raise FastSCNNError(f"{path}: has colours of more than 8 bits per channel; save it with 8.")
    return low


def _scaled_to_bytes(image: Image.Image) -> UInt8Array:
    """Return more than 8 bits as 8, [H, W]; see `read_grey`."""
    values = np.array(image).astype(np.int64)
    seen = values[values > 0]
    if not seen.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(seen, (1, 99))
    spread = np.clip(np.rint((values - low) / max(high - low, 1) * 254 + 1), 1, 255)
    return np.where(values > 0, spread, 0).astype(np.uint8)


def _uncoloured(path: str | Path, image: Image.Image) -> UInt8Array:
    """Return 8 bits of grey [H, W], however they are stored; refuse colours."""
    pixels = _rgb(image)
    if (pixels != pixels[:, :, :1]).any():
        raise FastSCNNError(f"{path}: is a colour image, but one channel is expected; save the values themselves as "
                            "grey, not the colours they are shown in.")
    return np.ascontiguousarray(pixels[:, :, 0])


def palette_of(image: Image.Image) -> UInt8Array | None:
    """Return the palette of an indexed image, RGB uint8 [N, 3]; None for other images. A PNG is not decoded for it."""
    if image.mode != "P":
        return None
    stored = image.palette.palette if image.format == "PNG" and image.palette else None
    colours = stored if isinstance(stored, bytes) else image.getpalette("RGB")
    values = np.array(list(colours or ()), np.uint8)
    return values[: len(values) // 3 * 3].reshape(-1, 3)  # a broken palette may end within a colour


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 if the file has none or an invalid one."""
    tags = image.getexif() if image.format != "PNG" or _metadata_follows(image) else Image.Image.getexif(image)
    value = tags.get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _metadata_follows(png: Image.Image) -> bool:
    """Return whether metadata may follow the pixels of a PNG: Pillow's `getexif` decodes every PNG to find it."""
    if not isinstance(file := getattr(png, "fp", None), io.BytesIO):
        return True
    data, place, pixels = file.getbuffer(), len(_PNG), False
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IEND" or (pixels and kind in _PNG_METADATA):
            return bool(kind != b"IEND")
        pixels = pixels or kind == b"IDAT"
        place += 12 + length  # length, kind, content, checksum
    return True  # truncated: decoding says so


def _turns_itself(image: Image.Image) -> bool:
    """Return whether Pillow applies the orientation itself, both to the pixels and to the size."""
    return image.format == "TIFF"


def _own_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that Pillow has not applied."""
    return 1 if _turns_itself(image) else orientation_of(image)


def _upright(pixels: npt.NDArray[_T], source: Source, image: Image.Image, box: Box | None) -> npt.NDArray[_T]:
    """Return the pixels of an image [H, W, ...] upright, or those in the box."""
    return windows.cropped(_turned(pixels, _own_orientation(image)), source, box)


def _turned(pixels: npt.NDArray[_T], orientation: int) -> npt.NDArray[_T]:
    """Return stored pixels [H, W, ...] upright. Pillow's own function fails if another EXIF tag of the image is broken."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _raw_mode(image: Image.Image) -> str:
    """Return how a PNG stores its pixels ("L;4", "RGB;16B"), which Pillow's mode does not show; "" for other files."""
    tile = getattr(image, "tile", None)
    return str(tile[0][3]) if image.format == "PNG" and tile else ""
