"""COCO's panoptic JSON: the same labels as datumaro reads, and one error for each kind of broken file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import shapes
from made.scenes import NAMES, TRAIN, photos
from made.tools import package

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.formats.panoptic import PanopticLabels, contents, pngs
from fastscnn.data.init.folder import init_dataset
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

CLASSES = LabelSet(("road", "car"))
FORMAT = PanopticLabels({"road": 0, "car": 1, "void": 255})
Table = dict[str, Any]


def written(root: Path, ids: UInt8Array | np.ndarray, change: Callable[[Table], object] = lambda table: None) -> Path:
    """Write one image whose segments 1 and 2 are road and car, and 66051 = 3 + 2 * 256 + 1 * 65536 is a car."""
    segments = [{"id": 1, "category_id": 10}, {"id": 2, "category_id": 20}, {"id": 66051, "category_id": 20}]
    table: Table = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": ids.shape[0], "width": ids.shape[1]}],
        "categories": [{"id": 10, "name": "road"}, {"id": 20, "name": "car"}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
    }
    change(table)
    root.mkdir(parents=True, exist_ok=True)
    (root / "panoptic.json").write_text(json.dumps(table))
    pixels = np.stack([ids >> 8 * channel & 255 for channel in range(3)], axis=2).astype(np.uint8)
    images.write(root / "panoptic/a.png", pixels)
    return root / "panoptic.json"


IDS = np.array([[0, 1, 1], [2, 2, 66051]])


def test_segments_are_read_by_their_ids(tmp_path: Path) -> None:
    path = written(tmp_path, IDS)
    read = FORMAT.read(path, Path("x/a.jpg"), CLASSES)
    np.testing.assert_array_equal(read.labels, [[255, 0, 0], [1, 1, 1]])
    assert read.labels.dtype == np.uint8
    assert read.unknown == {}
    assert FORMAT.files(path, Path("a.jpg")) == (path, tmp_path / "panoptic/a.png")
    assert contents(path).names == {"road": 1, "car": 2}
    assert pngs(path) == {tmp_path / "panoptic/a.png"}
    read = PanopticLabels(FORMAT.ids, background=1).read(path, Path("a.jpg"), CLASSES)
    np.testing.assert_array_equal(read.labels, [[1, 0, 0], [1, 1, 1]])
    assert PanopticLabels({"road": 0}).read(path, Path("a.jpg"), CLASSES).unknown == {"car": 2}


@pytest.mark.parametrize("place", ["panoptic/a.png", "../panoptic/a.png", "a.png"])
def test_where_the_png_may_be(tmp_path: Path, place: str) -> None:
    path = written(tmp_path / "annotations", IDS)
    (path.parent / place).parent.mkdir(exist_ok=True)
    (path.parent / "panoptic/a.png").rename(path.parent / place)
    assert FORMAT.read(path, Path("a.jpg"), CLASSES).labels.max() == 255


def annotation(**changes: object) -> Callable[[Table], object]:
    return lambda table: table["annotations"][0].update(changes)


@pytest.mark.parametrize(("change", "message"), [
    (lambda table: table.pop("annotations"), "has no list 'annotations'"),
    (lambda table: table.pop("images"), "has no list 'images'"),
    (lambda table: table["categories"][0].pop("name"), "the category 10 has no name"),
    (lambda table: table["annotations"].append(table["annotations"][0]), "entry 1 of 'annotations' .* another entry has"),
    (annotation(image_id=6), "entry 0 of 'annotations' has no file_name, or is of the image 6, which the file does not list"),
    (annotation(image_id=[]), r"entry 0 of 'annotations' .* image \[\]"),
    (annotation(file_name=None), "entry 0 of 'annotations' has no file_name"),
    (annotation(segments_info=None), "the segments_info of 'a.png' is not a list of segments"),
    (annotation(segments_info=[{"id": 1, "category_id": 11}]), "the segments_info of 'a.png' is not"),
    (annotation(segments_info=[{"id": 1, "category_id": 10}] * 2), "each with an id of its own"),
    (annotation(segments_info=[{"id": 1, "category_id": 10}]), r"a\.png: has pixels of the segment 2, which .*json does not"),
    (annotation(file_name="b.png"), r"lists the segments of 'a\.jpg' in b\.png, which is missing; put it into .*/panoptic\."),
])  # fmt: skip
def test_broken_files(tmp_path: Path, change: Callable[[Table], object], message: str) -> None:
    path = written(tmp_path, IDS, change)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, Path("a.jpg"), CLASSES)
    assert str(caught.value).startswith(str(tmp_path))


def test_any_ids_come_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    numbers = random.choice(1 << 24, 40, replace=False)
    place = random.integers(0, 40, (30, 50))
    segments = [{"id": int(number), "category_id": (10, 20)[index % 2]} for index, number in enumerate(numbers)]
    path = written(tmp_path, numbers[place], annotation(segments_info=segments))
    np.testing.assert_array_equal(FORMAT.read(path, Path("a.jpg"), CLASSES).labels, place % 2)


@pytest.mark.filterwarnings("ignore")  # of datumaro
def test_datumaro_reads_the_same(tmp_path: Path) -> None:
    dm = package("datumaro")
    shapes.coco_panoptic(tmp_path)
    for name in ("train", "val"):
        (tmp_path / name).rename(tmp_path / f"images_{name}")
    (tmp_path / "images").mkdir()
    for name in ("train", "val"):
        (tmp_path / f"images_{name}").rename(tmp_path / "images" / name)
    theirs = dm.Dataset.import_from(str(tmp_path), "coco_panoptic")
    label_set = LabelSet(NAMES)
    ours = PanopticLabels({name: place for place, name in enumerate(NAMES)})
    names = [label.name for label in theirs.categories()[dm.AnnotationType.label]]
    count = 0
    for item in theirs:
        path = tmp_path / f"annotations/panoptic_{item.subset}.json"
        read = ours.read(path, tmp_path / "images" / item.subset / f"{item.id}.png", label_set)
        expected = np.full(read.labels.shape, 255, np.uint8)
        for mask in item.annotations:
            expected[np.asarray(mask.image, bool)] = NAMES.index(names[mask.label])
        np.testing.assert_array_equal(read.labels, expected)
        count += 1
    assert count == 6


@pytest.mark.slow
def test_pngs_are_neither_images_nor_colours(tmp_path: Path) -> None:
    """A file is missing: its colours must not become classes."""
    shapes.coco_panoptic(tmp_path)
    made = init_dataset(tmp_path)
    assert (made.labels_are, made.classes, made.left_open) == ("coco-panoptic", NAMES, ())
    assert any("of the pixels are without a shape, and are ignored" in sentence for sentence in made.guessed)
    spec = datasets.load(tmp_path)
    assert check(spec).ok
    assert [pair.image.parent.name for pair in spec.pairs("train")] == ["train"] * len(TRAIN)
    for path in (tmp_path / "annotations").glob("*/*.png"):
        if path.stem != "street_0":
            path.unlink()
    assert any(re.search("cannot be used; the first: .* which is missing; put it into", sentence)
               for sentence in init_dataset(tmp_path, force=True).left_open)


def test_a_file_without_its_pngs_or_images(tmp_path: Path) -> None:
    written(tmp_path / "annotations", IDS)
    with pytest.raises(FastSCNNError, match=r"panoptic\.json: lists 1 image, such as a\.jpg, and none is in the folder"):
        init_dataset(tmp_path)
    photos(tmp_path, "images/a.jpg", [0])
    (tmp_path / "annotations/panoptic/a.png").unlink()
    with pytest.raises(FastSCNNError, match=r"lists the segments of 'a\.jpg' in a\.png, which is missing"):
        init_dataset(tmp_path)
