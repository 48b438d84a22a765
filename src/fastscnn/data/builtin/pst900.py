"""PST900: RGB and thermal images of underground rooms at 1280x720, 5 classes (ShreyasSkandanS/pst900_thermal_rgb).

894 pairs; its readme and paper differ in how they count the two splits, so that `check` compares no number. The thermal
files in `thermal/` are what the camera's automatic gain made of 16 bits; `thermal_raw/` holds the 16 bits, which the authors'
networks never read. `images.read_grey` makes them 8 bits file by file: a temperature has no fixed value afterwards, as
after the camera's gain. 0 are holes of the projection onto the RGB camera in both.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import LabelSet

LABELS = LabelSet(  # colours of the authors' toolkit
    names=("background", "fire extinguisher", "backpack", "hand drill", "survivor"),
    colours=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
)
_SOURCE = "the archive PST900 RGB-T of github.com/ShreyasSkandanS/pst900_thermal_rgb"


def rgb(root: Path) -> DatasetSpec:
    """The dataset below `root`: `{train,test}/rgb/NAME.png` and `{train,test}/labels/NAME.png`."""
    return _spec("pst900", root, ())


def rgbt(root: Path, thermal: str | None = None) -> DatasetSpec:
    """As `rgb`, with `{train,test}/thermal/NAME.png` as a fourth channel; `thermal` "raw" takes it from `thermal_raw/`."""
    return _spec("pst900-rgbt", root, ("thermal_raw" if thermal == "raw" else "thermal",))


def _spec(name: str, root: Path, folders: tuple[str, ...]) -> DatasetSpec:
    splits = {
        split: Split(
            images=f"{split}/rgb/*.png",
            labels=f"{split}/labels/{{stem}}.png",
            more=tuple(f"{split}/{folder}/{{stem}}.png" for folder in folders),
            images_in=_SOURCE,
            labels_in=_SOURCE,
        )
        for split in ("train", "test")
    }
    return DatasetSpec(name, root, LABELS, splits, terms="PST900: not stated by its authors (Shivakumar et al. 2020)")
