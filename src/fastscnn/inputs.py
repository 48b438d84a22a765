"""Which images a list of paths means, and where the results of each belong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastscnn import images
from fastscnn.errors import FastSCNNError


@dataclass(frozen=True)
class Job:
    """An image file, and the path of its results without their suffixes."""

    image: Path
    result: Path

    def beside(self, suffix: str) -> Path:
        """The result with that suffix, for example `.labels.png`."""
        return self.result.with_name(self.result.name + suffix)


def find(paths: Sequence[Path], out: Path) -> list[Job]:
    """The images among `paths`, folders searched recursively, and where in `out` their results belong.

    A folder's inner structure is kept. Images that differ in their suffix alone keep it in the results' names. What
    lies in `out` itself is no input, so that a second run does not label the first one's overlays.

    Raises:
        FastSCNNError: a folder without images, or two images that would write the same file.
    """
    jobs: dict[Path, Path] = {}  # image -> result with the image's suffix
    for path in {path.resolve(): path for path in paths}.values():  # a path given twice counts once
        if path.is_dir():
            below = _images_below(path)
            found = [image for image in below if out.resolve() not in image.resolve().parents]
            if below and not found:
                raise FastSCNNError(f"{path}: all its images lie in {out}, the folder for results; take another for those.")
            if not found:
                raise FastSCNNError(f"{path}: holds no image ({', '.join(sorted(images.SUFFIXES))}).")
            jobs |= {image: out / image.relative_to(path) for image in found}
        else:
            jobs[path] = out / path.name
    wanted = Counter(result.with_suffix("") for result in jobs.values())
    named = []
    for image, result in jobs.items():
        short = result.with_suffix("")
        named.append(Job(image, result if wanted[short] > 1 else short))
    _refuse_doubles(named)
    return named


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES and path.is_file())


def _refuse_doubles(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.result in taken:
            raise FastSCNNError(f"{job.image}: its results would overwrite those of {taken[job.result]}; "
                                "rename one, or give the folder that holds both.")
        taken[job.result] = job.image
