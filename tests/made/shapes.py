"""Files of shapes, as annotation tools write them. Each tool gets every kind of shape that it has."""

from __future__ import annotations

import base64
import io
import json
import zlib
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastscnn.base.types import BoolArray, UInt8Array
from made.scenes import (
    BY_SPLIT,
    COLOURS,
    COUNT,
    NAMES,
    TRAIN,
    VAL,
    Made,
    Points,
    inside,
    of_centres,
    photos,
    save,
    shapes,
    size,
    split,
    text,
    truth,
)


def flat(points: Points) -> list[int]:
    return [value for point in points for value in point]


def mask_of(points: Points, number: int) -> tuple[BoolArray, int, int]:
    """The pixels of an outline in their own rectangle, and its left and top."""
    mask = inside(points, *size(number))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], int(columns[0]), int(rows[0])


def runs(values: Any) -> list[int]:
    """Lengths of the runs of equal values; the first is of zeros, maybe 0."""
    found = [(value, len(list(group))) for value, group in groupby(np.asarray(values).ravel().tolist())]
    return [*([0] if found[0][0] else []), *(length for _, length in found)]


def png(pixels: UInt8Array, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if options:
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(file, "PNG", **options)
    return file.getvalue()


def coco(root: Path) -> Made:
    """A polygon, a mask in pycocotools' compressed form, and a crowd in plain run lengths."""
    from pycocotools import mask as mask_api

    for name, numbers in BY_SPLIT.items():
        entries, annotations = [], []
        for number in numbers:
            (height, width), (road, car, tree) = size(number), (points for _, points in shapes(number))
            entries.append({"id": number + 100, "file_name": f"street_{number}.jpg", "height": height, "width": width})
            encoded = mask_api.encode(np.asfortranarray(inside(car, height, width).astype(np.uint8)))
            forms: list[tuple[Any, int]] = [
                ([flat(road)], 0),
                ({"size": [height, width], "counts": encoded["counts"].decode()}, 0),
                ({"size": [height, width], "counts": runs(inside(tree, height, width).T)}, 1),
            ]
            annotations += [
                {"id": 10 * number + place, "image_id": number + 100, "category_id": 10 * place, "segmentation": form,
                 "iscrowd": crowd} for place, (form, crowd) in enumerate(forms, 1)
            ]  # fmt: skip
        categories = [{"id": 10 * place, "name": name} for place, name in enumerate(NAMES) if place]
        table = {"images": entries, "annotations": annotations, "categories": categories}
        text(root / f"annotations/instances_{name}.json", json.dumps(table))
        photos(root, "{s}/{n}.jpg", numbers)
    return Made(splits=BY_SPLIT)


def coco_panoptic(root: Path) -> Made:
    """Two segments of cars, one for each half; the first row is of no segment."""
    for name, numbers in BY_SPLIT.items():
        entries, annotations = [], []
        for number in numbers:
            labels, (height, width) = truth(number), size(number)
            ids = np.array([7, 300, 70000, 9], np.uint32)[labels]
            ids[(labels == 2) & (np.arange(width) > 25)] = 16777000
            ids[0] = 0
            pixels = np.stack([ids >> 8 * channel & 255 for channel in range(3)], axis=2).astype(np.uint8)
            save(root / f"annotations/panoptic_{name}/street_{number}.png", pixels)
            segments = [{"id": id_, "category_id": category, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}
                        for id_, category in ((7, 1), (300, 2), (70000, 3), (16777000, 3), (9, 4))]
            entries.append({"id": number + 100, "file_name": f"street_{number}.png", "height": height, "width": width})
            annotations.append({"image_id": number + 100, "file_name": f"street_{number}.png", "segments_info": segments})
        categories = [{"id": place, "name": name, "isthing": int(name == "car")} for place, name in enumerate(NAMES, 1)]
        table = {"images": entries, "annotations": annotations, "categories": categories}
        text(root / f"annotations/panoptic_{name}.json", json.dumps(table))
        photos(root, "{s}/{n}.png", numbers)
    return Made(splits=BY_SPLIT, labels=without_first_row)


def without_first_row(number: int) -> UInt8Array:
    labels = truth(number)
    labels[0] = 255
    return labels


def labelme(root: Path) -> Made:
    """A polygon, a mask and a rectangle. Masks and rectangles name their last pixel."""
    photos(root, "images/{n}.jpg")
    for number in range(COUNT):
        (height, width), (road, car, tree) = size(number), (points for _, points in shapes(number))
        mask, left, top = mask_of(car, number)
        kinds: list[tuple[str, str, Any, Any]] = [
            ("road", "polygon", of_centres(road), None),
            ("car", "mask", [[left, top], [left + mask.shape[1] - 1, top + mask.shape[0] - 1]],
             base64.b64encode(png(mask.astype(np.uint8))).decode()),
            ("tree", "rectangle", [of_centres(tree)[0], of_centres(tree)[2]], None),
        ]  # fmt: skip
        things = [{"label": name, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
                   "mask": mask} for name, kind, points, mask in kinds]  # fmt: skip
        text(root / f"labels/street_{number}.json", json.dumps({
            "version": "6.3.1", "flags": {}, "shapes": things, "imagePath": f"..\\images\\street_{number}.jpg",
            "imageData": None, "imageHeight": height, "imageWidth": width}))  # fmt: skip
    return Made()


def yolo(root: Path) -> Made:
    for number in range(COUNT):
        height, width = size(number)
        lines = [" ".join([str(NAMES.index(name) - 1), *(f"{(x + 0.5) / width:.6f} {(y + 0.5) / height:.6f}"
                                                         for x, y in of_centres(points))]) for name, points in shapes(number)]
        text(root / f"labels/{split(number)}/street_{number}.txt", "\n".join(lines))
    text(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: road\n  1: car\n  2: tree\n")
    photos(root, "images/{s}/{n}.jpg")
    return Made(splits=BY_SPLIT)


def cvat(root: Path) -> Made:
    """A polygon, a mask and a box; z_order, not the order of the file, says what lies above."""
    found = ""
    for number in range(COUNT):
        (height, width), (road, car, tree) = size(number), (points for _, points in shapes(number))
        mask, left, top = mask_of(car, number)
        (x0, y0), _, (x1, y1), _ = tree
        things = [
            f'<box label="tree" source="manual" occluded="0" xtl="{x0}.00" ytl="{y0}.00" xbr="{x1}.00" ybr="{y1}.00" '
            'z_order="2"></box>',
            f'<polygon label="road" source="manual" occluded="0" points="{";".join(f"{x}.00,{y}.00" for x, y in road)}" '
            'z_order="0"></polygon>',
            f'<mask label="car" source="manual" occluded="0" rle="{", ".join(map(str, runs(mask)))}" left="{left}" top="{top}" '
            f'width="{mask.shape[1]}" height="{mask.shape[0]}" z_order="1"></mask>',
        ]
        found += f'<image id="{number}" name="street_{number}.jpg" width="{width}" height="{height}">'
        found += "".join(things) + "</image>\n"
    labels = "".join(f"<label><name>{name}</name><color>#804080</color></label>" for name in NAMES[1:])
    meta = f"<meta><job><id>1</id><labels>{labels}</labels></job></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    text(root / "annotations.xml", f"{head}{meta}\n{found}</annotations>\n")
    photos(root, "images/{n}.jpg")
    return Made()


def supervisely(root: Path) -> Made:
    """A polygon, a bitmap and a rectangle."""
    for number in range(COUNT):
        (height, width), (road, car, tree) = size(number), (points for _, points in shapes(number))
        mask, left, top = mask_of(car, number)
        data = base64.b64encode(zlib.compress(png(mask.astype(np.uint8), transparency=0))).decode()
        corners = [of_centres(tree)[0], of_centres(tree)[2]]
        objects = [
            {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": of_centres(road), "interior": []}},
            {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}},
            {"classTitle": "tree", "geometryType": "rectangle", "points": {"exterior": corners, "interior": []}},
        ]
        text(root / f"dataset 1/ann/street_{number}.jpg.json", json.dumps({
            "description": "", "tags": [], "size": {"height": height, "width": width}, "objects": objects}))  # fmt: skip
    classes = [{"title": name, "shape": "any", "color": "#" + bytes(COLOURS[place]).hex().upper()}
               for place, name in enumerate(NAMES) if place]  # fmt: skip
    text(root / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    photos(root, "dataset 1/img/{n}.jpg")
    return Made()


def brush(mask: BoolArray) -> list[int]:
    """Label Studio's run lengths of RGBA: here all four channels are the mask."""
    values = np.repeat(255 * mask.astype(np.uint8).ravel(), 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{bits - 1:04b}" for bits in (3, 4, 8, 16))
    for value, group in groupby(values.tolist()):
        length = len(list(group))
        bits += f"111{length - 1:016b}{value:08b}"  # a run, with its length in 16 bits
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def task(number: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    image = f"/data/upload/1/0a1b2c3{number}-street_{number}.jpg"
    return {"id": number + 1, "data": {"image": image}, "annotations": [
        {"id": number + 7, "completed_by": 1, "was_cancelled": False, "result": results}]}  # fmt: skip


def region(number: int, kind: str, name: str, value: dict[str, Any]) -> dict[str, Any]:
    height, width = size(number)
    return {"id": f"r{name}", "type": kind, "from_name": "tag", "to_name": "image", "image_rotation": 0,
            "original_width": width, "original_height": height, "value": value | {kind: [name]}}


def percent(points: Points, number: int) -> list[list[float]]:
    height, width = size(number)
    return [[100 * x / width, 100 * y / height] for x, y in points]


def label_studio(root: Path) -> Made:
    """Polygons and a brush."""
    tasks = []
    for number in range(COUNT):
        road, car, tree = (points for _, points in shapes(number))
        tasks.append(task(number, [
            region(number, "polygonlabels", "road", {"points": percent(road, number), "closed": True}),
            region(number, "brushlabels", "car", {"format": "rle", "rle": brush(inside(car, *size(number)))}),
            region(number, "polygonlabels", "tree", {"points": percent(tree, number), "closed": True}),
        ]))  # fmt: skip
    text(root / "project-1.json", json.dumps(tasks))
    photos(root, "images/{n}.jpg")
    return Made()


def label_studio_png(root: Path) -> Made:
    """The export "PNG", and beside it the export "JSON" whose regions have been left out. Masks do not overlap."""
    for number in range(COUNT):
        seen = np.zeros(size(number), bool)
        for name, points in reversed(shapes(number)):
            mask = inside(points, *size(number)) & ~seen
            seen |= mask
            save(root / f"export/task-{number + 1}-annotation-{number + 7}-by-1-tag-{name}-0.png", 255 * mask.astype(np.uint8))
    text(root / "export/project-1.json", json.dumps([task(number, []) for number in (*TRAIN, *VAL)]))
    photos(root, "images/{n}.jpg")
    return Made()
