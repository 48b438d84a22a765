"""check: label files that could be read wrong in silence. Each is made once and found; a right dataset has no finding."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.check.findings import KINDS, Finding
from fastscnn.data.init.survey import MARK

SIZE = (48, 64)
PURE = np.array([(32, 0, 64), (9, 255, 0)], np.uint8)
COLOURS = np.array([(0, 0, 255), (128, 64, 128), (255, 0, 0)], np.uint8)
GIVEN = "colours = [[0, 0, 255], [128, 64, 128], [255, 0, 0]]"
BY_COLOUR = f'{GIVEN}\nlabels_are = "colours"'
BINARY = 'labels_are = "binary"'
TWO = ("background", "road")


def photo(seed: int, size: tuple[int, int] = SIZE) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def ids(seed: int, classes: int = 3, size: tuple[int, int] = SIZE) -> UInt8Array:
    """Blocks of 8x8 pixels; every class has some."""
    blocks = np.random.default_rng(seed).permutation(np.arange(size[0] * size[1] // 64) % classes).astype(np.uint8)
    return blocks.reshape(size[0] // 8, size[1] // 8).repeat(8, 0).repeat(8, 1)


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def indexed(path: Path, pixels: UInt8Array, palette: npt.NDArray[Any]) -> None:
    image = Image.fromarray(pixels)
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path)


def turned(path: Path, pixels: npt.NDArray[Any], orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    save(path, pixels, exif=tags)


Save = Callable[[Path, UInt8Array, int], object]  # of a label file, its ids, and the number of the pair


@dataclass(frozen=True)
class Case:
    """A dataset that is right if each label file is written by `right`, and wrong if by `wrong` or after `change`."""

    kind: str
    severity: str
    expected: str  # in message and fix of the first finding
    right: Save = lambda path, values, _: save(path, values)
    wrong: Save | None = None
    change: Callable[[Path], object] = lambda root: None
    classes: tuple[str, ...] = ("sky", "road", "car")
    extra: str = ""
    images: str = "images/{split}/*.png"
    suffix: str = "png"
    also: tuple[str, ...] = field(default=())  # further kinds that the wrong dataset has

    def make(self, root: Path, write: Save) -> CheckReport:
        text = f'name = "t"\nclasses = {list(self.classes)}\n{self.extra}\n'
        for place, split in enumerate(("train", "val")):
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            for index in range(2):
                number = 2 * place + index
                save(root / f"images/{split}/{number}.png", photo(number))
                write(root / f"labels/{split}/{number}.{self.suffix}", ids(number, len(self.classes)), number)
            text += (
                f'[splits.{split}]\nimages = "{self.images.format(split=split)}"\n'
                f'labels = "labels/{split}/{{stem}}.{self.suffix}"\n'
            )
        (root / "dataset.toml").write_text(text)
        return check(datasets.load(root))

    def found(self, root: Path) -> CheckReport:
        report = self.make(root, self.wrong or self.right)
        self.change(root)
        return check(datasets.load(root)) if self.wrong is None else report


def first(*numbers: int) -> Callable[[Save, Save], Save]:
    """Use one way of writing for these pairs, and the other for the rest."""
    return lambda one, other: lambda path, values, number: (one if number in numbers else other)(path, values, number)


def times(factor: int) -> Save:
    return lambda path, values, _: save(path, values * np.uint8(factor))


def permuted(path: Path, values: UInt8Array, number: int) -> None:
    order = np.array([(0, 1, 2), (2, 0, 1), (1, 2, 0)], np.uint8)[number % 3]
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = COLOURS
    indexed(path, order[values], palette)


def coloured(path: Path, values: UInt8Array, number: int) -> None:
    """Indices are right, and the palette has the colours of the classes."""
    indexed(path, values, COLOURS)


def recoloured(path: Path, values: UInt8Array, number: int) -> None:
    indexed(path, values, COLOURS if number else 255 - COLOURS)


def half_known(moved: bool) -> Save:
    palette = COLOURS[[1, 0, 2]] if moved else COLOURS.copy()
    palette[2] = (9, 9, 9)
    return lambda path, values, number: indexed(path, values, COLOURS if number else palette)


def rgb(path: Path, values: UInt8Array, number: int) -> None:
    save(path, COLOURS[values])


def plain(path: Path, values: UInt8Array, number: int) -> None:
    save(path, values)


def overlay(path: Path, values: UInt8Array, number: int) -> None:
    save(path, (COLOURS[values] // 2 + photo(number) // 2).astype(np.uint8))


def photos(path: Path, values: UInt8Array, number: int) -> None:
    save(path, photo(number))


def grey_photos(path: Path, values: UInt8Array, number: int) -> None:
    save(path, photo(number + 50)[:, :, 0])


def soft(path: Path, values: UInt8Array, number: int) -> None:
    mask = values * np.float32(255)
    save(path, np.clip(mask + np.random.default_rng(number).normal(0, 60, mask.shape), 0, 255).astype(np.uint8))


def no_alpha(path: Path, values: UInt8Array, number: int) -> None:
    save(path, np.dstack([values, photo(number)[:, :, 0]]))


def swap(root: Path) -> None:
    (root / "images").rename(root / "other")
    (root / "labels").rename(root / "images")
    (root / "other").rename(root / "labels")


def move(name: str, other: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(root / other)

    return change


def add(name: str, kind: str = "PNG") -> Callable[[Path], object]:
    return lambda root: save(root / name, photo(77), format=kind)


def link(root: Path) -> None:
    save(root.parent / f"{root.name}-nas/x.png", photo(78))
    (root / "images/train/linked").symlink_to(root.parent / f"{root.name}-nas")


CASES: dict[str, Case] = {
    "another palette in each file": Case(
        "palettes-differ", "error", r"the index . has the colour #.* in .*/0\.png|Give the colo", coloured, permuted
    ),
    "another colour in one file": Case(
        "palettes-differ", "warning", r"the index 0 has the colour #ffff00 .* but #0000ff", coloured, recoloured
    ),
    "class colours at other indices": Case(
        "palette-mismatch", "error", r"not at the indices 2 \(#090909\)", permuted, half_known(True), extra=GIVEN
    ),
    "one colour of no class": Case(
        "palette-mismatch", "warning", "it is read by index", coloured, half_known(False), extra=GIVEN
    ),
    "masks of 1 and of 255": Case(
        "mixed-masks",
        "warning",
        r"holds 0 and 255, where .* holds 0 and 1;.*" + f"Set {BINARY}",
        plain,
        first(1, 3)(times(255), plain),
        classes=TWO,
    ),
    "masks of 255": Case("one-class", "warning", "100 %.*masks of 0 and 255, set " + BINARY, plain, times(255), classes=TWO),
    "one class, the rest ignored": Case(
        "one-class",
        "warning",
        "Label the rest of the images",
        plain,
        lambda path, values, _: save(path, np.where(values == 1, 1, 255).astype(np.uint8)),
    ),
    "one file in val of one class": Case(
        "one-class",
        "warning",
        "of the split 'val' is 'road'",
        plain,
        first(2, 3)(lambda path, values, _: save(path, values * 0 + 1), plain),
    ),
    "ids as JPEG": Case(
        "lossy-labels",
        "error",
        "is stored as JPEG, whose compression changes ids",
        plain,
        lambda path, values, _: save(path, values * np.uint8(9), format="JPEG"),
        also=("absent-class",),
    ),
    "colours as WebP": Case(
        "lossy-labels",
        "error",
        "is stored as lossy WebP, whose compression changes colours",
        lambda path, values, _: save(path, COLOURS[values], lossless=True),
        lambda path, values, _: save(path, COLOURS[values], quality=60),
        extra=BY_COLOUR,
        suffix="webp",
        also=("absent-class", "mostly-unknown"),
    ),
    "colours as JPEG 2000": Case(
        "lossy-labels",
        "error",
        "is stored as lossy JPEG 2000",
        lambda path, values, _: save(path, COLOURS[values], irreversible=False),
        lambda path, values, _: save(path, COLOURS[values], irreversible=True),
        extra=BY_COLOUR,
        suffix="jp2",
        also=("absent-class", "mostly-unknown"),
    ),
    "ids as TIFF with JPEG inside": Case(
        "lossy-labels",
        "error",
        "is stored as JPEG",
        plain,
        lambda path, values, _: save(path, values, compression="jpeg"),
        suffix="tif",
    ),
    "masks as JPEG": Case(
        "lossy-labels",
        "warning",
        "changes edges of masks",
        times(255),
        lambda path, values, _: save(path, values * np.uint8(255), format="JPEG"),
        classes=TWO,
        extra=BINARY,
    ),
    "the images as labels": Case("picture-as-labels", "error", "holds the same pixels as its image", plain, photos),
    "the images as coloured labels": Case(
        "picture-as-labels",
        "error",
        "holds the same pixels as its image",
        rgb,
        photos,
        extra=BY_COLOUR,
        also=("empty-labels", "mostly-unknown"),
    ),
    "grey pictures as labels": Case(
        "picture-as-labels", "error", "has 256 colours, as a photograph, an overlay", plain, grey_photos
    ),
    "overlays as labels": Case(
        "picture-as-labels",
        "error",
        r"has \d+ colours, as a photograph, an overlay",
        rgb,
        overlay,
        extra=BY_COLOUR,
        also=("empty-labels", "mostly-unknown"),
    ),
    "images and labels swapped": Case(
        "swapped-files", "error", r"its image .* has few, as labels.*Exchange `images` and", change=swap
    ),
    "coloured labels where ids were said": Case("unreadable-labels", "error", 'Set labels_are = "colours"', plain, rgb),
    "ids in the red channel": Case(
        "unreadable-labels",
        "error",
        'Set channel = "red"',
        plain,
        lambda path, values, _: save(path, np.dstack([values, values * 0, values * 0])),
    ),
    "transparent parts": Case("unreadable-labels", "error", "Save the labels with one whole number", plain, no_alpha),
    "cut labels": Case(
        "unreadable-labels",
        "error",
        "Replace the label file by an intact copy",
        change=lambda root: (root / "labels/train/0.png").write_bytes((root / "labels/train/0.png").read_bytes()[:60]),
    ),
    "pictures where masks were said": Case(
        "no-mask",
        "warning",
        r"\d+ % of its pixels are neither near 0 nor near 255",
        times(255),
        soft,
        classes=TWO,
        extra=BINARY,
    ),
    "ids where masks were said": Case(
        "no-mask",
        "warning",
        "no value above 2, and the threshold of the second class is 128",
        plain,
        lambda path, values, _: save(path, values * np.uint8(2)),
        classes=TWO,
        extra=BINARY,
        also=("one-class",),
    ),
    "scaled ids": Case(
        "unknown-ids", "error", '0 = "sky", 100 = "road", 200 = "car"', plain, times(100), also=("absent-class",)
    ),
    "ids over the whole range": Case(
        "unknown-ids",
        "error",
        '128 = "road", 255 = "car"',
        plain,
        lambda path, values, _: save(path, np.array([0, 128, 255], np.uint8)[values]),
        also=("absent-class",),
    ),
    "ids from 1": Case(
        "unknown-ids",
        "error",
        "The ids begin with 1: set ignore = 0",
        plain,
        lambda path, values, _: save(path, values + np.uint8(1)),
        also=("absent-class",),
    ),
    "one id too many": Case(
        "unknown-ids",
        "error",
        "if 0 is no class and the others begin with 1, set ignore = 0",
        plain,
        lambda path, values, number: save(path, ids(number, 4)),
    ),
    "ids of another dataset": Case(
        "unknown-ids",
        "error",
        "Most pixels are of no class",
        plain,
        lambda path, values, _: save(path, values * np.uint8(3) + np.uint8(7)),
    ),
    "the last class lacks, and ids begin with 1": Case(
        "absent-class",
        "warning",
        "if the ids of the classes begin with 1, set ignore = 0",
        plain,
        lambda path, values, _: save(path, np.maximum(values, 1)),
    ),
    "blue and red exchanged": Case(
        "unknown-colours",
        "warning",
        "files hold them in the other order",
        lambda path, values, _: save(path, PURE[values]),
        lambda path, values, _: save(path, PURE[values][:, :, ::-1]),
        classes=TWO,
        extra='labels_are = "colours"\ncolours = [[32, 0, 64], [9, 255, 0]]',
        also=("empty-labels", "mostly-unknown"),
    ),
    "ids where colours were said": Case(
        "unknown-colours",
        "warning",
        'Set labels_are = "ids"',
        rgb,
        plain,
        extra=BY_COLOUR,
        also=("empty-labels", "mostly-unknown"),
    ),
    "colours of another dataset": Case(
        "mostly-unknown",
        "warning",
        r"100 % of the pixels of the split 'train' have colours of no",
        rgb,
        lambda path, values, _: save(path, COLOURS[values] // 2 + 3),
        extra=BY_COLOUR,
        also=("empty-labels", "unknown-colours"),
    ),
    "labels of half the size": Case(
        "size-mismatch",
        "error",
        "The images are 2 times as large as their labels",
        plain,
        lambda path, values, _: save(path, values[::2, ::2]),
    ),
    "labels of 3/2 the size": Case(
        "size-mismatch",
        "error",
        "The images are 2/3 times as large",
        plain,
        lambda path, values, number: save(path, ids(number, 3, (72, 96))),
    ),
    "labels on their side": Case(
        "size-mismatch", "error", "Rotate the labels by 90 degrees", plain, lambda path, values, _: save(path, values.T.copy())
    ),
    "labels of rotated images": Case(
        "size-mismatch",
        "error",
        "or remove the EXIF orientation of the image",
        change=lambda root: turned(root / "images/train/0.png", photo(0), 6),
        also=("exif-rotated",),
    ),
    "rotated labels": Case(
        "exif-rotated",
        "warning",
        r"labels/train/0\.png: is stored rotated.*its image has the orientation 1",
        change=lambda root: turned(root / "labels/train/0.png", ids(0), 3),
    ),
    "the same labels twice": Case(
        "same-labels",
        "warning",
        r"1\.png: holds the same labels as .*0\.png, but their images differ",
        change=lambda root: save(root / "labels/train/1.png", ids(0)),
    ),
    "one image, two labels": Case(
        "contradicting-labels",
        "warning",
        r"differs from .*0\.png, the labels of the same image",
        change=lambda root: save(root / "images/train/1.png", photo(0)),
        also=("duplicate",),
    ),
    "a class in val alone": Case(
        "absent-class",
        "warning",
        "no pixel of the split 'train' is 'car', but that of 2 images of 'val'",
        plain,
        first(0, 1)(lambda path, values, _: save(path, np.minimum(values, 1)), plain),
    ),
    "another suffix": Case(
        "left-out-images",
        "warning",
        r"9\.bmp: has the suffix '\.bmp' and is left out .* 'train'\..*Add a pattern",
        change=add("images/train/9.bmp", "BMP"),
    ),
    "a suffix that is not read": Case(
        "left-out-images",
        "warning",
        "the suffix '.heic'.*Save these images as .jpg or .png",
        change=lambda root: (root / "images/train/9.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)),
    ),
    "no suffix": Case("left-out-images", "warning", "has no suffix and is left", change=add("images/val/9", "GIF")),
    "hidden files": Case(
        "hidden-files",
        "warning",
        r"\._0\.png: is hidden and skipped .*, as 1 more like it\..*Delete",
        change=lambda root: [(root / f"images/train/._{name}.png").write_bytes(b"Mac OS X") for name in "01"],
    ),
    "hidden folders": Case(
        "hidden-files",
        "warning",
        "is hidden and skipped in the split 'train'\\.",
        change=add("images/train/.ipynb_checkpoints/0-checkpoint.png"),
    ),
    "hidden label files": Case(
        "hidden-files",
        "warning",
        r"labels/train/\._0\.png: is hidden and skipped in the split 'train', as 1 more like it\..*Delete",
        change=lambda root: [(root / f"labels/train/._{name}.png").write_bytes(b"Mac OS X") for name in "01"],
    ),
    "linked folders": Case(
        "linked-folder",
        "warning",
        r"is a link to a folder; the pattern 'images/train/\*\*/\*\.png' does not",
        change=link,
        images="images/{split}/**/*.png",
    ),
    "labels of an image of another suffix": Case(
        "extra-labels",
        "warning",
        r"but there is .*0\.bmp\..*suffix \.bmp to images",
        change=move("images/train/0.png", "images/train/0.bmp"),
        also=("left-out-images",),
    ),
    "labels of an image that is not read": Case(
        "extra-labels",
        "warning",
        "Save the images with the suffix '.heic'",
        change=move("images/train/0.png", "images/train/0.heic"),
        also=("left-out-images",),
    ),
    "labels of an image elsewhere": Case(
        "extra-labels",
        "warning",
        r"there is .*more/0\.png\. If that is the image, move it",
        change=move("images/train/0.png", "more/0.png"),
    ),
    "labels of another case": Case(
        "extra-labels",
        "warning",
        r"there is .*STREET\.png.*the same name, in the same case",
        change=lambda root: [
            move("images/train/0.png", "images/train/STREET.png")(root),
            move("labels/train/0.png", "labels/train/street.png")(root),
        ],
        also=("missing-labels",),
    ),
}


def of_kind(report: CheckReport, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


@pytest.mark.reliability("faults")
@pytest.mark.parametrize("name", CASES)
def test_each_is_found_and_a_right_dataset_is_not(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    if case.change is link and sys.platform == "win32":
        pytest.skip("links need a privilege on Windows")
    assert case.make(tmp_path / "right", case.right).findings == ()
    report = case.found(tmp_path / "wrong")
    findings = of_kind(report, case.kind)
    assert findings, [finding.kind for finding in report.findings]
    assert {finding.severity for finding in findings} == {case.severity}
    text = " ".join(f"{finding.message} {finding.fix}" for finding in findings)
    assert re.search(case.expected, text), text
    assert {finding.kind for finding in report.findings} - {case.kind} <= set(case.also)
    assert all(str(finding.path) in finding.message for finding in report.findings)
    cached = [check(datasets.load(tmp_path / "wrong"), cache=tmp_path / "cache") for _ in range(2)]
    assert cached == [report, report], "the same from the cache"


@pytest.mark.parametrize(("classes", "pairs", "found"), [
    (("sky", "road"), [(0, 1), (0, 255)], True),
    (("sky", "road", "car"), [(0, 1), (0, 255)], False),  # 255 marks pixels to ignore
    (("sky", "road"), [(0, 1), (0, 255), (0, 2)], False),  # an unknown id
    (("sky", "road"), [(0, 1), (1, 255)], False),
])  # fmt: skip
def test_only_masks_of_two_classes_are_mixed(
    tmp_path: Path, classes: tuple[str, ...], pairs: list[tuple[int, int]], found: bool
) -> None:
    def write(path: Path, blocks: UInt8Array, number: int) -> None:
        save(path, np.array(pairs[number % len(pairs)], np.uint8)[blocks % 2])

    report = Case("", "", "", classes=classes).make(tmp_path, write)
    assert bool(of_kind(report, "mixed-masks")) == found


def test_what_dataset_init_wrote_is_not_left_out(tmp_path: Path) -> None:
    case = CASES["another suffix"]
    case.make(tmp_path, plain)
    for name in ("images/train/dataset.jpg", "images/train/other.jpg"):
        save(tmp_path / name, photo(9))
    text = (tmp_path / "dataset.toml").read_text()
    (tmp_path / "dataset.toml").write_text(f'{MARK}["images/train/dataset.jpg"]\n{text}')
    (finding,) = of_kind(check(datasets.load(tmp_path)), "left-out-images")
    assert finding.path == tmp_path / "images/train/other.jpg"
    assert "more like it" not in finding.message


def test_one_file_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    CASES["another suffix"].make(tmp_path, plain)
    text = (tmp_path / "dataset.toml").read_text()
    (tmp_path / "dataset.toml").write_text(text.replace("/val/", "/train/"))
    found = of_kind(check(datasets.load(tmp_path)), "leak")
    assert [finding.severity for finding in found] == ["error", "error"]
    assert found[0].message == f"{tmp_path / 'images/train/0.png'}: is in the splits 'train' and 'val'."


def test_kinds_are_described() -> None:
    page = (Path(__file__).parents[1] / "docs/datasets.md").read_text()
    section = page.partition("## What `check` finds")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(KINDS)
    assert {case.kind for case in CASES.values()} <= set(KINDS)
