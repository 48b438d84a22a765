"""Label Studio's JSON: equal to its converter, and every sentence about a broken file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import brush, labelstudio
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.labelstudio import LabelStudioLabels
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

CLASSES = LabelSet(("road", "car"))
FORMAT = LabelStudioLabels({"road": 0, "car": 1, "red-car": 0, "void": 255})


def encode(values: bytes, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Encode as Label Studio does: runs of equal bytes, the longest in several parts, single bytes as they are."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        count = 1
        while place + count < len(values) and values[place + count] == values[place] and count < 1 << sizes[-1]:
            count += 1
        index = next(number for number, size in enumerate(sizes) if count <= 1 << size)
        bits += f"{int(count > 1)}{index:02b}{count - 1:0{sizes[index]}b}{values[place]:08b}"
        place += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def painted(mask: Any) -> list[int]:
    alpha = np.asarray(mask, np.uint8)
    return encode(np.dstack([alpha * 0 + 7] * 3 + [alpha]).tobytes())


def region(kind: str, value: dict[str, Any], label: Any = "car", size: tuple[Any, Any] = (4, 5), **more: Any) -> dict[str, Any]:
    return {"type": kind, "from_name": "tag", "original_height": size[0], "original_width": size[1], "image_rotation": 0,
            "value": value | {kind: [label]}, **more}


def brushed(mask: Any, label: Any = "car") -> dict[str, Any]:
    return region("brushlabels", {"format": "rle", "rle": painted(mask)}, label, np.shape(mask))


def outlined(points: Any, label: str = "car", size: tuple[int, int] = (4, 5)) -> dict[str, Any]:
    return region("polygonlabels", {"points": points, "closed": True}, label, size)


def task(results: Any, number: Any = 1, image: Any = "/data/upload/1/0123abcd-a.png") -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [{"id": 8, "was_cancelled": False, "result": results}]}


def write(folder: Path, *tasks: Any) -> Path:
    (folder / "a.json").write_text(json.dumps(tasks))
    return folder / "a.json"


runs = st.lists(st.tuples(st.integers(0, 255), st.integers(1, 400)), max_size=30)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(parts=runs)
def test_an_encoded_brush_is_decoded(parts: list[tuple[int, int]]) -> None:
    values = b"".join(bytes([value]) * count for value, count in parts)
    assert brush.decode(bytes(encode(values)), len(values)) == values


@settings(max_examples=60, deadline=None, derandomize=True)
@given(parts=runs.filter(bool))
def test_brushes_equal_the_converter(parts: list[tuple[int, int]]) -> None:
    reason = "needs PyPI's label-studio-converter"
    converter = pytest.importorskip("label_studio_converter.brush", reason=reason, exc_type=ImportError)
    values = b"".join(bytes([value]) * count for value, count in parts)
    assert converter.decode_rle(encode(values)).tobytes() == values
    assert brush.decode(bytes(converter.encode_rle(np.frombuffer(values, np.uint8))), len(values)) == values


def test_bytes_that_are_not_repeated() -> None:
    bits = f"{3:032b}{7:05b}" + "0010" * 4 + "0" + "00" + "010" + f"{1:08b}{2:08b}{3:08b}" + "0" * 5
    encoded = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    assert brush.decode(encoded, 3) == b"\1\2\3"
    assert brush.decode(encoded, 4) is None
    assert all(brush.decode(encoded[:length], 3) is None for length in range(len(encoded) - 1))


coordinates = st.one_of(st.floats(0, 100, width=32), st.integers(-5, 105))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@settings(max_examples=100, deadline=None, derandomize=True)
@given(polygons=st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7), max_size=4),
       height=st.integers(1, 30), width=st.integers(1, 30))
def test_polygons_equal_the_coco_export(
    tmp_path_factory: pytest.TempPathFactory, polygons: list[Any], height: int, width: int
) -> None:
    mask_api = pytest.importorskip("pycocotools.mask", reason="needs PyPI's pycocotools")
    names = ["road", "car", "void", "red-car"][: len(polygons)]
    expected = np.full((height, width), 255)
    for name, polygon in zip(names, polygons, strict=True):
        flat = [value for x, y in polygon for value in (x / 100 * width, y / 100 * height)]  # as the converter computes it
        expected[np.asarray(mask_api.decode(mask_api.frPyObjects([flat], height, width)[0]), bool)] = FORMAT.ids[name]
    results = [outlined(polygon, name, (height, width)) for name, polygon in zip(names, polygons, strict=True)]
    folder = tmp_path_factory.mktemp("labelstudio")
    images.write(folder / "a.png", np.zeros((height, width, 3), np.uint8))
    decoded = FORMAT.read(write(folder, task(results)), folder / "a.png", CLASSES)
    np.testing.assert_array_equal(decoded.labels, expected)


def test_brushes_lie_over_each_other(tmp_path: Path) -> None:
    choice = {"type": "choices", "value": {"choices": ["night"]}}
    path = write(tmp_path, task([brushed([[9, 9, 0]]), choice, brushed([[0, 255, 0]], "road")]))
    assert FORMAT.read(path, Path("a.png"), CLASSES).labels.tolist() == [[1, 0, 255]]
    assert LabelStudioLabels(FORMAT.ids, 1, ("road", "car")).read(path, Path("a.png"), CLASSES).labels.tolist() == [[1, 1, 1]]
    assert labelstudio.contents(path) == Contents({"car": 1, "road": 1}, ("/data/upload/1/a.png",))


@pytest.mark.parametrize(("stored", "image"), [
    ("/data/upload/1/0123abcd-a.png", "q/a.png"),
    ("/data/upload/1/0123abcd-a.png", "q/0123abcd-a.png"),
    ("/data/local-files/?d=q/%C3%A4%20b.png", "r/q/ä b.png"),
    ("s3://bucket/folder/a.png", "folder/a.png"),
    ("https://host/a.png", "a.png"),
    ("q\\a.png", "q/a.png"),
])  # fmt: skip
def test_names_of_images(tmp_path: Path, stored: str, image: str) -> None:
    path = write(tmp_path, task([brushed([[1]])], image=stored), task([brushed([[0]])], 2, "other.png"))
    assert FORMAT.read(path, Path(image), CLASSES).labels.tolist() == [[1]]
    renamed = task([brushed([[1]])]) | {"data": {"photo": stored, "text": "a picture"}}
    assert FORMAT.read(write(tmp_path, renamed), Path(image), CLASSES).labels.tolist() == [[1]]


def test_two_uploads_of_equal_name_are_told_apart_by_their_stored_names(tmp_path: Path) -> None:
    path = write(tmp_path, task([brushed([[1]])], 1, "/1/0123abcd-a.png"), task([brushed([[0]])], 2, "/1/0123abce-a.png"))
    assert FORMAT.read(path, Path("0123abcd-a.png"), CLASSES).labels.tolist() == [[1]]
    with pytest.raises(FastSCNNError, match=r"does not list the image a\.png"):
        FORMAT.read(path, Path("a.png"), CLASSES)


def test_an_empty_result_has_no_shapes(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    read = LabelStudioLabels(FORMAT.ids, 1).read(write(tmp_path, task([])), tmp_path / "a.png", CLASSES)
    assert read.labels.tolist() == [[1, 1, 1], [1, 1, 1]]


def masks(folder: Path, **by_name: Any) -> Path:
    for name, mask in by_name.items():
        images.write(folder / f"task-1-annotation-{name}.png", np.asarray(mask, np.uint8))
    return write(folder, task(None) | {"annotations": []})


def test_masks_beside_the_file(tmp_path: Path) -> None:
    path = masks(tmp_path, **{"8-by-a@b.c-tag-road-10": [[0, 255, 0]], "8-by-a@b.c-tag-road-9": [[255, 255, 0]],
                              "8-by-a@b.c-tag-car-0": [[255, 255, 255]], "8-by-a@b.c-my-tag-void-0": [[0, 0, 1]]})
    images.write(tmp_path / "task-11-annotation-8-by-a-tag-car-0.png", np.zeros((9, 9), np.uint8))
    assert FORMAT.read(path, Path("a.png"), CLASSES).labels.tolist() == [[0, 0, 1]]
    path = masks(tmp_path, **{"8-by-1-tag-red-car-0": [[0, 0, 255]]})
    assert FORMAT.read(path, Path("a.png"), CLASSES).labels.tolist() == [[0, 0, 0]]


def test_outlines_are_in_pixels(tmp_path: Path) -> None:
    path = write(tmp_path, task([brushed([[1, 0]], "cat"), outlined([[0, 50], [50, 50], [100, 0]], size=(1, 2))]))
    (_, none), (place, corners) = FORMAT.outlines(path, Path("a.png"), (1, 2))
    assert none.shape == (0, 2)
    assert (place, corners.tolist()) == ("region 1 of the task 1", [[0, 0.5], [1, 0.5], [2, 0]])


def test_names_of_no_class_are_counted(tmp_path: Path) -> None:
    regions = write(tmp_path, task([brushed([[1, 0]], "cat"), brushed([[0, 1]], "road")]))
    read = FORMAT.read(regions, Path("a.png"), CLASSES)
    assert (read.labels.tolist(), read.unknown) == ([[255, 0]], {"cat": 1})
    read = FORMAT.read(masks(tmp_path, **{"8-by-1-tag-red-cat-0": [[1]]}), Path("a.png"), CLASSES)
    assert (read.labels.tolist(), read.unknown) == ([[255]], {"red-cat": 1})


@pytest.mark.parametrize(("by_name", "message"), [
    ({"8-by-1-tag-car-0": [[1]], "9-by-1-tag-car-0": [[1]]}, "masks of several annotations of the task 1"),
    ({"8-by-1-tag-car-0": [[1]], "8-by-1-tag-car-1": [[1, 1]]}, "car-1.png: is not a grey mask of the size"),
    ({"8-by-1-tag-car-0": [[[1, 1, 1]]]}, "is not a grey mask"),
    ({}, "the task 1 has no annotation; annotate it"),
])  # fmt: skip
def test_broken_masks(tmp_path: Path, by_name: dict[str, Any], message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        FORMAT.read(masks(tmp_path, **by_name), Path("a.png"), CLASSES)


RECTANGLE = region("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0})
SQUARE = [[0, 0], [50, 0], [50, 50]]


def rle(encoded: object) -> dict[str, Any]:
    return region("brushlabels", {"rle": encoded}, size=(1, 1))


@pytest.mark.parametrize(("tasks", "message"), [
    ([{"id": 1, "image": "a.png", "tag": []}], 'task 0 has no id or no data; export it as "JSON"'),
    ([3], "task 0 has no id"),
    ([task([]) | {"id": "1"}], "task 0 has no id"),
    ([task([]), task([])], "two tasks have the id 1"),
    ([task([]), task([], 2)], "lists the image .* twice"),
    ([task([], image=None)], "the task 1 has no images in its data"),
    ([task([]) | {"data": {"a": "a.png", "b": "b.png"}}], "the task 1 has 2 images"),
    ([task([]) | {"data": {}}], "the task 1 has no images"),
    ([task([], image="b.png")], "does not list the image q/a.png"),
    ([task([]) | {"annotations": 3}], "the annotations of the task 1 are not a list"),
    ([task([]) | {"annotations": task([])["annotations"] * 2}], "the task 1 has 2 annotations; keep one"),
    ([task([]) | {"annotations": [{"was_cancelled": True}]}], "the task 1 has no annotation"),
    ([task(None)], "the result of the task 1 is not a list"),
    ([task([{}])], "the result of the task 1 is not a list"),
    ([task([RECTANGLE])], "region 0 of the task 1 has the type 'rectanglelabels'"),
    ([task([outlined(SQUARE), outlined(SQUARE, size=(4, 6))])], "the regions of the task 1 state different sizes"),
    ([task([outlined(SQUARE, size=(0, 6))])], "the image of region 0 of the task 1 has the height 0"),
    ([task([outlined(SQUARE) | {"image_rotation": 90}])], "region 0 of the task 1 is on a rotated image"),
    ([task([outlined(SQUARE) | {"value": None}])], "region 0 of the task 1 is on a rotated image, or has no value"),
    ([task([region("brushlabels", {}, None)])], r"and the labels \[None\], but a brush"),
    ([task([region("labels", {"start": 0})])], "is neither a brush nor a polygon"),
    ([task([outlined(SQUARE[:2])])], "has 2 points, but 3 or more"),
    ([task([outlined(3)])], "has no list of points, x and y in percent"),
    ([task([outlined([[0, 0], [1, 1], [2, float("nan")]])])], "has no list of points, x and y"),
    ([task([outlined([[0, 0], [1, 1], [1e300, 0]])])], "has no list of points, x and y"),
    ([task([rle(None)])], "run lengths .* do not cover its image of 1x1"),
    ([task([rle([256])])], "do not cover"),
    ([task([rle([])])], "do not cover"),
    ([task([rle(encode(b"12345"))])], "do not cover"),
    ([task([rle(encode(b"1234")[:-2])])], "do not cover"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, tasks: list[Any], message: str) -> None:
    path = write(tmp_path, *tasks)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, Path("q/a.png"), CLASSES)
    assert str(caught.value).startswith(f"{path}: ")
