"""YOLO segmentation text: equal to Ultralytics, and every sentence about a broken file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import yolo
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.yolo import YoloLabels
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

cv2 = pytest.importorskip("cv2", reason="needs PyPI's opencv-python-headless")

CLASSES = LabelSet(("road", "car"))
FORMAT = YoloLabels({"0": 0, "1": 1, "12": 255})


def polygon2mask(size: tuple[int, int], polygons: list[Any]) -> Any:
    """Ultralytics' own function if it is installed, else its rule."""
    theirs = pytest.importorskip("ultralytics.data.utils", exc_type=ImportError) if _installed() else None
    if theirs is not None:
        return theirs.polygon2mask(size, polygons)
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, np.asarray(polygons, np.int32).reshape(1, -1, 2), 1)
    return mask


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("ultralytics") is not None


def write(folder: Path, text: str, size: tuple[int, int] = (4, 5)) -> tuple[Path, Path]:
    images.write(folder / "a.png", np.zeros((*size, 3), np.uint8))
    (folder / "a.txt").write_text(text)
    return folder / "a.txt", folder / "a.png"


fraction = st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda number: number / 100))
polygons = st.lists(st.tuples(fraction, fraction), min_size=3, max_size=8)
shapes = st.lists(st.tuples(st.sampled_from([0, 1, 12]), polygons), max_size=4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(shapes=shapes, height=st.integers(1, 40), width=st.integers(1, 40))
def test_random_polygons_equal_ultralytics(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[Any], height: int, width: int
) -> None:
    lines = [" ".join([str(name), *(repr(value) for point in polygon for value in point)]) for name, polygon in shapes]
    labels, image = write(tmp_path_factory.mktemp("yolo"), "\n".join(lines), (height, width))
    expected = np.full((height, width), 255)
    for name, polygon in shapes:
        points = np.array(polygon, np.float32)
        points[:, 0] *= width
        points[:, 1] *= height
        expected[polygon2mask((height, width), [points.reshape(-1)]) == 1] = FORMAT.ids[str(name)]
    np.testing.assert_array_equal(FORMAT.read(labels, image, CLASSES).labels, expected)


def test_what_is_drawn(tmp_path: Path) -> None:
    labels, image = write(tmp_path, "\n1 0 0 0.5 0 .5 .5 0 0.5\r\n 00 .4 .25 1 .25 1 0.5 .4 .5 \n")
    assert YoloLabels(FORMAT.ids, 1).read(labels, image, CLASSES).labels.tolist() == [
        [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1] * 5,
    ]  # fmt: skip
    assert yolo.contents(labels) == Contents({"1": 1, "0": 1})


def test_coordinates_are_cut_in_float32_as_in_ultralytics(tmp_path: Path) -> None:
    labels, image = write(tmp_path, "1 0 0 0.29 0 0.29 1 0 1", (1, 100))  # 0.29 * 100 is 28.999999999999996 in float64
    assert (FORMAT.read(labels, image, CLASSES).labels == 1).sum() == 30


def test_an_empty_file_has_no_shapes(tmp_path: Path) -> None:
    labels, image = write(tmp_path, " \n")
    assert (YoloLabels(FORMAT.ids, 1).read(labels, image, CLASSES).labels == 1).all()
    assert yolo.contents(labels) == Contents({})


@pytest.mark.parametrize(("text", "message"), [
    ("1 0.5 0.5 0.1 0.1", r"line 1 is a box \(class cx cy w h\) of a detection dataset"),
    ("1", "line 1 has 0 numbers behind the class"),
    ("1 0 0 1 0 1", "line 1 has 5 numbers"),
    ("0 0 0 1 0 1 1\n1 0 0 1 0 1 1 0", "line 2 has 7 numbers"),
    ("car 0 0 1 0 1 1", "line 1 begins with 'car', but the number of a class"),
    ("1.0 0 0 1 0 1 1", "begins with '1.0'"),
    ("-1 0 0 1 0 1 1", "begins with '-1'"),
    ("² 0 0 1 0 1 1", "begins with '²'"),
    ("1 0 0 1 0 1 x", "line 1 contains words that are not numbers"),
    ("1 0 0 1 0 1 nan", "line 1 has coordinates outside the image"),
    ("1 0 0 1 0 1 1e40", "line 1 has coordinates outside the image"),
    ("1 10 10 20 10 20 30", "line 1 has coordinates outside the image; YOLO's are fractions"),
    ("1 -.5 0 -.1 0 -.3 1", "line 1 has coordinates outside the image"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    labels, image = write(tmp_path, text)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(labels, image, CLASSES)
    assert str(caught.value).startswith(f"{labels}: ")


@pytest.mark.parametrize(("folder", "declared", "key_points", "refused"), [
    (".", "kpt_shape: [4, 2]", 8, True), ("train", "kpt_shape: [4, 2]  # x, y", 8, True),
    ("a/b", "names: 1\nkpt_shape:\n- 2\n- 3", 6, True),
    ("train", "kpt_shape: [17, 3]", 51, True), ("train", "# kpt_shape: [4, 2]", 8, False),
    ("train", "kpt_shape: [5, 2]", 8, False), ("a/b/c", "kpt_shape: [4, 2]", 8, False),
])  # fmt: skip
def test_key_points_are_refused(tmp_path: Path, folder: str, declared: str, key_points: int, refused: bool) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "coco8-pose.yaml").write_text(declared)
    (tmp_path / "other.yml").write_bytes(b"\xff\0")  # not ours
    labels, image = write(tmp_path / folder, f"0 0.5 0.5 0.2 0.2{' 0.25' * key_points}\n" * 2)
    if not refused:
        FORMAT.read(labels, image, CLASSES)
        return
    for reader in (lambda: FORMAT.read(labels, image, CLASSES), lambda: yolo.contents(labels)):
        with pytest.raises(FastSCNNError, match=r"boxes with key points, as kpt_shape in .*/coco8-pose.yaml says") as caught:
            reader()
        assert str(caught.value).startswith(f"{labels}: ")


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, image = write(tmp_path, "1 0 0 1 0 1 1")
    with pytest.raises(FastSCNNError, match=r"b\.txt: no such file"):
        FORMAT.read(tmp_path / "b.txt", image, CLASSES)
    with pytest.raises(FastSCNNError, match=r"b\.png: no such file"):
        FORMAT.read(labels, tmp_path / "b.png", CLASSES)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(FastSCNNError, match=r"cv2 is missing.* needs the extra 'formats'"):
        FORMAT.read(labels, image, CLASSES)
