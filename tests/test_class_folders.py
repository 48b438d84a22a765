"""Images in class folders: what is read off them, what is wrong with them, and `fastscnn check`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.check.class_folders import check_classes
from fastscnn.data.class_folders import ClassFolders
from fastscnn.media import images


def drawn(path: Path, seed: int = 0, height: int = 8, width: int = 9) -> Path:
    images.write(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three images to train and two to validate, and files that are no images."""
    root = tmp_path / "inet"
    for seed, name in enumerate(("train/n02/b.JPEG", "train/n02/a.JPEG", "train/n01/z.png", "val/n01/v.jpg", "val/n02/w.jpg")):
        shutil.move(drawn(tmp_path / "drawn.jpg" if "png" not in name else tmp_path / "drawn.png", seed), new(root / name))
    for name in ("train/n01/notes.txt", "train/LOC_synset_mapping.txt", "val/.hidden/x.jpg", "train/n02/.x.jpg"):
        new(root / name).touch()
    return root


def new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def load(root: Path) -> ClassFolders:
    data = datasets.load_any(f"imagenet:{root}")
    assert isinstance(data, ClassFolders)
    return data


def test_what_is_read_off_the_folders(root: Path) -> None:
    data = load(root)
    assert (data.name, data.root, data.classes) == ("imagenet", root, ("n01", "n02"))
    assert data.pictures("train") == [("train/n01/z.png", 0), ("train/n02/a.JPEG", 1), ("train/n02/b.JPEG", 1)]
    assert data.pictures("val") == [("val/n01/v.jpg", 0), ("val/n02/w.jpg", 1)]
    assert data.path(data.pictures("val")[1]) == root / "val/n02/w.jpg"
    assert "non-commercial" in data.terms


def test_val_counts_by_the_classes_of_train(root: Path) -> None:
    shutil.rmtree(root / "val/n01")
    assert load(root).pictures("val") == [("val/n02/w.jpg", 1)]


def test_val_alone_will_do(root: Path) -> None:
    shutil.rmtree(root / "train")
    data = load(root)
    assert data.classes == ("n01", "n02")
    assert len(data.pictures("val")) == 2
    with pytest.raises(FastSCNNError, match=r"train: no such folder; the layout is train/CLASS/\*\.JPEG and val"):
        data.pictures("train")


def test_more_classes_than_a_label_file_can_hold(tmp_path: Path) -> None:
    for index in range(300):
        new(tmp_path / f"train/n{index:03}/0.JPEG").touch()
    data = load(tmp_path)
    assert len(data.classes) == 300
    assert [picture.class_ for picture in data.pictures("train")] == list(range(300))


_NAMES = st.text("abXYZ09_", min_size=1, max_size=4)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(_NAMES, st.sets(_NAMES, min_size=1), min_size=1))
def test_every_image_comes_once_with_its_class(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, set[str]]) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name, files in tree.items():
        for file in files:
            new(root / "train" / name / f"{file}.JPEG").touch()
    data = load(root)
    pictures = data.pictures("train")
    expected = [(f"train/{name}/{file}.JPEG", index) for index, name in enumerate(sorted(tree)) for file in tree[name]]
    assert sorted(pictures) == sorted(expected)
    assert [picture.class_ for picture in pictures] == sorted(picture.class_ for picture in pictures)
    assert pictures == load(root).pictures("train")


def test_the_fingerprint_is_of_names_and_sizes(root: Path, tmp_path: Path) -> None:
    pictures = load(root).pictures("train")
    before = load(root).fingerprint(pictures)
    assert load(root).fingerprint(pictures[::-1]) == before
    assert load(root).fingerprint(pictures[1:]) != before
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    assert load(copy).fingerprint(pictures) == before
    with (copy / pictures[0].file).open("ab") as file:
        file.write(b"x")
    assert load(copy).fingerprint(pictures) != before


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        (("train", "val"), (), r"inet: has neither a folder train nor a folder val; .* is flat, so sort its files"),
        (("val/n01", "val/n02"), ("val/ILSVRC2012_val_00000001.JPEG",), r"val_00000001\.JPEG: is in no class folder; .*flat"),
        ((), ("val/one.JPEG",), r"val/one\.JPEG: is in no class folder"),
        (("val/n01", "val/n02"), (), r"inet/val: has no class folders; the layout is train/CLASS/\*\.JPEG"),
        (("val",), (), r"inet/val: no such folder; the layout is"),
        ((), ("val/n00/x.JPEG", "val/n09/x.JPEG"), r"inet/val: has the class folders n00, n09, which train does not have"),
        ((), tuple(f"val/m{n}/x.JPEG" for n in range(7)), r"has the class folders m0, m1, m2, m3, m4 and 2 more, which"),
        (("val/n02/w.jpg",), (), r"val/n02: has no images \(\.apng, .*\); add some"),
    ],
)
def test_another_layout_is_refused(root: Path, removed: tuple[str, ...], added: tuple[str, ...], message: str) -> None:
    for name in removed:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    for name in added:
        new(root / name).touch()
    with pytest.raises(FastSCNNError, match=message):
        load(root).pictures("val")


def test_an_unknown_split_is_refused(root: Path) -> None:
    for act in (lambda: load(root).pictures("vall"), lambda: check_classes(load(root), ["vall"])):
        with pytest.raises(FastSCNNError, match=r"There is no split of imagenet 'vall'\. Did you mean 'val'"):
            act()


def test_it_is_no_dataset_of_pixels(root: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"^imagenet:.*: has a class for each image, not for each pixel; use it with"):
        datasets.load(f"imagenet:{root}")
    with pytest.raises(FastSCNNError, match=r"/none: no such folder \(the root of the dataset 'imagenet'\)"):
        datasets.load_any(f"imagenet:{root}/none")
    with pytest.raises(FastSCNNError, match=r"imagenet: has no options"):
        datasets.load_any(f"imagenet:{root}?every=2")


def test_a_clean_tree(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    data = load(root)
    report = check_classes(data, progress=lambda done, total: calls.append((done, total)))
    assert report.ok
    assert report.findings == ()
    assert (report.counts, report.classes) == ({"train": 3, "val": 2}, {"train": 2, "val": 2})
    assert report.smallest == {"train": 1, "val": 1}
    assert report.fingerprint == data.fingerprint([*data.pictures("train"), *data.pictures("val")])
    assert calls == [(done, 5) for done in range(1, 6)]
    assert check_classes(data, ["val"]).counts == {"val": 2}


def test_every_image_that_cannot_be_read_is_named(root: Path) -> None:
    for name in ("train/n02/b.JPEG", "val/n01/v.jpg"):
        path = root / name
        path.write_bytes(path.read_bytes()[:-200])
    (root / "train/n01/empty.jpeg").touch()
    report = check_classes(load(root))
    assert not report.ok
    found = [(finding.split, finding.kind, finding.path.relative_to(root).as_posix()) for finding in report.findings]
    assert found == [
        ("train", "unreadable-image", "train/n01/empty.jpeg"),
        ("train", "unreadable-image", "train/n02/b.JPEG"),
        ("val", "unreadable-image", "val/n01/v.jpg"),
    ]
    assert all(finding.message.startswith(f"{finding.path}: ") for finding in report.findings)


def test_on_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "val/n01")
    assert cli.main(["check", f"imagenet:{root}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"warning: \S+ \(1\) ", printed)
    assert f" {root}/val/n01: is missing." in printed
    assert re.search(r"train \S+ 3 \S+ 2 \S+ 1 ", printed)
    assert "0 errors, 1 warning" in printed
    (root / "train/n01/z.png").write_bytes(b"")
    assert cli.main(["check", f"imagenet:{root}", "--split", "train", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["counts"]) == (False, {"train": 3})
    assert report["findings"][0]["path"] == str(root / "train/n01/z.png")
