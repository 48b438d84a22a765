"""DADA-seg: 313 frames of traffic accidents with Cityscapes' 19 classes, for evaluation only (jamycheung/ISSAFE).

What is not known: how its files are named before their endings, since ISSAFE pairs images and labels by their order alone.
Pairing by order would shift silently where one file is missing, so names are compared here: of the known forms, the first
that fits a label file of the tree is taken. The data's own terms are not stated; ISSAFE's code is under Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.builtin import cityscapes
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import LabelSet

_SOURCE = "the archive DADA-seg (val) of github.com/jamycheung/ISSAFE"
_FORMS = (  # ends of images and of labels
    ("_leftImg8bit.jpg", "_gtFine_labelTrainIds.png"),
    (".jpg", "_gtFine_labelTrainIds.png"),
    (".jpg", "_labelTrainIds.png"),
    (".jpg", "labelTrainIds.png"),
)
_ISSAFE = (162, 0, 1422, 600)  # left, top, right, bottom of what its loader keeps: the rest is black


def spec(root: Path, crop: str | None = None) -> DatasetSpec:
    """The dataset below `root`: `leftImg8bit/val/**/*.jpg` and `gtFine/val/**/*labelTrainIds.png`, one split, val.

    Args:
        crop: "issafe" crops images and labels as ISSAFE's loader does, to 1260x600; None leaves them whole.
    """
    splits = [_split(*form) for form in _FORMS]
    fitting = (split for split in splits if _fits(root, split))
    return DatasetSpec(
        name="dada",
        root=root,
        label_set=LabelSet(cityscapes.LABELS.names, cityscapes.LABELS.colours),  # the files hold train ids
        splits={"val": next(fitting, splits[0])},
        terms="DADA-seg: not stated by its authors; a subset of DADA-2000 (Zhang, Yang, Stiefelhagen 2021)",
        crop=_ISSAFE if crop else None,
    )


def _split(image: str, labels: str) -> Split:
    images, labels = f"leftImg8bit/val/**/*{image}", f"gtFine/val/{{1}}{{2}}{labels}"
    return Split(images, labels, count=313, images_in=_SOURCE, labels_in=_SOURCE)


def _fits(root: Path, split: Split) -> bool:
    probe = DatasetSpec("dada", root, cityscapes.LABELS, {"val": split})
    return any(probe.label_file("val", image).is_file() for image in probe.image_files("val"))
