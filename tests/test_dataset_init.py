"""`dataset init`: every layout that people bring is recognised, and its labels are read as they were made."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.class_files import rows_of
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.folder import Initialised, init_dataset
from fastscnn.data.init.shapes import guess
from fastscnn.data.init.survey import Survey
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX

SIZE = (40, 60)
COUNT = 6
COLOURS = {"road": (128, 64, 100), "car": (0, 0, 200), "sky": (70, 130, 30), "tree": (10, 200, 40)}
NAMES = tuple(COLOURS)


def truth(number: int) -> UInt8Array:
    """The classes of image `number`: three areas and a frame that moves, all four classes in each image."""
    labels = np.zeros(SIZE, np.uint8)
    labels[5 + number : 15 + number, 4:30] = 1
    labels[20:35, 30 + number : 50 + number] = 2
    labels[30:38, 2 : 10 + number] = 3
    return labels


def photo(number: int) -> UInt8Array:
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def pairs(root: Path, image: str, labels: str, encode: Callable[[UInt8Array], np.ndarray] = np.asarray) -> None:
    """Write all images and label files; {n} is the number, {s} the split: train or val."""
    for number in range(COUNT):
        split = "train" if number < 4 else "val"
        save(root / image.format(n=f"s{number}", s=split), photo(number))
        save(root / labels.format(n=f"s{number}", s=split), encode(truth(number)))


def coloured(labels: UInt8Array) -> UInt8Array:
    return np.array(list(COLOURS.values()), np.uint8)[labels]


def indexed(path: Path, labels: UInt8Array, palette: Sequence[tuple[int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([value for colour in palette for value in colour])
    image.save(path)


@dataclass
class Expected:
    """What a layout must give.

    Attributes:
        names: of the four classes, "" for one that is ignored; None takes any names, in the order of the classes.
        splits: the names of the splits.
        left_open: part of the only sentence about what is left open; "" if nothing is.
        equal: least share of equal pixels; polygons differ at their edges, by the rules of each tool.
        train: train ids of the four classes, if the names do not tell.
    """

    names: Sequence[str] | None = NAMES
    splits: Sequence[str] = ("train", "val")
    left_open: str = ""
    equal: float = 1.0
    train: Sequence[int] = (0, 1, 2, 3)


LAYOUTS: dict[str, Callable[[Path], Expected]] = {}
NO_NAMES = "no file names the classes"


def layout(make: Callable[[Path], Expected]) -> Callable[[Path], Expected]:
    LAYOUTS[make.__name__] = make
    return make


# folders


@layout
def split_in_kind(root: Path) -> Expected:
    pairs(root, "images/{s}/{n}.jpg", "labels/{s}/{n}.png")
    text(root / "classes.txt", "\n".join(NAMES))
    return Expected()


@layout
def kind_in_split(root: Path) -> Expected:
    pairs(root, "data/{s}/images/{n}.JPG", "data/{s}/masks/{n}.PNG")
    text(root / "data/classes.txt", "\n".join(NAMES))
    return Expected()


@layout
def mmsegmentation(root: Path) -> Expected:
    pairs(root, "img_dir/{s}/{n}_leftImg8bit.png", "ann_dir/{s}/{n}_gtFine_labelTrainIds.png")
    return Expected(("road", "sidewalk", "building", "wall"))


@layout
def no_splits(root: Path) -> Expected:
    pairs(root, "img/{n}.png", "annotations/{n}.png")
    return Expected(None, left_open=NO_NAMES)


@layout
def kitti(root: Path) -> Expected:
    pairs(root, "training/image_2/{n}_10.png", "training/semantic/{n}_10.png")
    pairs(root, "training/image_2/{n}_10.png", "training/semantic_rgb/{n}_10.png", coloured)
    save(root / "testing/image_2/s9_10.png", photo(9))
    return Expected(None, left_open=NO_NAMES)


@layout
def sequences(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"seq{number % 2}/rgb/frame_s{number}.png", photo(number))
        save(root / f"seq{number % 2}/semantic/frame_s{number}.png", truth(number))
    return Expected(None, left_open=NO_NAMES)


@layout
def unequal_depth(root: Path) -> Expected:
    for number in range(COUNT):
        folder = "a" if number % 2 else "b/c"
        save(root / f"images/{folder}/s{number}.png", photo(number))
        save(root / f"gt/{folder}/s{number}_gt.png", truth(number))
    return Expected(None, left_open=NO_NAMES)


@layout
def folders_without_words(root: Path) -> Expected:
    pairs(root, "a/{n}.png", "b/{n}.png")
    return Expected(None, left_open=NO_NAMES)


# one folder


@layout
def mask_beside_image(root: Path) -> Expected:
    pairs(root, "{n}.jpg", "{n}_mask.png")
    return Expected(None, left_open=NO_NAMES)


@layout
def mask_of_the_same_format(root: Path) -> Expected:
    pairs(root, "{s}/{n}.png", "{s}/{n}_label.png")
    return Expected(None, left_open=NO_NAMES)


@layout
def same_stem(root: Path) -> Expected:
    pairs(root, "{n}.jpg", "{n}.png")
    return Expected(None, left_open=NO_NAMES)


@layout
def same_stem_in_images(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "images/{n}.png")
    return Expected(None, left_open=NO_NAMES)


@layout
def roboflow(root: Path) -> Expected:
    pairs(root, "{s}/{n}_jpg.rf.0a1b.jpg", "{s}/{n}_jpg.rf.0a1b_mask.png")
    for split in ("train", "val"):
        text(root / split / "_classes.csv", "Pixel Value, Class\n" + "".join(f"{i}, {name}\n" for i, name in enumerate(NAMES)))
    return Expected()


@layout
def deepglobe(root: Path) -> Expected:
    pairs(root, "{s}/{n}_sat.jpg", "{s}/{n}_mask.png", coloured)
    text(root / "class_dict.csv", "name,r,g,b\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in COLOURS.items()))
    return Expected()


@layout
def bdd100k(root: Path) -> Expected:
    pairs(root, "images/10k/{s}/{n}.jpg", "labels/sem_seg/masks/{s}/{n}.png")
    pairs(root, "images/10k/{s}/{n}.jpg", "labels/sem_seg/colormaps/{s}/{n}.png", coloured)
    return Expected(None, left_open=NO_NAMES)


@layout
def names_of_cityscapes(root: Path) -> Expected:
    ids = np.array([7, 26, 23, 21], np.uint8)
    pairs(root, "rgb/{s}/{n}.png", "labels/{s}/{n}_labelIds.png", lambda labels: ids[labels])
    return Expected(("road", "car", "sky", "vegetation"))


@layout
def carvana(root: Path) -> Expected:
    pairs(root, "train/{n}.jpg", "train_masks/{n}_mask.gif", binary)
    text(root / "classes.txt", "car\n")
    return Expected(("background", "car", "background", "background"))


# lists


def voc_lists(root: Path) -> None:
    for split, numbers in (("train", range(4)), ("val", range(4, COUNT)), ("trainval", range(COUNT))):
        text(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"s{number}\n" for number in numbers))


@layout
def pascal_voc(root: Path) -> Expected:
    voc_lists(root)
    text(root / "ImageSets/Main/train.txt", "s0\ns9\n")
    save(root / "JPEGImages/s9.jpg", photo(9))  # without labels, as most images of VOC
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), *[(1, 1, 1)] * 251, (224, 224, 192)]
    for number in range(COUNT):
        save(root / f"JPEGImages/s{number}.jpg", photo(number))
        labels = truth(number)
        labels[0] = 255
        indexed(root / f"SegmentationClass/s{number}.png", labels, palette)
        indexed(root / f"SegmentationObject/s{number}.png", labels, palette)
    return Expected(None, left_open=NO_NAMES)


@layout
def voc2012(root: Path) -> Expected:
    voc_lists(root / "VOCdevkit/VOC2012")
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    for number in range(COUNT):
        save(root / f"VOCdevkit/VOC2012/JPEGImages/s{number}.jpg", photo(number))
        indexed(root / f"VOCdevkit/VOC2012/SegmentationClass/s{number}.png", truth(number), palette)
    return Expected(("background", "aeroplane", "bicycle", "bird"))


@layout
def cvat_voc(root: Path) -> Expected:
    rows = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in COLOURS.items())
    text(root / "labelmap.txt", f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{rows}")
    voc_lists(root)
    for number in range(COUNT):
        save(root / f"JPEGImages/s{number}.jpg", photo(number))
        indexed(root / f"SegmentationClass/s{number}.png", truth(number) + 1, [(0, 0, 0), *COLOURS.values()])
    return Expected()


@layout
def labelme_voc(root: Path) -> Expected:
    text(root / "class_names.txt", "_background_\nroad\ncar\nsky")
    for number in range(COUNT):
        save(root / f"JPEGImages/s{number}.jpg", photo(number))
        palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
        save(root / f"SegmentationClass/s{number}.npy", truth(number))
        indexed(root / f"SegmentationClassPNG/s{number}.png", truth(number), palette)
        save(root / f"SegmentationClassVisualization/s{number}.jpg", photo(number))
    return Expected(("_background_", "road", "car", "sky"))


@layout
def paddleseg(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")
    for name, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, COUNT))):
        text(root / f"{name}.txt", "".join(f"images/s{number}.jpg labels/s{number}.png\n" for number in numbers))
    text(root / "labels.txt", "\n".join(NAMES))
    return Expected(splits=("train", "val", "test"))


@layout
def paddleseg_foreign_names(root: Path) -> Expected:
    lines = []
    for number in range(COUNT):
        save(root / f"in/s{number}.jpg", photo(number))
        save(root / f"out/z{9 - number}.png", truth(number))
        lines.append(f"in/s{number}.jpg out/z{9 - number}.png\n")
    text(root / "train_list.txt", "".join(lines[:4]))
    text(root / "val_list.txt", "".join(lines[4:]))
    return Expected(None, left_open=NO_NAMES)


@layout
def mmsegmentation_lists(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")
    text(root / "splits/train.txt", "s0\ns1\ns2\n")
    text(root / "splits/val.txt", "s3\ns4\ns5\n")
    return Expected(None, left_open=NO_NAMES)


@layout
def labelme_facade(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        rgba = np.dstack([coloured(truth(number)), np.full(SIZE, 255, np.uint8)]).astype(np.uint16) * 257
        write_png16(root / f"labels/s{number}.png", rgba)
    text(root / "train.txt", "s0\ns1\ns2\ns3\n")
    text(root / "test.txt", "s4\ns5\n")
    return Expected(None, ("train", "test"), "no file names the colours", train=by_colour())


def by_colour() -> list[int]:
    """Train ids of classes that are named by their colours, in the order of these."""
    order = sorted(COLOURS.values())
    return [order.index(colour) for colour in COLOURS.values()]


def write_png16(path: Path, rgba: np.ndarray) -> None:
    """Write a PNG with 16 bits per channel, which Pillow cannot."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgba)
    header = struct.pack(">IIBBBBB", rgba.shape[1], rgba.shape[0], 16, 6, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


# what label files hold


@layout
def carla(root: Path) -> Expected:
    ids = np.array([7, 10, 13, 9], np.uint8)  # road, vehicles, sky, vegetation
    pairs(root, "CameraRGB/{n}.png", "CameraSeg/{n}.png", lambda labels: np.dstack([ids[labels], 0 * labels, 0 * labels]))
    return Expected(("road", "vehicles", "sky", "vegetation"), left_open="the names are those of CARLA 0.9.13 and earlier")


@layout
def carla_new(root: Path) -> Expected:
    ids = np.array([1, 14, 11, 9], np.uint8)
    pairs(root, "rgb/{n}.png", "semantic_segmentation/{n}.png", lambda labels: np.dstack([ids[labels], 0 * labels, 0 * labels]))
    return Expected(("road", "car", "sky", "vegetation"), left_open="the names are those of CARLA 0.9.14 and later")


@layout
def camvid_kaggle(root: Path) -> Expected:
    pairs(root, "CamVid/{s}/{n}.png", "CamVid/{s}_labels/{n}_L.png", coloured)
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in COLOURS.items())
    text(root / "CamVid/class_dict.csv", f"name,r,g,b\n{rows}Void,0,0,0\n")
    return Expected()


@layout
def label_colors(root: Path) -> Expected:
    pairs(root, "images/{n}.png", "labels/{n}_L.png", coloured)
    text(root / "label_colors.txt", "".join(f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in COLOURS.items()) + "0 0 0\tVoid\n")
    return Expected()


@layout
def colours_without_names(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", coloured)
    return Expected(None, left_open="no file names the colours", train=by_colour())


@layout
def cityscapes_colours(root: Path) -> Expected:
    colours = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180), (107, 142, 35)], np.uint8)
    pairs(root, "images/{n}.jpg", "labels/{n}.png", lambda labels: colours[labels])
    return Expected(("road", "car", "sky", "vegetation"))


@layout
def palettes_differ(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        shift = number % 4
        palette = [list(COLOURS.values())[(place + shift) % 4] for place in range(4)]
        indexed(root / f"labels/s{number}.png", (truth(number) + 4 - shift) % 4, palette)
    return Expected(None, left_open="no file names the colours", train=by_colour())


@layout
def supervisely_masks(root: Path) -> Expected:
    machine = {name: [place * 10] * 3 for place, name in enumerate(NAMES, 1)}
    text(root / "obj_class_to_machine_color.json", json.dumps(machine))
    classes = [{"title": name, "shape": "bitmap", "color": "#" + bytes(rgb).hex(), "id": 8000} for name, rgb in COLOURS.items()]
    text(root / "meta.json", json.dumps({"classes": classes, "tags": []}))
    grey = np.array([10, 20, 30, 40], np.uint8)
    pairs(root, "ds1/img/{n}.jpg", "ds1/masks_machine/{n}.png", lambda labels: np.repeat(grey[labels][:, :, None], 3, 2))
    pairs(root, "ds1/img/{n}.jpg", "ds1/masks_human/{n}.png", coloured)
    return Expected()


@layout
def numpy_arrays(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.npy", lambda labels: labels.astype(np.int64))
    return Expected(None, left_open=NO_NAMES)


@layout
def matlab(root: Path) -> Expected:
    savemat = pytest.importorskip("scipy.io", reason="SciPy is not installed").savemat
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        (root / "truth").mkdir(exist_ok=True)
        savemat(root / f"truth/s{number}.mat", {"LabelMap": truth(number)})
    return Expected(None, left_open=NO_NAMES)


def binary(labels: UInt8Array) -> UInt8Array:
    return np.asarray(labels == 1, np.uint8)


TWO = Expected(None, left_open="no file names the two classes", train=(0, 1, 0, 0))


@layout
def masks_0_255(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "masks/{n}.png", lambda labels: 255 * binary(labels))
    return TWO


@layout
def masks_0_1(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "masks/{n}.png", binary)
    return TWO


@layout
def masks_of_one_bit(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "masks/{n}.png", lambda labels: binary(labels) == 1)
    return TWO


@layout
def masks_mixed(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "masks/{n}.png", binary)
    save(root / "masks/s1.png", 255 * binary(truth(1)))
    return TWO


@layout
def masks_antialiased(root: Path) -> Expected:
    def blurred(labels: UInt8Array) -> UInt8Array:
        mask = 255 * binary(labels)
        edge = binary(labels) != np.roll(binary(labels), 1, 1)
        inside = binary(labels)[edge]
        mask[edge] = np.where(inside, 250 - 4 * np.arange(len(inside)), 5 + 3 * np.arange(len(inside)))
        return mask

    pairs(root, "images/{n}.jpg", "masks/{n}.png", blurred)
    return TWO


@layout
def masks_jpeg(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "masks/{n}.jpg", lambda labels: 255 * binary(labels))
    return TWO


@layout
def ids_from_one(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "annotations/{n}.png", lambda labels: labels + 1)
    return Expected(None, left_open=NO_NAMES)


@layout
def ade20k(root: Path) -> Expected:
    def encode(labels: UInt8Array) -> UInt8Array:
        stored: UInt8Array = labels + 1
        stored[0] = 0
        return stored

    pairs(root, "images/{s}/ADE_{n}.jpg", "annotations/{s}/ADE_{n}.png", encode)
    rows = "".join(f"{place}\t0.1\t10\t1\t1\t{name}, other words\n" for place, name in enumerate(NAMES, 1))
    text(root / "objectInfo150.txt", f"Idx\tRatio\tTrain\tVal\tStuff\tName\n{rows}")
    return Expected()


@layout
def ids_with_ignored(root: Path) -> Expected:
    def encode(labels: UInt8Array) -> UInt8Array:
        stored = labels.copy()
        stored[:, 0] = 255
        return stored

    pairs(root, "images/{n}.jpg", "labels/{n}.png", encode)
    text(root / "id2label.json", json.dumps({str(place): name for place, name in enumerate(NAMES)}))
    return Expected()


@layout
def background_without_a_name(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")
    text(root / "classes.txt", "\n".join(NAMES[1:]))
    return Expected(("background", *NAMES[1:]))


@layout
def black_without_a_name(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", lambda labels: coloured(labels) * (labels > 0)[:, :, None])
    rows = "".join(f"{name},{','.join(map(str, COLOURS[name]))}\n" for name in NAMES[1:])
    text(root / "class_dict.csv", f"name,r,g,b\n{rows}")
    return Expected(("background", *NAMES[1:]))


@layout
def sparse_ids(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", lambda labels: labels * 40 + 20)
    return Expected(None, left_open=NO_NAMES)


@layout
def void_among_classes(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")
    text(root / "classes.txt", "road\nvoid\nsky\ntree\n")
    return Expected(("road", "", "sky", "tree"))


@layout
def sixteen_bits(root: Path) -> Expected:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", lambda labels: labels.astype(np.uint16))
    return Expected(None, left_open=NO_NAMES)


@layout
def special_characters(root: Path) -> Expected:
    pairs(root, "images [1]/{n} a.jpg", "labels [1]/{n} a.png")
    return Expected(None, left_open=NO_NAMES)


# shapes on a background; they need the extra `formats`

def shape_layout(make: Callable[[Path], Expected]) -> Callable[[Path], Expected]:
    def made(root: Path) -> Expected:
        for package in ("cv2", "pycocotools"):
            pytest.importorskip(package, reason="needs the extra formats")
        return make(root)

    LAYOUTS[make.__name__] = made
    return made


SHAPES = Expected(("background", "car", "sky", "tree"), equal=0.92)


def boxes(number: int) -> list[tuple[str, int, int, int, int]]:
    """(name, left, top, right, bottom) of the areas of `truth`."""
    car, sky = ("car", 4, 5 + number, 30, 15 + number), ("sky", 30 + number, 20, 50 + number, 35)
    return [car, sky, ("tree", 2, 30, 10 + number, 38)]


def corners(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def coco_json(numbers: Iterable[int], name: str) -> str:
    """Outlines for even images, run lengths for odd ones."""
    things, annotations = [], list[dict[str, object]]()
    for number in numbers:
        things.append({"id": number, "file_name": name.format(n=f"s{number}"), "height": SIZE[0], "width": SIZE[1]})
        for place, (_, *box) in enumerate(boxes(number), 1):
            flat = [value for corner in corners(*box) for value in corner]
            column = [0, *(truth(number) == place).astype(int).T.ravel(), -1]
            runs = np.diff([0, *(np.flatnonzero(np.diff(column)) + 1)])
            runs[0] -= 1  # the 0 at the beginning
            segmentation = {"size": list(SIZE), "counts": runs.tolist()} if number % 2 else [flat]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 10 * place,
                                "segmentation": segmentation, "iscrowd": number % 2})
    categories = [{"id": 0, "name": "objects"}, *({"id": 10 * place, "name": name} for place, name in enumerate(NAMES[1:], 1))]
    return json.dumps({"images": things, "annotations": annotations, "categories": categories})


@shape_layout
def coco(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"{'train' if number < 4 else 'val'}2017/s{number}.jpg", photo(number))
    text(root / "annotations/instances_train2017.json", coco_json(range(4), "{n}.jpg"))
    text(root / "annotations/instances_val2017.json", coco_json(range(4, COUNT), "{n}.jpg"))
    text(root / "annotations/captions_val2017.json", '{"images": [], "annotations": []}')
    return SHAPES


@shape_layout
def coco_in_one_folder(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
    text(root / "train.json", coco_json(range(4), "images/{n}.jpg"))
    text(root / "test.json", coco_json(range(4, COUNT), "C:\\data\\{n}.jpg"))
    return replace(SHAPES, splits=("train", "test"))


@shape_layout
def coco_without_splits(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
    text(root / "result.json", coco_json(range(COUNT), "{n}.jpg"))
    return SHAPES


@shape_layout
def roboflow_coco(root: Path) -> Expected:
    for split, numbers in (("train", range(3)), ("valid", range(3, 5)), ("test", range(5, COUNT))):
        for number in numbers:
            save(root / f"{split}/s{number}.jpg", photo(number))
        text(root / split / "_annotations.coco.json", coco_json(numbers, "{n}.jpg"))
    return replace(SHAPES, splits=("train", "val", "test"))


def labelme_json(number: int) -> str:
    shapes = [{"label": name, "points": corners(*box), "shape_type": "polygon"} for name, *box in boxes(number)]
    return json.dumps({"shapes": shapes, "imagePath": f"s{number}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]})


@shape_layout
def labelme(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"s{number}.jpg", photo(number))
        text(root / f"s{number}.json", labelme_json(number))
    return SHAPES


@shape_layout
def labelme_in_folders(root: Path) -> Expected:
    for number in range(COUNT):
        split = "train" if number < 4 else "val"
        save(root / f"images/{split}/s{number}.jpg", photo(number))
        text(root / f"annotations/{split}/s{number}.json", labelme_json(number))
    text(root / "labels.txt", "__ignore__\n_background_\ntree\nsky\ncar\n")
    return SHAPES


def yolo_text(number: int) -> str:
    order = ("car", "sky", "tree")
    return "".join(f"{order.index(name)} " + " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in corners(*box)) + "\n"
                   for name, *box in boxes(number))


@shape_layout
def yolo(root: Path) -> Expected:
    for number in range(COUNT):
        split = "train" if number < 4 else "valid"
        save(root / f"{split}/images/s{number}.jpg", photo(number))
        text(root / f"{split}/labels/s{number}.txt", yolo_text(number))
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\n\nnc: 3\nnames: ['car', 'sky', 'tree']\n")
    return SHAPES


@shape_layout
def yolo_without_names(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"images/{'train' if number < 4 else 'val'}/s{number}.png", photo(number))
        text(root / f"labels/{'train' if number < 4 else 'val'}/s{number}.txt", yolo_text(number))
    return replace(SHAPES, names=None, left_open="no data.yaml names the classes")


@shape_layout
def cvat(root: Path) -> Expected:
    lines = []
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        outlines = {name: ";".join(f"{x},{y}" for x, y in corners(*box)) for name, *box in boxes(number)}
        shapes = "".join(f'<polygon label="{name}" points="{points}" z_order="0"/>' for name, points in outlines.items())
        lines.append(f'<image id="{number}" name="s{number}.jpg" width="{SIZE[1]}" height="{SIZE[0]}">{shapes}</image>')
    names = "".join(f"<label><name>{name}</name></label>" for name in ("sky", "car", "tree", "bicycle"))
    meta = f"<meta><task><labels>{names}</labels></task></meta>"
    text(root / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{"".join(lines)}</annotations>')
    return SHAPES


@shape_layout
def supervisely(root: Path) -> Expected:
    for number in range(COUNT):
        save(root / f"ds1/img/s{number}.jpg", photo(number))
        objects = [{"classTitle": name, "geometryType": "polygon", "points": {"exterior": corners(*box), "interior": []}}
                   for name, *box in boxes(number)]
        content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
        text(root / f"ds1/ann/s{number}.jpg.json", json.dumps(content))
    classes = [{"title": name, "shape": "polygon", "color": "#" + bytes(COLOURS[name]).hex()} for name in NAMES[1:]]
    text(root / "meta.json", json.dumps({"classes": classes, "tags": []}))
    return SHAPES


@shape_layout
def label_studio(root: Path) -> Expected:
    tasks = []
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        result = [
            {"type": "polygonlabels", "original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0, "value": {
                "points": [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in corners(*box)], "polygonlabels": [name]}}
            for name, *box in boxes(number)
        ]
        tasks.append({"id": number + 1, "data": {"image": f"/data/upload/1/0a1b2c3d-s{number}.jpg"}, "annotations": [
            {"id": number, "result": result, "was_cancelled": False}]})
    text(root / "project-1.json", json.dumps(tasks))
    return SHAPES


@shape_layout
def label_studio_png(root: Path) -> Expected:
    tasks = []
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        tasks.append({"id": number + 1, "data": {"image": f"/data/upload/1/0a1b2c3d-s{number}.jpg"}, "annotations": [
            {"id": number, "result": [], "was_cancelled": False}]})
        for place, name in enumerate(NAMES[1:], 1):
            mask = 255 * (truth(number) == place).astype(np.uint8)
            save(root / f"export/task-{number + 1}-annotation-{number}-by-1-tag-{name}-0.png", mask)
    text(root / "export/project-1.json", json.dumps(tasks))
    return replace(SHAPES, equal=1.0)


def read(root: Path, made: Initialised, expected: Expected) -> None:
    """Compare every label file with the truth."""
    spec = datasets.load(made.dataset)
    names = spec.label_set.names
    train = [names.index(name) if name else IGNORE_INDEX for name in expected.names] if expected.names else expected.train
    seen = 0
    for split in spec.splits:
        for pair in spec.pairs(split):
            found = re.search(r"s(\d)", pair.image.name)
            assert found
            _, labels = spec.read(pair)
            wanted = np.array(train, np.uint8)[truth(int(found[1]))]
            stated = labels != IGNORE_INDEX if IGNORE_INDEX not in train else np.ones(SIZE, bool)
            assert stated.mean() > 0.95
            assert (labels[stated] == wanted[stated]).mean() >= expected.equal
            seen += 1
    assert seen == COUNT


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    expected = LAYOUTS[name](root)
    made = init_dataset(root)
    read(root, made, expected)
    assert sorted(made.images) == sorted(expected.splits)
    spec = datasets.load(root)
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    content = (root / "dataset.toml").read_text()
    assert ("TODO" in content) == bool(expected.left_open) == bool(made.left_open)
    assert not expected.left_open or any(expected.left_open in sentence for sentence in made.left_open)
    assert made.contact_sheet
    assert images.read(made.contact_sheet).shape[1] == 1296


# what is said, and what is refused


def masks(root: Path) -> None:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")


def test_images_without_labels_are_left_out_by_a_list(tmp_path: Path) -> None:
    masks(tmp_path)
    save(tmp_path / "images/s7.jpg", photo(7))
    made = init_dataset(tmp_path)
    assert "Left out: 1 image without a label file, such as images/s7.jpg." in made.guessed
    assert made.lists == (tmp_path / "dataset-all.txt",)
    assert made.lists[0].read_text().split() == [f"images/s{number}.jpg" for number in range(COUNT)]
    read(tmp_path, made, Expected(None))
    assert check(datasets.load(tmp_path)).ok


@pytest.mark.parametrize("images_in", ["{n}.jpg", "images/{n}.png"])
def test_twice_is_the_same(tmp_path: Path, images_in: str) -> None:
    """Files of the first call are no part of the dataset, and an existing dataset.toml is kept."""
    pairs(tmp_path, images_in, "{n}_mask.png")
    save(tmp_path / "s7.jpg", photo(7))
    first = init_dataset(tmp_path)
    with pytest.raises(FastSCNNError, match=r"dataset\.toml: exists already; add --force to overwrite it"):
        init_dataset(tmp_path)
    assert init_dataset(tmp_path, force=True) == first
    assert len(check(datasets.load(tmp_path)).counts) == 2


def test_files_of_the_user_are_not_overwritten(tmp_path: Path) -> None:
    """Neither images with the name of the contact sheet, nor what lies beside a dataset.toml written by hand."""
    pairs(tmp_path, "{n}.jpg", "{n}_mask.png")
    save(tmp_path / "dataset.jpg", photo(8))
    save(tmp_path / "dataset.png", photo(9))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    made = init_dataset(tmp_path)  # dataset.jpg has no label file, so there is a list
    assert made.contact_sheet == tmp_path / "dataset-sheet/0.jpg"
    assert {path: path.read_bytes() for path in before} == before
    assert init_dataset(tmp_path, force=True).images == made.images
    text(tmp_path / "dataset.toml", 'name = "by hand"')
    with pytest.raises(FastSCNNError, match=r"dataset-all\.txt: exists already, and the list of the images"):
        init_dataset(tmp_path, force=True)


def test_a_folder_without_dataset_toml_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"it has no dataset\.toml; `fastscnn dataset init` writes one"):
        datasets.load(tmp_path)


def test_a_failure_leaves_no_files(tmp_path: Path) -> None:
    masks(tmp_path)
    save(tmp_path / "images/s7.jpg", photo(7))  # so that a list is written
    for number in range(COUNT):
        save(tmp_path / f"labels/s{number}.png", truth(number)[:20])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FastSCNNError, match="is 20x60 but its image is 40x60; make them the same size"):
        init_dataset(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_some_bad_files_are_left_open(tmp_path: Path) -> None:
    masks(tmp_path)
    save(tmp_path / "labels/s3.png", truth(3)[:20])
    (tmp_path / "labels/s4.png").write_bytes((tmp_path / "labels/s4.png").read_bytes()[:60])
    made = init_dataset(tmp_path)
    assert any(sentence.startswith("2 of 6 pairs that were tried cannot be used; the first: ") for sentence in made.left_open)
    assert "# TODO: 2 of 6 pairs" in made.toml


def test_jpeg_labels_of_several_classes_are_left_open(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.png", np.kron(photo(number), np.ones((8, 8, 1), np.uint8)))
        save(tmp_path / f"labels/s{number}.jpg", coloured(np.kron(truth(number), np.ones((8, 8), np.uint8))))
    made = init_dataset(tmp_path)
    assert any("the label files are JPEGs" in sentence for sentence in made.left_open)


def test_hidden_files_and_other_annotations_do_not_count(tmp_path: Path) -> None:
    masks(tmp_path)
    for name in ("images/._s1.jpg", "labels/._s1.png", ".ipynb_checkpoints/labels/s1.png", "__MACOSX/labels/s1.png"):
        save(tmp_path / name, photo(1)) if "." not in name.split("/")[-1][:2] else text(tmp_path / name, "x")
    text(tmp_path / "README.txt", "nothing")
    save(tmp_path / "preview.png", photo(1))
    read(tmp_path, init_dataset(tmp_path), Expected(None))


def test_linked_folders(tmp_path: Path) -> None:
    masks(tmp_path / "real")
    (tmp_path / "set").mkdir()
    for name in ("images", "labels"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "set/images/again").symlink_to(tmp_path / "set")
    read(tmp_path / "set", init_dataset(tmp_path / "set"), Expected(None))


def empty(root: Path) -> None:
    root.mkdir()


def only_labels(root: Path) -> None:
    text(root / "labels/a.txt", "0 0.1 0.1 0.2 0.2")


def boxes_of_detection(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        text(root / f"labels/s{number}.txt", "0 0.5 0.5 0.2 0.2\n")


def only_images(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"train/s{number}.jpg", photo(number))


def two_kinds(root: Path) -> None:
    masks(root)
    pairs(root, "images/{n}.jpg", "masks/{n}.png")


def overlays(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        save(root / f"labels/s{number}.png", photo(number) // 2)


def photographs(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        save(root / f"labels/s{number}.png", photo(number)[:, :, 0])


def nothing_labelled(root: Path) -> None:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", lambda labels: np.full_like(labels, 255))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "is empty; seen: no files. Put label files"),
        (only_labels, "contains no images ("),
        (only_images, "contains no labels that belong to its images; seen: 6 .jpg in train. Put label files with the names"),
        (boxes_of_detection, "labels/s0.txt: line 1 is a box (class cx cy w h) of a detection dataset; export the polygons"),
        (two_kinds, "labels and masks may both hold the labels of the same images, such as labels/s0.png and masks/s0.png"),
        (overlays, "colours, so they are no label images, maybe overlays or photographs"),
        (photographs, "labels: the files hold 256 values, so they are no label images, maybe photographs or depths; export"),
        (nothing_labelled, "labels: the label files hold nothing but 255, which means not labelled"),
    ],
)
def test_what_is_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "set")
    with pytest.raises(FastSCNNError) as caught:
        init_dataset(tmp_path / "set")
    assert str(caught.value).startswith(str(tmp_path / "set"))
    assert message in str(caught.value)
    assert not (tmp_path / "set/dataset.toml").exists()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="gone: no such folder"):
        init_dataset(tmp_path / "gone")


def test_built_in_datasets(tmp_path: Path) -> None:
    city, camvid, released = tmp_path / "city", tmp_path / "camvid", tmp_path / "released"
    for number in range(2):
        save(city / f"leftImg8bit/train/aachen/aachen_{number}_leftImg8bit.png", photo(number))
        save(city / f"gtFine/train/aachen/aachen_{number}_gtFine_labelIds.png", truth(number) + 7)
        save(camvid / f"train/0001TP_00{number}.png", photo(number))
        save(camvid / f"trainannot/0001TP_00{number}.png", truth(number))
        save(released / f"701_StillsRaw_full/0001TP_00{number}.png", photo(number))
        save(released / f"LabeledApproved_full/0001TP_00{number}_L.png", coloured(truth(number)))
    for root, name in ((city, "cityscapes"), (camvid, "camvid"), (released, "camvid-colours")):
        made = init_dataset(root)
        assert (made.dataset, made.toml, made.contact_sheet) == (f"{name}:{root}", "", None)
        assert not (root / "dataset.toml").exists()
        assert f"{name}:{root} reads this folder as it is" in made.guessed[0]


def test_the_folders_of_camvid_with_other_images_are_no_camvid(tmp_path: Path) -> None:
    pairs(tmp_path, "{s}/{n}.png", "{s}annot/{n}.png")
    made = init_dataset(tmp_path)
    assert made.dataset == str(tmp_path / "dataset.toml")
    read(tmp_path, made, Expected(None))


def test_overlapping_lists(tmp_path: Path) -> None:
    masks(tmp_path)
    text(tmp_path / "train.txt", "s0\ns1\ns2\ns3\n")
    text(tmp_path / "val.txt", "s3\ns4\n")
    made = init_dataset(tmp_path)
    assert made.images == {"train": 4}
    assert any("The list val.txt is not used: it shares 1 image with another list." in said for said in made.guessed)
    assert "the lists leave out 2 images with labels; add them to one, or remove them." in made.left_open


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks(tmp_path)
    assert cli.main(["dataset", "init", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "Left open: no file names the classes" in out
    assert out.splitlines()[-1] == f"Next: fastscnn check {tmp_path / 'dataset.toml'}"
    assert err == ""
    assert cli.main(["check", str(tmp_path / "dataset.toml")]) == 0
    capsys.readouterr()
    assert cli.main(["dataset", "init", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["dataset", "init", str(tmp_path), "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == [f"class {number}" for number in range(4)]
    assert found["images"] == {"train": 5, "val": 1}
    assert found["toml"] == (tmp_path / "dataset.toml").read_text()
    assert set(found) == {"layout", "dataset", "toml", "contact_sheet", "lists", "images", "classes", "labels_are", "guessed",
                          "left_open"}


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("classes.txt", "\ufeffroad\r\nstreet light\r\n", [Row("road"), Row("street light")]),
        ("names.txt", "0: road\n1: car\n", [Row("road", 0), Row("car", 1)]),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\n", [Row("road", None, RED)]),
        ("label_colors.txt", "255 0 0\troad\n0 0 255\t\tcar\n", [Row("road", None, RED), Row("car", None, BLUE)]),
        ("class_dict.csv", "name,r,g,b\nroad,255,0,0\ncar,0,0,255\n", [Row("road", None, RED), Row("car", None, BLUE)]),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, car\n", [Row("background", 0), Row("car", 1)]),
        ("data.yaml", "train: a\nnames: ['road', 'traffic, light']\nnc: 2\n", [Row("road", 0), Row("traffic, light", 1)]),
        ("data.yaml", "names:\n  0: road\n  1: 'car'  # comment\nnc: 2\n", [Row("road", 0), Row("car", 1)]),
        ("data.yaml", "names:\n- road\n- car\nval: b\n", [Row("road", 0), Row("car", 1)]),
        ("data.yaml", "nc: 2\r\nnames:\r\n  0: road\r\n  1: car\r\n", [Row("road", 0), Row("car", 1)]),
        ("config_labels.json", '{"labels": [{"readable": "road", "color": [255, 0, 0]}]}', [Row("road", None, RED)]),
        ("id2label.json", '{"0": "road", "1": "car"}', [Row("road", 0), Row("car", 1)]),
        ("labels.json", '{"road": 0, "car": 1}', [Row("road", 0), Row("car", 1)]),
        ("classes.json", '{"classes": ["road", "car"]}', [Row("road"), Row("car")]),
        ("classes.txt", "road\nroad\n", []),
        ("classes.txt", "images/a.jpg\nimages/b.jpg\n", []),
        ("classes.json", "{", []),
        ("classes.json", "[1, 2]", []),
    ],
)  # fmt: skip
def test_files_that_name_classes(tmp_path: Path, name: str, content: str, rows: list[Row]) -> None:
    text(tmp_path / name, content)
    assert rows_of(tmp_path / name) == tuple(rows)


words = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.text(max_size=5), st.sampled_from(["name", "#ff0000"]))
tables = st.recursive(words, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
    st.one_of(st.sampled_from(["classes", "labels", "names", "title", "name", "color", "id", "0", "1", "images", "categories",
                               "annotations", "shapes", "objects", "size", "data"]), st.text(max_size=3)), inner, max_size=4)),
    max_leaves=12)  # fmt: skip


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables)
def test_any_json_beside_the_images_does_no_harm(tmp_path: Path, table: object) -> None:
    path = tmp_path / "classes.json"
    text(path, json.dumps(table))
    for row in rows_of(path):
        assert row.name.isprintable()
    with contextlib.suppress(FastSCNNError):
        guess(Survey(tmp_path, (path.name,)))


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".txt", ".csv", ".yaml"]), st.text("ab: ,;\t\n-#[]'\"0123456789{}.", max_size=60))
def test_any_text_beside_the_images_does_no_harm(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"classes{suffix}"
    text(path, content)
    assert len({row.name for row in rows_of(path)}) == len(rows_of(path))
