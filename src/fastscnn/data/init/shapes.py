"""Image files with files of shapes: COCO, CVAT, Label Studio, LabelMe, YOLO and Supervisely."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.pairing import Pair, pair_with
from fastscnn.data.init.places import Place, of_images
from fastscnn.data.init.shape_classes import classes_of_shapes
from fastscnn.data.init.shape_files import KINDS, OF_MANY, Kind, shape_files
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
    for name in (*OF_MANY, "supervisely", "labelme", "yolo"):
        if found.get(name):
            recognise = _of_many if name in OF_MANY else _of_one
            if made := recognise(survey, KINDS[name], found[name]):
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
        found, missing = _located(survey, path, contents.images)
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


def _located(survey: Survey, path: str, names: Iterable[str]) -> tuple[set[str], list[str]]:
    """Return the images of the folder that a file names, and the names that are not there."""
    by_base: dict[str, list[str]] = defaultdict(list)
    for image in survey.of(*images.SUFFIXES):
        by_base[PurePosixPath(image).name].append(image)
    split = first_split(PurePosixPath(path).stem) or first_split(str(PurePosixPath(path).parent))
    found, lost = set(), []
    for name in names:
        wanted = PurePosixPath(name.replace("\\", "/"))

        def rank(image: str, wanted: PurePosixPath = wanted) -> tuple[int, bool, int]:
            own = PurePosixPath(image)
            shared = _count_equal(wanted.parts[::-1], own.parts[::-1])
            return shared, first_split(str(own.parent)) == split, _count_equal(PurePosixPath(path).parts, own.parts)

        near = by_base.get(wanted.name, [])
        if near:
            found.add(max(near, key=rank))
        else:
            lost.append(name)
    return found, lost


def _count_equal(one: Sequence[str], other: Sequence[str]) -> int:
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
