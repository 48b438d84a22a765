"""What segment and demo write for an image, and the lines and tables that they print about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastscnn.base.errors import ArgumentError
from fastscnn.cli.console import note, print_stages, show

if TYPE_CHECKING:
    from fastscnn.base.types import ResultName
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import Segmenter
    from fastscnn.media.inputs import Job

_WRITTEN = (".png", ".jpg", ".jpeg")


def is_image_file(out: Path) -> bool:
    """Return whether `--out` names an image file, and not a folder."""
    from fastscnn.media import images

    return out.suffix.lower() in images.SUFFIXES and not out.is_dir()


def jobs(paths: Sequence[Path], out: Path, thermal: Path | None) -> list[Job]:
    """Return the images to segment, and print what is left out. If `out` names an image file, there must be one image.

    Raises:
        ArgumentError: one file for several images, an image format that is not written, or the image itself as its own
            result.
        FastSCNNError: as `inputs.find`.
    """
    from fastscnn.media import inputs

    found = inputs.find(paths, out, thermal)
    if found.left_out:
        note(found.left_out)
    if not is_image_file(out):
        return found.jobs
    if len(found.jobs) > 1:
        raise ArgumentError(f"{out}: is one file for {len(found.jobs)} images; give --out a folder.")
    if out.suffix.lower() not in _WRITTEN:
        raise ArgumentError(f"{out}: overlays are written as {', '.join(_WRITTEN)}; give --out such a name, or a folder.")
    (job,) = found.jobs
    if out.resolve() == job.image.resolve():
        raise ArgumentError(f"{out}: is the image itself; give --out another name.")
    return [replace(job, result=out.with_suffix(""))]


def write(
    segmentation: Segmentation, job: Job, what: Collection[ResultName], palette: bool, out: Path, segmenter: Segmenter
) -> dict[str, Any]:
    """Write the results of an image; return its JSON line, without the name of the image.

    Args:
        segmentation: what was made of it.
        job: where the results go.
        what, palette: as for `Segmentation.save`.
        out: `--out`; an image file becomes the overlay.
        segmenter: whose backend the line names, since `auto` may have chosen it.
    """
    from fastscnn.media import images

    seconds, start = dict(segmentation.seconds), perf_counter()
    drawn = segmentation.overlay() if "overlay" in what else None
    if drawn is not None:
        seconds["overlay"] = perf_counter() - start
    start = perf_counter()
    written = segmentation.save_files(job.result, [name for name in what if name != "overlay"], palette)
    if drawn is not None:
        written["overlay"] = out if is_image_file(out) else job.beside(".overlay.jpg")
        images.write(written["overlay"], drawn)
    seconds["write"] = perf_counter() - start
    mask, decoded = segmentation.ood_mask, segmentation.decoded_size
    return {
        **{name: str(path) for name, path in written.items()},
        **({} if mask is None else {"ood_percentage": round(100 * float(mask.mean()), 3)}),
        "size": list(segmentation.labels.shape),
        **({} if decoded is None else {"decoded_size": list(decoded)}),
        "class_percentages": {name: round(percent, 3) for name, percent in segmentation.class_percentages().items()},
        "milliseconds": {stage: round(1e3 * value, 3) for stage, value in seconds.items()},
        "backend": segmenter.backend.name,
        "precision": segmenter.backend.precision,
        "device": segmenter.backend.device,
        "verified": segmenter.verified,
    }


def print_summary(
    segmenter: Segmenter, times: Sequence[dict[str, float]], percentages: Sequence[dict[str, float]], out: Path
) -> None:
    """Print the median time of each stage and the mean percentage of each class."""
    print_stages(described(segmenter), times, percentages)
    show(f"{len(times)} segmented; results in {out}")


def described(segmenter: Segmenter) -> str:
    """Return what runs the network, in words, and NumPy if it computes the labels."""
    from fastscnn.upsampling import native

    backend = segmenter.backend
    by = "" if native.KERNEL else ", labels by NumPy"
    return f"{backend.name} {backend.precision} on {backend.device}, {backend.threads} threads{by}"
