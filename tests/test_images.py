"""images: the table of policies, one kind of file a row."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.media import decoding, images, jpeg
from fastscnn.media.drawing import Canvas
from fastscnn.media.encoding import encoding

RGB = np.array([[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [255, 255, 255]], [[1, 2, 3], [90, 80, 70]]], np.uint8)  # 3x2
GREY = np.array([[0, 60], [120, 255], [7, 200]], np.uint8)
GREYS = np.repeat(GREY[:, :, None], 3, axis=2)
ALPHA = np.array([[0, 255], [128, 1], [0, 7]], np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, kind: int, rows: bytes = b"") -> bytes:
    """A PNG made by hand, for the kinds that Pillow and OpenCV do not write. `rows` are packed, without filter bytes."""
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride or 1))
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def palette(transparency: int | bytes | None = None) -> bytes:
    image = Image.new("P", (2, 3))
    image.putpalette([value for pixel in RGB.reshape(-1, 3) for value in pixel.tolist()])
    image.putdata(list(range(6)))
    return encoded(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


def opencv(pixels: np.ndarray[Any, Any], suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


READ: dict[str, tuple[Callable[[], bytes], np.ndarray[Any, Any]]] = {
    "rgb.png": (lambda: encoded(Image.fromarray(RGB), "PNG"), RGB),
    "rgb.bmp": (lambda: encoded(Image.fromarray(RGB), "BMP"), RGB),
    "rgb.ppm": (lambda: encoded(Image.fromarray(RGB), "PPM"), RGB),
    "rgb.tif": (lambda: encoded(Image.fromarray(RGB), "TIFF"), RGB),
    "rgb.webp": (lambda: encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "rgb16.png": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16) * 256 + 99), RGB),
    "grey.png": (lambda: encoded(Image.fromarray(GREY), "PNG"), GREYS),
    "grey16.png": (lambda: opencv(GREY.astype(np.uint16) * 256 + 255), GREYS),
    "grey16.tif": (lambda: encoded(Image.fromarray(GREY.astype(np.uint16) * 256 + 255), "TIFF"), GREYS),
    "grey4.png": (lambda: png(2, 1, 4, 0, b"\x0f"), np.array([[[0] * 3, [255] * 3]])),
    "bilevel.png": (lambda: png(2, 1, 1, 0, b"\x40"), np.array([[[0] * 3, [255] * 3]])),
    "grey-alpha.png": (lambda: encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), GREYS),
    "rgb-alpha.png": (lambda: encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"), RGB),
    "palette.png": (palette, RGB),
    "palette-one-clear.png": (lambda: palette(3), RGB),
    "palette-all-clear.png": (lambda: palette(b"\0\1\2\3\4\5"), RGB),
    "1x1.png": (lambda: encoded(Image.fromarray(RGB[:1, :1]), "PNG"), RGB[:1, :1]),
    "frames.webp": (
        lambda: encoded(Image.fromarray(RGB), "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        RGB,
    ),
}


@pytest.mark.reliability("modes")
@pytest.mark.parametrize("name", READ)
def test_read(tmp_path: Path, name: str) -> None:
    make, expected = READ[name]
    path = tmp_path / name
    path.write_bytes(make())
    image = images.read(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)
    assert images.size(path) == expected.shape[:2]


@pytest.mark.reliability("modes")
@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGB", (200, 40, 90), (200, 40, 90)), ("L", 77, (77,) * 3), ("CMYK", (0, 255, 255, 0), (255, 0, 0))],
)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_read_jpeg(tmp_path: Path, mode: str, colour: Any, expected: tuple[int, ...], kind: str) -> None:
    path = tmp_path / "a.jpg"
    frame = Image.new(mode, (16, 24), colour)
    path.write_bytes(encoded(frame, kind, **({"save_all": True, "append_images": [frame]} if kind == "MPO" else {})))
    image = images.read(path)
    assert image.shape == (24, 16, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to(expected, image.shape), atol=3)


STORED = {  # how an upright 1 2 3 / 4 5 6 is stored under each EXIF orientation
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


def blocks(values: list[list[int]]) -> np.ndarray[Any, Any]:
    return np.kron(np.array(values, np.uint8) * 40, np.ones((16, 16), np.uint8))


@pytest.mark.reliability("exif")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.fromarray(blocks(STORED[orientation])).convert("RGB"), kind, exif=exif))
    image, turned_by = images.read_oriented(path)
    upright = blocks(STORED[1])
    np.testing.assert_allclose(image[:, :, 1].astype(int), upright, atol=4)
    assert turned_by == orientation
    assert images.size(path) == upright.shape


EXIF = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6
XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(("kind", "data", "expected"), [
    (b"eXIf", EXIF, 6), (b"iTXt", XMP, 6), (b"tEXt", b"Title\0a", 1), (b"tIME", bytes(7), 1),
])  # fmt: skip
@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_metadata_of_a_png_before_and_behind_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, data: bytes, expected: int, follows: bool, mode: str
) -> None:
    picture = encoded(Image.fromarray(RGB).convert(mode), "PNG")
    place = picture.index(b"IEND" if follows else b"IDAT") - 4
    path = tmp_path / "a.png"
    path.write_bytes(picture[:place] + chunk(kind, data) + picture[place:])
    decoded = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image) or load(image))  # type: ignore[func-returns-value]
    found = encoding(path)
    assert (images.size(path), found and found.orientation) == ((3, 2) if expected == 1 else (2, 3), expected)
    assert bool(decoded) == (follows and kind != b"tIME"), "only metadata behind the pixels needs them decoded"
    assert images.read_oriented(path)[1] == expected


@pytest.mark.parametrize("suffix", ["bmp", "jpg", "png", "ppm", "tif"])
def test_a_truncated_image_is_refused_whatever_other_programs_ask_of_pillow(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as some annotation tools do
    with Image.open(path) as image:
        image.load()
    with pytest.raises(FastSCNNError, match="truncated or broken"):
        images.read(path)
    path.write_bytes(whole)
    with decoding.opened(path) as first, decoding.opened(path) as second:
        first.load()
        second.load()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_size_of_a_truncated_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG")[:-30])
    with pytest.raises(FastSCNNError, match="is truncated or broken"):
        images.size(path)
    assert encoding(path) is None


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_meaningless_orientation_is_upright(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG", exif=exif))
    image, orientation = images.read_oriented(path)
    assert orientation == 1
    np.testing.assert_array_equal(image, RGB)


def test_broken_exif_beside_the_orientation_is_no_obstacle(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0115] = 3, 1
    data = encoded(Image.fromarray(blocks(STORED[3])), "JPEG", exif=exif)
    whole, broken = b"\x01\x15\x00\x03\x00\x00\x00\x01", b"\x01\x15\x00\x0b\x00\x00\x00\x01"  # a float in place of an integer
    assert data.count(whole) == 1
    path = tmp_path / "a.jpg"
    path.write_bytes(data.replace(whole, broken))
    with Image.open(path) as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)  # why images turns the pixels itself
    np.testing.assert_allclose(images.read(path)[:, :, 0].astype(int), blocks(STORED[1]), atol=4)


def noise(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    return encoded(Image.fromarray(pixels), kind)


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: a small file that takes a long time."""
    data = encoded(Image.fromarray(GREYS), "JPEG", progressive=True)
    first = data.rindex(b"\xff\xda")
    return data[:first] + data[first:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_video_behind_a_photograph_has_no_scans(options: dict[str, bool]) -> None:
    """As in the motion photos of phones."""
    data = encoded(Image.fromarray(GREYS), "JPEG", **options)
    np.testing.assert_array_equal(images.read(data + b"\xff\xda\0\2" * 200), images.read(data))


def test_scans_are_counted_behind_a_thumbnail() -> None:
    thumbnail = encoded(Image.fromarray(GREYS), "JPEG")
    data = scans(20)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert jpeg.scans(data[:2] + segment + data[2:]) == jpeg.scans(data) == 20
    assert jpeg.scans(thumbnail) == 1


def test_scans_are_counted_behind_markers_that_libjpeg_skips() -> None:
    """Where it expects the next restart marker, it skips one below 0xc0, and goes on with the scans behind it."""
    data = encoded(Image.new("L", (64, 64), 90), "JPEG", progressive=True, restart_marker_rows=1)
    first, second = data.index(b"\xff\xda"), data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    bare = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0\0"  # the highest 63 coefficients, without a bit
    hostile = data[: first + 10] + b"\0\xff\x02\x40\0" + data[data.index(b"\xff\xc4", first) : second] + bare * 101
    Image.open(io.BytesIO(hostile + b"\xff\xd9")).load()
    with pytest.raises(FastSCNNError, match="has 102 scans, over the limit of 100"):
        images.read(hostile + b"\xff\xd9")


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.jpg": (lambda: noise("JPEG")[:-1000], "truncated or broken"),
    "cut.png": (lambda: noise("PNG")[:-2000], "truncated or broken"),
    "cut.webp": (lambda: noise("WEBP")[:-2000], "is not an image|truncated or broken"),
    "cut.tif": (lambda: noise("TIFF")[:-2000], "truncated or broken"),
    "header-only.png": (lambda: noise("PNG")[:40], "truncated or broken|is not an image"),
    "text.jpg": (lambda: b"this is no picture", "is not an image that can be read"),
    "empty.png": (lambda: b"", "is not an image that can be read"),
    "drawing.eps": (lambda: encoded(Image.fromarray(RGB), "EPS"), "is not an image that can be read"),
    "icon.png": (lambda: encoded(Image.fromarray(RGB), "ICO"), "is not an image that can be read"),
    "targa.png": (lambda: encoded(Image.fromarray(RGB), "TGA"), "is not an image that can be read"),
    "pam.pam": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 2\nTUPLTYPE GRAYSCALE\nENDHDR\n\2", "is not an image that"),
    "cut.avif": (lambda: noise("AVIF")[:-1000], "truncated or broken|is not an image"),
    "cut.jp2": (lambda: noise("JPEG2000")[:-2000], "truncated or broken|is a JPEG 2000 file"),
    "scans.jpg": (lambda: scans(101), "has 101 scans, over the limit of 100 for a JPEG"),
    "41-megapixels.png": (lambda: png(41_000, 1000, 8, 2), r"is 1000x41000 \(HxW\), over the limit of 40 megapixels"),
    "100-megapixels.png": (lambda: png(10_000, 10_000, 8, 2), r"is 10000x10000 \(HxW\), over the limit"),
    "gigapixels.png": (lambda: png(60_000, 60_000, 16, 6), r"is 60000x60000 \(HxW\), over the limit"),
}


def tiled(side: int) -> bytes:
    """A TIFF of 64x64 pixels in one tile that is larger; the pixels of very large tiles are left out."""
    pixels = zlib.compress(bytes(min(side, 80) ** 2))
    numbers = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 134, 325: len(pixels)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in numbers.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(numbers)) + tags + bytes(4) + pixels


def metadata(kind: bytes, head: bytes) -> bytes:
    """A PNG with 2 MB of metadata that are packed."""
    data, content = encoded(Image.fromarray(RGB), "PNG"), kind + head + zlib.compress(bytes(2_000_000))
    return data[:33] + struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)) + data[33:]


BROKEN |= {
    "tile.tif": (lambda: tiled(20_000), r"has tiles of 20000x20000 \(HxW\), over the limit of 40 megapixels; save it without"),
    "text.png": (lambda: metadata(b"zTXt", b"a\0\0"), "has metadata or a colour profile of over 1 MB; save it without"),
    "profile.png": (lambda: metadata(b"iCCP", b"a\0\0"), "has metadata or a colour profile of over 1 MB; save it without"),
}


def test_a_tile_may_be_larger_than_its_image() -> None:
    assert images.read(tiled(80)).shape == (64, 64, 3)


@pytest.mark.parametrize("read", [images.read, images.read_values, images.read_colours])
@pytest.mark.parametrize("name", BROKEN)
def test_refused(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    make, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(FastSCNNError, match=message) as caught:
        read(path)
    assert name in str(caught.value)


@pytest.mark.reliability("modes")
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(encoded(Image.fromarray(GREY.astype(dtype)), "TIFF"))
    with pytest.raises(FastSCNNError, match=r"a\.tif: has 32 bits per pixel"):
        images.read(path)


@pytest.mark.parametrize("name", [name for name in BROKEN if "pixels" in name])
def test_large_images_are_refused_by_their_header(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name][0]())
    Image.init()  # Pillow imports its formats when the first file is opened
    tracemalloc.start()
    with pytest.raises(FastSCNNError):
        images.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"a\.png: no such file"):
        images.read(tmp_path / "a.png")
    with pytest.raises(FastSCNNError, match="is a folder, not an image"):
        images.read(tmp_path)


IDS = np.array([[0, 1], [2, 3]], np.uint8)
READ_VALUES: dict[str, tuple[Callable[[], bytes], Any]] = {
    "grey": (lambda: encoded(Image.fromarray(GREY), "PNG"), GREY),
    "palette": (palette, np.arange(6).reshape(3, 2)),
    "palette-clear": (lambda: palette(3), np.arange(6).reshape(3, 2)),
    "16-bit": (lambda: opencv(GREY.astype(np.uint16)), GREY),
    "32-bit": (lambda: encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), GREY),
    "1-bit": (lambda: png(2, 2, 1, 0, b"\x40\x80"), [[0, 1], [1, 0]]),
    "2-bit": (lambda: png(2, 2, 2, 0, b"\x10\xb0"), IDS),
    "4-bit": (lambda: png(2, 2, 4, 0, b"\x01\x23"), IDS),
    "4-bit palette": (lambda: encoded(Image.fromarray(IDS).convert("P"), "PNG", bits=4), IDS),
    "colours": (lambda: encoded(Image.fromarray(RGB), "PNG"), "is a colour image \\(RGB\\), but class ids"),
    "grey-alpha": (lambda: encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), "has transparent parts"),
    "over 255": (lambda: opencv(GREY.astype(np.uint16) + 45), GREY.astype(np.uint16) + 45),
    "negative": (lambda: encoded(Image.fromarray(np.array([[3, -7]], np.int32)), "TIFF"), [[3, -7]]),
}


@pytest.mark.reliability("modes")
@pytest.mark.parametrize("name", READ_VALUES)
def test_read_values(tmp_path: Path, name: str) -> None:
    make, expected = READ_VALUES[name]
    path = tmp_path / "labels"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(FastSCNNError, match=expected):
            images.read_values(path)
    else:
        ids, _ = images.read_values(path)
        assert (ids.dtype == np.uint8) == (name not in ("16-bit", "32-bit", "over 255", "negative"))
        np.testing.assert_array_equal(ids, expected)


WIDE = np.array([[7, 24_001], [33_999, 65_535]], np.uint16)
READ_WIDE_IDS: dict[str, tuple[Callable[[], bytes], Any]] = {
    "16-bit": (lambda: opencv(WIDE), WIDE),
    "16-bit, by Pillow": (lambda: encoded(Image.fromarray(WIDE), "PNG"), WIDE),
    "16-bit TIFF": (lambda: encoded(Image.fromarray(WIDE), "TIFF"), WIDE),
    "32-bit": (lambda: encoded(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), WIDE),
    "8-bit": (lambda: encoded(Image.fromarray(GREY), "PNG"), "has the mode L, but one channel of 16 bits is expected"),
    "1-bit": (lambda: png(2, 2, 1, 0, b"\x40\x80"), "has the mode 1, but"),
    "palette": (palette, "has the mode P, but"),
    "colours": (lambda: encoded(Image.fromarray(RGB), "PNG"), "has the mode RGB, but"),
    "16-bit colours": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16)), "has the mode RGB, but"),
    "floats": (lambda: encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "has the mode F, but"),
    "negative": (lambda: encoded(Image.fromarray(np.array([[3, -7]], np.int32)), "TIFF"), "holds ids from -7 to 3"),
    "too large": (lambda: encoded(Image.fromarray(np.array([[3, 65_536]], np.int32)), "TIFF"), "holds ids from 3 to 65536"),
    "truncated": (lambda: opencv(np.arange(4096, dtype=np.uint16).reshape(64, 64))[:-99], "is truncated or broken"),
}


@pytest.mark.reliability("modes")
@pytest.mark.parametrize("name", READ_WIDE_IDS)
def test_read_wide_ids(tmp_path: Path, name: str) -> None:
    make, expected = READ_WIDE_IDS[name]
    path = tmp_path / "instances"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(FastSCNNError, match=f"{path}: {expected}"):
            images.read_wide_ids(path)
    else:
        ids = images.read_wide_ids(path)
        assert ids.dtype == np.uint16
        np.testing.assert_array_equal(ids, expected)


READ_COLOURS: dict[str, tuple[Callable[[], bytes], Any]] = {
    "rgb": (lambda: encoded(Image.fromarray(RGB), "PNG"), RGB),
    "rgba": (lambda: encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"), RGB),
    "palette": (palette, RGB),
    "palette-clear": (lambda: palette(b"\0\1\2\3\4\5"), RGB),
    "grey": (lambda: encoded(Image.fromarray(GREY), "PNG"), GREYS),
    "grey16": (lambda: opencv(GREY.astype(np.uint16)), GREYS),
    "grey16 times 257": (lambda: opencv(GREY.astype(np.uint16) * 257), GREYS),
    "rgb16": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16)), RGB),
    "rgb16 times 256": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16) * 256), RGB),
    "rgb16 times 257": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16) * 257), RGB),
    "rgba16 times 257": (lambda: opencv(np.dstack([RGB[:, :, ::-1], ALPHA]).astype(np.uint16) * 257), RGB),
    "rgb16 of 10 bits": (lambda: opencv(RGB[:, :, ::-1].astype(np.uint16) * 3), "has colours of more than 8 bits per channel"),
    "cmyk": (lambda: encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "has the mode CMYK"),
}


@pytest.mark.reliability("modes")
@pytest.mark.parametrize("name", READ_COLOURS)
def test_read_colours(tmp_path: Path, name: str) -> None:
    make, expected = READ_COLOURS[name]
    path = tmp_path / "labels"
    path.write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(FastSCNNError, match=expected):
            images.read_colours(path)
    else:
        np.testing.assert_array_equal(images.read_colours(path), expected)


def test_write_and_read_again(tmp_path: Path) -> None:
    for pixels, expected in ((RGB, RGB), (GREY, GREYS)):
        images.write(tmp_path / "a.png", pixels)
        np.testing.assert_array_equal(images.read(tmp_path / "a.png"), expected)
    smooth = np.dstack([np.full((32, 32), value, np.uint8) for value in (200, 40, 90)])
    images.write(tmp_path / "a.jpg", smooth)
    np.testing.assert_allclose(images.read(tmp_path / "a.jpg").astype(int), smooth, atol=3)
    detail = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images.write(tmp_path / "fine.jpg", detail, quality=95)
    images.write(tmp_path / "coarse.jpg", detail, quality=30)
    assert (tmp_path / "coarse.jpg").stat().st_size < 0.6 * (tmp_path / "fine.jpg").stat().st_size


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif.txt"])
def test_write_refuses_other_suffixes(tmp_path: Path, name: str) -> None:
    with pytest.raises(FastSCNNError, match=r"written as \.png or \.jpg"):
        images.write(tmp_path / name, RGB)
    assert not list(tmp_path.iterdir())


def test_resize() -> None:
    flat = np.array([[[0, 100, 200], [100, 200, 0]]], np.uint8)  # 1x2
    assert images.resize(flat, (1, 2)) is flat
    assert images.resize(np.array([[0, 100, 200, 40]], np.uint8), (1, 1)).tolist() == [[85]], "areas are averaged"
    assert images.resize(flat, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100], "bilinear, half-pixel centres"
    assert images.resize(GREY, (6, 5)).shape == (6, 5)


@pytest.mark.parametrize("error", [OSError, SyntaxError, ValueError, EOFError, struct.error])
def test_what_decoders_raise_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail(*_: object) -> None:
        raise error("bad code word")

    images.write(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(FastSCNNError, match=r"a\.png: is truncated or broken \(bad code word\)"):
        images.read(tmp_path / "a.png")


def test_reads_in_threads_leave_the_warning_filters_alone(tmp_path: Path) -> None:
    for name, (make, _) in {"a.png": READ["palette-all-clear.png"], "big.png": BROKEN["100-megapixels.png"]}.items():
        (tmp_path / name).write_bytes(make())
    before = list(warnings.filters)

    def look(number: int) -> None:
        with contextlib.suppress(FastSCNNError):
            images.read(tmp_path / ("big.png" if number % 2 else "a.png"))
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning, match="still raised"):
            warnings.warn("still raised", stacklevel=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(200)))
    assert list(warnings.filters) == before


def test_large_images_give_no_warning(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BROKEN["100-megapixels.png"][0]())
    code = "import sys; from fastscnn.media import images; images.read(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=False)
    assert "Warning" not in done.stderr
    assert "over the limit of 40 megapixels" in done.stderr


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "buffer": lambda path: io.BytesIO(path.read_bytes()),
    "PIL": lambda path: Image.open(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", READ)
def test_every_source_is_read_alike(tmp_path: Path, kind: str, name: str) -> None:
    make, expected = READ[name]
    path = tmp_path / name
    path.write_bytes(make())
    np.testing.assert_array_equal(images.read(SOURCES[kind](path)), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(images.read(file), expected)
        assert not file.closed


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("loaded", [False, True])
def test_pil_images_stand_upright_and_stay_open(kind: str, loaded: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(Image.fromarray(blocks(STORED[6])).convert("RGB"), kind, exif=exif)))
    if loaded:
        image.load()
    for _ in range(2):
        np.testing.assert_allclose(images.read(image)[:, :, 1].astype(int), blocks(STORED[1]), atol=4)
    transposed = ImageOps.exif_transpose(image)
    np.testing.assert_allclose(images.read(transposed)[:, :, 1].astype(int), blocks(STORED[1]), atol=4)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("F", "the image: has 32 bits per pixel"), ("I", "the image: has 32 bits per pixel")],
)
def test_pil_images_of_refused_kinds(mode: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        images.read(Image.new(mode, (40, 40)))


def test_large_pil_images_are_refused() -> None:
    with pytest.raises(FastSCNNError, match=r"the image: is 1000x41000 \(HxW\), over the limit"):
        images.read(Image.new("1", (41_000, 1000)))


@pytest.mark.parametrize("given", [None, 3, 1.5, [], {}, object(), np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_source(given: Any) -> None:
    with pytest.raises(ArgumentError, match=f"a path, bytes, a binary file object or a PIL image, not {type(given).__name__}"):
        images.read(given)


def test_odd_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(READ["rgb.png"][0]())
    with (tmp_path / "a.png").open(encoding="latin-1") as file, pytest.raises(ArgumentError, match=r"a\.png: gives text, not"):
        images.read(file)  # type: ignore[arg-type]
    with pytest.raises(FastSCNNError, match=r"^https://x\.org/a\.jpg: no such file\. Addresses are not fetched"):
        images.read("https://x.org/a.jpg")
    with pytest.raises(FastSCNNError, match=r"cannot be read .*null (byte|character)"):
        images.read("a\0.png")
    with pytest.raises(FastSCNNError, match=r"^the image: is not an image that can be read"):
        images.read(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(images.read("~/a.png"), RGB)


def test_media(media_root: Path) -> None:
    image = images.read(media_root / "arterial.png")
    assert image.shape == (874, 1164, 3)
    assert images.read(media_root / "highway-2.jpg").shape == (720, 1280, 3)


def test_resize_keeps_an_axis_of_one_channel() -> None:
    assert images.resize(np.zeros((40, 50, 1), np.uint8), (64, 32)).shape == (64, 32, 1)


def test_what_opencv_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="size: 1000000x1000000 is over the limit of 40 megapixels"):
        images.resize(np.zeros((40, 50, 3), np.uint8), (1_000_000, 1_000_000))
    with pytest.raises(FastSCNNError, match=r"wide\.jpg: a JPEG has at most 65500 pixels a side"):
        images.write(tmp_path / "wide.jpg", np.zeros((1, 65_501), np.uint8))
    images.write(tmp_path / "wide.png", np.zeros((1, 65_501), np.uint8))
    assert images.read_values(tmp_path / "wide.png")[0].shape == (1, 65_501)


CHANNELS: dict[str, tuple[Callable[[], bytes], np.ndarray[Any, Any] | str]] = {
    "grey": (lambda: encoded(Image.fromarray(GREY), "PNG"), GREY),
    "grey in colours": (lambda: encoded(Image.fromarray(GREYS), "PNG"), GREY),
    "grey in colours, JPEG": (lambda: encoded(Image.fromarray(GREYS // 200 * 200), "JPEG", quality=100), GREY // 200 * 200),
    "grey in a palette": (lambda: encoded(Image.fromarray(GREYS).quantize(6), "PNG"), GREY),
    "alpha": (lambda: encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), GREY),
    "bilevel": (lambda: encoded(Image.fromarray(GREY).point(lambda grey: 255 * (grey > 99), "1"), "PNG"), (GREY > 99) * 255),
    "colours": (lambda: encoded(Image.fromarray(RGB), "PNG"), "is a colour image, but one channel is expected; save the"),
    "a tinge": (lambda: encoded(Image.fromarray(GREYS + np.array([0, 0, 1], np.uint8)), "PNG"), "is a colour image"),
    "a palette": (palette, "is a colour image"),
    "16 bits of grey in colours": (lambda: opencv(GREYS.astype(np.uint16) * 100), "has 16 bits in each of several channels"),
    "32 bits": (lambda: encoded(Image.fromarray(np.zeros((3, 2), np.float32)), "TIFF"), "has 32 bits per pixel"),
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_grey_channels(tmp_path: Path, kind: str) -> None:
    write, expected = CHANNELS[kind]
    path = tmp_path / "a.png"
    path.write_bytes(write())
    if isinstance(expected, str):
        with pytest.raises(FastSCNNError, match=f"a.png: {expected}"):
            images.read_grey(path)
    else:
        np.testing.assert_array_equal(images.read_grey(path), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", STORED)
def test_grey_channels_stand_upright(tmp_path: Path, kind: str, bits: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = blocks(STORED[orientation]).astype(f"uint{bits}") + 1
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.fromarray(stored), kind, exif=exif))
    upright = blocks(STORED[1]).astype(int) + 1
    if bits == 16:  # from the 1st to the 99th percentile, which many pixels of one value are
        upright = np.rint(1 + 254 * (upright - upright.min()) / (upright.max() - upright.min())).astype(int)
    np.testing.assert_array_equal(images.read_grey(path), upright)


def test_stacked_channels(tmp_path: Path) -> None:
    for name, grey in (("a.png", GREY), ("b.png", 255 - GREY), ("tall.png", GREY.T)):
        Image.fromarray(grey).save(tmp_path / name)
    stacked = images.stack(RGB, "rgb.png", [tmp_path / "a.png", tmp_path / "b.png"])
    np.testing.assert_array_equal(stacked, np.dstack([RGB, GREY, 255 - GREY]))
    assert images.stack(RGB, "rgb.png", []) is RGB
    with pytest.raises(FastSCNNError, match=r"tall\.png: is 2x3 \(HxW\) but its image rgb\.png is 3x2, both upright"):
        images.stack(RGB, "rgb.png", [tmp_path / "a.png", tmp_path / "tall.png"])


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_widened(channels: int) -> None:
    wide = images.widened(RGB, channels)
    assert wide.shape == (3, 2, channels)
    assert wide.dtype == np.uint8
    assert wide.flags.c_contiguous
    np.testing.assert_array_equal(wide[:, :, :3], RGB[:, :, :channels])
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert all(np.abs(wide[:, :, channel] - luma).max() <= 1 for channel in range(3, channels))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, 30_000, 30_000], [0, 1, 1]),
        ([0, 20_000, 20_100], [0, 1, 255]),
        ([65_535] * 99 + [0, 1_000], [255] * 99 + [0, 1]),
        ([65_535, *range(20_000, 30_000), 1], None),
    ],
)
def test_grey_channels_of_16_bits(tmp_path: Path, values: list[int], expected: list[int] | None) -> None:
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "a.png")
    grey = images.read_grey(tmp_path / "a.png")[0]
    assert grey.dtype == np.uint8
    if expected is None:  # one outlier on either side does not flatten the rest
        assert (grey[0], grey[-1]) == (255, 1)
        assert (np.diff(grey[1:-1].astype(int)) >= 0).all()
        assert len(np.unique(grey)) == 255
    else:
        assert grey.tolist() == expected


def test_drawn_polygons_lie_over_each_other() -> None:
    canvas = Canvas((3, 4))
    canvas.polygon([(0, 0), (2, 0), (2, 1), (0, 1)], 7)
    canvas.polygon([(1, -5), (1, 50)], 255)
    drawn = canvas.labels()
    assert drawn.dtype == np.uint8
    assert drawn.tolist() == [[7, 255, 7, 0], [7, 255, 7, 0], [0, 255, 0, 0]]
    assert Canvas((1, 2), 3).labels().tolist() == [[3, 3]]


EXACT = {"BMP": ".bmp", "DIB": ".dib", "JPEG2000": ".jp2", "PCX": ".pcx", "PNG": ".apng", "PPM": ".pnm", "QOI": ".qoi",
         "SGI": ".sgi", "TGA": ".tga", "TIFF": ".tif"}


@pytest.mark.parametrize("kind", [*EXACT, "AVIF", "GIF", "JPEG"])
def test_formats_of_photographs(tmp_path: Path, kind: str) -> None:
    suffix = EXACT.get(kind, {"AVIF": ".avif", "GIF": ".gif", "JPEG": ".jfif"}.get(kind, ""))
    assert suffix in images.SUFFIXES
    image = np.full((16, 24, 3), (200, 100, 0), np.uint8)
    image[4:, 8:] = (0, 40, 220)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(Image.fromarray(image), kind))
    difference = np.abs(images.read(path).astype(int) - image)
    assert difference.mean() < 12 if kind not in EXACT else not difference.any()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["AVIF", "DIB", "GIF", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8))
    data = np.frombuffer(encoded(image, kind), np.uint8).copy()
    data[random.integers(0, min(60, len(data)), 2)] = random.integers(0, 256, 2)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(data[: random.integers(1, len(data))].tobytes())
    with contextlib.suppress(FastSCNNError):
        images.read(path)


def pgm(values: Any, maxval: int, plain: bool = False) -> bytes:
    stored = np.asarray(values)
    head = f"P{2 if plain else 5}\n# a comment\n{stored.shape[1]} {stored.shape[0]}\n{maxval}\n".encode()
    if plain:
        return head + b"\n".join(b" ".join(str(value).encode() for value in row) for row in stored.tolist()) + b"\n"
    return head + stored.astype(">u2" if maxval > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("maxval", [1, 2, 3, 11, 18, 100, 200, 254, 255, 256, 1000, 65534, 65535])
def test_ids_in_pgm_files_are_as_stored(tmp_path: Path, maxval: int, plain: bool) -> None:
    values = np.arange(min(maxval, 255) + 1)[None].repeat(2, axis=0)
    path = tmp_path / "a.pgm"
    path.write_bytes(pgm(values, maxval, plain))
    np.testing.assert_array_equal(images.read_values(path)[0], values)


@pytest.mark.parametrize(("data", "message"), [
    (pgm([[0, 3]], 2), "holds the value 3, but its header says that 2 is the largest"),
    (pgm([[0, 3]], 2, plain=True), "truncated or broken"),
    (pgm([[0, 2], [1, 1]], 2)[:-1], "truncated or broken"),
    (b"P4 8 1\n\x0f", "is a PBM file, in which 1 is black"),
    (b"P1 2 1\n0 1\n", "is a PBM file, in which 1 is black"),
])
def test_netpbm_files_that_are_no_ids(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(data)
    with pytest.raises(FastSCNNError, match=message):
        images.read_values(path)[0]


def test_jpeg_2000_holds_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    path.write_bytes(encoded(Image.fromarray(IDS), "JPEG2000"))
    with pytest.raises(FastSCNNError, match="is a JPEG 2000 file, in which ids may be changed"):
        images.read_values(path)[0]


@pytest.mark.parametrize("maxval", [65535, 4095])
def test_grey_netpbm_of_16_bits_is_read_by_its_high_byte(tmp_path: Path, maxval: int) -> None:
    path = tmp_path / "a.ppm"
    values = np.linspace(0, maxval, 12).astype(int).reshape(3, 4)
    path.write_bytes(pgm(values, maxval))
    expected = np.rint(values / maxval * 65535).astype(int) >> 8
    np.testing.assert_array_equal(images.read(path), np.repeat(expected[:, :, None], 3, axis=2))


def test_pipes_and_huge_files_are_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.png")
    with pytest.raises(FastSCNNError, match=r"f\.png: is a pipe or a device, not a file"):
        images.read(tmp_path / "f.png")
    with pytest.raises(FastSCNNError, match="/dev/null: is a pipe or a device"):
        images.read("/dev/null")
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(FastSCNNError, match=r"a\.png: has 21\.5 GB, over the limit of 0\.64 GB for an image"):
        images.read(tmp_path / "a.png")
