"""JPEG files through libjpeg-turbo (simplejpeg), in a third to a half of Pillow's time.

Pillow decides: it reads the header, and everything that is unusual or damaged. What simplejpeg decodes without a warning equals
Pillow's pixels, since both are libjpeg-turbo with the same settings.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from fastscnn.base.types import UInt8Array

try:
    import simplejpeg
except ImportError:  # a platform without its wheels: everything works with Pillow
    simplejpeg = None

_FORMATS = ("JPEG", "MPO")
_MODES = ("RGB", "L")  # not CMYK, whose conversion to RGB is Pillow's own


def decoded(image: Image.Image) -> UInt8Array | None:
    """Return the pixels of a JPEG file as stored, RGB uint8 [H, W, 3]; None if Pillow has to decode it.

    Args:
        image: a file in memory that was opened and not decoded yet.
    """
    file = getattr(image, "fp", None)
    if simplejpeg is None or image.format not in _FORMATS or image.mode not in _MODES or not isinstance(file, io.BytesIO):
        return None
    data = file.getvalue()  # no copy
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != image.size:
            return None
        pixels: UInt8Array = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also what libjpeg only warns of, such as a missing end
        return None
    return pixels


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
