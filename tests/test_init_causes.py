"""`dataset init` names the cause if it finds no labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_dataset_init import COUNT, photo, save, text, truth

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.folder import init_dataset

IMAGES = [{"id": 1, "file_name": "s0.jpg", "width": 60, "height": 40}]
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
CLASSES = [{"id": 1, "name": "car"}]


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("boxes.json", {"images": IMAGES, "annotations": [BOX], "categories": CLASSES}, "boxes of a detection dataset (COCO"),
        ("test.json", {"images": IMAGES, "categories": CLASSES}, "is COCO's JSON without annotations; export it"),
        ("via.json", {"s0.jpg9": {"filename": "s0.jpg", "regions": []}}, "VGG Image Annotator (VIA), which is not read"),
        ("sa_1.json", {"image": {"file_name": "s0.jpg"}, "annotations": [{}]}, "is in the format of SA-1B (Segment Anything)"),
        ("default.json", {"info": {}, "categories": {}, "items": []}, "is datumaro's JSON, which is not read"),
        ("min.json", [{"image": "/s0.jpg", "id": 1, "annotation_id": 1}], "is Label Studio's JSON-MIN; export JSON instead."),
        ("s0_polygons.json", {"imgHeight": 40, "imgWidth": 60, "objects": []}, "holds polygons of Cityscapes; write"),
        ("s0.xml", "<annotation><object><bndbox/></object></annotation>", "boxes of a detection dataset (Pascal VOC), no"),
        ("s0.xml", "<annotation><object><polygon/></object></annotation>", "is LabelMe's XML; convert it to LabelMe's JSON"),
        ("yolo/a.txt", "0 0.5 0.5 0.2 0.2\n", "holds boxes of a detection dataset (YOLO), no areas; export polygons or masks."),
        ("train.csv", "ImageId,EncodedPixels\ns0.jpg,1 2\n", "holds run lengths (RLE); write a label image for each image."),
        ("s0.json", "ä".encode("gbk", "replace") + b"\xff\xfe\xfa{", "is not text in UTF-8; save it as UTF-8."),
    ],
)
def test_a_file_that_gives_no_labels(tmp_path: Path, name: str, content: object, cause: str) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.jpg", photo(number))
    path = tmp_path / "more" / name
    text(path, "")
    path.write_bytes(content if isinstance(content, bytes) else (
        content if isinstance(content, str) else json.dumps(content)).encode())
    with pytest.raises(FastSCNNError) as caught:
        init_dataset(tmp_path)
    assert f"more/{name} " in str(caught.value)
    assert cause in str(caught.value)


def test_names_that_fit_two_images_or_differ_by_zeros(tmp_path: Path) -> None:
    for number in range(1, 5):
        for suffix in ("jpg", "png"):
            save(tmp_path / f"twice/images/{number}.{suffix}", photo(number))
        save(tmp_path / f"twice/labels/{number}.png", truth(number))
        save(tmp_path / f"zeros/images/{number}.jpg", photo(number))
        save(tmp_path / f"zeros/labels/000{number}.png", truth(number))
    with pytest.raises(FastSCNNError, match=r"labels/1\.png may belong to images/1\.jpg or images/1\.png; give images"):
        init_dataset(tmp_path / "twice")
    with pytest.raises(FastSCNNError, match=r"labels/0001\.png and images/1\.jpg differ by zeros; make the names equal\."):
        init_dataset(tmp_path / "zeros")
