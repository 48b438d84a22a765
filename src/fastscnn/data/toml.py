"""A user's dataset, described by a dataset.toml in its folder.

```toml
name = "facade"
classes = ["building", "car"]          # the id of a class is its position
colours = [[128, 0, 0], [128, 0, 128]] # one per class; optional, but required if labels_are = "colours"
ignore = 255                           # id, or list of ids, of pixels excluded from training and evaluation; the default
                                       # ignore = 0: the ids of the classes begin with 1
labels_are = "ids"                     # the default; see `labels_are` below
terms = "..."                          # optional: terms of use of the data

[map]                                  # optional: stored id, colour ("128,0,0" or "#800000") or name -> class or "ignore"
7 = "building"
8 = "building"
26 = "car"
"*" = "ignore"                         # everything else; without it, anything that is not listed is an error

[splits.train]
images = "images/train/*.jpg"          # glob pattern relative to the folder of the toml, or a list of them; suffixes match in
                                       # any case; `**`, `..` and paths through tar archives (*.tar/*.jpg) are allowed
labels = "labels/train/{stem}.png"     # {stem}: the image's file name without its suffix; {1}: what the first * matches
thermal = "thermal/train/{stem}.png"   # optional, in all splits or in none: a fourth channel, greyscale of 8 or 16 bits
soft = "soft/train/{stem}.npz"         # optional: class probabilities of another network, to be learned by distillation
window = "1024x1024"                   # optional: divide each image into windows of at most this size (HxW)
list = "train.txt"                     # optional: the images of this split; with images: names to choose from them; without:
                                       # paths, and their label files in a second column

[splits.all]                           # instead: divide the images by fractions, in an order that the seed chooses
images = "images/*.jpg"
labels = "labels/{stem}.png"
fractions = { train = 0.8, val = 0.2 }
seed = 0

[soft]                                 # optional: what soft labels are
classes = ["wall", "car"]              # their classes, or "cityscapes" or "camvid"; the default: those of this dataset
terms = "..."                          # terms of use of the network that made them
map = { wall = "building" }            # soft class -> class or "ignore"; classes of equal names need no entry
```

`labels_are`:

| value | label files |
| --- | --- |
| "ids" | images of one channel, indexed images, .npy, .mat; channel = "red": of RGB files; variable = "x": of .mat files |
| "colours" | images in which each class has a colour; other colours are ignored, and found by `check` |
| "binary" | masks of 0 and 1, or 0 and 255: values from threshold (128) upward are the second class; channel = "alpha" |
| "coco", "coco-panoptic", "cvat", "label-studio" | one file of shapes for many images: `labels = "annotations.json"` |
| "labelme", "supervisely", "yolo" | a file of shapes for each image: `labels = "labels/{stem}.json"` |

Formats of shapes have two more keys: `background`, the class of pixels without a shape (default "ignore"), and `order`, a
list of stored names, the lowest first; otherwise later shapes of a file lie over earlier ones. [map] adds to the names of the
classes; for "yolo" it goes from numbers to classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastscnn.base import archives
from fastscnn.base.arguments import MAX_PIXELS, height_width
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data import class_map
from fastscnn.data.class_lists import CLASS_LISTS
from fastscnn.data.lists import ListFile, divided
from fastscnn.data.patterns import has_placeholder, without_wildcard
from fastscnn.data.soft import SoftClasses
from fastscnn.data.spec import DatasetSpec, Split, relative
from fastscnn.data.toml_labels import FORMATS, label_format
from fastscnn.data.toml_table import MIXTURE_KEY, Table, is_byte
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.label_set import Colour, LabelSet

KEYS = ("name", "classes", "colours", "ignore", "labels_are", "map", "terms", "splits", "soft")
SPLIT_KEYS = ("images", "labels", "thermal", "soft", "list", "fractions", "seed", "window")
SOFT_KEYS = ("classes", "map", "terms")
_MAX_SEED = (1 << 31) - 1


def spec(path: Path) -> DatasetSpec:
    """Return the dataset of a dataset.toml. Its root is the folder of the file.

    Raises:
        FastSCNNError: no such file, not TOML, or a key that is missing, unknown or invalid; or a list of images that is.
    """
    table = Table.load(path)
    if MIXTURE_KEY in table:
        raise FastSCNNError(f"{path}: is a mixture file, but one dataset is needed here; give one that it names.")
    kind = table.choice("labels_are", FORMATS, "ids")
    table.only((*KEYS, *FORMATS[kind].keys))
    label_set = _label_set(table)
    labels = label_format(table, kind, label_set)
    splits = _splits(table, labels.of_many)
    return DatasetSpec(
        name=table.text("name"),
        root=path.parent,
        label_set=label_set,
        splits=splits,
        labels=labels,
        terms=table.text("terms", DatasetSpec.terms),
        soft=_soft(table, label_set, splits),
    )


def _soft(table: Table, label_set: LabelSet, splits: Mapping[str, Split]) -> SoftClasses | None:
    """Return what the soft labels mean; None if no split has any."""
    used = any(split.soft for split in splits.values())
    if "soft" not in table:
        return SoftClasses(label_set.names, tuple(range(len(label_set)))) if used else None
    given = table.table("soft", "the keys classes, map and terms")
    given.only(SOFT_KEYS)
    if not used:
        raise table.error("soft", 'needs the files of a split; add soft = "soft/{stem}.npz" to [splits.train], or remove it.')
    classes = label_set.names
    if "classes" in given:
        listed = isinstance(given.value("classes"), str)
        classes = CLASS_LISTS[given.choice("classes", CLASS_LISTS, "")] if listed else given.texts("classes")
    if not classes or len(set(classes)) < len(classes):
        raise given.error("classes", "must be different names, at least one.")
    table_of_map = given.table("map", 'a class or "ignore" for soft classes') if "map" in given else None
    named = {key: table_of_map.text(key) for key in table_of_map} if table_of_map else {}
    try:
        train_ids = class_map.soft_train_ids(classes, named, label_set.names)
    except FastSCNNError as error:
        raise FastSCNNError(f"{table.path}: soft.map: {error}") from None
    return SoftClasses(classes, train_ids, given.text("terms", ""))


def _label_set(table: Table) -> LabelSet:
    names = table.value("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise table.error("classes", 'must be a list of names, such as ["road", "car"].')
    try:
        return LabelSet(tuple(names), _colours(table))
    except FastSCNNError as error:
        raise FastSCNNError(f"{table.path}: {error}") from None


def _colours(table: Table) -> tuple[Colour, ...]:
    colours = table.value("colours", [])
    if not isinstance(colours, list) or not all(isinstance(colour, list) for colour in colours):
        raise table.error("colours", "must be a list of [red, green, blue], one for each class.")
    for colour in colours:
        if len(colour) != 3 or not all(is_byte(value) for value in colour):
            raise table.error("colours", f"contains {colour}; a colour is three whole numbers from 0 to 255.")
    return tuple((red, green, blue) for red, green, blue in colours)


def _splits(table: Table, of_many: bool) -> dict[str, Split]:
    value = table.value("splits")
    if not isinstance(value, dict) or not value:
        raise table.error("splits", "is empty; add [splits.train] with the keys images and labels.")
    splits: dict[str, Split] = {}
    for name in value:
        for made, split in _split(table, name, value[name], of_many).items():
            if made in splits:
                raise table.error("splits", f"has {made!r} twice, once as a fraction; remove one.")
            splits[made] = split
    without = [name for name, split in splits.items() if not split.extra_channels]
    if 0 < len(without) < len(splits):
        raise FastSCNNError(f"{table.path}: splits.{without[0]}.thermal is missing, but other splits have it; "
                            "give it in all splits or in none.")
    return splits


def _split(table: Table, name: str, value: Any, of_many: bool) -> dict[str, Split]:
    """Return a split, or those that its fractions make."""
    _check_name(table, name)
    if not isinstance(value, dict):
        raise table.error(f"splits.{name}", "must be a table with the keys images and labels.")
    given = Table(table.path, value, f"splits.{name}")
    given.only(SPLIT_KEYS)
    if "images" not in given and "list" not in given:
        raise given.error("images", "is missing; add it.")
    images = given.patterns("images") if "images" in given else ()
    beside = {key: given.pattern(key) for key in ("labels", "thermal", "soft") if key in given}
    for key, pattern in beside.items():
        if not has_placeholder(pattern) and not (of_many and key == "labels"):
            raise given.error(key, f"is {pattern!r}, one file for all images; write {{stem}} for the image's file name without "
                                   "its suffix.")
    thermal = tuple(beside[key] for key in beside if key == "thermal")
    split = Split(images, beside.get("labels", ""), extra_channels=thermal, soft=beside.get("soft", ""))
    for key, pattern in beside.items():
        if place := without_wildcard(split.patterns, pattern):
            raise given.error(key, f"is {pattern!r}, but images has no wildcard (*) for {place}; write {{stem}}, or a wildcard "
                                   "in images.")
    if "window" in given:
        split = replace(split, window=_window(given, split))
    if "list" in given:
        split = _listed(given, split)
    if not split.labels and not all(labels for _, labels in split.files or [("", "")]):
        raise given.error("labels", "is missing; add it.")
    return _divided(given, split) if "fractions" in given else {name: split}


def _check_name(table: Table, name: str) -> None:
    if not name or "+" in name:
        raise FastSCNNError(f"{table.path}: a split cannot be called {name!r}, since `+` joins splits; choose another name.")


def _window(given: Table, split: Split) -> tuple[int, int]:
    """Return (height, width) of the windows of a split."""
    try:
        window = height_width(given.text("window"))
    except ArgumentError:
        window = (0, 0)
    if min(window) < MIN_SIDE or window[0] * window[1] > MAX_PIXELS:
        raise given.error("window", f'is {given.value("window")!r}; it must be HxW such as "1024x1024", of at least '
                                    f"{MIN_SIDE}x{MIN_SIDE} and at most {MAX_PIXELS // 1_000_000} megapixels.")
    if any(archives.THROUGH in pattern for pattern in split.patterns):
        raise given.error("window", "cannot be used with images in tar archives; pack the windows as images, and remove it.")
    if split.extra_channels or split.soft:
        with_ = "thermal" if split.extra_channels else "soft"
        raise given.error("window", f"cannot be used with {with_}; cut the images and these files, and remove it.")
    return window


def _listed(given: Table, split: Split) -> Split:
    """Return a split of the images in its list."""
    root = given.path.parent
    path = root / given.pattern("list")
    images = _all_images(root, split) if split.images else []
    if split.images and not images:
        raise given.error("images", f"is {split.images!r}, which no image matches; correct it.")
    files = ListFile(path, root, images).read()
    return replace(split, files=files)


def _divided(given: Table, split: Split) -> dict[str, Split]:
    """Return the splits that fractions make of one."""
    fractions = _fractions(given)
    seed = given.whole("seed", 0, 0, _MAX_SEED)
    images = [image for image, _ in split.files] if split.files is not None else _all_images(given.path.parent, split)
    labels = split.listed
    return {
        name: replace(split, files=tuple((image, labels.get(image, "")) for image in part))
        for name, part in divided(images, fractions, seed).items()
    }


def _fractions(given: Table) -> Mapping[str, float]:
    table = given.table("fractions", "a fraction for each split, such as { train = 0.8, val = 0.2 }")
    fractions = {}
    for name in table:
        _check_name(given, name)
        value = table.value(name)
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise table.error(name, f"is {value!r}; it must be a number above 0 and at most 1.")
        fractions[name] = float(value)
    if not fractions or sum(fractions.values()) > 1 + 1e-9:
        raise given.error("fractions", f"add up to {sum(fractions.values()):g}; they must add up to at most 1.")
    return fractions


def _all_images(root: Path, split: Split) -> list[str]:
    found = DatasetSpec("", root, LabelSet(("any",)), {"any": split}).image_files("any")
    return [relative(root, path) for path in found]
