"""Labels go out as pre-annotations, are corrected, and come back as a dataset that trains."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.street import street
from made.tools import package

from fastscnn import cli
from fastscnn.annotations.writer import AnnotationFormat, AnnotationWriter
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.folder import init_dataset
from fastscnn.data.spec import DatasetSpec
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

pytest.importorskip("pycocotools", reason="needs the extra formats")
pytestmark = [pytest.mark.usefixtures("one_thread"),
              pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]  # of pycocotools with NumPy 2

KINDS: tuple[AnnotationFormat, ...] = ("coco", "coco-rle", "labelme", "yolo")
CLASSES = ("red", "green", "blue")  # of `tiny_onnx`, in the order of its ids
NAMES = (
    "a street.png", "straße.JPG", unicodedata.normalize("NFD", "übergang ä.png"), "Weg, 50%.JPEG",
    "one/street.png", "two/street.png",
)
LEAST = 0.95  # share of equal pixels after the simplification of polygons


@cache
def _labels(height: int, width: int, number: int) -> UInt8Array:
    return street(height, width, number).labels % np.uint8(3)


def picture(number: int) -> UInt8Array:
    """Areas of red, green and blue."""
    height, width = (72, 104) if number % 2 else (104, 80)
    ids = _labels(height, width, number)
    return np.eye(3, dtype=np.uint8)[ids] * np.uint8(200)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder `set` with images of odd names."""
    for number, name in enumerate(NAMES):
        images.write(tmp_path / "set/images" / name, picture(number))
    return tmp_path / "set"


def back(root: Path, classes: Sequence[str] = CLASSES) -> tuple[DatasetSpec, dict[str, UInt8Array]]:
    """The dataset that `dataset init` describes, and name of an image -> its labels, by the ids of `classes`."""
    assert cli.main(["dataset", "init", str(root), "--force", "--quiet"]) == 0
    content = (root / "dataset.toml").read_text("utf-8")
    assert "TODO" not in content, content
    spec = datasets.load(root)
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    assert sorted(spec.label_set.names) == sorted(classes)
    table = np.full(256, 255, np.uint8)
    table[:3] = [classes.index(name) for name in spec.label_set.names]
    pairs = [pair for split in spec.splits for pair in spec.pairs(split)]
    found = {pair.image.relative_to(root / "images").as_posix(): table[spec.read(pair)[1]] for pair in pairs}
    assert sorted(found) == sorted(NAMES)
    return spec, found


def exact(root: Path, kind: AnnotationFormat, classes: Sequence[str] = CLASSES) -> dict[str, UInt8Array]:
    """Write annotations without simplification; return name of an image -> its labels."""
    labels = {}
    with AnnotationWriter(kind, root / "results", LabelSet(tuple(classes)), tolerance=0, min_area=1) as writer:
        for number, name in enumerate(NAMES):
            labels[name] = picture(number).argmax(axis=2).astype(np.uint8)
            labels[name][:5, :9] = 255  # without annotation
            result = root / "results" / Path(name).with_suffix("")
            writer.write(writer.describe(root / "images" / name, result, labels[name]))
    return labels


def assert_equal(found: dict[str, UInt8Array], expected: dict[str, UInt8Array]) -> None:
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, expected[name], name)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_annotations_are_the_labels(root: Path, kind: AnnotationFormat) -> None:
    labels = exact(root, kind)
    spec, found = back(root)
    assert_equal(found, labels)
    assert spec.label_set.names == CLASSES


@pytest.mark.parametrize("kind", ["labelme", "yolo"])
def test_a_network_keeps_its_classes(root: Path, kind: AnnotationFormat) -> None:
    """Their order, and those that no image has: `train --init` replaces the last layer if the classes differ."""
    classes = ("zebra", "red", "green", "ant", "blue", "background")
    with AnnotationWriter(kind, root / "results", LabelSet(classes)) as writer:
        for number, name in enumerate(NAMES):
            labels = np.array([1, 2, 4], np.uint8)[picture(number).argmax(axis=2)]
            writer.write(writer.describe(root / "images" / name, root / "results" / Path(name).with_suffix(""), labels))
    made = init_dataset(root)
    assert made.classes == classes
    assert "No shape that was read has zebra, ant, background; a network does not learn classes without pixels." in made.guessed


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_classes_come_back(root: Path, kind: AnnotationFormat) -> None:
    classes = ('a "sky": 1', "l'été, vert # 2", "- {Straße} ")
    labels = exact(root, kind, classes)
    assert_equal(back(root, classes)[1], labels)


@pytest.mark.filterwarnings("ignore")  # of labelme
def test_labelme_opens_and_saves_them(root: Path) -> None:
    files = package("labelme._label_file")
    labels = exact(root, "labelme")
    for path in (root / "results").rglob("*.json"):
        opened = files.LabelFile(str(path))
        assert opened.image_data == (path.parent / opened.image_path).read_bytes()
        for shape in opened.shapes:
            shape.update(shape.pop("other_data"))
        opened.save(str(path), opened.shapes, opened.image_path, None, None, opened.image_data)
    assert_equal(back(root)[1], labels)


@pytest.mark.filterwarnings("ignore")  # of datumaro
def test_datumaro_turns_them_into_the_xml_of_cvat(root: Path) -> None:
    """As CVAT does, which imports and exports through it."""
    dm = package("datumaro")
    labels = exact(root, "coco")
    theirs = root.parent / "theirs"
    (theirs / "annotations").mkdir(parents=True)
    (root / "results/coco.json").rename(theirs / "annotations/instances_default.json")
    shutil.copytree(root / "images", theirs / "images/default")
    dataset = dm.Dataset.import_from(str(theirs), "coco_instances")
    dataset.filter('/item/annotation[type="polygon"]', filter_annotations=True)  # it also makes boxes of them
    dataset.export(str(root.parent / "cvat"), "cvat")
    (root.parent / "cvat/default.xml").rename(root / "default.xml")
    assert_equal(back(root)[1], labels)


def corrected_coco(root: Path) -> tuple[str, int, int]:
    """Give the first annotation another class; return its image, and its class before and after."""
    path = root / "results/coco.json"
    table = json.loads(path.read_bytes())
    thing = table["annotations"][0]
    before = thing["category_id"] - 1
    thing["category_id"] = (before + 1) % 3 + 1
    path.write_text(json.dumps(table))
    return next(one["file_name"] for one in table["images"] if one["id"] == thing["image_id"]), before, (before + 1) % 3


def corrected_labelme(root: Path) -> tuple[str, int, int]:
    path = root / "results/one/street.json"
    table = json.loads(path.read_bytes())
    before = CLASSES.index(table["shapes"][0]["label"])
    table["shapes"][0]["label"] = CLASSES[(before + 1) % 3]
    path.write_text(json.dumps(table, indent=2))
    return "one/street.png", before, (before + 1) % 3


def corrected_yolo(root: Path) -> tuple[str, int, int]:
    path = root / "results/yolo/labels/one/street.txt"
    before, rest = path.read_text().split(" ", 1)
    after = (int(before) + 1) % 3
    path.write_text(f"{after} {rest}")
    return "one/street.png", int(before), after


CORRECT: dict[str, Callable[[Path], tuple[str, int, int]]] = {
    "coco": corrected_coco, "coco-rle": corrected_coco, "labelme": corrected_labelme, "yolo": corrected_yolo,
}


@pytest.mark.parametrize("kind", KINDS)
def test_out_corrected_and_back(
    root: Path, kind: AnnotationFormat, tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", str(root / "images"), "--weights", str(tiny_onnx), "--annotations", kind, "--json"]
    assert cli.main([*words, "--out", str(root / "results")]) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    segmented = {Path(line["image"]).relative_to(root / "images").as_posix(): images.read_values(Path(line["labels"]))[0]
                 for line in lines}
    spec, found = back(root)
    assert spec.label_set.names == CLASSES
    for name, labels in segmented.items():
        share = float((found[name] == labels).mean())
        assert share == 1 if kind == "coco-rle" else share > LEAST, name
    changed, before, after = CORRECT[kind](root)
    spec, corrected = back(root)
    differs = corrected[changed] != found[changed]
    assert differs.sum() > 50
    assert set(found[changed][differs]) == {before}
    assert set(corrected[changed][differs]) == {after}
    assert all((corrected[name] == found[name]).all() for name in NAMES if name != changed)
    out = root.parent / "run"
    small = ["--iterations", "2", "--width-mult", "0.25", "--crop", "64x64", "--validation", "none", "--quiet"]
    assert cli.main(["train", "debug", str(spec.root / "dataset.toml"), "--out", str(out), *small]) == 0
    assert (out / "last.safetensors").exists()


def test_results_without_annotations_are_labels(root: Path, tiny_onnx: Path) -> None:
    """Neither overlays nor confidences are taken for images or labels."""
    words = ["segment", str(root / "images"), "--weights", str(tiny_onnx), "--save", "labels,overlay,confidence", "--quiet"]
    assert cli.main([*words, "--out", str(root / "results")]) == 0
    assert cli.main(["dataset", "init", str(root), "--quiet"]) == 0
    spec = datasets.load(root)
    pairs = [pair for split in spec.splits for pair in spec.pairs(split)]
    assert sorted(pair.image.relative_to(root / "images").as_posix() for pair in pairs) == sorted(NAMES)
    for pair in pairs:
        result = root / "results" / pair.image.relative_to(root / "images").with_suffix(".labels.png")
        np.testing.assert_array_equal(spec.read(pair)[1], images.read_values(result)[0])
