"""PST900: RGB and thermal images of underground rooms at 720x1280, 5 classes (ShreyasSkandanS/pst900_thermal_rgb).

The dataset has 894 pairs. Its readme and its paper give different sizes of the two splits, so `check` compares no number. Files
in `thermal/` are the 8-bit output of the camera's automatic gain control. `thermal_raw/` holds 16 bits, which the authors'
networks do not use. `images.read_grey` scales each raw file to 8 bits by itself, so a temperature has no fixed value, as after
the gain control. 0 marks holes of the projection onto the RGB camera in both.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.dataset_metrics import RunningMeanMetrics
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import LabelSet

LABELS = LabelSet(  # colours as in the authors' toolkit
    names=("background", "fire extinguisher", "backpack", "hand drill", "survivor"),
    colours=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
)
_SOURCE = "the archive PST900 RGB-T of github.com/ShreyasSkandanS/pst900_thermal_rgb"


def rgb(root: Path) -> DatasetSpec:
    """Return the dataset in `root`: `{train,test}/rgb/NAME.png` and `{train,test}/labels/NAME.png`."""
    return _spec("pst900", root, ())


def rgbt(root: Path, thermal: str | None = None) -> DatasetSpec:
    """Return the dataset like `rgb`, with `{train,test}/thermal/NAME.png` as a fourth channel.

    Args:
        root: folder of the dataset.
        thermal: "raw" uses `thermal_raw/` instead; "agc" and None use `thermal/`.
    """
    return _spec("pst900-rgbt", root, ("thermal_raw" if thermal == "raw" else "thermal",))


def _spec(name: str, root: Path, folders: tuple[str, ...]) -> DatasetSpec:
    splits = {
        split: Split(
            images=f"{split}/rgb/*.png",
            labels=f"{split}/labels/{{stem}}.png",
            extra_channels=tuple(f"{split}/{folder}/{{stem}}.png" for folder in folders),
            images_in=_SOURCE,
            labels_in=_SOURCE,
        )
        for split in ("train", "test")
    }
    terms = "PST900: not stated by its authors (Shivakumar et al. 2020)"
    return DatasetSpec(name, root, LABELS, splits, terms=terms, metrics=RunningMeanMetrics())
