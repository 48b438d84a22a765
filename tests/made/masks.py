"""Label images, as tools and datasets store them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import UInt8Array
from fastscnn.data.init.known import CARLA
from made.scenes import (
    BY_SPLIT,
    COLOURS,
    COUNT,
    NAMES,
    TRAIN,
    VAL,
    Made,
    coloured,
    pairs,
    photos,
    save,
    text,
    truth,
)

VOC_PALETTE = [(0, 0, 0), *COLOURS[1:], *[(0, 0, 0)] * 251, (224, 224, 192)]
UNNAMED = {f'"class {number}"': f'"{name}"' for number, name in enumerate(NAMES)}
FACADE = ((0, 0, 0), (128, 64, 0), (128, 0, 128), (0, 128, 0))  # various, road, car and vegetation of LabelMeFacade


def lines(numbers: tuple[int, ...], pattern: str = "{n}") -> str:
    return "".join(pattern.format(n=f"street_{number}") + "\n" for number in numbers)


def bordered(number: int) -> UInt8Array:
    """Labels with a border of 255 around each area, as in Pascal VOC."""
    labels = truth(number)
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return np.where(edge, np.uint8(255), labels)


def voc(root: Path) -> Made:
    """With CVAT's labelmap.txt, label files for objects, and an image that is in no list."""
    photos(root, "JPEGImages/{n}.jpg")
    rows = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip(NAMES, COLOURS, strict=True))
    text(root / "labelmap.txt", f"# label:color_rgb:parts:actions\n{rows}")
    for number in range(COUNT):
        save(root / f"SegmentationClass/street_{number}.png", bordered(number), palette=VOC_PALETTE)
        save(root / f"SegmentationObject/street_{number}.png", bordered(number), palette=VOC_PALETTE)
    for name, numbers in (("train", TRAIN), ("val", VAL), ("trainval", (*TRAIN, *VAL))):
        text(root / f"ImageSets/Segmentation/{name}.txt", lines(numbers))
    save(root / "JPEGImages/other.jpg", np.full((64, 64, 3), 90, np.uint8))
    return Made(splits=BY_SPLIT, labels=bordered)


def supervisely_masks(root: Path) -> Made:
    pairs(root, "dataset 1/img/{n}.jpg", "dataset 1/masks_machine/{n}.png", lambda labels: np.dstack([labels * 10] * 3))
    pairs(root, "dataset 1/img/{n}.jpg", "dataset 1/masks_human/{n}.png", coloured)
    machine = {name: [place * 10] * 3 for place, name in enumerate(NAMES)}
    text(root / "obj_class_to_machine_color.json", json.dumps(machine))
    return Made()


def roboflow(root: Path) -> Made:
    for numbers, name in ((TRAIN, "train"), (VAL, "valid")):
        for number, file in zip(numbers, photos(root, f"{name}/{{n}}_png.rf.0a1b2c.jpg", numbers), strict=True):
            save(file.with_name(f"{file.stem}_mask.png"), truth(number))
        text(root / name / "_classes.csv", "Pixel Value, Class\n" + "".join(f"{i}, {word}\n" for i, word in enumerate(NAMES)))
    return Made(splits=BY_SPLIT)


def paddleseg(root: Path) -> Made:
    pairs(root, "images/{n}.jpg", "annotations/{n}.png", palette=VOC_PALETTE)
    for name, numbers in BY_SPLIT.items():
        text(root / f"{name}.txt", lines(tuple(numbers), "images/{n}.jpg annotations/{n}.png"))
    text(root / "labels.txt", "\n".join(NAMES))
    return Made(splits=BY_SPLIT)


def mmsegmentation(root: Path) -> Made:
    pairs(root, "img_dir/{s}/{n}.png", "ann_dir/{s}/{n}.png")
    return Made(splits=BY_SPLIT, filled_in=UNNAMED)


def mmsegmentation_lists(root: Path) -> Made:
    pairs(root, "images/{n}.jpg", "labels/{n}.png")
    for name, numbers in BY_SPLIT.items():
        text(root / f"splits/{name}.txt", lines(tuple(numbers)))
    return Made(splits=BY_SPLIT, filled_in=UNNAMED)


def all_tags(number: int) -> UInt8Array:
    """Labels that begin with a strip of every class but background: positions in CARLA[1:]."""
    tags = np.array([CARLA.index(name) for name in ("sky", "road", "car", "vegetation")], np.uint8)
    labels: UInt8Array = tags[truth(number)]
    labels[:2, : 2 * len(CARLA[1:])] = np.repeat(np.arange(1, len(CARLA)), 2)
    return np.asarray(labels - 1, np.uint8)


def carla(root: Path) -> Made:
    """The tags of CARLA 0.9.14 and later, in the red channel."""
    photos(root, "rgb/{n}.png")
    for number in range(COUNT):
        tags = all_tags(number) + np.uint8(1)
        save(root / f"semantic_segmentation/street_{number}.png", np.dstack([tags, 0 * tags, 0 * tags]))
    return Made(CARLA[1:], {"# TODO: the names are": "# The names are"}, labels=all_tags)


def npy(root: Path) -> Made:
    photos(root, "images/{n}.jpg")
    (root / "labels").mkdir()
    for number in range(COUNT):
        np.save(root / f"labels/street_{number}.npy", truth(number).astype(np.int64))
    return Made(filled_in=UNNAMED)


def mat(root: Path) -> Made:
    from scipy.io import savemat

    photos(root, "images/{n}.jpg")
    (root / "labels").mkdir()
    for number in range(COUNT):
        savemat(root / f"labels/street_{number}.mat", {"LabelMap": truth(number).astype(np.float64)}, do_compression=True)
    return Made(filled_in=UNNAMED)


def labelmefacade(root: Path) -> Made:
    photos(root, "images/{n}.jpg")
    for number in range(COUNT):
        labels = truth(number)
        rgba = np.dstack([np.array(FACADE, np.uint8)[labels], np.full_like(labels, 255)])
        _png16(root / f"labels/street_{number}.png", rgba.astype(np.uint16) * 257)
    text(root / "train.txt", lines(TRAIN))
    text(root / "test.txt", lines(VAL))
    return Made(splits={"train": TRAIN, "test": VAL}, filled_in={
        f'"#{bytes(colour).hex()}"': f'"{name}"' for colour, name in zip(FACADE, NAMES, strict=True)})


def _png16(path: Path, rgba: npt.NDArray[np.uint16]) -> None:
    """Write a PNG with 16 bits per channel, which Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgba)
    header = struct.pack(">IIBBBBB", rgba.shape[1], rgba.shape[0], 16, 6, 0, 0, 0)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def road_only(number: int) -> UInt8Array:
    return np.asarray(truth(number) == 1, np.uint8)


def binary(root: Path) -> Made:
    """Masks of 0 and 255 with grey edges."""
    photos(root, "images/{n}.jpg")
    for number in range(COUNT):
        mask = 255 * road_only(number)
        step = np.diff(mask.astype(np.int16), axis=1, prepend=mask[:, :1].astype(np.int16))
        mask[step > 0] = np.linspace(129, 254, int((step > 0).sum()))
        mask[step < 0] = np.linspace(1, 127, int((step < 0).sum()))
        save(root / f"masks/street_{number}.png", mask)
    return Made(("background", "road"), {"foreground": "road"}, labels=road_only)


def colours(root: Path) -> Made:
    pairs(root, "images/{n}.jpg", "labels/{n}.png", coloured)
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip(NAMES, COLOURS, strict=True))
    text(root / "class_dict.csv", f"name,r,g,b\n{rows}")
    return Made()


def ids(root: Path) -> Made:
    pairs(root, "images/{s}/{n}.jpg", "labels/{s}/{n}.png")
    text(root / "classes.txt", "\n".join(NAMES))
    return Made(splits=BY_SPLIT)


def unlabelled_rows(number: int) -> UInt8Array:
    labels = truth(number)
    labels[:2] = 255
    return labels


def ade20k(root: Path) -> Made:
    """Ids from 1 in the order of objectInfo150.txt; 0 is not labelled."""
    for name, numbers in (("training", TRAIN), ("validation", VAL)):
        photos(root, f"images/{name}/ADE_{{n}}.jpg", numbers)
        for number in numbers:
            save(root / f"annotations/{name}/ADE_street_{number}.png", unlabelled_rows(number) + np.uint8(1))
    rows = "".join(f"{place}\t0.1\t10\t1\t1\t{name}, other words\n" for place, name in enumerate(NAMES, 1))
    text(root / "objectInfo150.txt", f"Idx\tRatio\tTrain\tVal\tStuff\tName\n{rows}")
    return Made(splits=BY_SPLIT, labels=unlabelled_rows)
