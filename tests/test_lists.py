"""Splits by lists and by fractions, and image patterns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.lists import divided
from fastscnn.media import images

NAMES = ("2007_01", "2007_02", "a b", "x.1")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder as of Pascal VOC, without its lists."""
    for index, name in enumerate(NAMES):
        images.write(tmp_path / f"JPEGImages/{name}.jpg", np.full((40, 40, 3), 60 * index, np.uint8))
        images.write(tmp_path / f"SegmentationClass/{name}.png", np.full((40, 40), index % 2, np.uint8))
    (tmp_path / "ImageSets").mkdir()
    return tmp_path


def load(root: Path, split: str) -> DatasetSpec:
    (root / "dataset.toml").write_text(f'name = "v"\nclasses = ["a", "b"]\n[splits.train]\n{split}')
    return datasets.load(root)


VOC = 'images = "JPEGImages/*.jpg"\nlabels = "SegmentationClass/{stem}.png"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2007_02\n2007_01\n", ["2007_01", "2007_02"]),
        ("\ufeff2007_02\r\n\r\n# comment\r\nx.1\r\n", ["2007_02", "x.1"]),
        ("a b\n", ["a b"]),
        ("2007_02.jpg\n", ["2007_02"]),
        ("JPEGImages/2007_02.jpg\n./JPEGImages/x.1.jpg\n", ["2007_02", "x.1"]),
        ("/data/VOC2012/JPEGImages/2007_02.jpg\n", ["2007_02"]),
        ("D:\\VOC\\JPEGImages\\2007_02.jpg\n", ["2007_02"]),
        ("JPEGImages/2007_02.jpg SegmentationClass/2007_01.png\n", ["2007_02"]),
        ("2007_02 1 1 1\nx.1 2 1 3\n", ["2007_02", "x.1"]),
        ("JPEGImages/2007_02.jpg,SegmentationClass/2007_02.png,1\n", ["2007_02"]),
        ("image,mask\nJPEGImages/2007_02.jpg,SegmentationClass/2007_02.png\n", ["2007_02"]),
        ("filename\n2007_02\n", ["2007_02"]),
    ],
)
def test_a_list_chooses_images_of_a_pattern(voc: Path, text: str, expected: list[str]) -> None:
    (voc / "ImageSets/train.txt").write_bytes(text.encode())
    spec = load(voc, VOC + 'list = "ImageSets/train.txt"\n')
    assert [pair.image.stem for pair in spec.pairs("train")] == expected
    assert check(spec).ok


def test_utf_16(voc: Path) -> None:
    (voc / "train.txt").write_text("2007_02\n", encoding="utf-16")
    assert len(load(voc, VOC + 'list = "train.txt"\n').pairs("train")) == 1
    (voc / "train.txt").write_bytes("2007_02\nStraße\n".encode("cp1252"))
    with pytest.raises(FastSCNNError, match=r"train\.txt: is not text in UTF-8; save it as UTF-8"):
        load(voc, VOC + 'list = "train.txt"\n')


@pytest.mark.parametrize(
    "line",
    [
        "JPEGImages/2007_02.jpg SegmentationClass/2007_01.png",
        "JPEGImages/2007_02.jpg\tSegmentationClass/2007_01.png",
        "JPEGImages/2007_02.jpg,SegmentationClass/2007_01.png",
        "/SegNet/VOC/JPEGImages/2007_02.jpg /SegNet/VOC/SegmentationClass/2007_01.png",
        "{root}/JPEGImages/2007_02.jpg {root}/SegmentationClass/2007_01.png",
        "../JPEGImages/2007_02.jpg ../SegmentationClass/2007_01.png",
    ],
)
def test_two_columns(voc: Path, line: str) -> None:
    second_line = "JPEGImages/x.1.jpg SegmentationClass/x.1.png"
    (voc / "ImageSets/train.txt").write_text(f"{line.replace('{root}', str(voc))}\n{second_line}\n")
    spec = load(voc, 'list = "ImageSets/train.txt"\n')
    first, second = spec.pairs("train")
    assert (first.image, first.labels) == (voc / "JPEGImages/2007_02.jpg", voc / "SegmentationClass/2007_01.png")
    assert (second.image, second.labels) == (voc / "JPEGImages/x.1.jpg", voc / "SegmentationClass/x.1.png")
    assert (spec.read(first)[1] == 0).all()


def test_one_column_of_paths(voc: Path) -> None:
    (voc / "train.txt").write_text("JPEGImages/a b.jpg\nJPEGImages/2007_01.jpg\n")
    spec = load(voc, 'list = "train.txt"\nlabels = "SegmentationClass/{stem}.png"\n')
    assert [pair.labels.name for pair in spec.pairs("train")] == ["2007_01.png", "a b.png"]
    with pytest.raises(FastSCNNError, match=r"splits\.train\.labels is missing"):
        load(voc, 'list = "train.txt"\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2007_1\n", r"line 1 names 2007_1, which is no image of .* \(did you mean JPEGImages/2007_01\.jpg\?\)"),
        ("2007_01\n2007_02\n2007_01.jpg\n", r"line 3 names JPEGImages/2007_01\.jpg again"),
        ("", "names no image; write one path in each line"),
        ("# nothing\n\n", "names no image"),
        ("2007_01 1\n", "line 1 names the label file 1, which does not exist"),
        ("2007_01\n2007_02 SegmentationClass/2007_02.png\n", "has lines with a label file and lines without"),
        ("2007_01\nimage\n", "line 2 names image, which is no image"),
        ("2007_02 /other/data/masks/none.png\n", "line 1 names the label file /other/data/masks/none.png, which does not"),
        ("2007_02 /other/data/masks/of/x.png\n", "line 1 names the label file /other/data/masks/of/x.png, which does not"),
        ("2007_02,2007_02x\n", "line 1 names the label file 2007_02x, which does not exist"),
        ("SegmentationClass/2007_02.png,JPEGImages/2007_02.jpg\n", "line 1 has the label file in the first column; write the"),
        ("2007_02 1 -1\n", "line 1 names 2007_02 1 -1, which is no image"),
        ("\0\n", "is not text in UTF-8; save it as UTF-8"),
        ("a" * 5000 + "\n", "line 1 names"),
    ],
)
def test_wrong_lists(voc: Path, text: str, message: str) -> None:
    (voc / "train.txt").write_text(text)
    with pytest.raises(FastSCNNError, match=message) as caught:
        load(voc, VOC + 'list = "train.txt"\n')
    assert str(voc / "train.txt") in str(caught.value)


@pytest.mark.parametrize("folder", ["/other", "/other/data", "/other/data/masks"])
def test_the_name_alone_finds_no_label_file(voc: Path, folder: str) -> None:
    """A label file of another machine is found by its last folder and its name."""
    images.write(voc / "none.png", np.zeros((40, 40), np.uint8))
    (voc / "train.txt").write_text(f"2007_02 {folder}/none.png\n")
    with pytest.raises(FastSCNNError, match=rf"line 1 names the label file {folder}/none\.png, which does not exist"):
        load(voc, VOC + 'list = "train.txt"\n')


def test_a_missing_list(voc: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"train\.txt: no such file"):
        load(voc, VOC + 'list = "train.txt"\n')
    (voc / "train.txt").write_text("a\n")
    with pytest.raises(FastSCNNError, match=r"splits\.train\.images is 'photos/\*', which no image matches"):
        load(voc, VOC.replace("JPEGImages/*.jpg", "photos/*") + 'list = "train.txt"\n')


def test_names_in_several_folders(tmp_path: Path) -> None:
    for place in ("a/1", "b/1"):
        images.write(tmp_path / f"{place}.png", np.zeros((40, 40, 3), np.uint8))
        images.write(tmp_path / f"labels/{place}.png", np.zeros((40, 40), np.uint8))
    split = 'images = "*/1.png"\nlabels = "labels/{1}/{stem}.png"\nlist = "train.txt"\n'
    (tmp_path / "train.txt").write_text("1\n")
    with pytest.raises(FastSCNNError, match=r"line 1 names 1, which is a/1\.png or b/1\.png; write more of the path"):
        load(tmp_path, split)
    (tmp_path / "train.txt").write_text("b/1\n")
    (pair,) = load(tmp_path, split).pairs("train")
    assert (pair.image, pair.labels) == (tmp_path / "b/1.png", tmp_path / "labels/b/1.png")


def test_the_suffix_tells_two_images_of_one_name_apart(voc: Path) -> None:
    images.write(voc / "JPEGImages/2007_02.png", np.zeros((40, 40, 3), np.uint8))
    (voc / "train.txt").write_text("2007_02.png\n")
    both = VOC.replace('"JPEGImages/*.jpg"', '["JPEGImages/*.jpg", "JPEGImages/*.png"]')
    (pair,) = load(voc, both + 'list = "train.txt"\n').pairs("train")
    assert pair.image.suffix == ".png"
    (voc / "train.txt").write_text("2007_02\n")
    with pytest.raises(FastSCNNError, match=r"which is JPEGImages/2007_02\.jpg or JPEGImages/2007_02\.png"):
        load(voc, both + 'list = "train.txt"\n')


def test_fractions(voc: Path) -> None:
    for index in range(20):
        images.write(voc / f"JPEGImages/{index}.jpg", np.full((40, 40, 3), index, np.uint8))
        images.write(voc / f"SegmentationClass/{index}.png", np.zeros((40, 40), np.uint8))
    part = VOC + "fractions = { train = 0.75, val = 0.25 }\n"
    spec = load(voc, part)
    assert list(spec.splits) == ["train", "val"]
    train, val = ({pair.image.name for pair in spec.pairs(split)} for split in ("train", "val"))
    assert (len(train), len(val), train & val) == (18, 6, set())
    assert load(voc, part) == spec
    assert load(voc, part + "seed = 1\n").pairs("val") != spec.pairs("val")
    assert load(voc, part + "seed = 2147483647\n").pairs("val") != spec.pairs("val")
    with pytest.raises(FastSCNNError, match=r"seed is 2147483648; it must be a whole number from 0 to 2147483647"):
        load(voc, part + "seed = 2147483648\n")
    assert not [finding for finding in check(spec).findings if finding.kind == "extra-labels"]


@settings(deadline=None, derandomize=True)
@given(st.sets(st.text(min_size=1), max_size=40), st.lists(st.floats(0.01, 0.3), min_size=1, max_size=3), st.integers(0, 9))
def test_fractions_divide(names: set[str], fractions: list[float], seed: int) -> None:
    parts = divided(sorted(names), {str(index): value for index, value in enumerate(fractions)}, seed)
    found = [name for part in parts.values() for name in part]
    assert len(set(found)) == len(found)
    assert set(found) <= names
    for part, fraction in zip(parts.values(), fractions, strict=True):
        assert abs(len(part) - fraction * len(names)) <= 1
    whole = divided(sorted(names), {"a": 0.5, "b": 0.5}, seed)
    assert sorted(whole["a"] + whole["b"]) == sorted(names)


def test_few_images_change_their_split_when_one_is_added() -> None:
    names = [f"{index}.png" for index in range(100)]
    before, after = (set(divided(some, {"train": 0.8, "val": 0.2}, 0)["val"]) for some in (names, [*names, "new.png"]))
    assert len(before ^ after) <= 3


def test_several_patterns_and_suffixes_of_any_case(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JPG", "c.Png", "d.bmp"):
        images.write(tmp_path / "raw" / f"{Path(name).stem}.png", np.zeros((40, 40, 3), np.uint8))
        (tmp_path / "raw" / f"{Path(name).stem}.png").rename(tmp_path / "raw" / name)
        images.write(tmp_path / "labels" / f"{Path(name).stem}.png", np.zeros((40, 40), np.uint8))
    (tmp_path / "labels/b.png").rename(tmp_path / "labels/b.PNG")
    (tmp_path / "raw/._a.jpg").write_bytes(b"Mac OS X")
    (tmp_path / "raw/.hidden").mkdir()
    (tmp_path / "raw/.hidden/e.jpg").write_bytes((tmp_path / "raw/a.jpg").read_bytes())
    spec = load(tmp_path, 'images = ["raw/**/*.jpg", "raw/*.png"]\nlabels = "labels/{stem}.png"\n')
    assert [(pair.image.name, pair.labels.name) for pair in spec.pairs("train")] == [
        ("a.jpg", "a.png"), ("b.JPG", "b.PNG"), ("c.Png", "c.png"),
    ]
    findings = check(spec).findings
    assert {finding.kind for finding in findings} == {
        "duplicate", "extra-labels", "one-class", "left-out-images", "hidden-files",
    }
    assert [finding.path.name for finding in findings if finding.kind == "extra-labels"] == ["d.png"]


def test_wildcards_match_where_the_suffix_has_another_case(tmp_path: Path) -> None:
    images.write(tmp_path / "IMG_1.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "IMG_1.png").rename(tmp_path / "IMG_1.PNG")
    images.write(tmp_path / "masks/1_mask.png", np.zeros((40, 40), np.uint8))
    (pair,) = load(tmp_path, 'images = "IMG_*.png"\nlabels = "masks/{1}_mask.png"\n').pairs("train")
    assert (pair.image.name, pair.labels.name) == ("IMG_1.PNG", "1_mask.png")


def test_listed_images_outside_the_root_do_not_depend_on_where_it_is(tmp_path: Path) -> None:
    found = []
    for place in ("one", "two/three"):
        root = tmp_path / place / "set"
        for name in "abcde":
            images.write(tmp_path / place / f"pictures/{name}.png", np.zeros((40, 40, 3), np.uint8))
            images.write(root / f"labels/{name}.png", np.zeros((40, 40), np.uint8))
        (root / "all.txt").write_text("".join(f"../pictures/{name}.png labels/{name}.png\n" for name in "abcde"))
        spec = load(root, 'list = "all.txt"\nfractions = { train = 0.6, val = 0.4 }\n')
        found.append({split: [(pair.image.name, pair.labels.name) for pair in spec.pairs(split)] for split in spec.splits})
    assert found[0] == found[1]
    assert [len(pairs) for pairs in found[0].values()] == [3, 2]
