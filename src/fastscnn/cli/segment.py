"""segment: labels of images, videos and cameras."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from fastscnn.backends import MAX_STREAMS
from fastscnn.base import files, machine
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import AnnotationFormat
from fastscnn.cli import clips as sources
from fastscnn.cli import results, segment_video
from fastscnn.cli.console import complain, configure, progress_bar, show
from fastscnn.cli.flags import load, within
from fastscnn.cli.options import (
    Backend,
    Json,
    Precision,
    Quiet,
    Size,
    Threads,
    Tile,
    Verbose,
    Weights,
    described,
    milliseconds,
    number_within,
    path,
    switch,
    value,
)  # fmt: skip

if TYPE_CHECKING:
    from fastscnn.annotations.writer import AnnotationWriter
    from fastscnn.base.types import UInt8Array
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import Segmenter
    from fastscnn.media.inputs import Job

    _Work = Callable[[UInt8Array], Segmentation]

USAGE = "[options] PATH ..."
_MANY = 50  # images: with fewer, compiling the network for OpenVINO takes longer than it saves


def _annotation_format(text: str) -> AnnotationFormat:
    from fastscnn.annotations.writer import known

    return known(text)


def run(
    paths: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="PATH ...", help_behavior_hint="", help="Images, folders (searched recursively), or videos."),
    ] = (),
    *,
    out: Annotated[Path, path("DIR|FILE"), described(
        "Folder of the results, or a file. .mp4, .mov or .mkv: the overlays of one video, a camera or images as a video. "
        ".png or .jpg: the overlay of one image.")] = Path("segmented"),
    weights: Weights = None,
    thermal: Annotated[Path | None, path("PATH"), described(
        "Thermal images, for weights trained on RGB and thermal images. A file for one image, or a folder with a file for "
        "each image, of the same name and in the same subfolder. These files are not inputs.")] = None,
    size: Size = None,
    tile: Tile = None,
    latency_budget: Annotated[float | None, value("MS", milliseconds), described(
        "Use the largest input size that takes at most this many milliseconds per frame on this machine, such as 33ms. "
        "The input keeps the shape of each image.")] = None,
    backend: Backend = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    confidence: Annotated[bool, switch("Also write the confidence of each pixel, 0 to 255: STEM.confidence.png.")] = False,
    ood_mask: Annotated[bool, switch(
        "Also write an out-of-distribution mask (255 = unknown): STEM.ood.png. The overlay leaves those pixels "
        "uncoloured.")] = False,
    annotations: Annotated[AnnotationFormat | None, value("FORMAT", _annotation_format), described(
        "Also write the labels of images as polygons to correct in an annotation tool: coco, coco-rle (exact masks), "
        "labelme or yolo.")] = None,
    camera: Annotated[str | None, value("CAMERA", str), described(
        "Index or device path of a camera, such as 0 or /dev/video0. Ctrl-C stops it.")] = None,
    smoothing: Annotated[bool, switch("Smooth labels over time in static regions of a video or camera.")] = False,
    labels: Annotated[Path | None, path("DIR"), described(
        "Also write the labels of each video frame into this folder: STEM.NUMBER.labels.png.")] = None,
    fps: Annotated[float, value("N", number_within(0.01, 1000), write=lambda rate: f"{rate:g}"), described(
        "Frames per second of a video made of images.")] = 10,
    realtime: Annotated[bool, switch("Play a video at its own speed, and drop frames that come too early.")] = False,
    preview: Annotated[bool, switch("Show the overlays of a video or camera in a window. Closing it stops.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Segment images, videos or a camera.

    For each image, write STEM.labels.png (class ids) and STEM.overlay.jpg; for each video, STEM.overlay.mp4 (needs
    the extra 'video').
    """
    configure(quiet, verbose)
    if not paths and camera is None:
        raise ArgumentError("Missing PATH: give images, folders or videos, or --camera. Try `fastscnn demo`.")
    if latency_budget is not None and (size or tile):
        raise ArgumentError("latency-budget: it chooses the size; omit --size and --tile.")
    paths = tuple(map(files.expand, paths))
    clips = sources.clips(paths, camera, out, fps, realtime)
    if clips and thermal:
        raise ArgumentError("thermal: for images only, not for a video or camera.")
    if not clips and (realtime or preview or labels or smoothing):
        raise ArgumentError("--realtime, --preview, --labels and --smoothing: for a video or camera only; "
                            "labels of images are always written to --out.")
    if clips and confidence and not labels:
        raise ArgumentError("confidence: for a video or camera, give --labels DIR too; it is written there for each frame.")
    if clips and annotations:
        raise ArgumentError("annotations: for images only; save the frames of a video as images first.")
    jobs = [] if clips else results.jobs(paths, out, thermal)
    # Several images at a time, each on fewer threads: reading and writing files use one processor each.
    at_most = MAX_STREAMS if clips else min(MAX_STREAMS, max(1, len(jobs)))
    # Large images in tiles one by one: each may need gigabytes.
    streams = 1 if latency_budget is not None or tile else min(at_most, threads or machine.threads())
    compiled = weights is None or weights.suffix.lower() == ".onnx"
    if compiled and not clips and len(jobs) < _MANY and backend == precision == "auto":
        backend = "onnx"
    segmenter = load(weights, backend, size, threads, precision=precision, streams=streams, tile=tile)
    _check_channels(segmenter, thermal)
    if ood_mask:
        segmenter.check_ood()
    annotating = _annotation_writer(annotations, segmenter, jobs, out)
    if latency_budget is not None:
        from fastscnn.data import synthetic

        frames = set(sources.sizes(clips)) or {synthetic.SIZE} if clips else set(_usable_sizes(jobs))
        if frames:  # otherwise every image fails, with its own message
            segmenter = within(latency_budget, segmenter, frames, json)
    if clips:
        options = segment_video.VideoOptions(labels, preview, smoothing, confidence, ood_mask)
        return segment_video.run(segmenter, clips, options, json)
    work = partial(segmenter.segment, confidence=confidence, ood_mask=ood_mask)
    with annotating as writer:
        return _segment_images(segmenter, work, jobs, out, json, writer)


def _annotation_writer(
    annotations: AnnotationFormat | None, segmenter: Segmenter, jobs: Sequence[Job], out: Path
) -> AbstractContextManager[AnnotationWriter | None]:
    """Return the writer of `--annotations`, if given."""
    if annotations is None:
        return nullcontext()
    from fastscnn.annotations.writer import AnnotationWriter

    folder = out.parent if results.is_image_file(out) else out
    writer = AnnotationWriter(annotations, folder, segmenter.card.label_set)
    writer.refuse_taken([job.result for job in jobs])
    return writer


def _segment_images(
    segmenter: Segmenter, work: _Work, jobs: Sequence[Job], out: Path, json: bool, writer: AnnotationWriter | None
) -> int:
    """Segment images, several at a time; return the exit code."""
    from fastscnn.media.stream import ordered

    times: list[dict[str, float]] = []
    percentages: list[dict[str, float]] = []
    failed: list[str] = []
    start = perf_counter()
    with progress_bar("segment", quiet=json or len(jobs) == 1) as advance:
        lines = ordered(lambda job: _segment_file(segmenter, work, job, out, writer), jobs, segmenter.backend.streams)
        for done, (job, (made, described)) in enumerate(lines, start=1):
            line = made if writer is None or described is None else _write_annotations(writer, described, job, made)
            if "error" in line:
                failed.append(line["error"])
            if "labels" in line:
                times.append(line["milliseconds"])
                percentages.append(line["class_percentages"])
            if json:
                print(json_.dumps(line), flush=True)
            advance(done, len(jobs))
    if not json and times:
        results.print_summary(segmenter, times, percentages, out)
        if len(jobs) > 1:
            rate = len(times) / (perf_counter() - start)
            show(f"{rate:.1f} images per second from file to file, {segmenter.backend.streams} at a time")
    for message in failed:
        complain(message)
    lost = len(jobs) - len(times)
    if lost and len(jobs) > 1:
        others = "the others are segmented" if times else "none is segmented"
        complain(f"{lost} of {len(jobs)} images failed; {others}.")
    if len(failed) > lost:
        complain(f"The annotations of {len(failed) - lost} of {len(jobs)} images are missing; their labels are written.")
    return 1 if failed else 0


def _write_annotations(writer: AnnotationWriter, described: Any, job: Job, line: dict[str, Any]) -> dict[str, Any]:
    """Write the annotations of an image; return its JSON line with their file, or with the error."""
    try:
        return {**line, "annotations": str(writer.write(described))}
    except FastSCNNError as error:
        return line | _failure(job, error)


def _failure(job: Job, error: FastSCNNError) -> dict[str, Any]:
    """Return the JSON line of an image that failed."""
    message = str(error) if str(error).startswith(f"{job.image}: ") else f"{job.image}: {error}"
    return {**_named(job), "error": message}


def _named(job: Job) -> dict[str, Any]:
    """Return the files of an image, as its JSON line names them."""
    thermal = {"thermal": str(job.extra_channels[0])} if job.extra_channels else {}
    return {"image": str(job.image), **thermal}


def _check_channels(segmenter: Segmenter, thermal: Path | None) -> None:
    """Raise FastSCNNError if the weights take other channels than the images have."""
    channels = segmenter.card.channels
    if channels not in (3, 4):
        raise FastSCNNError(f"{segmenter.path}: takes {channels} channels, but segment reads RGB, or RGB and thermal; "
                            "segment such images in Python with Segmenter.segment.")
    if channels == 4 and not thermal:
        raise FastSCNNError(f"{segmenter.path}: takes RGB and thermal; give the thermal images with --thermal.")
    if channels == 3 and thermal:
        raise FastSCNNError(f"{segmenter.path}: takes RGB only; omit --thermal, or give weights trained with thermal images.")


def _usable_sizes(jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """Yield (height, width) of the images that may be segmented; the others fail later, with a message."""
    from fastscnn.media import images
    from fastscnn.model.architecture import MIN_SIDE

    for job in jobs:
        with suppress(FastSCNNError):
            size = images.size(job.image)
            if min(size) >= MIN_SIDE and not job.fault:
                yield size


def _segment_file(
    segmenter: Segmenter, work: _Work, job: Job, out: Path, writer: AnnotationWriter | None
) -> tuple[dict[str, Any], Any]:
    """Segment one file and write its results; return its JSON line, with the error if there was one, and its annotations."""
    from fastscnn.media import images

    try:
        if job.fault:
            raise FastSCNNError(job.fault)
        start, most = perf_counter(), segmenter.max_pixels
        image = images.stack(images.read(job.image, most), job.image, job.extra_channels, most)
        seconds = {"decode": perf_counter() - start}
        segmentation = work(image)
        line = results.write(segmentation, image[:, :, :3], job, seconds, out, segmenter)
        described = None
        if writer is not None:
            described = writer.describe(job.image, job.result, segmentation.labels, segmentation.ood_mask)
        return {**_named(job), **line}, described
    except FastSCNNError as error:
        return _failure(job, error), None
