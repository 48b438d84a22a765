"""The images of a folder: links are followed once, hidden files are skipped, and what is left out is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from fastscnn.media import images

VIDEOS = frozenset({
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
})
# Kind of a file that is left out -> its name in a note, singular and plural.
_KINDS = {
    "video": ("video (give it by name)", "videos (give them by name)"),
    "hidden": ("hidden file or folder", "hidden files and folders"),
    "again": ("link to what is listed already", "links to what is listed already"),
    "broken": ("pipe, device or broken link", "pipes, devices and broken links"),
    "unreadable": ("folder that cannot be opened", "folders that cannot be opened"),
    "other": ("file that is not an image that can be read", "files that are not images that can be read"),
}
_NOT_MENTIONED = frozenset({".ds_store", "thumbs.db", "desktop.ini"})  # of macOS and Windows, in any folder of images


@dataclass
class Listing:
    """The content of a folder and of the folders below it.

    Attributes:
        images: image files, sorted.
        left_out: the other files by kind: a key of `_KINDS`.
    """

    images: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, kind: str, path: Path) -> None:
        """Count a file or folder that is left out."""
        self.left_out.setdefault(kind, []).append(path)

    def sentence(self) -> str:
        """Return what was left out, by kind with an example; "" if nothing was."""
        parts = []
        for kind, (one, several) in _KINDS.items():
            if paths := sorted(self.left_out.get(kind, [])):
                parts.append(f"{len(paths)} {several}, such as {paths[0]}" if len(paths) > 1 else f"1 {one}, {paths[0]}")
        return f"Left out of the folders: {'; '.join(parts)}." if parts else ""


def is_video(path: Path) -> bool:
    """Return whether a path names a video, by its suffix. A folder is never a video."""
    return path.suffix.lower() in VIDEOS and not path.is_dir()


def listing(folder: Path, without: Path | None = None) -> Listing:
    """Return the images in a folder and below it.

    Links are followed last, so that a file that is also linked is listed at its own place. A file or folder that is reached
    twice counts once.

    Args:
        folder: a folder; it may be a link or hidden.
        without: a folder whose files do not count, such as that of the results, under whatever name it is reached.
    """
    found, links = Listing(), [folder]
    seen: set[str] = set()  # real paths
    skipped = None if without is None else os.path.realpath(without)
    while links:
        place = links.pop(0)
        real = os.path.realpath(place)
        if os.path.isdir(place):  # noqa: PTH112 - Path.is_dir raises an error for a link into a closed folder
            links += sorted(_walk(place, real, skipped, seen, found))
        elif real in seen:
            found.leave_out("again", place)
        else:
            seen.add(real)
            _sort(place, os.path.isfile(place), found)  # noqa: PTH113
    found.images.sort(key=attrgetter("parts"))  # the order of paths, but faster
    return found


def _walk(top: Path, real_top: str, skipped: str | None, seen: set[str], found: Listing) -> Iterator[Path]:
    """List a folder and the real folders in it; yield the links."""
    waiting = [(top, real_top)]
    while waiting:
        place, real = waiting.pop()
        if real in seen:
            found.leave_out("again", place)
            continue
        if skipped is not None and (real == skipped or Path(skipped) in Path(real).parents):
            continue
        seen.add(real)
        try:
            with os.scandir(place) as listed:
                entries = list(listed)
        except OSError:
            found.leave_out("unreadable", place)
            continue
        for entry in entries:
            path, name = place / entry.name, entry.name
            if name.lower() in _NOT_MENTIONED:
                continue
            if name.startswith("."):
                found.leave_out("hidden", path)
            elif entry.is_symlink():
                yield path
            elif entry.is_dir():
                waiting.append((path, os.path.join(real, name)))  # noqa: PTH118 - faster than a Path for each file
            else:
                seen.add(os.path.join(real, name))  # noqa: PTH118
                _sort(path, entry.is_file(), found)


def _sort(path: Path, is_file: bool, found: Listing) -> None:
    """Add a file, or a pipe or device, to the images or to what is left out."""
    suffix = path.suffix.lower()
    if suffix in images.SUFFIXES or suffix in VIDEOS:
        if not is_file:
            found.leave_out("broken", path)
        elif suffix in images.SUFFIXES:
            found.images.append(path)
        else:
            found.leave_out("video", path)
    else:
        found.leave_out("other", path)
