"""Pairing: which file holds the labels of which image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats.colours import number_of
from fastscnn.data.init import words
from fastscnn.data.init.class_files import class_files
from fastscnn.data.init.matching import Contested, Match, Named, all_matches, matched, named, roles
from fastscnn.data.init.sentences import number
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.init.values import read
from fastscnn.media import images as media

_BEST, _GOOD, _POOR = 3, 2, 1  # formats of label files
_LOSSY = (".jpg", ".jpeg", ".jfif")
_SHOWN = 4  # kinds of label files in one sentence


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
        others: a label file of each other kind that belongs to these images, too, but suits less.
        unlabelled: images without labels in the folders of images with labels.
        contested: label files that fit several images, so they are not used.
    """

    pairs: tuple[Pair, ...]
    examples: tuple[str, ...]
    others: tuple[str, ...]
    unlabelled: tuple[str, ...]
    contested: tuple[Contested, ...] = ()


_Kind = tuple[str, tuple[str, ...]]  # how files are called, and further parts of their paths


def pair(survey: Survey) -> Pairing | None:
    """Return the image and label files of a folder; None if there are no pairs.

    Raises:
        FastSCNNError: two kinds of label files that are equally likely.
    """
    for by_words in (True, False):  # what names say; then what files hold
        files = roles(survey, by_words)
        images = [file for file in files if file.role == "image" and file.suffix not in ARRAYS]
        labels = _of_supervisely(survey, [file for file in files if file.role == "label"])
        if found := _paired(survey, images, labels):
            return found
    return None


def _of_supervisely(survey: Survey, labels: list[Named]) -> list[Named]:
    """Leave out Supervisely's masks for machines if a file names the colours of those for people only."""
    human, machine = ([file for file in labels if file.folder.kind == kind] for kind in ("masks_human", "masks_machine"))
    if not human or not machine:
        return labels
    files = [file for file in class_files(survey)[0] if file.has_colours]
    seen = read(survey, [file.path for file in human], 3).by_colour()
    colours = {number_of(row.colour) for file in files for row in file.rows if row.colour}
    if any(file.is_grey for file in files) or not set(seen) <= {0, *colours}:
        return labels
    return [file for file in labels if file not in machine]


def pair_with(survey: Survey, labels: Sequence[str]) -> Pairing | None:
    """Return the images that these label files belong to, one for each; None if there are none.

    Raises:
        FastSCNNError: two kinds of label files that are equally likely.
    """
    return _paired(survey, [named(path) for path in survey.of(*media.SUFFIXES)], [named(path) for path in labels])


def said_pairs(found: Pairing) -> list[str]:
    """Return the sentences about images and their label files."""
    have = "has a label file" if len(found.pairs) == 1 else "have label files"
    said = [f"{number(len(found.pairs), 'image')} {have}, such as {' and '.join(found.examples[:_SHOWN])}."]
    if found.others:
        said.append(f"Not used: {' and '.join(found.others[:_SHOWN])}, and files that are named alike.")
    if found.contested:
        first = found.contested[0]
        said.append(f"Not used: {number(len(found.contested), 'label file')} that may belong to several images, such as "
                    f"{first.labels} to {' or '.join(first.images[:2])}; put them into folders named as those of the images.")
    if found.unlabelled:
        count = len(found.unlabelled)
        own = "a label file of their own" if found.contested else "a label file"
        said.append(f"Left out: {number(count, 'image')} without {own}, such as {found.unlabelled[0]}.")
    return said


def _paired(survey: Survey, images: Sequence[Named], labels: Sequence[Named]) -> Pairing | None:
    """Return the pairs of the best kind of label files, and of kinds that complete it; None if there are no pairs."""
    found = matched(images, labels)
    if not found:
        return None
    chosen, used = _chosen(survey, _by_kind(survey, found))
    pairs = tuple(Pair(match.image.path, match.labels.path, match.core, match.image.folder.split or match.labels.folder.split)
                  for match in sorted(chosen.values(), key=lambda match: match.image.path))
    taken = {pair.labels for pair in pairs}
    loose, contested = all_matches(images, labels)
    others: dict[_Kind, str] = {}
    for match in (*found, *loose):
        if match.labels.path not in taken and match.image.path in chosen:
            others.setdefault((match.labels.kind, match.extra), match.labels.path)
    kinds = {(PurePosixPath(pair.image).parent, PurePosixPath(pair.image).suffix.lower()) for pair in pairs}
    bare = tuple(file.path for file in images
                 if file.path not in chosen and (PurePosixPath(file.path).parent, file.suffix) in kinds)
    open_ = tuple(one for one in contested if one.labels not in taken and not chosen.keys() & set(one.images))
    return Pairing(pairs, tuple(used), tuple(others.values()), bare, open_)


def _by_kind(survey: Survey, found: Sequence[Match]) -> dict[_Kind, dict[str, Match]]:
    """Return kind -> image -> match. Files of one name in several folders are of one kind, unless they share images.

    Raises:
        FastSCNNError: two files of one kind for one image.
    """
    by_name: dict[str, list[Match]] = defaultdict(list)
    for match in found:
        by_name[match.labels.kind].append(match)
    by_kind: dict[_Kind, dict[str, Match]] = defaultdict(dict)
    for name, matches in by_name.items():
        divided = len({match.image.path for match in matches}) < len(matches)
        for match in matches:
            kind = by_kind[name, match.extra if divided else ()]
            if match.image.path in kind:
                raise _ambiguous(survey, kind[match.image.path], match)
            kind[match.image.path] = match
    return by_kind


def _chosen(survey: Survey, by_kind: Mapping[_Kind, Mapping[str, Match]]) -> tuple[dict[str, Match], list[str]]:
    """Return image -> match, and a label file of each kind that is used."""
    most = max(len(matches) for matches in by_kind.values())
    ranks = {kind: (len(matches) > most / 2, _rank(next(iter(matches.values())), kind)) for kind, matches in by_kind.items()}
    order = sorted(by_kind, key=lambda kind: (ranks[kind], len(by_kind[kind])), reverse=True)
    chosen = dict(by_kind[order[0]])
    used = [order[0]]
    for kind in order[1:]:
        if not by_kind[kind].keys() & chosen.keys() and not ranks[kind][1][0] < 0:
            chosen |= by_kind[kind]
            used.append(kind)
        elif ranks[kind] == ranks[order[0]]:
            image = min(by_kind[kind].keys() & by_kind[order[0]].keys(), default="")
            one, other = ((by_kind[of][image] if image else next(iter(by_kind[of].values()))) for of in (order[0], kind))
            raise _ambiguous(survey, one, other)
    return chosen, [next(iter(by_kind[kind].values())).labels.path for kind in used]


def _rank(match: Match, kind: _Kind) -> tuple[int, int, bool, bool, int]:
    """Return how well a kind of label files suits: not for people, of train ids, of classes, near, of an exact format."""
    file = match.labels
    less = -1 if file.stem.less or file.folder.less else 0
    affix = file.stem.affix.lower()
    ids = 2 if "trainids" in affix else 1 if "labelids" in affix or "machine" in file.folder.kind else 0
    exact = _POOR if file.suffix in _LOSSY else _GOOD if file.suffix in ARRAYS else _BEST
    return less, ids, words.semantic(file.path), not kind[1], exact


def _ambiguous(survey: Survey, one: Match, other: Match) -> FastSCNNError:
    first, second = sorted((one.labels.path, other.labels.path))
    places = [str(PurePosixPath(path).parent) for path in (first, second)]
    if places[0] == places[1]:
        places = [first, second]
    parts = ""
    if PurePosixPath(first).suffix == PurePosixPath(second).suffix in media.SUFFIXES and len(
            read(survey, [first, second], 2).counts) <= 2:
        parts = "; if each is the mask of one class or object, write one label file for each image, with a value for each class"
    both = f"{places[0]} and {places[1]} may both hold the labels of the same images, such as {first} and {second}"
    return FastSCNNError(
        f"{survey.root}: {both}; move one of them out of the folder, and run `fastscnn dataset init` again{parts}.")
