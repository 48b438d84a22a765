"""Image files and label files that are images or arrays: in two folders, in one, with or without lists."""

from __future__ import annotations

from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.class_files import class_files
from fastscnn.data.init.classes import classes_of
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.pairing import pair, said_pairs
from fastscnn.data.init.sentences import number
from fastscnn.data.init.splits import Splits, splits_of, splits_of_lists
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import read


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
    return _with_classes(survey, labels, splits, "lists of images and label files", []) if splits else None


def _with_classes(survey: Survey, paths: list[str], splits: Splits, layout: str, said: list[str]) -> Guess:
    labels = sorted(set(paths))
    values = read(survey, labels)
    files, not_read = class_files(survey)
    try:
        classes = classes_of(values, files, f"{survey.root.name}/{labels[0]}")
    except FastSCNNError as error:
        where = survey.root / PurePosixPath(labels[0]).parent
        raise FastSCNNError(str(error) if str(where) in str(error) else f"{where}: {error}") from None
    count = number(len(values.unread), "label file")
    unread = [f"{count} cannot be read; the first: {error}" for error in values.unread[:1]]
    return Guess(layout, classes, splits.places, (*said, *splits.guessed, *not_read), (*splits.left_open, *unread))
