"""`dataset init`: every layout that people bring is recognised, and its labels are read as they were made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.folder import Initialised, init_dataset
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


def save(path: Path, pixels: np.ndarray, **options: object) -> None:  # type: ignore[type-arg]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def pairs(root: Path, image: str, labels: str, encode: Callable[[UInt8Array], np.ndarray] = np.asarray) -> None:  # type: ignore[type-arg]
    """Write all images and label files; {n} is the number, {s} the split: train or val."""
    for number in range(COUNT):
        split = "train" if number < 4 else "val"
        save(root / image.format(n=f"s{number}", s=split), photo(number))
        save(root / labels.format(n=f"s{number}", s=split), encode(truth(number)))


def coloured(labels: UInt8Array) -> UInt8Array:
    return np.array(list(COLOURS.values()), np.uint8)[labels]


def indexed(path: Path, labels: UInt8Array, palette: Sequence[tuple[int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels).convert("P") if False else Image.fromarray(labels, "P") if False else _paletted(labels, palette)
    image.save(path)


def _paletted(labels: UInt8Array, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    image = Image.new("P", labels.shape[::-1])
    image.putdata(labels.ravel().tolist())
    image.putpalette([value for colour in palette for value in colour])
    return image


@dataclass
class Expected:
    """What a layout must give.

    Attributes:
        names: of the four classes, "" for one that is ignored; None takes any names, in the order of the classes.
        splits: the names of the splits.
        left_open: part of the only sentence about what is left open; "" if nothing is.
        train: train ids of the four classes, if the names do not tell.
    """

    names: Sequence[str] | None = NAMES
    splits: Sequence[str] = ("train", "val")
    left_open: str = ""
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
    return Expected(None, ("train", "test"), "no file names the colours", by_colour())


def by_colour() -> list[int]:
    """Train ids of classes that are named by their colours, in the order of these."""
    order = sorted(COLOURS.values())
    return [order.index(colour) for colour in COLOURS.values()]


def write_png16(path: Path, rgba: np.ndarray) -> None:  # type: ignore[type-arg]
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
    classes = [{"title": name, "shape": "bitmap", "color": "#%02x%02x%02x" % rgb, "id": 8000} for name, rgb in COLOURS.items()]
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
    return (labels == 1).astype(np.uint8)


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
        mask[binary(labels) != np.roll(binary(labels), 1, 1)] = np.where(
            binary(labels)[binary(labels) != np.roll(binary(labels), 1, 1)], 250 - 5 * np.arange(20)[:10].repeat(2), 5 + 3 * np.arange(20)
        )
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
        stored = labels + 1
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
            assert (labels[stated] == wanted[stated]).all()
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
