"""Glob patterns of image files, and the file names beside an image that are derived from them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fastscnn.base import archives, files

_PLACE = re.compile(r"\{(stem|[1-9])\}")
_WILD = re.compile(r"\*\*/|\*")


def has_placeholder(pattern: str) -> bool:
    """Return whether a pattern names another file for each image."""
    return bool(_PLACE.search(pattern))


def without_wildcard(images: Sequence[str], pattern: str) -> str | None:
    """Return the first placeholder of `pattern`, such as `{2}`, for which some glob of images has too few wildcards."""
    fewest = min((len(_WILD.findall(glob)) for glob in images), default=0)
    return next((f"{{{place}}}" for place in _PLACE.findall(pattern) if place != "stem" and int(place) > fewest), None)


def captured(pattern: str, path: str) -> tuple[str, ...] | None:
    """Return what each wildcard of a glob (`*`, or `**/` with its slash) matches in `path`; None if it does not match.

    The suffix matches in any case, as in `any_case`.
    """
    head, dot, suffix = path.rpartition(".")
    wanted = pattern.rpartition(".")[2]
    if dot and suffix.lower() == wanted.lower():
        path = f"{head}.{wanted}"
    match = re.fullmatch("".join(_expressions(pattern)), path)
    return match.groups() if match else None


def beside(images: str, image: str, pattern: str) -> str:
    """Return the file that `pattern` names for one image.

    Args:
        images: glob pattern of the images.
        image: path of the image relative to the root, with forward slashes.
        pattern: `{stem}` is the image's file name without its suffix, `{1}` to `{9}` what a wildcard of `images` matches.
    """
    taken = {"stem": Path(image).stem}
    if set(_PLACE.findall(pattern)) - {"stem"}:
        taken |= {str(place): text for place, text in enumerate(captured(images, image) or (), 1)}
    return _PLACE.sub(lambda match: taken.get(match[1], match[0]), pattern)


def glob_of(images: str, pattern: str) -> str:
    """Return the glob that finds every file that `pattern` names for the images of a glob; see `beside`."""
    wild = _WILD.findall(images)
    pieces = _PLACE.split(pattern)  # text and placeholders in turn
    found = "".join(
        _escaped(piece) if index % 2 == 0 else "*" if piece == "stem" else "".join(wild[int(piece) - 1 : int(piece)])
        for index, piece in enumerate(pieces)
    )
    return re.sub(r"\*{2,}(?!/)", "*", found)  # `**` must be a whole part of the path


def matching(patterns: Sequence[str], path: str) -> str:
    """Return the first of several globs that matches a path; else the first, or "" if there is none."""
    if len(patterns) == 1:
        return patterns[0]
    return next((pattern for pattern in patterns if captured(pattern, path) is not None), patterns[0] if patterns else "")


def matches(root: Path, pattern: str) -> list[Path]:
    """Return the files and folders that match a glob below `root`; none if a name in it is too long for the file system.

    A glob may lead through tar archives, as `train/*.tar/*.jpg` does.

    Raises:
        FastSCNNError: an archive that cannot be read.
    """
    inside = pattern.partition(archives.THROUGH)[2].split("/")
    of_archives = [archive / name for archive in through(root, pattern) for name in archives.names(archive)
                   if _fits(name.split("/"), inside)]
    return of_archives or _glob(root, pattern)


def through(root: Path, pattern: str) -> list[Path]:
    """Return the tar archives that a glob leads through; [] if it leads through none."""
    outside, inside, _ = pattern.partition(archives.THROUGH)
    return sorted(filter(files.is_file, _glob(root, outside + archives.THROUGH[:-1]))) if inside else []


def _fits(parts: Sequence[str], globs: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a glob."""
    if not globs or not parts:
        return not globs and not parts
    if globs[0] == "**":
        return any(_fits(parts[skipped:], globs[1:]) for skipped in range(len(parts)))
    return fnmatchcase(parts[0], globs[0]) and _fits(parts[1:], globs[1:])


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        return list(root.glob(pattern))
    except OSError as error:  # pathlib skips what it may not read
        if error.errno != errno.ENAMETOOLONG:
            raise
        return []


def any_case(pattern: str) -> str:
    """Return a glob that matches suffixes in any case: `*.jpg` becomes `*.[jJ][pP][gG]`."""
    head, dot, suffix = pattern.rpartition(".")
    if not dot or not suffix.isalnum():
        return pattern
    return f"{head}.{''.join(f'[{letter.lower()}{letter.upper()}]' if letter.isalpha() else letter for letter in suffix)}"


def _expressions(pattern: str) -> Iterator[str]:
    end = 0
    for wild in _WILD.finditer(pattern):
        yield re.escape(pattern[end : wild.start()])
        yield "([^/]*)" if wild[0] == "*" else "((?:[^/]+/)*)"
        end = wild.end()
    yield re.escape(pattern[end:])


def _escaped(text: str) -> str:
    """Escape the wildcards in a text."""
    return re.sub(r"([*?[])", r"[\1]", text)
