"""JPEG files through libjpeg-turbo (simplejpeg), in a third to a half of Pillow's time.

Pillow decides: it reads the header, and everything that is unusual or damaged. What simplejpeg decodes without a warning equals
Pillow's pixels, since both are libjpeg-turbo with the same settings.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

from fastscnn.base.types import UInt8Array

try:
    import simplejpeg
except ImportError:  # a platform without its wheels: everything works with Pillow
    simplejpeg = None

_MODES = ("RGB", "L")  # not CMYK, whose conversion to RGB is Pillow's own
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# Markers with a length, and the end. The others are part of the pixels: libjpeg skips those below 0xc0 there, without a length.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")


def decoded(image: Image.Image, least: tuple[int, int] | None = None) -> UInt8Array | None:
    """Return the pixels of a JPEG file as stored, RGB uint8 [H, W, 3]; None if Pillow has to decode it.

    Args:
        image: a file in memory that was opened and not decoded yet.
        least: (height, width) that is enough: the file may be decoded at 1/2, 3/8, 1/4 or 1/8 of its size, by averages of its
            pixels, but not below this.
    """
    file = getattr(image, "fp", None)
    if simplejpeg is None or image.format != "JPEG" or image.mode not in _MODES or not isinstance(file, io.BytesIO):
        return None
    data = file.getvalue()  # no copy
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != image.size:
            return None
        if least is None or not 0 < 2 * least[0] <= height or not 0 < 2 * least[1] <= width:
            pixels: UInt8Array = simplejpeg.decode_jpeg(data, "RGB")
        else:
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1], min_factor=2)
    except (ValueError, KeyError):  # also what libjpeg only warns of, such as a missing end; KeyError: sampling 4:4:1
        return None
    return pixels


def scans(data: bytes) -> int:
    """Return the number of scans of a JPEG file: passes over its pixels. Data behind its end, such as a video, has none."""
    if data.count(_SCAN) < 2:
        return 1
    found, place = 0, 2
    while (marker := _MARKER.search(data, place)) and marker[0] != _END:
        found += marker[0] == _SCAN
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        place = marker.end() + length
    return found


def encoded(image: UInt8Array, quality: int) -> bytes:
    """Return a JPEG file of uint8 [H, W] (grey) or [H, W, 3] (RGB), with colours at half the resolution."""
    if simplejpeg is None:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG", quality=quality)
        return content.getvalue()
    grey = image.ndim == 2
    pixels = np.ascontiguousarray(image[:, :, None] if grey else image)
    kinds = ("GRAY", "Gray") if grey else ("RGB", "420")
    made: bytes = simplejpeg.encode_jpeg(pixels, quality, *kinds)
    return made
