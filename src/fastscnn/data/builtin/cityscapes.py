"""Cityscapes: 19 classes, with fine labels (2975 train, 500 val, 1525 test) or coarse labels (19998 more for training)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastscnn.data.dataset_metrics import InstanceMetrics
from fastscnn.data.formats.cityscapes import CityscapesLabels
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

# Names, ids and colours as in cityscapesScripts' helpers/labels.py, in the order of train ids.
_CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_IGNORED = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "rectification border": 2,
    "out of roi": 3,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "parking": 9,
    "rail track": 10,
    "guard rail": 14,
    "bridge": 15,
    "tunnel": 16,
    "polegroup": 18,
    "caravan": 29,
    "trailer": 30,
}
# License plates have the id -1: their polygons are not drawn, as in the official label files.
IDS: Mapping[str, int] = {**{name: raw for name, raw, _ in _CLASSES}, **_IGNORED, "license plate": -1}
LABELS = LabelSet(
    names=tuple(name for name, _, _ in _CLASSES),
    colours=tuple(colour for _, _, colour in _CLASSES),
    raw_ids=(
        *((raw, train) for train, (_, raw, _) in enumerate(_CLASSES)),
        *((raw, IGNORE_INDEX) for raw in _IGNORED.values()),
    ),
)
CATEGORIES = tuple(  # of each class, in the order of train ids
    name
    for name, classes in (
        ("flat", 2), ("construction", 3), ("object", 3), ("nature", 2), ("sky", 1), ("human", 2), ("vehicle", 6),
    )
    for _ in range(classes)
)
AVERAGE_SIZES = {  # average size of an instance in pixels, as in evalPixelLevelSemanticLabeling.py of cityscapesScripts
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
METRICS = InstanceMetrics(CATEGORIES, AVERAGE_SIZES)
TERMS = "Cityscapes: non-commercial research and teaching, cityscapes-dataset.com/license (Cordts et al. 2016)"
_NOT_PUBLIC = ("its label files mark only the car's bonnet and the borders; the labels are kept on the evaluation server, "
               "cityscapes-dataset.com/submit")
_SITE = "of cityscapes-dataset.com/downloads"


def fine(root: Path) -> DatasetSpec:
    """Return the dataset in `root`: `leftImg8bit/{train,val,test}/{city}/*_leftImg8bit.png`, with labels in `gtFine/`.

    Labels are `*_gtFine_labelIds.png`. If one is missing, they are drawn from `*_gtFine_polygons.json`. The labels of the split
    test are not public. `*_gtFine_instanceIds.png` hold the ids of single people and vehicles.
    """
    counts = {"train": 2975, "val": 500, "test": 1525}
    splits = {split: _split("gtFine", split, count, "gtFine_trainvaltest.zip") for split, count in counts.items()}
    return _spec("cityscapes", root, splits)


def coarse(root: Path) -> DatasetSpec:
    """Return the dataset in `root` with coarse labels: `gtCoarse/{train,train_extra,val}/{city}/*_gtCoarse_labelIds.png`.

    The images of train_extra are `leftImg8bit/train_extra/{city}/*_leftImg8bit.png`; all else is as in `fine`.
    """
    counts = {"train": 2975, "train_extra": 19998, "val": 500}
    splits = {split: _split("gtCoarse", split, count, "gtCoarse.zip") for split, count in counts.items()}
    return _spec("cityscapes-coarse", root, splits)


def _split(kind: str, split: str, count: int, labels_in: str) -> Split:
    return Split(
        images=f"leftImg8bit/{split}/*/*_leftImg8bit.png",
        labels=f"{kind}/{split}/{{1}}/{{2}}_{kind}_labelIds.png",
        polygons=f"{kind}/{split}/{{1}}/{{2}}_{kind}_polygons.json",
        instances=f"{kind}/{split}/{{1}}/{{2}}_{kind}_instanceIds.png" if kind == "gtFine" else "",  # only fine ones are scored
        count=count,
        images_in=f"leftImg8bit_{'trainextra' if split == 'train_extra' else 'trainvaltest'}.zip {_SITE}",
        labels_in=f"{labels_in} {_SITE}",
        labels_unavailable=_NOT_PUBLIC if split == "test" else "",
    )


def _spec(name: str, root: Path, splits: Mapping[str, Split]) -> DatasetSpec:
    return DatasetSpec(name, root, LABELS, splits, CityscapesLabels(IDS), TERMS, metrics=METRICS)
