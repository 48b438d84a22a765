"""Folders that a built-in dataset reads as they are."""

from __future__ import annotations

import re

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.survey import Survey

_DRIVES = re.compile(r"0001TP|0006R0|0016E5|Seq05VD")  # of CamVid: others use its folders for classes of their own
_NAMES = ("cityscapes", "cityscapes-coarse", "camvid", "camvid-colours", "pst900-rgbt", "eventscape")


def guess(survey: Survey) -> Guess | None:
    """Return the built-in dataset whose images and label files are all in this folder; None if there is none."""
    if survey.folders.isdisjoint(("leftImg8bit", "trainannot", "LabeledApproved_full", "train/rgb", "Town01-03_train")):
        return None
    for name in _NAMES:
        spec = datasets.load(f"{name}:{survey.root}")
        if _has_pairs(spec):
            return Guess(f"the built-in dataset {name}", builtin=f"{name}:{survey.root}")
    return None


def _has_pairs(spec: DatasetSpec) -> bool:
    """Return whether a labelled split has images, nearly all of them have label files, and the first can be read."""
    for split, place in spec.splits.items():
        images = spec.image_files(split) if not place.labels_unavailable else []
        if spec.name.startswith("camvid") and not all(_DRIVES.match(image.name) for image in images):
            continue
        pairs = [pair for pair in (spec.pair(split, image) for image in images) if pair.labels.is_file()]
        if pairs and len(pairs) > 0.9 * len(images):
            try:
                spec.read(pairs[0])
            except FastSCNNError:
                continue
            return True
    return False
