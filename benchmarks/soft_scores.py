"""Score soft labels as if they were the labels of a network: mIoU and IoU of each class on CamVid's drives.

    python benchmarks/soft_scores.py camvid:ROOT SOFT

SOFT has the folder camvid with soft labels of Cityscapes' 19 classes, which are summed into CamVid's 11. Test is not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from ablation import HELD_OUT, SOFT_TO_CAMVID, folds

from fastscnn.data.builtin.cityscapes import LABELS as CITYSCAPES
from fastscnn.data.class_map import soft_train_ids
from fastscnn.data.soft import SoftClasses
from fastscnn.evaluation.metrics import Confusion
from fastscnn.upsampling import upsample


def main(data: str, soft: Path, /) -> None:
    """Print the scores on the held-out drives, each alone and together.

    Args:
        data: camvid:ROOT.
        soft: Folder of the soft labels.
    """
    spec = folds(data)
    names = spec.label_set.names
    meaning = SoftClasses(CITYSCAPES.names, soft_train_ids(CITYSCAPES.names, SOFT_TO_CAMVID, names))
    to_classes = meaning.to_classes(range(len(names)), len(names))
    for splits in (*HELD_OUT.split("+"), HELD_OUT):
        confusion = Confusion(len(names))
        for pair in spec.pairs(splits):
            truth = spec.read(pair)[1]
            probabilities = meaning.read(soft / "camvid" / f"{pair.image.stem}.npz", (truth.shape[0], truth.shape[1]))
            summed = np.einsum("shw,sc->chw", probabilities / np.float32(255), to_classes)
            confusion.add(upsample.labels(np.log(summed + np.float32(1e-6)), (truth.shape[0], truth.shape[1])), truth)
        scores = {name: None if iou is None else round(iou, 1) for name, iou in zip(names, confusion.iou(), strict=True)}
        print(f"{splits}: mIoU {confusion.miou():.2f}, {scores}")


if __name__ == "__main__":
    tyro.cli(main)
