"""Small files that claim to be large, or become large: what is read or refused, in little time and memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from PIL import Image
from promises import Some, peak_memory, refusal

from fastscnn import backends
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.media import images
from fastscnn.model import card

SECONDS, MEBIBYTES = 10, 640  # an image of 40 megapixels takes up to 14 bytes per pixel
LARGEST = 8 << 20  # bytes of a file
CLAIMS = ((1000, 41_000), (10_000, 10_000), (65_535, 65_535))  # height, width: all over 40 megapixels
Bomb = tuple[str, bytes, Callable[[Path], object]]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(height: int, width: int, bits: int, kind: int, interlaced: int = 0, pixels: bytes = b"", more: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    palette = chunk(b"PLTE", bytes(3)) if kind == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + header + palette + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def headers(height: int, width: int) -> Iterator[tuple[str, bytes]]:
    """Files of this size by their headers, without pixels."""
    yield "rgb.png", png(height, width, 8, 2)
    yield "rgba16.png", png(height, width, 16, 6)
    yield "palette1.png", png(height, width, 1, 3, interlaced=1)
    yield "a.ppm", b"P6 %d %d 255\n" % (width, height)
    yield "a.pgm", b"P5 %d %d 65535\n" % (width, height)
    yield "a.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "a.gif", b"GIF89a" + struct.pack("<HHBBBBHHHHBB", width, height, 0, 0, 0, 44, 0, 0, width, height, 0, 2)
    yield "a.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 24, 0)
    yield "a.qoi", b"qoif" + struct.pack(">IIBB", width, height, 4, 0)
    yield "a.ras", struct.pack(">IIIIIIII", 0x59A66A95, width, height, 24, 0, 1, 0, 0)
    jpeg = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", height, width)
    yield "a.jpg", bytes(jpeg)
    yield "a.sgi", struct.pack(">HBBHHHH", 474, 0, 1, 3, width, height, 3) + bytes(500)
    codestream = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", codestream, codestream.index(b"\xff\x51") + 6, width, height)
    yield "a.j2k", bytes(codestream)
    tiff = bytearray(saved(Image.new("RGB", (16, 16)), "TIFF"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    struct.pack_into("<HHIIHHII", tiff, directory + 2, 256, 4, 1, width, 257, 4, 1, height)
    yield "a.tif", bytes(tiff)


def whole(height: int, width: int) -> Iterator[tuple[str, bytes]]:
    """Files of one colour, of a size that is read: little data becomes much."""
    kinds = {"grey": (8, 0, 1), "rgb": (8, 2, 3), "rgba": (8, 6, 4), "rgb16": (16, 2, 6), "palette": (8, 3, 1),
             "bits": (1, 0, 1 / 8)}
    for name, (bits, kind, size) in kinds.items():  # size: bytes of a pixel
        yield f"{name}.png", png(height, width, bits, kind, pixels=bytes(height * (1 + int(width * size))))
    image = Image.new("L", (width, height))
    yield "a.webp", saved(Image.new("RGB", (16_000, height * width // 16_000)), "WEBP", lossless=True, quality=0, method=0)
    yield "deflate.tif", saved(image, "TIFF", compression="tiff_adobe_deflate")
    yield "a.gif", saved(image, "GIF")
    yield "a.jpg", saved(image, "JPEG", quality=1)


def metadata() -> Iterator[tuple[str, bytes]]:
    """Small pictures with much beside them."""
    packed = zlib.compress(bytes(200 << 20), 9)
    small = {"pixels": bytes(64 * 97), "height": 64, "width": 96, "bits": 8, "kind": 0}
    yield "ztxt.png", png(**small, more=chunk(b"zTXt", b"a\0\0" + packed))  # type: ignore[arg-type]
    yield "itxt.png", png(**small, more=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed))  # type: ignore[arg-type]
    yield "iccp.png", png(**small, more=chunk(b"iCCP", b"a\0\0" + packed))  # type: ignore[arg-type]
    yield "texts.png", png(**small, more=chunk(b"tEXt", b"a\0b") * 100_000)  # type: ignore[arg-type]
    frames = [Image.new("P", (96, 64), number % 2) for number in range(3000)]
    yield "frames.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "frames.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    scan = saved(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    start = scan.rindex(b"\xff\xda")
    yield "scans.jpg", scan[:start] + scan[start:-2] * 500 + b"\xff\xd9"
    tiff = bytearray(saved(Image.new("L", (96, 64)), "TIFF"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (tags,) = struct.unpack_from("<H", tiff, directory)
    struct.pack_into("<I", tiff, directory + 2 + 12 * tags, directory)  # the next page is this one
    yield "loop.tif", bytes(tiff)
    struct.pack_into("<HHI", tiff, directory + 2, 256, 12, 0x0FFFFFFF)  # a width of 268 million doubles
    yield "tag.tif", bytes(tiff)


DATASET = 'name = "d"\nclasses = ["a", "b"]\n{more}\n[splits.train]\nimages = "images/*.png"\nlabels = "{labels}"\n'


def labels(name: str, kind: str, data: bytes) -> Bomb:
    """A file of labels, read as that of an image."""

    def read(path: Path) -> object:
        images.write(path.parent / "images/a.png", np.zeros((64, 96, 3), np.uint8))
        pattern = name.replace("a.", "{stem}.")
        path.with_name("dataset.toml").write_text(DATASET.format(more=f'labels_are = "{kind}"', labels=pattern))
        spec = datasets.load(path.with_name("dataset.toml"))
        check(spec, cache=path.parent / "cache")
        return spec.read(spec.pairs("train")[0])

    return name, data, read


def label_files() -> Iterator[Bomb]:
    """Label files whose parts name, nest or unpack to far more."""
    array = io.BytesIO()
    np.save(array, np.zeros((2, 2), np.uint8))
    yield labels("a.npy", "ids", array.getvalue().replace(b"(2, 2), }", b"(2000000, 2000000), }"))
    picture = {"id": 1, "file_name": "a.png", "height": 64, "width": 96}
    shape = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}

    def coco(segmentation: object, size: int = 96) -> bytes:
        table = {"images": [{**picture, "width": size}], "categories": [{"id": 1, "name": "a"}],
                 "annotations": [{**shape, "segmentation": segmentation}]}
        return json.dumps(table).encode()

    yield labels("coco.json", "coco", coco({"size": [64, 96], "counts": [10**12, 10**12]}))
    yield labels("coco.json", "coco", coco({"size": [10**9, 10**9], "counts": [0, 10**18]}))
    yield labels("coco.json", "coco", coco([[0, 0, 1e308, 0, 1e308, 1e308]], 10**9))
    yield labels("coco.json", "coco", coco([[value % 97 for value in range(400_000)]]))
    yield labels("a.json", "labelme", b"[" * 4_000_000)
    yield labels("a.json", "labelme", b'{"shapes": [' + b"9" * 4_000_000 + b"]}")
    far = {"label": "a", "shape_type": "circle", "points": [[0, 0], [1e9, 1e9]]}
    yield labels("a.json", "labelme", json.dumps({"imageHeight": 64, "imageWidth": 96, "shapes": [far] * 100}).encode())
    yield labels("a.txt", "yolo", b"0 0 0 1e9 0 1e9 1e9\n" * 1000)
    names = "".join(f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10))
    laughs = f'<!DOCTYPE l [<!ENTITY a0 "ha">{names}]><annotations><image name="&a9;"/></annotations>'
    yield labels("cvat.xml", "cvat", laughs.encode())


def tensors(write_onnx: WriteOnnx, folder: Path) -> Iterator[Bomb]:
    """Weight files and checkpoints."""
    from fastscnn.convert import pickles
    from fastscnn.network import checkpoint

    for name, text in (("long.onnx", json.dumps(" " * 3_000_000)), ("deep.onnx", "[" * 1_000_000)):
        data = write_onnx(folder / name, metadata={card.KEY: text}).read_bytes()
        yield name, data, lambda path: backends.load(path, "onnx", threads=1)
    for name, length in (("long", 1 << 60), ("header", 90_000_000), ("zero", 0)):
        yield f"{name}.safetensors", struct.pack("<Q", length) + b"{" + b" " * 1000, checkpoint.load
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    yield "claims.safetensors", struct.pack("<Q", len(header)) + header, checkpoint.load
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    many = json.dumps({f"{number}": empty for number in range(60_000)}).encode()
    yield "many.safetensors", struct.pack("<Q", len(many)) + many, checkpoint.load
    yield "nested.pth", b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"K\x01u.", pickles.read
    yield "memo.pth", b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b".", pickles.read
    yield "doubled.pdparams", b"\x80\x02]q\x00" + b"(h\x00h\x00eq\x00" * 100_000 + b".", pickles.read
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", pickle.dumps({}))
        made.writestr("archive/data/0", bytes(1 << 30))
    yield "archive.pth", archive.getvalue(), pickles.read


def bombs(write_onnx: WriteOnnx, folder: Path) -> Iterator[Bomb]:
    for claim in CLAIMS:
        for name, data in headers(*claim):
            yield f"{claim[0]}x{claim[1]}-{name}", data, images.read
    for name, data in (*whole(6200, 6400), *metadata()):
        yield name, data, images.read
    yield from label_files()
    if find_spec("torch") is not None:
        yield from tensors(write_onnx, folder)


@pytest.mark.slow
@pytest.mark.reliability("bombs")
def test_small_files_stay_small(
    tmp_path: Path, write_onnx: WriteOnnx, some: Some, record_property: Callable[[str, object], None]
) -> None:
    cases, slowest, largest, refused = some(bombs(write_onnx, tmp_path)), 0.0, 0.0, 0
    for number, (name, data, read) in enumerate(cases):
        assert len(data) <= LARGEST, name
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(data)
        start = process_time()
        with peak_memory() as peak:
            message = refusal(read, path)
        seconds, refused = process_time() - start, refused + (message is not None)
        assert seconds < SECONDS, name
        assert peak[0] < MEBIBYTES, name
        slowest, largest = max(slowest, seconds), max(largest, peak[0])
    assert refused > len(cases) // 2
    record_property("refused", refused)
    record_property("slowest, s", round(slowest, 1))
    record_property("most memory, MiB", round(largest))
    record_property("cases", len(cases))
