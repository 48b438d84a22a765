"""DADA-seg: 313 frames of traffic accidents with Cityscapes' 19 classes, for evaluation only (jamycheung/ISSAFE).

ISSAFE pairs images and labels by their order alone, so the form of the file names before their endings is not documented.
Pairing by order shifts silently if one file is missing. Here names are compared: of the known forms of names, the first that
finds a label file is used. The terms of the data are not stated; ISSAFE's code is under Apache-2.0.
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
_ISSAFE = (162, 0, 1422, 600)  # x0, y0, x1, y1: the crop of its loader; the rest is black


def spec(root: Path, crop: str | None = None) -> DatasetSpec:
    """Return the dataset in `root`: `leftImg8bit/val/**/*.jpg` and `gtFine/val/**/*labelTrainIds.png`, one split, val.

    Args:
        root: folder of the dataset.
        crop: "issafe" crops images and labels to 600x1260, as ISSAFE's loader does; None uses all.
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
        metrics=cityscapes.METRICS,
    )


def _split(image: str, labels: str) -> Split:
    images, labels = f"leftImg8bit/val/**/*{image}", f"gtFine/val/{{1}}{{2}}{labels}"
    return Split(images, labels, count=313, images_in=_SOURCE, labels_in=_SOURCE)


def _fits(root: Path, split: Split) -> bool:
    probe = DatasetSpec("dada", root, cityscapes.LABELS, {"val": split})
    return any(probe.label_file("val", image).is_file() for image in probe.image_files("val"))
