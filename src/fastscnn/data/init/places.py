"""Places: the patterns of dataset.toml that name given images and their label files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from fastscnn.data.init import words
from fastscnn.data.init.pairing import Pair
from fastscnn.data.init.survey import Survey
from fastscnn.data.patterns import captured
from fastscnn.media import images

_SPECIAL = re.compile(r"[*?\[\]{}]")  # characters with a meaning in patterns


@dataclass(frozen=True)
class Place:
    """The files of one split.

    Attributes:
        images: glob patterns.
        labels: pattern of the label files; "" if the list holds them.
        listed: lines of a list, if the patterns name more images than there are labels for, or cannot name the label files;
            () takes all images of the patterns.
        list: an existing list that chooses the images.
        fractions: split -> fraction of the images, to divide them; empty for one split.
    """

    images: tuple[str, ...]
    labels: str
    listed: tuple[str, ...] = ()
    list: str = ""
    fractions: Mapping[str, float] = field(default_factory=dict)


def place(survey: Survey, pairs: Sequence[Pair]) -> Place:
    """Return the patterns of pairs of image and label files, or a list of them where no pattern is possible."""
    image_glob = _image_glob(pairs)
    labels = _labels(pairs, image_glob) if image_glob else None
    if image_glob is None or labels is None:
        return Place((), "", tuple(f"{pair.image}\t{pair.labels}" for pair in pairs))
    return limited(survey, Place(_with_suffixes(image_glob, pairs), labels), [pair.image for pair in pairs])


def of_images(survey: Survey, paths: Sequence[str], labels: str) -> Place:
    """Return the patterns of images whose labels are named by `labels`, which has no wildcard but {stem} or is one file."""
    pairs = [Pair(path, path, PurePosixPath(path).stem, "") for path in paths]
    glob = _image_glob(pairs)
    if glob is None:
        return Place((), labels, tuple(paths))
    return limited(survey, Place(_with_suffixes(glob, pairs), labels), paths)


def limited(survey: Survey, made: Place, paths: Sequence[str]) -> Place:
    """Add a list of the images to a place whose patterns match more images than these."""
    seen = {file for file in survey.of(*images.SUFFIXES) if any(captured(glob, file) is not None for glob in made.images)}
    return made if seen == set(paths) else replace(made, listed=tuple(paths))


def chosen(made: Place, paths: Iterable[str]) -> Place:
    """Return a place with a list of some of its images."""
    if made.images:
        return replace(made, listed=tuple(paths))
    lines = {line.partition("\t")[0]: line for line in made.listed}
    return replace(made, listed=tuple(lines[path] for path in paths))


def _with_suffixes(glob: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    suffixes = dict.fromkeys(PurePosixPath(pair.image).suffix.lower() for pair in pairs)
    return tuple(f"{glob}{suffix}" for suffix in suffixes)


def _image_glob(pairs: Sequence[Pair]) -> str | None:
    """Return a glob of the images, without suffix; None if their names contain special characters or nothing is shared."""
    folders = {PurePosixPath(pair.image).parent.parts for pair in pairs}
    start, middle, end = _template(folders)
    affixes = {_affix(pair.image, pair.core) for pair in pairs}
    head, tail = next(iter(affixes)) if len(affixes) == 1 else ("", "")
    if any(_SPECIAL.search(text) for text in (*start, *end, head, tail)):
        return None
    return "/".join((*start, *middle, *end, f"{head}*{tail}"))


def _affix(path: str, core: str) -> tuple[str, str]:
    """Return what stands before and after the core of a file name."""
    found = words.stem(PurePosixPath(path).stem)
    if found.text == core or not core:
        return "", ""
    if found.core != core:
        return "", found.text[len(core):] if found.text.startswith(core) else ""
    before, _, after = found.affix.partition("*")
    return before, after


def _template(folders: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the parts that all folders begin with, wildcards for those that differ, and the parts that all end with."""
    all_parts = list(folders)
    start = _shared(all_parts)
    rest = [parts[len(start) :] for parts in all_parts]
    end = _shared([parts[::-1] for parts in rest])[::-1]
    lengths = {len(parts) - len(end) for parts in rest}
    middle = ("*",) * lengths.pop() if len(lengths) == 1 else ("**",)
    return start, middle, end


def _shared(all_parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the parts that all begin with."""
    first = min(all_parts, key=len)
    count = next((place for place, part in enumerate(first) if any(parts[place] != part for parts in all_parts)), len(first))
    return first[:count]


def _labels(pairs: Sequence[Pair], image_glob: str) -> str | None:
    """Return the pattern of the label files; None if there is none that names exactly these."""
    folders = {PurePosixPath(pair.labels).parent.parts for pair in pairs}
    affixes = {_affix(pair.labels, pair.core) for pair in pairs}
    suffixes = {PurePosixPath(pair.labels).suffix.lower() for pair in pairs}
    if len(affixes) != 1 or len(suffixes) != 1:
        return None
    (head, tail), suffix = affixes.pop(), suffixes.pop()
    start, middle, end = _template(folders)
    if any(_SPECIAL.search(text) for text in (*start, *end, head, tail)):
        return None
    wild = [part for part in PurePosixPath(image_glob).parent.parts if part in ("*", "**")]
    if not middle:
        inside = ""
    elif "**" in wild:
        inside = "{1}"  # with its slash
    else:
        inside = "".join(f"{{{number}}}/" for number in range(1, len(wild) + 1))
    core = "{stem}" if PurePosixPath(image_glob).name == "*" else f"{{{len(wild) + 1}}}"
    pattern = f"{_path(start)}{inside}{_path(end)}{head}{core}{tail}{suffix}"
    return pattern if all(_names(pair, image_glob, pattern) for pair in pairs) else None


def _path(parts: Iterable[str]) -> str:
    return "".join(f"{part}/" for part in parts)


def _names(pair: Pair, image_glob: str, pattern: str) -> bool:
    """Return whether a pattern names the label file of an image, without regard to the case of the suffix."""
    image = PurePosixPath(pair.image)
    found = captured(image_glob, str(image.with_suffix(""))) or captured(f"{image_glob}{image.suffix}", pair.image) or ()
    named = pattern.replace("{stem}", image.stem)
    for place, text in enumerate(found, start=1):
        named = named.replace(f"{{{place}}}", text)
    path = PurePosixPath(named)
    return str(path.with_suffix("")) == str(PurePosixPath(pair.labels).with_suffix(""))
