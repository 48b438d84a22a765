"""Image files with files of shapes: COCO, CVAT, Label Studio, LabelMe, YOLO and Supervisely."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats.base import Contents
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.pairing import Pair, pair_with
from fastscnn.data.init.places import Place, of_images
from fastscnn.data.init.shape_classes import classes_of_shapes
from fastscnn.data.init.shape_files import KINDS, Kind, shape_files
from fastscnn.data.init.splits import Splits, by_folder, splits_of
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.data.init.words import first_split
from fastscnn.media import images

_MOST_FILES = 5000  # files of one image each whose names are read
_TASK_MASK = re.compile(r"task-\d+-annotation-\d+-by-[^-]*-[^-]+-(.+)-\d+\.png")


def guess(survey: Survey) -> Guess | None:
    """Return the dataset of images and files of shapes in a folder; None if there are none.

    Raises:
        FastSCNNError: files of shapes that are malformed, or name no image of the folder.
    """
    found = shape_files(survey)
    for kind in KINDS:
        if paths := found.get(kind.labels_are):
            recognise = _of_many if kind.make.of_many else _of_one
            if made := recognise(survey, kind, paths):
                return made
    return None


# one file for each image


def _of_one(survey: Survey, kind: Kind, paths: Sequence[str]) -> Guess | None:
    found = pair_with(survey, paths)
    if found is None:
        return None
    read = spread([pair.labels for pair in found.pairs], _MOST_FILES)
    names: Counter[str] = Counter()
    for path in read:
        names.update(kind.contents(survey.root / path).names)
    splits = splits_of(survey, found.pairs)
    said = [f"{len(found.pairs)} images have label files in {kind.title}."]
    if found.unlabelled:
        said.append(f"{len(found.unlabelled)} images without a label file are left out, such as {found.unlabelled[0]}.")
    classes = classes_of_shapes(survey, kind, names, found.pairs, f"{len(read)} label files read")
    return Guess(kind.title, classes, splits.places, (*said, *splits.guessed), splits.left_open)


# one file for many images


def _of_many(survey: Survey, kind: Kind, paths: Sequence[str]) -> Guess | None:
    places: dict[str, Place] = {}
    counts: dict[str, int] = {}
    names: Counter[str] = Counter()
    pairs: list[Pair] = []
    lost = []
    for path in paths:
        contents = kind.contents(survey.root / path)
        found, missing = _located(survey, path, contents)
        lost += missing
        if found:
            split = first_split(PurePosixPath(path).stem) or first_split(str(PurePosixPath(path).parent))
            split = PurePosixPath(path).stem if split in places else split
            places[split] = of_images(survey, sorted(found), path)
            counts[split] = len(found)
            names.update(contents.names)
            if kind.labels_are == "label-studio":
                names.update(_mask_names(survey, path))
            pairs += [Pair(image, path, "", split) for image in sorted(found)]
    if not pairs:
        absent = f"{len(lost)} images, such as {lost[0] if lost else ''}, and none of them is in the folder; put them there"
        what = absent if lost else "no image"
        raise FastSCNNError(f"{survey.root / paths[0]}: names {what}.")
    if len(places) > 1 and "" in places:
        places["rest"], counts["rest"] = places.pop(""), counts.pop("")
    splits = _splits(survey, places, counts)
    said = [f"{len(pairs)} images are labelled in {kind.title}: {', '.join(dict.fromkeys(pair.labels for pair in pairs))}."]
    if lost:
        said.append(f"{len(lost)} images that it names are not in the folder, such as {lost[0]}.")
    classes = classes_of_shapes(survey, kind, names, pairs, f"{sum(names.values())} shapes")
    return Guess(kind.title, classes, splits.places, (*said, *splits.guessed), splits.left_open)


def _splits(survey: Survey, places: Mapping[str, Place], counts: Mapping[str, int]) -> Splits:
    """Return the splits of one place for each file; a single one is divided by fractions."""
    made = by_folder(places, counts, next(iter(places.values())))
    return Splits(made.places, tuple(said.replace("those of the folders", "those of the label files") for said in made.guessed),
                  made.left_open)


def _located(survey: Survey, path: str, contents: Contents) -> tuple[set[str], list[str]]:
    """Return the images of the folder that a file lists, and the listed names without one."""
    by_name: dict[str, list[tuple[tuple[object, ...], str]]] = defaultdict(list)
    split = first_split(PurePosixPath(path).stem) or first_split(str(PurePosixPath(path).parent))
    for image in survey.of(*images.SUFFIXES) if contents.listing else ():
        try:
            name, fit = contents.listing.match(survey.root / image)  # type: ignore[union-attr]
        except FastSCNNError:
            continue  # not listed, or as likely one image as another
        parent = PurePosixPath(image).parent
        near = _count_equal(PurePosixPath(path).parts, parent.parts)
        by_name[name].append(((fit, first_split(str(parent)) == split, near), image))
    return {max(found)[1] for found in by_name.values()}, [name for name in contents.images if name not in by_name]


def _count_equal(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many first parts of two paths are equal."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _mask_names(survey: Survey, path: str) -> Counter[str]:
    """Return the names in the file names of Label Studio's masks beside a file."""
    files = (found for file in (survey.root / path).parent.iterdir() if (found := _TASK_MASK.fullmatch(file.name)))
    return Counter(found[1] for found in files)
