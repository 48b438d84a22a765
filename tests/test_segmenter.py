"""Segmenter: the right label at every pixel of the image, whatever size the network sees."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from hypothesis import given, settings
from hypothesis import strategies as st
from made.street import street
from PIL import Image

from fastscnn import Card, LabelSet, Segmenter
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.synthetic import Scene
from fastscnn.inference import sources
from fastscnn.inference.segmenter import Size
from fastscnn.inference.size import BaseSize, in_shape
from fastscnn.media import images
from fastscnn.model import card
from fastscnn.upsampling import upsample


@pytest.mark.parametrize("size", [None, "native", (64, 96), (128, 192), (32, 96), (33, 48)])
def test_labels_are_exact_at_the_images_size(tiny_onnx: Path, stripes: Scene, size: Size) -> None:
    segmentation = Segmenter.load(tiny_onnx, size=size, threads=1).segment(stripes.image)
    assert segmentation.labels.dtype == np.uint8
    np.testing.assert_array_equal(segmentation.labels, stripes.labels)
    assert segmentation.label_set.names == ("red", "green", "blue")
    assert segmentation.confidence is None
    assert list(segmentation.seconds) == ["resize", "network", "labels"]


class Seeing:
    """A backend that keeps what it is shown."""

    name, precision, device, threads, streams = "seeing", "float32", "cpu", 1, 1
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.card = Card(LabelSet(("a", "b")), (64, 96))
        self.seen: Any = None

    def __call__(self, images: Any) -> Any:
        self.seen = images
        return np.zeros((1, 2, -(-images.shape[1] // 8), -(-images.shape[2] // 8)), np.float32)

    def hardware(self) -> str:
        return "none"

    def matmul_peak(self) -> float:
        return 1.0

    bandwidth = matmul_peak


@pytest.mark.parametrize(
    ("size", "seen"), [(None, (64, 96)), ("native", (100, 151)), ((48, 40), (48, 40)), ((32, 400), (32, 400))]
)
def test_what_the_network_sees(size: Size, seen: tuple[int, int]) -> None:
    backend = Seeing()
    segmenter = Segmenter(backend, size)
    image = np.random.default_rng(0).integers(0, 256, (100, 151, 3)).astype(np.uint8)
    assert segmenter.segment(image).labels.shape == (100, 151)
    assert backend.seen.shape == (1, *seen, 3)
    assert backend.seen.dtype == np.uint8
    assert segmenter.size == (size or (64, 96))
    if size == "native":
        np.testing.assert_array_equal(backend.seen[0], image)


@pytest.mark.parametrize(
    ("size", "image", "made"),
    [
        ((360, 480), (720, 960), (360, 480)),
        ((360, 480), (340, 480), (360, 480)),  # another shape by 6 %
        ((360, 480), (1080, 1920), (296, 544)),  # 16:9; docs/accuracy.md
        ((360, 480), (480, 480), (424, 416)),
        ((360, 480), (1920, 1080), (552, 320)),
        ((360, 480), (1000, 8000), (136, 1184)),
        ((1024, 2048), (1080, 1920), (1088, 1920)),
        ((64, 96), (32, 5000), (32, 992)),
        ((33, 40), (5000, 32), (449, 40)),
    ],
)
def test_the_input_has_the_shape_of_the_image(size: tuple[int, int], image: tuple[int, int], made: tuple[int, int]) -> None:
    assert in_shape(size, image) == made


@given(*[st.integers(32, 1000)] * 2, *[st.integers(32, 9000)] * 2)
@settings(derandomize=True, deadline=None)
def test_the_shape_of_any_image(height: int, width: int, tall: int, wide: int) -> None:
    size = in_shape((height, width), (tall, wide))
    assert min(size) >= 32
    assert [(side - trained) % 32 for side, trained in zip(size, (height, width), strict=True)] == [0, 0]
    if max(height, width, tall, wide) < 1.1 * min(height, width, tall, wide):
        assert size == (height, width)
    stretch = (wide * height / (tall * width)) ** 0.5
    for side, ideal in zip(size, (height / stretch, width * stretch), strict=True):
        if ideal >= 64 and not 1 / 1.1 < stretch**2 < 1.1:
            assert abs(side - ideal) <= 16


def test_an_explicit_size_is_exact_also_in_a_copy(tiny_onnx: Path) -> None:
    image = np.zeros((64, 300, 3), np.uint8)
    for size, shape in ((None, (32, 160)), ((64, 96), (64, 96)), ("64x96", (64, 96)), ("native", (64, 300)),
                        (BaseSize(64, 96), (32, 160)), (BaseSize(32, 64), (32, 96))):
        one = Segmenter.load(tiny_onnx, size=size, threads=1)
        for each in (one, pickle.loads(pickle.dumps(one))):
            assert each.forward(image).input.shape[:2] == shape
            assert each.input_size((64, 300)) == shape
            assert each.shape_kept == (shape != (64, 96))


@pytest.mark.parametrize(("image", "made"), [
    ((720, 960), (264, 352)), ((1080, 1920), (232, 416)), ((1920, 1080), (392, 224)), ((480, 480), (296, 320)),
])
def test_a_base_size_gets_the_shape_of_each_image(image: tuple[int, int], made: tuple[int, int]) -> None:
    assert Segmenter(Seeing(), BaseSize(264, 352)).input_size(image) == made == in_shape((264, 352), image)
    assert Segmenter(Seeing(), (264, 352)).input_size(image) == (264, 352)
    assert [(side - trained) % 32 for side, trained in zip(made, (360, 480), strict=True)] == [0, 0]


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
    assert segmentation.confidence[50, 10] == pytest.approx(certain, abs=1e-4)
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
    ("shape", "size", "scales", "flip", "sizes"),
    [
        ((96, 128), None, (1.0,), True, [(64, 96)]),
        ((96, 128), None, (0.5, 1.0), False, [(32, 48), (64, 96)]),
        ((96, 128), None, (0.5,), False, [(32, 48)]),
        ((101, 77), None, (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), True,
         [(48, 32), (72, 48), (96, 64), (120, 80), (144, 96), (168, 112)]),  # in the image's shape
        ((75, 131), (41, 67), (0.8, 1.5), True, [(33, 54), (62, 101)]),  # 61.5: halves go up
        ((77, 101), "native", (0.5, 1.25), True, [(39, 51), (96, 126)]),
        ((77, 101), "native", (1.0,), True, [(77, 101)]),
        ((77, 101), (40, 40), (1.0, 1.0), False, [(40, 40), (40, 40)]),
    ],
)  # fmt: skip
def test_several_scales_and_flip(
    tiny_onnx: Path,
    shape: tuple[int, int],
    size: Size,
    scales: tuple[float, ...],
    flip: bool,
    sizes: list[tuple[int, int]],
) -> None:
    """As PyTorch does it: flip back, interpolate, softmax, sum, argmax."""
    torch = pytest.importorskip("torch")
    segmenter = Segmenter.load(tiny_onnx, size=size, threads=1, scales=scales, flip=flip)
    image = drawn(shape)
    total = torch.zeros(3, *shape)
    passes = [(pass_size, mirrored) for pass_size in sizes for mirrored in ([False, True] if flip else [False])]
    for pass_size, mirrored in passes:
        resized = torch.from_numpy(images.resize(image, pass_size))[None]
        logits = torch.from_numpy(segmenter.backend((resized.flip(2) if mirrored else resized).numpy()))
        logits = torch.nn.functional.interpolate(logits, size=shape, mode="bilinear", align_corners=False)[0]
        total += (logits.flip(2) if mirrored else logits).softmax(dim=0)
    best, second = total.topk(2, dim=0).values
    clear = (best - second > 1e-4).numpy()
    assert clear.mean() > 0.95

    segmentation = segmenter.segment(image, confidence=True)
    np.testing.assert_array_equal(segmentation.labels[clear], total.argmax(dim=0).numpy()[clear])
    assert segmentation.labels.dtype == np.uint8
    assert segmentation.confidence is not None
    assert segmentation.confidence.dtype == np.float32
    near = 1e-5 if len(passes) > 1 else 7e-4  # of one pass, classes far from the best are left out
    np.testing.assert_allclose(segmentation.confidence, best.numpy() / len(passes), rtol=0, atol=near)
    assert list(segmentation.seconds) == ["resize", "network", "labels", "confidence"]
    if len(set(passes)) > 1:
        plain = Segmenter.load(tiny_onnx, size=size, threads=1).segment(image)
        assert (plain.labels != segmentation.labels).any(), "the passes differ"


@pytest.mark.parametrize("size", [None, "native"])
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((1.0,), True), ((0.75, 1.5), True)])
def test_probabilities(tiny_onnx: Path, size: Size, scales: tuple[float, ...], flip: bool) -> None:
    """As PyTorch's interpolation and softmax give them, and with the labels that `segment` gives where no classes tie."""
    torch = pytest.importorskip("torch")
    segmenter = Segmenter.load(tiny_onnx, size=size, threads=2, scales=scales, flip=flip)
    image = drawn((77, 101))
    expected = []
    for scale in scales:
        height, width = (77, 101) if size == "native" else (64, 96)
        resized = images.resize(image, (int(height * scale + 0.5), int(width * scale + 0.5)))
        for mirrored in (False, True) if flip else (False,):
            logits = torch.from_numpy(segmenter.backend(resized[None, :, :: -1 if mirrored else 1]))
            logits = logits.flip(3) if mirrored else logits
            full = torch.nn.functional.interpolate(logits, size=(77, 101), mode="bilinear", align_corners=False)[0]
            expected.append(full.softmax(dim=0).numpy())
    seconds: dict[str, float] = {}
    probabilities = segmenter.probabilities(image, seconds)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 77, 101)
    np.testing.assert_allclose(probabilities, np.mean(expected, axis=0), rtol=0, atol=1e-5)
    best, second = np.sort(probabilities, axis=0)[::-1][:2]
    clear = best - second > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(probabilities.argmax(axis=0)[clear], segmenter.segment(image).labels[clear])
    assert list(seconds) == ["resize", "network", "probabilities"]
    assert all(value > 0 for value in seconds.values())


def test_probabilities_take_what_segment_takes(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match="not float32"):
        tiny.probabilities(np.zeros((64, 96, 3), np.float32))
    with pytest.raises(FastSCNNError, match=r"The image is 96x31 \(HxW\)"):
        tiny.probabilities(np.zeros((96, 31, 3), np.uint8))


def drawn(shape: tuple[int, int]) -> UInt8Array:
    """Part of the drawn street, noisy enough that no two passes over it agree."""
    part = street(*shape).image
    noise = np.random.default_rng(0).integers(-30, 30, part.shape)
    return (part + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [None, "native"])
def test_one_pass_takes_the_short_cut(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    image = drawn((77, 101))
    default = Segmenter.load(tiny_onnx, size=size, threads=1)
    assert (default.scales, default.flip) == ((1.0,), False)
    monkeypatch.setattr(upsample, "probabilities", None)
    one = Segmenter.load(tiny_onnx, size=size, threads=1, scales=[1], flip=False).segment(image, confidence=True)
    logits = default.backend(image[None] if size == "native" else images.resize(image, (64, 96))[None])[0]
    np.testing.assert_array_equal(one.labels, upsample.labels(logits, (77, 101)))
    np.testing.assert_array_equal(one.labels, default.segment(image).labels)
    assert one.confidence is not None
    np.testing.assert_array_equal(one.confidence, upsample.confidence(logits, one.labels.shape))


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((), "scales: at least one is needed"),
        ((1.0, 0.0), "scales: each must be above 0 and at most 16, not 0"),
        ((-1.0,), "not -1"),
        ((np.nan,), "not nan"),
        ((np.inf,), "not inf"),
        ((1e300,), r"not 1e\+300"),
        ((1.0, 0.49), "scales: 0.49 makes 31x47 of 64x96, and the network needs at least 32"),
        ((1.0, "1"), "scales: each must be above 0 and at most 16, not '1'"),
    ],
)
def test_wrong_scales(tiny_onnx: Path, scales: tuple[float, ...], message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        Segmenter.load(tiny_onnx, scales=scales)


def test_a_scale_that_is_wrong_for_an_image(tiny_onnx: Path) -> None:
    segmenter = Segmenter.load(tiny_onnx, size="native", scales=(0.5, 16))
    with pytest.raises(FastSCNNError, match=r"scales: 0\.5 makes 25x50 of 50x100"):
        segmenter.segment(np.zeros((50, 100, 3), np.uint8))
    with pytest.raises(FastSCNNError, match="size: 6400x6400 is over the limit of 40 megapixels"):
        segmenter.segment(np.zeros((400, 400, 3), np.uint8))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((64, 96, 3), np.float32, r"uint8 \[height, width, 3\], not float32 \[64, 96, 3\]"),
        ((64, 96, 3), np.int8, "not int8"),
        ((64, 96, 3), np.bool_, "not bool"),
        ((64, 96), np.uint16, r"not uint16 \[64, 96\]"),
        ((64, 96, 3), np.float64, r"\(255 \* image\)\.round\(\)\.astype\(np\.uint8\)"),
        ((64, 96, 4), np.uint8, r"not uint8 \[64, 96, 4\]"),
        ((64, 96, 1), np.uint8, r"not uint8 \[64, 96, 1\]"),
        ((1, 64, 96, 3), np.uint8, r"not uint8 \[1, 64, 96, 3\]\. Give several images as a list"),
        ((31, 96, 3), np.uint8, r"The image is 31x96 \(HxW\) and needs at least 32 pixels a side"),
        ((96, 31, 3), np.uint8, "The image is 96x31"),
        ((0, 96, 3), np.uint8, "The image is 0x96"),
    ],
)
def test_wrong_images(tiny: Segmenter, shape: tuple[int, ...], dtype: type, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        tiny.segment(np.zeros(shape, dtype))


def test_a_negative_size(tiny_onnx: Path) -> None:
    with pytest.raises(FastSCNNError, match="size: height: must be at least 32, not -64"):
        Segmenter.load(tiny_onnx, size=(-64, 64))


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (0, 0)])
def test_sizes_too_small(tiny_onnx: Path, size: tuple[int, int]) -> None:
    with pytest.raises(FastSCNNError, match=f"must be at least 32, not {min(size)}"):
        Segmenter.load(tiny_onnx, size=size)


def test_a_card_whose_size_is_too_small(tmp_path: Path, write_onnx: WriteOnnx) -> None:
    small = Card(LabelSet(("a", "b", "c")), (16, 64)).to_json()
    path = write_onnx(tmp_path / "small.onnx", metadata={card.KEY: small})
    with pytest.raises(FastSCNNError, match=r"small\.onnx: the card's input size is 16x64, and the network needs"):
        Segmenter.load(path)
    assert Segmenter.load(path, size="native").size == "native"


def test_load(tiny_onnx: Path) -> None:
    segmenter = Segmenter.load(str(tiny_onnx), "onnx", threads=2)
    assert segmenter.path == tiny_onnx
    assert segmenter.size == (64, 96)
    assert segmenter.backend.threads == 2
    assert segmenter.card is segmenter.backend.card


@pytest.mark.reliability("not-finite")
def test_broken_weights_say_so(stripes: Scene) -> None:
    class Broken(Seeing):
        def __call__(self, images: Any) -> Any:
            return super().__call__(images) * np.nan

    for flip in (False, True):
        with pytest.raises(FastSCNNError, match="NaN or infinity"):
            Segmenter(Broken(), flip=flip).segment(stripes.image)


class OnDevice(Seeing):
    """A backend that makes labels itself: the mean of the image as the label of every pixel."""

    def labels(self, image: Any, size: tuple[int, int]) -> Any:
        self.seen = image
        return np.full(size, int(image.mean()) % 2, np.uint8)


def test_labels_made_on_the_device() -> None:
    image = np.full((100, 151, 3), 7, np.uint8)
    result = Segmenter(OnDevice()).segment(image)
    assert result.labels.shape == (100, 151)
    assert (result.labels == 1).all()
    assert list(result.seconds) == ["resize", "network", "labels"]


@pytest.mark.parametrize(
    ("scales", "flip", "confidence"), [((1.0, 1.5), False, False), ((1.0,), True, False), ((1.0,), False, True)]
)
def test_what_needs_logits_takes_them_from_the_device(scales: tuple[float, ...], flip: bool, confidence: bool) -> None:
    image = np.full((100, 151, 3), 7, np.uint8)
    result = Segmenter(OnDevice(), scales=scales, flip=flip).segment(image, confidence)
    assert (result.labels == 0).all()  # those of the logits


@pytest.mark.parametrize("size", ["128x192", " 128 X 192 ", (np.int32(128), np.uint8(192)), [128, 192]])
def test_every_form_of_a_size(tiny_onnx: Path, size: Any) -> None:
    assert Segmenter.load(tiny_onnx, size=size, threads=1).size == (128, 192)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("nativ", 'size: must be HxW such as "360x480", .* or "native", not \'nativ\''),
        ("", "not ''"),
        ("360", "not '360'"),
        ("-64x64", "not '-64x64'"),
        ("64x64x3", "not '64x64x3'"),
        ("16x64", "at least 32x32, not 16x64"),
        ((64.0, 96), r"size: height: must be a whole number, .*, not 64\.0"),
        ((64, 96.5), r"size: width: must be a whole number, .*, not 96\.5"),
        ((True, 96), "not True"),
        (("64", "96"), "not '64'"),
        ((64,), r"not \(64,\)"),
        (64, "not 64"),
        (0, "not 0"),
        (False, "not False"),
        ((), r"not \(\)"),
    ],
)
def test_wrong_sizes(tiny_onnx: Path, size: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Segmenter.load(tiny_onnx, size=size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"streams": 0}, "streams: must be from 1 to 1024, not 0"),
        ({"streams": 1.0}, "streams: must be a whole number"),
        ({"threads": 0}, "threads: must be from 1 to 1024, not 0"),
        ({"threads": 2000}, "threads: must be from 1 to 1024, not 2000"),
        ({"threads": True}, "threads: must be a whole number"),
        ({"backend": None}, "There is no backend None"),
        ({"weights": 3}, "A path is needed, not 3"),
        ({"size": (64.5, 96)}, "size: height: must be a whole number, at least 32, not 64.5"),
        ({"backend": "onx"}, "There is no backend 'onx'. Did you mean 'onnx'"),
        ({"precision": "int4"}, "There is no precision 'int4'"),
        ({"scales": None}, "scales: each must be above 0 and at most 16, not None"),
        ({"scales": ()}, "scales: at least one is needed"),
        ({"scales": (1, float("nan"))}, "scales: each must be above 0 and at most 16, not nan"),
        ({"scales": (0.5,), "size": (60, 96)}, r"scales: 0\.5 makes 30x48 of 60x96"),
        ({"size": BaseSize(16, 96)}, "size: height: must be at least 32, not 16"),
        ({"size": "9000x9000"}, "size: 9000x9000 is over the limit of 40 megapixels"),
        ({"size": (1000, 1000), "scales": (7,)}, "size: 7000x7000 is over the limit of 40 megapixels"),
        ({"size": (40000, 40000), "tile": "auto"}, "size: 40000x40000 is over the limit of 1000 megapixels"),
        ({"tile": "8x8"}, "tile: must be HxW"),
        ({"tile": (48, 64)}, "tile: needs at least 64x64, not 48x64"),
        ({"tile": (9000, 9000)}, "tile: 9000x9000 is over the limit of 40 megapixels"),
    ],
)
def test_wrong_arguments(
    tiny_onnx: Path, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before the network is loaded."""
    monkeypatch.setattr("fastscnn.model.onnx_file.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ArgumentError, match=message):
        Segmenter.load(**{"weights": tiny_onnx, **arguments})


SOURCES: dict[str, Callable[[Path, UInt8Array], Any]] = {
    "path": lambda path, _: path,
    "text": lambda path, _: str(path),
    "bytes": lambda path, _: path.read_bytes(),
    "buffer": lambda path, _: io.BytesIO(path.read_bytes()),
    "PIL": lambda _, image: Image.fromarray(image),
    "array": lambda _, image: image,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_image(tiny: Segmenter, stripes: Scene, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "stripes.png"
    images.write(path, stripes.image)
    result = tiny(SOURCES[kind](path, stripes.image))
    np.testing.assert_array_equal(result.labels, stripes.labels)
    assert result.stem == ("stripes" if kind in ("path", "text") else "image")
    np.testing.assert_array_equal(result.image, stripes.image)


def test_lists_give_lists(tiny_onnx: Path, stripes: Scene, tmp_path: Path) -> None:
    path = tmp_path / "stripes.png"
    images.write(path, stripes.image)
    for streams in (1, 3):
        segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1, streams=streams)
        results = segmenter([stripes.image, path, Image.fromarray(stripes.image)], confidence=True)
        assert len(results) == 3
        for result in results:
            np.testing.assert_array_equal(result.labels, stripes.labels)
            assert result.confidence is not None
        assert segmenter([]) == []
        assert len(segmenter((str(path),))) == 1


def test_opencvs_order_of_channels(tiny: Segmenter, stripes: Scene) -> None:
    np.testing.assert_array_equal(tiny(stripes.image[:, :, ::-1], bgr=True).labels, stripes.labels)
    np.testing.assert_array_equal(tiny([stripes.image[:, :, ::-1]], bgr=True)[0].image, stripes.image)
    np.testing.assert_array_equal(tiny(Image.fromarray(stripes.image), bgr=True).labels, stripes.labels)  # PIL is RGB
    four = np.dstack([stripes.image[:, :, ::-1], stripes.labels])
    np.testing.assert_array_equal(sources.pixels(four, 4, bgr=True).array, np.dstack([stripes.image, stripes.labels]))


def test_grey_arrays_are_taken_as_grey_files(tiny: Segmenter, tmp_path: Path) -> None:
    grey = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96).astype(np.uint8)
    images.write(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(tiny(grey).labels, tiny(tmp_path / "grey.png").labels)
    np.testing.assert_array_equal(tiny(grey).image, tiny(Image.fromarray(grey)).image)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "not None, which is what cv2.imread returns for a file that it cannot read"),
        (3, "or an array .*, not int"),
        ({"image": 1}, "not dict"),
        (iter([1]), "not list_iterator"),
        ("gone.png", r"gone\.png: no such file"),
        (b"gone.png", "the image: is not an image that can be read"),
        ("https://example.org/a.jpg", "Addresses are not fetched"),
    ],
)
def test_what_is_no_image(tiny: Segmenter, given: Any, message: str) -> None:
    for call in (tiny, tiny.segment, tiny.forward, tiny.logits, tiny.probabilities, lambda one: tiny([one])):
        with pytest.raises(FastSCNNError, match=message):
            call(given)


def test_an_image_is_checked_once(tiny: Segmenter, stripes: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    original = sources.pixels

    def counted(source: sources.ImageSource, *more: Any) -> sources.Pixels:
        calls.append(source)
        return original(source, *more)

    monkeypatch.setattr(sources, "pixels", counted)
    tiny.segment(stripes.image, confidence=True)
    assert len(calls) == 1
    list(tiny.stream([stripes.image] * 3, smoothing=True))
    assert len(calls) == 4


@pytest.mark.parametrize(("options", "decoded"), [
    ({}, (192, 288)), ({"size": "64x96"}, (192, 288)), ({"scales": (0.5, 2.0)}, (384, 576)), ({"size": "native"}, None),
    ({"tile": "64x96"}, None),
])
def test_a_file_keeps_twice_the_largest_input(
    tiny_onnx: Path, stripes: Scene, tmp_path: Path, options: dict[str, Any], decoded: tuple[int, int] | None
) -> None:
    """That of 64x96 keeps at least 128x192, at a fraction that libjpeg offers."""
    pytest.importorskip("simplejpeg")
    Image.fromarray(images.resize(stripes.image, (512 * 3, 768 * 3))).save(tmp_path / "a.jpg", quality=95)
    segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1, **options)
    result = segmenter.segment(tmp_path / "a.jpg", keep_image=False)
    assert (result.image, result.decoded_size, result.labels.shape) == (None, decoded, (1536, 2304))
    assert segmenter.segment(tmp_path / "a.jpg").decoded_size is None


def test_a_small_file_is_refused_by_its_size(tiny: Segmenter, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(FastSCNNError, match=r"The image is 20x24 \(HxW\) and needs at least 32 pixels a side"):
        tiny.segment(tmp_path / "a.jpg", keep_image=False)


def test_repr(tiny_onnx: Path) -> None:
    one = Segmenter.load(tiny_onnx, "onnx", threads=1)
    assert repr(one) == "Segmenter(weights='tiny.onnx', backend='onnx', precision='float32', size='64x96', threads=1)"
    many = Segmenter.load(tiny_onnx, "onnx", "native", 2, (0.5, 1.0), streams=2)
    assert repr(many).endswith("size='native', threads=2, scales=(0.5, 1.0), flip=False, streams=2)")
    assert repr(Segmenter(Seeing())).startswith("Segmenter(weights=None, backend='seeing'")


def described(segmenter: Segmenter) -> tuple[str, Path | None]:
    """Its settings; called in another process."""
    return repr(segmenter), segmenter.path


def test_copies_load_the_same_weights(
    tiny_onnx: Path, stripes: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_onnx.parent)
    segmenter = Segmenter.load(tiny_onnx.name, "onnx", (48, 64), 2, (1.0, 1.5), True, streams=2)
    pickled = pickle.dumps(segmenter)
    monkeypatch.chdir(tmp_path)
    for other in (pickle.loads(pickled), copy.deepcopy(Segmenter.load(tiny_onnx, "onnx", threads=1))):
        assert other.segment(stripes.image).labels.shape == stripes.labels.shape
    for other in (pickle.loads(pickled), copy.deepcopy(segmenter)):
        assert repr(other) == repr(segmenter)
    np.testing.assert_array_equal(other(stripes.image).labels, segmenter(stripes.image).labels)


def test_spawned_processes_take_a_segmenter(tiny: Segmenter) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(described, (tiny,)) == (repr(tiny), tiny.path)


def test_a_segmenter_without_a_file_refuses_to_be_copied() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(FastSCNNError, match="made without a weight file and cannot be copied"):
            attempt(Segmenter(Seeing()))


def test_a_url_is_no_weight_file() -> None:
    with pytest.raises(FastSCNNError, match=r"no such weight file\. Addresses are not fetched: download the file first"):
        Segmenter.load("https://example.com/camvid.onnx")


def test_sizes_may_be_numpy_arrays(tiny_onnx: Path) -> None:
    assert Segmenter.load(tiny_onnx, size=np.array([48, 64])).size == (48, 64)  # type: ignore[arg-type]


def test_a_closed_file_object_is_named(tiny: Segmenter, tmp_path: Path, stripes: Scene) -> None:
    images.write(tmp_path / "a.png", stripes.image)
    with (tmp_path / "a.png").open("rb") as file:
        pass
    with pytest.raises(FastSCNNError, match=r"a\.png: cannot be read \(read of closed file\)"):
        tiny(file)


def test_close(tiny_onnx: Path, stripes: Scene) -> None:
    with Segmenter.load(tiny_onnx, "onnx", threads=1) as segmenter:
        np.testing.assert_array_equal(segmenter(stripes.image).labels, stripes.labels)
    segmenter.close()
    assert repr(segmenter) == "Segmenter(closed)"
    for use in (lambda: segmenter(stripes.image), lambda: segmenter.card, lambda: pickle.dumps(segmenter)):
        with pytest.raises(FastSCNNError, match="The segmenter is closed"):
            use()


def test_weights_in_the_home_folder(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_onnx.parent))
    assert Segmenter.load(f"~/{tiny_onnx.name}", "onnx", threads=1).path == tiny_onnx
