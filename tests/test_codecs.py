"""JPEG files by libjpeg-turbo and label maps by ISA-L, beside Pillow, which decides about everything unusual."""

from __future__ import annotations

import io
import random
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made.street import street
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.media import images, jpeg, png

FAST_JPEG = pytest.mark.skipif(find_spec("simplejpeg") is None, reason="needs simplejpeg")
SCENE = street(120, 200).image


def saved(pixels: UInt8Array = SCENE, **options: Any) -> bytes:
    """A JPEG file by Pillow."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", **options)
    return content.getvalue()


def by_pillow(data: bytes) -> UInt8Array | None:
    """The pixels of Pillow alone; None where it refuses the file."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError):
        return None


def pillows(data: bytes) -> UInt8Array:
    """The pixels of Pillow alone."""
    pixels = by_pillow(data)
    assert pixels is not None
    return pixels


def used(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each JPEG read from now on, whether libjpeg-turbo decoded it."""
    found: list[bool] = []
    decoded = jpeg.decoded

    def note(image: Image.Image, least: tuple[int, int] | None = None) -> UInt8Array | None:
        pixels = decoded(image, least)
        found.append(pixels is not None)
        return pixels

    monkeypatch.setattr(jpeg, "decoded", note)
    return found


@FAST_JPEG
@pytest.mark.parametrize("options", [
    {}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 5}, {"optimize": True},
    {"restart_marker_rows": 1}, {"keep_rgb": True}, {"icc_profile": bytes(300), "comment": b"a"},
], ids=lambda options: "-".join(options) or "plain")  # fmt: skip
@pytest.mark.parametrize("grey", [False, True])
def test_ordinary_files_have_pillows_pixels(options: dict[str, Any], grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = used(monkeypatch)
    data = saved(SCENE[:, :, 0] if grey else SCENE, **({} if grey and "keep_rgb" in options else options))
    assert np.array_equal(images.read(data), pillows(data))
    assert found == [True]


def test_an_unusual_sampling_is_pillows() -> None:
    """4:4:1, for which simplejpeg has no name."""
    data = bytearray(saved(subsampling=2))
    data[data.index(b"\xff\xc0") + 11] = 0x14
    expected = by_pillow(bytes(data))
    assert expected is not None
    assert np.array_equal(images.read(bytes(data)), expected)
    assert images.read_reduced(bytes(data), lambda _: (1, 1))[1] == SCENE.shape[:2]


@FAST_JPEG
def test_the_size_in_the_header_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libjpeg-turbo takes for the size, and Pillow does not: Pillow decodes the file."""
    found = used(monkeypatch)
    monkeypatch.setattr("simplejpeg.decode_jpeg_header", lambda data: (121, 200, "YCbCr", "420"))
    assert np.array_equal(images.read(saved()), pillows(saved()))
    assert found == [False]


@FAST_JPEG
def test_cmyk_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = used(monkeypatch)
    content = io.BytesIO()
    Image.fromarray(SCENE).convert("CMYK").save(content, "JPEG")
    assert np.array_equal(images.read(content.getvalue()), pillows(content.getvalue()))
    assert found == [False]


def test_an_image_that_is_open_already_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been changed: here, reduced while it is decoded."""
    found = used(monkeypatch)
    with Image.open(io.BytesIO(saved(np.ascontiguousarray(SCENE.repeat(2, 0).repeat(2, 1))))) as image:
        image.draft("RGB", (200, 120))
        assert images.read(image).shape == SCENE.shape
    assert found == []


def test_files_of_8_bits_only() -> None:
    """libjpeg-turbo reads 12 bits since 3.0, and arithmetic coding; Pillow refuses the one, and may read the other."""
    data = bytearray(saved())
    frame = data.index(b"\xff\xc0")
    for place, value in ((4, 12), (1, 0xC9)):  # bits per sample; arithmetic coding
        changed = bytearray(data)
        changed[frame + place] = value
        expected = by_pillow(bytes(changed))
        if expected is None:
            with pytest.raises(FastSCNNError, match=r"is not an image|truncated or broken"):
                images.read(bytes(changed))
        else:
            assert np.array_equal(images.read(bytes(changed)), expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_truncated_at_every_percent(options: dict[str, Any]) -> None:
    data = saved(**options)
    for percent in range(100):
        cut = data[: len(data) * percent // 100]
        expected = by_pillow(cut)
        if expected is None:
            with pytest.raises(FastSCNNError, match=r"is not an image|is truncated or broken"):
                images.read(cut)
        else:
            assert np.array_equal(images.read(cut), expected)


def test_damaged_files_are_read_or_refused_as_by_pillow() -> None:
    """300 files with one to five bytes changed, in the tables and headers as well as in the pixels."""
    rng = random.Random(0)
    whole = [saved(), saved(progressive=True), saved(subsampling=1, restart_marker_rows=1)]
    for _ in range(300):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice([1, 1, 2, 5])):
            data[rng.randrange(600 if rng.random() < 0.4 else len(data))] = rng.randrange(256)
        expected = by_pillow(bytes(data))
        try:
            found = images.read(bytes(data))
        except FastSCNNError:
            assert expected is None
        else:
            assert expected is not None
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("pixels", [SCENE, SCENE[:, :, 1], SCENE[::2, ::-1], SCENE.transpose(1, 0, 2)])
def test_jpeg_round_trip(pixels: UInt8Array) -> None:
    data = jpeg.encoded(pixels, 92)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("RGB" if pixels.ndim == 3 else "L")
        found = np.array(image)
    assert found.shape == pixels.shape
    assert abs(found.astype(int) - pixels).mean() < 4


@settings(deadline=None, derandomize=True)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 255)),
       st.booleans(), st.booleans())
def test_png_round_trip(values: UInt8Array, indexed: bool, isal: bool) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8) if indexed else None
    with pytest.MonkeyPatch.context() as patch:
        if not isal:
            patch.setattr(png, "isal_zlib", None)
        data = png.encoded(values, palette)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # the checksums
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("P" if indexed else "L")
        assert np.array_equal(np.array(image), values)
        if palette is not None:
            assert np.array_equal(np.array(image.convert("RGB")), palette[values])


def test_opencv_reads_the_ids(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    labels = street(64, 96).labels
    (tmp_path / "a.png").write_bytes(png.encoded(labels))
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), labels)


def test_equal_labels_give_equal_bytes() -> None:
    labels = street(360, 480).labels
    assert png.encoded(labels) == png.encoded(np.asfortranarray(labels))


def test_the_labels_of_a_street_are_small() -> None:
    """At most three times what zlib's best effort makes of the same rows."""
    labels = synthetic.draw().labels
    rows = np.pad(labels, ((0, 0), (1, 0))).tobytes()
    assert len(png.encoded(labels)) < 3 * len(zlib.compress(rows, 9))


def test_without_the_libraries_files_are_read_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = saved()
    pixels = images.read(data)
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    monkeypatch.setattr(png, "isal_zlib", None)
    assert np.array_equal(images.read(data), pixels)
    images.write(tmp_path / "a.png", SCENE[:, :, 0])
    images.write(tmp_path / "a.jpg", SCENE)
    assert np.array_equal(images.read_values(tmp_path / "a.png")[0], SCENE[:, :, 0])
    assert images.read(tmp_path / "a.jpg").shape == SCENE.shape


@FAST_JPEG
@pytest.mark.parametrize(("least", "expected"), [
    ((240, 400), (240, 400)), ((239, 1), (240, 400)), ((240, 401), (480, 800)), ((120, 200), (120, 200)),
    ((180, 300), (180, 300)), ((1, 1), (60, 100)), ((481, 10), (480, 800)), ((200, 10), (240, 400)),
])
def test_a_file_is_decoded_at_the_fraction_that_is_enough(least: tuple[int, int], expected: tuple[int, int]) -> None:
    large = np.ascontiguousarray(SCENE.repeat(4, 0).repeat(4, 1))
    pixels, size = images.read_reduced(saved(large), lambda _: least)
    assert (pixels.shape[:2], size) == (expected, (480, 800))
    assert abs(pixels.astype(int) - images.resize(images.read(saved(large)), expected)).mean() < 4


@FAST_JPEG
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_files_are_reduced_too(orientation: int) -> None:
    large = np.ascontiguousarray(SCENE.repeat(4, 0).repeat(4, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(large, exif=exif)
    whole, asked = images.read(data), []

    def least(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return size[0] // 4, size[1] // 4

    pixels, size = images.read_reduced(data, least)
    assert (size, asked) == (whole.shape[:2], [whole.shape[:2]])
    assert pixels.shape[:2] == (size[0] // 4, size[1] // 4)
    assert abs(pixels.astype(int) - images.resize(whole, (size[0] // 4, size[1] // 4))).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "CMYK", "no library", "PIL"])
def test_other_files_are_decoded_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    if kind == "no library":
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    image = Image.fromarray(SCENE)
    (image.convert("CMYK") if kind == "CMYK" else image).save(content, "PNG" if kind == "PNG" else "JPEG")
    source = Image.open(content) if kind == "PIL" else content.getvalue()
    pixels, size = images.read_reduced(source, lambda _: (1, 1))
    assert (pixels.shape[:2], size) == ((120, 200), (120, 200))
