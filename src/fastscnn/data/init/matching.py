"""Matching: which label files may belong to which image, by folders and names."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePosixPath

from fastscnn.data.init import words
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.init.values import look_like_labels
from fastscnn.data.init.words import Folder, Role, Stem

_SERIES = 60  # series of files whose content is looked at
_LOOSER = 1.2  # a looser rule must find labels for so many times more images
_TOKEN = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Named:
    """A file, and what its path says."""

    path: str
    folder: Folder
    stem: Stem
    suffix: str
    role: Role

    @property
    def cores(self) -> list[str]:
        """The stem, and the stem without words such as "mask" at its ends."""
        return list(dict.fromkeys((self.stem.text, self.stem.core)))

    @property
    def kind(self) -> str:
        """How files like this one are called."""
        return f"{self.folder.kind + '/' if self.folder.kind else ''}{self.stem.affix}{self.suffix}"


@dataclass(frozen=True)
class Match:
    """An image, a label file that may belong to it, and the part of their stems that is equal, "" if none is.

    `extra` are the parts of the path of the label file that the path of the image does not have, besides those of its kind.
    """

    image: Named
    labels: Named
    core: str
    extra: tuple[str, ...]


@dataclass(frozen=True)
class Contested:
    """A label file that fits several images."""

    labels: str
    images: tuple[str, ...]


def named(path: str, by_words: bool = True) -> Named:
    """Return what the path of a file says; without the role if `by_words` is not set."""
    place = PurePosixPath(path)
    folder, stem = words.folder(str(place.parent)), words.stem(place.stem)
    role: Role = "label" if stem.role == "label" else folder.role or stem.role
    suffix = place.suffix.lower()
    return Named(path, folder, stem, suffix, "label" if suffix in ARRAYS else role if by_words else "")


def roles(survey: Survey, by_words: bool) -> list[Named]:
    """Return the files with their roles: what the names say, else what the files hold."""
    files = [named(path, by_words) for path in survey.pixels]
    if by_words:
        files = _uninformative(files)
    series: dict[object, list[Named]] = defaultdict(list)
    for file in files:
        if not file.role:
            series[PurePosixPath(file.path).parent, file.suffix, file.stem.affix].append(file)
    if len(series) > _SERIES:
        series = defaultdict(list)
        for file in files:
            if not file.role:
                series[len(PurePosixPath(file.path).parts), file.suffix, file.stem.affix, file.folder.kind].append(file)
    found: dict[str, Role] = {}
    for alike in series.values():
        labels = look_like_labels(survey, [file.path for file in alike])
        found |= {file.path: "label" if labels else "image" for file in alike}
    return [file if file.role else replace(file, role=found[file.path]) for file in files]


def _uninformative(files: list[Named]) -> list[Named]:
    """Take the role of the folder where all its files are named like labels, as faces with masks are."""
    all_labels: dict[PurePosixPath, bool] = {}
    for file in files:
        parent = PurePosixPath(file.path).parent
        all_labels[parent] = all_labels.get(parent, True) and file.stem.role == "label"
    return [
        replace(file, stem=Stem(file.stem.text, file.stem.text, "*", "", False), role="image")
        if file.folder.role == "image" and all_labels[PurePosixPath(file.path).parent] else file
        for file in files
    ]


_Key = Callable[[Named], object]
_RULES: tuple[_Key, ...] = (
    lambda file: (file.folder.split, file.folder.rest),
    lambda file: file.folder.split,
    lambda file: None,
)


def matched(images: Sequence[Named], labels: Sequence[Named]) -> list[Match]:
    """Return the matches by the strictest rule, unless a looser one finds labels for more images."""
    best: list[Match] = []
    for rule in _RULES:
        found, _ = _by_rule(images, labels, rule)
        if _count(found) > _LOOSER * _count(best):
            best = found
    found = _by_shared_words(images, labels)
    least = min(len(images), len(labels)) / 2  # fewer are an accident
    return found if _count(found) > _LOOSER * _count(best) and _count(found) >= least else best


def all_matches(images: Sequence[Named], labels: Sequence[Named]) -> tuple[list[Match], list[Contested]]:
    """Return the matches by the loosest rule for folders, and the label files that fit several images."""
    return _by_rule(images, labels, _RULES[-1])


def _count(found: Iterable[Match]) -> int:
    return len({match.image.path for match in found})


def _by_rule(images: Sequence[Named], labels: Sequence[Named], rule: _Key) -> tuple[list[Match], list[Contested]]:
    by_key: dict[tuple[object, str], list[Named]] = defaultdict(list)
    for image in images:
        for core in image.cores:
            by_key[rule(image), core].append(image)
    found, contested = [], []
    for file in labels:
        several: Sequence[Named] = ()
        for core in file.cores:
            near = _nearest(file, by_key.get((rule(file), core), []))
            if len(near) == 1 and near[0].path != file.path:
                extra = tuple(part for part in file.folder.rest if part not in near[0].folder.rest)
                found.append(Match(near[0], file, core, extra))
                break
            several = several or near
        else:
            if len(several) > 1:
                contested.append(Contested(file.path, tuple(image.path for image in several)))
    return found, contested


def _nearest(file: Named, images: Sequence[Named]) -> Sequence[Named]:
    """Return those of several images of one name whose folders end most like those of the label file."""
    if len(images) < 2:
        return images
    own = PurePosixPath(file.path).parent.parts[::-1]

    def shared(image: Named) -> int:
        both = zip(own, PurePosixPath(image.path).parent.parts[::-1], strict=False)
        return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], both))

    most = max(map(shared, images))
    return [image for image in images if shared(image) == most]


def _by_shared_words(images: Sequence[Named], labels: Sequence[Named]) -> list[Match]:
    """Match paths by the words that paths of images and of label files have in common.

    So a_label_7 belongs to a_camera_7, case_7 to case_7_0000, and b_7 to b/7. The suffix of an image is a word as well, for
    label files such as 7.jpg.png.
    """
    start = _common_folder([file.path for file in (*images, *labels)])
    of_images = {file.path: _tokens(file.path[start:]) for file in images}
    of_labels = {file.path: _tokens(file.path[start:].removesuffix(PurePosixPath(file.path).suffix)) for file in labels}
    shared = {word for found in of_images.values() for word in found} & {word for found in of_labels.values() for word in found}
    by_key: dict[tuple[str, ...], list[Named]] = defaultdict(list)
    for image in images:
        by_key[tuple(word for word in of_images[image.path] if word in shared)].append(image)
    found = []
    for file in labels:
        key = tuple(word for word in of_labels[file.path] if word in shared)
        near = [image for image in by_key.get(key, []) if image.path != file.path] if key else []
        if len(near) == 1:
            extra = tuple(word for word in of_labels[file.path] if word not in shared)
            found.append(Match(near[0], file, _common_start(near[0].stem.text, file.stem.text), extra))
    return found


def _tokens(path: str) -> list[str]:
    return _TOKEN.findall(unicodedata.normalize("NFC", path))


def _common_folder(paths: Sequence[str]) -> int:
    """Return the length of the folders that all paths begin with."""
    return _shared([path.rpartition("/")[0] + "/" for path in paths]).rfind("/") + 1 if paths else 0


def _shared(texts: Sequence[str]) -> str:
    """Return the characters that all texts begin with."""
    first, last = min(texts), max(texts)
    return "".join(one for one, _ in takewhile(lambda both: both[0] == both[1], zip(first, last, strict=False)))


def _common_start(one: str, other: str) -> str:
    """Return the words that two stems begin with."""
    both = _shared((one, other))
    if any(_TOKEN.match(text[len(both) :]) for text in (one, other)):
        both = re.sub(r"[^\W_]+$", "", both)
    return re.sub(r"[\W_]+$", "", both)
