"""Check of class folders: decode every image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.findings import Finding, Report
from fastscnn.data.class_folders import SPLITS, ClassFolders, Picture
from fastscnn.media import images

_AT_ONCE = 1024  # images given to the threads at a time; one future for each image of ImageNet needs too much memory


@dataclass(frozen=True)
class ClassReport(Report):
    """Result of `check_classes`; every mapping is by split.

    Attributes:
        findings: in the order of splits and file names. Kinds: unreadable-image (error) and absent-class (warning).
        counts: number of images.
        classes: number of class folders.
        smallest: number of images of the smallest class.
        fingerprint: see `ClassFolders.fingerprint`.
    """

    counts: Mapping[str, int]
    classes: Mapping[str, int]
    smallest: Mapping[str, int]
    fingerprint: str


def check_classes(
    data: ClassFolders, splits: Sequence[str] | None = None, *, progress: Callable[[int, int], None] | None = None
) -> ClassReport:
    """Decode every image of `splits` (default: all whose folder exists) and report what is wrong.

    Args:
        data: the class folders.
        splits: names of splits.
        progress: called with (images done, all images) after each image.

    Raises:
        FastSCNNError: unknown split, or folders in another layout (`ClassFolders.pictures`).
    """
    there = [split for split in SPLITS if (data.root / split).is_dir()]
    pictures = {split: data.pictures(split) for split in dict.fromkeys(there if splits is None else splits)}
    sizes = {split: Counter(picture.class_ for picture in found) for split, found in pictures.items()}
    findings = list(_unreadable(data, [picture for found in pictures.values() for picture in found], progress))
    for split, counted in sizes.items():
        for name in (name for index, name in enumerate(data.classes) if index not in counted):
            path = data.root / split / name
            message, fix = f"{path}: is missing.", f"Add images of this class to {split}."
            findings.append(Finding("warning", split, path, "absent-class", message, fix))
    return ClassReport(
        findings=tuple(findings),
        counts={split: len(found) for split, found in pictures.items()},
        classes={split: len(counted) for split, counted in sizes.items()},
        smallest={split: min(counted.values()) for split, counted in sizes.items()},
        fingerprint=data.fingerprint([picture for found in pictures.values() for picture in found]),
    )


def _unreadable(
    data: ClassFolders, pictures: Sequence[Picture], progress: Callable[[int, int], None] | None
) -> Iterator[Finding]:
    def fault(picture: Picture) -> str:
        try:
            images.read(data.path(picture))
        except FastSCNNError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1))) as pool:
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            for done, (picture, message) in enumerate(zip(some, pool.map(fault, some), strict=True), start=start + 1):
                if message:
                    split = picture.file.partition("/")[0]
                    fix = "Replace the image, or remove it."
                    yield Finding("error", split, data.path(picture), "unreadable-image", message, fix)
                if progress:
                    progress(done, len(pictures))
