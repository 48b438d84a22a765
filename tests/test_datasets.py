"""Datasets: finding pairs, reading labels, and every sentence about a wrong dataset.toml."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastscnn
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data import toml as folder
from fastscnn.data.check.dataset import check
from fastscnn.data.datasets import DatasetSpec, Split
from fastscnn.data.formats.colours import ColourLabels
from fastscnn.data.formats.ids import BinaryLabels, IdLabels
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

TRAIN = '[splits.train]\nimages = "images/*.jpg"\nlabels = "labels/{stem}.png"\n'
BASE = 'name = "facade"\nclasses = ["building", "car"]\n'


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dataset.toml"
    path.write_text(text, "utf-8")
    return path


def save(path: Path, pixels: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, np.asarray(pixels, np.uint8))
    return path


def test_smallest_toml(tmp_path: Path) -> None:
    spec = folder.spec(toml(tmp_path, BASE + TRAIN))
    assert (spec.name, spec.root, spec.terms) == ("facade", tmp_path, "not stated")
    assert spec.labels == IdLabels({0: 0, 1: 1, 255: 255})
    assert spec.label_set.names == ("building", "car")
    assert spec.splits == {"train": Split("images/*.jpg", "labels/{stem}.png")}


def test_whole_toml(tmp_path: Path) -> None:
    keys = 'colours = [[128, 0, 0], [128, 0, 128]]\nignore = 9\nlabels_are = "colours"\nterms = "CC BY"\n'
    path = toml(tmp_path, "\ufeff" + BASE + keys + TRAIN + TRAIN.replace("train", "val"))  # as Windows' editors write it
    spec = folder.spec(path)
    assert spec.label_set.colours == ((128, 0, 0), (128, 0, 128))
    assert spec.labels == ColourLabels((((128, 0, 0), 0), ((128, 0, 128), 1)))
    assert (spec.terms, list(spec.splits)) == ("CC BY", ["train", "val"])
    ids = folder.spec(toml(tmp_path, BASE + keys.replace('labels_are = "colours"\n', "") + TRAIN))
    assert ids.labels == IdLabels({0: 0, 1: 1, 9: 255}, palette=((128, 0, 0), (128, 0, 128)))


def split(images: str = "a/*.png", labels: str = "b/{stem}.png") -> str:
    return f'[splits.train]\nimages = "{images}"\nlabels = "{labels}"\n'


def test_a_fourth_channel(tmp_path: Path) -> None:
    spec = folder.spec(toml(tmp_path, BASE + TRAIN + 'thermal = "thermal/{stem}.png"\n'))
    save(tmp_path / "images/a.jpg", np.full((40, 50, 3), 90))
    save(tmp_path / "labels/a.png", np.ones((40, 50)))
    grey = save(tmp_path / "thermal/a.png", np.full((40, 50), 7))
    (pair,) = spec.pairs("train")
    assert (spec.channels, pair.extra_channels) == (4, (grey,))
    image, labels = spec.read(pair)
    assert image.shape == (40, 50, 4)
    assert (image[..., 3] == 7).all()
    assert (labels == 1).all()
    grey.unlink()
    with pytest.raises(FastSCNNError, match=r"its extra channel .*thermal/a.png is missing"):
        spec.pairs("train")


@pytest.mark.reliability("toml")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "x = ]", "is not TOML .*line 3"),
        ('classes = ["a"]\n' + TRAIN, "name is missing"),
        ('name = "a"\n' + TRAIN, "classes is missing"),
        (BASE, "splits is missing"),
        (BASE + "[splits]\n", r"splits is empty; add \[splits.train\]"),
        (BASE + 'splits = "train"\n', "splits is empty"),
        (BASE + "[splits]\ntrain = 3\n", "splits.train must be a table with the keys images and labels"),
        (BASE + '[splits.train]\nimages = "*.png"\n', "splits.train.labels is missing"),
        (BASE + '[splits.train]\nlabels = "{stem}.png"\n', "splits.train.images is missing"),
        (BASE + TRAIN + 'thermal = "t/a.png"\n', "splits.train.thermal is 't/a.png', one file for all images; write {stem}"),
        (BASE + TRAIN + 'thermal = 3\n', "splits.train.thermal is 3; it must be a pattern in quotes"),
        (BASE + TRAIN + 'thermal = "t/{stem}.png"\n' + TRAIN.replace("train", "val"),
         "splits.val.thermal is missing, but other splits have it; give it in all splits or in none"),
        (BASE + TRAIN + 'label = "a"\n', "no key of splits.train 'label'. Did you mean 'labels'"),
        (BASE + '[splits."a+b"]\n', r"cannot be called 'a\+b'"),
        (BASE + split(labels="b/labels.png"), r"splits.train.labels is 'b/labels.png', one file .* write \{stem\}"),
        (BASE + split(images="a/*.png", labels="b/{1}/{2}.png"),
         r"splits.train.labels is 'b/\{1\}/\{2\}.png', but images has no wildcard \(\*\) for \{2\}; write \{stem\}"),
        (BASE + split(images=""), "splits.train.images is ''; it must be a pattern"),
        (BASE + split(images="."), r"splits.train.images is '\.'; it must be a pattern"),
        (BASE + split(images="/data/*.png"), "splits.train.images is '/data/.*', an absolute path; write it relative to"),
        (BASE + split(labels="/data/{stem}.png"), "splits.train.labels is '/data/.*', an absolute path"),
        (BASE + split(images="a/**.png"), r"splits.train.images is 'a/\*\*.png'; `\*\*` must be a whole part"),
        (BASE + '[splits.train]\nimages = 3\nlabels = "{stem}.png"\n', "splits.train.images is 3; it must be a pattern"),
        (BASE + "colors = []\n" + TRAIN, "no key 'colors'. Did you mean 'colours'"),
        (BASE + "terms = 3\n" + TRAIN, "terms is 3; it must be a text"),
        ('name = ""\nclasses = ["a"]\n' + TRAIN, "name is ''; it must be a text"),
        ('name = "a"\nclasses = "car"\n' + TRAIN, "classes must be a list of names"),
        ('name = "a"\nclasses = ["car", 3]\n' + TRAIN, "classes must be a list of names"),
        ('name = "a"\nclasses = []\n' + TRAIN, "1 to 255 classes, not 0"),
        (f'name = "a"\nclasses = {[str(name) for name in range(256)]}\n' + TRAIN, "1 to 255 classes, not 256"),
        ('name = "a"\nclasses = ["car", "car"]\n' + TRAIN, "'car' is used twice"),
        (BASE + "ignore = 1\n" + TRAIN, "ignore is 1, the id of the class 'car'"),
        (BASE + "ignore = -2\n" + TRAIN, "ignore is -2; it must be one id"),
        (BASE + f"ignore = [255, {1 << 63}]\n" + TRAIN, "is not TOML .a whole number of more than 64 bits.; correct it"),
        (BASE + f"ignore = {5000 * '9'}\n" + TRAIN, "is not TOML .a whole number of more than 64 bits.; correct it"),
        (BASE + f"ignore = 0x1{4000 * '0'}\n" + TRAIN, "is not TOML .a whole number of more than 64 bits.; correct it"),
        (BASE + "ignore = [255, 0.5]\n" + TRAIN, r"ignore is \[255, 0.5\]; it must be one id"),
        (BASE + TRAIN + "[map]\n7 = \"lorry\"\n", r"map.7: There is no class 'lorry'"),
        (BASE + TRAIN + "[map]\n7 = 1\n", "map.7: There is no class 1"),
        (BASE + TRAIN + "[map]\nroad = \"car\"\n", r"map.road: is no id; with labels_are = \"ids\""),
        (BASE + TRAIN + "map = 3\n", "no key of splits.train 'map'"),
        (BASE + "map = 3\n" + TRAIN, 'map must be a table with a class or "ignore" for each stored id'),
        (BASE + "ignore = 7\n" + TRAIN + "[map]\n7 = \"car\"\n", r"ignore is 7, which \[map\] gives to 'car'"),
        ('name = "a"\nclasses = ["ignore"]\n' + TRAIN + "[map]\n7 = \"ignore\"\n", "classes contains 'ignore'"),
        (BASE + 'labels_are = "colours"\n' + TRAIN + '[map]\n"1,2" = "car"\n', 'map."1,2": is no colour; write'),
        (BASE + 'labels_are = "colours"\n' + TRAIN + '[map]\n"1,2,256" = "car"\n', "is no colour"),
        (BASE + 'labels_are = "binary"\nthreshold = 0\n' + TRAIN, "threshold is 0; it must be a whole number from 1 to 255"),
        (BASE + 'labels_are = "binary"\nignore = 255\n' + TRAIN, "ignore does not go together with"),
        ('name = "a"\nclasses = ["car"]\nlabels_are = "binary"\n' + TRAIN, "classes has 1 names; .* needs two"),
        (BASE + 'background = "sky"\nlabels_are = "labelme"\n' + TRAIN, "background: There is no class 'sky'"),
        (BASE + 'order = ["sky"]\nlabels_are = "labelme"\n' + TRAIN, "order: There is no name 'sky'"),
        (BASE + 'order = "car"\nlabels_are = "labelme"\n' + TRAIN, "order must be a list of texts"),
        (BASE + "threshold = 3\n" + TRAIN, "There is no key 'threshold'"),
        (BASE + 'channel = "depth"\n' + TRAIN, "no kind of channel 'depth'"),
        (BASE + '[splits.train]\nimages = []\nlabels = "{stem}.png"\n', r"splits.train.images is \[\]; it must be a pattern"),
        (BASE + '[splits.train]\nlist = "/a.txt"\n', "splits.train.list is '/a.txt', an absolute path"),
        (BASE + TRAIN + "fractions = 0.5\n", "splits.train.fractions must be a table with a fraction for each split"),
        (BASE + TRAIN + "fractions = {}\n", "splits.train.fractions add up to 0"),
        (BASE + TRAIN + "fractions = { a = 0.8, b = 0.4 }\n", "splits.train.fractions add up to 1.2"),
        (BASE + TRAIN + "fractions = { a = 0 }\n", "splits.train.fractions.a is 0; it must be a number above 0"),
        (BASE + TRAIN + "fractions = { a = true }\n", "splits.train.fractions.a is True"),
        (BASE + TRAIN + "fractions = { val = 0.2 }\n" + TRAIN.replace("train", "val"), "splits has 'val' twice"),
        (BASE + TRAIN + 'fractions = { "a+b" = 0.2 }\n', r"cannot be called 'a\+b'"),
        (BASE + "ignore = true\n" + TRAIN, "ignore is True; it must be one id"),
        (BASE + 'ignore = "255"\n' + TRAIN, "ignore is '255'; it must be one id"),
        (BASE + "colours = [[1, 2, 3]]\n" + TRAIN, "2 classes but 1 colours"),
        (BASE + "colours = [1, 2]\n" + TRAIN, r"colours must be a list of \[red, green, blue\]"),
        (BASE + 'colours = "red"\n' + TRAIN, r"colours must be a list of \[red, green, blue\]"),
        (BASE + "colours = [[1, 2, 3], [1, 2]]\n" + TRAIN, r"colours contains \[1, 2\]; a colour is three whole numbers"),
        (BASE + "colours = [[1, 2, 3], [1, 2, 3.5]]\n" + TRAIN, r"colours contains \[1, 2, 3.5\]"),
        (BASE + 'labels_are = "colors"\n' + TRAIN, "labels_are 'colors'. Did you mean 'colours'"),
        (BASE + "labels_are = 3\n" + TRAIN, "labels_are is 3; it must be a text"),
        (BASE + 'labels_are = "colours"\n' + TRAIN, 'colours is missing; labels_are = "colours" requires'),
        (BASE + 'labels_are = "colours"\ncolours = [[1, 2, 3], [1, 2, 3]]\n' + TRAIN, "'building' and 'car' the same"),
    ],
)
def test_wrong_toml(tmp_path: Path, text: str, message: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(FastSCNNError, match=message) as caught:
        folder.spec(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_equal_colours_are_allowed_where_labels_are_ids(tmp_path: Path) -> None:
    spec = folder.spec(toml(tmp_path, BASE + "colours = [[1, 2, 3], [1, 2, 3]]\n" + TRAIN))
    assert spec.label_set.colours == ((1, 2, 3), (1, 2, 3))


def test_unreadable_toml(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"dataset\.toml: no such file"):
        folder.spec(tmp_path / "dataset.toml")
    with pytest.raises(FastSCNNError, match="cannot be read"):
        folder.spec(tmp_path)
    with pytest.raises(FastSCNNError, match="is not TOML"):
        folder.spec(toml(tmp_path, "a=" + "[" * 1000 + "]" * 1000))
    with pytest.raises(FastSCNNError, match=r"splits\.train\.labels is .*; remove the zero byte"):
        folder.spec(toml(tmp_path, BASE + split(labels="\\u0000{stem}")))
    (tmp_path / "dataset.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(FastSCNNError, match="is not text in UTF-8"):
        folder.spec(tmp_path / "dataset.toml")


def test_load(tmp_path: Path) -> None:
    path = toml(tmp_path, BASE + TRAIN)
    assert datasets.load(str(path)) == datasets.load(str(tmp_path)) == folder.spec(path)
    spec = datasets.load(f"camvid:{tmp_path}")
    assert (spec.name, spec.root, len(spec.label_set)) == ("camvid", tmp_path, 11)


def test_load_takes_paths_specs_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(tmp_path, BASE + TRAIN)
    spec = datasets.load(path)
    assert datasets.load(spec) is spec
    assert fastscnn.load_dataset(tmp_path) == spec
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.load("~") == datasets.load(Path("~")) == datasets.load("~/dataset.toml") == spec
    assert datasets.load("camvid:~").root == tmp_path
    with pytest.raises(FastSCNNError, match="'~nobody-of-that-name' is not a dataset"):
        datasets.load("~nobody-of-that-name")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("camvid", "is not a dataset: give NAME:ROOT, such as camvid:ROOT"),
        ("camvit:.", "no dataset 'camvit'. Did you mean 'camvid'"),
        ("camvid:/no/such/folder", "/no/such/folder: no such folder"),
        ("/no/such/dataset.toml", r"/no/such/dataset\.toml: no such file"),
    ],
)
def test_load_refuses(name: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        datasets.load(name)


def two_splits(root: Path) -> DatasetSpec:
    train, val = Split("img/train/**/*.*", "ids/{stem}_gt.png"), Split("../val/*.png", "../val/{stem}/{stem}.png")
    return DatasetSpec("two", root / "data", LabelSet(("a", "b")), {"train": train, "val": val})


def test_pairs(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("img/train/b.png", "img/train/sub/a.jpg", "ids/a_gt.png", "ids/b_gt.png", "../val/c.png", "../val/c/c.png"):
        save(root / name, np.zeros((2, 2)))
    (root / "img/train/notes.txt").write_text("no image")
    spec = two_splits(tmp_path)
    assert [(pair.image, pair.labels) for pair in spec.pairs("train+val")] == [
        (root / "img/train/b.png", root / "ids/b_gt.png"),
        (root / "img/train/sub/a.jpg", root / "ids/a_gt.png"),
        (root / "../val/c.png", root / "../val/c/c.png"),
    ]
    (root / "ids/a_gt.png").unlink()
    with pytest.raises(FastSCNNError, match=r"a\.jpg: its label file .*a_gt\.png is missing"):
        spec.pairs("train")
    assert len(spec.pairs("val")) == 1
    with pytest.raises(FastSCNNError, match=r"no split of two 'vall'\. Did you mean 'val'"):
        spec.pairs("val+vall")


@pytest.mark.parametrize(
    ("pattern", "labels", "image", "expected", "wild"),
    [
        ("a/*/*_x.png", "b/{1}/{2}_y.png", "a/ulm/7_x.png", "b/ulm/7_y.png", "b/*/*_y.png"),
        ("a/*/*.png", "b/{2}/{1}{stem}.png", "a/ulm/7.png", "b/7/ulm7.png", "b/*/*.png"),
        ("**/a/*_x.png", "{1}b/{2}.png", "p/q/a/r_x.png", "p/q/b/r.png", "**/b/*.png"),
        ("**/a/*_x.png", "{1}b/{2}.png", "a/r_x.png", "b/r.png", "**/b/*.png"),
        ("a/*_x.png", "b[1]/{1}.png", "a/x_x_x.png", "b[1]/x_x.png", "b[[]1]/*.png"),
        ("a/*.png", "b/{9}{stem}.png", "a/r.png", "b/{9}r.png", "b/*.png"),  # no ninth wildcard: as it stands
    ],
)
def test_wildcards_go_over_to_the_labels(
    tmp_path: Path, pattern: str, labels: str, image: str, expected: str, wild: str
) -> None:
    place = Split(pattern, labels)
    spec = DatasetSpec("d", tmp_path, LabelSet(("a",)), {"train": place})
    save(tmp_path / image, np.zeros((2, 2)))
    (found,) = spec.image_files("train")
    assert spec.label_file("train", found) == tmp_path / expected
    assert place.globs(labels) == [wild]
    save(tmp_path / expected, np.zeros((2, 2)))
    assert list(tmp_path.glob(wild)) == [tmp_path / expected]


def test_names_that_are_too_long_are_missing_files(tmp_path: Path) -> None:
    spec = folder.spec(toml(tmp_path, BASE + split(labels="a" * 300 + "{stem}.png")))
    save(tmp_path / "a/b.png", np.zeros((40, 40, 3)))
    with pytest.raises(FastSCNNError, match=r"its label file .* is missing"):
        spec.pairs("train")
    assert [finding.kind for finding in check(spec).findings] == ["missing-labels"]


@pytest.mark.parametrize("images", ["*.png", "a" * 300, "a" * 300 + "/*.png"])
def test_check_of_patterns_that_match_nothing(tmp_path: Path, images: str) -> None:
    found = check(folder.spec(toml(tmp_path, BASE + split(images=images)))).findings
    assert [finding.kind for finding in found] == ["no-images"]


def test_pairs_of_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"no images match '\.\./val/\*\.png' \(split 'val' of two\)"):
        two_splits(tmp_path).pairs("val")


def test_read_labels_maps_ids(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[7, 11], [0, 7]])
    spec = DatasetSpec("d", tmp_path, LabelSet(("a", "b"), raw_ids=((7, 1), (11, 0), (0, 255))), {})
    labels = spec.read_labels(path)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0], [255, 1]]
    save(path, [[7, 12]])
    with pytest.raises(FastSCNNError, match=r"a\.png: contains the id 12, which is no class of d"):
        spec.read_labels(path)


def test_read_labels_without_raw_ids(tmp_path: Path) -> None:
    spec = DatasetSpec("d", tmp_path, LabelSet(("a", "b")), {})
    assert spec.read_labels(save(tmp_path / "a.png", [[0, 1, 255]])).tolist() == [[0, 1, 255]]
    with pytest.raises(FastSCNNError, match="contains the id 2"):
        spec.read_labels(save(tmp_path / "a.png", [[0, 2, 255]]))


@pytest.mark.parametrize("alpha", [False, True])
def test_read_labels_decodes_colours(tmp_path: Path, alpha: bool) -> None:
    colours = ((200, 0, 0), (0, 0, 200), (0, 200, 0), (0, 0, 0))  # in no order of their values
    spec = DatasetSpec("d", tmp_path, LabelSet(("a", "b", "c", "d"), colours), {}, ColourLabels())
    random = np.random.default_rng(0)
    known = random.integers(0, 4, (20, 30))
    pixels: UInt8Array = np.array(colours, np.uint8)[known]
    strange = random.random((20, 30)) < 0.2
    pixels[strange] = random.integers(1, 199, (strange.sum(), 3))
    strange[0, 0], pixels[0, 0] = True, 255  # above all colours
    path = tmp_path / "a.png"
    if alpha:
        Image.fromarray(np.dstack([pixels, random.integers(0, 256, (20, 30), np.uint8)])).save(path)
    else:
        save(path, pixels)
    expected = np.where(strange, 255, known)
    np.testing.assert_array_equal(spec.read_labels(path), expected)
    decoded = spec.decode(path, path)
    np.testing.assert_array_equal(decoded.stored, expected)
    assert sum(decoded.unknown.values()) == strange.sum() > 0


@pytest.mark.parametrize("made", [
    DatasetSpec("d", Path("d"), LabelSet(("a",)), {}), Split(("*.png",), "{stem}.png"), LabelSet(("a",)),
    IdLabels(), BinaryLabels(), ColourLabels(),
], ids=lambda made: type(made).__name__)  # fmt: skip
def test_descriptions_cannot_be_changed(made: Any) -> None:
    """Several threads share them, and some are keys of caches."""
    for field in fields(made):
        with pytest.raises(FrozenInstanceError):
            setattr(made, field.name, None)


def test_colour_masks_are_no_ids(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.arange(12).reshape(2, 2, 3))
    with pytest.raises(FastSCNNError, match='set labels_are = "colours"'):
        DatasetSpec("d", tmp_path, LabelSet(("a",)), {}).read_labels(path)
