"""check: each thing that can be wrong with a dataset, made once and found."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check import compare
from fastscnn.data.check import labels as check_labels
from fastscnn.data.check.cache import Cache
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.check.facts import Facts
from fastscnn.data.check.findings import Finding, grouped
from fastscnn.data.check.folders import Folders
from fastscnn.data.datasets import DatasetSpec, Pair, Split
from fastscnn.data.formats.colours import ColourLabels
from fastscnn.media import images
from fastscnn.media.windows import Box
from fastscnn.model.label_set import LabelSet

COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def picture(seed: int, height: int = 32, width: int = 40) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ids(height: int = 32, width: int = 40, seed: int = 0) -> UInt8Array:
    """A quarter of class 0, a quarter of class 1, an eighth of class 2, three eighths ignored. The seed moves them."""
    labels = np.full((height, width), 255, np.uint8)
    labels[: height // 2, : width // 2], labels[: height // 2, width // 2 :], labels[height // 2 :, : width // 4] = 0, 1, 2
    return np.roll(labels, 3 * seed, axis=1)


@pytest.fixture
def clean(tmp_path: Path) -> DatasetSpec:
    """Two pairs to train and one to validate, all in order."""
    root = tmp_path / "data"
    for seed, name in enumerate(("train/a.png", "train/b.png", "val/c.png")):
        images.write(root / name, picture(seed))
        images.write(root / "labels" / name, ids(seed=seed))
    splits = {split: Split(f"{split}/*", f"labels/{split}/{{stem}}.png") for split in ("train", "val")}
    return DatasetSpec("little", root, LabelSet(("a", "b", "c"), COLOURS), splits)


def found(report: CheckReport, root: Path) -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    for finding in report.findings:
        assert str(finding.path) in finding.message
        rows.append((finding.severity, finding.split, finding.kind, finding.path.relative_to(root).as_posix()))
    return rows


def test_clean(clean: DatasetSpec) -> None:
    calls: list[tuple[int, int]] = []
    report = check(clean, progress=lambda done, total: calls.append((done, total)))
    assert report.ok
    assert report.findings == ()
    assert report.counts == {"train": 2, "val": 1}
    assert report.pixels == {"train": (640, 640, 320), "val": (320, 320, 160)}
    assert report.class_percentages["train"] == report.class_percentages["val"] == {"a": 40.0, "b": 40.0, "c": 20.0}
    assert report.ignored == {"train": 37.5, "val": 37.5}
    assert calls == [(1, 3), (2, 3), (3, 3)]
    saved = json.loads(report.to_json())
    assert (saved["ok"], saved["pixels"]["train"], saved["fingerprint"]) == (True, [640, 640, 320], report.fingerprint)


def exif(path: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(picture(9)).save(path, exif=tags)


def with_ids(values: dict[int, int]) -> UInt8Array:
    labels = ids().ravel()
    start = 0
    for value, count in values.items():
        labels[start : start + count] = value
        start += count
    return labels.reshape(32, 40)


def labelled(root: Path, value: int, *names: str) -> None:
    for name in names:
        images.write(root / f"labels/{name}.png", np.full((32, 40), value, np.uint8))


def without(root: Path, value: int, *names: str) -> None:
    for name in names:
        labels = images.read_values(root / f"labels/{name}.png")[0]
        images.write(root / f"labels/{name}.png", np.where(labels == value, np.uint8(0), labels))


def resized(root: Path, height: int, width: int) -> None:
    images.write(root / TRAIN_A, picture(0, height, width))
    images.write(root / LABEL_A, ids(height, width))


def copied(root: Path, name: str, other: str) -> None:
    """Another image becomes the same one, in a file of other bytes and with the same labels."""
    seed = "abc".index(Path(name).stem)
    Image.fromarray(picture(seed)).save(root / other, compress_level=0)
    shutil.copy(root / "labels" / name, root / "labels" / other)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: max(60, len(data) - 100)])  # not the header


TRAIN_A, LABEL_A = "train/a.png", "labels/train/a.png"
Break = Callable[[Path], object]
WRONG: dict[str, tuple[Break, list[tuple[str, str, str, str]], str]] = {
    "missing labels": (
        lambda root: (root / LABEL_A).unlink(),
        [("error", "train", "missing-labels", TRAIN_A)],
        r"its label file .*labels/train/a\.png is missing",
    ),
    "labels is a label file without an image. Add the image, or remove the file": (
        lambda root: labelled(root, 1, "train/x", "val/y"),
        [("warning", "train", "extra-labels", "labels/train/x.png"), ("warning", "val", "extra-labels", "labels/val/y.png")],
        "is a label file without an image. Add the image, or remove the file",
    ),
    "truncated image": (
        lambda root: cut(root / TRAIN_A),
        [("error", "train", "unreadable-image", TRAIN_A)],
        "truncated or broken",
    ),
    "text as an image": (
        lambda root: (root / TRAIN_A).write_text("x"),
        [("error", "train", "unreadable-image", TRAIN_A)],
        "is not an image",
    ),
    "truncated labels": (
        lambda root: cut(root / LABEL_A),
        [("error", "train", "unreadable-labels", LABEL_A)],
        "truncated or broken",
    ),
    "colours where ids were said": (
        lambda root: images.write(root / LABEL_A, np.array(COLOURS, np.uint8)[ids() % 3]),
        [("error", "train", "unreadable-labels", LABEL_A)],
        'Set labels_are = "colours" and the colours of the classes in dataset.toml',
    ),
    "other size": (
        lambda root: images.write(root / LABEL_A, ids(34, 48)),
        [("error", "train", "size-mismatch", LABEL_A)],
        r"is 34x48, but its image .*train/a\.png is 32x40\. Make each image and its labels the same size\.",
    ),
    "ids of no class": (
        lambda root: images.write(root / LABEL_A, with_ids({7: 5, 3: 1, 200: 30})),
        [("error", "train", "unknown-ids", LABEL_A)],
        r"200 \(30 pixels\), 7 \(5 pixels\), 3 \(1 pixel\)\. Correct the ids",
    ),
    "very many ids of no class": (
        lambda root: images.write(root / LABEL_A, with_ids(dict.fromkeys(range(100, 120), 1))),
        [("error", "train", "unknown-ids", LABEL_A)],
        r"107 \(1 pixel\) and 12 more\.",
    ),
    "turned": (
        lambda root: exif(root / TRAIN_A, 3),
        [("warning", "train", "exif-rotated", TRAIN_A)],
        r"stored rotated \(EXIF orientation 3\) and is read upright\. Make sure that its labels are upright",
    ),
    "turned on its side": (
        lambda root: exif(root / TRAIN_A, 6),
        [("warning", "train", "exif-rotated", TRAIN_A), ("error", "train", "size-mismatch", LABEL_A)],
        r"is 32x40, but its image",
    ),
    "twice in a split": (
        lambda root: copied(root, TRAIN_A, "train/b.png"),
        [("warning", "train", "duplicate", "train/b.png")],
        r"same image as .*train/a\.png",
    ),
    "in two splits": (
        lambda root: copied(root, "train/b.png", "val/c.png"),
        [("error", "val", "leak", "val/c.png")],
        r"same image as .*train/b\.png of the split 'train'",
    ),
    "nothing labelled": (
        lambda root: labelled(root, 255, "train/a", "train/b"),
        [("warning", "train", "empty-labels", f"labels/train/{name}.png") for name in "ab"],
        "every pixel is ignored",
    ),
    "one class alone": (
        lambda root: labelled(root, 0, "train/a", "train/b", "val/c"),
        [("warning", "train", "one-class", "."), ("warning", "val", "one-class", ".")],
        r"every labelled pixel of the split 'train' is 'a', so any network scores 100 %",
    ),
    "a class in val alone": (
        lambda root: without(root, 1, "train/a", "train/b"),
        [("warning", "train", "absent-class", ".")],
        r"no pixel of the split 'train' is 'b', but that of 1 image of 'val'\. Add images with this class",
    ),
    "empty split": (
        lambda root: shutil.rmtree(root / "val"),
        [("error", "val", "no-images", "."), ("warning", "val", "extra-labels", "labels/val/c.png")],
        r"no images match 'val/\*', the images of the split 'val'",
    ),
    "too small": (
        lambda root: resized(root, 31, 40),
        [("error", "train", "too-small", TRAIN_A)],
        "is 31x40; the network needs at least 32 pixels",
    ),
    "one label file for two images": (
        lambda root: images.write(root / "train/a.jpg", picture(5)),
        [("warning", "train", "shared-labels", "train/a.jpg"), ("warning", "train", "shared-labels", TRAIN_A)],
        "shares its label file",
    ),
}


@pytest.mark.reliability("faults")
@pytest.mark.parametrize("name", WRONG)
def test_findings(clean: DatasetSpec, tmp_path: Path, name: str) -> None:
    make, expected, message = WRONG[name]
    make(clean.root)
    report = check(clean, cache=tmp_path / "cache")
    assert found(report, clean.root) == expected
    assert report.ok == all(severity == "warning" for severity, *_ in expected)
    assert any(re.search(message, f"{finding.message} {finding.fix}") for finding in report.findings)
    assert check(clean, cache=tmp_path / "cache") == report, "the same from the cache"


def test_findings_are_grouped_by_kind(clean: DatasetSpec) -> None:
    labelled(clean.root, 7, "train/a", "train/b", "val/c")
    (clean.root / "val/c.png").write_text("x")
    images.write(clean.root / "labels/train/x.png", ids())
    report = check(clean)
    groups = grouped(report.findings)
    assert [(group.severity, group.kind, len(group.findings)) for group in groups] == [
        ("error", "unknown-ids", 3), ("error", "unreadable-image", 1), ("warning", "extra-labels", 1),
    ]
    assert groups[0].fix.startswith("Most pixels are of no class: make sure that the classes and labels_are in dataset.toml")
    assert groups[0].paths == [clean.root / f"labels/{name}.png" for name in ("train/a", "train/b", "val/c")]
    saved = json.loads(report.to_json())["findings"][0]
    assert saved == {
        "severity": "error", "split": "train", "path": str(clean.root / LABEL_A), "kind": "unknown-ids",
        "message": report.findings[0].message, "fix": groups[0].fix,
    }


def test_a_group_has_one_fix() -> None:
    rows = [("a", "one"), ("b", "two"), ("a", "three"), ("a", "three"), ("a", "one")]
    findings = [Finding("error" if kind == "a" else "warning", "train", Path(f"{index}"), kind, f"{index}", fix)
                for index, (kind, fix) in enumerate(rows)]
    assert [(group.kind, group.fix, [path.name for path in group.paths]) for group in grouped(findings)] == [
        ("a", "one", ["0", "4"]), ("a", "three", ["2", "3"]), ("b", "two", ["1"]),
    ]


def test_same_bytes_of_another_shape_are_another_picture(clean: DatasetSpec) -> None:
    for name, height, width in (("train/a", 32, 40), ("train/b", 40, 32)):
        images.write(clean.root / f"{name}.png", np.zeros((height, width, 3), np.uint8))
        images.write(clean.root / f"labels/{name}.png", ids(height, width))
    assert check(clean).findings == ()


def test_unknown_colours(clean: DatasetSpec) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        pixels = np.array(COLOURS, np.uint8)[ids(seed=name == "a") % 3]  # 255 % 3 is 0
        pixels = pixels[::-1] if name == "c" else pixels
        if name == "b":
            pixels[0, :5], pixels[1, 0] = (9, 8, 7), (1, 1, 1)
        images.write(clean.root / f"labels/{split}/{name}.png", pixels)
    report = check(replace(clean, labels=ColourLabels()))
    assert found(report, clean.root) == [("warning", "train", "unknown-colours", "labels/train/b.png")]
    assert "6 pixels have a colour of no class and are ignored: [9, 8, 7] (5 pixels), [1, 1, 1] (1 pixel)." in (
        report.findings[0].message
    )
    assert report.pixels["val"] == (800, 320, 160)
    assert report.pixels["train"] == (1594, 640, 320)
    assert report.ignored["train"] == pytest.approx(100 * 6 / 2560)


def test_splits_may_share_a_label_folder(clean: DatasetSpec) -> None:
    root = clean.root
    for path in sorted((root / "labels").glob("*/*")):
        (root / "gt[1]").mkdir(exist_ok=True)
        path.rename(root / "gt[1]" / path.name)
    images.write(root / "gt[1]/x.png", ids())
    shared = replace(clean, splits={split: Split(f"{split}/*", "gt[1]/{stem}.png") for split in ("train", "val")})
    assert found(check(shared), root) == [("warning", "train", "extra-labels", "gt[1]/x.png")]
    assert found(check(shared, ["val"]), root) == [("warning", "val", "extra-labels", "gt[1]/x.png")]


def test_some_splits(clean: DatasetSpec) -> None:
    (clean.root / "labels/val/c.png").unlink()
    report = check(clean, ["val", "val"])
    assert report.counts == {"val": 1}
    assert [finding.kind for finding in report.findings] == ["missing-labels"]
    with pytest.raises(FastSCNNError, match="no split of little 'vall'"):
        check(clean, ["vall"])


def test_fingerprint_depends_on_content_alone(clean: DatasetSpec, tmp_path: Path) -> None:
    before = check(clean).fingerprint
    moved = replace(clean, root=tmp_path / "elsewhere")
    shutil.copytree(clean.root, moved.root)
    Image.fromarray(picture(0)).save(moved.root / TRAIN_A, compress_level=0)
    os.utime(moved.root / LABEL_A, (0, 0))
    assert check(moved).fingerprint == before
    assert check(clean, ["val", "train"]).fingerprint == before
    assert check(clean, ["train"]).fingerprint != before
    seen = {before}
    changes: list[Break] = [
        lambda root: images.write(root / TRAIN_A, picture(77)),
        lambda root: images.write(root / LABEL_A, with_ids({1: 1})),
        lambda root: [(root / folder / "a.png").rename(root / folder / "z.png") for folder in ("train", "labels/train")],
    ]
    for count, change in enumerate(changes, 2):
        change(moved.root)
        seen.add(check(moved).fingerprint)
        assert len(seen) == count


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The image files that check decodes, as they come."""
    names: list[str] = []
    original = images.read_oriented

    def counted(path: Path, box: Box | None) -> tuple[UInt8Array, int]:
        names.append(path.name)
        return original(path, box=box)

    monkeypatch.setattr(images, "read_oriented", counted)
    return names


def test_cache_reads_only_what_changed(clean: DatasetSpec, tmp_path: Path, reads: list[str]) -> None:
    cache = tmp_path / "cache"
    calls: list[tuple[int, int]] = []
    first = check(clean, cache=cache)
    assert sorted(reads) == ["a.png", "b.png", "c.png"]
    reads.clear()
    assert check(clean, cache=cache, progress=lambda done, total: calls.append((done, total))) == first
    assert (reads, calls) == ([], [(1, 3), (2, 3), (3, 3)])
    images.write(clean.root / TRAIN_A, picture(50))
    images.write(clean.root / "labels/val/c.png", with_ids({1: 3}))
    second = check(clean, cache=cache)
    assert sorted(reads) == ["a.png", "c.png"]
    assert second == check(clean)
    reads.clear()
    other = replace(clean, label_set=LabelSet(("a", "b", "c"), raw_ids=((0, 2), (1, 1), (2, 0), (255, 255))))
    assert check(other, cache=cache).pixels["val"] == (160, 323, 317)
    assert len(reads) == 3, "another meaning of the labels is another cache"


def test_cache_goes_by_content(clean: DatasetSpec, tmp_path: Path, reads: list[str]) -> None:
    cache, path = tmp_path / "cache", clean.root / "labels/val/c.bmp"
    spec = replace(clean, splits={"val": Split("val/*", "labels/val/{stem}.bmp")})
    Image.fromarray(ids()).save(path)
    os.utime(path, (0, 0))
    first = check(spec, cache=cache)
    size = path.stat().st_size
    Image.fromarray(with_ids({1: 3})).save(path)
    os.utime(path, (0, 0))
    assert path.stat().st_size == size
    assert check(spec, cache=cache).pixels != first.pixels, "changed, with the same size and time"
    reads.clear()
    os.utime(path, (9, 9))
    check(spec, cache=cache)
    assert reads == [], "unchanged, with another time"


def test_a_label_file_of_many_images_is_read_once(clean: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(clean, splits={"train": Split("train/*", "labels/train/a.png")})
    seen: list[str] = []
    original = files.digest

    def digest(path: Path) -> str:
        seen.append(path.name)
        return original(path)

    monkeypatch.setattr(files, "digest", digest)
    cache = Cache(tmp_path / "cache", spec)
    assert len({cache.digest(spec.pair("train", image)) for image in spec.image_files("train")}) == 2
    assert sorted(seen) == ["a.png", "a.png", "b.png"], "two images, one label file"


@pytest.mark.slow
def test_time_grows_with_the_number_of_equal_images(tmp_path: Path) -> None:
    facts, took = Facts((), "image", "labels", (1, 1), 0, 0, (32, 32), (0, 1), ()), []
    for count in (1000, 8000):
        root = tmp_path / f"{count}"
        (root / "i").mkdir(parents=True)
        for index in range(count):
            (root / f"i/{index}.png").touch()
        spec = DatasetSpec("equal", root, LabelSet(("a", "b")), {"train": Split("i/*.jpg", "l/{stem}.png")})
        found = {"train": [(Pair(root / f"i/{index}.jpg", root / f"l/{index}.png"), facts) for index in range(count)]}
        start = time.process_time()
        assert len(list(compare.repeated(found))) == count - 1
        assert [finding.kind for finding in Folders(spec, ["train"]).findings("train")] == ["left-out-images"]
        took.append(time.process_time() - start)
    assert took[1] < 40 * took[0], "eight times as many images; their square is 64 times"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"a": 3}', "\xff", "drop a field", "drop a class", "other entry", "an infinity"]
)
def test_broken_cache_is_built_again(clean: DatasetSpec, tmp_path: Path, reads: list[str], damage: str) -> None:
    cache = tmp_path / "cache"
    first = check(clean, cache=cache)
    (path,) = cache.iterdir()
    saved = json.loads(path.read_text())
    facts = next(iter(saved.values()))[1]
    if damage == "drop a field":
        del facts["image"]
    elif damage == "drop a class":
        facts["pixels"].pop()
    elif damage == "an infinity":
        facts["ignored"] = float("inf")
    elif damage == "other entry":
        facts["remarks"].append({"severity": "error"})
    path.write_text(json.dumps(saved) if " " in damage and "{" not in damage else damage, "latin-1")
    reads.clear()
    assert check(clean, cache=cache) == first
    assert len(reads) == 3
    check(clean, cache=cache)
    assert len(reads) == 3, "and is whole again"


def test_cache_that_cannot_be_written_is_no_error(clean: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert check(clean, cache=tmp_path / "file" / "cache") == check(clean)


def test_unreadable_files_are_not_remembered(clean: DatasetSpec, tmp_path: Path, reads: list[str]) -> None:
    (clean.root / TRAIN_A).write_text("x")
    check(clean, cache=tmp_path / "cache")
    reads.clear()
    check(clean, cache=tmp_path / "cache")
    assert reads == ["a.png"], "what stood in its way may be gone"


def test_interrupted_check_keeps_what_it_read(clean: DatasetSpec, tmp_path: Path, reads: list[str]) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(clean, cache=tmp_path / "cache", progress=stop)
    reads.clear()
    assert check(clean, cache=tmp_path / "cache").counts == {"train": 2, "val": 1}
    assert set(reads) <= {"c.png"}, "a thread may have read it before"


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, base in ((str(tmp_path / "x"), tmp_path / "x"), ("", tmp_path / ".cache"), ("relative", tmp_path / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert files.cache("check") == base / "fastscnn" / "check"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache("check") == tmp_path / ".cache" / "fastscnn" / "check"


def test_counts_by_blocks() -> None:
    labels = np.random.default_rng(0).integers(0, 256, (1100, 1000), np.uint8)  # more than one block
    np.testing.assert_array_equal(check_labels._counts(labels), np.bincount(labels.ravel(), minlength=256))


CAMVID = {  # percent of all pixels, as the README beside the data says them; the last is "Unlabelled"
    "train": (16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3, 4.0),
    "val": (9.2, 26.0, 0.6, 29.0, 8.7, 16.3, 0.9, 3.1, 1.8, 0.7, 2.2, 1.7),
    "test": (17.1, 24.6, 1.2, 25.8, 9.3, 11.3, 1.0, 1.2, 4.0, 0.6, 0.2, 3.8),
}


@pytest.mark.slow
def test_camvid(camvid_root: Path) -> None:
    report = check(datasets.load(f"camvid:{camvid_root}"))
    assert report.findings == ()
    assert report.counts == {"train": 367, "val": 101, "test": 233}
    for split, expected in CAMVID.items():
        labelled = 1 - report.ignored[split] / 100
        shares = [*(share * labelled for share in report.class_percentages[split].values()), report.ignored[split]]
        np.testing.assert_allclose(shares, expected, atol=0.1)
        assert sum(report.class_percentages[split].values()) == pytest.approx(100)
