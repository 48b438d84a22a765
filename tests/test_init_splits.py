"""`dataset init` and splits: few images, and frames of videos, whose neighbours must not lie in two splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset_init import SIZE, coco_json, labelme_json, photo, save, text, truth

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.folder import Initialised, init_dataset
from fastscnn.data.init.sequences import by_sequence, frames, numbered
from fastscnn.data.init.survey import Survey
from fastscnn.model.label_set import LabelSet

FRACTIONS = {"train": 0.8, "val": 0.2}


def pair(root: Path, name: str, image: UInt8Array, labels: int = 0) -> None:
    save(root / f"images/{name}.png", image)
    save(root / f"labels/{name}.png", truth(labels))


def frame(video: int, number: int) -> UInt8Array:
    """A picture that moves by a pixel from frame to frame, over 100 frames."""
    wide = np.random.default_rng(video).integers(0, 256, (5, 20, 3), np.uint8)
    return np.kron(wide, np.ones((8, 8, 1), np.uint8))[:, number : number + SIZE[1]]


def names(root: Path, made: Initialised) -> dict[str, list[str]]:
    """The images of each split; `check` has no errors."""
    spec = datasets.load(made.dataset)
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    return {split: [path.stem for path in spec.image_files(split)] for split in spec.splits}


@pytest.mark.parametrize(("count", "splits"), [(1, [1]), (2, [1, 1]), (3, [2, 1]), (4, [3, 1]), (7, [6, 1])])
def test_few_images(tmp_path: Path, count: int, splits: list[int]) -> None:
    for number in range(count):
        pair(tmp_path, f"s{number}", photo(number), number)
    made = init_dataset(tmp_path)
    assert [len(found) for found in names(tmp_path, made).values()] == splits
    assert ("val" in made.images) == (count > 1)
    assert ("there is one image with labels, so there is no split val" in " ".join(made.left_open)) == (count == 1)


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_in_lists(tmp_path: Path, count: int) -> None:
    for number in range(count):
        pair(tmp_path, f"s{number}", photo(number), number)
    text(tmp_path / "train.txt", "".join(f"images/s{number}.png labels/s{number}.png\n" for number in range(count)))
    assert sum(map(len, names(tmp_path, init_dataset(tmp_path)).values())) == count


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_with_shapes(tmp_path: Path, count: int) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    for folder in ("one_file", "each"):
        for number in range(count):
            save(tmp_path / folder / f"s{number}.jpg", photo(number))
            if folder == "each":
                text(tmp_path / folder / f"s{number}.json", labelme_json(number))
    text(tmp_path / "one_file/coco.json", coco_json(range(count), "{n}.jpg"))
    for folder in ("one_file", "each"):
        assert len(names(tmp_path, init_dataset(tmp_path / folder))) == count


def test_one_video_is_divided_once(tmp_path: Path) -> None:
    for number in range(40):
        pair(tmp_path, f"cam_{number}", frame(0, number), number % 5)  # no zeros: 10 comes before 9 in the order of texts
    made = init_dataset(tmp_path)
    assert set(names(tmp_path, made)["val"]) == {f"cam_{number}" for number in range(32, 40)}
    assert [path.name for path in made.lists] == ["dataset-train.txt", "dataset-val.txt"]
    assert any("neighbours look alike, as frames of videos do." in said and "So the last 20 % are val." in said
               for said in made.guessed)
    assert init_dataset(tmp_path, force=True) == made


def test_whole_videos_are_kept_together(tmp_path: Path) -> None:
    for video in range(5):
        for number in range(10):
            pair(tmp_path, f"drive{video}_{number:06}", frame(video, number), number % 5)
    found = names(tmp_path, made := init_dataset(tmp_path))
    assert len({name[:6] for name in found["val"]}) == 1
    assert len(found["val"]) == 10
    assert {name[:6] for name in found["train"]}.isdisjoint(name[:6] for name in found["val"])
    assert any("1 of 5 sequences is val (20 % of the images)" in said for said in made.guessed)
    assert "fractions" not in made.toml


def test_videos_in_folders_and_a_list_of_pairs(tmp_path: Path) -> None:
    lines = []
    for video in range(2):
        for number in range(20):
            save(tmp_path / f"v{video}/f{number}.png", frame(video, number))
            save(tmp_path / f"v{video}/f{number}_gt.png", truth(number % 5))
            lines.append(f"v{video}/f{number}.png v{video}/f{number}_gt.png\n")
    text(tmp_path / "train.txt", "".join(lines))
    made = init_dataset(tmp_path)
    spec = datasets.load(made.dataset)
    assert {str(path.relative_to(tmp_path)) for path in spec.image_files("val")} == {
        f"v{video}/f{number}.png" for video in range(2) for number in range(16, 20)}
    assert any("the last 20 % of each of 2 sequences are val" in said for said in made.guessed)
    assert check(spec).ok


def test_frames_with_shapes(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    for number in range(20):
        save(tmp_path / f"images/s{number}.jpg", frame(0, number))
    table = json.loads(coco_json(range(5), "{n}.jpg"))
    table["images"] += [{**table["images"][0], "id": number, "file_name": f"s{number}.jpg"} for number in range(5, 20)]
    text(tmp_path / "coco.json", json.dumps(table))
    assert set(names(tmp_path, init_dataset(tmp_path))["val"]) == {f"s{number}" for number in range(16, 20)}


def test_numbered_photographs_are_divided_at_random(tmp_path: Path) -> None:
    for number in range(20):
        pair(tmp_path, f"IMG_{number:04}", photo(number), number % 5)
    made = init_dataset(tmp_path)
    assert "fractions = { train = 0.8, val = 0.2 }" in made.toml
    assert any("so they are divided at random: train 80 %, val 20 %, seed 0." in said for said in made.guessed)


@pytest.mark.parametrize(
    ("given", "sequences"),
    [
        (["a_1", "a_2", "a_10", "b_1", "b_2", "b_3"], [["a_1", "a_2", "a_10"], ["b_1", "b_2", "b_3"]]),
        (["f1_cam0", "f2_cam0", "f3_cam0"], [["f1_cam0", "f2_cam0", "f3_cam0"]]),
        (["s1_f1", "s1_f2", "s1_f3", "s2_f1", "s2_f2", "s2_f3"], [["s1_f1", "s1_f2", "s1_f3"], ["s2_f1", "s2_f2", "s2_f3"]]),
        (["100.5", "100.9", "101.3", "102.1"], [["100.5", "100.9", "101.3", "102.1"]]),  # seconds
        (["v_2_jpg.rf.0a1b", "v_10_jpg.rf.9f", "v_1_jpg.rf.77"], [["v_1_jpg.rf.77", "v_2_jpg.rf.0a1b", "v_10_jpg.rf.9f"]]),
        (["cat", "dog"], [["cat"], ["dog"]]),
        (["7", "8", "9"], [["7", "8", "9"]]),
    ],
)
def test_names_of_frames(given: Sequence[str], sequences: list[list[str]]) -> None:
    found = numbered([f"x/{name}.png" for name in given])
    assert sorted(found) == sorted([[f"x/{name}.png" for name in sequence] for sequence in sequences])
    assert len(numbered([f"{folder}/{number}.png" for folder in "ab" for number in range(3)])) == 2


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) - len(sizes) >= 8))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_division_of_sequences(sizes: list[int]) -> None:
    """Every image is in one split, none is empty, val has about a fifth, and few neighbours lie in two splits."""
    sequences = [[f"{video}_{number:03}" for number in range(size)] for video, size in enumerate(sizes)]
    parts, count = by_sequence(sequences, FRACTIONS)
    assert sorted(parts["train"] + parts["val"]) == sorted(path for sequence in sequences for path in sequence)
    assert parts["train"]
    assert parts["val"]
    assert 0.1 <= len(parts["val"]) / sum(sizes) <= 0.35
    val = set(parts["val"])
    cuts = [sum((one in val) != (other in val) for one, other in pairwise(sequence)) for sequence in sequences]
    assert max(cuts) <= (0 if count else 1)


@pytest.mark.parametrize(("folder", "video"), [("train", True), ("val", True), ("test", True), ("../facade/images", False)])
def test_frames_of_camvid_and_photographs_of_facades(camvid_root: Path, folder: str, video: bool) -> None:
    root = camvid_root / folder
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    paths = sorted(path.name for path in root.iterdir() if path.suffix in (".png", ".jpg"))
    assert bool(frames(Survey(root, ()), paths)) == video


def test_splits_without_train_or_val(tmp_path: Path) -> None:
    for split, numbers in (("val", range(3)), ("test", range(3, 5))):
        for number in numbers:
            save(tmp_path / f"images/{split}/s{number}.png", photo(number))
            save(tmp_path / f"labels/{split}/s{number}.png", truth(number))
    assert "There is no split train; train with --split val." in init_dataset(tmp_path).guessed
    text(tmp_path / "lists/train.txt", "s0\ns1\ns2\n")
    text(tmp_path / "lists/test.txt", "s3\ns4\n")
    made = init_dataset(tmp_path, force=True)
    assert "There is no split val; `fastscnn train` needs --validation test or none." in made.guessed
    assert datasets.load(tmp_path).label_set == LabelSet(tuple(f"class {number}" for number in range(4)))


def several(root: Path, count: int = 8) -> None:
    for number in range(count):
        pair(root, f"s{number}", photo(number), number % 6)


def test_a_list_with_a_line_too_many_is_kept_without_it(tmp_path: Path) -> None:
    several(tmp_path)
    text(tmp_path / "train.txt", "".join(f"s{number}.png\n" for number in (0, 1, 9, 2, 3, 4)))
    text(tmp_path / "val.txt", "s5.png\ns6.png\ns7.png\n")
    made = init_dataset(tmp_path)
    assert names(tmp_path, made) == {"train": ["s0", "s1", "s2", "s3", "s4"], "val": ["s5", "s6", "s7"]}
    said = " ".join(made.guessed)
    assert "1 line of the list train.txt not used, such as line " in said
    assert "Their images are listed in dataset-train.txt; add new images there." in said


def test_a_list_of_label_files_with_a_line_too_many(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"in/s{number}.png", photo(number))
        save(tmp_path / f"out/z{number}.png", truth(number % 6))
    text(tmp_path / "train.txt", "image,mask\n" + "".join(f"in/s{n}.png,out/z{n}.png\n" for n in (0, 1, 9, 2, 3, 4)))
    text(tmp_path / "val.txt", "".join(f"in/s{number}.png,out/z{number}.png,1\n" for number in (5, 6, 7)))
    found = names(tmp_path, init_dataset(tmp_path))
    assert found == {"train": ["s0", "s1", "s2", "s3", "s4"], "val": ["s5", "s6", "s7"]}


def test_lists_with_the_label_file_first_are_refused(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"bilder/{number}.png", photo(number))
        save(tmp_path / f"seg/s{number}.png", truth(number % 6))
    text(tmp_path / "train.txt", "".join(f"seg/s{number}.png bilder/{number}.png 1\n" for number in range(8)))
    with pytest.raises(FastSCNNError, match=r"label files in its first column, such as seg/s0\.png, and images in its"):
        init_dataset(tmp_path)


def test_the_lists_of_oxford_pets(tmp_path: Path) -> None:
    several(tmp_path)
    text(tmp_path / "annotations/trainval.txt", "".join(f"s{number} 1 1 1\n" for number in range(5)))
    text(tmp_path / "annotations/test.txt", "".join(f"s{number} 2 1 2\n" for number in range(5, 8)))
    assert names(tmp_path, init_dataset(tmp_path)) == {"train": [f"s{n}" for n in range(5)], "test": ["s5", "s6", "s7"]}


def test_lists_without_the_name_of_a_split_are_said(tmp_path: Path) -> None:
    several(tmp_path)
    text(tmp_path / "folds/fold0_train.txt", "s0\ns1\ns2\n")
    text(tmp_path / "folds/fold0_val.txt", "s3\ns4\n")
    text(tmp_path / "all.txt", "".join(f"s{number}\n" for number in range(8)))
    said = " ".join(init_dataset(tmp_path).guessed)
    assert "No folders and no usable lists divide the images" in said
    assert "Not used: folds/fold0_train.txt, folds/fold0_val.txt. Only lists named train, val or test are used" in said


def test_lists_of_images_whose_names_differ_from_those_of_the_labels(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"images/a_{number}/camera.png", photo(number))
        save(tmp_path / f"labels/a_{number}_x.png", truth(number % 6))
    text(tmp_path / "train.txt", "".join(f"images/a_{number}/camera.png\n" for number in range(5)))
    text(tmp_path / "val.txt", "".join(f"images/a_{number}/camera.png\n" for number in range(5, 8)))
    assert init_dataset(tmp_path).images == {"train": 5, "val": 3}
