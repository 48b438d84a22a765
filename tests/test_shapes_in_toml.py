"""Datasets whose labels are shapes, described by a dataset.toml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.check import outlines
from fastscnn.data.check.dataset import check
from fastscnn.media import images

pytest.importorskip("pycocotools")

SQUARES = {"house": (5, 5, 30, 30), "bus": (20, 20, 38, 45)}  # x0, y0, x1, y1; the bus leaves the image


def corners(name: str) -> list[list[int]]:
    left, top, right, bottom = SQUARES[name]
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def coco(root: Path, names: list[str]) -> None:
    flat: list[Any] = [[value for point in corners(name) for value in point] for name in SQUARES]
    (root / "labels.json").write_text(json.dumps({
        "images": [{"id": index, "file_name": f"{name}.png", "height": 40, "width": 50} for index, name in enumerate(names)],
        "categories": [{"id": 7, "name": "house"}, {"id": 9, "name": "bus"}],
        "annotations": [
            {"id": 10 * index + place, "image_id": index, "category_id": (7, 9)[place], "segmentation": [flat[place]]}
            for index in range(len(names)) for place in (0, 1)
        ],
    }))  # fmt: skip


def labelme(root: Path, names: list[str]) -> None:
    for name in names:
        shapes = [{"label": shape, "points": corners(shape), "shape_type": "polygon"} for shape in SQUARES]
        (root / f"{name}.json").write_text(json.dumps({"imageHeight": 40, "imageWidth": 50, "shapes": shapes}))


def yolo(root: Path, names: list[str]) -> None:
    for name in names:
        lines = [" ".join(f"{x / 50} {y / 40}" for x, y in corners(shape)) for shape in SQUARES]
        (root / f"{name}.txt").write_text("\n".join(f"{number} {line}" for number, line in enumerate(lines)))


def cvat(root: Path, names: list[str]) -> None:
    def polygon(shape: str) -> str:
        points = ";".join(f"{x}.0,{y}.0" for x, y in corners(shape))
        return f'<polygon label="{shape}" points="{points}" z_order="0" occluded="0"/>'

    shapes = polygon("house") + polygon("bus")
    found = "".join(f'<image id="{index}" name="{name}.png" width="50" height="40">{shapes}</image>'
                    for index, name in enumerate(names))
    (root / "labels.xml").write_text(f'<?xml version="1.0"?><annotations><version>1.1</version>{found}</annotations>')


FORMATS = {
    "coco": ("labels.json", coco), "labelme": ("{stem}.json", labelme),
    "yolo": ("{stem}.txt", yolo), "cvat": ("labels.xml", cvat),
}  # fmt: skip


def made(root: Path, kind: str, extra: str = "", table: str = "") -> Path:
    """A dataset of two images, each with a bus in front of a house."""
    pattern, write = FORMATS[kind]
    (root / "labels").mkdir(parents=True)
    for index, name in enumerate("ab"):
        images.write(root / f"images/{name}.png", np.full((40, 50, 3), 90 * index, np.uint8))
    write(root / "labels", ["a", "b"])
    (root / "dataset.toml").write_text(
        f'name = "d"\nclasses = ["house", "bus"]\nlabels_are = "{kind}"\n{extra}\n[splits.train]\nimages = "images/*.png"\n'
        f'labels = "labels/{pattern}"\n{table}'
    )
    return root


def read(root: Path) -> list[int]:
    """The labels outside all shapes, in the house, in the bus, and where the bus covers the house."""
    spec = datasets.load(root)
    assert check(spec).ok
    labels = spec.read(spec.pairs("train")[1])[1]
    assert labels.shape == (40, 50)
    return [int(labels[place]) for place in ((2, 2), (10, 10), (35, 35), (25, 25))]


@pytest.mark.parametrize("kind", FORMATS)
def test_shapes(tmp_path: Path, kind: str) -> None:
    assert read(made(tmp_path / "plain", kind)) == [255, 0, 1, 1]
    assert read(made(tmp_path / "background", kind, 'background = "house"')) == [0, 0, 1, 1]
    house, bus = ("0", "1") if kind == "yolo" else ("house", "bus")
    assert read(made(tmp_path / "order", kind, f'order = ["{bus}", "{house}"]')) == [255, 0, 1, 0]
    table = f'[map]\n{house} = "ignore"\n{bus} = "house"\n'
    assert read(made(tmp_path / "map", kind, table=table)) == [255, 255, 0, 0]
    assert read(made(tmp_path / "rest", kind, table=f'[map]\n{house} = "bus"\n"*" = "ignore"\n'))[1:2] == [1]


@pytest.mark.parametrize("kind", FORMATS)
def test_names_of_no_class_are_one_error(tmp_path: Path, kind: str) -> None:
    root = made(tmp_path, kind)
    text = (root / "dataset.toml").read_text().replace('"house", "bus"', '"houses"')
    (root / "dataset.toml").write_text(text)
    spec = datasets.load(root)
    with pytest.raises(FastSCNNError, match=r"labels/.*: There is no name '(house|bus|1)'.*add it to \[map\] in dataset.toml"):
        spec.read(spec.pairs("train")[0])
    for report in (check(spec, cache=tmp_path / "cache"), check(spec, cache=tmp_path / "cache")):
        (finding,) = (finding for finding in report.findings if finding.severity == "error")
        assert finding.kind == "unknown-names"
        assert finding.message.startswith(f"{finding.path}: shapes of the split 'train' have names that are no class of d: ")
        first = f"2 shapes in 2 images, first in {finding.path.relative_to(root)}"
        of_names = f"'house' ({first}; did you mean 'houses'?), 'bus' ({first})."
        assert finding.message.endswith(f"'1' ({first})." if kind == "yolo" else of_names)


def test_most_frequent_names_of_no_class(tmp_path: Path) -> None:
    root = made(tmp_path, "labelme")
    for name, labels in (("a", range(12)), ("b", (7, 3, 3))):
        shapes = [{"label": f"thing {label}", "points": corners("bus")} for label in labels]
        (root / f"labels/{name}.json").write_text(json.dumps({"imageHeight": 40, "imageWidth": 50, "shapes": shapes}))
    (finding,) = (finding for finding in check(datasets.load(root)).findings if finding.severity == "error")
    assert ": 'thing 3' (3 shapes in 2 images, first in labels/a.json), 'thing 7' (2 shapes" in finding.message
    assert finding.message.endswith(" and 4 more.")


@pytest.mark.parametrize("labels", ["labels/ann.json", "{1}/ann.json"])
def test_one_file_of_many_images_is_no_shared_label_file(tmp_path: Path, labels: str) -> None:
    root = made(tmp_path, "coco")
    text = (root / "dataset.toml").read_text().replace("images/*", "*/*").replace("labels/labels.json", labels)
    (root / "dataset.toml").write_text(text)
    (root / "labels/labels.json").rename(root / labels.format("*", "images"))
    assert {finding.kind for finding in check(datasets.load(root)).findings} == {"outside-shapes"}


BOW_TIE = [[5, 5], [35, 35], [35, 5], [5, 35]]
FAR_LEFT = [[-30, 5], [20, 5], [20, 30], [-30, 30]]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("bus", "found", "message"), [
    (BOW_TIE, "crossing-outlines", "cross themselves, so that over 5 % of their area is lost or added"),
    (FAR_LEFT, "outside-shapes", "leave their image by more than 1 % of its side"),
])  # fmt: skip
def test_odd_outlines_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, bus: list[list[int]], found: str, message: str
) -> None:
    if kind == "yolo" and bus is FAR_LEFT:
        pytest.skip("an error of its own in YOLO's files")
    right = {name: corners(name) for name in SQUARES}
    monkeypatch.setitem(globals(), "corners", lambda name: bus if name == "bus" else right[name])
    spec = datasets.load(made(tmp_path, kind))
    for report in (check(spec, cache=tmp_path / "cache"), check(spec, cache=tmp_path / "cache")):
        finding = next(finding for finding in report.findings if finding.kind == found)
        assert (finding.severity, report.ok) == ("warning", True)
        place = {"coco": "annotation 1", "labelme": "shape 1", "yolo": "line 2", "cvat": "polygon 1 of the image 'a.png'"}[kind]
        said = f"2 outlines of 2 images of the split 'train' {message}, such as {place} of images/a.png."
        assert finding.message == f"{finding.path}: {said}"


def test_one_outline_is_in_the_singular(tmp_path: Path) -> None:
    root = made(tmp_path, "labelme")
    path = root / "labels/a.json"
    path.write_text(path.read_text().replace(json.dumps(corners("house")), json.dumps(BOW_TIE)))
    finding = next(finding for finding in check(datasets.load(root)).findings if finding.kind == "crossing-outlines")
    said = "1 outline of 1 image of the split 'train' crosses itself, so that over 5 % of its area is lost or added"
    assert finding.message == f"{path}: {said}: shape 0 of images/a.png."


RECTANGLES = [[[5, 5], [30, 5], [30, 30], [5, 30]], [[10, 5], [20, 15], [15, 20], [5, 10]],
              [[5, 5], [9, 5], [9, 9], [5, 9], [5, 5]]]
TRIANGLE, RHOMBUS = [[5, 5], [30, 5], [30, 30]], [[5, 15], [15, 12], [25, 15], [15, 18]]


@pytest.mark.parametrize(("others", "found"), [([], True), ([TRIANGLE], False), ([RHOMBUS], False), (["circle"], False)])
def test_boxes_in_place_of_shapes(tmp_path: Path, others: list[Any], found: bool) -> None:
    root = made(tmp_path, "labelme")
    for name in "ab":
        more = others if name == "b" else []
        shapes = [{"label": "bus", "points": outline} for outline in (*RECTANGLES, *RECTANGLES, *more) if outline != "circle"]
        shapes += [{"label": "bus", "points": [[5, 5], [9, 9]], "shape_type": kind} for kind in ("rectangle", *more)
                   if isinstance(kind, str)]
        (root / f"labels/{name}.json").write_text(json.dumps({"imageHeight": 40, "imageWidth": 50, "shapes": shapes}))
    for report in (check(datasets.load(root), cache=tmp_path / "cache"), check(datasets.load(root), cache=tmp_path / "cache")):
        findings = [finding for finding in report.findings if finding.kind == "boxes-as-shapes"]
        assert len(findings) == found
        for finding in findings:
            assert finding.severity == "warning"
            assert "all 14 shapes of d are rectangles, as boxes of a dataset for object detection" in finding.message


@pytest.mark.parametrize("kind", FORMATS)
def test_boxes_of_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(outlines, "LEAST_BOXES", 4)
    root = made(tmp_path, kind)
    assert [finding.kind for finding in check(datasets.load(root)).findings].count("boxes-as-shapes") == 1
    monkeypatch.setattr(outlines, "LEAST_BOXES", 5)
    assert "boxes-as-shapes" not in {finding.kind for finding in check(datasets.load(root)).findings}


@pytest.mark.parametrize(("named", "found"), [
    ("../images/b.png", True), ("..\\images\\b.png", True), ("../images/a.png", False), ("../images/c.png", False),
    ("a.jpg", False), (3, False),
])  # fmt: skip
def test_the_image_that_labelme_would_open(tmp_path: Path, named: Any, found: bool) -> None:
    root = made(tmp_path, "labelme")
    path = root / "labels/a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": named}))
    findings = [finding for finding in check(datasets.load(root)).findings if finding.kind == "other-image"]
    assert len(findings) == found
    for finding in findings:
        assert (finding.severity, finding.path) == ("warning", path)
        other = root / "labels/../images/b.png"
        assert finding.message == f"{path}: names the image {other} (imagePath), but is paired with {root / 'images/a.png'}."


points = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=9)


def crosses(outline: list[tuple[int, int]]) -> bool:
    def side(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
        return int(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    edges = list(zip(outline, [*outline[1:], outline[0]], strict=True))
    return any(side(a, b, c) * side(a, b, d) < 0 > side(c, d, a) * side(c, d, b) for a, b in edges for c, d in edges)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(outline=points)
def test_crossings_are_exact(outline: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for block in (2, 256):
            patch.setattr(outlines, "BLOCK", block)
            assert outlines._crosses(np.array(outline, np.float64)) == crosses(outline)


def test_crossings_of_very_long_outlines_are_not_looked_for() -> None:
    bow_ties = np.array(BOW_TIE * 1250, np.float64)  # 5,000 edges
    assert outlines._crosses(bow_ties)
    assert not outlines._crosses(np.vstack([bow_ties, bow_ties[:1]]))


@pytest.mark.parametrize(("outline", "lost"), [
    (BOW_TIE, True),
    ([[0, 0], [100, 0], [100, 100], [50, 0.5], [50, -0.5], [0, 100]], False),  # crosses itself by half a pixel
    ([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0], [6, 0], [6, 6], [0, 6]], True),  # encloses a part twice
])  # fmt: skip
def test_area_that_is_lost(outline: list[list[float]], lost: bool) -> None:
    assert outlines._changes_area(np.array(outline, np.float64)) == lost


def test_a_bridge_to_a_hole_is_no_crossing() -> None:
    ring = [[0, 0], [30, 0], [30, 30], [0, 30], [0, 10], [10, 10], [10, 20], [20, 20], [20, 10], [10, 10], [0, 10]]
    assert not outlines._crosses(np.array(ring, np.float64))


@pytest.mark.parametrize("kind", ["coco", "cvat"])
def test_listed_images_that_are_missing(tmp_path: Path, kind: str) -> None:
    root = made(tmp_path, kind)
    FORMATS[kind][1](root / "labels", ["a", "b", "sub/c", "d"])
    finding = next(finding for finding in check(datasets.load(root)).findings if finding.kind != "outside-shapes")
    file = root / "labels" / FORMATS[kind][0]
    assert (finding.kind, finding.severity, finding.path) == ("extra-labels", "warning", file)
    assert finding.message == f"{file}: lists 2 images that no split reads from it, such as sub/c.png."
    with (root / "dataset.toml").open("a") as toml:  # a file may serve several splits
        toml.write(f'[splits.val]\nimages = "more/*.png"\nlabels = "labels/{FORMATS[kind][0]}"\n')
    for seed, name in enumerate("cd"):
        images.write(root / f"more/{name}.png", np.full((40, 50, 3), seed + 7, np.uint8))
    for report in (check(datasets.load(root)), check(datasets.load(root), ["train"])):
        assert {finding.kind for finding in report.findings} == {"outside-shapes"}


def test_a_changed_mask_of_label_studio_is_read_again(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    images.write(masks / "a.jpg", np.zeros((40, 50, 3), np.uint8))
    tasks = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}]
    (masks / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "dataset.toml").write_text('name = "d"\nclasses = ["house", "bus"]\nlabels_are = "label-studio"\n'
                                           '[splits.test]\nimages = "masks/*.jpg"\nlabels = "masks/tasks.json"\n')
    spec = datasets.load(tmp_path)

    def pixels() -> list[int]:
        cached = check(spec, cache=tmp_path / "cache")
        assert cached == check(spec, cache=tmp_path / "cache") == check(spec)
        assert {finding.kind for finding in cached.findings} <= {"one-class"}, "masks are no images that are left out"
        return list(cached.pixels["test"])

    def mask(columns: int, name: str) -> None:
        drawn = np.zeros((40, 50), np.uint8)
        drawn[:, :columns] = 255
        images.write(masks / f"task-1-annotation-8-by-1-tag-{name}-0.png", drawn)

    mask(20, "house")
    assert pixels() == [800, 0]
    mask(10, "house")
    assert pixels() == [400, 0], "another content"
    (masks / "task-1-annotation-8-by-1-tag-house-0.png").rename(masks / "task-1-annotation-8-by-1-tag-bus-0.png")
    assert pixels() == [0, 400], "another name"
    mask(15, "house")
    assert pixels() == [600, 0], "one more, above the first"
    mask(15, "hose")
    (finding,) = (finding for finding in check(spec, cache=tmp_path / "cache").findings if finding.severity == "error")
    assert "'hose' (1 shape in 1 image, first in masks/tasks.json; did you mean 'house'?)" in finding.message
