"""Annotations: exact outlines, simplification without gaps, and files that the tools' own code reads back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from fastscnn.annotations import polygons, regions, rle
from fastscnn.annotations.polygons import Polygon, trace
from fastscnn.annotations.writer import AnnotationFormat, AnnotationWriter
from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import BoolArray, UInt8Array
from fastscnn.cli import main
from fastscnn.data import synthetic
from fastscnn.inference.segmentation import Segmentation
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with NumPy 2
NAMES = LabelSet(("road", "car", 'a "sky": 1', "tree"))
Rasterise = Callable[[Any, int, int], BoolArray]


@st.composite
def label_maps(draw: st.DrawFn) -> UInt8Array:
    """Labels of 1 to 4 classes, of single pixels or of blocks; from 1x1 on."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    small = draw(arrays(np.uint8, shape, elements=st.integers(0, draw(st.integers(0, 3)))))
    return np.kron(small, np.ones(draw(st.sampled_from([(1, 1), (2, 3), (1, 4)])), np.uint8)).astype(np.uint8)


def by_pycocotools(points: Any, height: int, width: int) -> BoolArray:
    mask = pytest.importorskip("pycocotools.mask")
    rles = mask.frPyObjects([np.asarray(points, np.float64).ravel().tolist()], height, width)
    return np.asarray(mask.decode(mask.merge(rles)), bool)


def by_labelme(points: Any, height: int, width: int) -> BoolArray:
    """`labelme.utils.shape_to_mask` of version 6.3.1 for a polygon."""
    mask = Image.fromarray(np.zeros((height, width), np.uint8))
    xy = [tuple(point) for point in np.asarray(points).reshape(-1, 2).tolist()]
    assert len(xy) > 2, "Polygon must have points more than 2"
    ImageDraw.Draw(mask).polygon(xy=xy, outline=1, fill=1)
    return np.array(mask, bool)


def by_ultralytics(points: Any, height: int, width: int) -> BoolArray:
    """`ultralytics.data.utils.polygon2mask` of version 8.4."""
    cv2 = pytest.importorskip("cv2")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, np.asarray([np.asarray(points).ravel()], np.int32).reshape(1, -1, 2), color=1)
    return np.array(mask, bool)


def drawn(found: list[Polygon], rasterise: Rasterise, shape: tuple[int, int]) -> tuple[UInt8Array, UInt8Array]:
    """Return the labels that polygons show, 255 without one, and the number of polygons over each pixel."""
    labels, count = np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)
    for polygon in found:
        mask = rasterise(polygon.points, *shape)
        labels[mask] = polygon.label
        count += mask
    return labels, count


@pytest.mark.parametrize(("rasterise", "centres"), [(by_pycocotools, False), (by_labelme, True), (by_ultralytics, True)])
@settings(max_examples=150, derandomize=True, deadline=None)
@given(labels=label_maps())
def test_exact_polygons_are_the_labels(rasterise: Rasterise, centres: bool, labels: UInt8Array) -> None:
    """Each pixel is in one polygon, that of its region: in whatever order they are drawn, the labels come back."""
    found = trace(labels, 0, 1, centres)
    back, count = drawn(found, rasterise, labels.shape)
    np.testing.assert_array_equal(back, labels)
    assert (count == 1).all()
    assert [polygon.pixels for polygon in found] == sorted((polygon.pixels for polygon in found), reverse=True)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(labels=label_maps())
def test_regions_are_those_of_opencv(labels: UInt8Array) -> None:
    cv2 = pytest.importorskip("cv2")
    numbers = regions.connected(labels)
    assert sorted(np.unique(numbers)) == list(range(numbers.max() + 1))
    expected = sum(cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)[0] - 1 for label in range(4))
    assert numbers.max() + 1 == expected
    assert (regions.values(labels, numbers)[numbers] == labels).all()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(labels=label_maps(), tolerance=st.sampled_from([0.6, 1.0, 2.5]))
def test_a_simplified_outline_stays_within_the_tolerance(labels: UInt8Array, tolerance: float) -> None:
    for ring in regions.rings(regions.connected(labels)):
        kept = polygons._simplified(ring, tolerance)
        line = ring.points[kept].astype(np.float64)
        distances = [polygons._distances(ring.points.astype(np.float64), start, end)
                     for start, end in zip(line, np.roll(line, -1, axis=0), strict=True)]
        assert np.min(distances, axis=0).max() <= tolerance


def test_neighbours_keep_a_common_border() -> None:
    """A slanted border becomes one line for both sides, so that no pixel is in both or in none."""
    labels = (np.arange(60)[:, None] * 2 > np.arange(90)[None]).astype(np.uint8)
    labels[20:40, 30:50] = 2
    labels[25:32, 35:45] = 3
    found = trace(labels, 1)
    assert sum(len(polygon.points) for polygon in found) < 40 < sum(len(polygon.points) for polygon in trace(labels, 0, 1))
    back, count = drawn(found, by_pycocotools, labels.shape)
    assert (count == 1).all()
    assert (back == labels).mean() > 0.99


def test_small_regions_join_the_neighbour_with_the_longest_border() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:] = 1
    labels[5:7, 13:16] = 2  # longer along 0
    labels[0, 0] = 3
    expected = np.zeros((20, 30), np.uint8)
    expected[:, 15:] = 1
    expected[5:7, 13:16] = 0
    np.testing.assert_array_equal(regions.absorb(labels, 10), expected)
    assert {polygon.label for polygon in trace(labels, min_area=1)} == {0, 1, 2, 3}


@settings(max_examples=80, derandomize=True, deadline=None)
@given(labels=label_maps(), min_area=st.integers(1, 12))
def test_no_small_region_is_left(labels: UInt8Array, min_area: int) -> None:
    absorbed = regions.absorb(labels, min_area)
    sizes = np.bincount(regions.connected(absorbed).ravel())
    assert sizes.min() >= min(min_area, labels.size)
    large = np.bincount(regions.connected(labels).ravel())[regions.connected(labels)] >= min_area
    np.testing.assert_array_equal(absorbed[large], labels[large])


@settings(max_examples=100, derandomize=True, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_rle_is_that_of_pycocotools(mask: BoolArray) -> None:
    oracle = pytest.importorskip("pycocotools.mask").encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask) == {"size": list(oracle["size"]), "counts": oracle["counts"].decode()}


def test_rle_of_long_runs() -> None:
    mask = np.zeros((3000, 700), bool)
    mask[100:2000, 3:600] = True
    oracle = pytest.importorskip("pycocotools.mask").encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask)["counts"] == oracle["counts"].decode()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"labels": np.zeros((2, 2))}, "labels: must be a uint8 array"),
    ({"labels": np.zeros((2, 0), np.uint8)}, "labels: must be a uint8 array"),
    ({"tolerance": -1}, "tolerance: must be a number of pixels"),
    ({"tolerance": float("nan")}, "tolerance: must be a number of pixels"),
    ({"min_area": 0}, "min_area: must be at least 1"),
])
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        trace(**{"labels": np.zeros((2, 2), np.uint8), **arguments})


def test_ignored_pixels_have_no_polygon() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:10, 5:10] = 255
    (polygon,) = trace(labels)
    assert (polygon.label, polygon.pixels) == (0, 375)
    np.testing.assert_array_equal(by_pycocotools(polygon.points, 20, 20), labels == 0)


def test_polygons_of_a_segmentation_leave_out_the_ood_mask() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 1
    unknown = np.zeros((20, 20), bool)
    unknown[:5] = True
    found = Segmentation(labels, NAMES, ood_mask=unknown).polygons(0)
    back, _ = drawn(found, by_pycocotools, labels.shape)
    np.testing.assert_array_equal(back, np.where(unknown, 255, labels))


SCENE = synthetic.draw(96, 128, 3).labels % np.uint8(4)


def write(kind: AnnotationFormat, tolerance: float = 0, min_area: int = 1) -> Path:
    """Write the labels of two images in the working folder; return the last file."""
    with AnnotationWriter(kind, "out", NAMES, tolerance, min_area) as writer:
        writer.add("in/a.jpg", SCENE)
        return writer.add("in/b.jpg", SCENE[::-1, ::-1].copy())


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["coco", "coco-rle"])
def test_coco_files_are_read_by_pycocotools(kind: AnnotationFormat, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools import mask
    from pycocotools.coco import COCO

    path = write(kind)
    assert path == Path("out/coco.json")
    assert [file.name for file in Path("out").iterdir()] == ["coco.json"]
    coco = COCO(str(path))
    capsys.readouterr()
    assert [(entry["id"], entry["name"]) for entry in coco.loadCats(coco.getCatIds())] == list(enumerate(NAMES.names, 1))
    for number, (name, expected) in enumerate({"a.jpg": SCENE, "b.jpg": SCENE[::-1, ::-1]}.items(), 1):
        (image,) = coco.loadImgs(number)
        assert image == {"id": number, "file_name": name, "height": 96, "width": 128}
        back, count = np.full(SCENE.shape, 255, np.uint8), np.zeros(SCENE.shape, np.uint8)
        for entry in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            drawn_mask = coco.annToMask(entry)
            back[drawn_mask > 0] = entry["category_id"] - 1
            count += drawn_mask
            assert (entry["iscrowd"], entry["area"]) == (0, drawn_mask.sum())
            assert entry["bbox"] == mask.toBbox(coco.annToRLE(entry)).tolist()
        np.testing.assert_array_equal(back, expected)
        assert (count == 1).all()
    assert len(set(coco.getAnnIds())) == len(coco.dataset["annotations"])


def test_labelme_files_are_drawn_as_labelme_does() -> None:
    images.write(Path("in/a.jpg"), np.zeros((96, 128, 3), np.uint8))
    write("labelme")
    assert sorted(file.name for file in Path("out").iterdir()) == ["a.json", "b.json", "labels.txt"]
    assert Path("out/labels.txt").read_text() == "".join(f"{name}\n" for name in NAMES.names)
    table = json.loads(Path("out/a.json").read_bytes())
    assert Path("out", table["imagePath"]).resolve() == Path("in/a.jpg").resolve()
    assert (table["imageHeight"], table["imageWidth"], table["imageData"]) == (96, 128, None)
    back = np.full(SCENE.shape, 255, np.uint8)
    for shape in table["shapes"]:
        assert shape["shape_type"] == "polygon"
        back[by_labelme(shape["points"], 96, 128)] = NAMES.index(shape["label"])
    np.testing.assert_array_equal(back, SCENE)


def test_yolo_files_are_drawn_as_ultralytics_does() -> None:
    write("yolo")
    assert sorted(str(file) for file in Path("out").rglob("*.*")) == [
        "out/yolo/data.yaml", "out/yolo/labels/a.txt", "out/yolo/labels/b.txt"]
    assert Path("out/yolo/data.yaml").read_text() == (
        'train: images\nval: images\nnames:\n  0: "road"\n  1: "car"\n  2: "a \\"sky\\": 1"\n  3: "tree"\n')
    back = np.full(SCENE.shape, 255, np.uint8)
    for line in Path("out/yolo/labels/a.txt").read_text().splitlines():
        label, *numbers = line.split()
        points = np.array(numbers, np.float32).reshape(-1, 2)
        assert len(numbers) >= 6
        assert points.min() > 0
        assert points.max() < 1
        back[by_ultralytics(points * np.array([128, 96], np.float32), 96, 128)] = int(label)
    np.testing.assert_array_equal(back, SCENE)


@pytest.mark.parametrize("kind", ["coco", "coco-rle", "labelme", "yolo"])
def test_annotations_are_never_replaced(kind: AnnotationFormat) -> None:
    path = write(kind)
    before = path.read_bytes()
    with pytest.raises(FastSCNNError, match="holds annotations already, which may have been corrected; move it away"):
        write(kind)
    assert path.read_bytes() == before


def test_ctrl_c_leaves_a_complete_file() -> None:
    def interrupted() -> None:
        with AnnotationWriter("coco", "out", NAMES) as writer:
            writer.add("a.jpg", SCENE)
            assert not Path("out/coco.json").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [image["file_name"] for image in json.loads(Path("out/coco.json").read_bytes())["images"]] == ["a.jpg"]


def test_two_images_of_one_name() -> None:
    with AnnotationWriter("coco", "out", NAMES) as writer:
        writer.add("p/a.jpg", SCENE)
        with pytest.raises(FastSCNNError, match=r"^out/coco\.json: has an image a\.jpg already; rename one of them"):
            writer.add("q/a.jpg", SCENE)


def test_pixels_of_the_ood_mask_have_no_annotation() -> None:
    with AnnotationWriter("coco-rle", "out", NAMES) as writer:
        unknown = np.ones(SCENE.shape, bool)
        unknown[:4] = False
        writer.write(writer.describe(Path("a.jpg"), Path("out/a"), SCENE, unknown))
    assert sum(entry["area"] for entry in json.loads(Path("out/coco.json").read_bytes())["annotations"]) == 4 * 128


def test_without_images_there_is_no_file() -> None:
    with AnnotationWriter("coco", "out", NAMES):
        pass
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written() -> None:
    Path("out").touch()
    with pytest.raises(FastSCNNError, match=r"^out/coco\.json: (cannot be written|holds)"):
        write("coco")


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let writes fail beyond this size, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("more", [0, 10, 500])
@pytest.mark.parametrize("first", [False, True])
def test_a_full_disk_costs_the_image_that_does_not_fit(first: bool, more: int) -> None:
    with AnnotationWriter("coco", "out", NAMES) as writer:
        if not first:
            writer.add("a.jpg", SCENE)
        (size,) = [part.stat().st_size for part in Path("out").glob(".*.part")] or [0]
        with no_file_above(size + more), pytest.raises(FastSCNNError, match=r"^out/coco\.json: cannot be written \("):
            writer.add("b.jpg", SCENE)
        writer.add("c.jpg", SCENE)
        writer.add("b.jpg", SCENE)
    table = json.loads(Path("out/coco.json").read_bytes())
    names = ["c.jpg", "b.jpg"] if first else ["a.jpg", "c.jpg", "b.jpg"]
    assert [(image["id"], image["file_name"]) for image in table["images"]] == list(enumerate(names, 1))
    per_image = len(table["annotations"]) // len(names)
    assert [(entry["id"], entry["image_id"]) for entry in table["annotations"]] == [
        (number + 1, number // per_image + 1) for number in range(per_image * len(names))]
    assert [file.name for file in Path("out").iterdir()] == ["coco.json"]


def test_a_coco_file_that_cannot_be_completed() -> None:
    def full() -> None:
        with AnnotationWriter("coco", "out", NAMES) as writer:
            writer.add("a.jpg", SCENE)
            (part,) = Path("out").iterdir()
            size.append(part.stat().st_size)
            limit.enter_context(no_file_above(size[0] + 10))

    size: list[int] = []
    with ExitStack() as limit, pytest.raises(FastSCNNError, match="the annotations of its 1 images are missing"):
        full()
    assert list(Path("out").iterdir()) == []


def test_a_coco_file_without_an_image_that_fits() -> None:
    with AnnotationWriter("coco", "out", NAMES) as writer, no_file_above(10), pytest.raises(FastSCNNError):
        writer.add("a.jpg", SCENE)
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(("kind", "blocked"), [("labelme", "out/a.json"), ("yolo", "out/yolo/labels/a.txt")])
@pytest.mark.parametrize("reason", ["folder", "permission"])
def test_a_file_that_cannot_be_written_does_not_end_the_batch(
    tiny_onnx: Path, stripes: synthetic.Scene, kind: str, blocked: str, reason: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b", "c"):
        images.write(Path(f"in/{name}.png"), stripes.image)
    if reason == "folder":
        Path(blocked).mkdir(parents=True)
    else:
        write = files.write

        def refused(path: Path, data: bytes, durable: bool = True) -> None:
            if str(path) == blocked:
                raise FastSCNNError(f"{path}: cannot be written (Permission denied); the old file, if any, is kept.")
            write(path, data, durable)

        monkeypatch.setattr(files, "write", refused)
    assert main(["segment", "in", "--weights", str(tiny_onnx), "--out", "out", "--annotations", kind, "--json"]) == 1
    printed = capsys.readouterr()
    first, *others = [json.loads(line) for line in printed.out.splitlines()]
    assert {"image", "labels", "overlay", "error"} <= set(first)
    assert "annotations" not in first
    assert first["error"].startswith(f"in/a.png: {blocked}: cannot be written (")
    assert [line["image"] for line in others] == ["in/b.png", "in/c.png"]
    assert all(Path(line["annotations"]).is_file() for line in others)
    assert "The annotations of 1 of 3 images are missing; their other results are written." in printed.err
    assert "images failed" not in printed.err


def test_a_folder_with_the_name_of_the_coco_file() -> None:
    Path("out/coco.json").mkdir(parents=True)
    with pytest.raises(FastSCNNError, match=r"^out/coco\.json: is a folder; move it away"):
        write("coco")


def test_a_data_yaml_of_other_classes() -> None:
    """The class ids in the text files would have other meanings."""
    write("yolo")
    with AnnotationWriter("yolo", "out", LabelSet(("sky", "road", "car", "tree"))) as writer:
        with pytest.raises(FastSCNNError, match=r"^out/yolo/data\.yaml: names other classes; move it away"):
            writer.add("in/c.jpg", SCENE)
        assert not Path("out/yolo/labels/c.txt").exists()
    table = Path("out/yolo/data.yaml")
    table.write_text(f"{table.read_text()}nc: {len(NAMES.names)}  # as some versions want\n")
    with AnnotationWriter("yolo", "out", NAMES) as writer:
        writer.add("in/c.jpg", SCENE)
    table.write_text(table.read_text().replace("nc:", f"  {len(NAMES.names)}: more\nnc:"))
    with AnnotationWriter("yolo", "out", NAMES) as writer, pytest.raises(FastSCNNError, match="names other classes"):
        writer.refuse_taken([])
    table.write_bytes(b"\xff")
    with AnnotationWriter("yolo", "out", NAMES) as writer, pytest.raises(FastSCNNError, match=r"data\.yaml: cannot be read"):
        writer.add("in/d.jpg", SCENE)


@pytest.mark.parametrize("content", ["sky\nroad\ncar\ntree\n", "road\n", "more\n" + "\n".join(NAMES.names)])
def test_a_labels_txt_of_other_classes(content: str) -> None:
    """People may have written it; its order is that of the classes."""
    path = Path("out/labels.txt")
    path.parent.mkdir()
    path.write_text(content)
    with AnnotationWriter("labelme", "out", NAMES) as writer:
        with pytest.raises(FastSCNNError, match=r"^out/labels\.txt: names other classes; move it away, or choose another"):
            writer.add("in/a.jpg", SCENE)
        assert path.read_text() == content
        assert not Path("out/a.json").exists()
    path.write_bytes("\r\n".join(NAMES.names).encode())
    with AnnotationWriter("labelme", "out", NAMES) as writer:
        writer.add("in/a.jpg", SCENE)
    assert path.read_bytes() == "\r\n".join(NAMES.names).encode()
    path.write_bytes(b"\xff")
    with AnnotationWriter("labelme", "out", NAMES) as writer, pytest.raises(FastSCNNError, match=r"labels\.txt: cannot be"):
        writer.add("in/b.jpg", SCENE)


@pytest.mark.parametrize("kind", ["coco", "coco-rle", "labelme", "yolo"])
@pytest.mark.parametrize(("arguments", "message"), [
    ({"tolerance": -1}, "tolerance: must be a number of pixels, at least 0, not -1"),
    ({"tolerance": float("nan")}, "tolerance: .* not nan"),
    ({"tolerance": float("inf")}, "tolerance: .* not inf"),
    ({"tolerance": "1"}, "tolerance: .* not '1'"),
    ({"tolerance": None}, "tolerance: .* not None"),
    ({"min_area": 0}, "min_area: must be at least 1, not 0"),
    ({"min_area": 1.5}, "min_area: must be a whole number"),
    ({"label_set": ("road", "car")}, "label_set: must be a LabelSet, not "),
    ({"folder": 3}, "A path is needed, not 3"),
])
def test_wrong_settings(kind: AnnotationFormat, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AnnotationWriter(**{"kind": kind, "folder": "out", "label_set": NAMES, **arguments})


@pytest.mark.parametrize("kind", ["coco", "coco-rle", "labelme", "yolo"])
@pytest.mark.parametrize(("labels", "message"), [
    (np.zeros((4, 4), np.int64), "labels: must be a uint8 array"),
    (np.zeros((4, 4)), "labels: must be a uint8 array"),
    (np.zeros((4, 4, 1), np.uint8), "labels: must be a uint8 array"),
    (np.zeros((0, 4), np.uint8), "labels: must be a uint8 array"),
    ([[0, 1]], "labels: must be a uint8 array"),
    (np.array([[0, 4]], np.uint8), "labels: contain the id 4, and there are 4 classes; use 0 to 3, or 255"),
    (np.array([[254, 255]], np.uint8), "labels: contain the id 254"),
])
def test_wrong_labels(kind: AnnotationFormat, labels: Any, message: str) -> None:
    with AnnotationWriter(kind, "out", NAMES) as writer, pytest.raises(ArgumentError, match=message):
        writer.add("a.jpg", labels)
    assert not Path("out").exists()


def test_wrong_masks_and_places() -> None:
    writer = AnnotationWriter("labelme", "out", NAMES)
    masks: list[Any] = [np.zeros((96, 127), bool), np.zeros(SCENE.shape, np.uint8), SCENE.tolist()]
    for mask in masks:
        with pytest.raises(ArgumentError, match="ood_mask: must be a bool array of the shape of the labels"):
            writer.describe(Path("a.jpg"), Path("out/a"), SCENE, mask)
    with pytest.raises(ArgumentError, match="result: must be in out, not elsewhere/a"):
        writer.describe(Path("a.jpg"), Path("elsewhere/a"), SCENE)


@pytest.mark.parametrize("kind", ["coco", "coco-rle", "labelme", "yolo"])
def test_labels_without_any_annotation(kind: AnnotationFormat) -> None:
    with AnnotationWriter(kind, "out", NAMES) as writer:
        path = writer.add("a.jpg", np.full((4, 4), 255, np.uint8))
    assert path.is_file()


def test_unknown_format() -> None:
    with pytest.raises(ArgumentError, match=r"There is no annotation format 'cocoo'\. Did you mean 'coco'\?"):
        AnnotationWriter("cocoo", "out", NAMES)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "tolerance", "least"), [
    ("coco", 0.5, 98.5), pytest.param("coco", 0.75, 97, marks=pytest.mark.slow),
    pytest.param("labelme", 0.75, 97, marks=pytest.mark.slow),
])  # fmt: skip
def test_accuracy_of_simplified_polygons(camvid_root: Path, kind: str, tolerance: float, least: float) -> None:
    """The figures of docs/datasets.md: mIoU of label files of CamVid after the way through simplified polygons."""
    confusion = np.zeros((12, 256), np.int64)
    for path in sorted((camvid_root / "valannot").iterdir())[::20]:
        labels = images.read_values(path)[0].astype(np.uint8)
        found = trace(labels, tolerance, 10, centres=kind == "labelme")
        back, _ = drawn(found, by_labelme if kind == "labelme" else by_pycocotools, labels.shape)
        pairs = labels.ravel().astype(np.int64) * 256 + back.ravel()
        confusion += np.bincount(pairs, minlength=12 * 256).reshape(12, 256)
    hit = np.diag(confusion[:, :12])
    union = confusion.sum(axis=1) + confusion[:, :12].sum(axis=0) - hit
    assert 100 * (hit / union).mean() > least


@pytest.mark.parametrize(("kind", "names"), [
    ("coco", {"out/coco.json"}), ("labelme", {"out/a.json", "out/x/b.json"}),
    ("yolo", {"out/yolo/labels/a.txt", "out/yolo/labels/x/b.txt"}),
])
def test_command_line(
    tiny_onnx: Path, stripes: synthetic.Scene, kind: str, names: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in/a.png", "in/x/b.png"):
        images.write(Path(name), stripes.image)
    words = ["segment", "in", "--weights", str(tiny_onnx), "--out", "out", "--annotations", kind, "--json"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["annotations"] for line in lines} == names
    assert all(Path(name).exists() for name in names)
    if kind == "coco":
        table = json.loads(Path("out/coco.json").read_bytes())
        assert [image["file_name"] for image in table["images"]] == ["a.png", "x/b.png"]
        assert [entry["bbox"] for entry in table["annotations"][:3]] == [[64 * k, 0, 64, 128] for k in range(3)]
    assert main(words) == 1
    assert "holds annotations already" in capsys.readouterr().err


def test_command_line_refuses_videos(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    Path("a.mp4").touch()
    assert main(["segment", "a.mp4", "--weights", str(tiny_onnx), "--annotations", "coco"]) == 2
    assert "annotations: for images only" in capsys.readouterr().err
