"""Image files with files of shapes: COCO, CVAT, Label Studio, LabelMe, YOLO and Supervisely."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import labelstudio, panoptic
from fastscnn.data.formats.listing import count_equal
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.pairing import Pair, pair_with, said_pairs
from fastscnn.data.init.places import Place, of_images
from fastscnn.data.init.sentences import number
from fastscnn.data.init.shape_classes import classes_of_shapes
from fastscnn.data.init.shape_files import KINDS, Kind, shape_files
from fastscnn.data.init.splits import by_folder, splits_of
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.data.init.words import first_split, folder, words
from fastscnn.media import images

_MOST_FILES = 5000  # files of one image each whose names are read


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


def guess_panoptic(survey: Survey) -> Guess | None:
    """Return the dataset of COCO's panoptic JSON and its PNGs; None if there is none. Colours of its PNGs are no classes.

    Raises:
        FastSCNNError: as `guess`.
    """
    kind = next(kind for kind in KINDS if kind.labels_are == "coco-panoptic")
    paths = [path for path in shape_files(survey).get(kind.labels_are, []) if panoptic.pngs(survey.root / path)]
    return _of_many(survey, kind, paths) if paths else None


# one file for each image


def _of_one(survey: Survey, kind: Kind, paths: Sequence[str]) -> Guess | None:
    found = pair_with(survey, paths)
    if found is None:
        return None
    read = spread([pair.labels for pair in found.pairs], _MOST_FILES)
    names: Counter[str] = Counter()
    for path in survey.tracked(read):
        names.update(kind.contents(survey.root / path).names)
    splits = splits_of(survey, found.pairs)
    classes = classes_of_shapes(survey, kind, names, found.pairs, f"{number(len(read), 'label file')} read")
    return Guess(kind.title, classes, splits.places, (*said_pairs(found), *splits.guessed), splits.left_open)


# one file for many images


@dataclass(frozen=True)
class _Listing:
    """A file of shapes, its images in the folder, its names with their number of shapes, and images not found."""

    path: str
    images: tuple[str, ...]
    names: Counter[str]
    lost: Sequence[str]


def _of_many(survey: Survey, kind: Kind, paths: Sequence[str]) -> Guess | None:
    found = [_listing(survey, kind, path) for path in survey.tracked(paths)]
    lost = [name for listing in found for name in listing.lost]
    listings, keypoints, twins = _distinct([listing for listing in found if listing.images])
    if not listings:
        raise FastSCNNError(f"{survey.root / paths[0]}: {_none_of(survey, lost)}")
    places: dict[str, Place] = {}
    listed: dict[str, Sequence[str]] = {}
    names: Counter[str] = Counter()
    pairs: list[Pair] = []
    for listing in listings:
        split = _split(listing.path)
        split = PurePosixPath(listing.path).stem if split in places else split
        places[split] = of_images(survey, listing.images, listing.path)
        listed[split] = listing.images
        names.update(listing.names)
        pairs += [Pair(image, listing.path, "", split) for image in listing.images]
    if len(places) > 1 and "" in places:
        places["rest"], listed["rest"] = places.pop(""), listed.pop("")
    splits = by_folder(survey, places, listed, next(iter(places.values())), of="label files")
    said = [f"{kind.title} lists {number(len(pairs), 'image')} of the folder: "
            f"{', '.join(dict.fromkeys(pair.labels for pair in pairs))}."]
    said += keypoints
    if lost:
        said.append(f"Listed, but not in the folder: {number(len(lost), 'image')}, such as {lost[0]}.")
    classes = classes_of_shapes(survey, kind, names, pairs, number(sum(names.values()), "shape"))
    return Guess(kind.title, classes, splits.places, (*said, *splits.guessed), (*splits.left_open, *twins))


def _listing(survey: Survey, kind: Kind, path: str) -> _Listing:
    names = Counter(kind.contents(survey.root / path).names)
    found, lost = _located(survey, path, kind)
    if found and kind.labels_are == "label-studio":
        names.update(labelstudio.mask_names(survey.root / path))
    return _Listing(path, tuple(sorted(found)), names, lost)


def _split(path: str) -> str:
    """Return the split that a path says; the name of the file comes before its folders."""
    return first_split(PurePosixPath(path).stem) or first_split(str(PurePosixPath(path).parent))


def _distinct(listings: Sequence[_Listing]) -> tuple[list[_Listing], list[str], list[str]]:
    """Return one of the files that list the same images; sentences about files of keypoints, and about the others."""
    kept: list[_Listing] = []
    said: dict[bool, list[str]] = {True: [], False: []}
    for listing in sorted(listings, key=lambda one: (_of_keypoints(one), -sum(one.names.values()), one.path)):
        twin = next((one for one in kept if one.images == listing.images or (
            _of_keypoints(listing) and set(listing.images) <= set(one.images))), None)
        if twin:
            said[_of_keypoints(listing)].append(f"{listing.path} is not used, since {twin.path} lists the same images; if it "
                                                f"has the labels, move {twin.path} out of the folder.")
        else:
            kept.append(listing)
    return [listing for listing in listings if listing in kept], said[True], said[False]


def _of_keypoints(listing: _Listing) -> bool:
    return "keypoints" in words(PurePosixPath(listing.path).stem)


def _none_of(survey: Survey, lost: Sequence[str]) -> str:
    """Return the problem of a file none of whose images is in the folder, and the fix."""
    if not lost:
        return "lists no image; export it again."
    bases = {PurePosixPath(image).name: image for image in survey.of(*images.SUFFIXES)}
    alike = next(((name, bases[base]) for name in lost for base in (name[place + 1 :] for place, one in enumerate(name)
                                                                    if one in "-_") if base in bases), None)
    said = f"lists {number(len(lost), 'image')}, such as {lost[0]}, and none is in the folder"
    return f"{said}; {alike[0]} may be {alike[1]}, so make their names equal." if alike else f"{said}; put them there."


def _located(survey: Survey, path: str, kind: Kind) -> tuple[set[str], list[str]]:
    """Return the images of the folder that a file lists, and the listed names without one."""
    listing = kind.make({}).listing(survey.root / path)
    if listing is None:
        raise ValueError(f"{kind.labels_are} has one file for each image")
    split = _split(path)
    by_entry: dict[int, list[tuple[tuple[object, ...], str]]] = defaultdict(list)
    labels = panoptic.pngs(survey.root / path) if kind.labels_are == "coco-panoptic" else ()
    for image in survey.of(*images.SUFFIXES):
        if survey.root / image in labels:
            continue
        try:
            entry, fit = listing.match(survey.root / image)
        except FastSCNNError:
            continue  # not listed, or as likely one image as another
        parent = PurePosixPath(image).parent
        if not fit[0] and ((says := folder(str(parent))).role == "label" or says.less):
            continue  # a mask of the listed image, in another format
        near = count_equal(PurePosixPath(path).parts, parent.parts)
        by_entry[id(entry)].append(((fit, first_split(str(parent)) == split, near), image))
    found = {max(fitting)[1] for fitting in by_entry.values()}
    return found, listing.without(survey.root / image for image in found)
