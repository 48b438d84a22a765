"""Datasets that tests make, in the format of each tool."""

from __future__ import annotations

from collections.abc import Mapping

from made import masks, shapes
from made.scenes import Writer

# As named in the table of docs/datasets.md.
FORMATS: Mapping[str, Writer] = {
    "COCO instances JSON": shapes.coco,
    "COCO panoptic JSON": shapes.coco_panoptic,
    "LabelMe JSON": shapes.labelme,
    "YOLO segmentation text": shapes.yolo,
    "CVAT for images 1.1, XML": shapes.cvat,
    "Supervisely JSON": shapes.supervisely,
    "Supervisely masks": masks.supervisely_masks,
    "Label Studio JSON": shapes.label_studio,
    "Label Studio PNG": shapes.label_studio_png,
    "Roboflow semantic masks": masks.roboflow,
    "Pascal VOC": masks.voc,
    "PaddleSeg lists": masks.paddleseg,
    "mmsegmentation folders": masks.mmsegmentation,
    "mmsegmentation lists": masks.mmsegmentation_lists,
    "ADE20K, ids from 1": masks.ade20k,
    "LabelMeFacade, 16-bit RGBA": masks.labelmefacade,
    "CARLA, ids in red": masks.carla,
    "Colours": masks.colours,
    "Plain ids": masks.ids,
    "Binary masks": masks.binary,
    "NumPy .npy": masks.npy,
    "Matlab .mat": masks.mat,
}
