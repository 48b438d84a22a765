"""ClassFolders: images in a folder for each class, as ImageNet is laid out. A class is of the whole image, not of pixels."""

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
_LAYOUT = ("wanted are train/CLASS/*.JPEG and val/CLASS/*.JPEG; ImageNet's archive of validation images is flat, "
           "so sort its files into folders of their classes")
_SHOWN = 5  # class names in one message


class Picture(NamedTuple):
    """An image file below the dataset's root, and the position of its class."""

    file: str
    class_: int


@dataclass(frozen=True)
class ClassFolders:
    """Images of classes on disk, `train/CLASS/*` and `val/CLASS/*`.

    Attributes:
        name: kept in the weights that are trained on it.
        root: the folder that holds train and val.
        classes: the names of the class folders of train, sorted; those of val where there is no train.
        terms: under which terms the data may be used.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    terms: str

    def pictures(self, split: str) -> list[Picture]:
        """The images of a split, sorted by class and file name.

        Raises:
            FastSCNNError: a split that does not exist, a class that train does not have, a class without images, or files
                outside the class folders.
        """
        if split not in SPLITS:
            raise unknown(f"split of {self.name}", split, SPLITS)
        folder = self.root / split
        names = class_names(folder)
        position = {name: index for index, name in enumerate(self.classes)}
        strange = [name for name in names if name not in position]
        if strange:
            raise FastSCNNError(f"{folder}: has {_listed(strange)}, which train does not; both have the same class folders.")
        return [Picture(f"{split}/{name}/{file}", position[name]) for name in names for file in _image_files(folder / name)]

    def path(self, picture: Picture) -> Path:
        """Where the image lies."""
        return self.root / picture.file

    def fingerprint(self, pictures: list[Picture]) -> str:
        """sha256 over the names below the root and the sizes of files: ImageNet is too large to be read for it."""
        rows = [(picture.file, self.path(picture).stat().st_size) for picture in pictures]
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def imagenet(root: Path) -> ClassFolders:
    """ImageNet's 1000 classes, or any others in its layout.

    Raises:
        FastSCNNError: neither of the two folders, no class folders in them, or files beside those.
    """
    split = next((split for split in SPLITS if (root / split).is_dir()), None)
    if split is None:
        raise FastSCNNError(f"{root}: has neither a folder train nor a folder val; {_LAYOUT}.")
    return ClassFolders("imagenet", root, tuple(class_names(root / split)), "ImageNet: non-commercial research and education")


def class_names(folder: Path) -> list[str]:
    """The class folders of a split, sorted. Raises FastSCNNError where there are none, or images beside them."""
    if not folder.is_dir():
        raise FastSCNNError(f"{folder}: no such folder; {_LAYOUT}.")
    with os.scandir(folder) as entries:
        seen = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    stray = next((name for name, is_folder in seen if not is_folder and _is_image(name)), None)
    if stray:
        raise FastSCNNError(f"{folder / stray}: lies in no class folder; {_LAYOUT}.")
    names = [name for name, is_folder in seen if is_folder]
    if not names:
        raise FastSCNNError(f"{folder}: holds no class folders; {_LAYOUT}.")
    return names


def _image_files(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if _is_image(entry.name))
    if not names:
        kinds = ", ".join(sorted(SUFFIXES))
        raise FastSCNNError(f"{folder}: holds no image ({kinds}) of its class; add some, or remove the folder.")
    return names


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the class folder{'s' * (len(names) > 1)} {', '.join(names[:_SHOWN])}{more}"
