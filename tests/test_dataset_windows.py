"""A dataset whose images are divided into windows: checked, trained and evaluated as if each window were an image."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastscnn import load_dataset
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli import main
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.spec import DatasetSpec, pair_name
from fastscnn.media import images

TOML = """
name = "aerial"
classes = ["road", "field"]
colours = [[255, 0, 0], [0, 255, 0]]
{more}
[splits.train]
images = "images/*"
labels = "{labels}"
window = "128x160"
"""


def dataset(root: Path, suffix: str = ".tif", labels: str = "labels/{stem}.tif", more: str = "") -> DatasetSpec:
    """A dataset of two images with random pixels and labels."""
    rng, size = np.random.default_rng(0), (200, 330)
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / f"images/{name}{suffix}")
        Image.fromarray(rng.integers(0, 2, size, np.uint8)).save(root / f"labels/{name}.tif", compression="tiff_lzw")
    (root / "dataset.toml").write_text(TOML.format(labels=labels, more=more))
    spec = load_dataset(root / "dataset.toml")
    assert isinstance(spec, DatasetSpec)
    return spec


def kinds(report: CheckReport) -> set[str]:
    return {finding.kind for finding in report.findings}


@pytest.mark.parametrize("suffix", [".tif", ".png", ".JPG"])
def test_the_windows_of_an_image_make_the_whole(tmp_path: Path, suffix: str) -> None:
    spec = dataset(tmp_path, suffix)
    pairs = spec.pairs("train")
    assert len(pairs) == 2 * 2 * 3
    image, labels = np.zeros((200, 330, 3), np.uint8), np.full((200, 330), 9, np.uint8)
    for pair in pairs[:6]:
        assert pair.box is not None
        rows, columns = slice(pair.box.top, pair.box.bottom), slice(pair.box.left, pair.box.right)
        image[rows, columns], labels[rows, columns] = spec.read(pair)
    assert (image == images.read(pairs[0].image)).all()
    assert (labels == images.read_values(pairs[0].labels)[0]).all()
    assert pair_name(spec.root, pairs[4]) == f"images/a{suffix} (rows 100 to 199, columns 110 to 219)"


def test_windows_count_as_images(tmp_path: Path) -> None:
    report = check(dataset(tmp_path))
    assert not report.findings
    assert report.counts == {"train": 12}
    assert sum(report.pixels["train"]) == 2 * 200 * 330
    assert report.sizes == {"train": {"100x110": 12}}
    assert check(dataset(tmp_path), cache=tmp_path / "cache") == report
    assert check(dataset(tmp_path), cache=tmp_path / "cache") == report


def test_margins_are_neither_repeated_nor_without_labels(tmp_path: Path) -> None:
    spec = dataset(tmp_path)
    for name in ("a", "b"):
        image, labels = images.read(tmp_path / f"images/{name}.tif"), images.read_values(tmp_path / f"labels/{name}.tif")[0]
        image[:, :120], labels[:, :120] = 255, 255
        Image.fromarray(image).save(tmp_path / f"images/{name}.tif")
        Image.fromarray(labels).save(tmp_path / f"labels/{name}.tif")
    assert not check(spec).findings


def test_labels_of_another_size_are_an_error(tmp_path: Path) -> None:
    for suffix in (".tif", ".png"):
        spec = dataset(tmp_path, suffix, labels="labels/{stem}" + suffix)
        for size in ((400, 660), (199, 330)):  # a window fits into the first
            Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"labels/a{suffix}")
            Image.fromarray(np.ones((200, 330), np.uint8)).save(tmp_path / f"labels/b{suffix}")
            with pytest.raises(FastSCNNError, match=rf"a{suffix}: is {size[0]}x{size[1]} but its image is 200x330"):
                spec.read(spec.pairs("train")[0])
            findings = [finding for finding in check(spec).findings if finding.kind == "size-mismatch"]
            assert len(findings) == 1, "once for the file"
            assert ("1/2 times as large" in findings[0].fix) == (size == (400, 660))
        for path in tmp_path.glob("images/*"):
            path.unlink()


def test_other_kinds_of_labels_have_windows_too(tmp_path: Path) -> None:
    ids = dataset(tmp_path)
    pair = ids.pairs("train")[3]
    _, expected = ids.read(pair)
    for name in ("a", "b"):
        values = images.read_values(tmp_path / f"labels/{name}.tif")[0]
        np.save(tmp_path / f"labels/{name}.npy", values)
        Image.fromarray(values * np.uint8(255)).save(tmp_path / f"labels/{name}.mask.tif")
        colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)[values]
        Image.fromarray(colours).save(tmp_path / f"labels/{name}.colours.tif")
        (tmp_path / f"labels/{name}.json").write_text(json.dumps({
            "version": "5", "imagePath": f"{name}.tif", "imageHeight": 200, "imageWidth": 330, "imageData": None,
            "shapes": [{"label": "field", "shape_type": "rectangle", "points": [[105, 20], [300, 150]], "group_id": None}],
        }))
    for labels, more in (("npy", ""), ("mask.tif", 'labels_are = "binary"'), ("colours.tif", 'labels_are = "colours"')):
        spec = dataset(tmp_path, labels=f"labels/{{stem}}.{labels}", more=more)
        assert (spec.read(spec.pairs("train")[3])[1] == expected).all(), labels
    shapes = dataset(tmp_path, labels="labels/{stem}.json", more='labels_are = "labelme"\nbackground = "road"')
    drawn = np.zeros((200, 330), np.uint8)
    for pair in shapes.pairs("train")[:6]:
        assert pair.box is not None
        drawn[pair.box.top : pair.box.bottom, pair.box.left : pair.box.right] = shapes.read(pair)[1]
    assert (drawn == shapes.read_labels(tmp_path / "labels/a.json", tmp_path / "images/a.tif")).all()


@pytest.mark.parametrize(("window", "problem"), [
    ('"1024"', "HxW"), ("1024", "quotes"), ('"16x64"', "at least 32x32"), ('"8000x8000"', "at most 40 megapixels"),
])
def test_a_wrong_window_is_named(tmp_path: Path, window: str, problem: str) -> None:
    dataset(tmp_path)
    toml = tmp_path / "dataset.toml"
    toml.write_text(toml.read_text().replace('"128x160"', window))
    with pytest.raises(FastSCNNError, match=rf"splits\.train\.window .*{problem}"):
        load_dataset(toml)


def test_windows_have_no_thermal_channel(tmp_path: Path) -> None:
    dataset(tmp_path)
    toml = tmp_path / "dataset.toml"
    toml.write_text(toml.read_text() + 'thermal = "thermal/{stem}.png"\n')
    with pytest.raises(FastSCNNError, match=r"splits\.train\.window cannot be used with thermal"):
        load_dataset(toml)


def test_the_same_window_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    dataset(tmp_path)
    toml = tmp_path / "dataset.toml"
    text = toml.read_text().replace("images/*", "images/a*")
    toml.write_text(text + text[text.index("[splits"):].replace("train", "val").replace("images/a", "images/b"))
    image = images.read(tmp_path / "images/a.tif")
    Image.fromarray(image).save(tmp_path / "images/b.tif")
    spec = load_dataset(toml)
    assert isinstance(spec, DatasetSpec)
    leaks = [finding for finding in check(spec).findings if finding.kind == "leak"]
    assert len(leaks) == 6
    assert "a.tif (rows 0 to 99, columns 0 to 109) of the split 'train'" in leaks[0].message


@pytest.mark.slow
def test_dataset_init_divides_large_images(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    labels = np.zeros((6400, 6400), np.uint8)
    labels[3000:, 3000:] = 1
    for name in ("a", "b"):
        noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).resize((6400, 6400), Image.Resampling.NEAREST)
        noise.save(tmp_path / f"images/{name}.tif", compression="tiff_lzw")
        Image.fromarray(labels).save(tmp_path / f"masks/{name}.tif", compression="tiff_lzw")
    assert main(["dataset", "init", str(tmp_path), "-q"]) == 0
    spec = load_dataset(tmp_path)
    assert isinstance(spec, DatasetSpec)
    assert len(spec.pairs("train")) == 16
    assert len(spec.label_set) == 2
    report = check(spec)
    assert not [finding for finding in report.findings if finding.severity == "error"]
    assert report.pixels["train"] == ((labels == 0).sum(), (labels == 1).sum())


def test_a_mask_is_read_by_window_as_it_is_as_a_whole(tmp_path: Path) -> None:
    """Whether 1 is the second class or an antialiased 0 depends on the whole file."""
    spec = dataset(tmp_path, more='labels_are = "binary"')
    for highest in (255, 1):
        values = np.zeros((200, 330), np.uint8)
        values[:50, :50], values[150:, 300:] = 1, highest
        for name in ("a", "b"):
            Image.fromarray(values).save(tmp_path / f"labels/{name}.tif", compression="tiff_lzw")
        whole = spec.read_labels(tmp_path / "labels/a.tif")
        assert whole.sum() == 50 * 30 + (2500 if highest == 1 else 0)
        for pair in spec.pairs("train")[:6]:
            assert pair.box is not None
            part = whole[pair.box.top : pair.box.bottom, pair.box.left : pair.box.right]
            assert (spec.read(pair)[1] == part).all()


def test_ids_of_different_windows_are_those_of_one_file(tmp_path: Path) -> None:
    """Windows of 0 and 1 and windows of 0 and 255 are no mixed masks."""
    spec = dataset(tmp_path)
    for name in ("a", "b"):
        values = np.zeros((200, 330), np.uint8)
        values[:50, :50], values[150:, 300:] = 1, 255
        Image.fromarray(values).save(tmp_path / f"labels/{name}.tif", compression="tiff_lzw")
    assert "mixed-masks" not in kinds(check(spec))


@pytest.mark.slow
def test_a_large_image_is_trained_and_evaluated_by_window(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("rasterio")
    dataset(tmp_path)
    for path in (*tmp_path.glob("images/*"), *tmp_path.glob("labels/*")):
        path.unlink()
    labels = np.zeros((6400, 6400), np.uint8)  # 41 megapixels
    labels[:, 2000:] = 1
    Image.fromarray(labels).save(tmp_path / "labels/a.tif", compression="tiff_deflate")
    Image.fromarray(labels * np.uint8(200)).convert("RGB").save(tmp_path / "images/a.tif", compression="tiff_deflate")
    toml = tmp_path / "dataset.toml"
    toml.write_text(toml.read_text().replace("128x160", "1600x1600"))
    out = tmp_path / "run"
    assert main(["train", "debug", str(toml), "--validation", "none", "--out", str(out), "--iterations", "2", "--batch", "2",
                 "--crop", "64x64", "--width-mult", "0.25", "-q"]) == 0
    assert main(["evaluate", str(toml), "--weights", str(out / "last.safetensors"), "--split", "train", "--size", "64x64",
                 "--report", str(tmp_path / "report"), "-q"]) == 0
    page = (tmp_path / "report/index.html").read_text()
    assert "images/a.tif (rows 0 to 1599, columns 1600 to 3199)" in page
