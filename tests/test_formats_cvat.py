"""CVAT for images 1.1: drawn by CVAT's own rules, equal to datumaro, and every sentence about a broken file."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import cvat
from fastscnn.data.formats.base import Contents
from fastscnn.data.formats.cvat import CvatLabels
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

cv2 = pytest.importorskip("cv2", reason="needs PyPI's opencv-python-headless")
mask_api = pytest.importorskip("pycocotools.mask", reason="needs PyPI's pycocotools")

CLASSES = LabelSet(("road", "car", "straße"))
FORMAT = CvatLabels({"road": 0, "car": 1, "straße": 2, "void": 255})
NAMES = "".join(f"<label><name>{name}</name></label>" for name in FORMAT.ids)
META = f"<meta><task><labels>{NAMES}</labels></task></meta>"

Thing = dict[str, Any]


def element(tag: str, label: str | None = "car", **attributes: object) -> str:
    names = ({} if label is None else {"label": label}) | attributes
    return f"<{tag} {' '.join(f'{key}={quoteattr(str(value))}' for key, value in names.items())}></{tag}>"


def document(*shapes: str, size: tuple[object, object] = (4, 5), meta: str = META, name: str = "a.png") -> str:
    inside = f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">{"".join(shapes)}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{inside}</annotations>'


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


numbers = st.one_of(st.integers(-9, 40), st.floats(-9, 40, allow_nan=False, width=32), st.just(700))
points = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=7)
radii = st.one_of(st.integers(0, 30), st.floats(0, 30))
angles = st.sampled_from([0, 0, 30.5, 90, 725])


@st.composite
def shapes(draw: st.DrawFn, height: int, width: int) -> tuple[str, Thing]:
    tag = draw(st.sampled_from(["polygon", "box", "ellipse", "mask"]))
    label, order = draw(st.sampled_from(list(FORMAT.ids))), draw(st.sampled_from([-1, 0, 0, 2]))
    thing: Thing = {"label": label, "z_order": order}
    if tag == "polygon":
        thing["points"] = ";".join(f"{x},{y}" for x, y in draw(points))
    elif tag == "box":
        thing |= {key: draw(numbers) for key in ("xtl", "ytl", "xbr", "ybr")} | {"rotation": draw(angles)}
    elif tag == "ellipse":
        thing |= {"cx": draw(numbers), "cy": draw(numbers), "rx": draw(radii), "ry": draw(radii), "rotation": draw(angles)}
    else:
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        rows, columns = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
        counts = [0, *_cut(draw, rows * columns)][draw(st.integers(0, 1)):]
        thing |= {"rle": ", ".join(map(str, counts)), "top": top, "left": left, "height": rows, "width": columns}
    return tag, thing


def _cut(draw: st.DrawFn, total: int) -> list[int]:
    places = sorted(draw(st.sets(st.integers(1, total - 1), max_size=6))) if total > 1 else []
    return [stop - start for start, stop in pairwise([0, *places, total])]


def by_cvat(tag: str, thing: Thing, height: int, width: int) -> npt.NDArray[np.bool_]:
    """The rules of CVAT's dataset_manager/formats/transformations.py and of the transforms of datumaro that it calls."""
    if tag == "mask":
        rle = {"counts": [int(word) for word in thing["rle"].split(",")], "size": [thing["width"], thing["height"]]}
        drawn = np.zeros((height, width), bool)
        part = mask_api.decode(mask_api.frPyObjects([rle], thing["height"], thing["width"])[0]).T
        drawn[thing["top"] : thing["top"] + thing["height"], thing["left"] : thing["left"] + thing["width"]] = part
        return drawn
    if tag == "ellipse":
        matrix = np.zeros((height, width), np.uint8)
        centre, axes = (round(thing["cx"]), round(thing["cy"])), (round(thing["rx"]), round(thing["ry"]))
        cv2.ellipse(matrix, centre, axes, thing["rotation"], 0, 360, 255, thickness=-1)
        return matrix > 0
    if tag == "box":
        x0, y0, x1, y1 = (thing[key] for key in ("xtl", "ytl", "xbr", "ybr"))
        cx, cy, angle = x0 + (x1 - x0) / 2, y0 + (y1 - y0) / 2, math.radians(thing["rotation"])
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        if angle:
            corners = [(cx + math.cos(angle) * (x - cx) - math.sin(angle) * (y - cy),
                        cy + math.sin(angle) * (x - cx) + math.cos(angle) * (y - cy)) for x, y in corners]
    else:
        corners = [(float(x), float(y)) for x, y in (pair.split(",") for pair in thing["points"].split(";"))]
    flat = [value for corner in corners for value in corner]
    return np.asarray(mask_api.decode(mask_api.frPyObjects([flat], height, width)[0]), bool)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), height=st.integers(1, 30), width=st.integers(1, 30))
def test_random_shapes_equal_cvat(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, height: int, width: int
) -> None:
    drawn = data.draw(st.lists(shapes(height, width), max_size=5))
    text = document(*(element(tag, **thing) for tag, thing in drawn), size=(height, width))
    expected = np.full((height, width), 255)
    for tag, thing in sorted(drawn, key=lambda pair: pair[1]["z_order"]):
        expected[by_cvat(tag, thing, height, width)] = FORMAT.ids[thing["label"]]
    path = write(tmp_path_factory.mktemp("cvat") / "a.xml", text)
    np.testing.assert_array_equal(FORMAT.read(path, Path("q/a.png"), CLASSES).labels, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_shapes_equal_datumaro(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Of datumaro, since CVAT itself is not on PyPI: its reader of the file and its masks. It does not read ellipses."""
    reason = "needs PyPI's datumaro"
    reader = pytest.importorskip("datumaro.plugins.data_formats.cvat.base", reason=reason, exc_type=ImportError)
    transforms = pytest.importorskip("datumaro.plugins.transforms", reason=reason, exc_type=ImportError)
    height, width, folder = 20, 25, tmp_path_factory.mktemp("datumaro")
    drawable = shapes(height, width).filter(lambda pair: pair[0] != "ellipse" and not pair[1].get("rotation"))
    drawn = data.draw(st.lists(drawable, min_size=1, max_size=4))
    for _, thing in drawn:
        thing.pop("rotation", None)
    images.write(folder / "images" / "a.png", np.zeros((height, width, 3), np.uint8))
    path = write(folder / "a.xml", document(*(element(tag, **thing) for tag, thing in drawn), size=(height, width)))
    (item,) = transforms.BoxesToMasks(transforms.PolygonsToMasks(reader.CvatBase(str(path))))
    expected = np.full((height, width), 255)
    for annotation in sorted(item.annotations, key=lambda one: one.z_order):
        expected[np.asarray(annotation.image, bool)] = list(FORMAT.ids.values())[annotation.label]
    np.testing.assert_array_equal(FORMAT.read(path, folder / "a.png", CLASSES).labels, expected)


BOX = element("box", xtl=0, ytl=0, xbr=2, ybr=2)
UPPER = element("box", "road", xtl=0, ytl=0, xbr=5, ybr=1, z_order=1)


def test_what_is_drawn(tmp_path: Path) -> None:
    ignored = element("points", "unheard of", points="1,1") + element("tag", "unheard of")
    path = write(tmp_path / "a.xml", document(UPPER, BOX, ignored))
    read = CvatLabels(FORMAT.ids, 2).read(path, Path("a.png"), CLASSES)
    assert read.labels.tolist() == [[0] * 5, [1, 1, 2, 2, 2], [2] * 5, [2] * 5]
    read = CvatLabels(FORMAT.ids, 2, ("road", "car")).read(path, Path("a.png"), CLASSES)
    assert read.labels.tolist() == [[1, 1, 0, 0, 0], [1, 1, 2, 2, 2], [2] * 5, [2] * 5]
    assert cvat.contents(path) == Contents({"road": 1, "car": 1, "straße": 0, "void": 0}, ("a.png",))


@pytest.mark.parametrize(("encoding", "declared"), [
    ("utf-8", "utf-8"), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"), ("cp1252", "windows-1252"), ("latin-1", "ISO-8859-1"),
])  # fmt: skip
def test_encodings(tmp_path: Path, encoding: str, declared: str) -> None:
    text = document(element("box", "straße", xtl=0, ytl=0, xbr=9, ybr=9)).replace('"utf-8"', f'"{declared}"')
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert (FORMAT.read(tmp_path / "a.xml", Path("a.png"), CLASSES).labels == 2).all()


ELLIPSE: Thing = {"cx": 1, "cy": 1, "rx": 1, "ry": 1}
MASK: Thing = {"rle": "1,3", "left": 0, "top": 0, "width": 2, "height": 2}
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(("text", "message"), [
    (document(BOX)[:-20], "is truncated or not XML"),
    ("", "is truncated or not XML"),
    ("{}", "is truncated or not XML"),
    ("<a>" * 50_000, "is truncated or not XML"),
    (document(BOX).replace("\n", BOMB), "contains a DOCTYPE"),
    ("<annotations><track/><image/></annotations>", "has no images, so it is not the XML of \"CVAT for images 1.1\""),
    ("<annotations/>", "has no images"),
    ("<annotation><image/></annotation>", "has no images"),
    ("<annotations><image/></annotations>", "lists an image without a file name"),
    (document(BOX, name="b.png"), "does not list the image q/a.png"),
    (document(BOX).replace("</image>", '</image><image name="a.png"/>'), "lists the image 'a.png' twice"),
    (document(BOX, size=("x", 5)), "the image 'a.png' has the height None"),
    (document(BOX, size=(4, 0)), "the image 'a.png' has the height 4 and the width 0"),
    (document(BOX, size=(10_000, 10_000)), "over the limit of 40 megapixels"),
    (document(element("polygon", None, points="0,0")), "polygon 0 of the image 'a.png' has no label"),
    (document(BOX, element("polyline", points="0,0;1,1")), "polyline 1 of the image 'a.png' has no area; draw a polygon"),
    (document(element("skeleton")), "skeleton 0 .* has no area"),
    (document(element("cuboid")), "cuboid 0 .* has no area"),
    (document(element("polygon", points="0,0;1,1")), "has 2 points, but 3 or more"),
    (document(element("polygon")), "has points that are not x,y;x,y;"),
    (document(element("polygon", points="0,0;1,1;2")), "a point is two numbers"),
    (document(element("polygon", points="0,0;1,1;2,nan")), "a point is two numbers"),
    (document(element("polygon", points="0,0;1,1;2,1e9")), "at most 100,000"),
    (document(element("box", xtl=0, ytl=0, xbr=2)), "has the ybr None, which is not a number"),
    (document(element("box", xtl=0, ytl=0, xbr="inf", ybr=1)), "has the xbr 'inf'"),
    (document(element("ellipse", **ELLIPSE | {"cx": 1e30})), "at most 100,000"),
    (document(element("ellipse", **ELLIPSE | {"rx": -1})), "has a negative radius"),
    (document(element("ellipse", **ELLIPSE | {"rotation": "x"})), "has the rotation 'x'"),
    (document(element("box", xtl=0, ytl=0, xbr=1, ybr=1, z_order="top")), "has the z_order 'top'"),
    (document(element("mask", **MASK | {"rle": "1,2"})), "the run lengths .* do not cover its 2x2 pixels"),
    (document(element("mask", **MASK | {"rle": "1,4"})), "do not cover"),
    (document(element("mask", **MASK | {"rle": "-1,5"})), "do not cover"),
    (document(element("mask", **MASK | {"rle": "1,x,3"})), "do not cover"),
    (document(element("mask", **MASK | {"left": 4})), "lies partly outside its image"),
    (document(element("mask", **MASK | {"top": -1})), "lies partly outside its image"),
    (document(element("mask", **MASK | {"width": 0})), "lies partly outside its image"),
    (document(element("mask", rle="1,3")), "its place is not stated"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.xml", text)
    with pytest.raises(FastSCNNError, match=message) as caught:
        FORMAT.read(path, Path("q/a.png"), CLASSES)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(("data", "message"), [
    (document(element("box", "straße", xtl=0, ytl=0, xbr=9, ybr=9)).encode("cp1252"), "is not text in UTF-8; save it as UTF-8"),
    (document(BOX).replace('"utf-8"', '"no-such"').encode(), "is not text in NO-SUCH; save it as UTF-8"),
    (document(BOX).replace('"utf-8"', '"zip"').encode(), "is not text in ZIP"),
])  # fmt: skip
def test_other_encodings(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(FastSCNNError, match=message):
        FORMAT.read(tmp_path / "a.xml", Path("a.png"), CLASSES)
