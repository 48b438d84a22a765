"""ClassFolders: images in one folder per class, as in ImageNet. The class is of the whole image, not of pixels."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.media.images import SUFFIXES

SPLITS = ("train", "val")
_LAYOUT = ("the layout is train/CLASS/*.JPEG and val/CLASS/*.JPEG; ImageNet's archive of validation images is flat, "
           "so sort its files into folders of their classes")
_SHOWN = 5  # class names in one message


class Picture(NamedTuple):
    """An image file relative to the dataset's root, and the index of its class."""

    file: str
    class_: int


@dataclass(frozen=True)
class ClassFolders:
    """A dataset of classified images: `train/CLASS/*` and `val/CLASS/*`.

    Attributes:
        name: short name, kept in the card of weights that are trained on it.
        root: the folder that contains train and val.
        classes: names of the class folders of train, sorted; those of val if there is no train.
        terms: terms of use of the data.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    terms: str

    def pictures(self, split: str) -> list[Picture]:
        """Return the images of a split, sorted by class and file name.

        Raises:
            FastSCNNError: unknown split, a class that train does not have, a class without images, or images outside the
                class folders.
        """
        if split not in SPLITS:
            raise unknown(f"split of {self.name}", split, SPLITS)
        folder = self.root / split
        names = class_names(folder)
        position = {name: index for index, name in enumerate(self.classes)}
        strange = [name for name in names if name not in position]
        if strange:
            raise FastSCNNError(f"{folder}: has {_listed(strange)}, which train does not have; "
                                "give both the same class folders.")
        return [Picture(f"{split}/{name}/{file}", position[name]) for name in names for file in _image_files(folder / name)]

    def path(self, picture: Picture) -> Path:
        """Return the path of an image."""
        return self.root / picture.file

    def fingerprint(self, pictures: list[Picture]) -> str:
        """Return the sha256 of relative file names and file sizes. ImageNet is too large to hash its pixels."""
        rows = [(picture.file, self.path(picture).stat().st_size) for picture in pictures]
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def imagenet(root: Path) -> ClassFolders:
    """Return ImageNet, or other classes in its layout.

    Raises:
        FastSCNNError: no folder train or val, no class folders in them, or images beside the class folders.
    """
    split = next((split for split in SPLITS if (root / split).is_dir()), None)
    if split is None:
        raise FastSCNNError(f"{root}: has neither a folder train nor a folder val; {_LAYOUT}.")
    return ClassFolders("imagenet", root, tuple(class_names(root / split)), "ImageNet: non-commercial research and education")


def class_names(folder: Path) -> list[str]:
    """Return the class folders of a split, sorted. Raises FastSCNNError if there are none, or images beside them."""
    if not folder.is_dir():
        raise FastSCNNError(f"{folder}: no such folder; {_LAYOUT}.")
    with os.scandir(folder) as entries:
        seen = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    stray = next((name for name, is_folder in seen if not is_folder and _is_image(name)), None)
    if stray:
        raise FastSCNNError(f"{folder / stray}: is in no class folder; {_LAYOUT}.")
    names = [name for name, is_folder in seen if is_folder]
    if not names:
        raise FastSCNNError(f"{folder}: has no class folders; {_LAYOUT}.")
    return names


def _image_files(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if _is_image(entry.name))
    if not names:
        kinds = ", ".join(sorted(SUFFIXES))
        raise FastSCNNError(f"{folder}: has no images ({kinds}); add some, or remove the folder.")
    return names


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the class folder{'s' * (len(names) > 1)} {', '.join(names[:_SHOWN])}{more}"
