"""CamVid as released: 701 images at 720x960 with labels stored as 32 colours.

The release defines no splits, so there is one split, "all". Void, one of the 32, is ignored. With 11 classes the others are
grouped into the classes of `camvid:ROOT`, as SegNet's authors do.
"""

from __future__ import annotations

from pathlib import Path

from fastscnn.data.builtin import camvid
from fastscnn.data.formats.colours import ColourLabels
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

# Names and colours in the order of the release's label_colors.txt; the last name is the class of the 11.
NAMES = (
    ("Animal", (64, 128, 64), "Pedestrian"),
    ("Archway", (192, 0, 128), "Building"),
    ("Bicyclist", (0, 128, 192), "Bicyclist"),
    ("Bridge", (0, 128, 64), "Building"),
    ("Building", (128, 0, 0), "Building"),
    ("Car", (64, 0, 128), "Car"),
    ("CartLuggagePram", (64, 0, 192), "Pedestrian"),
    ("Child", (192, 128, 64), "Pedestrian"),
    ("Column_Pole", (192, 192, 128), "Pole"),
    ("Fence", (64, 64, 128), "Fence"),
    ("LaneMkgsDriv", (128, 0, 192), "Road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "Road"),
    ("Misc_Text", (128, 128, 64), "SignSymbol"),
    ("MotorcycleScooter", (192, 0, 192), "Bicyclist"),
    ("OtherMoving", (128, 64, 64), "Car"),
    ("ParkingBlock", (64, 192, 128), "Pavement"),
    ("Pedestrian", (64, 64, 0), "Pedestrian"),
    ("Road", (128, 64, 128), "Road"),
    ("RoadShoulder", (128, 128, 192), "Pavement"),
    ("Sidewalk", (0, 0, 192), "Pavement"),
    ("SignSymbol", (192, 128, 128), "SignSymbol"),
    ("Sky", (128, 128, 128), "Sky"),
    ("SUVPickupTruck", (64, 128, 192), "Car"),
    ("TrafficCone", (0, 0, 64), "Pole"),
    ("TrafficLight", (0, 64, 64), "SignSymbol"),
    ("Train", (192, 64, 128), "Car"),
    ("Tree", (128, 128, 0), "Tree"),
    ("Truck_Bus", (192, 128, 192), "Car"),
    ("Tunnel", (64, 0, 64), "Building"),
    ("VegetationMisc", (192, 192, 0), "Tree"),
    ("Void", (0, 0, 0), None),
    ("Wall", (64, 192, 0), "Building"),
)
_CLASSES = [(name, colour) for name, colour, group in NAMES if group]


def spec(root: Path, classes: str | None = None) -> DatasetSpec:
    """Return the dataset in `root`: `701_StillsRaw_full/NAME.png` and `LabeledApproved_full/NAME_L.png`.

    Args:
        root: folder of the dataset.
        classes: "11" groups the classes; "32" and None keep all 31 besides Void.
    """
    names, colours = tuple(name for name, _ in _CLASSES), tuple(colour for _, colour in _CLASSES)
    if classes == "11":
        names, colours = camvid.LABELS.names, camvid.LABELS.colours
    trained = [group if classes == "11" else name if group else None for name, _, group in NAMES]
    raw_ids = [(raw, names.index(name) if name else IGNORE_INDEX) for raw, name in enumerate(trained)]
    split = Split(
        images="701_StillsRaw_full/*.png",
        labels="LabeledApproved_full/{stem}_L.png",
        count=701,
        images_in="701_StillsRaw_full.zip of CamVid's page (mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid)",
        labels_in="LabeledApproved_full.zip of CamVid's page (mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid)",
    )
    return DatasetSpec(
        name="camvid-colours",
        root=root,
        label_set=LabelSet(names, colours),
        splits={"all": split},
        labels=ColourLabels(tuple((colour, train) for (_, colour, _), (_, train) in zip(NAMES, raw_ids, strict=True))),
        terms=camvid.TERMS,
    )
