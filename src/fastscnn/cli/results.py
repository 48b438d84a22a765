"""What segment and demo write for an image, and the lines and tables that they print about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastscnn.base.errors import ArgumentError
from fastscnn.cli.console import note, print_stages, show

if TYPE_CHECKING:
    from fastscnn.base.types import UInt8Array
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
    segmentation: Segmentation, image: UInt8Array, job: Job, seconds: dict[str, float], out: Path, segmenter: Segmenter
) -> dict[str, Any]:
    """Write the results of an image; return its JSON line, without the name of the image.

    Args:
        segmentation: what was made of it.
        image: uint8 [H, W, 3], RGB.
        job: where the results go.
        seconds: spent on it before, by stage.
        out: `--out`; an image file becomes the overlay.
        segmenter: whose backend the line names, since `auto` may have chosen it.
    """
    from fastscnn.media import images

    overlay = out if is_image_file(out) else job.beside(".overlay.jpg")
    start = perf_counter()
    drawn = segmentation.overlay(image)
    after_overlay = perf_counter()
    maps = {name: str(path) for name, path in segmentation.save_maps(job.result).items()}
    images.write(overlay, drawn)
    mask = segmentation.ood_mask
    share = {} if mask is None else {"ood_percentage": round(100 * float(mask.mean()), 3)}
    seconds = {**seconds, **segmentation.seconds, "overlay": after_overlay - start, "write": perf_counter() - after_overlay}
    return {
        "labels": maps["labels"],
        "overlay": str(overlay),
        **maps,
        **share,
        "size": list(segmentation.labels.shape),
        "class_percentages": {name: round(percent, 3) for name, percent in segmentation.class_percentages().items()},
        "milliseconds": {stage: round(1e3 * value, 3) for stage, value in seconds.items()},
        "backend": segmenter.backend.name,
        "precision": segmenter.backend.precision,
    }


def print_summary(
    segmenter: Segmenter, times: Sequence[dict[str, float]], percentages: Sequence[dict[str, float]], out: Path
) -> None:
    """Print the median time of each stage and the mean percentage of each class."""
    backend = segmenter.backend
    print_stages(f"{backend.name} {backend.precision}, {backend.threads} threads", times, percentages)
    show(f"{len(times)} segmented; results in {out}")
