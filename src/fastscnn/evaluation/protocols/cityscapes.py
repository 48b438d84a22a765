"""The four scores of the Cityscapes benchmark, and the files that its evaluation server accepts.

Scores are equal to those of `cityscapesscripts` 2.3.0, evalPixelLevelSemanticLabeling, for predictions of evaluated classes.
The other cases:

| pixels | in the script, on label ids | here, on train ids |
| --- | --- | --- |
| truth is an ignored id | excluded from every IoU | 255: excluded from every IoU |
| ... and inside an instance of the instance file | counts for that instance | counts for that instance |
| an evaluated class predicted as an ignored id | a miss; caravan and trailer count as vehicles in the category iIoU | error |
| in an instance of an ignored class (caravan) | excluded | excluded |
| of a class with instances, but of a group (cargroup) | in no instance; false positives there count | the same |
| in an instance of a class without instances | KeyError | error |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Int64Array, UInt8Array
from fastscnn.evaluation.metrics import Confusion
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

SIZE = (1024, 2048)  # (height, width) of every image
_PER_CLASS = 1000  # an instance's value is its label id times this, plus its number
_FRAME = re.compile(r"[A-Za-z-]+_[0-9]{6}_[0-9]{6}(?=_|$)")

_Float64Array = npt.NDArray[np.float64]


class Scores:
    """IoU and instance-weighted IoU (iIoU) of classes and of categories.

    Each pixel of an instance has the weight average size / size of the instance. iIoU = weighted true positives /
    (weighted pixels of all instances + false positives). A false positive is a pixel of another class (or category) and has
    the weight 1. A category has an iIoU if each of its evaluated classes has instances.

    Attributes:
        confusion: confusion matrix.
    """

    def __init__(self, label_set: LabelSet, categories: Sequence[str], average_sizes: Mapping[str, float]) -> None:
        """
        Args:
            label_set: the evaluated classes, with all label ids; ignored ids map to 255.
            categories: of each class the name of its category.
            average_sizes: class name -> average size of an instance in pixels, for the classes that have instances.

        Raises:
            FastSCNNError: not one category for each class, an average size of an unknown class, or one that is not positive.
        """
        if len(categories) != len(label_set):
            raise FastSCNNError(f"categories: there are {len(categories)} for {len(label_set)} classes; give one each.")
        self.confusion = Confusion(len(label_set))
        self._names = label_set.names
        self._categories, places = grouping(categories)
        self._category = np.array(places)
        self._train_ids = label_set.train_ids()
        self._average = np.full(len(label_set), np.nan)
        for name, size in average_sizes.items():
            if not 0 < size < np.inf:
                raise FastSCNNError(f"average_sizes: {name!r} has {size}; give a number of pixels above 0.")
            self._average[label_set.index(name)] = size
        self._weights = np.zeros((3, len(label_set)))  # of instances: hits, hits of the category, pixels

    def add(self, predicted: UInt8Array, truth: UInt8Array, instances: npt.NDArray[np.integer[Any]]) -> None:
        """Count one image; on an error nothing of it is counted.

        Args:
            predicted: train ids, uint8 [H, W].
            truth: train ids, uint8 [H, W], 255 where a pixel is ignored.
            instances: content of the instanceIds file, 16 bits or more [H, W]: label id * 1000 + number inside an instance,
                the label id elsewhere. Instances are read from it alone, whatever `truth` is there.

        Raises:
            FastSCNNError: different sizes, a class beyond the number of classes, 8-bit instances, or an instance of a class
                that has none.
        """
        if instances.shape != truth.shape:
            raise FastSCNNError(f"Instances are {instances.shape}, true labels {truth.shape}; sizes must be the same.")
        if instances.dtype.kind not in "iu" or instances.dtype.itemsize < 2:
            raise FastSCNNError(f"Instances are {instances.dtype}, but instanceIds files have 16 bits; give their content.")
        weights = self._weigh(predicted, instances) if predicted.shape == truth.shape else 0  # if not, `add` below raises
        self.confusion.add(predicted, truth)
        self._weights += weights

    def _weigh(self, predicted: UInt8Array, instances: npt.NDArray[np.integer[Any]]) -> _Float64Array:
        """Return what one image adds to `_weights`."""
        inside = instances > _PER_CLASS  # as in the script; the first class with instances has the id 24
        values, place, sizes = np.unique(instances[inside], return_inverse=True, return_counts=True)
        classes = self._classes(values)
        seen, kept = predicted[inside], classes != IGNORE_INDEX
        category = np.full(256, -1)
        category[: len(self._category)] = self._category
        right = seen == classes[place]
        near = category[seen] == category[classes][place]
        pixels = (np.bincount(place, right, len(values)), np.bincount(place, near, len(values)), sizes)
        weight = self._average[classes[kept]] / sizes[kept]
        return np.stack([np.bincount(classes[kept], row[kept] * weight, len(self._names)) for row in pixels])

    def _classes(self, values: npt.NDArray[np.integer[Any]]) -> Int64Array:
        """Return the train id of each instance, 255 for those of ignored classes."""
        ids = values.astype(np.int64) // _PER_CLASS
        known = np.append(self._train_ids, -1)[np.minimum(ids, len(self._train_ids))]
        wrong = known < 0
        evaluated = ~wrong & (known != IGNORE_INDEX)
        wrong[evaluated] = np.isnan(self._average[known[evaluated]])
        if wrong.any():
            raise FastSCNNError(f"The instance {int(values[wrong][0])} is of the label id {int(ids[wrong][0])}, "
                                "which is no class that has instances; correct the instance file.")
        return known

    def class_iou(self) -> dict[str, float | None]:
        """Return the IoU of each class in percent; None if it is neither present nor predicted."""
        return dict(zip(self._names, self.confusion.iou(), strict=True))

    def category_iou(self) -> dict[str, float | None]:
        """Return the IoU of each category in percent; None as in `class_iou`."""
        return dict(zip(self._categories, self.confusion.grouped(self._category.tolist()).iou(), strict=True))

    def class_iiou(self) -> dict[str, float | None]:
        """Return the iIoU in percent of each class that has instances; None without any instance and false positive."""
        hits, _, pixels = self._weights
        scores = _iiou(hits, pixels, self.confusion)
        return {name: score for name, score, size in zip(self._names, scores, self._average, strict=True) if not np.isnan(size)}

    def category_iiou(self) -> dict[str, float | None]:
        """Return the iIoU in percent of each category whose classes all have instances; None as in `class_iiou`."""
        _, hits, pixels = (np.bincount(self._category, row).astype(np.float64) for row in self._weights)
        scores = _iiou(hits, pixels, self.confusion.grouped(self._category.tolist()))
        lacking = set(self._category[np.isnan(self._average)].tolist())
        named = enumerate(zip(self._categories, scores, strict=True))
        return {name: score for index, (name, score) in named if index not in lacking}

    def to_dict(self) -> dict[str, Any]:
        """Return the scores for JSON, in percent: four tables by name, and the mean of each over what is not None."""
        tables = {
            "class_iou": self.class_iou(),
            "category_iou": self.category_iou(),
            "class_iiou": self.class_iiou(),
            "category_iiou": self.category_iiou(),
        }
        return {**{f"mean_{name}": mean(table) for name, table in tables.items()}, **tables}


def grouping(categories: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the categories in the order of their first class, and of each class the index of its category."""
    names = list(dict.fromkeys(categories))
    return names, [names.index(name) for name in categories]


def mean(scores: Mapping[str, float | None]) -> float | None:
    """Return the mean of the scores that are not None; None if all are."""
    known = [score for score in scores.values() if score is not None]
    return sum(known) / len(known) if known else None


def _iiou(hits: _Float64Array, pixels: _Float64Array, confusion: Confusion) -> list[float | None]:
    """Return the iIoU in percent from weighted true positives, weighted pixels of instances and a confusion matrix."""
    false = confusion.matrix.sum(axis=0) - np.diag(confusion.matrix)
    whole = pixels + false
    return [100 * float(h) / float(w) if w else None for h, w in zip(hits, whole, strict=True)]


def submission_name(image: str | Path) -> str:
    """Return the file name of a submission: aachen_000000_000019_leftImg8bit.png -> aachen_000000_000019_pred_labelIds.png.

    The server requires one file `<city>_<seq>_<frame>*.png` for each image; what replaces `*` is free. Sources: the head of
    evalPixelLevelSemanticLabeling.py in `cityscapesscripts`, and github.com/mcordts/cityscapesScripts/issues/65.

    Raises:
        FastSCNNError: the name does not begin with city, sequence and frame.
    """
    return f"{_frame(image)}_pred_labelIds.png"


def write_submission(
    folder: str | Path,
    image: str | Path,
    labels: UInt8Array,
    label_set: LabelSet,
    *,
    resize: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the labels of an image as the evaluation server requires them: an 8-bit PNG of label ids, 1024x2048.

    The folder is flat, without folders of cities. A file of the same image is not overwritten by default: a folder with files
    of two networks would be scored as one network, and the number of submissions is limited.

    Args:
        folder: output folder; it is created if it does not exist.
        image: file or name of the image, for city, sequence and frame.
        labels: train ids, uint8 [H, W], a class for every pixel.
        label_set: the classes, with exactly one label id each.
        resize: resize labels of another size to 1024x2048 by nearest neighbour; otherwise they are an error.
        overwrite: replace the file of the same name. A file of the same image with another name remains an error, since the
            server accepts one file for each image.

    Returns:
        The file.

    Raises:
        FastSCNNError: a wrong name, size or id, or a file of the image exists.
    """
    table = _label_ids(label_set)
    if labels.ndim != 2 or (labels.shape != SIZE and not (resize and labels.size)):
        raise FastSCNNError(f"{image}: its labels are {hxw(labels.shape)}, and the server requires 1024x2048; "
                            "segment the original image, or set resize.")
    if labels.max() >= len(label_set):
        raise FastSCNNError(f"{image}: contains the train id {labels.max()}, beyond the {len(label_set)} classes; "
                            "a submission needs a class for every pixel.")
    path = Path(folder) / submission_name(image)
    for other in Path(folder).glob(f"{_frame(image)}*.png"):
        if other != path or not overwrite:
            raise FastSCNNError(f"{other}: exists, and the server accepts one file for each image; "
                                "remove it, or write to another folder.")
    rows, columns = ((2 * np.arange(to) + 1) * size // (2 * to) for to, size in zip(SIZE, labels.shape, strict=True))
    images.write(path, table[labels[rows[:, None], columns]])
    return path


def _frame(image: str | Path) -> str:
    """Return city, sequence and frame, with which all files of an image begin."""
    found = _FRAME.match(Path(image).stem)
    if not found:
        raise FastSCNNError(f"{image}: is not named <city>_<sequence>_<frame> with numbers of six digits, as in Cityscapes; "
                            "rename it.")
    return found[0]


def _label_ids(label_set: LabelSet) -> UInt8Array:
    """Return the table uint8 [classes] train id -> label id."""
    table = label_set.train_ids()
    ids = [np.flatnonzero(table == train) for train in range(len(label_set))]
    for name, found in zip(label_set.names, ids, strict=True):
        if len(found) != 1:
            raise FastSCNNError(f"The class {name!r} has the label ids {found.tolist()}; a submission needs exactly one.")
    return np.concatenate(ids).astype(np.uint8)
