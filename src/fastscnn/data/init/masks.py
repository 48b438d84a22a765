"""Image files and label files that are images or arrays: in two folders, in one, with or without lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.class_files import class_files
from fastscnn.data.init.classes import classes_of
from fastscnn.data.init.guess import Classes, Guess
from fastscnn.data.init.pairing import pair, said_pairs
from fastscnn.data.init.sentences import number
from fastscnn.data.init.shape_files import shape_files
from fastscnn.data.init.splits import Splits, splits_of, splits_of_lists
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import Values, look_like_labels, read
from fastscnn.data.init.words import of_instances
from fastscnn.model.label_set import IGNORE_INDEX

_NUMBERED = 0.8  # least share of the files whose ids have no gap, if they number objects
_COUNTS = 4  # least number of last ids


def guess(survey: Survey) -> Guess | None:
    """Return the dataset of image and label files in a folder; None if there are no pairs.

    Raises:
        FastSCNNError: two kinds of label files that are equally likely, or files that are no labels.
    """
    found = pair(survey)
    if found is None:
        return None
    splits = splits_of(survey, found.pairs)
    return _with_classes(survey, [one.labels for one in found.pairs], splits, "images and label files", said_pairs(found))


def guess_of_lists(survey: Survey) -> Guess | None:
    """Return the dataset of lists with an image and its label file in each line, as of PaddleSeg; None if there are none.

    Raises:
        FastSCNNError: files that are no labels.
    """
    splits, labels = splits_of_lists(survey)
    if splits is None:
        return None
    first, second = list(labels), list(labels.values())
    if look_like_labels(survey, first) and not look_like_labels(survey, second):
        raise FastSCNNError(f"{survey.root}: a list has label files in its first column, such as {first[0]}, and images in its "
                            "second; write the image first in each line.")
    return _with_classes(survey, second, splits, "lists of images and label files", [])


def _with_classes(survey: Survey, paths: list[str], splits: Splits, layout: str, said: list[str]) -> Guess:
    labels = sorted(set(paths))
    values = read(survey, labels)
    shapes = shape_files(survey)
    if shapes and len(values.counts) == 1 and not values.unread:
        raise FastSCNNError(f"{survey.root / PurePosixPath(labels[0]).parent}: the label files hold nothing but "
                            f"{next(iter(values.counts))}, so no areas; draw them, or remove these files.")
    said = [*said, *(f"Not used: {number(len(files), 'file')} of shapes ({kind}), such as {files[0]}."
                     for kind, files in shapes.items())]
    files, not_read = class_files(survey)
    try:
        classes = classes_of(values, files, f"{survey.root.name}/{labels[0]}")
    except FastSCNNError as error:
        where = survey.root / PurePosixPath(labels[0]).parent
        raise FastSCNNError(str(error) if str(where) in str(error) else f"{where}: {error}") from None
    count = number(len(values.unread), "label file")
    unread = [f"{count} cannot be read; the first: {error}" for error in values.unread[:1]]
    doubts = _about_instances(values, classes, labels)
    return Guess(layout, classes, splits.places, (*said, *splits.guessed, *not_read), (*splits.left_open, *doubts, *unread))


def _about_instances(values: Values, classes: Classes, labels: Sequence[str]) -> Iterator[str]:
    """Yield what is left open if the values may number instances, not classes."""
    if path := next((path for path in labels if of_instances(path)), ""):
        yield f"by its name, {path} holds instances, so that each instance is a class here; use label files of classes."
    elif classes.labels_are == "ids" and classes.left_open:
        found = [ids - {0, IGNORE_INDEX} for ids in values.sets]
        counted = [len(ids) for ids in found if ids == set(range(1, len(ids) + 1))]
        if len(counted) >= _NUMBERED * len(found) and len(set(counted)) >= _COUNTS:
            yield (f"each label file holds all ids from 1 to a last one, which is {min(counted)} to {max(counted)}, as if the "
                   "objects of each image were numbered; use label files in which an id is a class.")
