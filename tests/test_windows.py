"""Windows of large images: the same pixels as those of the whole image, without reading the rest."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images, windows
from fastscnn.media.windows import Box

BOX = Box(37, 51, 307, 209, (230, 340))
CHANNELS = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


@pytest.fixture
def rasterio() -> None:
    pytest.importorskip("rasterio")


def picture(mode: str, height: int = 230, width: int = 340) -> Image.Image:
    """A random image of a mode of Pillow."""
    rng = np.random.default_rng(0)
    if mode == "1":
        return Image.fromarray(rng.integers(0, 2, (height, width), np.uint8) * np.uint8(255)).convert("1")
    if mode in ("I;16", "I", "F"):
        low, high, kind = {"I;16": (0, 1 << 16, np.uint16), "I": (-5, 1 << 20, np.int32), "F": (0, 200, np.float32)}[mode]
        return Image.fromarray(rng.integers(low, high, (height, width)).astype(kind))
    made = Image.frombytes(mode, (width, height), rng.bytes(height * width * CHANNELS.get(mode, 1)))
    if mode == "P":
        made.putpalette(rng.integers(0, 256, 768).tolist())
    return made


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.tuples(st.integers(1, 120), st.integers(1, 120)))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_windows_cover_every_pixel_once(size: tuple[int, int], window: tuple[int, int]) -> None:
    seen = np.zeros(size, int)
    for left, top, right, bottom, _ in windows.boxes(size, window):
        assert 0 < bottom - top <= window[0]
        assert 0 < right - left <= window[1]
        seen[top:bottom, left:right] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "I", "F", "LA", "RGB", "RGBA"])
def test_a_window_of_a_tiff_is_what_pillow_decodes(
    rasterio: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: str, compression: str | None
) -> None:
    path = tmp_path / "a.tif"
    try:
        picture(mode).save(path, compression=compression)
    except OSError:
        capfd.readouterr()  # libtiff's message
        pytest.skip(f"TIFF stores no {mode} with {compression}")
    part = windows.part(path, BOX)
    with Image.open(path) as whole:
        expected = whole.crop(BOX[:4])
        palette = whole.getpalette("RGB")
    assert part is not None
    assert part.mode == expected.mode
    assert (np.array(part) == np.array(expected)).all()
    assert part.getpalette("RGB") == palette


def test_windows_of_other_kinds_are_cut_from_the_decoded_image(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "cmyk.tif"):
        picture("CMYK" if "cmyk" in name else "RGB").save(tmp_path / name)
        whole = images.read(tmp_path / name)
        part, orientation = images.read_oriented(tmp_path / name, box=BOX)
        assert (part == whole[51:209, 37:307]).all()
        assert orientation == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_are_those_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    for name in ("a.png", "a.tif"):
        exif = Image.Exif()
        exif[274] = orientation
        picture("L", 230, 320).save(tmp_path / name, exif=exif)
        whole, _ = images.read_values(tmp_path / name)
        part, _ = images.read_values(tmp_path / name, Box(5, 60, 225, 210, whole.shape))
        assert (part == whole[60:210, 5:225]).all()


def test_grey_that_is_stored_inverted_is_decoded_by_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    picture("L").save(path, tiffinfo={262: 0})
    assert windows.part(path, BOX) is None
    assert (images.read_values(path, BOX)[0] == images.read_values(path)[0][51:209, 37:307]).all()


def test_ids_colours_and_channels_of_a_window(rasterio: None, tmp_path: Path) -> None:
    path, palette = tmp_path / "a.tif", tmp_path / "p.tif"
    picture("RGB").save(path, compression="tiff_deflate")
    picture("P").save(palette)
    assert (images.read_colours(path, BOX) == images.read_colours(path)[51:209, 37:307]).all()
    assert (images.read_colours(palette, BOX) == images.read_colours(palette)[51:209, 37:307]).all()
    assert (images.read_channel(path, "blue", BOX) == images.read_channel(path, "blue")[51:209, 37:307]).all()
    ids, colours = images.read_values(palette, BOX)
    everything, all_colours = images.read_values(palette)
    assert (ids == everything[51:209, 37:307]).all()
    assert colours is not None
    assert all_colours is not None
    assert (colours == all_colours).all()


def test_colours_of_16_bits_in_a_window(tmp_path: Path) -> None:
    import zlib
    values = np.random.default_rng(1).integers(0, 256, (60, 80, 3)).astype(">u2")  # 8-bit colours in the low byte
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    head = (80).to_bytes(4, "big") + (60).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert (images.read_colours(path, Box(10, 20, 50, 45, (60, 80))) == values[20:45, 10:50]).all()


def large(path: Path) -> Path:
    """A TIFF of 8000x6000: 48 megapixels, over the limit of files that are decoded as a whole."""
    Image.new("L", (6000, 8000), 7).save(path, compression="tiff_deflate")
    return path


def test_a_file_over_the_limit_is_read_by_window(rasterio: None, tmp_path: Path) -> None:
    path = large(tmp_path / "a.tif")
    with pytest.raises(FastSCNNError, match="over the limit of 40 megapixels"):
        images.read(path)
    assert windows.size(path) == (8000, 6000)
    part, _ = images.read_oriented(path, box=Box(5900, 7900, 6000, 8000, (8000, 6000)))
    assert part.shape == (100, 100, 3)
    assert (part == 7).all()


def test_a_file_over_the_limit_needs_rasterio_and_a_format_with_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (6000, 8000)).save(tmp_path / "a.png")
    with pytest.raises(FastSCNNError, match=r"a\.png: is 8000x6000 .* decoded as a whole; save it as TIFF"):
        images.read_values(tmp_path / "a.png", Box(0, 0, 9, 9, (8000, 6000)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(FastSCNNError, match="extra 'large'"):
        images.read_values(large(tmp_path / "a.tif"), Box(0, 0, 9, 9, (8000, 6000)))
    small = tmp_path / "small.tif"
    picture("L").save(small)
    assert images.read_values(small, BOX)[0].shape == (158, 270)


def test_a_broken_file_is_named(rasterio: None, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    picture("RGB").save(path, compression="tiff_deflate")
    data = path.read_bytes()
    path.write_bytes(data[:2000] + bytes(4000) + data[6000:])
    with pytest.raises(FastSCNNError, match=r"a\.tif: is truncated or broken"):
        images.read_oriented(path, box=BOX)
    path.unlink()
    with pytest.raises(FastSCNNError, match=r"a\.tif"):
        images.read_oriented(path, box=BOX)
