"""Sequences: images that are frames of videos, whose neighbours show nearly the same and must not lie in two splits."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.data.init.words import stem
from fastscnn.media import images

_NUMBER = re.compile(r"\d+")
_ROBOFLOW = re.compile(r"_[a-z]+\.rf\.[0-9a-zA-Z]+$")  # behind the name of the file that was uploaded
_LEAST = 8  # pairs of neighbours from which frames are told from photographs
_SAMPLE = 16  # pairs of neighbours that are compared
_THUMBNAIL = (16, 16)  # pixels, HxW
# Difference of neighbours, divided by that of any two images: 0.1 to 0.65 in parts of CamVid (1 frame a second); 0.74 to 1.3 in
# photographs, and in frames in random order.
_ALIKE = 0.7
_TOLERANCE = 1.5  # of the share of the images that whole sequences may take

Sequences = list[list[str]]  # of paths of images, each in the order of its frames


def numbered(paths: Sequence[str]) -> Sequences:
    """Return the images by the sequences that their names form, such as "a_0001" and "a_0002"; others are alone."""
    series: dict[tuple[PurePosixPath, str], list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for path in paths:
        name = stem(_ROBOFLOW.sub("", PurePosixPath(path).stem)).core
        numbers = tuple(int(number) for number in _NUMBER.findall(name))
        series[PurePosixPath(path).parent, _NUMBER.sub("#", name)].append((numbers, path))
    return [sequence for named in series.values() for sequence in _by_number(sorted(named))]


def _by_number(named: Sequence[tuple[tuple[int, ...], str]]) -> Sequences:
    """Divide names that differ in their numbers only. The last number that differs counts the frames."""
    columns = zip(*(numbers for numbers, _ in named), strict=True)
    varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    by_others: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for numbers, path in named:
        by_others[tuple(numbers[place] for place in varying[:-1])].append(path)
    # A time of two numbers, such as 1305031102.175304, is one number.
    return list(by_others.values()) if len(named) > 2 * len(by_others) else [[path for _, path in named]]


def frames(survey: Survey, paths: Sequence[str]) -> Sequences:
    """Return the sequences if the images are numbered and neighbours look alike, as frames of videos do; else []."""
    found = numbered(paths)
    steps = [step for sequence in found for step in itertools.pairwise(sequence)]
    if len(steps) < max(_LEAST, len(paths) / 2):
        return []
    second = dict(steps)
    thumbnails: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    for first in survey.tracked(spread(list(second), _SAMPLE)):
        try:
            thumbnails.append((_thumbnail(survey, first), _thumbnail(survey, second[first])))
        except FastSCNNError:
            continue  # reported when the guess is tried
    near = [np.abs(one - other).mean() for one, other in thumbnails]
    far = [np.abs(one - other).mean() for place, (one, _) in enumerate(thumbnails) for other, _ in thumbnails[place + 1 :]]
    return found if far and sum(near) / len(near) < _ALIKE * sum(far) / len(far) else []


def _thumbnail(survey: Survey, path: str) -> npt.NDArray[np.float32]:
    return images.resize(images.read(survey.root / path), _THUMBNAIL).astype(np.float32)


def by_sequence(sequences: Sequences, fractions: Mapping[str, float]) -> tuple[dict[str, list[str]], int]:
    """Divide frames into train and val: whole sequences, else the beginning and the end of each.

    Args:
        sequences: of frames.
        fractions: of the images in train and val.

    Returns:
        The images of train and val, and the number of sequences that are val; 0 if each sequence is divided.
    """
    wanted = fractions["val"] * sum(map(len, sequences))
    whole: Sequences = []
    for sequence in sorted(sequences, key=len, reverse=True):
        if sum(map(len, whole)) + len(sequence) <= _TOLERANCE * wanted and sum(map(len, whole)) < wanted:
            whole.append(sequence)
    if sum(map(len, whole)) >= wanted / _TOLERANCE:
        val = [path for sequence in whole for path in sequence]
    else:
        whole, val = [], [path for sequence in sequences for path in sequence[round(fractions["train"] * len(sequence)) :]]
    chosen = set(val)
    train = [path for sequence in sequences for path in sequence if path not in chosen]
    return {"train": sorted(train), "val": sorted(val)}, len(whole)
