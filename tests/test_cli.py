"""The command line in process: exit codes, files on disk, and what goes to which stream."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from PIL import Image

from fastscnn import Segmenter, cli
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.media import images
from fastscnn.version import __version__

Run = Callable[..., tuple[int, str, str]]

TOML = """
name = "stripes"
classes = ["red", "green", "blue"]
[splits.test]
images = "images/*.png"
labels = "labels/{stem}.png"
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls main with the words; returns exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:  # tyro's way
            code = error.code if isinstance(error.code, int) else -1
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return code, streams.out, streams.err

    return call


@pytest.fixture
def picture(stripes: Scene) -> Path:
    """The stripes as stripes.png in the working folder."""
    images.write(Path("stripes.png"), stripes.image)
    return Path("stripes.png")


@pytest.fixture
def data(stripes: Scene) -> Path:
    """A dataset of two pairs: the stripes, and the stripes upside down with half of the red labels wrong."""
    for name, labels in (("a", stripes.labels), ("b", np.where(np.arange(192) < 32, 1, stripes.labels).astype(np.uint8))):
        images.write(Path("data/images") / f"{name}.png", stripes.image)
        images.write(Path("data/labels") / f"{name}.png", labels)
    Path("data/dataset.toml").write_text(TOML)
    return Path("data")


def lines(out: str) -> list[dict[str, Any]]:
    """All of stdout, as one JSON object a line."""
    return [json.loads(line) for line in out.splitlines()]


def unfolded(out: str) -> str:
    """What was printed, with the titles and sentences that were broken into lines put together again."""
    return " ".join(out.split())


def files_in(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# segment


def test_segment_writes_labels_and_overlay(run: Run, tiny_onnx: Path, picture: Path, stripes: Scene) -> None:
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx")
    assert (code, err) == (0, "")
    assert files_in("segmented") == ["stripes.labels.png", "stripes.overlay.jpg"]
    np.testing.assert_array_equal(images.read_ids(Path("segmented/stripes.labels.png")), stripes.labels)
    overlay = images.read(Path("segmented/stripes.overlay.jpg"))
    assert overlay.shape[0] > 128
    assert overlay.shape[1:] == (192, 3)
    assert "onnx float32, 1" in out
    assert "33.33" in out
    assert "1 labelled; results in segmented" in out


def test_segment_json(run: Run, tiny_onnx: Path, picture: Path) -> None:
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--out", "new/seen", "--backend", "onnx", "--json")
    assert (code, err) == (0, "")
    (line,) = lines(out)
    times = line.pop("milliseconds")
    assert list(times) == ["decode", "resize", "network", "labels", "overlay", "write"]
    assert all(time >= 0 for time in times.values())
    assert line == {
        "image": "stripes.png",
        "labels": "new/seen/stripes.labels.png",
        "overlay": "new/seen/stripes.overlay.jpg",
        "size": [128, 192],
        "share": {"red": 33.333, "green": 33.333, "blue": 33.333},
        "backend": "onnx",
        "precision": "float32",
    }


def test_segment_the_drawn_scene(run: Run, tiny_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    code, out, _ = run("segment", "--weights", tiny_onnx)
    assert code == 0
    assert files_in("segmented") == ["scene.labels.png", "scene.overlay.jpg", "scene.png"]
    assert "Look at segmented/scene.overlay.jpg" in out
    assert "mIoU" not in out, "other classes than the scene's"
    np.testing.assert_array_equal(images.read(Path("segmented/scene.png")), synthetic.draw(seed=3).image)

    street = write_onnx(tmp_path / "street.onnx", classes=synthetic.CLASSES)
    code, out, err = run("segment", "--weights", street, "--json")
    assert (code, err) == (0, "")
    (line,) = lines(out)
    drawn = images.read_ids(Path(line["labels"]))
    assert line["pixel_accuracy"] == round(100 * float(np.mean(drawn == synthetic.draw(seed=3).labels)), 2)
    assert 0 <= line["miou"] <= 100
    code, out, _ = run("segment", "--weights", street)
    assert f"mIoU {line['miou']}, pixel accuracy {line['pixel_accuracy']} %" in out


def made_image(kind: str) -> bytes:
    """An image of 40x48 (rows x columns) as a file; one that is turned lies on its side."""
    red = np.full((40, 48, 3), (200, 10, 10), np.uint8)
    pictures = {
        "16-bit.png": lambda: Image.fromarray(np.full((40, 48), 60_000, np.uint16)),
        "grey.png": lambda: Image.fromarray(red[:, :, 0]),
        "cmyk.jpg": lambda: Image.fromarray(red).convert("CMYK"),
        "rgba.png": lambda: Image.fromarray(np.dstack([red, np.zeros((40, 48), np.uint8)])),
        "palette.png": lambda: Image.fromarray(red).convert("P", palette=Image.Palette.ADAPTIVE),
        "turned.jpg": lambda: Image.fromarray(red.swapaxes(0, 1)),
        "rgb.webp": lambda: Image.fromarray(red),
        "tiny.png": lambda: Image.new("RGB", (1, 1)),
        "thin.png": lambda: Image.new("RGB", (5000, 1)),
    }
    options: dict[str, Any] = {}
    if kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    buffer = io.BytesIO()
    pictures[kind]().save(buffer, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind.rpartition(".")[2]], **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["16-bit.png", "grey.png", "cmyk.jpg", "rgba.png", "palette.png", "turned.jpg", "rgb.webp"])
def test_segment_every_kind_of_image(run: Run, tiny_onnx: Path, kind: str) -> None:
    Path(kind).write_bytes(made_image(kind))
    code, out, err = run("segment", kind, "--weights", tiny_onnx, "--json")
    assert (code, err) == (0, "")
    (line,) = lines(out)
    assert line["size"] == [40, 48]
    assert images.read_ids(Path(line["labels"])).shape == (40, 48)
    assert line["share"]["red"] == 100, "of grey images too, where all classes tie"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


BAD: dict[str, tuple[Callable[[], bytes] | None, str]] = {
    "tiny.png": (lambda: made_image("tiny.png"), "has 1x1 pixels; it needs at least 32 a side"),
    "thin.png": (lambda: made_image("thin.png"), "has 5000x1 pixels; it needs at least 32 a side"),
    "cut.jpg": (lambda: made_image("turned.jpg")[:-200], "truncated or broken"),
    "text.png": (lambda: b"hello", "is not an image"),
    "empty.png": (lambda: b"", "is not an image"),
    "huge.png": (
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8200, 5000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b""),
        "has 8200x5000 pixels, over the limit of 40 megapixels",
    ),
    "gone.png": (None, "no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_segment_one_bad_image(run: Run, tiny_onnx: Path, name: str) -> None:
    write, message = BAD[name]
    if write:
        Path(name).write_bytes(write())
    code, out, err = run("segment", name, "--weights", tiny_onnx)
    assert (code, out) == (1, "")
    assert err.startswith(f"fastscnn: {name}: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("segmented").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_segment_goes_on_after_bad_images(run: Run, tiny_onnx: Path, picture: Path, as_json: bool) -> None:
    bad = [name for name, (write, _) in BAD.items() if write]
    Path("photos/sub").mkdir(parents=True)
    for name in bad:
        write = BAD[name][0]
        assert write
        Path("photos", name).write_bytes(write())
    for name in ("aa.png", "sub/zz.png"):
        Path("photos", name).write_bytes(picture.read_bytes())
    code, out, err = run("segment", "photos", "--weights", tiny_onnx, *(["--json"] if as_json else []))
    assert code == 1
    assert files_in("segmented") == ["aa.labels.png", "aa.overlay.jpg", "sub/zz.labels.png", "sub/zz.overlay.jpg"]
    complaints = [line for line in err.splitlines() if line.startswith("fastscnn: ")]
    assert complaints[-1] == f"fastscnn: {len(bad)} of {len(bad) + 2} images failed; the others are labelled."
    for name, complaint in zip(sorted(bad), complaints[:-1], strict=True):
        assert complaint.startswith(f"fastscnn: photos/{name}: ")
        assert BAD[name][1] in complaint
    if as_json:
        assert err.splitlines() == complaints, "no progress bar"
        printed = {line["image"]: line for line in lines(out)}
        assert len(printed) == len(bad) + 2
        assert {Path(image).name for image, line in printed.items() if "error" in line} == set(bad)
        assert all(set(line) == {"image", "error"} for line in printed.values() if "error" in line)
        assert all(BAD[name][1] in printed[f"photos/{name}"]["error"] for name in bad)
    else:
        assert "2 labelled" in out


def test_segment_a_folder_again_does_not_label_the_results(run: Run, tiny_onnx: Path, picture: Path) -> None:
    for _ in range(2):
        code, out, _ = run("segment", ".", "--weights", tiny_onnx, "--json")
        assert code == 0
        assert [line["image"] for line in lines(out)] == [str(picture)]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("64x96", ""),
        ("64X96", ""),
        ("native", ""),
        ("360", "size: is HxW, for example 360x480, or native, not '360'"),
        ("x96", "size: is HxW"),
        ("64x", "size: is HxW"),
        ("64x96x3", "size: is HxW"),
        ("-64x96", "size: is HxW"),
        ("6.4x96", "size: is HxW"),
        ("Native", "size: is HxW"),
        ("", "size: is HxW"),
        ("16x96", "size: the network needs at least 32x32, not 16x96"),
        ("0x0", "at least 32x32"),
    ],
)
def test_sizes(run: Run, tiny_onnx: Path, picture: Path, stripes: Scene, size: str, message: str) -> None:
    code, _, err = run("segment", picture, "--weights", tiny_onnx, f"--size={size}", "--json")
    assert code == (1 if message else 0)
    assert message in err
    if not message:
        np.testing.assert_array_equal(images.read_ids(Path("segmented/stripes.labels.png")), stripes.labels)


def test_segment_where_nothing_can_be_written(run: Run, tiny_onnx: Path, picture: Path) -> None:
    Path("out").write_text("a file")
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--out", "out")
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: stripes.png: out/stripes.labels.png: cannot be written (")
    assert Path("out").read_text() == "a file"
    code, _, err = run("segment", "--weights", tiny_onnx, "--out", "out")
    assert code == 1
    assert err.startswith("fastscnn: out/scene.png: cannot be written (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "gone.onnx"], "gone.onnx: no such weight file"),
        (["--weights", "weights.pth"], "weights.pth: weights are .onnx or .safetensors"),
        (["--weights", "text.onnx"], "text.onnx: is not an ONNX model"),
        (["--backend", "onx"], "There is no backend 'onx'. Did you mean 'onnx'?"),
        (["--backend", "torch"], "is run by the backends openvino and onnx, not by torch"),
        (["--threads", "0"], "threads: must lie between 1 and 1024, not 0"),
    ],
)
def test_wrong_weights_and_runtimes(run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str) -> None:
    for name in ("weights.pth", "text.onnx"):
        Path(name).write_text("hello")
    code, out, err = run("segment", picture, "--weights", tiny_onnx, *words)
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: ")
    assert message in err


def test_a_budget(run: Run, tiny_onnx: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget._RUNS", 3)
    words = ["segment", picture, "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx"]
    code, _, err = run(*words, "--budget", "5000ms")
    assert code == 0
    assert "input 64x96:" in err
    assert "for frames of 128x192, onnx float32 (measured on 2" in unfolded(err)
    assert "its card holds no mIoU for that input" in unfolded(err)
    code, _, err = run(*words, "--budget", "0.0001")
    assert code == 1
    assert "budget: no input of the network is labelled in 0.0001 ms here; the fastest, " in err


def test_a_budget_for_a_folder_whose_first_file_is_bad(
    run: Run, tiny_onnx: Path, stripes: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest readable image counts; a cache that cannot be written is no reason to stop."""
    monkeypatch.setattr("fastscnn.benchmark.latency_budget._RUNS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    images.write(Path("photos/b.png"), stripes.image)
    images.write(Path("photos/c.png"), stripes.image[:40, :50])
    Path("photos/a.png").write_bytes(b"")
    words = ["segment", "photos", "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx", "--budget", "5000"]
    code, _, err = run(*words)
    assert code == 1
    assert "for frames of 128x192, onnx float32; its card" in unfolded(err)
    assert "1 of 3 images failed; the others are labelled" in err
    assert len(list(Path("segmented").glob("*.labels.png"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "fast"], "budget: is milliseconds a frame, for example 33ms, not 'fast'"),
        (["--budget", "33ms", "--size", "64x96"], "budget: chooses the size; leave --size out"),
    ],
)
def test_wrong_budgets(run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str) -> None:
    code, _, err = run("segment", picture, "--weights", tiny_onnx, *words)
    assert code == 1
    assert message in err


def test_several_at_a_time_keep_their_order(run: Run, tiny_onnx: Path, stripes: Scene) -> None:
    for index in range(9):
        images.write(Path(f"photos/{index}.png"), np.roll(stripes.image, index, axis=1))
    words = ["segment", "photos", "--weights", tiny_onnx, "--threads", 3]
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert [Path(json.loads(line)["image"]).stem for line in out.splitlines()] == [str(index) for index in range(9)]
    for index in range(9):
        labels = images.read_ids(Path(f"segmented/{index}.labels.png"))
        assert np.mean(labels == np.roll(stripes.labels, index, axis=1)) > 0.75  # resizing blurs the borders
    code, out, _ = run(*words)
    assert "images per second from file to file, 3 at a time" in out


def test_an_empty_folder(run: Run, tiny_onnx: Path) -> None:
    Path("photos").mkdir()
    code, out, err = run("segment", "photos", "--weights", tiny_onnx)
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: photos: holds no image")


# evaluate, check, benchmark


def test_evaluate(run: Run, tiny_onnx: Path, data: Path) -> None:
    code, out, _ = run("evaluate", "--data", data, "--weights", tiny_onnx, "--backend", "onnx", "--json", "new/scores.json")
    assert code == 0
    scores = json.loads(Path("new/scores.json").read_text())
    assert list(scores) == [
        "miou", "pixel_accuracy", "iou", "images", "backend", "precision", "size", "scales", "flip", "weights_sha256",
        "confusion", "most_confused",
    ]
    red, green, blue = 100 * 3 / 4, 100 * 4 / 5, 100.0  # a quarter of red is labelled green
    assert scores["iou"] == pytest.approx({"red": red, "green": green, "blue": blue})
    assert scores["miou"] == pytest.approx((red + green + blue) / 3)
    assert scores["images"] == 2
    for shown in ("75.00", "80.00", "100.00", f"{scores['miou']:.2f}", "91.67", "2 images of stripes test, onnx float32"):
        assert shown in unfolded(out)
    assert unfolded(out).rstrip().endswith("input 64x96, scales 1")


def test_evaluate_at_several_scales(run: Run, tiny_onnx: Path, data: Path) -> None:
    words = ["evaluate", "--data", data, "--weights", tiny_onnx, "--json", "scores.json"]
    code, out, _ = run(*words, "--scales", "0.5,1,1.25", "--flip")
    assert code == 0
    assert unfolded(out).rstrip().endswith("input 64x96, scales 0.5, 1, 1.25 with flip")
    scores = json.loads(Path("scores.json").read_text())
    assert (scores["scales"], scores["flip"]) == ([0.5, 1.0, 1.25], True)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ("", "scales: are numbers with commas between, for example 0.5,1,1.5, not ''"),
        ("1,", "not '1,'"),
        ("half", "not 'half'"),
        ("0.5 1", "not '0.5 1'"),
        ("1,0", "scales: each lies above 0"),
        ("nan", "not nan"),
        ("0.1", "scales: 0.1 makes 6x10 of 64x96"),
    ],
)
def test_wrong_scales(run: Run, tiny_onnx: Path, data: Path, scales: str, message: str) -> None:
    code, out, err = run("evaluate", "--data", data, "--weights", tiny_onnx, "--scales", scales)
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: scales: ")
    assert message in err


def test_check(run: Run, data: Path) -> None:
    code, out, _ = run("check", data, "--json")
    assert code == 0
    assert json.loads(out)
    code, table, _ = run("check", data / "dataset.toml", "--splits", "test")
    assert code == 0
    assert "0 errors" in table

    images.write(data / "labels" / "a.png", np.full((128, 192), 7, np.uint8))
    code, out, _ = run("check", data, "--json")
    assert code == 1
    assert "labels/a.png" in json.dumps(json.loads(out))
    code, table, _ = run("check", data)
    assert code == 1
    assert "labels/a.png" in table
    assert "1 errors" in table


@pytest.mark.parametrize("verb", ["check", "evaluate"])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("data/none.toml", "data/none.toml: no such file"),
        ("camvit:data", "There is no dataset 'camvit'. Did you mean 'camvid'?"),
        ("camvid:gone", "gone: no such folder"),
        ("gone", "'gone' is not a dataset"),
    ],
)
def test_wrong_datasets(run: Run, tiny_onnx: Path, data: Path, verb: str, spec: str, message: str) -> None:
    words = [spec] if verb == "check" else ["--data", spec, "--weights", tiny_onnx]
    code, out, err = run(verb, *words)
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: ")
    assert message in err


def test_a_split_spelled_wrongly(run: Run, tiny_onnx: Path, data: Path) -> None:
    code, _, err = run("evaluate", "--data", data, "--weights", tiny_onnx, "--split", "tets")
    assert code == 1
    assert "Did you mean 'test'?" in err


def test_benchmark(run: Run, tiny_onnx: Path) -> None:
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    code, out, _ = run("benchmark", *words, "--sizes", "96x128", "--json", "bench.json")
    assert code == 0
    shown = unfolded(out)
    assert "frames per second, JPEG file to PNG file of labels; 2 after 0" in shown
    assert "frames per second with 1 at a time" in shown
    assert "96x128, onnx float32, 1 threads" in shown
    assert "% of the limit" in shown
    (report,) = json.loads(Path("bench.json").read_text())["reports"]
    assert report["runs"] == 2


def test_benchmark_of_several_sizes(run: Run, tiny_onnx: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    sizes = ("--sizes", "96x128,64x64", "--protocol", "paper")
    code, out, _ = run("benchmark", *words, *sizes, "--json", "bench.json", "--plot", "growth.svg")
    assert code == 0
    assert "megapixels" in out
    assert "the paper's: frame in memory to labels" in unfolded(out)
    reports = json.loads(Path("bench.json").read_text())["reports"]
    assert [report["size"] for report in reports] == [[96, 128], [64, 64]]
    assert [report["protocol"] for report in reports] == ["paper", "paper"]
    assert Path("growth.svg").read_text().startswith("<?xml")


def test_benchmark_of_probabilities(run: Run, tiny_onnx: Path) -> None:
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    code, out, _ = run("benchmark", *words, "--sizes", "64x64,64x96", "--protocol=paper", "--output=prob", "--json", "b.json")
    assert code == 0
    assert "frame in memory to probabilities, the mean" in unfolded(out)
    assert "cold start to first probabilities" in unfolded(out)
    assert [report["output"] for report in json.loads(Path("b.json").read_text())["reports"]] == ["prob", "prob"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "native"], "sizes: of the frame are HxW, for example 512x1024,1024x2048, not 'native'"),
        (["--sizes", "128x96,40x40"], "a frame is a drawn scene of at least 64 pixels a side, not 40x40"),
        (["--sizes", "128x96,"], "sizes: of the frame are HxW, for example 512x1024,1024x2048, not '128x96,'"),
        (["--sizes", "96x128", "--plot", "growth.txt"], "growth.txt: a plot is one of"),
        (["--sizes", "96x128", "--runs", "0"], "runs: must be at least 1"),
        (["--sizes", "96x128", "--protocol", "mine"], "There is no protocol 'mine'"),
        (["--output", "prob"], "output: prob is of frames in memory, and the protocol files writes labels"),
        (["--output", "prob", "--protocol", "paper", "--against", "x"], "against: times labels on both sides; leave --output"),
        (["--precision", "int8"], "in float32 or bfloat16, not in int8"),
        (["--precision", "int4"], "There is no precision 'int4'. Did you mean 'int8'"),
        (["--sizes", "64x64", "--runs", "1", "--against", "nowhere"], "nowhere: holds no Python; give the virtual environment"),
    ],
)
def test_wrong_benchmarks(run: Run, tiny_onnx: Path, words: list[str], message: str) -> None:
    code, _, err = run("benchmark", "--weights", tiny_onnx, *words)
    assert code == 1
    assert message in unfolded(err)


# the frame around the commands


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["segmnt"], 1, "There is no command 'segmnt'. Did you mean 'segment'?"),
        (["train"], 1, "Say the recipe first: fastscnn train RECIPE"),
        (["train", "--data", "x"], 1, "Say the recipe first"),
        (["train", "camvod"], 1, "There is no recipe 'camvod'. Did you mean 'camvid'?"),
        (["train", "debug", "--out", "x"], 2, "--data"),
        (["train", "debug", "--data", "x", "--out", "x", "--batch", "two"], 2, "batch"),
        (["segment", "--thread", "2"], 2, "--threads"),
        (["segment", "--threads", "two"], 2, "two"),
        (["segment", "--no-json"], 2, "--json"),
        (["evaluate"], 2, "--data"),
        (["export", "a.safetensors"], 2, "--out"),
        (["check"], 2, "SPEC"),
        (["benchmark", "--runs"], 2, "--runs"),
    ],
)
def test_wrong_calls(run: Run, words: list[str], code: int, message: str) -> None:
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    assert message in err


@pytest.mark.parametrize(("words", "code"), [([], 2), (["-h"], 0), (["--help"], 0)])
def test_overview(run: Run, words: list[str], code: int) -> None:
    got, out, err = run(*words)
    assert (got, err) == (code, "")
    for verb in ("segment", "train", "evaluate", "export", "check", "benchmark"):
        assert f"\n  {verb} " in out


@pytest.mark.parametrize("verb", ["segment", "train debug", "evaluate", "export", "check", "benchmark"])
def test_help(run: Run, verb: str) -> None:
    code, out, err = run(*verb.split(), "--help")
    assert (code, err) == (0, "")
    assert f"fastscnn {verb}" in out
    assert "--no-" not in out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"fastscnn {__version__}\n", "")


def test_interrupt(run: Run, tiny_onnx: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "read", interrupted)
    code, out, err = run("segment", picture, "--weights", tiny_onnx)
    assert (code, out) == (130, "")
    assert "interrupted" in err


def test_python_m_fastscnn() -> None:
    done = subprocess.run([sys.executable, "-m", "fastscnn", "segmnt"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Did you mean 'segment'?" in done.stderr


# What `segment` tells beside labels


def test_confidence_and_the_unknown(run: Run) -> None:
    code, out, _ = run("segment", "--confidence", "--unknown", "--json")
    assert code == 0
    (line,) = lines(out)
    confidence, unknown = images.read_grey(line["confidence"]), images.read_grey(line["unknown"])
    assert confidence.shape == unknown.shape == tuple(line["size"])
    assert 128 < np.median(confidence) <= 255
    assert set(np.unique(unknown)) == {0, 255}
    assert line["unknown_share"] == pytest.approx(100 * (unknown > 0).mean(), abs=1e-3)
    segmenter = Segmenter.load(backend="onnx")
    result = segmenter.segment(images.read("segmented/scene.png"), confidence=True, unknown=True)
    assert result.confidence is not None
    np.testing.assert_array_equal(confidence, np.rint(255 * result.confidence).astype(np.uint8))
    np.testing.assert_array_equal(unknown > 0, result.unknown)
    drawn = images.read("segmented/scene.png")
    np.testing.assert_array_equal(result.blend(drawn)[unknown > 0], drawn[unknown > 0])
    assert {"confidence", "unknown"} <= set(line["milliseconds"])


def test_without_a_threshold_nothing_is_begun(run: Run, picture: Path, tiny_onnx: Path) -> None:
    code, _, error = run("segment", picture, "--weights", tiny_onnx, "--unknown")
    assert code == 1
    assert "the card has no threshold for what is unknown" in error
    assert not Path("segmented").exists()


def test_steady_goes_with_videos(run: Run, picture: Path) -> None:
    code, _, error = run("segment", picture, "--steady")
    assert code == 1
    assert "--steady: go with a video or camera" in error


def test_videos_in_a_folder_are_not_passed_over_in_silence(run: Run, picture: Path) -> None:
    images.write(Path("drive/a.png"), images.read(picture))
    Path("drive/b.mp4").write_bytes(b"not looked at")
    code, out, error = run("segment", "drive")
    assert code == 0
    assert "1 labelled" in out
    assert "videos are given by name, such as drive/b.mp4" in " ".join(error.split())
