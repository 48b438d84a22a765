"""Classes that are known from their colours, ids or file names: Cityscapes, CamVid, CARLA, Pascal VOC."""

from __future__ import annotations

from fastscnn.data.builtin import camvid_colours, cityscapes
from fastscnn.model.label_set import Colour

CARLA = (  # ids from 0, CARLA 0.9.14 and later: those of Cityscapes' palette
    "unlabeled", "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "static", "dynamic",
    "other", "water", "road line", "ground", "bridge", "rail track", "guard rail",
)  # fmt: skip
CARLA_BEFORE = (  # CARLA 0.9.13 and earlier
    "unlabeled", "building", "fence", "other", "pedestrian", "pole", "road line", "road", "sidewalk", "vegetation", "vehicles",
    "wall", "traffic sign", "sky", "ground", "bridge", "rail track", "guard rail", "traffic light", "static", "dynamic",
    "water", "terrain",
)  # fmt: skip
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_BORDER: Colour = (224, 224, 192)
PALETTES: dict[str, dict[Colour, str]] = {  # of datasets whose colours no other one shares
    "Cityscapes": {**dict(zip(cityscapes.LABELS.colours, cityscapes.LABELS.names, strict=True)), (0, 0, 0): "unlabeled"},
    "CamVid": {colour: name for name, colour, _ in camvid_colours.NAMES},
}


def voc_colour(index: int) -> Colour:
    """Return the colour of an index in Pascal VOC's table: every third bit of the index, from the highest bit of the colour."""
    red, green, blue = (sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return red, green, blue
