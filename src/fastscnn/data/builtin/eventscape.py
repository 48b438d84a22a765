"""EventScape: CARLA's streets at 512x256 (Gehrig et al. 2021, uzh-rpg/rpg_ramnet), 12 classes as CMX evaluates them.

What is known: the three archives and their folders, `rgb/data/*_image.png` and `semantic/data/*_gt_labelIds.png` of each
sequence, and CARLA's ids 0 to 12. CMX (arXiv 2203.04838) reports 4077 images to train and 749 to evaluate, one in 30.

What is not known: which frame of 30 CMX took (its list was not released; `every=30` takes the first, the thirty-first and so
on of each sequence), whether its evaluation is the split val, test or both, how many images each archive holds, whether
sequences lie in a folder of their town, and the terms of use. Sky is no class: it is part of id 0.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

# Ids as of CARLA 0.9, with the colours of its CityScapesPalette.
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
    """The dataset below `root`: `{Town01-03_train,Town05_val,Town05_test}/**/{rgb,semantic}/data/`; one frame in `every`."""
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
