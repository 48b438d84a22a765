"""Pairing: which file holds the labels of which image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats.colours import number_of
from fastscnn.data.init import words
from fastscnn.data.init.class_files import class_files
from fastscnn.data.init.sentences import number
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.init.values import LOSSY, look_like_labels, read
from fastscnn.data.init.words import Folder, Role, Stem
from fastscnn.media import images as media

_SERIES = 60  # series of files whose content is looked at
_LOOSER = 1.2  # a looser rule must find so many times more pairs
_BEST, _GOOD, _POOR = 3, 2, 1  # formats of label files


@dataclass(frozen=True)
class Pair:
    """An image, its label file, and the part of their stems that is equal."""

    image: str
    labels: str
    core: str
    split: str


@dataclass(frozen=True)
class Pairing:
    """The image and label files of a folder.

    Attributes:
        pairs: in the order of the images.
        examples: a label file of each kind that is used.
        others: a label file of each other kind that could be paired, too, but is less suited.
        unlabelled: images without labels in the folders of images with labels.
    """

    pairs: tuple[Pair, ...]
    examples: tuple[str, ...]
    others: tuple[str, ...]
    unlabelled: tuple[str, ...]


@dataclass(frozen=True)
class _Named:
    path: str
    folder: Folder
    stem: Stem
    suffix: str
    role: Role

    @property
    def cores(self) -> list[str]:
        return list(dict.fromkeys((self.stem.text, self.stem.core)))

    @property
    def kind(self) -> str:
        """How files like this one are called."""
        return f"{self.folder.kind + '/' if self.folder.kind else ''}{self.stem.affix}{self.suffix}"


def pair(survey: Survey) -> Pairing | None:
    """Return the image and label files of a folder; None if there are no pairs.

    Raises:
        FastSCNNError: two kinds of label files that are equally likely.
    """
    for by_words in (True, False):  # what names say; then what files hold
        named = _roles(survey, by_words)
        images = [file for file in named if file.role == "image" and file.suffix not in ARRAYS]
        labels = [file for file in named if file.role == "label"]
        found = _matched(images, _of_supervisely(survey, labels))
        if found:
            return _chosen(survey, images, found)
    return None


def _of_supervisely(survey: Survey, labels: list[_Named]) -> list[_Named]:
    """Leave out Supervisely's masks for machines if a file names the colours of those for people only."""
    human, machine = ([file for file in labels if file.folder.kind == kind] for kind in ("masks_human", "masks_machine"))
    if not human or not machine:
        return labels
    files = [file for file in class_files(survey)[0] if file.has_colours]
    seen = read(survey, [file.path for file in human], 3).by_colour()
    named = {number_of(row.colour) for file in files for row in file.rows if row.colour}
    if any(file.is_grey for file in files) or not set(seen) <= {0, *named}:
        return labels
    return [file for file in labels if file not in machine]


def pair_with(survey: Survey, labels: Sequence[str]) -> Pairing | None:
    """Return the images that these label files belong to, one for each; None if there are none."""
    named = [_named(path, True) for path in survey.of(*media.SUFFIXES)]
    found = _matched(named, [_named(path, True) for path in labels])
    return _chosen(survey, named, found) if found else None


def said_pairs(found: Pairing) -> list[str]:
    """Return the sentences about images and their label files."""
    have = "has a label file" if len(found.pairs) == 1 else "have label files"
    said = [f"{number(len(found.pairs), 'image')} {have}, such as {' and '.join(found.examples)}."]
    if found.others:
        said.append(f"Not used: {' and '.join(found.others)}, and files that are named alike.")
    if found.unlabelled:
        count = len(found.unlabelled)
        said.append(f"Left out: {number(count, 'image')} without a label file, such as {found.unlabelled[0]}.")
    return said


def _roles(survey: Survey, by_words: bool) -> list[_Named]:
    """Return the files with their roles: what the names say, else what the files hold."""
    named = [_named(path, by_words) for path in survey.pixels]
    if by_words:
        named = _uninformative(named)
    series: dict[object, list[_Named]] = defaultdict(list)
    for file in named:
        if not file.role:
            series[PurePosixPath(file.path).parent, file.suffix, file.stem.affix].append(file)
    if len(series) > _SERIES:
        series = defaultdict(list)
        for file in named:
            if not file.role:
                series[len(PurePosixPath(file.path).parts), file.suffix, file.stem.affix, file.folder.kind].append(file)
    roles: dict[str, Role] = {}
    for files in series.values():
        labels = look_like_labels(survey, [file.path for file in files])
        roles |= {file.path: "label" if labels else "image" for file in files}
    return [file if file.role else _Named(file.path, file.folder, file.stem, file.suffix, roles[file.path]) for file in named]


def _named(path: str, by_words: bool) -> _Named:
    place = PurePosixPath(path)
    folder, stem = words.folder(str(place.parent)), words.stem(place.stem)
    role: Role = "label" if stem.role == "label" else folder.role or stem.role
    suffix = place.suffix.lower()
    return _Named(path, folder, stem, suffix, "label" if suffix in ARRAYS else role if by_words else "")


def _uninformative(named: list[_Named]) -> list[_Named]:
    """Take the role of the folder where all its files are named like labels, as faces with masks are."""
    all_labels: dict[PurePosixPath, bool] = {}
    for file in named:
        parent = PurePosixPath(file.path).parent
        all_labels[parent] = all_labels.get(parent, True) and file.stem.role == "label"
    return [
        _Named(file.path, file.folder, Stem(file.stem.text, file.stem.text, "*", "", False), file.suffix, "image")
        if file.folder.role == "image" and all_labels[PurePosixPath(file.path).parent] else file
        for file in named
    ]


_Match = tuple[_Named, _Named, str]  # image, label file, core
_Key = Callable[[_Named], object]
_RULES: tuple[_Key, ...] = (
    lambda file: (file.folder.split, file.folder.rest),
    lambda file: file.folder.split,
    lambda file: None,
)


def _matched(images: Sequence[_Named], labels: Sequence[_Named]) -> list[_Match]:
    """Return (image, label file, core). The strictest rule for their folders counts, unless a looser one finds more."""
    best: list[_Match] = []
    for rule in _RULES:
        found = _by_rule(images, labels, rule)
        if len(found) > _LOOSER * len(best):
            best = found
    return best


def _by_rule(images: Sequence[_Named], labels: Sequence[_Named], rule: _Key) -> list[_Match]:
    by_key: dict[tuple[object, str], list[_Named]] = defaultdict(list)
    for image in images:
        for core in image.cores:
            by_key[rule(image), core].append(image)
    found = []
    for file in labels:
        for core in file.cores:
            near = _nearest(file, by_key.get((rule(file), core), []))
            if len(near) == 1 and near[0].path != file.path:
                found.append((near[0], file, core))
                break
    return found


def _nearest(file: _Named, images: Sequence[_Named]) -> Sequence[_Named]:
    """Return those of several images of one name whose folders end most like those of the label file."""
    if len(images) < 2:
        return images
    own = PurePosixPath(file.path).parent.parts[::-1]

    def shared(image: _Named) -> int:
        both = zip(own, PurePosixPath(image.path).parent.parts[::-1], strict=False)
        return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], both))

    most = max(map(shared, images))
    return [image for image in images if shared(image) == most]


def _chosen(survey: Survey, images: Sequence[_Named], found: Sequence[_Match]) -> Pairing:
    """Return the pairs of the best kind of label files, and of kinds that complete it."""
    by_kind: dict[str, dict[str, _Match]] = defaultdict(dict)
    for image, file, core in found:
        by_kind[file.kind].setdefault(image.path, (image, file, core))
    most = max(len(pairs) for pairs in by_kind.values())
    ranks = {kind: (len(pairs) > most / 2, _rank(next(iter(pairs.values()))[1])) for kind, pairs in by_kind.items()}
    order = sorted(by_kind, key=lambda kind: (ranks[kind], len(by_kind[kind])), reverse=True)
    chosen = dict(by_kind[order[0]])
    used, others = [order[0]], []
    for kind in order[1:]:
        new = by_kind[kind].keys() - chosen.keys()
        if len(new) == len(by_kind[kind]) and not ranks[kind][1][0] < 0:
            chosen |= by_kind[kind]
            used.append(kind)
        elif ranks[kind] == ranks[order[0]]:
            raise _ambiguous(survey, by_kind[order[0]].values(), by_kind[kind].values())
        else:
            others.append(kind)
    pairs = tuple(
        Pair(image.path, file.path, core, image.folder.split or file.folder.split)
        for image, file, core in sorted(chosen.values(), key=lambda entry: entry[0].path)
    )
    folders = {PurePosixPath(one.image).parent for one in pairs}
    labelled = {one.image for one in pairs}
    bare = tuple(image.path for image in images
                 if image.path not in labelled and PurePosixPath(image.path).parent in folders)
    used, others = ([next(iter(by_kind[kind].values()))[1].path for kind in kinds] for kinds in (used, others))
    return Pairing(pairs, tuple(used), tuple(others), bare)


def _rank(file: _Named) -> tuple[int, int, int]:
    """Return how well a kind of label files suits: not for people, of train ids, of an exact format."""
    less = -1 if file.stem.less or file.folder.less else 0
    affix = file.stem.affix.lower()
    ids = 2 if "trainids" in affix else 1 if "labelids" in affix or "machine" in file.folder.kind else 0
    exact = _POOR if file.suffix in LOSSY else _GOOD if file.suffix in ARRAYS else _BEST
    return less, ids, exact


def _ambiguous(survey: Survey, one: Iterable[_Match], other: Iterable[_Match]) -> FastSCNNError:
    first, second = (next(iter(pairs))[1].path for pairs in (one, other))
    places = [str(PurePosixPath(path).parent) for path in (first, second)]
    if places[0] == places[1]:
        places = [first, second]
    return FastSCNNError(f"{survey.root}: {places[0]} and {places[1]} may both hold the labels of the same images, such as "
                         f"{first} and {second}; move one of them out of the folder, and run `fastscnn dataset init` again.")
