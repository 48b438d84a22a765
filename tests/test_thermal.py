"""Four channels, RGB and thermal, the whole way: trained on PST900's layout, exported, quantised, timed and labelled by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.street import street
from PIL import Image

from fastscnn import Segmenter, cli
from fastscnn.backends.cuda.backend import CudaBackend
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.backends.torch import TorchBackend
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.benchmark import benchmark
from fastscnn.data.builtin import pst900
from fastscnn.exporting import pipeline
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.upsampling import upsample

SIZE = (64, 96)  # of the images and of the network's input
PLAIN = ["--gamma", "1", "--brightness", "0", "--contrast", "1", "--channel-noise", "0"]
Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


def thermal(seed: int) -> UInt8Array:
    """Warm and cold spots that have nothing to do with what the scene shows."""
    spots = np.random.default_rng(seed).integers(0, 256, (4, 6), np.uint8)
    return np.array(Image.fromarray(spots).resize(SIZE[::-1]))


def raw(seed: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The same in 16 bits, with holes."""
    kelvin = 21_000 + 8 * thermal(seed).astype(np.uint16)
    kelvin[:2] = 0
    return kelvin


def spread(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """8 bits of 16, written down again from their description."""
    low, high = np.percentile(values[values > 0], (1, 99))
    return np.where(values == 0, 0, np.clip(np.rint(1 + 254 * (values - low) / (high - low)), 1, 255)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray[Any, Any], orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@dataclass(frozen=True)
class Made:
    """A small PST900, the weights of a network that was trained on it, and that network."""

    data: Path
    weights: Path
    network: TorchBackend

    def expected(self, seed: int, grey: UInt8Array) -> UInt8Array:
        """The labels of PyTorch for a scene and its thermal channel, put together here."""
        return upsample.labels(self.network(np.dstack([street(*SIZE, seed).image, grey])[None])[0], SIZE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Trained by the command that a user gives."""
    root = tmp_path_factory.mktemp("thermal")
    data = root / "pst900"
    for seed in range(4):
        split, name = ("train", "test")[seed // 2], f"{seed}_bag1_rect_rgb_frame0000000007.png"
        save(data / split / "rgb" / name, street(*SIZE, seed).image)
        save(data / split / "thermal" / name, thermal(seed))
        save(data / split / "thermal_raw" / name, raw(seed))
        save(data / split / "labels" / name, thermal(seed) // 52)
    # Long enough to find out that the thermal channel tells the classes: without that, int8 would say nothing.
    words = ["--iterations", "40", "--validate-every", "40", "--ema", "0.9", "--validation", "none", "--crop", "64x96"]
    assert cli.main(["train", "debug", f"pst900-rgbt:{data}", "--out", str(root / "run"), *words, *PLAIN]) == 0
    weights = root / "run" / "last.safetensors"
    return Made(data, weights, TorchBackend(*checkpoint.load(weights)))


@pytest.fixture(scope="module")
def float32(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported weights. Tracing takes long."""
    file = tmp_path_factory.mktemp("thermal") / "float32.onnx"
    assert cli.main(["export", str(made.weights), "--out", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def int8(made: Made, float32: Path) -> Path:
    """The quantised weights."""
    file = float32.with_name("int8.onnx")
    with pytest.MonkeyPatch.context() as patch:  # tracing gives the same again
        traced = float32.read_bytes()
        patch.setattr(pipeline, "trace", lambda *_: traced)
        words = ["--data", f"pst900-rgbt:{made.data}", "--split", "test", "--precision", "int8", "--max-iou-loss", "5"]
        assert cli.main(["export", str(made.weights), *words, "--out", str(file)]) == 0
    return file


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`fastscnn segment ... --json` in an empty folder: exit code, the lines, and what it complains of."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        code = cli.main(["segment", *map(str, words), "--threads", "1", "--json"])
        streams = capsys.readouterr()
        return code, [json.loads(line) for line in streams.out.splitlines()], streams.err

    return call


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def share(labels: UInt8Array, others: UInt8Array) -> float:
    return float(np.mean(labels == others))


ENGINES = [
    ("weights", "torch", "float32", "thermal", 1.0),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("float32", "onnx", "float32", "thermal", 0.9999),
        ("float32", "onnx", "float32", "thermal_raw", 0.9999),
        ("float32", "openvino", "float32", "thermal", 0.9999),
        ("float32", "openvino", "bfloat16", "thermal", 0.97),
        ("int8", "onnx", "int8", "thermal", 0.93),
        ("int8", "openvino", "int8", "thermal_raw", 0.93),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("file", "backend", "precision", "kind", "least"), ENGINES)
def test_every_engine_labels_what_pytorch_does(
    made: Made, run: Run, file: str, backend: str, precision: str, kind: str, least: float, request: pytest.FixtureRequest
) -> None:
    if backend == "openvino":
        openvino = pytest.importorskip("openvino")
        if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor does not compute in bfloat16")
    split = made.data / "test"
    weights = made.weights if file == "weights" else request.getfixturevalue(file)
    words = ["--weights", weights, "--backend", backend, "--precision", precision]
    code, lines, err = run(split / "rgb", "--thermal", split / kind, *words)
    assert (code, err) == (0, "")
    for seed, line in zip((2, 3), lines, strict=True):
        name = f"{seed}_bag1_rect_rgb_frame0000000007.png"
        assert (line["image"], line["thermal"]) == (str(split / "rgb" / name), str(split / kind / name))
        assert (line["backend"], line["precision"]) == (backend, precision)
        labels = images.read_values(line["labels"])[0].astype(np.uint8)
        expected = made.expected(seed, thermal(seed) if kind == "thermal" else spread(raw(seed)))
        assert share(labels, expected) >= least
        assert share(expected, made.expected(seed, thermal(9))) < 0.7, "another thermal channel gives other labels"


def test_the_code_of_the_cuda_engine(made: Made) -> None:
    """On the CPU, where it runs without a card."""
    backend = CudaBackend(*checkpoint.load(made.weights), "float32", device="cpu")
    picture = np.dstack([street(*SIZE, 3).image, thermal(3)])
    assert share(backend.labels(picture, SIZE), made.expected(3, thermal(3))) >= 0.9999


def test_the_overlay_shows_the_rgb(made: Made, run: Run) -> None:
    """It is that of the same labels over the image without its thermal channel."""
    split = made.data / "test"
    _, (line, _), _ = run(split / "rgb", "--thermal", split / "thermal", "--weights", made.weights, "--backend", "torch")
    image = images.read(line["image"])
    loaded = Segmenter.load(made.weights, "torch", threads=1)
    images.write("drawn.jpg", loaded.segment(images.stack(image, "", [line["thermal"]])).overlay(image))
    np.testing.assert_array_equal(images.read(line["overlay"]), images.read("drawn.jpg"))


@pytest.mark.parametrize(("of_rgb", "of_thermal"), [(1, 1), (6, 1), (1, 6), (6, 6), (3, 8)])
def test_image_and_thermal_are_upright(made: Made, run: Run, of_rgb: int, of_thermal: int) -> None:
    """Each by its own file, however the camera was held."""
    quarters = {1: 0, 6: 1, 3: 2, 8: 3}  # that an image is stored turned by
    save(Path("a.png"), np.rot90(street(*SIZE, 5).image, quarters[of_rgb]), of_rgb)
    save(Path("warm.png"), np.rot90(raw(5), quarters[of_thermal]), of_thermal)
    code, (line,), _ = run("a.png", "--thermal", "warm.png", "--weights", made.weights, "--backend", "torch")
    assert code == 0
    np.testing.assert_array_equal(images.read_values(line["labels"])[0], made.expected(5, spread(raw(5))))


def test_bad_thermal_files_do_not_stop_the_others(made: Made, run: Run) -> None:
    """A folder with the thermal files below the images."""
    fine, bad = street(*SIZE, 2).image, Path("drive/thermal")
    for name in ("broken", "colour", "fine", "gone", "large", "turned", "twice"):
        save(Path(f"drive/{name}.png"), fine)
        save(bad / f"{name}.png", thermal(2))
    (bad / "broken.png").write_bytes((bad / "fine.png").read_bytes()[:-60])
    save(bad / "colour.png", fine)
    (bad / "gone.png").unlink()
    save(bad / "large.png", thermal(2).repeat(2, axis=0))
    save(bad / "turned.png", thermal(2), orientation=6)
    save(bad / "twice.tif", raw(2))
    code, lines, err = run("drive", "--thermal", bad, "--weights", made.weights, "--backend", "torch")
    assert code == 1
    assert [line["image"] for line in lines if "error" not in line] == ["drive/fine.png"]
    assert files_in(Path("segmented")) == ["fine.labels.png", "fine.overlay.jpg"]
    messages = [
        "drive/broken.png: drive/thermal/broken.png: is truncated or broken",
        "drive/colour.png: drive/thermal/colour.png: is a colour image, but one channel is expected; save the values",
        "drive/gone.png: has no thermal file named gone in drive/thermal; add it or remove the image.",
        "drive/large.png: drive/thermal/large.png: is 128x96 (HxW) but its image drive/large.png is 64x96, both upright",
        "drive/turned.png: drive/thermal/turned.png: is 96x64 (HxW) but its image drive/turned.png is 64x96, both upright",
        "drive/twice.png: both drive/thermal/twice.png and drive/thermal/twice.tif could be its thermal file; keep one",
        "6 of 7 images failed; the others are segmented.",
    ]
    for message, complaint in zip(messages, err.splitlines(), strict=True):
        assert complaint.startswith(f"fastscnn: {message}")
    failed = [line for line in lines if "error" in line]
    assert [line["error"] for line in failed] == [complaint.removeprefix("fastscnn: ") for complaint in err.splitlines()[:-1]]
    partners = [Path(line["thermal"]).stem if "thermal" in line else None for line in failed]
    assert partners == ["broken", "colour", None, "large", "turned", None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png"], "takes RGB and thermal; give the thermal images with --thermal."),
        (["a.png", "--thermal", "none"], "none: no such file or folder of thermal images"),
        (["a.png", "b.png", "--thermal", "t/a.png"], "t/a.png: one thermal file for 2 images"),
        (["t", "--thermal", "t"], "t: all given images are thermal ones"),
    ],
)
def test_wrong_calls(made: Made, run: Run, words: list[str], message: str) -> None:
    for path in ("a.png", "b.png", "t/a.png"):
        save(Path(path), thermal(0))
    before = files_in(Path())
    code, lines, err = run(*words, "--weights", made.weights, "--backend", "torch")
    assert (code, lines, files_in(Path())) == (1, [], before)
    assert message in err
    assert len(err.splitlines()) == 1


def test_weights_of_other_channels(made: Made, run: Run, tiny_onnx: Path, tmp_path: Path) -> None:
    save(Path("a.png"), thermal(0))
    save(Path("warm.png"), thermal(0))
    code, lines, err = run("a.png", "--thermal", "warm.png", "--weights", tiny_onnx)
    assert (code, lines, Path("segmented").exists()) == (1, [], False)
    assert err == f"fastscnn: {tiny_onnx}: takes RGB only; omit --thermal, or give weights trained with thermal images.\n"
    six = tmp_path / "six.safetensors"
    checkpoint.save(six, FastSCNN(5, 6), Card(pst900.LABELS, SIZE, channels=6))
    code, lines, err = run("a.png", "--thermal", "warm.png", "--weights", six, "--backend", "torch")
    assert (code, lines) == (1, [])
    assert "takes 6 channels, but segment reads RGB, or RGB and thermal" in err


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (3, r"uint8 \[height, width, 4\], not uint8 \[64, 96, 3\]\. The weights need 1 more channels .* images\.stack"),
        (5, r"uint8 \[height, width, 4\], not uint8 \[64, 96, 5\]\.$"),
    ],
)
def test_images_of_other_channels(made: Made, channels: int, message: str) -> None:
    loaded = Segmenter.load(made.weights, "torch", threads=1)
    with pytest.raises(FastSCNNError, match=message):
        loaded.segment(np.zeros((*SIZE, channels), np.uint8))


def test_weights_of_rgb_say_what_to_do_with_more(tiny: Segmenter) -> None:
    with pytest.raises(FastSCNNError, match=r"not uint8 \[64, 96, 4\]\. The weights use RGB only: give image\[:, :, :3\]"):
        tiny.segment(np.zeros((*SIZE, 4), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(33, 47), (64, 97), (70, 66)])
def test_the_bytes_are_read_at_any_size(float32: Path, int8: Path, size: tuple[int, int]) -> None:
    """In int8 the first convolution reads pixels in fours; the logits follow those in float32 wherever the image ends."""
    picture = images.resize(np.dstack([street(*SIZE, 3).image, thermal(3)]), size)[None]
    expected, got = OnnxBackend(float32, 1)(picture), OnnxBackend(int8, 1)(picture)
    assert got.shape == expected.shape
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_a_budget(made: Made, int8: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.RUNS", 3)
    seen: set[tuple[int, ...]] = set()
    segment = Segmenter.segment

    def note(self: Segmenter, image: UInt8Array, **options: bool) -> Any:
        seen.add(image.shape)
        return segment(self, image, **options)

    monkeypatch.setattr(Segmenter, "segment", note)
    split = made.data / "test"
    words = ["--weights", int8, "--backend", "onnx", "--latency-budget", "60000"]
    code, lines, err = run(split / "rgb", "--thermal", split / "thermal", *words)
    assert (code, len(lines), seen) == (0, 2, {(*SIZE, 4)})
    assert "Input 64x96" in err


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["files", "paper"])
def test_benchmark(int8: Path, protocol: str) -> None:
    report = benchmark.benchmark(Segmenter.load(int8, "onnx", threads=1), SIZE, protocol, runs=2, warmup=0)
    assert (report.channels, report.size, report.precision) == (4, SIZE, "int8")
    assert ("decode" in report.stages) == (protocol == "files")
    assert report.cold_start_s > 0


@pytest.mark.slow
def test_mmsegmentation_is_no_peer(float32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = tmp_path / "python"
    peer.touch()
    assert cli.main(["benchmark", "--weights", str(float32), "--sizes", "64x96", "--mmseg", str(peer)]) == 1
    assert "mmseg: its network takes RGB" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_of_every_file_are_of_four_channels(
    made: Made, float32: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what the camera's gain made of the 16 bits scores apart from what `read_grey` makes of them."""
    scores = {}
    for option in ("agc", "raw"):
        words = ["--weights", str(float32), f"pst900-rgbt:{made.data}?thermal={option}", "--split", "test", "--json"]
        assert cli.main(["evaluate", *words, "--threads", "1"]) == 0
        scores[option] = json.loads(capsys.readouterr().out)["confusion"]
    truth = np.concatenate([thermal(seed) // 52 for seed in (2, 3)])
    for option, greys in (("agc", thermal), ("raw", lambda seed: spread(raw(seed)))):
        labels = np.concatenate([made.expected(seed, greys(seed)) for seed in (2, 3)])
        expected = np.bincount(truth.ravel() * 5 + labels.ravel().astype(int), minlength=25).reshape(5, 5)
        assert np.abs(np.array(scores[option]) - expected).sum() <= 4
    assert scores["agc"] != scores["raw"]
