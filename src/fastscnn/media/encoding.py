"""How an image file is stored: what its pixels alone do not show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastscnn.base import archives
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media.decoding import header, opened
from fastscnn.media.images import orientation_of, palette_of

_HEAD = 16  # bytes that identify a format
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")


@dataclass(frozen=True, eq=False)
class Encoding:
    """How an image file is stored.

    Attributes:
        lossy: name of a compression that changes pixels, such as "JPEG"; "" if there is none. That of AVIF is not known.
        orientation: EXIF orientation, 1 (upright) to 8.
        palette: RGB uint8 [N, 3] of an indexed image; else None.
    """

    lossy: str
    orientation: int
    palette: UInt8Array | None


def encoding(path: Path) -> Encoding | None:
    """Return how an image file is stored; None if it is no image that can be read. The name of the file does not matter."""
    if not is_image(path):
        return None
    try:
        with header(path) as image:
            if image is not None and image.format == "TIFF":  # which may be large: only its header is read
                lossy = "JPEG" if image.info.get("compression") == "jpeg" else ""
                return Encoding(lossy, orientation_of(image), palette_of(image))
        data = archives.read(path)
        with opened(data) as image:
            lossy = {
                "JPEG": "JPEG", "MPO": "JPEG", "WEBP": _lossy_webp(data), "JPEG2000": _lossy_jpeg_2000(data),
            }.get(image.format or "", "")
            return Encoding(lossy, orientation_of(image), palette_of(image))
    except (FastSCNNError, OSError):
        return None


def lossy(path: Path) -> str:
    """Return the name of a compression that changes the pixels of an image file, by its content; "" if there is none."""
    found = encoding(path)
    return found.lossy if found else ""


def is_image(path: Path) -> bool:
    """Return whether a file begins as an image does, also one of a format that `images.read` refuses."""
    try:
        with archives.opened(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return (
        head.startswith(_STARTS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())
    )


def _lossy_webp(data: bytes) -> str:
    """Return the name of the compression of a WebP file whose first bitstream is lossy; else ""."""
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return "lossy WebP" if kind == b"VP8 " else ""
        place += 24 if kind == b"ANMF" else 8 + size + size % 2  # a frame has 16 bytes, then chunks of its own
    return ""


def _lossy_jpeg_2000(data: bytes) -> str:
    """Return the name of the compression of a JPEG 2000 file that uses the irreversible wavelet; else ""."""
    marker = data.find(b"\xff\x52")  # COD; its wavelet is 13 bytes later: 0 is the irreversible one
    return "lossy JPEG 2000" if marker >= 0 and data[marker + 13 : marker + 14] == b"\0" else ""
