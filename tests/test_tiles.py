"""Images of any size: overlapping tiles, whose logits are blended on the grid of the whole image."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.street import street
from PIL import Image

from fastscnn import Segmentation, Segmenter
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.cli import main
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.inference import segmentation, segmenter
from fastscnn.inference.tiles import Tile, tiled, windows
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet
from fastscnn.upsampling import upsample

LENGTHS, TILES, OVERLAPS = st.integers(32, 3000), st.integers(64, 700), st.floats(0, 0.5)


@given(LENGTHS, TILES, OVERLAPS)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_windows_cover_an_axis_with_weights_that_sum_to_one(length: int, tile: int, share: float) -> None:
    overlap = int(share * tile)
    made = windows(length, tile, overlap)
    assert made[0].start == 0
    assert made[-1].stop == length
    total = np.zeros(-(-length // 8), np.float32)
    for one in made:
        assert one.start % 8 == 0, "the grids of the logits coincide"
        assert len(one.weights) == -(-(one.stop - one.start) // 8), "a weight for each logit of the network"
        assert (one.weights > 0).all()
        total[one.cells] += one.weights
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert all(before.stop - after.start >= overlap for before, after in pairwise(made))
    assert len(made) == 1 or all(tile - 7 <= one.stop - one.start <= tile for one in made), "all of one size"
    assert (len(made) == 1) == (length <= tile)


@given(LENGTHS, TILES, OVERLAPS)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_no_more_windows_than_the_overlap_needs(length: int, tile: int, share: float) -> None:
    step = (tile - int(share * tile)) // 8 * 8
    assert len(windows(length, tile, int(share * tile))) == 1 + max(0, -(-(-(-(length - tile) // 8) * 8) // step))


def test_weights_fall_linearly_to_a_border_between_tiles_only() -> None:
    first, second = windows(64 + 32, 64, 32)
    np.testing.assert_allclose(first.weights, [1, 1, 1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8])
    np.testing.assert_allclose(second.weights, first.weights[::-1])


def corners(image: UInt8Array) -> Float32Array:
    """A network without context: the logits are the pixels at the corners of the cells."""
    return np.ascontiguousarray(np.moveaxis(image[::8, ::8].astype(np.float32), 2, 0))


@given(st.integers(32, 300), st.integers(32, 300), st.integers(64, 130), st.integers(64, 130), OVERLAPS)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_tiles_equal_the_whole_image_for_a_network_without_context(h: int, w: int, tall: int, wide: int, share: float) -> None:
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3)).astype(np.uint8)
    np.testing.assert_allclose(tiled(corners, image, (tall, wide), share), corners(image), rtol=1e-5)


@pytest.mark.parametrize("shape", [(360, 480), (353, 472), (101, 479)])
def test_one_tile_is_the_whole_image_to_the_bit(shape: tuple[int, int]) -> None:
    image = street(*shape).image
    whole = Segmenter.load(backend="onnx", size="native", threads=1)
    tiles = Segmenter.load(backend="onnx", tile="auto", threads=1)
    np.testing.assert_array_equal(tiles.logits(image), whole.logits(image))
    both = [one.segment(image, confidence=True, ood_mask=True) for one in (tiles, whole)]
    for name in ("labels", "confidence", "ood_mask"):
        np.testing.assert_array_equal(getattr(both[0], name), getattr(both[1], name))


def test_tiles_of_a_larger_scene() -> None:
    """The rest differs: the network pools over all that it sees."""
    image = synthetic.draw(720, 960).image
    whole = Segmenter.load(backend="onnx", precision="float32", size="native").segment(image)
    tiles = Segmenter.load(backend="onnx", precision="float32", tile="360x480").segment(image, confidence=True, ood_mask=True)
    assert tiles.labels.shape == (720, 960)
    assert (tiles.labels == whole.labels).mean() > 0.85
    assert tiles.confidence is not None
    assert tiles.confidence.shape == tiles.labels.shape
    assert tiles.ood_mask is not None


@pytest.mark.parametrize(
    ("tile", "made"), [("auto", (64, 96)), ("72x100", (72, 100)), ((64, 64), (64, 64)), ([80, 64], (80, 64)), (None, None)]
)
def test_sizes_of_a_tile(tiny_onnx: Path, stripes: Scene, tile: Tile, made: tuple[int, int] | None) -> None:
    one = Segmenter.load(tiny_onnx, tile=tile, threads=1)
    assert one.tile == made
    assert one.size == ("native" if made else (64, 96))
    for passes in ({}, {"flip": True}, {"scales": (1.0, 2.0)}):
        some = Segmenter.load(tiny_onnx, tile=tile, threads=1, **passes)
        np.testing.assert_array_equal(some.segment(stripes.image).labels, stripes.labels)


def test_size_resizes_the_whole_image_before_it_is_cut(tiny_onnx: Path, stripes: Scene) -> None:
    one = Segmenter.load(tiny_onnx, size=(256, 384), tile=(64, 96), threads=1)
    assert one.logits(stripes.image).shape == (3, 32, 48)
    whole = Segmenter.load(tiny_onnx, size=(256, 384), threads=1)
    np.testing.assert_array_equal(one.segment(stripes.image).labels, whole.segment(stripes.image).labels)
    same = pickle.loads(pickle.dumps(one))
    assert (same.size, same.tile) == ((256, 384), (64, 96))
    assert repr(one).endswith("size='256x384', threads=1, tile='64x96')")


@pytest.mark.parametrize("tile", ["native", "big", "", 64, (64,), (64, 96.0), (31, 64), "30x64", True])
def test_wrong_tiles(tiny_onnx: Path, tile: Tile) -> None:
    with pytest.raises(ArgumentError, match=r'tile: must be HxW such as "360x480", a pair .* or "auto", not '):
        Segmenter.load(tiny_onnx, tile=tile)


def test_a_tile_that_is_too_small(tiny_onnx: Path) -> None:
    with pytest.raises(ArgumentError, match="tile: needs at least 64x64, not 48x64"):
        Segmenter.load(tiny_onnx, tile=(48, 64))


def test_labels_do_not_depend_on_the_tiles(tiny_onnx: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (203, 301, 3)).astype(np.uint8)
    whole = Segmenter.load(tiny_onnx, size="native", threads=1)
    tiles = Segmenter.load(tiny_onnx, tile="auto", threads=1)
    np.testing.assert_allclose(tiles.logits(image), whole.logits(image), rtol=1e-5)
    assert (tiles.segment(image).labels == upsample.labels(whole.logits(image), (203, 301))).mean() > 0.999


def test_the_limit_of_a_file(tiny_onnx: Path, stripes: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images.write(tmp_path / "large.png", stripes.image)
    with pytest.raises(FastSCNNError, match=r"large\.png: is 128x192 .HxW., over the limit of .* or segment it in tiles"):
        images.read(tmp_path / "large.png", 1000)
    plain, tiles = Segmenter.load(tiny_onnx, threads=1), Segmenter.load(tiny_onnx, tile="auto", threads=1)
    assert (plain.max_pixels, tiles.max_pixels) == (40_000_000, 1_000_000_000)
    monkeypatch.setattr(segmenter, "MAX_PIXELS", 10_000)
    with pytest.raises(FastSCNNError, match="over the limit"):
        plain.segment(tmp_path / "large.png")
    np.testing.assert_array_equal(tiles.segment(tmp_path / "large.png").labels, stripes.labels)
    monkeypatch.setattr(segmenter, "MAX_TILED_PIXELS", 10_000)
    with pytest.raises(FastSCNNError, match="over the limit"):
        tiles.segment(tmp_path / "large.png")


def test_a_large_file_from_the_command_line(
    tiny_onnx: Path, stripes: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segmenter, "MAX_PIXELS", 10_000)
    images.write(tmp_path / "a.png", stripes.image)
    words = ["segment", str(tmp_path / "a.png"), "--weights", str(tiny_onnx), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 1
    assert "segment it in tiles (tile)" in json.loads(capsys.readouterr().out)["error"]
    assert main([*words, "--tile", "64x64", "--save", "labels,overlay,confidence"]) == 0
    np.testing.assert_array_equal(images.read_values(tmp_path / "out" / "a.labels.png")[0], stripes.labels)
    assert main([*words, "--tile", "big"]) == 2
    assert main([*words, "--tile", "64x64", "--latency-budget", "9ms"]) == 2
    assert "omit --size and --tile" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "I;16"])
def test_bands_of_rows_do_not_change_what_is_read(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Image.fromarray(street(70, 90).image)
    if mode == "I;16":
        drawn = Image.fromarray(np.array(drawn.convert("L"), np.uint16) * np.uint16(257))
    drawn = drawn if mode == "I;16" else drawn.convert(mode)
    drawn.save(tmp_path / "a.tif")
    whole = images.read(tmp_path / "a.tif")
    monkeypatch.setattr(images, "BAND", 1000)  # pixels: 11 rows
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), whole)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_over_the_limit_of_pillow(compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = street(64, 80).image
    Image.fromarray(image).save(tmp_path / "a.tif", compression=compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 80 // 3)
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), image)


@pytest.mark.parametrize(
    ("shape", "limit", "shown"),
    [((600, 900), 40_000, (163, 244)), ((40, 70_000), 40_000_000, (34, 60_000)), ((200, 200), 40_000, (200, 200))],
)
def test_the_overlay_of_a_large_image_is_reduced(
    shape: tuple[int, int], limit: int, shown: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "MAX_PIXELS", limit)
    labels = np.zeros(shape, np.uint8)
    labels[:, shape[1] // 2 :] = 1
    image = np.full((*shape, 3), 100, np.uint8)
    result = Segmentation(labels, LabelSet(("a", "b"), ((255, 0, 0), (0, 0, 255))), ood_mask=labels == 1, image=image)
    overlay = result.overlay()
    assert overlay.shape[1] == shown[1]
    assert shown[0] < overlay.shape[0] < shown[0] + 80, "a legend below"
    assert overlay[0, 0, 0] > overlay[0, 0, 2]
    assert overlay[0, -1].tolist() == [100, 100, 100], "out of distribution"
    assert result.blend().shape == (*shape, 3)
    files = result.save(tmp_path)
    assert images.size(files["labels"]) == shape
    assert images.size(files["overlay"]) == overlay.shape[:2]
