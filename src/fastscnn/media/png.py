"""PNG files. Label maps, one byte a pixel, are written in a twentieth of Pillow's time.

Their rows are not filtered: neighbours of a label map are mostly equal, which a filter does not improve. ISA-L compresses them;
zlib with its run-length strategy takes ten times as long, and its files are smaller by a third to a half.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from fastscnn.base.types import UInt8Array

try:
    from isal import isal_zlib
except ImportError:  # a platform without its wheels
    isal_zlib = None  # type: ignore[assignment]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _INDEXED = 0, 3  # types of colour
_LEVEL = 1  # of ISA-L; 0 makes larger files in the same time, 2 equal ones, 3 takes ten times as long


def encoded(values: UInt8Array, palette: UInt8Array | None = None) -> bytes:
    """Return a PNG file. Equal values give equal bytes on machines of the same kind.

    Args:
        values: uint8 [H, W], or [H, W, 3] RGB.
        palette: uint8 [256, 3] RGB, to write [H, W] as palette indices; None to write it as grey values.
    """
    if values.ndim == 3:
        content = io.BytesIO()
        Image.fromarray(values).save(content, "PNG", compress_level=1)
        return content.getvalue()
    height, width = values.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the first byte of a row is its filter, 0
    rows[:, 1:] = values
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if palette is None else _INDEXED, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(_chunk(b"PLTE", palette.tobytes()))
    return b"".join([_SIGNATURE, *chunks, _chunk(b"IDAT", _compressed(rows)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))])


def _compressed(rows: UInt8Array) -> bytes:
    if isal_zlib is None:
        compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)  # type: ignore[unreachable] # mypy knows it as a module only
        return compressor.compress(rows) + compressor.flush()
    made: bytes = isal_zlib.compress(rows, _LEVEL)
    return made
