"""The images that a list of paths names, the thermal file of each, and the path of its results."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images
from fastscnn.media.folders import Listing, is_video, listing

__all__ = ["Inputs", "Job", "find", "is_video", "placed"]

_Image = TypeVar("_Image", Path, str)


@dataclass(frozen=True)
class Job:
    """An image file and the path of its results.

    Attributes:
        image: the file.
        result: the path of its results without their suffixes.
        extra_channels: files that become channels behind its RGB: its thermal file, if thermal images are given.
        fault: why it cannot be segmented: no thermal file, or several; "" otherwise.
    """

    image: Path
    result: Path
    extra_channels: tuple[Path, ...] = ()
    fault: str = ""

    def beside(self, suffix: str) -> Path:
        """Return the path of the result with a suffix such as `.labels.png`."""
        return self.result.with_name(self.result.name + suffix)


@dataclass(frozen=True)
class Inputs:
    """The images that a list of paths names.

    Attributes:
        jobs: the images.
        left_out: a sentence about the other files in the folders; "" if there are none. Files in the folder of the results
            are not mentioned.
    """

    jobs: list[Job]
    left_out: str


def find(paths: Sequence[Path], out: Path, thermal: Path | None = None) -> Inputs:
    """Return the images among `paths`, folders searched recursively, and the path of their results in `out`.

    In folders, hidden files are skipped, links are followed, and what is reached twice counts once. The structure inside a
    folder is kept. Images that differ only in their suffix keep it in the names of their results. Files in `out` are not
    inputs, so that a second run does not segment the overlays of the first; nor are those in `thermal`.

    Args:
        paths: image files and folders.
        out: folder of the results.
        thermal: the thermal file of a single image; or a folder that holds, for each image, a file of its name with any
            suffix: at the same place in the folder, or anywhere if only one image and one file have that name.

    Raises:
        FastSCNNError: a folder without images, two images that would write the same file, or an unusable `thermal`.
    """
    results: dict[Path, Path] = {}  # image -> result with the image's suffix
    left_out = Listing()
    expanded = [files.expand(path) for path in paths]
    for path in {os.path.realpath(path): path for path in expanded}.values():  # duplicates count once
        if files.is_folder(path):
            found = listing(path, out)
            if not found.images:
                raise _no_images(path, out, found)
            results |= {image: out / image.relative_to(path) for image in found.images}
            for kind, others in found.left_out.items():
                known = left_out.left_out.setdefault(kind, [])
                known += [other for other in others if other not in known]
        else:
            results[path] = out / path.name
    if thermal is not None:
        results = {image: results[image] for image in _outside(results, thermal)}
    jobs = [Job(image, result) for image, result in placed(results).items()]
    if thermal is not None:
        jobs = _paired(jobs, {image: result.relative_to(out) for image, result in results.items()}, thermal)
    return Inputs(jobs, left_out.sentence())


def placed(results: Mapping[_Image, Path]) -> dict[_Image, Path]:
    """Return the path of the results of each image, without suffixes; images that differ only in their suffix keep it.

    Args:
        results: image -> path of its results, with the suffix of the image.

    Raises:
        FastSCNNError: two images would write the same file.

    Examples:
        >>> [str(place) for place in placed({name: Path(name) for name in ("a.png", "b.png", "b.jpg")}).values()]
        ['a', 'b.png', 'b.jpg']
    """
    short = {image: result.with_suffix("") for image, result in results.items()}
    wanted = Counter(short.values())
    taken: dict[Path, _Image] = {}
    for image, result in results.items():
        place = result if wanted[short[image]] > 1 else short[image]
        if place in taken:
            raise FastSCNNError(f"{image}: its results would overwrite those of {taken[place]}; "
                                "rename one, or give the folder that contains both.")
        taken[place] = image
    return {image: place for place, image in taken.items()}


def _no_images(folder: Path, out: Path, found: Listing) -> FastSCNNError:
    """Return the error for a folder without images."""
    if listing(folder).images:
        return FastSCNNError(f"{folder}: all its images are in {out}, the output folder; choose another output folder.")
    left_out = f" {sentence}" if (sentence := found.sentence()) else ""
    return FastSCNNError(f"{folder}: contains no image ({', '.join(sorted(images.SUFFIXES))}).{left_out}")


def _paired(jobs: Sequence[Job], places: Mapping[Path, Path], thermal: Path) -> list[Job]:
    """Return the jobs with their thermal files or a fault. `places` are the images' paths relative to the given folder."""
    if not os.path.exists(thermal):  # noqa: PTH110 - a name may be too long
        raise FastSCNNError(f"{thermal}: no such file or folder of thermal images.")
    if not jobs:
        raise FastSCNNError(f"{thermal}: all given images are thermal ones; give RGB images from another folder.")
    if files.is_file(thermal):
        if len(jobs) > 1:
            raise FastSCNNError(f"{thermal}: one thermal file for {len(jobs)} images; give a folder with one for each image.")
        return [replace(jobs[0], extra_channels=(thermal,))]
    by_place: dict[Path, list[Path]] = defaultdict(list)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in listing(thermal).images:
        by_place[file.relative_to(thermal).with_suffix("")].append(file)
        by_name[file.stem].append(file)
    if not by_name:
        raise FastSCNNError(f"{thermal}: contains no thermal image ({', '.join(sorted(images.SUFFIXES))}).")
    named = Counter(job.image.stem for job in jobs)  # a name such as 0001 is another frame in each folder
    paired = []
    for job in jobs:
        name, place = job.image.stem, places[job.image].with_suffix("")
        found = by_place.get(place) or (by_name[name] if named[name] == 1 else [])
        if len(found) == 1:
            paired.append(replace(job, extra_channels=(found[0],)))
            continue
        fault = f"both {found[0]} and {found[1]} could be its thermal file; keep one of them" if found else \
                f"has no thermal file named {name} in {(thermal / place).parent}; add it or remove the image"
        paired.append(replace(job, fault=f"{job.image}: {fault}."))
    return paired


def _outside(given: Iterable[Path], place: Path) -> list[Path]:
    """Return the images that are neither the file `place` nor in the folder `place`, where a link lies in its own folder."""
    real = place.resolve()
    if files.is_file(place):
        return [image for image in given if image.resolve() != real]
    homes = {folder: folder.resolve() for folder in {image.parent for image in given}}  # once for each folder
    inside = {folder for folder, home in homes.items() if real in (home, *home.parents)}
    return [image for image in given if image.parent not in inside]
