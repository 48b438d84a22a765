"""Image files with files of shapes: COCO, CVAT, Label Studio, LabelMe, YOLO and Supervisely."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import coco, cvat, labelme, labelstudio, supervisely, yolo
from fastscnn.data.formats.base import Contents, Shapes
from fastscnn.data.init.class_files import IGNORED, ClassFile, class_files
from fastscnn.data.init.guess import Classes, Guess
from fastscnn.data.init.pairing import Pair, pair_with
from fastscnn.data.init.places import Place, of_images
from fastscnn.data.init.splits import Splits, by_folder, splits_of
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.data.init.words import first_split
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet

_BACKGROUND = ("background", "_background_", "__background__")
_MOST_FILES = 5000  # files of one image each whose names are read
_MEASURED = 12  # images whose uncovered pixels are counted
_COVERED = 0.98  # share of the pixels from which the others are taken for unlabelled ones
_SMALL = 1 << 20  # bytes of a JSON file that is parsed to see what it is
_YOLO = re.compile(rb"\s*\d+(?:\s+-?[\d.]+(?:e-?\d+)?){6,}\s*(?:\n|$)")
_TASK_MASK = re.compile(r"task-\d+-annotation-\d+-by-[^-]*-[^-]+-(.+)-\d+\.png")


@dataclass(frozen=True)
class _Kind:
    """A format of shapes.

    Attributes:
        labels_are: its name in dataset.toml.
        title: its name in sentences.
        contents: reads the names and images of a file.
        make: the label format of stored names and their train ids.
    """

    labels_are: str
    title: str
    contents: Callable[[Path], Contents]
    make: Callable[[Mapping[str, int]], Shapes]


_KINDS = {
    kind.labels_are: kind
    for kind in (
        _Kind("coco", "COCO's JSON", coco.contents, coco.CocoLabels),
        _Kind("cvat", "CVAT's XML", cvat.contents, cvat.CvatLabels),
        _Kind("label-studio", "Label Studio's JSON", labelstudio.contents, labelstudio.LabelStudioLabels),
        _Kind("labelme", "LabelMe's JSON", labelme.contents, labelme.LabelMeLabels),
        _Kind("yolo", "YOLO's text files of polygons", yolo.contents, yolo.YoloLabels),
        _Kind("supervisely", "Supervisely's JSON", supervisely.contents, supervisely.SuperviselyLabels),
    )
}
_OF_MANY = ("coco", "cvat", "label-studio")


def guess(survey: Survey) -> Guess | None:
    """Return the dataset of images and files of shapes in a folder; None if there are none.

    Raises:
        FastSCNNError: files of shapes that are malformed, or name no image of the folder.
    """
    found = _files(survey)
    for name in (*_OF_MANY, "supervisely", "labelme", "yolo"):
        if found.get(name):
            recognise = _of_many if name in _OF_MANY else _of_one
            if made := recognise(survey, _KINDS[name], found[name]):
                return made
    return None


def _files(survey: Survey) -> dict[str, list[str]]:
    """Return the files of each format. Of the files in one folder with one name for each image, a few are looked at."""
    found: dict[str, list[str]] = defaultdict(list)
    stems = {PurePosixPath(path).stem for path in survey.of(*images.SUFFIXES)}
    by_series: dict[object, list[str]] = defaultdict(list)
    for path in survey.of(".json", ".txt", ".xml"):
        place = PurePosixPath(path)
        of_image = place.stem in stems or PurePosixPath(place.stem).stem in stems
        by_series[(place.parent, place.suffix) if of_image else path].append(path)
    for paths in by_series.values():
        kinds = Counter(_kind(survey.root / path) for path in spread(paths, 5))
        kinds.pop("", None)
        if kinds:
            found[kinds.most_common(1)[0][0]] += paths
    return found


def _kind(path: Path) -> str:
    """Return the format of a file; "" if it is none of these."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        data = path.read_bytes() if path.suffix.lower() == ".json" else b""
    except OSError:
        return ""
    if path.suffix.lower() == ".txt":
        return "yolo" if _YOLO.match(head) else ""
    if path.suffix.lower() == ".xml":
        return "cvat" if b"<annotations" in head else ""
    return _kind_of_many(data) if len(data) > _SMALL else _kind_of_json(data)


def _kind_of_many(data: bytes) -> str:
    """Return the format of a large JSON file, without parsing it."""
    if all(key in data for key in (b'"categories"', b'"images"', b'"segmentation"')):
        return "coco"
    if b'"shapes"' in data and b'"imagePath"' in data:  # with the image in it
        return "labelme"
    return "label-studio" if data.lstrip()[:1] == b"[" and b'"annotations"' in data else ""


def _kind_of_json(data: bytes) -> str:
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if isinstance(table, list):
        return "label-studio" if table and isinstance(table[0], dict) and "data" in table[0] and "id" in table[0] else ""
    if not isinstance(table, dict):
        return ""
    if isinstance(table.get("images"), list) and isinstance(table.get("categories"), list):
        annotations = table.get("annotations")
        return "coco" if isinstance(annotations, list) and any(
            isinstance(one, dict) and "segmentation" in one for one in annotations[:20]
        ) else ""
    if isinstance(table.get("shapes"), list):
        return "labelme"
    return "supervisely" if isinstance(table.get("objects"), list) and isinstance(table.get("size"), dict) else ""


# one file for each image


def _of_one(survey: Survey, kind: _Kind, paths: Sequence[str]) -> Guess | None:
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
    classes = _classes(survey, kind, names, found.pairs, f"{len(read)} label files read")
    return Guess(kind.title, classes, splits.places, (*said, *splits.guessed), splits.left_open)


# one file for many images


def _of_many(survey: Survey, kind: _Kind, paths: Sequence[str]) -> Guess | None:
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
    classes = _classes(survey, kind, names, pairs, f"{sum(names.values())} shapes")
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


# classes


def _classes(survey: Survey, kind: _Kind, names: Mapping[str, int], pairs: Sequence[Pair], read: str) -> Classes:
    """Return the classes of stored names, and what pixels without a shape are."""
    used = [name for name, count in names.items() if count]
    unused = [name for name, count in names.items() if not count]
    if not used:
        raise FastSCNNError(f"{survey.root / pairs[0].labels}: has no shapes, so there are no classes; annotate the images.")
    guessed = [f"The names of the shapes are the classes ({read})."]
    left_open: list[str] = []
    if unused:
        guessed.append(f"Not used by any shape, and left out: {', '.join(unused)}.")
    found = class_files(survey)
    named = _yolo_names(used, found, guessed, left_open) if kind.labels_are == "yolo" else _ordered(used, found, guessed)
    to = {stored: "ignore" if name.lower() in IGNORED else name for stored, name in named.items()}
    if ignored := [name for name in to if to[name] == "ignore"]:
        guessed.append(f"{', '.join(ignored)} is ignored.")
    classes = list(dict.fromkeys(name for name in to.values() if name != "ignore"))
    background, classes = _background(survey, kind, to, classes, pairs, guessed)
    mapped = to if ignored or kind.labels_are == "yolo" else {}
    return Classes(tuple(classes), kind.labels_are, _colours(classes, found), {"background": background}, mapped,
                   tuple(guessed), tuple(left_open))


def _ordered(used: Sequence[str], files: Sequence[ClassFile], guessed: list[str]) -> dict[str, str]:
    """Return the names in the order of a file that has them all, else as they are."""
    for file in files:
        rows = [row.name for row in file.rows]
        if set(used) <= set(rows):
            guessed.append(f"{file.path} gives their order.")
            return {name: name for name in rows if name in used}
    return {name: name for name in used}


def _yolo_names(used: Sequence[str], files: Sequence[ClassFile], guessed: list[str], left_open: list[str]) -> dict[str, str]:
    """Return number -> name of YOLO's classes."""
    highest = max(map(int, used))
    for file in sorted(files, key=lambda file: not file.path.lower().endswith((".yaml", ".yml"))):
        rows = {row.id if file.has_ids and row.id is not None else place: row.name for place, row in enumerate(file.rows)}
        if set(map(int, used)) <= rows.keys():
            guessed.append(f"{file.path} names the classes.")
            return {str(number): name for number, name in sorted(rows.items())}
    left_open.append("no data.yaml names the classes; write the names of the classes in `classes` and in [map].")
    return {str(number): f"class {number}" for number in range(highest + 1)}


def _background(
    survey: Survey, kind: _Kind, to: Mapping[str, str], classes: list[str], pairs: Sequence[Pair], guessed: list[str]
) -> tuple[str, list[str]]:
    """Return the class of pixels without a shape, or "ignore", and all classes with it."""
    own = next((name for name in classes if name.lower() in _BACKGROUND), None)
    if own:
        guessed.append(f"Pixels without a shape are {own}.")
        return own, classes
    covered = _covered(survey, kind, to, classes, pairs)
    if covered >= _COVERED:
        guessed.append(f'Pixels without a shape are {100 * (1 - covered):.2g} % and are ignored: background = "ignore".')
        return "ignore", classes
    guessed.append(f"Pixels without a shape are {100 * (1 - covered):.2g} %, and are taken as a class of their own; if they "
                   'are not labelled, remove "background" from classes and set background = "ignore".')
    return "background", ["background", *classes]


def _covered(survey: Survey, kind: _Kind, to: Mapping[str, str], classes: Sequence[str], pairs: Sequence[Pair]) -> float:
    """Return the share of pixels with a shape, in a sample of the images that can be read."""
    labels = kind.make({stored: classes.index(name) if name in classes else 0 for stored, name in to.items()})
    label_set = LabelSet(tuple(classes))
    shares = []
    by_image = {pair.image: pair for pair in pairs}
    for image in spread(list(by_image), _MEASURED):
        try:
            read = labels.read(survey.root / by_image[image].labels, survey.root / image, label_set)  # type: ignore[attr-defined]
        except FastSCNNError:
            continue  # reported when the guess is tried
        shares.append(float(np.mean(read.labels != IGNORE_INDEX)))
    return float(np.mean(shares)) if shares else 0.0


def _colours(classes: Sequence[str], files: Sequence[ClassFile]) -> tuple[Colour, ...]:
    """Return the colours that a file gives to all classes, black for the background; () if none does."""
    for file in files:
        known = {"background": (0, 0, 0)} | {row.name: row.colour for row in file.rows if row.colour}
        colours = [known[name] for name in classes if name in known]
        if file.has_colours and len(colours) == len(classes) == len(set(colours)):
            return tuple(colours)
    return ()
