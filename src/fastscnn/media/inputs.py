"""Which images a list of paths means, which thermal file belongs to each, and where its results belong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images

VIDEOS = frozenset({
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
})


def is_video(path: Path) -> bool:
    """Whether a path means a video, by its suffix; a folder does not, whatever its name."""
    return path.suffix.lower() in VIDEOS and not path.is_dir()


@dataclass(frozen=True)
class Job:
    """An image file, and where its results belong.

    Attributes:
        image: the file.
        result: the path of its results without their suffixes.
        more: files whose grey becomes channels behind its RGB: its thermal file, where such are given.
        fault: why it cannot be labelled, where no single thermal file belongs to it; "" otherwise.
    """

    image: Path
    result: Path
    more: tuple[Path, ...] = ()
    fault: str = ""

    def beside(self, suffix: str) -> Path:
        """The result with that suffix, for example `.labels.png`."""
        return self.result.with_name(self.result.name + suffix)


def videos_below(paths: Sequence[Path]) -> list[Path]:
    """The videos in the folders among `paths`, sorted: `find` leaves them out."""
    return sorted(file for path in paths if path.is_dir() for file in path.rglob("*") if is_video(file))


def find(paths: Sequence[Path], out: Path, thermal: Path | None = None) -> list[Job]:
    """The images among `paths`, folders searched recursively, and where in `out` their results belong.

    A folder's inner structure is kept. Images that differ in their suffix alone keep it in the results' names. What
    lies in `out` itself is no input, so that a second run does not label the first one's overlays; nor is what lies in
    `thermal`.

    Args:
        paths: image files and folders.
        out: folder of the results.
        thermal: the thermal file of the one image; or a folder that holds, for each image, a file of its name, whatever the
            suffix: in the folder of the same place, or where only one image and one file have that name, anywhere.

    Raises:
        FastSCNNError: a folder without images, two images that would write the same file, or a `thermal` that cannot be.
    """
    jobs: dict[Path, Path] = {}  # image -> result with the image's suffix
    for path in {path.resolve(): path for path in paths}.values():  # a path given twice counts once
        if path.is_dir():
            below = _images_below(path)
            found = [image for image in below if not _lies_in(image, out)]
            if below and not found:
                raise FastSCNNError(f"{path}: all its images lie in {out}, the folder for results; take another for those.")
            if not found:
                left = videos_below([path])
                cure = f"; videos are given by name, such as {left[0]}" if left else ""
                raise FastSCNNError(f"{path}: holds no image ({', '.join(sorted(images.SUFFIXES))}){cure}.")
            jobs |= {image: out / image.relative_to(path) for image in found}
        else:
            jobs[path] = out / path.name
    if thermal is not None:
        jobs = {image: result for image, result in jobs.items() if not _lies_in(image, thermal)}
    wanted = Counter(result.with_suffix("") for result in jobs.values())
    named = []
    for image, result in jobs.items():
        short = result.with_suffix("")
        named.append(Job(image, result if wanted[short] > 1 else short))
    _refuse_doubles(named)
    if thermal is None:
        return named
    return _paired(named, {image: result.relative_to(out) for image, result in jobs.items()}, thermal)


def _paired(jobs: Sequence[Job], places: Mapping[Path, Path], thermal: Path) -> list[Job]:
    """The jobs with their thermal files, or what keeps them from having one; `places` are the images' in what was given."""
    if not thermal.exists():
        raise FastSCNNError(f"{thermal}: no such file or folder of thermal images.")
    if not jobs:
        raise FastSCNNError(f"{thermal}: no image is given but thermal ones; give images that lie elsewhere.")
    if thermal.is_file():
        if len(jobs) > 1:
            raise FastSCNNError(f"{thermal}: is one thermal file for {len(jobs)} images; give a folder with one for each.")
        return [replace(jobs[0], more=(thermal,))]
    by_place: dict[Path, list[Path]] = defaultdict(list)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in _images_below(thermal):
        by_place[file.relative_to(thermal).with_suffix("")].append(file)
        by_name[file.stem].append(file)
    if not by_name:
        raise FastSCNNError(f"{thermal}: holds no thermal image ({', '.join(sorted(images.SUFFIXES))}).")
    named = Counter(job.image.stem for job in jobs)  # names such as 0001 stand for another frame in each folder
    paired = []
    for job in jobs:
        name, place = job.image.stem, places[job.image].with_suffix("")
        found = by_place.get(place) or (by_name[name] if named[name] == 1 else [])
        if len(found) == 1:
            paired.append(replace(job, more=(found[0],)))
            continue
        fault = f"both {found[0]} and {found[1]} may be its thermal file; keep one of them" if found else \
                f"has no thermal file named {name} in {(thermal / place).parent}; add it, or take the image out"
        paired.append(replace(job, fault=f"{job.image}: {fault}."))
    return paired


def _lies_in(image: Path, place: Path) -> bool:
    """Whether an image is that file, or lies in that folder, also where it is a link to somewhere else."""
    home = image.parent.resolve()
    return place.resolve() in (image.resolve(), home, *home.parents)


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES and path.is_file())


def _refuse_doubles(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.result in taken:
            raise FastSCNNError(f"{job.image}: its results would overwrite those of {taken[job.result]}; "
                                "rename one, or give the folder that holds both.")
        taken[job.result] = job.image
