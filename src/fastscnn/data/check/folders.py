"""Files in the folders of a dataset that the check does not read: left-out images, and labels without an image."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastscnn.base import archives
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.findings import Finding
from fastscnn.data.init.survey import own_files
from fastscnn.data.patterns import captured, matches
from fastscnn.data.spec import DatasetSpec, exists, is_hidden, relative
from fastscnn.media import images
from fastscnn.media.encoding import is_image

_TRIED = 3  # files of each unknown suffix that are opened


@dataclass(frozen=True)
class Extra:
    """A label file or an extra channel that belongs to no image of any split."""

    kind: str
    path: Path


class Folders:
    """The files of a dataset, each of which belongs to one split at most."""

    def __init__(self, spec: DatasetSpec, chosen: Sequence[str]) -> None:
        """
        Args:
            spec: the dataset.
            chosen: the splits to check. Files of the others are known, too, since splits may share a folder.
        """
        self._spec = spec
        self._images: dict[str, set[Path]] = {}  # split -> all that its patterns match, in its list or not
        self._near: dict[str, list[Path]] = {}  # split -> see `_image_folders`
        self._seen = {spec.root / name for name in own_files(spec.root / "dataset.toml")}
        self._hidden_labels: dict[str, list[Path]] = defaultdict(list)
        self._unlabelled: set[Path] = set()
        self._reported: set[Path] = set()
        self._of_many: dict[Path, dict[str, list[Path]]] = {}  # label file of many images -> split -> its images
        for split, place in spec.splits.items():
            everything = replace(spec, splits={split: replace(place, files=None)})
            self._images[split] = {*everything.image_files(split, all_frames=True), *map(spec.root.joinpath, place.listed)}
            for image in self._images[split]:
                labels = spec.label_files(split, image)
                self._seen |= {image, *labels, *self._beside(labels, image), *spec.channel_files(split, image)}
                if spec.labels.of_many:
                    self._of_many.setdefault(labels[0], {}).setdefault(split, []).append(image)
                if not any(map(exists, labels)):
                    self._unlabelled.add(image)
        self._extra = {split: list(self._extras(split)) for split in chosen}

    def _beside(self, labels: Iterable[Path], image: Path) -> Iterator[Path]:
        """Yield the files beside label files that are read with them, such as Label Studio's masks."""
        for path in labels:
            with contextlib.suppress(FastSCNNError):  # a finding of its own
                yield from self._spec.labels.files(path, image)

    def findings(self, split: str) -> Iterator[Finding]:
        """Yield what is left out of a split."""
        yield from self._extra_findings(split)
        yield from self._listed_only(split)
        if self._spec.splits[split].patterns:
            yield from self._left_out(split)
            yield from self._linked(split)
        yield from self._hidden(split)

    def _extras(self, split: str) -> Iterator[Extra]:
        """Yield label files and extra channels without an image, each once."""
        place, root = self._spec.splits[split], self._spec.root
        named: set[tuple[str, ...] | None] = set()  # missing images: one finding for a label file and its polygons
        kinds = [("extra-labels", place.labels), ("extra-labels", place.polygons)]
        for kind, pattern in [*kinds, *(("extra-channel", channel) for channel in place.extra_channels)]:
            for glob in place.globs(pattern) if pattern else ():
                there = set(matches(root, glob)) - self._seen
                self._seen.update(there)
                found = sorted(path for path in there if not is_hidden(path, root, glob))
                self._hidden_labels[split] += sorted(there.difference(found))
                for path in found:
                    key = captured(glob, relative(root, path)) if place.polygons else None
                    if key is None or key not in named:
                        yield Extra(kind, path)
                    named.add(key)

    def _extra_findings(self, split: str) -> Iterator[Finding]:
        archive = self._spec.splits[split].images_in
        source = f" (of {archive})" if archive else ""
        candidates = self._candidates(split) if self._extra[split] and not archive else {}
        for extra in self._extra[split]:
            what = "a label file" if extra.kind == "extra-labels" else "an extra channel"
            message, fix = f"{extra.path}: is {what} without an image", f"Add the image{source}, or remove the file."
            if image := candidates.get(str(extra.path).casefold()):
                message, fix = f"{message}, but there is {image}", self._fix(split, image)
            yield Finding("warning", split, extra.path, extra.kind, f"{message}.", fix)

    def _listed_only(self, split: str) -> Iterator[Finding]:
        """Yield label files of many images that list images which no split reads from them."""
        for path, taken in self._of_many.items():
            if path in self._reported or split not in taken:
                continue
            self._reported.add(path)
            with contextlib.suppress(FastSCNNError):  # a finding of its own
                listing = self._spec.labels.listing(path)
                missing = listing.without(image for found in taken.values() for image in found) if listing else []
                if missing:
                    count = f"{len(missing)} image{'s' * (len(missing) != 1)}"
                    message = f"{path}: lists {count} that no split reads from it, such as {missing[0]}."
                    fix = "Add the images, or remove them from the label file."
                    yield Finding("warning", split, path, "extra-labels", message, fix)

    def _candidates(self, split: str) -> dict[str, Path]:
        """Return case-folded path of a label file or extra channel -> an image that might belong to it."""
        spec, suffixes, near = self._spec, self._suffixes(split), self._image_folders(split)
        found: dict[str, Path] = {}
        for folder, inner, names in os.walk(spec.root):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
                known = path.suffix.lower() in images.SUFFIXES or (path.parent in near and is_image(path))
                if path not in self._unlabelled and (path in self._seen or not known):
                    continue
                for alike in {path, *map(path.with_suffix, suffixes)}:
                    for beside in (*spec.label_files(split, alike), *spec.channel_files(split, alike)):
                        found.setdefault(str(beside).casefold(), path)
        return found

    def _fix(self, split: str, image: Path) -> str:
        """Return the fix for a file whose image is left out."""
        if image in self._images[split]:
            return "Give the image and the file the same name, in the same case."
        if image.suffix.lower() not in images.SUFFIXES:
            return f"Save the images with the suffix {image.suffix!r} as .jpg or .png."
        if image.parent in self._image_folders(split):
            return f"Add a pattern with the suffix {image.suffix} to images in dataset.toml."
        return "If that is the image, move it into the folder of the images, or add its folder to images in dataset.toml."

    def _left_out(self, split: str) -> Iterator[Finding]:
        """Yield images beside those of a split whose suffix or name its patterns do not match: one finding for each suffix."""
        groups: dict[str, list[Path]] = defaultdict(list)
        for folder in self._image_folders(split):
            for path in _files(folder):
                if not path.name.startswith(".") and self._is_new(path):
                    groups[path.suffix].append(path)
        for suffix, paths in sorted(groups.items()):
            if suffix.lower() not in images.SUFFIXES and not any(map(is_image, paths[:_TRIED])):
                continue
            self._reported.update(paths)  # splits may share a folder
            known = f"the suffix {suffix!r}" if suffix else "no suffix"
            message = f"{paths[0]}: has {known} and is left out by the patterns of the split {split!r}{_and_others(paths)}."
            fix = "Save these images as .jpg or .png; files of this suffix are not read."
            if suffix.lower() in images.SUFFIXES:
                fix = "Add a pattern for these images to images in dataset.toml, or move them to another folder."
            yield Finding("warning", split, paths[0], "left-out-images", message, fix)

    def _hidden(self, split: str) -> Iterator[Finding]:
        """Yield hidden images and label files: such as `._0001.jpg`, and those in folders such as `.ipynb_checkpoints`."""
        hidden = list(self._hidden_labels[split])
        for folder in self._image_folders(split) if self._spec.splits[split].patterns else ():
            inner = [path for path in _entries(folder) if path.name.startswith(".") and path.is_dir()]
            files = [path for path in _files(folder) if path.name.startswith(".")]
            hidden += [path for path in (*files, *(path for one in inner for path in _files(one)))
                       if path.suffix.lower() in images.SUFFIXES and self._is_new(path)]
        if hidden:
            self._reported.update(hidden)
            message = f"{hidden[0]}: is hidden and skipped in the split {split!r}{_and_others(hidden)}."
            fix = "Delete the hidden files; rename those that are images of the dataset."
            yield Finding("warning", split, hidden[0], "hidden-files", message, fix)

    def _linked(self, split: str) -> Iterator[Finding]:
        """Yield linked folders, which `**` does not search."""
        for pattern in self._spec.splits[split].patterns:
            if "**" not in pattern:
                continue
            base = self._spec.root / pattern.partition("**")[0].rpartition("/")[0]
            for folder, names, _ in os.walk(base):
                for path in (Path(folder, name) for name in sorted(names)):
                    if path.is_symlink() and path not in self._reported and not _contains(base, path):
                        self._reported.add(path)
                        message = f"{path}: is a link to a folder; the pattern {pattern!r} does not search it."
                        fix = "Add a pattern with the name of the link to images in dataset.toml, or replace it by the folder."
                        yield Finding("warning", split, path, "linked-folder", message, fix)

    def _image_folders(self, split: str) -> list[Path]:
        """Return the folders of the images of a split; if it has none, those that its patterns name."""
        if split not in self._near:
            root, found = self._spec.root, {path.parent for path in self._images[split]}
            if not found:
                parents = {pattern.rpartition("/")[0] for pattern in self._spec.splits[split].patterns}
                found = {folder for parent in parents for folder in (matches(root, parent) if parent else [root])}
            self._near[split] = sorted(found)
        return self._near[split]

    def _suffixes(self, split: str) -> set[str]:
        suffixes = {Path(pattern).suffix for pattern in self._spec.splits[split].patterns}
        return {suffix for suffix in suffixes if suffix and "*" not in suffix}

    def _is_new(self, path: Path) -> bool:
        return path not in self._seen and path not in self._reported


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except NotADirectoryError:
        return archives.beside(folder)
    except OSError:
        return ()


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if exists(path)]


def _and_others(paths: Sequence[Path]) -> str:
    """Return the number of further files, for a message about the first."""
    return f", as {len(paths) - 1} more like it" if len(paths) > 1 else ""


def _contains(folder: Path, path: Path) -> bool:
    """Return whether the target of a link lies in a folder, which is searched anyway."""
    return path.resolve().is_relative_to(folder.resolve())
