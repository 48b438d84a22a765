"""Segmenter: the right label at every pixel of the image, whatever size the network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx

import fastscnn
from fastscnn import Card, LabelSet, Segmenter, card
from fastscnn.errors import FastSCNNError
from fastscnn.scene import Scene
from fastscnn.segmenter import Size


@pytest.mark.parametrize("size", [None, "native", (64, 96), (128, 192), (32, 96), (33, 48)])
def test_labels_are_exact_at_the_images_size(tiny_onnx: Path, stripes: Scene, size: Size) -> None:
    segmentation = Segmenter.load(tiny_onnx, size=size, threads=1).segment(stripes.image)
    assert segmentation.labels.dtype == np.uint8
    np.testing.assert_array_equal(segmentation.labels, stripes.labels)
    assert segmentation.label_set.names == ("red", "green", "blue")
    assert segmentation.confidence is None
    assert list(segmentation.seconds) == ["resize", "network", "labels"]


class Seeing:
    """A runtime that keeps what it is shown."""

    name, precision, threads = "seeing", "float32", 1

    def __init__(self) -> None:
        self.card = Card(LabelSet(("a", "b")), (64, 96))
        self.seen: Any = None

    def __call__(self, images: Any) -> Any:
        self.seen = images
        return np.zeros((1, 2, -(-images.shape[1] // 8), -(-images.shape[2] // 8)), np.float32)


@pytest.mark.parametrize(
    ("size", "seen"), [(None, (64, 96)), ("native", (100, 151)), ((48, 40), (48, 40)), ((32, 400), (32, 400))]
)
def test_what_the_network_sees(size: Size, seen: tuple[int, int]) -> None:
    runtime = Seeing()
    segmenter = Segmenter(runtime, size)
    image = np.random.default_rng(0).integers(0, 256, (100, 151, 3)).astype(np.uint8)
    assert segmenter.segment(image).labels.shape == (100, 151)
    assert runtime.seen.shape == (1, *seen, 3)
    assert runtime.seen.dtype == np.uint8
    assert segmenter.size == (size or (64, 96))
    if size == "native":
        np.testing.assert_array_equal(runtime.seen[0], image)


@pytest.mark.parametrize("shape", [(32, 32), (32, 500), (301, 33), (45, 32)])
def test_any_size_of_image(tiny: Segmenter, shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image[:, :, 2] = 9
    assert (tiny.segment(image).labels == np.full(shape, 2)).all()


def test_confidence(tiny: Segmenter, stripes: Scene) -> None:
    segmentation = tiny.segment(stripes.image, confidence=True)
    assert segmentation.confidence is not None
    assert segmentation.confidence.shape == (128, 192)
    assert segmentation.confidence.dtype == np.float32
    certain = np.exp(12.5) / (np.exp(12.5) + 2)  # 200 / 16 against 0 and 0
    assert segmentation.confidence[50, 10] == pytest.approx(certain, abs=1e-6)
    assert segmentation.confidence[:, 64].max() < 0.9, "unsure at the border"
    assert "confidence" in segmentation.seconds


def test_images_in_any_memory_layout(tiny_onnx: Path, stripes: Scene) -> None:
    sizes: tuple[Size, Size] = (None, "native")
    for size in sizes:
        segmenter = Segmenter.load(tiny_onnx, size=size, threads=1)
        turned = segmenter.segment(stripes.image[::-1, ::-1])
        np.testing.assert_array_equal(turned.labels, stripes.labels[::-1, ::-1])
        frozen = stripes.image.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(segmenter.segment(frozen).labels, stripes.labels)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((64, 96, 3), np.float32, r"uint8 \[height, width, 3\], not float32 \[64, 96, 3\]"),
        ((64, 96, 3), np.int8, "not int8"),
        ((64, 96, 3), np.bool_, "not bool"),
        ((64, 96), np.uint8, r"not uint8 \[64, 96\]"),
        ((64, 96, 4), np.uint8, r"not uint8 \[64, 96, 4\]"),
        ((64, 96, 1), np.uint8, r"not uint8 \[64, 96, 1\]"),
        ((1, 64, 96, 3), np.uint8, r"not uint8 \[1, 64, 96, 3\]"),
        ((31, 96, 3), np.uint8, "The image has 96x31 pixels; it needs at least 32 a side"),
        ((96, 31, 3), np.uint8, "31x96 pixels"),
        ((0, 96, 3), np.uint8, "96x0 pixels"),
    ],
)
def test_wrong_images(tiny: Segmenter, shape: tuple[int, ...], dtype: type, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        tiny.segment(np.zeros(shape, dtype))


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (0, 0), (-64, 64)])
def test_sizes_too_small(tiny_onnx: Path, size: tuple[int, int]) -> None:
    with pytest.raises(FastSCNNError, match=f"at least 32x32, not {size[0]}x{size[1]}"):
        Segmenter.load(tiny_onnx, size=size)


def test_a_card_whose_size_is_too_small(tmp_path: Path, write_onnx: WriteOnnx) -> None:
    small = Card(LabelSet(("a", "b", "c")), (16, 64)).to_json()
    path = write_onnx(tmp_path / "small.onnx", metadata={card.KEY: small})
    with pytest.raises(FastSCNNError, match="at least 32x32, not 16x64"):
        Segmenter.load(path)
    assert Segmenter.load(path, size="native").size == "native"


def test_load(tiny_onnx: Path) -> None:
    segmenter = Segmenter.load(str(tiny_onnx), "onnx", threads=2)
    assert segmenter.path == tiny_onnx
    assert segmenter.size == (64, 96)
    assert segmenter.runtime.threads == 2
    assert segmenter.card is segmenter.runtime.card


def test_broken_weights_say_so(stripes: Scene) -> None:
    class Broken(Seeing):
        def __call__(self, images: Any) -> Any:
            return super().__call__(images) * np.nan

    with pytest.raises(FastSCNNError, match="NaN or infinity"):
        Segmenter(Broken()).segment(stripes.image)


def test_the_public_names() -> None:
    assert all(hasattr(fastscnn, name) for name in fastscnn.__all__)
