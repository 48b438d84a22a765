"""The same datasets, written or read by the tools themselves. Each function needs a package that is not a dependency of ours.

The labels are those that the tool reads back from its own files, unless it has no reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn.base.types import UInt8Array
from made import masks
from made.scenes import (
    BY_SPLIT,
    COLOURS,
    COUNT,
    NAMES,
    Made,
    Writer,
    inside,
    of_centres,
    photo,
    photos,
    save,
    shapes,
    size,
    split,
    text,
    truth,
)
from made.shapes import task


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs PyPI's {name.partition('.')[0]}", exc_type=ImportError)


def exported(root: Path, form: str, kind: str) -> Made:
    """Let datumaro write polygons or masks; CVAT exports through it."""
    dm = package("datumaro")
    media = package("datumaro.components.media").Image
    kinds = dm.AnnotationType
    items = []
    for number in range(COUNT):
        found = []
        for place, (name, points) in enumerate(shapes(number)):
            flat = [value for point in points for value in point]
            about = {"label": NAMES.index(name), "z_order": place, "id": 10 * number + place + 1, "group": place + 1}
            found.append(dm.Polygon(flat, **about) if kind == "polygon" else dm.Mask(inside(points, *size(number)), **about))
        image = media.from_numpy(np.ascontiguousarray(photo(number)[:, :, ::-1]))
        items.append(dm.DatasetItem(id=f"street_{number}", subset=split(number), media=image, annotations=found))
    categories = {kinds.label: dm.LabelCategories.from_iterable(NAMES), kinds.mask: dm.MaskCategories(dict(enumerate(COLOURS)))}
    dm.Dataset.from_iterable(items, categories=categories).export(str(root), form, save_media=True)
    return Made(splits=BY_SPLIT)


def coco(root: Path) -> Made:
    return exported(root, "coco_instances", "polygon")


def coco_masks(root: Path) -> Made:
    return exported(root, "coco_instances", "mask")


def coco_panoptic(root: Path) -> Made:
    """Pixels without a mask are of no segment."""
    exported(root, "coco_panoptic", "mask")
    return Made(names=NAMES[1:], splits=BY_SPLIT, labels=lambda number: truth(number) - np.uint8(1))


def cvat(root: Path) -> Made:
    return exported(root, "cvat", "polygon")


def voc(root: Path) -> Made:
    return exported(root, "voc_segmentation", "mask")


def camvid(root: Path) -> Made:
    return exported(root, "camvid", "mask")


def labelme(root: Path) -> Made:
    """Polygons, a rectangle and a mask, saved by labelme; read back by `shapes_to_label`."""
    files, utils = package("labelme._label_file"), package("labelme.utils")
    photos(root, "{n}.jpg")
    for number in range(COUNT):
        (height, width), (road, car, tree) = size(number), (points for _, points in shapes(number))
        left, top, right, bottom = of_centres(car)[0] + of_centres(car)[2]
        mask = utils.img_arr_to_b64(inside(car, height, width)[top : bottom + 1, left : right + 1].astype(np.uint8))
        things = [
            ("road", of_centres(road), "polygon", None), ("car", [(left, top), (right, bottom)], "mask", mask),
            ("tree", [of_centres(tree)[0], of_centres(tree)[2]], "rectangle", None),
        ]  # fmt: skip
        stored = [{"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
                   "mask": mask} for label, points, kind, mask in things]  # fmt: skip
        files.write_label_file(str(root / f"street_{number}.json"), shapes=stored, image_path=f"street_{number}.jpg",
                               image_height=height, image_width=width, image_data=(root / f"street_{number}.jpg").read_bytes())

    def read(number: int) -> UInt8Array:
        loaded = files.LabelFile(str(root / f"street_{number}.json"))
        ids = {name: place for place, name in enumerate(NAMES)}
        return np.asarray(utils.shapes_to_label((*size(number), 3), loaded.shapes, ids)[0], np.uint8)

    return Made(labels=read)


def yolo(root: Path) -> Made:
    """Outlines that ultralytics finds in masks; read back by its `polygon2mask`, where they do not overlap."""
    converter, data = package("ultralytics.data.converter"), package("ultralytics.data.utils")
    photos(root, "images/{s}/{n}.jpg")
    for number in range(COUNT):
        save(root.parent / f"masks/{split(number)}/street_{number}.png", truth(number))
    for name in BY_SPLIT:
        source, labels = str(root.parent / "masks" / name), str(root / "labels" / name)
        converter.convert_segment_masks_to_yolo_seg(source, labels, len(NAMES) - 1)
    text(root / "data.yaml", f"train: images/train\nval: images/val\nnc: 3\nnames: {list(NAMES[1:])}\n")

    def read(number: int) -> UInt8Array:
        labels = np.zeros(size(number), np.uint8)
        for line in (root / f"labels/{split(number)}/street_{number}.txt").read_text().splitlines():
            label, *numbers = line.split()
            points = np.array(numbers, np.float32).reshape(-1, 2) * np.array(size(number)[::-1], np.float32)
            labels[data.polygon2mask(size(number), [points.ravel()]) > 0] = int(label) + 1
        return labels

    return Made(splits=BY_SPLIT, labels=read)


def supervisely(root: Path) -> Made:
    """A project of polygons, bitmaps and rectangles; read back by `Annotation.draw_class_idx_rgb`."""
    sly = package("supervisely")
    kinds = (sly.Polygon, sly.Bitmap, sly.Rectangle)
    classes = [sly.ObjClass(name, kind, list(COLOURS[NAMES.index(name)])) for name, kind in zip(NAMES[1:], kinds, strict=True)]
    project = sly.Project(str(root), sly.OpenMode.CREATE)
    meta = sly.ProjectMeta(obj_classes=sly.ObjClassCollection(classes))
    project.set_meta(meta)
    dataset = project.create_dataset("dataset 1")
    for number in range(COUNT):
        road, car, tree = (points for _, points in shapes(number))
        (left, top), _, (right, bottom), _ = of_centres(tree)
        outline = [sly.PointLocation(y, x) for x, y in of_centres(road)]
        geometries = [sly.Polygon(outline, []), sly.Bitmap(inside(car, *size(number))), sly.Rectangle(top, left, bottom, right)]
        labels = [sly.Label(geometry, one) for geometry, one in zip(geometries, classes, strict=True)]
        (file,) = photos(root.parent, "pictures/{n}.jpg", [number])
        dataset.add_item_file(file.name, str(file), sly.Annotation(size(number), labels))

    def read(number: int) -> UInt8Array:
        path = root / "dataset 1/ann" / f"street_{number}.jpg.json"
        found = sly.Annotation.load_json_file(str(path), meta)
        drawn = np.zeros((*size(number), 3), np.uint8)
        found.draw_class_idx_rgb(drawn, {name: place for place, name in enumerate(NAMES)})
        return drawn[:, :, 0]

    return Made(labels=read)


def label_studio(root: Path, png: bool = False) -> Made:
    """Brushes that the converter encodes; with `png`, its masks beside tasks without regions."""
    brush = package("label_studio_converter.brush")
    photos(root, "images/{n}.jpg")
    tasks, seen = [], {}
    for number in range(COUNT):
        results: list[dict[str, Any]] = []
        for name, points in shapes(number):
            rle = brush.mask2rle(255 * inside(points, *size(number)).astype(np.uint8))
            height, width = size(number)
            results.append({"type": "brushlabels", "from_name": "tag", "original_width": width, "original_height": height,
                            "image_rotation": 0, "value": {"format": "rle", "rle": rle, "brushlabels": [name]}})
        flat = [entry | entry["value"] for entry in results]
        seen[number] = brush.decode_from_annotation("tag", flat)
        if png:
            (root / "export").mkdir(exist_ok=True)
            item = {"id": number + 1, "annotation_id": number + 7, "completed_by": {"email": "a.b@c.d"}}
            brush.convert_task(item | {"output": {"tag": flat}}, str(root / "export"), "png")
        tasks.append(task(number, [] if png else results))
    text(root / ("export/project-1.json" if png else "project-1.json"), json.dumps(tasks))

    def read(number: int) -> UInt8Array:
        """The layers in their order; the masks in that of their names, as the documentation says."""
        labels = np.zeros(size(number), np.uint8)
        for key in sorted(seen[number]) if png else seen[number]:
            labels[seen[number][key] > 0] = NAMES.index(key.split("-")[1])
        return labels

    return Made(labels=read)


def label_studio_png(root: Path) -> Made:
    return label_studio(root, png=True)


def by_mmsegmentation(root: Path, made: Made, zero_is_ignored: bool = False, **places: Any) -> Made:
    """Read by mmsegmentation; it has no writer."""
    dataset, default_scope = package("mmseg.datasets").BaseSegDataset, package("mmseg.utils").register_all_modules
    default_scope()
    load = [{"type": "LoadAnnotations", "reduce_zero_label": zero_is_ignored}]
    found: dict[str, UInt8Array] = {}
    for files, images, labels in places.pop("splits"):
        prefix = {"img_path": images, "seg_map_path": labels}
        loaded = dataset(files, data_root=str(root), data_prefix=prefix, metainfo={"classes": made.names}, pipeline=load,
                         reduce_zero_label=zero_is_ignored, **places)
        found |= {Path(one["img_path"]).stem[-1]: one["gt_seg_map"] for one in loaded}
    assert len(found) == COUNT
    return replace(made, labels=lambda number: found[str(number)])


def mmsegmentation(root: Path) -> Made:
    splits = [("", f"img_dir/{name}", f"ann_dir/{name}") for name in BY_SPLIT]
    return by_mmsegmentation(root, masks.mmsegmentation(root), splits=splits, img_suffix=".png", seg_map_suffix=".png")


def mmsegmentation_lists(root: Path) -> Made:
    splits = [(f"splits/{name}.txt", "images", "labels") for name in BY_SPLIT]
    return by_mmsegmentation(root, masks.mmsegmentation_lists(root), splits=splits)


def ade20k(root: Path) -> Made:
    splits = [("", f"images/{name}", f"annotations/{name}") for name in ("training", "validation")]
    return by_mmsegmentation(root, masks.ade20k(root), True, splits=splits)


# Title of a row of docs/datasets.md, and what is written -> the writer.
BY_TOOLS: Mapping[tuple[str, str], Writer] = {
    ("COCO instances JSON", "datumaro, polygons"): coco,
    ("COCO instances JSON", "datumaro, RLE"): coco_masks,
    ("COCO panoptic JSON", "datumaro"): coco_panoptic,
    ("CVAT for images 1.1, XML", "datumaro"): cvat,
    ("Pascal VOC", "datumaro"): voc,
    ("Colours", "datumaro"): camvid,
    ("LabelMe JSON", "labelme"): labelme,
    ("YOLO segmentation text", "ultralytics"): yolo,
    ("Supervisely JSON", "supervisely"): supervisely,
    ("Label Studio JSON", "label-studio-converter"): label_studio,
    ("Label Studio PNG", "label-studio-converter"): label_studio_png,
    ("mmsegmentation folders", "mmsegmentation"): mmsegmentation,
    ("mmsegmentation lists", "mmsegmentation"): mmsegmentation_lists,
    ("ADE20K, ids from 1", "mmsegmentation"): ade20k,
}
