"""How files are stored, for files that Pillow writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from fastscnn.media.encoding import encoding, is_image, lossy

PIXELS = np.random.default_rng(0).integers(0, 9, (40, 48), np.uint8)
ALPHA = np.dstack([PIXELS, PIXELS, PIXELS, np.random.default_rng(1).integers(0, 255, PIXELS.shape, np.uint8)])
FRAMES = [Image.fromarray(np.dstack([PIXELS + seed] * 3)) for seed in range(3)]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("PNG", {}, ""),
        ("BMP", {}, ""),
        ("GIF", {}, ""),
        ("PPM", {}, ""),
        ("TIFF", {}, ""),
        ("TIFF", {"compression": "tiff_lzw"}, ""),
        ("TIFF", {"compression": "jpeg"}, "JPEG"),
        ("JPEG", {}, "JPEG"),
        ("MPO", {}, "JPEG"),
        ("WEBP", {"lossless": True}, ""),
        ("WEBP", {"lossless": False}, "lossy WebP"),
        ("JPEG2000", {"irreversible": False}, ""),
        ("JPEG2000", {"irreversible": True}, "lossy JPEG 2000"),
        ("JPEG2000", {"irreversible": True, "no_jp2": True}, "lossy JPEG 2000"),
    ],
)
def test_lossy_formats_are_told_by_content(tmp_path: Path, kind: str, options: dict[str, Any], expected: str) -> None:
    path = tmp_path / "labels.png"
    Image.fromarray(PIXELS).save(path, kind, **options)
    assert is_image(path)
    found = encoding(path)
    assert found
    assert (found.lossy, found.orientation) == (expected, 1)
    assert lossy(path) == expected


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("more", [{"exif": b"Exif\0\0II*\0\x08" + bytes(9)}, {"save_all": True, "append_images": FRAMES}])
def test_webp_with_further_chunks(tmp_path: Path, lossless: bool, more: dict[str, Any]) -> None:
    path = tmp_path / "labels.webp"
    Image.fromarray(ALPHA).save(path, lossless=lossless, **more)
    assert b"VP8X" in path.read_bytes()
    found = encoding(path)
    assert found
    assert found.lossy == ("" if lossless else "lossy WebP")


def test_orientation_and_palette(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    image = Image.fromarray(PIXELS)
    image.putpalette([7, 8, 9] * 9)
    image.save(tmp_path / "a.png", exif=tags)
    found = encoding(tmp_path / "a.png")
    assert found
    assert found.orientation == 6
    assert found.palette is not None
    np.testing.assert_array_equal(found.palette[:9], [[7, 8, 9]] * 9)


@pytest.mark.parametrize(
    "content", [b"", b"BMW, Audi", b"P2P", b'{"a": 1}', b"RIFF1234WAVE", b"\0\0\0\x18ftypmp42", b"\x93NUMPY"]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert not is_image(tmp_path / "a.png")
    assert encoding(tmp_path / "a.png") is None
    assert encoding(tmp_path / "missing.png") is None
    assert encoding(tmp_path) is None


def test_no_image_is_not_lossy(tmp_path: Path) -> None:
    assert lossy(tmp_path / "none.jpg") == ""
    (tmp_path / "text.jpg").write_text("no image")
    assert lossy(tmp_path / "text.jpg") == ""


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    assert is_image(tmp_path / "a")
    assert encoding(tmp_path / "a") is None


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.avif")
    assert is_image(tmp_path / "a.avif")
