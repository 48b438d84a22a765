"""`dataset init` and file names: accents, which macOS decomposes, and the names that Label Studio gives to images."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from test_dataset_init import COUNT, NAMES, SIZE, boxes, coco_json, corners, labelme_json, photo, save, text, truth

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli import console
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.folder import init_dataset
from fastscnn.data.lists import ListFile

COMPOSED = "stra\u00dfe_\u00e9_"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
FORMS = pytest.mark.parametrize("labels", [COMPOSED, DECOMPOSED], ids=["NFC", "NFD"])


def images(root: Path, name: str = "images/s{n}.jpg") -> None:
    for number in range(COUNT):
        save(root / name.format(n=number), photo(number))


def read(root: Path, equal: float = 1.0) -> None:
    """Compare every label file with the truth; `check` has no errors."""
    spec = datasets.load(root)
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    pairs = [pair for split in spec.splits for pair in spec.pairs(split)]
    assert len(pairs) == COUNT
    for pair in pairs:
        found = re.search(r"(\d)$", pair.image.stem)
        assert found
        assert (spec.read(pair)[1] == truth(int(found[1]))).mean() >= equal


@FORMS
@pytest.mark.parametrize("pictures", [COMPOSED, DECOMPOSED], ids=["NFC", "NFD"])
def test_accents_of_images_and_label_files(tmp_path: Path, pictures: str, labels: str) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/{pictures}{number}.jpg", photo(number))
        save(tmp_path / f"labels/{labels}{number}.png", truth(number))
    made = init_dataset(tmp_path)
    assert bool(made.lists) == (pictures != labels)  # a pattern cannot name a label file in the other form
    read(tmp_path)


@FORMS
def test_accents_in_lists(tmp_path: Path, labels: str) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/{DECOMPOSED}{number}.jpg", photo(number))
        save(tmp_path / f"labels/{DECOMPOSED}{number}.png", truth(number))
        save(tmp_path / f"other/{DECOMPOSED}x{9 - number}.png", truth(number))
    for split, numbers in (("train", range(4)), ("val", range(4, COUNT))):
        text(tmp_path / f"{split}.txt", "".join(f"{labels}{number}\n" for number in numbers))
    made = init_dataset(tmp_path)
    assert made.images == {"train": 4, "val": 2}
    read(tmp_path)
    text(tmp_path / "two.txt", f"images/{labels}0.jpg other/{labels}x9.png\n")
    assert ListFile(tmp_path / "two.txt", tmp_path).read() == (
        (f"images/{DECOMPOSED}0.jpg", f"other/{DECOMPOSED}x9.png"),)


@FORMS
def test_accents_in_label_files(tmp_path: Path, labels: str) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    for folder in ("coco", "labelme"):
        images(tmp_path / folder, f"{DECOMPOSED}s{{n}}.jpg")
    text(tmp_path / "coco/instances.json", coco_json(range(COUNT), labels + "{n}.jpg"))
    for number in range(COUNT):
        text(tmp_path / f"labelme/{labels}s{number}.json", labelme_json(number))
    for folder in ("coco", "labelme"):
        init_dataset(tmp_path / folder)
        read(tmp_path / folder, 0.92)


def label_studio(stored: str) -> str:
    tasks = []
    for number in range(COUNT):
        result = [
            {"type": "polygonlabels", "original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0, "value": {
                "points": [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in corners(*box)], "polygonlabels": [name]}}
            for name, *box in boxes(number)
        ]
        tasks.append({"id": number + 1, "data": {"image": stored.format(n=number)}, "annotations": [
            {"id": number, "result": result, "was_cancelled": False}]})
    return json.dumps(tasks)


@pytest.mark.parametrize(
    ("stored", "on_disk"),
    [
        ("/data/upload/1/3f2a91bc-s{n}.jpg", "images/s{n}.jpg"),
        ("/data/upload/1/3f2a91bc-s{n}.jpg", "upload/1/3f2a91bc-s{n}.jpg"),
        ("/data/local-files/?d=set/images/s{n}.jpg", "images/s{n}.jpg"),
        ("/data/local-files/?d=set%2Fmy%20images%2Fs{n}.jpg", "my images/s{n}.jpg"),
        ("/data/upload/1/3f2a91bc-\u00e9s{n}.jpg", unicodedata.normalize("NFD", "images/\u00e9s{n}.jpg")),
        ("https://example.org/bucket/s{n}.jpg", "images/s{n}.jpg"),
        ("s3://bucket/s{n}.jpg", "images/s{n}.jpg"),
    ],
)
def test_names_of_label_studio(tmp_path: Path, stored: str, on_disk: str) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    images(tmp_path, on_disk)
    text(tmp_path / "project.json", label_studio(stored))
    init_dataset(tmp_path)
    read(tmp_path, 0.92)


def test_names_that_only_look_alike(tmp_path: Path) -> None:
    """COCO stores the names as they are: the prefix of Label Studio is part of them."""
    images(tmp_path)
    text(tmp_path / "result.json", coco_json(range(COUNT), "images/3f2a91bc-{n}.jpg"))
    with pytest.raises(FastSCNNError) as caught:
        init_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'result.json'}: lists 6 images, such as images/3f2a91bc-s0.jpg, and none is in the folder; "
        "images/3f2a91bc-s0.jpg may be images/s0.jpg, so make their names equal.")


def test_equal_names_in_two_folders(tmp_path: Path) -> None:
    """The file that lies beside the images lists these, and not those of the other folder."""
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    for split in ("train", "val"):
        images(tmp_path, f"{split}/s{{n}}.jpg")
        text(tmp_path / split / "_annotations.coco.json", coco_json(range(COUNT), "{n}.jpg"))
    made = init_dataset(tmp_path)
    spec = datasets.load(tmp_path)
    assert {split: {path.parent.name for path in spec.image_files(split)} for split in made.images} == {
        "train": {"train"}, "val": {"val"}}


@pytest.mark.skipif(sys.platform != "linux", reason="the file system refuses such names")
@pytest.mark.parametrize("name", [b"caf\xe9_%d", b"a\nb_%d"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes) -> None:
    """Images of such names are named in an error, and other files are left out."""
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.png", photo(number))
        save(tmp_path / f"labels/s{number}.png", truth(number))
    wrong = (tmp_path / "images/s0.png").rename(tmp_path / "images" / f"{os.fsdecode(name % 0)}.png")
    with pytest.raises(FastSCNNError, match="its name contains a line break, or is not UTF-8"):
        init_dataset(tmp_path)
    wrong.rename(tmp_path / "images/s0.png")
    (tmp_path / os.fsdecode(name % 0 + b"_classes.txt")).write_text("\n".join(NAMES))
    assert "class 0" in init_dataset(tmp_path).classes
    read(tmp_path)


def test_the_name_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "a\x7f\"b\u00e9"
    for number in range(COUNT):
        save(root / f"images/s{number}.png", photo(number))
        save(root / f"labels/s{number}.png", truth(number))
    init_dataset(root)
    assert datasets.load(root).name == root.name


# progress


@pytest.mark.parametrize("make", ["masks", "coco", "labelme"])
def test_progress(tmp_path: Path, make: str) -> None:
    images(tmp_path)
    for number in range(COUNT):
        if make == "labelme":
            text(tmp_path / f"images/s{number}.json", labelme_json(number))
        elif make == "masks":
            save(tmp_path / f"labels/s{number}.png", truth(number))
    if make == "coco":
        text(tmp_path / "coco.json", coco_json(range(COUNT), "{n}.jpg"))
    steps: list[tuple[int, int]] = []
    init_dataset(tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert (COUNT, COUNT) in steps
    assert all(0 <= done <= total for done, total in steps)
    assert np.all(np.diff([done for done, total in steps if total == COUNT]) <= 1)


@pytest.mark.parametrize(("options", "shown"), [([], True), (["--quiet"], False), (["--json"], False)])
def test_the_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                          options: list[str], shown: bool) -> None:
    from rich.console import Console

    monkeypatch.setattr(console, "STDERR", Console(stderr=True, force_terminal=True, width=80))
    images(tmp_path)
    for number in range(COUNT):
        save(tmp_path / f"labels/s{number}.png", truth(number))
    assert cli.main(["dataset", "init", str(tmp_path), *options]) == 0
    assert ("dataset init" in capsys.readouterr().err) == shown


def beside(root: Path) -> None:
    """What lies beside the data of people: checkpoints of notebooks, thumbnails, archives, texts, hidden files."""
    text(root / "README.md", "# data\n")
    text(root / "notes.txt", "s0 is blurred\nsee below\n")
    text(root / "notebooks/train.ipynb", '{"cells": [], "metadata": {}}')
    text(root / "package.json", '{"name": "x", "version": 1, "labels": []}')
    (root / "data.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    text(root / "images/Thumbs.db", "x")
    text(root / "images/._s0.jpg", "x")
    save(root / "images/.ipynb_checkpoints/s0-checkpoint.jpg", photo(0))
    save(root / "screenshot.png", photo(9))


@pytest.mark.parametrize("thumbnails", ["thumbnails/s{n}.jpg", "images/thumbs/s{n}.jpg", "preview/s{n}_preview.jpg"])
@pytest.mark.parametrize("labels", ["labels/s{n}.png", "images/s{n}.json"])
def test_a_mixed_folder(tmp_path: Path, labels: str, thumbnails: str) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    images(tmp_path)
    beside(tmp_path)
    for number in range(COUNT):
        save(tmp_path / thumbnails.format(n=number), photo(number)[::4, ::4])
        path = tmp_path / labels.format(n=number)
        if path.suffix == ".png":
            save(path, truth(number))
        else:
            text(path, labelme_json(number))
    made = init_dataset(tmp_path)
    assert sum(made.images.values()) == COUNT
    spec = datasets.load(tmp_path)
    assert {path.parent for split in spec.splits for path in spec.image_files(split)} == {tmp_path / "images"}
    read(tmp_path, 0.92)
