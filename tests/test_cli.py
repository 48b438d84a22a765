"""The command line in process: exit codes, files on disk, and what goes to which stream."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from PIL import Image

from fastscnn import Segmenter, cli
from fastscnn.cli import missing
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.media import folders, images, label_maps
from fastscnn.model.card import KEY, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.training.recipes import names
from fastscnn.upsampling import native
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
        code = cli.main([str(word) for word in words])
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


def boxed(err: str) -> str:
    """What was printed in a box, as one line."""
    return unfolded(re.sub("[│╭╮╰╯─]", "", err))


def files_in(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# segment


def test_segment_writes_labels_and_overlay(run: Run, tiny_onnx: Path, picture: Path, stripes: Scene) -> None:
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx")
    assert (code, err) == (0, "")
    assert files_in("segmented") == ["stripes.labels.png", "stripes.overlay.jpg"]
    np.testing.assert_array_equal(images.read_values(Path("segmented/stripes.labels.png"))[0], stripes.labels)
    overlay = images.read(Path("segmented/stripes.overlay.jpg"))
    assert overlay.shape[0] > 128
    assert overlay.shape[1:] == (192, 3)
    assert "onnx float32 on cpu, 1" in out
    assert "33.33" in out
    assert "1 segmented; results in segmented" in out


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
        "class_percentages": {"red": 33.333, "green": 33.333, "blue": 33.333},
        "backend": "onnx",
        "precision": "float32",
        "device": "cpu",
        "verified": True,
    }


@pytest.mark.parametrize("words", [["segment", "stripes.png"], ["evaluate", "data"]])
def test_weights_without_a_hash_are_named_once(
    run: Run, picture: Path, data: Path, write_onnx: WriteOnnx, tiny_onnx: Path, words: list[str]
) -> None:
    weights = write_onnx(Path("old.onnx"), metadata={KEY: Card(LabelSet(("red", "green", "blue")), (64, 96)).to_json()})
    code, out, err = run(*words, "--weights", weights, "--json")
    assert code == 0
    assert [line["verified"] for line in lines(out)] == [False]
    assert err.startswith("old.onnx: unverified: its card has no hash, so damage to the file is not noticed; compare")
    assert len(err.splitlines()) == 1
    assert run(*words, "--weights", weights, "--quiet")[2] == ""
    assert run(*words, "--weights", tiny_onnx)[2] == ""


def test_demo(run: Run, tiny_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    code, out, _ = run("demo", "--weights", tiny_onnx)
    assert code == 0
    assert files_in("segmented") == ["scene.labels.png", "scene.overlay.jpg", "scene.png"]
    assert "Open segmented/scene.overlay.jpg" in out
    assert "mIoU" not in out, "other classes than the scene's"
    np.testing.assert_array_equal(images.read(Path("segmented/scene.png")), synthetic.draw(seed=3).image)

    street = write_onnx(tmp_path / "street.onnx", classes=synthetic.CLASSES)
    code, out, err = run("demo", "--weights", street, "--json")
    assert (code, err) == (0, "")
    (line,) = lines(out)
    drawn = images.read_values(Path(line["labels"]))[0]
    assert line["pixel_accuracy"] == round(100 * float(np.mean(drawn == synthetic.draw(seed=3).labels)), 2)
    assert 0 <= line["miou"] <= 100
    code, out, _ = run("demo", "--weights", street)
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
    assert images.read_values(Path(line["labels"]))[0].shape == (40, 48)
    assert line["class_percentages"]["red"] == 100, "of grey images too, where all classes tie"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


BAD: dict[str, tuple[Callable[[], bytes] | None, str]] = {
    "tiny.png": (lambda: made_image("tiny.png"), "is 1x1 (HxW) and needs at least 32 pixels a side"),
    "thin.png": (lambda: made_image("thin.png"), "is 1x5000 (HxW) and needs at least 32 pixels a side"),
    "cut.jpg": (lambda: made_image("turned.jpg")[:-200], "truncated or broken"),
    "text.png": (lambda: b"hello", "is not an image"),
    "empty.png": (lambda: b"", "is not an image"),
    "huge.png": (
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8200, 5000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b""),
        "is 5000x8200 (HxW), over the limit of 40 megapixels",
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
    assert complaints[-1] == f"fastscnn: {len(bad)} of {len(bad) + 2} images failed; the others are segmented."
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
        assert "2 segmented" in out


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
        ("360", "expected HxW, for example 360x480, or native, not '360'"),
        ("x96", "expected HxW"),
        ("64x", "expected HxW"),
        ("64x96x3", "expected HxW"),
        ("-64x96", "expected HxW"),
        ("6.4x96", "expected HxW"),
        ("Native", "expected HxW"),
        ("", "expected HxW"),
        ("16x96", "size: height: must be at least 32, not 16"),
        ("0x0", "must be at least 32, not 0"),
    ],
)
def test_sizes(run: Run, tiny_onnx: Path, picture: Path, stripes: Scene, size: str, message: str) -> None:
    code, _, err = run("segment", picture, "--weights", tiny_onnx, f"--size={size}", "--json")
    assert code == (2 if message else 0)
    assert message in boxed(err)
    if not message:
        np.testing.assert_array_equal(images.read_values(Path("segmented/stripes.labels.png"))[0], stripes.labels)


def test_home_folders_in_options(run: Run, tiny_onnx: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in --out=~/results, which the shell passes on as it is."""
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    code, _, _ = run("segment", picture, "--weights", tiny_onnx, "--out=~/results")
    assert code == 0
    assert files_in("home/results") == ["stripes.labels.png", "stripes.overlay.jpg"]
    Path("home/a.png").write_bytes(picture.read_bytes())
    assert run("segment", "~/a.png", "--weights", tiny_onnx, "--out", "~/one.png")[0] == 0
    assert Path("home/one.png").is_file()
    assert not Path("~").exists()


def test_segment_where_nothing_can_be_written(run: Run, tiny_onnx: Path, picture: Path) -> None:
    Path("out").write_text("a file")
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--out", "out")
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: stripes.png: out/stripes.labels.png: cannot be written (")
    assert Path("out").read_text() == "a file"
    code, _, err = run("demo", "--weights", tiny_onnx, "--out", "out")
    assert code == 1
    assert err.startswith("fastscnn: out/scene.png: cannot be written (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "gone.onnx"], "gone.onnx: no such weight file"),
        (["--weights", "weights.pth"], "weights.pth: weights are .onnx or .safetensors"),
        (["--weights", "text.onnx"], "text.onnx: is not an ONNX model"),
        (["--backend", "torch"], "runs with the backends openvino and onnx, not with torch"),
        (["--threads", "0"], "threads: must be from 1 to 1024, not 0"),
    ],
)
def test_wrong_weights_and_runtimes(run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str) -> None:
    for name in ("weights.pth", "text.onnx"):
        Path(name).write_text("hello")
    code, out, err = run("segment", picture, "--weights", tiny_onnx, *words)
    assert (code, out) == (2 if "--threads" in words else 1, "")
    assert message in boxed(err)


def test_a_budget(run: Run, tiny_onnx: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.RUNS", 3)
    words = ["segment", picture, "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx"]
    code, _, err = run(*words, "--latency-budget", "5000ms")
    assert code == 0
    assert "Input 64x96:" in err
    assert "for frames of 128x192, onnx float32 on cpu (measured on 2" in unfolded(err)
    assert "its model card has no mIoU for this size" in unfolded(err)
    code, _, err = run(*words, "--latency-budget", "0.0001")
    assert code == 1
    assert "latency budget: no input size takes at most 0.0001 ms on this machine; the fastest, " in err


SCORED = {"test": {"miou": 58.5}, "test at 32x64": {"miou": 44.5}}


@pytest.mark.parametrize(
    ("shapes", "inputs", "notes"),
    [
        # all in the shape of the card
        ([(128, 192), (64, 96)], [(64, 96), (64, 96)],
         ["Input 64x96: ", "for frames of 128x192,", "; mIoU 58.50 on test by its model card."]),
        # all of one other shape
        ([(64, 300)], [(32, 160)],
         ["Input 32x160 (base size 64x96): ", "for frames of 64x300,",
          "; mIoU 58.50 on test by its model card, for images in the shape of 64x96."]),
        # several shapes
        ([(64, 96), (100, 256), (256, 100), (96, 96)], [(64, 96), (64, 128), (128, 64), (64, 64)],
         ["Input 64x96 in the shape of each frame, ", "for images in the shape of 64x96."]),
    ],
)
def test_a_budget_for_several_shapes(
    run: Run,
    write_onnx: WriteOnnx,
    seen: list[tuple[int, ...]],
    shapes: list[tuple[int, int]],
    inputs: list[tuple[int, int]],
    notes: list[str],
) -> None:
    card = Card(LabelSet(("red", "green", "blue")), (64, 96), metrics=SCORED)
    path = write_onnx(Path("scored.onnx"), metadata={KEY: card.to_json()})
    for index, shape in enumerate(shapes):
        images.write(Path(f"photos/{index}.png"), np.zeros((*shape, 3), np.uint8))
    words = ["segment", "photos", "--weights", path, "--threads", 1, "--backend", "onnx", "--latency-budget", "60000"]
    code, _, err = run(*words)
    assert code == 0
    for text in notes:
        assert text in unfolded(err)
    assert seen[-len(shapes) :] == inputs
    seen.clear()
    code, _, _ = run("segment", "photos", "--weights", path, "--threads", 1, "--backend", "onnx")
    assert seen == inputs, "the card's size has the same shapes"


def test_a_budget_without_an_image_that_can_be_segmented(
    run: Run, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.measure_latency", lambda *_: pytest.fail("measured"))
    images.write(Path("photos/thin.png"), np.zeros((31, 300, 3), np.uint8))
    Path("photos/broken.jpg").write_bytes(b"no image")
    code, _, err = run("segment", "photos", "--weights", tiny_onnx, "--latency-budget", "33ms")
    assert code == 1
    assert "2 of 2 images failed; none is segmented." in err
    assert "thin.png" in err


def test_a_thin_image_does_not_stop_a_budget(run: Run, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.SECONDS", 0.0)
    images.write(Path("photos/thin.png"), np.zeros((31, 6000, 3), np.uint8))
    images.write(Path("photos/usual.png"), np.zeros((64, 96, 3), np.uint8))
    code, _, err = run("segment", "photos", "--weights", tiny_onnx, "--latency-budget", "60000")
    assert code == 1
    assert "for frames of 64x96," in unfolded(err)
    assert "1 of 2 images failed; the others are segmented." in err


def test_the_smaller_size_of_a_budget(
    run: Run, write_onnx: WriteOnnx, seen: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastscnn.benchmark.latency_budget import LatencyBudget

    monkeypatch.setattr(LatencyBudget, "largest", lambda self, _: self.choices[-1])
    card = Card(LabelSet(("red", "green", "blue")), (64, 96), metrics=SCORED)
    path = write_onnx(Path("scored.onnx"), metadata={KEY: card.to_json()})
    images.write(Path("wide.png"), np.zeros((64, 300, 3), np.uint8))
    code, _, err = run("segment", "wide.png", "--weights", path, "--backend", "onnx", "--latency-budget", "33ms")
    assert code == 0
    assert "Input 32x96 (base size 32x64): " in unfolded(err)
    assert "; mIoU 44.50 on test by its model card, for images in the shape of 64x96." in unfolded(err)
    assert seen[-1] == (32, 96)


@pytest.mark.parametrize(("words", "message"), [
    (["--save", "ood-mask"], "the card has no OOD threshold"),
    (["--ood-mask"], "the card has no OOD threshold"),
    (["--annotations", "coco"], "coco.json: holds annotations already"),
])
def test_what_the_card_or_the_disk_refuses_is_said_before_the_measurement(
    run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.measure_latency", lambda *_: pytest.fail("measured"))
    Path("segmented").mkdir()
    Path("segmented/coco.json").touch()
    code, _, err = run("segment", picture, "--weights", tiny_onnx, "--latency-budget", "33ms", *words)
    assert code == 1
    assert message in err


def test_a_budget_for_a_folder_whose_first_file_is_bad(
    run: Run, tiny_onnx: Path, stripes: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest readable image counts; a cache that cannot be written is no reason to stop."""
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.RUNS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    images.write(Path("photos/b.png"), stripes.image)
    images.write(Path("photos/c.png"), stripes.image[:40, :50])
    Path("photos/a.png").write_bytes(b"")
    words = ["segment", "photos", "--weights", tiny_onnx, "--threads", 1, "--backend", "onnx", "--latency-budget", "5000"]
    code, _, err = run(*words)
    assert code == 1
    assert "for frames of 128x192, onnx float32 on cpu; its model card" in unfolded(err)
    assert "1 of 3 images failed; the others are segmented" in err
    assert len(list(Path("segmented").glob("*.labels.png"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency-budget", "fast"], "expected milliseconds a frame, for example 33ms, not 'fast'"),
        (["--latency-budget", "nan"], "not 'nan'"),
        (["--latency-budget", "0"], "not '0'"),
        (["--fps", "0"], "must be from 0.01 to 1000, not 0"),
        (["--fps", "nan"], "must be from 0.01 to 1000, not nan"),
        (["--latency-budget", "33ms", "--size", "64x96"], "latency-budget: it chooses the size; omit --size"),
    ],
)
def test_wrong_budgets(run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str) -> None:
    code, _, err = run("segment", picture, "--weights", tiny_onnx, *words)
    assert code == 2
    assert message in boxed(err)


def test_several_at_a_time_keep_their_order(run: Run, tiny_onnx: Path, stripes: Scene) -> None:
    for index in range(9):
        images.write(Path(f"photos/{index}.png"), np.roll(stripes.image, index, axis=1))
    words = ["segment", "photos", "--weights", tiny_onnx, "--threads", 3]
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert [Path(json.loads(line)["image"]).stem for line in out.splitlines()] == [str(index) for index in range(9)]
    for index in range(9):
        labels = images.read_values(Path(f"segmented/{index}.labels.png"))[0]
        assert np.mean(labels == np.roll(stripes.labels, index, axis=1)) > 0.75  # resizing blurs the borders
    code, out, _ = run(*words)
    assert "images per second from file to file, 3 at a time" in out


def test_an_empty_folder(run: Run, tiny_onnx: Path) -> None:
    Path("photos").mkdir()
    code, out, err = run("segment", "photos", "--weights", tiny_onnx)
    assert (code, out) == (1, "")
    assert err.startswith("fastscnn: photos: contains no image")


@pytest.mark.parametrize("name", ["result.png", "new/result.JPG"])
def test_a_file_for_one_image(run: Run, tiny_onnx: Path, picture: Path, name: str) -> None:
    """The overlay becomes the file of that name; the rest lies beside it."""
    code, out, err = run("segment", picture, "--weights", tiny_onnx, "--out", name, "--json")
    assert (code, err) == (0, "")
    (line,) = lines(out)
    assert (line["overlay"], line["labels"]) == (name, f"{Path(name).with_suffix('')}.labels.png")
    assert images.read(name).shape[1] == 192
    assert Path(line["labels"]).is_file()


def test_a_file_that_cannot_be_the_overlay(run: Run, tiny_onnx: Path, picture: Path) -> None:
    Path("photos").mkdir()
    for name in "ab":
        Path(f"photos/{name}.png").write_bytes(picture.read_bytes())
    for paths, out, message in (
        ("photos", "result.png", "result.png: is one file for 2 images; give --out a folder."),
        (picture, "result.webp", "result.webp: overlays are written as .png, .jpg, .jpeg"),
        (picture, picture, "stripes.png: is the image itself; give --out another name."),
    ):
        before = picture.read_bytes()
        code, printed, err = run("segment", paths, "--weights", tiny_onnx, "--out", out)
        assert (code, printed) == (2, "")
        assert message in err
        assert picture.read_bytes() == before
    Path("folder.png").mkdir()
    assert run("segment", picture, "--weights", tiny_onnx, "--out", "folder.png")[0] == 0
    assert files_in("folder.png") == ["stripes.labels.png", "stripes.overlay.jpg"]


# evaluate, check, benchmark


def test_evaluate(run: Run, tiny_onnx: Path, data: Path) -> None:
    code, out, _ = run("evaluate", data, "--weights", tiny_onnx, "--backend", "onnx", "--json")
    assert code == 0
    (scores,) = lines(out)
    assert list(scores) == [
        "miou", "pixel_accuracy", "iou", "images", "backend", "precision", "device", "size", "shape_kept", "scales", "flip",
        "weights_sha256", "verified", "confusion", "most_confused",
    ]
    red, green, blue = 100 * 3 / 4, 100 * 4 / 5, 100.0  # a quarter of red is labelled green
    assert scores["iou"] == pytest.approx({"red": red, "green": green, "blue": blue})
    assert scores["miou"] == pytest.approx((red + green + blue) / 3)
    assert scores["images"] == 2
    code, out, _ = run("evaluate", data, "--weights", tiny_onnx, "--backend", "onnx")
    assert code == 0
    ran = "2 images of stripes test, onnx float32 on cpu"
    for shown in ("75.00", "80.00", "100.00", f"{scores['miou']:.2f}", "91.67", ran):
        assert shown in unfolded(out)
    assert unfolded(out).rstrip().endswith("input 64x96 in the shape of each image, scales 1")


def test_evaluate_at_several_scales(run: Run, tiny_onnx: Path, data: Path) -> None:
    words = ["evaluate", data, "--weights", tiny_onnx, "--scales", "0.5,1,1.25", "--flip"]
    code, out, _ = run(*words)
    assert code == 0
    assert unfolded(out).rstrip().endswith("input 64x96 in the shape of each image, scales 0.5, 1, 1.25 with flip")
    (scores,) = lines(run(*words, "--json")[1])
    assert (scores["scales"], scores["flip"]) == ([0.5, 1.0, 1.25], True)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ("", "expected numbers separated by commas, for example"),
        ("1,", "not '1,'"),
        ("half", "not 'half'"),
        ("0.5 1", "not '0.5 1'"),
        ("1,0", "scales: each must be above 0"),
        ("nan", "not nan"),
        ("0.1", "scales: 0.1 makes 6x10 of 64x96"),
        ("17", "scales: each must be above 0 and at most 16, not 17"),
    ],
)
def test_wrong_scales(run: Run, tiny_onnx: Path, data: Path, scales: str, message: str) -> None:
    code, out, err = run("evaluate", data, "--weights", tiny_onnx, f"--scales={scales}")
    assert (code, out) == (2, "")
    assert "scales" in err
    assert message in boxed(err)


def test_a_folder_is_listed_once_and_the_progress_has_its_images(
    run: Run, tiny_onnx: Path, stripes: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "x/c", "out/a.overlay"):
        images.write(Path(f"photos/{name}.png"), stripes.image)
    Path("photos/notes.txt").touch()
    Path("photos/broken.png").touch()
    listed: list[Path] = []
    steps: list[tuple[int, int | None]] = []
    listing = folders.listing

    def note(folder: Path, without: Path | None = None) -> Any:
        listed.append(folder)
        return listing(folder, without)

    @contextmanager
    def shown(what: str, quiet: bool = False, rate: bool = False) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, total: steps.append((done, total))

    monkeypatch.setattr("fastscnn.media.inputs.listing", note)
    monkeypatch.setattr("fastscnn.cli.segment.progress_bar", shown)
    code, _, err = run("segment", "photos", "--out", "photos/out", "--weights", tiny_onnx)
    assert (code, listed) == (1, [Path("photos")])
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "1 of 4 images failed" in err
    assert err.count("Left out of the folders: 1 file that is not an image that can be read, photos/notes.txt.") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "{picture}", "--tile", "8x8"], "tile: must be HxW"),
        (["segment", "{picture}", "--tile", "48x64"], "tile: needs at least 64x64, not 48x64"),
        (["segment", "{picture}", "--tile", "9000x9000"], "tile: 9000x9000 is over the limit of 40 megapixels"),
        (["segment", "{picture}", "--size", "16x96"], "size: height: must be at least 32, not 16"),
        (["segment", "{picture}", "--size", "9000x9000"], "size: 9000x9000 is over the limit of 40 megapixels"),
        (["demo", "--size", "16x96"], "size: height: must be at least 32, not 16"),
        (["evaluate", "{data}", "--scales=1,0"], "scales: each must be above 0"),
        (["evaluate", "{data}", "--scales=nan"], "scales: each must be above 0"),
        (["evaluate", "{data}", "--size=64x96", "--scales=1,0.1"], "scales: 0.1 makes 6x10 of 64x96"),
        (["evaluate", "{data}", "--split", "tset"], "There is no split of stripes 'tset'. Did you mean 'test'?"),
        (["evaluate", "{data}", "--split", "test+tset"], "There is no split of stripes 'tset'"),
        (["evaluate", "{data}", "{data}", "--split", "tset"], "There is no split of stripes 'tset'"),
        (["evaluate", "{data}", "--split", "tset", "--submit", "out"], "There is no split of stripes 'tset'"),
    ],
)
def test_arguments_are_checked_before_the_network_is_loaded(
    run: Run, tiny_onnx: Path, data: Path, picture: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastscnn.backends.load", lambda *_, **__: pytest.fail("loaded"))
    places = {"picture": picture, "data": data}
    code, out, err = run(*(word.format(**places) for word in words), "--weights", tiny_onnx)
    assert (code, out) == (2, "")
    assert message in unfolded(err)


def test_check(run: Run, data: Path) -> None:
    code, out, _ = run("check", data, "--json")
    assert code == 0
    assert json.loads(out)
    code, table, _ = run("check", data / "dataset.toml", "--split", "test")
    assert code == 0
    assert "0 errors" in table

    images.write(data / "labels" / "a.png", np.full((128, 192), 7, np.uint8))
    code, out, _ = run("check", data, "--json")
    assert code == 1
    assert "labels/a.png" in json.dumps(json.loads(out))
    code, table, _ = run("check", data)
    assert code == 1
    assert "labels/a.png" in table
    assert "1 error, 2 warnings" in table


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
    code, out, err = run(verb, spec)
    assert (code, out) == (2 if "There is no dataset" in message else 1, "")
    assert err.startswith("fastscnn: ")
    assert message in err


def test_findings_are_grouped(run: Run, data: Path) -> None:
    for index in range(5):
        images.write(data / "images" / f"{index}.png", np.full((128, 192, 3), index, np.uint8))
        images.write(data / "labels" / f"{index}.png", np.full((128, 192), 7, np.uint8))
    code, out, _ = run("check", data)
    assert code == 1
    assert "error: unknown-ids (5)" in out
    assert out.count(": contains ids") == 3
    assert "and 2 more; list them with --all" in out
    code, out, _ = run("check", data, "--all")
    assert out.count(": contains ids") == 5
    assert "more; list" not in out
    code, out, err = run("check", data, "--json")
    assert (code, err) == (1, "")
    (report,) = lines(out)
    assert len(report["findings"]) >= 5


def test_evaluate_takes_val_or_the_only_split(run: Run, tiny_onnx: Path, data: Path) -> None:
    toml = data / "dataset.toml"
    words = ["evaluate", data, "--weights", tiny_onnx]
    assert "of stripes test," in unfolded(run(*words)[1])
    toml.write_text(TOML + TOML[TOML.index("[splits") :].replace("test", "train"))
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "data: stripes has no split 'val'; choose a split: test, train." in err
    toml.write_text(TOML + TOML[TOML.index("[splits") :].replace("test", "val"))
    assert "of stripes val," in unfolded(run(*words)[1])
    assert "4 images of stripes test+val," in unfolded(run(*words, "--split", "test+val")[1])


def test_a_split_spelled_wrongly(run: Run, tiny_onnx: Path, data: Path) -> None:
    code, _, err = run("evaluate", data, "--weights", tiny_onnx, "--split", "tets")
    assert code == 2
    assert "Did you mean 'test'?" in err


@pytest.mark.slow
def test_benchmark(run: Run, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.benchmark.benchmark.cold_start", lambda *_: (1.0, 50.0))  # another process
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    code, out, _ = run("benchmark", *words, "--sizes", "96x128")
    assert code == 0
    shown = unfolded(out)
    assert "frames per second, JPEG file to PNG file of labels; 2 timed after 0 warm-up" in shown
    assert "frames per second with 1 at a time" in shown
    assert "96x128, onnx float32 on cpu, 1 threads" in shown
    assert "% of the limit" in shown
    code, out, err = run("benchmark", *words, "--sizes", "96x128", "--json")
    assert (code, err) == (0, "")
    (report,) = lines(out)
    assert report["runs"] == 2


@pytest.mark.slow
def test_benchmark_of_several_sizes(run: Run, tiny_onnx: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    sizes = ("--sizes", "96x128,64x64", "--protocol", "paper")
    code, out, _ = run("benchmark", *words, *sizes)
    assert code == 0
    assert "megapixels" in out
    assert "the paper's: frame in memory to labels" in unfolded(out)
    code, out, _ = run("benchmark", *words, *sizes, "--json", "--plot", "growth.svg")
    assert code == 0
    reports = lines(out)
    assert [report["size"] for report in reports] == [[96, 128], [64, 64]]
    assert [report["protocol"] for report in reports] == ["paper", "paper"]
    assert Path("growth.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_benchmark_of_probabilities(run: Run, tiny_onnx: Path) -> None:
    words = ["--weights", tiny_onnx, "--backend", "onnx", "--runs", 2, "--warmup", 0, "--threads", 1]
    words += ["--sizes", "64x64,64x96", "--protocol=paper", "--output=prob"]
    code, out, _ = run("benchmark", *words)
    assert code == 0
    assert "frame in memory to probabilities, the mean" in unfolded(out)
    assert "cold start to first probabilities" in unfolded(out)
    assert [report["output"] for report in lines(run("benchmark", *words, "--json")[1])] == ["prob", "prob"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "128x96,40x40"], "a frame needs at least 64 pixels a side, not 40x40"),
        (["--sizes", "96x128", "--plot", "growth.txt"], "growth.txt: unknown plot format; use"),
        (["--sizes", "96x128", "--runs", "0"], "runs: must be at least 1"),
        (["--output", "prob"], "output: prob needs frames in memory, but the protocol files writes labels"),
        (["--output", "prob", "--protocol", "paper", "--mmseg", "x"], "mmseg: compares labels only; omit --output"),
        (["--sizes", "64x64,9000x9000"], "size: 9000x9000 is over the limit of 40 megapixels"),
        (["--warmup", "-1"], "warmup: must be at least 0, not -1"),
        (["--mmseg", "x", "--device", "cuda"], "mmseg: is timed on the CPU"),
        (["--mmseg", "x", "--backend", "cuda"], "mmseg: is timed on the CPU; omit --backend cuda and --device, or --mmseg"),
        (["--precision", "int8"], "in float32 or bfloat16, not in int8"),
        (["--sizes", "64x64", "--runs", "1", "--mmseg", "nowhere"], "nowhere: contains no Python interpreter; give the"),
    ],
)
def test_wrong_benchmarks(
    run: Run, tiny_onnx: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--precision" not in words:  # all others are refused before the network is loaded
        monkeypatch.setattr("fastscnn.backends.load", lambda *_, **__: pytest.fail("loaded"))
    code, _, err = run("benchmark", "--weights", tiny_onnx, *words)
    wrong_input = "nowhere" in words or "--precision" in words
    assert code == (1 if wrong_input else 2)
    assert message in unfolded(err)


# the frame around the commands


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segmnt"], "There is no command 'segmnt'. Did you mean 'segment'?"),
        (["train"], "Missing RECIPE"),
        (["train", "camvod"], "There is no recipe 'camvod'. Did you mean 'camvid'?"),
        (["train", "debug", "--out", "x"], "DATASET"),
        (["train", "debug", "x", "--out", "x", "--batch", "two"], "batch"),
        (["segment"], "Missing PATH: give images, folders or videos, or --camera. Try `fastscnn demo`."),
        (["segment", "a.png", "--thread", "2"], "--threads"),
        (["segment", "a.png", "--threads", "two"], "two"),
        (["segment", "a.png", "--no-json"], "--json"),
        (["segment", "a.png", "--backend", "onx"], "'onnx'"),
        (["evaluate"], "DATASET"),
        (["export", "a.safetensors"], "--out"),
        (["check"], "DATASET"),
        (["dataset"], "Missing COMMAND: one of init, shards."),
        (["dataset", "int"], "There is no command 'int'. Did you mean 'init'?"),
        (["dataset", "init"], "FOLDER"),
        (["dataset", "shards", "x"], "--out"),
        (["benchmark", "--runs"], "runs"),
        (["benchmark", "--sizes", "native"], "expected HxW, or several separated by commas"),
        (["benchmark", "--sizes", "128x96,"], "expected HxW, or several separated by commas"),
        (["benchmark", "--protocol", "mine"], "'paper'"),
        (["benchmark", "--precision", "int4"], "'int8'"),
        (["--completion", "tcsh"], "There is no shell 'tcsh'"),
    ],
)
def test_wrong_calls(run: Run, words: list[str], message: str) -> None:
    """Exit code 2, with the usage and what was meant."""
    got, out, err = run(*words)
    assert (got, out) == (2, "")
    assert message in boxed(err)
    assert "usage: fastscnn" in err


@pytest.mark.parametrize(("words", "code"), [([], 2), (["-h"], 0), (["--help"], 0)])
def test_overview(run: Run, words: list[str], code: int) -> None:
    got, out, err = run(*words)
    assert got == code
    for verb in cli.VERBS:
        assert f"\n  {verb} " in (err if code else out)


HELPS = ["", *cli.VERBS, "dataset init", "dataset shards", *(f"train {name}" for name in names()), "tune debug"]


@pytest.mark.parametrize("words", HELPS)
def test_help(run: Run, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(*words.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: fastscnn {words}".rstrip())
    assert max(map(len, out.splitlines())) <= 80
    for noise in ("--no-", "None", "{fixed}", "(default: )", "False"):
        assert noise not in out


def options(out: str) -> dict[str, str]:
    """Each flag of a help text with its description, without its default."""
    found = re.findall(r"^ (?:-\w, )?(--[\w-]+)(.*(?:\n {2,}.*)*)", out.partition("recipe options")[0], re.MULTILINE)
    texts = {flag: " ".join(text.split()) for flag, text in found}
    return {flag: re.sub(r" ?\((default: .*|required)\)$", "", text) for flag, text in texts.items()}


def test_a_flag_means_the_same_in_every_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """But --out, whose kind of file differs, the precision and output of a file that `export` writes, and the port of a page.

    A recipe's values (learning rate, crop ...) have names of their own.
    """
    monkeypatch.setenv("COLUMNS", "300")
    meanings: dict[str, dict[str, str]] = {}
    for verb in cli.VERBS:
        words = {"train": "train debug", "tune": "tune debug", "dataset": "dataset init"}.get(verb, verb).split()
        for flag, text in options(run(*words, "--help")[1]).items():
            meanings.setdefault(flag, {})[verb] = text
    assert {"--json", "--weights", "--split", "--report", "--threads", "--backend", "--quiet", "--out"} <= set(meanings)
    del meanings["--out"]
    assert meanings["--resume"].pop("tune").startswith("Continue the search")
    assert meanings["--validation"].pop("tune").startswith("SPLIT Split whose best mIoU")
    assert meanings["--size"].pop("convert").startswith("HxW Network input size, HxW")
    assert meanings["--precision"].pop("export").startswith("{float32,float16,int8,int8-symmetric}")
    assert meanings["--port"].pop("web").startswith("PORT Also serve the page to this machine")
    assert meanings["--output"].pop("export").startswith("{logits,labels,confidence}")
    differing = {flag: texts for flag, texts in meanings.items() if len(set(texts.values())) > 1}
    assert not differing


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(run: Run, flag: str) -> None:
    assert run(flag) == (0, f"fastscnn {__version__}\n", "")


@pytest.mark.parametrize(("save", "suffixes"), [
    ("labels", [".labels.png"]), ("overlay", [".overlay.jpg"]), ("confidence, labels", [".confidence.png", ".labels.png"]),
    ("overlay,confidence", [".confidence.png", ".overlay.jpg"]),
])
def test_what_is_saved(run: Run, tiny_onnx: Path, picture: Path, save: str, suffixes: list[str]) -> None:
    code, out, _ = run("segment", picture, "--weights", tiny_onnx, "--save", save, "--json")
    assert code == 0
    assert files_in("segmented") == [f"stripes{suffix}" for suffix in suffixes]
    (line,) = lines(out)
    assert {f"segmented/stripes{suffix}" for suffix in suffixes} == {
        line[name] for name in ("labels", "overlay", "confidence", "ood_mask") if name in line
    }
    assert ("overlay" in line["milliseconds"]) == ("overlay" in save)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("json", [True, False])
def test_a_full_disk_behind_the_output(tiny_onnx: Path, picture: Path, json: bool) -> None:
    words = [sys.executable, "-m", "fastscnn", "segment", str(picture), "--weights", str(tiny_onnx)]
    words += ["--json"] if json else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("fastscnn: standard output cannot be written (No space left on device); finished results are "
                           "kept.\n")


@pytest.mark.parametrize(("word", "name"), [
    ("rtmp://me:S3cret@127.0.0.1:1/stream1", "rtmp://127.0.0.1:1"), ("s3://bucket/a.jpg", "s3://bucket"),
    ("--weights=S3://bucket/w.onnx", "s3://bucket"), ("--weights=https://example.org/w.onnx", "https://example.org"),
])
def test_addresses_are_named_without_their_secrets(run: Run, word: str, name: str) -> None:
    code, out, err = run("segment", word)
    assert (code, out) == (1, "")
    assert f"{name}: is an address, and addresses are not opened" in unfolded(err)
    assert "S3cret" not in err
    assert "no such file" not in err


def test_a_folder_may_look_like_an_address(run: Run, tiny_onnx: Path, picture: Path) -> None:
    Path("http:/host").mkdir(parents=True)
    Path("http:/host/a.png").write_bytes(picture.read_bytes())
    assert run("segment", "http://host/a.png", "--weights", tiny_onnx)[0] == 0


def test_switches_add_to_what_is_saved(run: Run, tiny_onnx: Path, picture: Path) -> None:
    assert run("segment", picture, "--weights", tiny_onnx, "--confidence")[0] == 0
    assert files_in("segmented") == [f"stripes.{what}" for what in ("confidence.png", "labels.png", "overlay.jpg")]
    assert run("segment", picture, "--weights", tiny_onnx, "--confidence", "--save", "labels", "--out", "b")[0] == 0
    assert files_in("b") == ["stripes.confidence.png", "stripes.labels.png"]


@pytest.mark.parametrize(("words", "message"), [
    (["--save", "labels,overly"], "There is no result 'overly'. Did you mean 'overlay'? Known: confidence, labels, ood-mask, "),
    (["--save", ""], "There is no result ''."),
    (["--save", "labels", "--out", "a.png"], "a.png: is a file for the overlay; add overlay to --save, or give --out a "),
])
def test_what_cannot_be_saved(run: Run, tiny_onnx: Path, picture: Path, words: list[str], message: str) -> None:
    code, _, err = run("segment", picture, "--weights", tiny_onnx, *words)
    assert code == 2
    assert message in unfolded(err)


def test_labels_with_a_palette(run: Run, tiny_onnx: Path, picture: Path, stripes: Scene) -> None:
    assert run("segment", picture, "--weights", tiny_onnx, "--palette")[0] == 0
    with Image.open("segmented/stripes.labels.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), stripes.labels)
        colours = np.array(image.convert("RGB"))
    expected = Segmenter.load(tiny_onnx).card.label_set.palette()[stripes.labels]
    assert np.array_equal(colours, expected)
    assert np.array_equal(images.read_values("segmented/stripes.labels.png")[0], stripes.labels)


def test_a_large_jpeg_is_decoded_at_a_fraction_for_labels_only(run: Run, tiny_onnx: Path, stripes: Scene) -> None:
    Image.fromarray(stripes.image.repeat(12, 0).repeat(12, 1)).save("big.jpg", quality=95)
    words = ["segment", "big.jpg", "--weights", tiny_onnx, "--json"]
    (line,) = lines(run(*words, "--save", "labels")[1])
    height, width = stripes.labels.shape
    assert line["size"] == [12 * height, 12 * width]
    assert line["decoded_size"][0] < 12 * height
    labels = images.read_values("segmented/big.labels.png")[0]
    assert np.mean(labels == stripes.labels.repeat(12, 0).repeat(12, 1)) > 0.98
    (line,) = lines(run(*words)[1])
    assert "decoded_size" not in line


def test_the_version_names_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "find_spec", lambda name: None if name in ("simplejpeg", "isal") else name)
    monkeypatch.setattr(label_maps, "KERNEL", None)
    monkeypatch.setattr(native, "KERNEL", None)
    version, *lines = run("-V")[1].splitlines()
    assert version == f"fastscnn {__version__}"
    assert [line.split()[0] for line in lines] == ["simplejpeg", "isal", "Labels", "Overlays"]


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion(run: Run, shell: str) -> None:
    code, out, err = run("--completion", shell)
    assert (code, err) == (0, "")
    for word in (*cli.VERBS, "camvid-quick", "latency-budget"):
        assert word in out


def test_quiet(run: Run, tiny_onnx: Path, picture: Path) -> None:
    Path("drive").mkdir()
    Path("drive/a.png").write_bytes(picture.read_bytes())
    Path("drive/b.mp4").write_bytes(b"not read")
    words = ["segment", "drive", "--weights", tiny_onnx]
    assert "Left out of the folders: 1 video" in unfolded(run(*words)[2])
    assert run(*words, "-q")[2] == ""


def test_corrupt_exif_tags_are_no_news(tiny_onnx: Path, picture: Path) -> None:
    """Pillow warns of them. The image is whole, so the warning must not reach the terminal."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # five tags announced, one there
    with Image.open(picture) as image:
        image.convert("RGB").save("exif.jpg", exif=exif)
    words = ["segment", "exif.jpg", "--weights", str(tiny_onnx), "-q"]
    command = [sys.executable, "-c", "import sys; from fastscnn.cli import main; sys.exit(main())", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "gone", "-v"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("fastscnn: 'gone' is not a dataset")


def test_only_the_modules_of_the_command_are_imported() -> None:
    code = "import sys; from fastscnn.cli import main; main(['--version']); print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in cli.VERBS:
        assert f"'fastscnn.cli.{verb}'" not in done.stdout
    assert "'tyro'" not in done.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_outside_the_encoding(tiny_onnx: Path, picture: Path, encoding: str) -> None:
    words = [sys.executable, "-m", "fastscnn", "segment", str(picture), "--weights", str(tiny_onnx), "--out", "出力"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"results in \u51fa\u529b" in done.stdout
    assert files_in("出力") == ["stripes.labels.png", "stripes.overlay.jpg"]


def test_in_a_thread(tiny_onnx: Path, picture: Path) -> None:
    codes: list[int] = []
    words = ["segment", str(picture), "--weights", str(tiny_onnx), "--json"]
    thread = threading.Thread(target=lambda: codes.append(cli.main(words)))
    thread.start()
    thread.join(60)
    assert codes == [0]


def test_terminal_escapes_in_names_are_not_printed(run: Run, data: Path) -> None:
    toml = data / "dataset.toml"
    toml.write_text(toml.read_text().replace('"red"', '"\\u001b]0;title\\u0007\\u001b[2J"'))
    code, out, err = run("check", data)
    assert code == 1
    assert "dataset.toml" in err
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


def test_interrupt(run: Run, tiny_onnx: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "read", interrupted)
    code, out, err = run("segment", picture, "--weights", tiny_onnx)
    assert (code, out) == (130, "")
    assert "interrupted" in err


def test_python_m_fastscnn() -> None:
    done = subprocess.run([sys.executable, "-m", "fastscnn", "segmnt"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'segment'?" in done.stderr


# what `segment` writes beside labels


def test_confidence_and_the_ood_mask(run: Run) -> None:
    image = Path("street.png")
    images.write(image, synthetic.draw(seed=3).image)
    code, out, _ = run("segment", image, "--save", "labels,overlay,confidence,ood-mask", "--json")
    assert code == 0
    (line,) = lines(out)
    confidence, unknown = images.read_grey(line["confidence"]), images.read_grey(line["ood_mask"])
    assert confidence.shape == unknown.shape == tuple(line["size"])
    assert 128 < np.median(confidence) <= 255
    assert set(np.unique(unknown)) == {0, 255}
    assert line["ood_percentage"] == pytest.approx(100 * (unknown > 0).mean(), abs=1e-3)
    segmenter = Segmenter.load(backend="onnx")
    result = segmenter.segment(images.read(image), confidence=True, ood_mask=True)
    assert result.confidence is not None
    np.testing.assert_array_equal(confidence, np.rint(255 * result.confidence).astype(np.uint8))
    np.testing.assert_array_equal(unknown > 0, result.ood_mask)
    drawn = images.read(image)
    np.testing.assert_array_equal(result.blend(drawn)[unknown > 0], drawn[unknown > 0])
    assert {"confidence", "ood_mask"} <= set(line["milliseconds"])


def test_without_a_threshold_nothing_is_begun(run: Run, picture: Path, tiny_onnx: Path) -> None:
    code, _, error = run("segment", picture, "--weights", tiny_onnx, "--save=ood-mask")
    assert code == 1
    assert "the card has no OOD threshold" in error
    assert not Path("segmented").exists()


def test_smoothing_goes_with_videos(run: Run, picture: Path) -> None:
    code, _, error = run("segment", picture, "--smoothing")
    assert code == 2
    assert "--smoothing: for a video or camera only" in error


def test_videos_in_a_folder_are_not_passed_over_in_silence(run: Run, picture: Path) -> None:
    images.write(Path("drive/a.png"), images.read(picture))
    Path("drive/b.mp4").write_bytes(b"not looked at")
    code, out, error = run("segment", "drive")
    assert code == 0
    assert "1 segmented" in out
    assert "1 video (give it by name), drive/b.mp4" in " ".join(error.split())
