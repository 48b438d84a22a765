"""Supervisely JSON: equal to its package, and every sentence about a broken file."""

from __future__ import annotations

import base64
import json
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import supervisely
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.supervisely import SuperviselyLabels
from fastscnn.media import png
from fastscnn.model.label_set import LabelSet

cv2 = pytest.importorskip("cv2", reason="needs PyPI's opencv-python-headless")

CLASSES = LabelSet(("road", "car"))
FORMAT = SuperviselyLabels({"road": 0, "car": 1, "void": 255})
IMAGE = Path("a.jpg")


def base(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encoded(mask: Any, kind: str = "palette") -> str:
    """As Bitmap.data_2_base64: a palette with transparency; or grey, or RGBA."""
    pixels = np.asarray(mask, np.uint8)
    image = Image.fromarray(np.dstack([pixels * 0 + 9] * 3 + [pixels * 255]) if kind == "rgba" else pixels)
    if kind == "palette":
        image.putpalette([0, 0, 0, 255, 255, 255])
    file = BytesIO()
    image.save(file, format="PNG", **({"transparency": 0} if kind == "palette" else {}))
    return base(zlib.compress(file.getvalue()))


def outlined(kind: str, exterior: Any, interior: Any = (), label: Any = "car") -> dict[str, Any]:
    return {"classTitle": label, "geometryType": kind, "points": {"exterior": exterior, "interior": interior}}


def bitmap(data: Any, origin: Any, label: str = "car") -> dict[str, Any]:
    return {"classTitle": label, "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}


def write(path: Path, objects: Any, height: Any = 4, width: Any = 5) -> Path:
    path.write_text(json.dumps({"size": {"height": height, "width": width}, "tags": [], "objects": objects}))
    return path


numbers = st.one_of(st.integers(-9, 40), st.floats(-9, 40, allow_nan=False, width=32), st.just(900))
outlines = st.lists(st.tuples(numbers, numbers).map(list), min_size=3, max_size=7)
labels = st.sampled_from(["road", "car", "void"])
polygons = st.builds(outlined, st.just("polygon"), outlines, st.lists(outlines, max_size=2), labels)
corners = st.lists(st.tuples(numbers, numbers).map(list), min_size=2, max_size=2)
rectangles = st.builds(outlined, st.just("rectangle"), corners, st.just([]), labels)


@st.composite
def bitmaps(draw: st.DrawFn, height: int, width: int) -> dict[str, Any]:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    size = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(size) < 0.5
    mask[0, 0] = True
    return bitmap(encoded(mask, draw(st.sampled_from(["palette", "grey", "rgba"]))), [left, top], draw(labels))


def draw(thing: dict[str, Any], canvas: Any, value: int) -> None:
    """The rules of the classes in supervisely/geometry, with OpenCV."""
    if thing["geometryType"] == "bitmap":
        left, top = thing["bitmap"]["origin"]
        pixels = np.frombuffer(zlib.decompress(base64.b64decode(thing["bitmap"]["data"])), np.uint8)
        pixels = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
        mask = (pixels[:, :, 3] if pixels.ndim == 3 else pixels) != 0
        canvas[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = value
        return
    outlines = thing["points"]["exterior"], *thing["points"]["interior"]
    exterior, *interior = (np.floor(outline).astype(np.int32) for outline in outlines)
    if thing["geometryType"] == "rectangle":
        cv2.rectangle(canvas, exterior.min(axis=0).tolist(), exterior.max(axis=0).tolist(), value, cv2.FILLED)
        return
    drawn = np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(drawn, [exterior], 1)
    if interior:
        cv2.fillPoly(drawn, interior, 0)
    canvas[drawn != 0] = value


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), height=st.integers(1, 30), width=st.integers(1, 30))
def test_random_objects_equal_the_rules_of_supervisely(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, height: int, width: int
) -> None:
    objects = data.draw(st.lists(st.one_of(polygons, rectangles, bitmaps(height, width)), max_size=4))
    expected = np.full((height, width), 255, np.uint8)
    for thing in objects:
        draw(thing, expected, FORMAT.ids[thing["classTitle"]])
    path = write(tmp_path_factory.mktemp("supervisely") / "a.json", objects, height, width)
    np.testing.assert_array_equal(FORMAT.read(path, IMAGE, CLASSES).labels, expected)


@pytest.fixture(scope="module")
def package() -> Any:
    return pytest.importorskip("supervisely", reason="needs PyPI's supervisely", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_objects_equal_the_package(
    tmp_path_factory: pytest.TempPathFactory, package: Any, data: st.DataObject
) -> None:
    objects = data.draw(st.lists(st.one_of(polygons, rectangles, bitmaps(20, 25)), max_size=4))
    expected = np.full((20, 25), 255, np.uint8)
    for thing in objects:
        kind = {"polygon": package.Polygon, "bitmap": package.Bitmap, "rectangle": package.Rectangle}[thing["geometryType"]]
        kind.from_json(thing).draw(expected, FORMAT.ids[thing["classTitle"]])
    path = write(tmp_path_factory.mktemp("package") / "a.json", objects, 20, 25)
    np.testing.assert_array_equal(FORMAT.read(path, IMAGE, CLASSES).labels, expected)


RING = outlined("polygon", [[0, 0], [4, 0], [4, 3], [0, 3]], [[[1, 1], [3, 1], [3, 2], [1, 2]]])


def test_what_is_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [outlined("rectangle", [[9, 1], [2, -3]], label="road"), RING])
    read = SuperviselyLabels(FORMAT.ids, 255).read(path, IMAGE, CLASSES).labels
    assert read.tolist() == [[1] * 5, [1, 255, 0, 0, 1], [1, 255, 255, 255, 1], [1] * 5]
    read = SuperviselyLabels(FORMAT.ids, 255, ("car", "road")).read(path, IMAGE, CLASSES).labels
    assert read.tolist() == [[1, 1, 0, 0, 0], [1, 255, 0, 0, 0], [1, 255, 255, 255, 1], [1] * 5]
    assert supervisely.contents(path) == Contents({"road": 1, "car": 1})


def test_a_bitmap_that_zlib_did_not_compress(tmp_path: Path) -> None:
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 1] = 0, 0, 7
    path = write(tmp_path / "a.json", [bitmap(base(png.encoded(colours)), [3, 2])])
    assert np.argwhere(FORMAT.read(path, IMAGE, CLASSES).labels == 1).tolist() == [[2, 4]]


TRIANGLE = [[0, 0], [1, 1], [0, 1]]


def test_outlines(tmp_path: Path) -> None:
    mask = bitmap(base(png.encoded(np.ones((1, 1), np.uint8))), [0, 0])
    path = write(tmp_path / "a.json", [mask, outlined("polygon", TRIANGLE)])
    (_, none), (place, corners) = FORMAT.outlines(path, IMAGE, (4, 5))
    assert none.shape == (0, 2)
    assert (place, corners.tolist()) == ("object 1", TRIANGLE)


@pytest.mark.parametrize(("objects", "message"), [
    (None, "has no list of objects, so it is not Supervisely's"),
    ([3], "object 0 has no classTitle"),
    ([outlined("line", TRIANGLE)], "object 0 has the geometryType 'line', not one of polygon, bitmap, rectangle"),
    ([RING | {"points": None}], "object 0 has no points"),
    ([outlined("polygon", TRIANGLE[:2])], "object 0 has 2 points, but 3 or more"),
    ([outlined("rectangle", TRIANGLE)], "object 0 has 3 points, but 2 are needed"),
    ([outlined("polygon", TRIANGLE, 3)], "the interior of object 0 is not a list"),
    ([outlined("polygon", TRIANGLE, [TRIANGLE[:1]])], "object 0 has 1 points"),
    ([outlined("polygon", [[0, 0], [1, 1], [0, float("nan")]])], "a point is two numbers"),
    ([outlined("polygon", [[0, 0], [1, 1], [0, 2**40]])], "at most 100,000"),
    ([bitmap(encoded(np.eye(2)), [4, 0])], "the bitmap of object 0 lies partly outside the image"),
    ([bitmap(encoded(np.eye(2)), [0, -1])], "the bitmap of object 0 lies partly outside the image"),
    ([bitmap(encoded(np.eye(2)), [0.5, 0])], "the bitmap of object 0 has no origin"),
    ([bitmap(encoded(np.eye(2)), None)], "the bitmap of object 0 has no origin"),
    ([RING | {"geometryType": "bitmap"}], "the bitmap of object 0 has no origin"),
    ([bitmap(None, [0, 0])], r"the bitmap of object 0 cannot be read \(it has no data\)"),
    ([bitmap("§", [0, 0])], "the bitmap of object 0 cannot be read"),
    ([bitmap(base(b"no picture"), [0, 0])], "the bitmap of object 0 cannot be read"),
    ([bitmap(base(zlib.compress(b"no picture")), [0, 0])], "the bitmap of object 0 cannot be read"),
    ([bitmap(base(base64.b64decode(encoded(np.eye(2)))[:-9]), [0, 0])], "the bitmap of object 0 cannot be read"),
    ([bitmap(base(zlib.compress(png.encoded(np.zeros((2, 2, 3), np.uint8)))), [0, 0])], "it has colours but no transparency"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, objects: Any, message: str) -> None:
    path = write(tmp_path / "a.json", objects)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, IMAGE, CLASSES)
    assert str(caught.value).startswith(f"{path}: ")


def test_wrong_sizes(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="the image has the height '4'"):
        FORMAT.read(write(tmp_path / "a.json", [], "4"), IMAGE, CLASSES)
    (tmp_path / "a.json").write_text('{"objects": []}')
    with pytest.raises(FastSCNNError, match=r"a\.json: has no size"):
        FORMAT.read(tmp_path / "a.json", IMAGE, CLASSES)


def test_a_bitmap_that_inflates_without_bound_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisely, "MAX_PIXELS", 1000)
    path = write(tmp_path / "a.json", [bitmap(base(zlib.compress(bytes(10_000))), [0, 0])])
    with pytest.raises(FastSCNNError, match="truncated or too large"):
        FORMAT.read(path, IMAGE, CLASSES)
