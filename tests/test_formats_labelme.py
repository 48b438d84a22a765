"""LabelMe JSON: equal to labelme, and every sentence about a broken file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import labelme
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.labelme import LabelMeLabels
from fastscnn.media import images, png
from fastscnn.model.label_set import LabelSet

CLASSES = LabelSet(("road", "car"))
FORMAT = LabelMeLabels({"road": 0, "car": 1, "void": 255})
IMAGE = Path("a.jpg")


def encoded(mask: Any) -> str:
    return base64.b64encode(png.encoded(np.asarray(mask, np.uint8))).decode()


def write(path: Path, shapes: Any, height: Any = 4, width: Any = 5) -> Path:
    path.write_text(json.dumps({"version": "5", "shapes": shapes, "imageHeight": height, "imageWidth": width}))
    return path


def shape(kind: str | None, points: Any, label: Any = "car", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None, **more}


numbers = st.one_of(st.integers(-9, 40), st.floats(-9, 40, allow_nan=False, width=32), st.just(2e4))
point = st.tuples(numbers, numbers).map(list)
counts = {"polygon": (3, 8), None: (3, 5), "rectangle": (2, 2), "circle": (2, 2), "line": (2, 2), "linestrip": (2, 5),
          "point": (1, 1), "oriented_rectangle": (4, 4)}
outlines = st.sampled_from(list(counts)).flatmap(
    lambda kind: st.lists(point, min_size=counts[kind][0], max_size=counts[kind][1]).map(lambda points: shape(kind, points))
)


@st.composite
def masks(draw: st.DrawFn, height: int, width: int) -> dict[str, Any]:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top, height - 1)), draw(st.integers(left, width - 1))
    drawn = np.random.default_rng(draw(st.integers(0, 99))).random((bottom - top + 1, right - left + 1)) < 0.5
    value = draw(st.sampled_from([1, 255]))
    return shape("mask", [[left + 0.3, top], [right + 0.4, bottom + 0.6]], mask=encoded(drawn * value))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), height=st.integers(1, 30), width=st.integers(1, 30))
def test_random_shapes_equal_labelme(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, height: int, width: int
) -> None:
    theirs = pytest.importorskip("labelme.utils", reason="needs PyPI's labelme", exc_type=ImportError)
    shapes = data.draw(st.lists(st.one_of(outlines, masks(height, width)), max_size=5))
    for one in shapes:
        one["label"] = data.draw(st.sampled_from(["road", "car", "void"]))
    path = write(tmp_path_factory.mktemp("labelme") / "a.json", shapes, height, width)
    loaded = [one | ({"mask": theirs.img_b64_to_arr(one["mask"]).astype(bool)} if "mask" in one else {}) for one in shapes]
    expected, _ = theirs.shapes_to_label((height, width, 3), loaded, {"road": 1, "car": 2, "void": 3})
    decoded = FORMAT.read(path, IMAGE, CLASSES)
    np.testing.assert_array_equal(decoded.labels, np.array([255, 0, 1, 255])[expected])
    assert decoded.stored is decoded.labels


def by_rule(thing: dict[str, Any], size: tuple[int, int]) -> Any:
    """The rules of labelme/utils/shape.py, for an environment without labelme."""
    drawn = Image.new("1", size[::-1])
    pencil = ImageDraw.Draw(drawn)
    points = [tuple(point) for point in thing["points"]]
    (x0, y0), (x1, y1) = points[0], points[-1]
    if thing["shape_type"] in ("circle", "point"):
        radius = np.hypot(x0 - x1, y0 - y1) if thing["shape_type"] == "circle" else 5
        pencil.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), fill=1, outline=1)
    elif thing["shape_type"] in ("line", "linestrip"):
        pencil.line(points, fill=1, width=10)
    elif thing["shape_type"] == "rectangle":
        pencil.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1, outline=1)
    else:
        pencil.polygon(points, fill=1, outline=1)
    return np.array(drawn)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(thing=outlines, height=st.integers(1, 30), width=st.integers(1, 30))
def test_random_outlines_equal_the_rules_of_labelme(
    tmp_path_factory: pytest.TempPathFactory, thing: dict[str, Any], height: int, width: int
) -> None:
    path = write(tmp_path_factory.mktemp("rule") / "a.json", [thing], height, width)
    np.testing.assert_array_equal(FORMAT.read(path, IMAGE, CLASSES).labels == 1, by_rule(thing, (height, width)))


def test_what_is_drawn(tmp_path: Path) -> None:
    square = [[1, 0], [3, 0], [3, 2], [1, 2]]
    shapes = [shape("polygon", square), shape("mask", [[0, 1], [1, 2]], "road", mask=encoded([[1, 0], [9, 1]])),
              shape("rectangle", [[9, 9], [4, 3]], "void")]
    path = write(tmp_path / "a.json", shapes)
    assert LabelMeLabels(FORMAT.ids, 0).read(path, IMAGE, CLASSES).labels.tolist() == [
        [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 255],
    ]  # fmt: skip
    assert LabelMeLabels(FORMAT.ids, 0, ("road", "car")).read(path, IMAGE, CLASSES).labels[2].tolist() == [0, 1, 1, 1, 0]
    assert labelme.contents(path) == Contents({"car": 1, "road": 1, "void": 1})


def test_a_file_without_size_has_the_size_of_its_image(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", np.zeros((3, 7, 3), np.uint8))
    path = write(tmp_path / "a.json", [shape("rectangle", [[0, 0], [0, 0]])], None, None)
    assert FORMAT.read(path, tmp_path / "a.png", CLASSES).labels.tolist() == [[1] + [255] * 6, [255] * 7, [255] * 7]


BOX = [[0, 0], [1, 1]]


@pytest.mark.parametrize(("shapes", "message"), [
    (None, "has no list of shapes"),
    ([3], "shape 0 has no label"),
    ([shape("polygon", BOX, None)], "shape 0 has no label"),
    ([shape("points", BOX)], "shape 0 has the type 'points', which has no area; draw a polygon"),
    ([shape("polygon", BOX)], "shape 0 has 2 points, but 3 or more are needed"),
    ([shape("circle", [[0, 0]])], "shape 0 has 1 points, but 2 are needed"),
    ([shape("line", BOX + BOX)], "shape 0 has 4 points, but 2 are needed"),
    ([shape("polygon", None)], "shape 0 has no list of points"),
    ([shape("polygon", [[0, 0], [1, float("nan")], [2, 2]])], "a point is two numbers"),
    ([shape("polygon", [[0, 0], [1, 1e20], [2, 2]])], "at most 100,000 pixels"),
    ([shape("circle", [[5e4, 5e4], [0, 0]])], "radius of over 32,000 pixels"),
    ([shape("mask", BOX)], r"the mask of shape 0 cannot be read \(it is missing\)"),
    ([shape("mask", BOX, mask="!")], "the mask of shape 0 cannot be read"),
    ([shape("mask", BOX, mask=encoded(np.eye(2))[:60])], "the mask of shape 0 cannot be read"),
    ([shape("mask", BOX, mask=encoded(np.eye(3)))], r"the mask of shape 0 is 3x3 \(HxW\), which differs"),
    ([shape("mask", BOX, mask=encoded(np.zeros((2, 2, 3))))], "the mask of shape 0 is 2x2x3"),
    ([shape("mask", [[4, 0], [5, 1]], mask=encoded(np.eye(2)))], "the mask of shape 0 lies partly outside"),
    ([shape("mask", [[-1, 0], [0, 1]], mask=encoded(np.eye(2)))], "the mask of shape 0 lies partly outside"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, shapes: Any, message: str) -> None:
    path = write(tmp_path / "a.json", shapes)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, IMAGE, CLASSES)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("size", [(0, 5), ("4", 5), (4, None), (7000, 7000)])
def test_wrong_sizes(tmp_path: Path, size: tuple[Any, Any]) -> None:
    with pytest.raises(FastSCNNError, match=r"a\.json: the image "):
        FORMAT.read(write(tmp_path / "a.json", [], *size), IMAGE, CLASSES)
