"""`dataset init` and several label files for one image, and label files whose names differ from those of their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_dataset_init import (
    COLOURS,
    COUNT,
    NAMES,
    Expected,
    coco_json,
    coloured,
    labelme_json,
    pairs,
    photo,
    read,
    save,
    text,
    truth,
)

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.init.folder import Initialised, init_dataset

OPEN = "no file names the classes"


def older(labels: UInt8Array) -> UInt8Array:
    return np.roll(labels, 9)


def named(root: Path) -> None:
    text(root / "classes.txt", "\n".join(NAMES))


def made(root: Path, expected: Expected | None = None) -> Initialised:
    """Initialise, and compare each pixel with the truth."""
    result = init_dataset(root)
    read(root, result, expected or Expected())
    return result


# several label files for one image


@pytest.mark.parametrize(
    ("image", "labels", "other"),
    [
        ("images/{n}.jpg", "labels/{n}.png", "backup/labels/{n}.png"),
        ("images/{n}.jpg", "labels/{n}.png", "labels/old/labels/{n}.png"),
        ("data/images/{n}.jpg", "data/labels/{n}.png", "aaa/labels/{n}.png"),
        ("images/10k/{n}.jpg", "labels/{n}.png", "aaa/labels/{n}.png"),
        ("images/10k/{s}/{n}.jpg", "labels/sem_seg/masks/{s}/{n}.png", "labels/drivable/masks/{s}/{n}.png"),
        ("images/{n}.jpg", "semantic/labels/{n}.png", "lane/labels/{n}.png"),
        ("images/{n}.jpg", "labels/sem_seg/masks/{n}.png", "labels/ins_seg/bitmasks/{n}.png"),
        ("images/{n}.jpg", "labels/sem_seg/masks/{n}.png", "labels/pan_seg/bitmasks/{n}.png"),
        ("training/images/{n}.jpg", "training/labels/{n}.png", "training/instances/labels/{n}.png"),
    ],
)
def test_the_nearest_labels_are_used_and_the_others_are_said(tmp_path: Path, image: str, labels: str, other: str) -> None:
    pairs(tmp_path, image, labels)
    pairs(tmp_path, image, other, older)
    named(tmp_path)
    said = " ".join(made(tmp_path).guessed)
    assert "Not used: " in said
    assert other.format(n="s0", s="train") in said


@pytest.mark.parametrize("folders", [("annotator_a/masks", "annotator_b/masks"), ("v1.2/labels", "v2.0/labels")])
def test_labels_that_are_equally_near_are_refused(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        pairs(tmp_path, "images/{n}.jpg", f"{folder}/{{n}}.png")
    with pytest.raises(FastSCNNError, match=rf"{folders[0]} and {folders[1]} may both hold .* again\."):
        init_dataset(tmp_path)


@pytest.mark.parametrize("masks", ["masks/{name}/s{n}.png", "masks/s{n}_{name}.png"])
def test_one_mask_for_each_class_is_refused(tmp_path: Path, masks: str) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.jpg", photo(number))
        for value, name in enumerate(NAMES):
            save(tmp_path / masks.format(name=name, n=number), (truth(number) == value) * np.uint8(255))
    with pytest.raises(FastSCNNError, match=r"masks/.*; if each is the mask of one class or object, write one label file for"):
        init_dataset(tmp_path)


def test_a_second_label_file_of_one_image_is_said(tmp_path: Path) -> None:
    pairs(tmp_path, "images/10k/{n}.jpg", "a/labels/{n}.png")
    save(tmp_path / "b/labels/s0.png", older(truth(0)))
    named(tmp_path)
    assert "Not used: b/labels/s0.png" in " ".join(made(tmp_path).guessed)


def test_a_label_file_that_fits_two_images(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / f"train/images/{number}.jpg", photo(number))
        save(tmp_path / f"labels/{number}.png", truth(number))
    save(tmp_path / "val/images/0.jpg", photo(9))
    named(tmp_path)
    said = " ".join(init_dataset(tmp_path).guessed)
    assert "Not used: 1 label file that may belong to several images, such as labels/0.png to train/images/0.jpg" in said
    assert "Left out: 1 image without a label file of their own, such as train/images/0.jpg." in said


def test_other_pictures_beside_the_images_are_not_images(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "images/{n}_seg.png")
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}_parts_1.png", photo(number))
    named(tmp_path)
    assert "Left out" not in " ".join(made(tmp_path).guessed)


# names that differ inside


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("semantic/a/camera/front/a_camera_front_{n}.png", "semantic/a/label/front/a_label_front_{n}.png"),  # A2D2
        ("training/image_2/um_{n}.png", "training/gt_image_2/um_road_{n}.png"),  # KITTI road
        ("images{s}/case_{n}_0000.png", "labels{s}/case_{n}.png"),  # nnU-Net
        ("leftImg8bit/{s}/0/{n}_leftImg8bit.png", "gtFine/{s}/0/{n}_gtFine_labellevel3Ids.png"),  # IDD
        ("images/{s}/2022__{n}_16_windshield_vis.png", "labels/{s}/2022__{n}_16_labelids.png"),  # GOOSE
        ("images/a/{n}.jpg", "labels/a_{n}.png"),
        ("images/{n}.jpg", "labels/{n}.jpg.png"),
        ("Color/R1/Cam 5/{n}_5.jpg", "Label/R1/Cam 5/{n}_5_bin.png"),  # ApolloScape
    ],
)
def test_names_that_differ_inside(tmp_path: Path, image: str, labels: str) -> None:
    pairs(tmp_path, image, labels)
    named(tmp_path)
    result = made(tmp_path, Expected(splits=("train", "val")))
    assert sum(result.images.values()) == COUNT


def test_kinds_beside_names_that_differ_inside(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{s}/{n}_windshield_vis.png", "labels/{s}/{n}_labelids.png")
    pairs(tmp_path, "images/{s}/{n}_windshield_vis.png", "labels/{s}/{n}_color.png", coloured)
    pairs(tmp_path, "images/{s}/{n}_windshield_vis.png", "labels/{s}/{n}_instanceids.png", lambda labels: labels * 3)
    named(tmp_path)
    result = made(tmp_path)
    assert 'labels = "labels/train/{1}_labelids.png"' in result.toml
    assert "Not used: " in " ".join(result.guessed)


def test_images_of_one_name_with_other_suffixes(tmp_path: Path) -> None:
    for number in range(COUNT):
        suffix = ("jpg", "png")[number % 2]
        save(tmp_path / f"images/{number // 2}.{suffix}", photo(number))
        save(tmp_path / f"labels/{number // 2}.{suffix}.png", truth(number))
    named(tmp_path)
    spec = datasets.load(init_dataset(tmp_path).dataset)
    for split in spec.splits:
        for pair in spec.pairs(split):
            number = 2 * int(pair.image.stem) + (pair.image.suffix == ".png")
            assert (spec.read(pair)[1] == truth(number)).all()
    assert sum(len(spec.pairs(split)) for split in spec.splits) == COUNT


# label files that are not of classes


def instance_ids(labels: UInt8Array) -> np.ndarray:
    return labels.astype(np.uint16) * 1000 + 7


def test_the_labels_of_apolloscape_are_not_its_instances(tmp_path: Path) -> None:
    pairs(tmp_path, "ColorImage/R1/Camera 5/{n}_Camera_5.jpg", "Label/R1/Camera 5/{n}_Camera_5_instanceIds.png", instance_ids)
    made_of_instances = init_dataset(tmp_path, force=True)
    assert any("holds instances, so that each instance is a class here" in said for said in made_of_instances.left_open)
    (tmp_path / "dataset.toml").unlink()
    pairs(tmp_path, "ColorImage/R1/Camera 5/{n}_Camera_5.jpg", "Label/R1/Camera 5/{n}_Camera_5_bin.png")
    named(tmp_path)
    assert not made(tmp_path).left_open


def test_numbered_objects_are_left_open(tmp_path: Path) -> None:
    for number in range(COUNT):
        labels = np.zeros((40, 60), np.uint8)
        for object_ in range(1, 4 + number):
            labels[3 * object_ : 3 * object_ + 2, 5:40] = object_
        save(tmp_path / f"images/s{number}.jpg", photo(number))
        save(tmp_path / f"masks/s{number}.png", labels)
    assert any("which is 3 to 8, as if the objects of each image were numbered" in said
               for said in init_dataset(tmp_path).left_open)


def colour_table(root: Path) -> None:
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in COLOURS.items())
    text(root / "class_dict.csv", f"name,r,g,b\n{rows}")


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("of_ids", [1, 3])
def test_ids_among_colours_are_refused(tmp_path: Path, of_ids: int, table: bool) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.jpg", photo(number))
        save(tmp_path / f"labels/s{number}.png", truth(number) if number < of_ids else coloured(truth(number)))
    if table:
        colour_table(tmp_path)
    with pytest.raises(FastSCNNError, match=r"labels/?.*s0\.png holds the grey values 0 to 3, as ids, and other label files"):
        init_dataset(tmp_path)


def test_red_and_blue_exchanged(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", lambda labels: coloured(labels)[..., ::-1].copy())
    colour_table(tmp_path)
    assert any("class_dict.csv with red and blue exchanged" in said for said in made(tmp_path).left_open)


def test_empty_label_images_beside_shapes(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", np.zeros_like)
    for number in range(COUNT):
        text(tmp_path / f"images/s{number}.json", labelme_json(number))
    result = init_dataset(tmp_path)
    assert 'labels_are = "labelme"' in result.toml
    assert "Not used: labels: the label files hold nothing but 0, so no areas; draw them" in " ".join(result.guessed)


def test_shapes_beside_label_images_are_said(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    for number in range(COUNT):
        text(tmp_path / f"images/s{number}.json", labelme_json(number))
    named(tmp_path)
    assert "Not used: 6 files of shapes (labelme), such as images/s0.json." in made(tmp_path).guessed


def test_keypoints_of_the_same_images_are_no_split(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    for number in range(COUNT):
        save(tmp_path / f"train2017/s{number}.jpg", photo(number))
    content = json.loads(coco_json(range(COUNT), "{n}.jpg"))
    text(tmp_path / "annotations/instances_train2017.json", json.dumps(content))
    for name in ("person_keypoints", "a_stuff"):
        content["annotations"] = content["annotations"][:-1]
        text(tmp_path / f"annotations/{name}_train2017.json", json.dumps(content))
    result = init_dataset(tmp_path)
    assert sorted(result.images) == ["train", "val"]
    assert 'labels = "annotations/instances_train2017.json"' in result.toml
    assert [said.split()[0] for said in result.left_open] == ["annotations/a_stuff_train2017.json"]
    assert "annotations/person_keypoints_train2017.json is not used, since annotations/instances_train2017" in " ".join(
        result.guessed)
