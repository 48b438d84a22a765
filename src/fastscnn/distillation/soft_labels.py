"""Soft labels of a dataset's images, for distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import archives, files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError, sentence
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.soft import grid_size
from fastscnn.distillation import soft_files
from fastscnn.distillation.area_means import area_means
from fastscnn.distillation.foreign import TeacherError
from fastscnn.distillation.soft_files import Target
from fastscnn.distillation.teacher import Teacher
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model.architecture import MIN_SIDE


@dataclass(frozen=True)
class SoftLabels:
    """What `soft_labels` wrote.

    Attributes:
        written, skipped: number of files that were written, and that existed already.
        failed: a sentence about each image that could not be read.
        out: the folder of the files.
        classes: classes of the teacher.
        source: its weight file.
        terms: terms of use of the teacher.
        verified: see `Teacher`.
        toml: lines for dataset.toml, which let `train` use the files.
    """

    written: int
    skipped: int
    failed: tuple[str, ...]
    out: Path
    classes: tuple[str, ...]
    source: str
    terms: str
    verified: bool
    toml: str

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes for JSON."""
        return {**vars(self), "out": str(self.out)}


def soft_labels(
    weights: str | Path | Segmenter | Teacher | None,
    data: str | Path | DatasetSpec,
    out: str | PathLike[str],
    split: str | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> SoftLabels:
    """Write the class probabilities of a network for each image of a dataset, for distillation.

    Each image gets a .npz file without pickles. `probabilities`, uint8 [C, round(H/8), round(W/8)], is 255 times the mean
    probability of each class in a cell. `classes`, `source`, `terms` and `settings` are texts. A file that exists is skipped
    if it has the same source and settings, so an interrupted run can be repeated. The labels of the dataset are not read.

    Args:
        weights: a weight file; a .toml that describes an ONNX file of another network (`distillation.description`); None for
            the bundled weights; a `Segmenter` or `Teacher`, for other settings.
        data: "camvid:ROOT" or another built-in dataset, a dataset.toml or its folder, or a `DatasetSpec`.
        out: folder of the files.
        split: a split, or several joined by `+`; None takes all.
        on_progress: called with (images done, all images) after each image.

    Raises:
        FastSCNNError: a network, dataset or split that cannot be used; an existing file that was made otherwise, which is
            found before the first file is written; or a network that does not fit its description.

    Examples:
        >>> import fastscnn, numpy as np
        >>> made = fastscnn.soft_labels(None, "data", "soft", "val")  # three images of 96x128
        >>> made.written
        3
        >>> print(made.toml)  # doctest: +ELLIPSIS
        # Add to [splits.val]:
        soft = "../soft/{stem}.npz"
        [soft]
        terms = "CamVid, CC BY-NC 4.0: personal and research use (Brostow, Fauqueur, Cipolla 2009); LabelMeFacade..."
        >>> np.load("soft/6.npz")["probabilities"].shape
        (11, 12, 16)
    """
    spec, folder = datasets.load(data), files.expand(out)
    if folder.exists() and not folder.is_dir():
        raise FastSCNNError(f"{folder}: is a file, but soft labels need a folder; choose another --out.")
    splits = _splits(spec, split)
    teacher = _teacher(weights)
    if teacher.channels not in (3, spec.channels):
        raise FastSCNNError(f"{spec.root}: its images have {spec.channels} channels, but the network takes {teacher.channels}; "
                            "use other weights.")
    targets, patterns = soft_files.targets(spec, splits, folder)
    toml = soft_files.toml_lines(spec, teacher, folder, patterns)
    existing = dict.fromkeys(target for target in targets if target.file.exists())
    for target in existing:
        soft_files.check_existing(target, teacher, _sha256(spec, target, teacher))
    failed: list[str] = []
    for done, target in enumerate(targets, start=1):
        if target not in existing:
            try:
                soft = _soft(teacher, _read(spec, target, teacher.channels))
                digest = _sha256(spec, target, teacher)
            except TeacherError:
                raise
            except FastSCNNError as error:
                failed.append(sentence(target.image, error))
            else:
                soft_files.write(target.file, soft, teacher, digest)
        if on_progress:
            on_progress(done, len(targets))
    written = len(targets) - len(existing) - len(failed)
    return SoftLabels(written, len(existing), tuple(failed), folder, teacher.classes, teacher.source, teacher.terms,
                      teacher.verified, toml)


def _teacher(weights: str | Path | Segmenter | Teacher | None) -> Teacher:
    if isinstance(weights, Teacher):
        return weights
    return Teacher.of(weights) if isinstance(weights, Segmenter) else Teacher.load(weights)


def _splits(spec: DatasetSpec, given: str | None) -> Sequence[str]:
    """Return the names of splits, checked."""
    with_images = [split for split in spec.splits if spec.image_files(split)]
    splits = with_images if given is None else [*dict.fromkeys(given.split("+"))]
    for split in splits:
        if spec.split(split).window:
            raise FastSCNNError(f"{spec.source or spec.root}: the split {split!r} has a window, and soft labels of windows are "
                                "not supported; save its windows as images, or choose other splits.")
        if split not in with_images:
            raise FastSCNNError(f"{spec.root}: no images match {spec.split(split).images!r} (split {split!r} of {spec.name}).")
    if not splits:
        raise FastSCNNError(f"{spec.root}: {spec.name} has no images; `fastscnn check` says what it looks for.")
    return splits


def _read(spec: DatasetSpec, target: Target, channels: int) -> UInt8Array:
    """Return an image as the dataset reads it, uint8 [H, W, channels]."""
    extra = spec.channel_files(target.split, target.image) if channels > 3 else []
    image = spec.cropped(images.stack(images.read(target.image), target.image, extra), target.image)
    if min(image.shape[:2]) < MIN_SIDE:
        raise FastSCNNError(f"{target.image}: is {hxw(image.shape)} and needs at least {MIN_SIDE} pixels a side; remove it.")
    return image


def _sha256(spec: DatasetSpec, target: Target, teacher: Teacher) -> str:
    """Return the hash of what an image is read from: its files and the crop."""
    found = hashlib.sha256(str(spec.crop or "").encode())
    for path in (target.image, *(spec.channel_files(target.split, target.image) if teacher.channels > 3 else [])):
        try:
            found.update(archives.read(path))
        except OSError as error:
            raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
    return found.hexdigest()


def _soft(teacher: Teacher, image: UInt8Array) -> UInt8Array:
    """Return the soft labels of an image, uint8 [C, rows, columns]."""
    means = area_means(teacher.probabilities(image), grid_size(image.shape))
    return np.rint(np.clip(255 * means, 0, 255)).astype(np.uint8)
