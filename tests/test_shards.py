"""Datasets in tar shards: written, read in place, checked, trained on and evaluated as the folder that they come from."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tarfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn import cli
from fastscnn.base import archives
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.shards import write_shards
from fastscnn.evaluation.evaluate import evaluate
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images, png

CLASSES = '["sky", "road", "car"]'
SIZE = (300, 480)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of noise, five images in train and two in val, of up to 430 kB; names with dots and spaces."""
    root, random = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    names = ["a.b", "street 1", "straße", "z", "[x]*"]
    for split, count in (("train", 5), ("val", 2)):
        for name in names[:count]:
            path = root / split / f"{name}.{'png' if name != 'z' else 'jpg'}"
            images.write(path, random.integers(0, 256, (*SIZE, 3), np.uint8))
            images.write(root / "labels" / split / f"{name}.png", random.integers(0, 3, SIZE, np.uint8))
    tables = [f'[splits.{split}]\nimages = ["{split}/*.png", "{split}/*.jpg"]\nlabels = "labels/{split}/{{stem}}.png"\n'
              for split in ("train", "val")]
    (root / "dataset.toml").write_text(f'name = "noise"\nclasses = {CLASSES}\nterms = "none \\"at all\\""\n' + "".join(tables))
    return root


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as shards of at most two images. Tests must not change it."""
    return write_shards(folder, tmp_path_factory.mktemp("written") / "shards", megabytes=1).parent


@pytest.fixture
def own(shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards."""
    return Path(shutil.copytree(shards, tmp_path / "own"))


def assert_equal_pairs(one: datasets.DatasetSpec, other: datasets.DatasetSpec, split: str) -> None:
    pairs = list(zip(one.pairs(split), other.pairs(split), strict=True))
    assert pairs
    for ours, theirs in pairs:
        for read, expected in zip(one.read(ours), other.read(theirs), strict=True):
            assert np.array_equal(read, expected)


def test_shards_hold_what_the_folder_holds(folder: Path, shards: Path) -> None:
    one, other = datasets.load(shards), datasets.load(folder)
    assert (one.name, one.terms, one.label_set) == (other.name, other.terms, other.label_set)
    assert list(one.splits) == ["train", "val"]
    assert_equal_pairs(one, other, "train+val")
    first, *_, last = one.pairs("train")
    assert first.image == shards / "train/000000.tar/00000000-_x_.image.png"
    assert first.labels == shards / "train/000000.tar/00000000-_x_.labels.png"
    assert last.image.suffix == ".jpg"
    assert archives.read(last.image) == (folder / "train/z.jpg").read_bytes()  # copied, not encoded again


def test_shards_have_the_webdataset_format(shards: Path) -> None:
    """The files of a key follow each other, the size has a limit, and no sample is in two shards."""
    tars = sorted(shards.glob("train/*.tar"))
    assert [tar.name for tar in tars] == ["000000.tar", "000001.tar", "000002.tar"]
    keys = []
    for tar in tars:
        assert tar.stat().st_size <= 10**6 + tarfile.RECORDSIZE
        with tarfile.open(tar) as opened:
            names = opened.getnames()
        groups = [(key, [name.partition(".")[2] for name in group])
                  for key, group in itertools.groupby(names, lambda name: name.partition(".")[0])]
        assert all(sorted(kinds) in (["image.png", "labels.png"], ["image.jpg", "labels.png"]) for _, kinds in groups)
        keys += [key for key, _ in groups]
    assert len(set(keys)) == len(keys) == 5


def test_the_webdataset_package_reads_them(shards: Path, folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with ExitStack() as stack:  # the package itself leaves archives open
        tars = sorted(shards.glob("train/*.tar"))
        opened = [{"url": tar.name, "stream": stack.enter_context(tar.open("rb"))} for tar in tars]
        samples = list(webdataset.tariterators.group_by_keys(webdataset.tariterators.tar_file_expander(opened)))
    spec = datasets.load(folder)
    assert len(samples) == 5
    for sample, pair in zip(samples, spec.pairs("train"), strict=True):
        image = images.read(sample.get("image.png") or sample["image.jpg"])
        assert np.array_equal(image, spec.read(pair)[0])


def test_shards_of_the_webdataset_package_are_read(folder: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    spec = datasets.load(folder)
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=2, verbose=0) as writer:
        for number, pair in enumerate(spec.pairs("train")):
            kind = pair.image.suffix[1:].replace("png", "image.png")
            writer.write({"__key__": f"{number:04}", kind: pair.image.read_bytes(), "seg.png": pair.labels.read_bytes()})
    (tmp_path / "dataset.toml").write_text(
        f'name = "noise"\nclasses = {CLASSES}\n[splits.train]\nimages = ["train-*.tar/*.image.png", "train-*.tar/*.jpg"]\n'
        'labels = "train-{1}.tar/{2}.seg.png"\n')
    assert_equal_pairs(datasets.load(tmp_path), spec, "train")


def test_the_same_dataset_gives_the_same_bytes(folder: Path, shards: Path, tmp_path: Path) -> None:
    again = write_shards(folder, tmp_path / "again", megabytes=1).parent
    written = [path.relative_to(shards) for path in sorted(shards.rglob("*")) if path.is_file()]
    assert len(written) == 5
    assert all((again / path).read_bytes() == (shards / path).read_bytes() for path in written)


def test_the_check_is_that_of_the_folder(folder: Path, shards: Path) -> None:
    one, other = (check(datasets.load(root)) for root in (shards, folder))
    assert one.findings == other.findings == ()
    assert (one.counts, one.pixels, one.sizes) == (other.counts, other.pixels, other.sizes)
    assert sorted(one.hashes.values()) == sorted(other.hashes.values())


def test_a_cached_check_notices_a_changed_shard(own: Path, tmp_path: Path) -> None:
    first = check(datasets.load(own), cache=tmp_path / "cache")
    assert check(datasets.load(own), cache=tmp_path / "cache") == first
    repack(own / "val/000000.tar", lambda name, data: data if "labels" not in name else label_file(2))
    assert check(datasets.load(own), cache=tmp_path / "cache").pixels["val"] == (0, 0, 2 * 300 * 480)


def label_file(value: int) -> bytes:
    return png.encoded(np.full(SIZE, value, np.uint8))


def repack(path: Path, change: Any) -> None:
    """Write an archive again; `change` returns the new content of a file, None to leave it out."""
    with tarfile.open(path) as tar:
        contents = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            if (data := change(name, content)) is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-tarfile.RECORDSIZE - 2000])


@pytest.mark.parametrize("shard", ["000000.tar", "000002.tar"])
def test_a_truncated_shard_is_named(own: Path, shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "train" / shard
    whole = list(archives.names(path))
    cut(path)
    last = list(archives.names(path))[-1]
    assert len(list(archives.names(path))) == len(whole) - 1
    message = f"{path}: is truncated or damaged after '{last}'; copy it again, or pack it again."
    with pytest.raises(FastSCNNError) as caught:
        datasets.load(own).pairs("train")
    assert str(caught.value) == message
    found = check(datasets.load(own))
    assert [finding.message for finding in found.findings if finding.kind == "unreadable-archive"] == [message]
    assert cli.main(["check", str(own), "--json"]) == 1
    assert message in capsys.readouterr().out.replace('\\"', '"')


def test_all_truncated_shards_are_listed(own: Path) -> None:
    for path in own.glob("*/*.tar"):
        cut(path)
    (own / "train/000001.tar").write_bytes(b"")  # not even a first header
    kinds = Counter(finding.kind for finding in check(datasets.load(own)).findings)
    assert kinds["unreadable-archive"] == 4


def test_a_broken_file_in_a_shard_is_named(own: Path) -> None:
    broken, gone = "00000001-", "00000003-"

    def change(name: str, data: bytes) -> bytes | None:
        if name.startswith(gone) and "labels" in name:
            return None
        return data[:1000] if name.startswith(broken) and "image" in name else data

    for path in own.glob("train/*.tar"):
        repack(path, change)
    findings = {finding.kind: finding for finding in check(datasets.load(own), ["train"]).findings}
    assert set(findings) == {"unreadable-image", "missing-labels"}
    assert findings["unreadable-image"].path.as_posix().startswith(f"{own.as_posix()}/train/000000.tar/{broken}")
    assert findings["missing-labels"].path.as_posix().startswith(f"{own.as_posix()}/train/000001.tar/{gone}")


def test_images_that_patterns_leave_out_are_found_by_their_labels(own: Path) -> None:
    text = (own / "dataset.toml").read_text()
    (own / "dataset.toml").write_text(text.replace(', "train/*.tar/*.image.png"', ""))
    assert (own / "dataset.toml").read_text() != text
    kinds = {finding.kind for finding in check(datasets.load(own), ["train"]).findings}
    assert kinds == {"extra-labels"}


def test_scores_are_those_of_the_folder(folder: Path, shards: Path, tiny_onnx: Path) -> None:
    segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1)
    specs = [replace(datasets.load(root), label_set=segmenter.card.label_set) for root in (folder, shards)]
    one, other = (evaluate(segmenter, spec, "val").to_dict() for spec in specs)
    assert one == other
    assert one["images"] == 2


def test_a_list_chooses_from_shards(own: Path) -> None:
    (own / "mine.txt").write_text("000001.tar/00000002-stra_e.image.png\n00000000-_x_.image\n")
    text = (own / "dataset.toml").read_text()
    (own / "dataset.toml").write_text(text.replace("[splits.train]\n", '[splits.train]\nlist = "mine.txt"\n'))
    names = [pair.image.name for pair in datasets.load(own).pairs("train")]
    assert names == ["00000000-_x_.image.png", "00000002-stra_e.image.png"]


FORMATS = {
    "labelme": 'labels_are = "labelme"\nbackground = "sky"',
    "npy": "",
    "mat": "",
}


@pytest.mark.parametrize("form", FORMATS)
def test_other_label_files_in_shards(tmp_path: Path, form: str) -> None:
    """Packed by the user, with the command of the documentation."""
    scipy_io = pytest.importorskip("scipy.io")
    root = tmp_path / "plain"
    suffix = "json" if form == "labelme" else form
    for number in range(2):
        images.write(root / f"{number}.png", np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8))
        if form == "npy":
            np.save(root / f"{number}.npy", np.full((48, 64), number, np.uint16))
        elif form == "mat":
            scipy_io.savemat(root / f"{number}.mat", {"ids": np.full((48, 64), number, np.uint8)})
        else:
            shape = {"label": "car", "points": [[4, 4], [40, 4], [40, 30]], "shape_type": "polygon"}
            content = {"imagePath": f"{number}.png", "imageHeight": 48, "imageWidth": 64, "shapes": [shape], "version": "5",
                       "flags": {}, "imageData": None}
            (root / f"{number}.json").write_text(json.dumps(content))
    toml = f'name = "t"\nclasses = {CLASSES}\n{FORMATS[form]}\n[splits.val]\nimages = "IMAGES"\nlabels = "LABELS"\n'
    (root / "dataset.toml").write_text(toml.replace("IMAGES", "*.png").replace("LABELS", f"{{stem}}.{suffix}"))
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "0.tar", "w") as tar:
        for path in sorted(root.glob("*.*")):
            tar.add(path, path.name)
    (packed / "dataset.toml").write_text(toml.replace("IMAGES", "*.tar/*.png").replace("LABELS", f"{{1}}.tar/{{2}}.{suffix}"))
    one, other = datasets.load(packed), datasets.load(root)
    assert_equal_pairs(one, other, "val")
    assert {finding.kind for finding in check(one).findings} == {finding.kind for finding in check(other).findings}
    again = datasets.load(write_shards(packed, tmp_path / "again"))
    assert_equal_pairs(again, other, "val")


def test_thermal_images_and_soft_labels(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    random = np.random.default_rng(0)
    for number in range(2):
        images.write(root / f"images/{number}.png", random.integers(0, 256, (48, 64, 3), np.uint8))
        images.write(root / f"labels/{number}.png", random.integers(0, 2, (48, 64), np.uint8))
        images.write(root / f"thermal/{number}.png", random.integers(0, 256, (48, 64), np.uint8))
        (root / "soft").mkdir(exist_ok=True)
        probabilities = np.array([55, 200], np.uint8)[:, None, None].repeat(6, 1).repeat(8, 2)
        np.savez(root / f"soft/{number}.npz", probabilities=probabilities)
    (root / "dataset.toml").write_text(
        'name = "t"\nclasses = ["a", "b"]\n[splits."my train"]\nimages = "images/*.png"\nlabels = "labels/{stem}.png"\n'
        'thermal = "thermal/{stem}.png"\nsoft = "soft/{stem}.npz"\n[soft]\nclasses = ["x y", "b"]\nterms = "theirs"\n'
        'map = { "x y" = "ignore" }\n')
    one, other = datasets.load(write_shards(root, tmp_path / "shards")), datasets.load(root)
    assert one.channels == 4
    assert one.soft == other.soft
    assert_equal_pairs(one, other, "my train")
    for ours, theirs in zip(one.pairs("my train"), other.pairs("my train"), strict=True):
        soft, expected = one.read_soft(ours, (48, 64)), other.read_soft(theirs, (48, 64))
        assert soft is not None
        assert expected is not None
        assert np.array_equal(soft, expected)
    assert [finding.kind for finding in check(one).findings] == [finding.kind for finding in check(other).findings]


@pytest.mark.parametrize("part", ["crop", "window"])
def test_parts_of_images_become_images(folder: Path, tmp_path: Path, part: str) -> None:
    spec = datasets.load(folder)
    if part == "crop":
        spec = replace(spec, crop=(10, 20, 200, 220))
    else:
        spec = replace(spec, splits={name: replace(split, window=(160, 160)) for name, split in spec.splits.items()})
    made = datasets.load(write_shards(spec, tmp_path / "shards", "val"))
    assert list(made.splits) == ["val"]
    assert_equal_pairs(made, spec, "val")


def test_windows_of_images_in_shards_are_refused(own: Path) -> None:
    text = (own / "dataset.toml").read_text()
    (own / "dataset.toml").write_text(text.replace("[splits.val]\n", '[splits.val]\nwindow = "64x64"\n'))
    with pytest.raises(FastSCNNError, match=r"splits\.val\.window cannot be used with images in tar archives"):
        datasets.load(own)


def test_what_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="megabytes: must be at least 1, not 0"):
        write_shards(folder, tmp_path / "out", megabytes=0)
    with pytest.raises(FastSCNNError, match="no split of noise 'trian'"):
        write_shards(folder, tmp_path / "out", "trian")
    (tmp_path / "file").write_text("")
    with pytest.raises(FastSCNNError, match="file: exists already; choose another --out"):
        write_shards(folder, tmp_path / "file")
    with pytest.raises(FastSCNNError, match=r"out: cannot be written \(Not a directory\)"):
        write_shards(folder, tmp_path / "file" / "out")
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "val/street 1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FastSCNNError, match=r"street 1\.png: is "):
        write_shards(broken, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "file"]


def test_splits_whose_folders_would_be_equal(folder: Path, tmp_path: Path) -> None:
    spec = datasets.load(folder)
    alike = replace(spec, splits={"a b": spec.splits["train"], "a/b": spec.splits["val"]})
    with pytest.raises(FastSCNNError, match="names of its splits are too much alike"):
        write_shards(alike, tmp_path / "out")


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset", "shards", str(folder), "--megabytes", "1", "--out"]
    assert cli.main([*words, str(tmp_path / "one"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": str(tmp_path / "one/dataset.toml"), "shards": 4}
    assert cli.main([*words, str(tmp_path / "two"), "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert f"1 shard in {tmp_path / 'two'}" in said
    assert f"Next: fastscnn train RECIPE {tmp_path / 'two'} --out DIR" in said
    assert cli.main([*words, str(tmp_path / "two")]) == 1
    assert "two: exists already" in capsys.readouterr().err
