"""COCO JSON: equal to pycocotools, and every sentence about a broken file."""

from __future__ import annotations

import json
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import coco, text
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.coco import CocoLabels
from fastscnn.model.label_set import LabelSet

mask_api = pytest.importorskip("pycocotools.mask", reason="needs PyPI's pycocotools")

CLASSES = LabelSet(("road", "car", "tree"))
FORMAT = CocoLabels({"road": 0, "car": 1, "tree": 2, "void": 255})
CATEGORIES = [{"id": 5, "name": "road"}, {"id": 1, "name": "car"}, {"id": "t", "name": "tree"}, {"id": 9, "name": "void"}]
SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


def write(path: Path, size: tuple[int, int] = (4, 5), segments: Any = (SQUARE,), **changes: Any) -> Path:
    """Write a file with the image a.png and one annotation, or what `changes` give instead."""
    annotation = {"id": 7, "image_id": 3, "category_id": 1, "segmentation": segments, "iscrowd": 0}
    whole = {"images": [{"id": 3, "file_name": "a.png", "height": size[0], "width": size[1]}],
             "categories": CATEGORIES, "annotations": [annotation]}
    path.write_text(json.dumps({key: value for key, value in (whole | changes).items() if value is not None}))
    return path


def annotated(segments: list[Any], categories: list[Any]) -> list[dict[str, Any]]:
    return [{"id": number, "image_id": 3, "category_id": category, "segmentation": segment, "iscrowd": number % 2}
            for number, (segment, category) in enumerate(zip(segments, categories, strict=True))]


numbers = st.one_of(st.integers(-9, 40), st.floats(-9, 40, allow_nan=False, width=32), st.sampled_from([-900, 900]))
polygon = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=7).map(lambda points: [*chain.from_iterable(points)])


@st.composite
def segmentation(draw: st.DrawFn, size: tuple[int, int]) -> Any:
    """Polygons, run lengths, or compressed run lengths."""
    kind = draw(st.sampled_from(["polygons", "runs", "compressed"]))
    if kind == "polygons":
        return draw(st.lists(polygon, min_size=1, max_size=3))
    seed = draw(st.integers(0, 999))
    drawn = np.random.default_rng(seed).random(size) < draw(st.sampled_from([0, 0.1, 0.5, 1]))
    encoded = mask_api.encode(np.asfortranarray(drawn.astype(np.uint8)))
    text = encoded["counts"].decode()
    return {"size": list(size), "counts": text if kind == "compressed" else _runs(drawn)}


def _runs(drawn: npt.NDArray[np.bool_]) -> list[int]:
    runs = [len(list(group)) for _, group in groupby(drawn.ravel(order="F"))]
    return [0, *runs] if drawn[0, 0] else runs


def by_pycocotools(segment: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """As COCO.annToRLE."""
    if isinstance(segment, list):
        rle = mask_api.merge(mask_api.frPyObjects(segment, height, width))
    else:
        rle = mask_api.frPyObjects(segment, height, width) if isinstance(segment["counts"], list) else segment
    return np.asarray(mask_api.decode(rle), bool)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data(), height=st.integers(1, 30), width=st.integers(1, 30))
def test_random_annotations_equal_pycocotools(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, height: int, width: int
) -> None:
    segments = data.draw(st.lists(segmentation((height, width)), max_size=4))
    categories = [data.draw(st.sampled_from([5, 1, "t", 9])) for _ in segments]
    expected = np.full((height, width), 255)
    for segment, category in zip(segments, categories, strict=True):
        expected[by_pycocotools(segment, height, width)] = {5: 0, 1: 1, "t": 2, 9: 255}[category]
    path = write(tmp_path_factory.mktemp("coco") / "a.json", (height, width), annotations=annotated(segments, categories))
    decoded = FORMAT.read(path, Path("x/a.png"), CLASSES)
    assert decoded.labels.dtype == np.uint8
    assert decoded.labels.flags.c_contiguous
    np.testing.assert_array_equal(decoded.labels, expected)
    assert decoded.stored is decoded.labels
    assert not decoded.unknown


def test_background_and_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", annotations=annotated([[SQUARE], [[0, 0, 5, 0, 5, 2, 0, 2]]], [1, 5]))
    read = CocoLabels(FORMAT.ids, background=2).read(path, Path("a.png"), CLASSES).labels
    assert read.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [2, 1, 1, 2, 2], [2, 2, 2, 2, 2]]
    read = CocoLabels(FORMAT.ids, 2, ("road", "car")).read(path, Path("a.png"), CLASSES).labels
    assert read.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [2, 1, 1, 2, 2], [2, 2, 2, 2, 2]]


def test_equal_names_in_two_folders(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}/a.png", "height": 1, "width": 1 + number} for number in (1, 2)]
    path = write(tmp_path / "a.json", images=images, annotations=[])
    assert [FORMAT.read(path, Path(f"q/{name}/a.png"), CLASSES).labels.shape for name in "12"] == [(1, 2), (1, 3)]
    with pytest.raises(FastSCNNError, match=r"lists '1/a\.png' and '2/a\.png'"):
        FORMAT.read(path, Path("q/a.png"), CLASSES)


def test_contents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    assert coco.contents(path) == Contents({"road": 0, "car": 1, "tree": 0, "void": 0}, ("a.png",))


IMAGE = {"id": 3, "file_name": "a.png", "height": 4, "width": 5}


def rle(counts: object, size: object = (4, 5)) -> dict[str, Any]:
    return {"segments": {"size": size, "counts": counts}}


@pytest.mark.parametrize(("changes", "message"), [
    ({"images": None}, "has no list 'images', so it is not COCO's JSON"),
    ({"annotations": {}}, "has no list 'annotations'"),
    ({"categories": None}, "has no list 'categories'"),
    ({"images": [IMAGE, IMAGE]}, "two entries of 'images' have the id 3"),
    ({"images": [IMAGE, IMAGE | {"id": 4}]}, "lists the image 'a.png' twice"),
    ({"images": [IMAGE | {"id": None}]}, "entry 0 of 'images' has no id"),
    ({"images": [{"id": 3}]}, "the image 3 has no file_name"),
    ({"images": [IMAGE | {"file_name": "b.png"}]}, "does not list the image q/a.png"),
    ({"images": [{"id": 3, "file_name": "a.png"}]}, "the image 'a.png' has the height None"),
    ({"size": (10_000, 10_000)}, "over the limit of 40 megapixels"),
    ({"categories": [{"id": 1}]}, "the category 1 has no name"),
    ({"categories": [*CATEGORIES, {"id": 5, "name": "x"}]}, "two entries of 'categories' have the id 5"),
    ({"annotations": annotated([[SQUARE]], [8])}, "the annotation 0 is of the category 8, which"),
    ({"annotations": [{"id": 0, "image_id": 9, "category_id": 1}]}, "the annotation 0 is of the image 9, which"),
    ({"annotations": [{"id": 0, "image_id": [3], "category_id": 1}]}, r"the annotation 0 is of the image \[3\]"),
    ({"annotations": [3]}, "entry 0 of 'annotations' is no JSON object"),
    ({"images": [3]}, "entry 0 of 'images' is no JSON object"),
    ({"annotations": [{"image_id": 3}]}, "the annotation at position 0 is of the category None, which"),
    ({"segments": []}, "annotation 7 has no outline, as in files for object detection"),
    ({"segments": None}, "annotation 7 has no outline"),
    ({"segments": [[1, 2, 3, 4]]}, "annotation 7 has 2 points, but 3 or more"),
    ({"segments": [[1, 2, 3, 4, 5]]}, "not a list"),
    ({"segments": [[[1, 2], [3, 4], [5, 6]]]}, "not a list"),
    ({"segments": [["1", 2, 3, 4, 5, 6]]}, "a point is two numbers"),
    ({"segments": [[float("nan"), 2, 3, 4, 5, 6]]}, "a point is two numbers"),
    ({"segments": [[1e9, 2, 3, 4, 5, 6]]}, "at most 100,000 pixels"),
    ({"segments": 3}, "has no outline"),
    (rle([20], [5, 4]), r"the mask of annotation 7 has the size \[5, 4\], but its image is 4x5"),
    (rle([19]), "run lengths .* do not cover its image of 4x5"),
    (rle([21]), "do not cover"),
    (rle([-1, 21]), "do not cover"),
    (rle([2**70, 20 - 2**70]), "do not cover"),
    (rle([20.0]), "do not cover"),
    (rle(None), "do not cover"),
    (rle("d"), "do not cover"),
    (rle("dp"), "do not cover"),
    (rle("!"), "do not cover"),
    (rle("o" * 99), "do not cover"),
    (rle("o" * 99 + "0"), "do not cover"),
    (rle("oooooooooo?" * 4), "do not cover"),
    (rle(""), "do not cover"),
    (rle([]), "do not cover"),
    (rle([2**62] * 4 + [20]), "do not cover"),
    (rle([True, 19]), "do not cover"),
    (rle("é"), "do not cover"),
    (rle("\ud800"), "do not cover"),

])  # fmt: skip
def test_broken_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.json", **changes)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, Path("q/a.png"), CLASSES)
    assert str(caught.value).startswith(f"{path}: ")


def test_equal_ids_of_annotations_and_missing_ones_do_not_matter(tmp_path: Path) -> None:
    things = annotated([[SQUARE], [[0, 0, 5, 0, 5, 2, 0, 2]]], [1, 5])
    expected = FORMAT.read(write(tmp_path / "a.json", annotations=things), Path("a.png"), CLASSES).labels
    for number, changed in enumerate([[one | {"id": 1} for one in things], [one | {"id": None} for one in things]]):
        path = write(tmp_path / f"{number}.json", annotations=changed)
        np.testing.assert_array_equal(FORMAT.read(path, Path("a.png"), CLASSES).labels, expected)


@pytest.mark.parametrize("polygons", [[[0, 0, 0.5, 0, 0.5, 1]], [[0, 0, 1, 0, 1, 1], [0.25, 0, 1, 0, 1, 1]]])
def test_polygons_in_fractions(tmp_path: Path, polygons: list[list[float]]) -> None:
    path = write(tmp_path / "a.json", size=(40, 50), segments=polygons)
    message = "has polygons in fractions of the image, 0 to 1, but COCO's are in pixels; multiply x by the width"
    for reader in (lambda: FORMAT.read(path, Path("a.png"), CLASSES), lambda: coco.contents(path)):
        with pytest.raises(FastSCNNError, match=message):
            reader()
    for others in ([*polygons, [0, 0, 9, 0, 9, 9]], [[0, 0, 1, 0, 1, 1]]):  # small shapes, in pixels
        path = write(tmp_path / "a.json", size=(40, 50), segments=others)
        assert not FORMAT.read(path, Path("a.png"), CLASSES).unknown


def test_a_character_that_is_not_ascii_is_not_replaced(tmp_path: Path) -> None:
    good = write(tmp_path / "a.json", size=(3, 5), **rle("?", [3, 5]))  # "?" is the number 15
    assert (FORMAT.read(good, Path("a.png"), CLASSES).labels == 255).all()
    with pytest.raises(FastSCNNError, match="damaged"):
        FORMAT.read(write(tmp_path / "b.json", size=(3, 5), **rle("é", [3, 5])), Path("a.png"), CLASSES)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(FastSCNNError, match="is truncated or not JSON"):
        FORMAT.read(path, Path("a.png"), CLASSES)


def test_without_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(FastSCNNError, match=r"pycocotools is missing.* needs the extra 'formats'"):
        FORMAT.read(write(tmp_path / "a.json"), Path("a.png"), CLASSES)


def test_a_large_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "TICK", 0)
    path = write(tmp_path / "a.json")
    FORMAT.read(path, Path("a.png"), CLASSES)
    monkeypatch.setattr(json, "loads", None)
    assert (FORMAT.read(path, Path("a.png"), CLASSES).labels == 1).sum() == 4
