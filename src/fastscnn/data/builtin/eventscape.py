"""EventScape: streets simulated by CARLA at 256x512 (Gehrig et al. 2021, uzh-rpg/rpg_ramnet), 12 classes as in CMX.

Documented: the three archives and their folders, `rgb/data/*_image.png` and `semantic/data/*_gt_labelIds.png` of each
sequence, and CARLA's ids 0 to 12. CMX (arXiv 2203.04838) reports 4077 training and 749 evaluation images, one in 30.

Not documented: which of 30 frames CMX uses (`every=30` uses the first, the 31st and so on of each sequence), whether its
evaluation split is val, test or both, the number of images in each archive, whether sequences are in a folder of their town,
and the terms of use. Sky is not a class: it is part of id 0.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

# Ids of CARLA 0.9, colours of its CityScapesPalette.
LABELS = LabelSet(
    names=("Building", "Fence", "Other", "Pedestrian", "Pole", "RoadLine", "Road", "Sidewalk", "Vegetation", "Vehicles",
           "Wall", "TrafficSign"),
    colours=(
        (70, 70, 70),
        (190, 153, 153),
        (250, 170, 160),
        (220, 20, 60),
        (153, 153, 153),
        (157, 234, 50),
        (128, 64, 128),
        (244, 35, 232),
        (107, 142, 35),
        (0, 0, 142),
        (102, 102, 156),
        (220, 220, 0),
    ),
    raw_ids=((0, IGNORE_INDEX), *((index + 1, index) for index in range(12))),
)
_ARCHIVES = {"train": "Town01-03_train", "val": "Town05_val", "test": "Town05_test"}


def spec(root: Path, every: int = 1) -> DatasetSpec:
    """Return the dataset in `root`: `{Town01-03_train,Town05_val,Town05_test}/**/{rgb,semantic}/data/`.

    Args:
        root: folder of the dataset.
        every: use one frame in so many of each sequence.
    """
    return DatasetSpec(
        name="eventscape",
        root=root,
        label_set=LABELS,
        splits={split: _split(archive) for split, archive in _ARCHIVES.items()},
        terms="EventScape: not stated by its authors (Gehrig et al. 2021)",
        every=every,
    )


def _split(archive: str) -> Split:
    source = f"{archive}.zip of github.com/uzh-rpg/rpg_ramnet"
    labels = f"{archive}/{{1}}semantic/data/{{2}}_gt_labelIds.png"
    return Split(f"{archive}/**/rgb/data/*_image.png", labels, images_in=source, labels_in=source)
