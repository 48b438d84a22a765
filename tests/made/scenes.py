"""Small pictures of known labels, and how a dataset of them is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastscnn.base.types import BoolArray, UInt8Array
from made.street import street

COUNT = 6
NAMES = ("background", "road", "car", "tree")
COLOURS = ((0, 0, 0), (128, 64, 128), (0, 0, 142), (107, 142, 35))  # those of Cityscapes
TRAIN, VAL = tuple(range(4)), tuple(range(4, COUNT))

Points = list[tuple[int, int]]  # x, y; corners of pixels, clockwise on the screen


@dataclass(frozen=True)
class Made:
    """A dataset as a tool writes it.

    Attributes:
        names: the classes of `labels`, in the order of its ids; 255 is ignored.
        filled_in: what is marked as open in the dataset.toml -> what its owner writes there.
        splits: split -> numbers of its pictures; empty: divided by fractions.
        labels: labels of a picture by its number.
    """

    names: Sequence[str] = NAMES
    filled_in: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    labels: Callable[[int], UInt8Array] = field(default_factory=lambda: truth)


Writer = Callable[[Path], Made]
BY_SPLIT = {"train": TRAIN, "val": VAL}


def size(number: int) -> tuple[int, int]:
    """Height and width of a picture; they differ, so that exchanged axes do not pass."""
    return (64, 96) if number % 2 else (80, 72)


def split(number: int) -> str:
    return "train" if number in TRAIN else "val"


def shapes(number: int) -> list[tuple[str, Points]]:
    """The outlines of a picture, the lowest first: an L that leaves room at the border, a box over it, a box at the border."""
    height, width = size(number)
    middle, low = height // 2 + number, height - 3
    road = [(5, middle), (30, middle), (30, middle + 9), (width - 4, middle + 9), (width - 4, low), (5, low)]
    car = [(12 + number, middle - 8), (40 + number, middle - 8), (40 + number, middle + 15), (12 + number, middle + 15)]
    tree = [(34, 0), (width, 0), (width, middle + 4), (34, middle + 4)]
    return [("road", road), ("car", car), ("tree", tree)]


def inside(points: Points, height: int, width: int) -> BoolArray:
    """The pixels whose centre lies in an outline with level and upright sides, by the even-odd rule."""
    drawn = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if x0 == x1:
            drawn[min(y0, y1) : max(y0, y1), x0:] ^= True
    return drawn


def of_centres(points: Points) -> Points:
    """The same outline through the centres of its outermost pixels, for tools that draw the outline, too."""
    found = []
    for before, here, after in zip([points[-1], *points[:-1]], points, [*points[1:], points[0]], strict=True):
        down = here[1] > before[1] or after[1] > here[1]
        left = here[0] < before[0] or after[0] < here[0]
        found.append((here[0] - down, here[1] - left))
    return found


def truth(number: int) -> UInt8Array:
    """The labels of a picture: ids of NAMES."""
    labels = np.zeros(size(number), np.uint8)
    for name, points in shapes(number):
        labels[inside(points, *size(number))] = NAMES.index(name)
    return labels


@cache
def photo(number: int) -> UInt8Array:
    """The picture: a scene with the colours of its labels laid over it."""
    scene = street(*size(number), number).image
    colours = np.array(COLOURS, np.uint16)[truth(number)]
    return ((scene.astype(np.uint16) + colours) // 2).astype(np.uint8)


def coloured(labels: UInt8Array) -> UInt8Array:
    """RGB of NAMES."""
    return np.array(COLOURS, np.uint8)[labels]


def save(path: Path, pixels: npt.NDArray[np.generic], **options: object) -> None:
    """Write an image; with `palette`, an indexed one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette := options.pop("palette", None):
        image.putpalette([value for colour in palette for value in colour])  # type: ignore[attr-defined]
    image.save(path, **options)  # type: ignore[arg-type]


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")


def photos(root: Path, pattern: str, numbers: Sequence[int] = range(COUNT)) -> list[Path]:
    """Write the pictures; {n} is the name, {s} the split. Return their files."""
    files = [root / pattern.format(n=f"street_{number}", s=split(number)) for number in numbers]
    for number, file in zip(numbers, files, strict=True):
        save(file, photo(number))
    return files


def pairs(
    root: Path, image: str, labels: str, encode: Callable[[UInt8Array], npt.NDArray[np.generic]] = np.asarray, **options: object
) -> None:
    """Write pictures and label images."""
    photos(root, image)
    for number in range(COUNT):
        save(root / labels.format(n=f"street_{number}", s=split(number)), encode(truth(number)), **options)
