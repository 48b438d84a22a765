"""segment: labels of images, videos and cameras."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

from tyro.conf import Positional, arg

from fastscnn.backends import MAX_STREAMS
from fastscnn.base import files, machine
from fastscnn.base.errors import ArgumentError, FastSCNNError, sentence, unknown
from fastscnn.base.types import PRESET, AnnotationFormat, PresetName, ResultName
from fastscnn.cli import clips as sources
from fastscnn.cli import results, segment_video
from fastscnn.cli.console import complain, configure, progress_bar, show
from fastscnn.cli.flags import load, weight_file, within
from fastscnn.cli.options import (
    Backend,
    Device,
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
from fastscnn.media import addresses, inputs
from fastscnn.media.addresses import Address

if TYPE_CHECKING:
    from fastscnn.annotations.writer import AnnotationWriter
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import Segmenter
    from fastscnn.media.inputs import Job

USAGE = "[options] PATH ..."
STREAMS = "paths"  # the argument that may be the address of a live stream
RESULT_FILES = ("labels (class ids, STEM.labels.png), overlay (STEM.overlay.jpg), confidence (of each pixel, 0 to 255, "
                "STEM.confidence.png), ood-mask (255 = out of distribution, STEM.ood.png; the overlay leaves those pixels "
                "uncoloured)")
_MANY = 50  # images: with fewer, compiling the network for OpenVINO takes longer than it saves


def _source(text: str) -> Path | Address:
    return addresses.read(text) if addresses.is_stream(text) else files.expand(text)


def read_results(text: str) -> tuple[ResultName, ...]:
    """Read the value of `--save`. Raise ArgumentError for an unknown result."""
    from fastscnn.inference.segmentation import RESULTS

    words = [word.strip().replace("-", "_") for word in text.split(",")]
    for word in words:
        if word not in RESULTS:
            raise unknown("result", word.replace("_", "-"), (name.replace("_", "-") for name in RESULTS))
    return tuple(name for name in RESULTS if name in words)


def _preset(text: str) -> PresetName:
    if text not in get_args(PresetName):
        raise unknown("preset", text, get_args(PresetName))
    return cast(PresetName, text)


def _annotation_format(text: str) -> AnnotationFormat:
    from fastscnn.annotations.writer import known

    return known(text)


def run(
    paths: Annotated[
        Positional[tuple[Annotated[Path | Address, value("PATH", _source)], ...]],
        arg(metavar="PATH ...", help_behavior_hint="", help=(
            "Images, folders (searched recursively), or videos. Or one live stream: an address that starts with rtsp://, "
            "http://, https:// or udp:// (docs/serve.md).")),
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
    device: Device = None,
    threads: Threads = None,
    save: Annotated[tuple[ResultName, ...] | None, value("LIST", read_results, none="labels,overlay"), described(
        f"What to write: {RESULT_FILES}. "
        "Of a video: overlay; the others, for each frame, into the folder of --labels. Without overlay, a JPEG file of "
        "at least four times the network's input is decoded at a fraction of its size, which changes 1 to 2 % of the "
        "labels.")] = None,
    confidence: Annotated[bool, switch("Also write the confidence, as if it were in --save.")] = False,
    ood_mask: Annotated[bool, switch("Also write the out-of-distribution mask, as if it were in --save.")] = False,
    palette: Annotated[bool, switch("Write labels as PNG files that are shown in the colours of the classes.")] = False,
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
    preset: Annotated[PresetName | None, value("NAME", _preset, none=PRESET), described(
        f"Of the encoder of a video, from the least time to the smallest file: {', '.join(get_args(PresetName))}.")] = None,
    realtime: Annotated[bool, switch("Play a video at its own speed, and drop frames that come too early.")] = False,
    preview: Annotated[bool, switch("Show the overlays of a video or camera in a window. Closing it stops.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Segment images, videos, a camera or a live stream.

    For each image, write STEM.labels.png (class ids) and STEM.overlay.jpg; for each video, STEM.overlay.mp4 (needs
    the extra 'video').
    """
    configure(quiet, verbose)
    if not paths and camera is None:
        raise ArgumentError("Missing PATH: give images, folders or videos, or --camera. Try `fastscnn demo`.")
    if latency_budget is not None and (size or tile):
        raise ArgumentError("latency-budget: it chooses the size; omit --size and --tile.")
    clips = sources.clips(paths, camera, out, fps, realtime)
    if clips and thermal:
        raise ArgumentError("thermal: for images only, not for a video or camera.")
    if not clips and (realtime or preview or labels or smoothing or preset):
        raise ArgumentError("--realtime, --preview, --preset, --labels and --smoothing: for a video or camera only; "
                            "labels of images are written to --out.")
    also: tuple[ResultName, ...] = (*(("confidence",) if confidence else ()), *(("ood_mask",) if ood_mask else ()))
    what = _what(save, also, bool(clips), labels, out)
    if palette and "labels" not in what:
        raise ArgumentError(f"palette: no labels are written; {'give --labels DIR' if clips else 'add labels to --save'}.")
    if preset and "overlay" not in what:
        raise ArgumentError("preset: no overlay is written; add overlay to --save.")
    if clips and annotations:
        raise ArgumentError("annotations: for images only; save the frames of a video as images first.")
    jobs = [] if clips else results.jobs([path for path in paths if isinstance(path, Path)], out, thermal)
    # Several images at a time, each on fewer threads: reading and writing files use one processor each.
    at_most = MAX_STREAMS if clips else min(MAX_STREAMS, max(1, len(jobs)))
    # Large images in tiles one by one: each may need gigabytes.
    streams = 1 if latency_budget is not None or tile else min(at_most, threads or machine.threads())
    weights = weights and weight_file(weights, backend, precision)
    compiled = weights is None or weights.suffix.lower() == ".onnx"
    if compiled and not clips and len(jobs) < _MANY and backend == precision == "auto":
        backend = "onnx"
    segmenter = load(weights, backend, size, threads, precision=precision, streams=streams, tile=tile, device=device)
    _check_channels(segmenter, thermal)
    if "ood_mask" in what:
        segmenter.check_ood()
    annotating = _annotation_writer(annotations, segmenter, jobs, out)
    if latency_budget is not None:
        from fastscnn.data import synthetic

        frames = set(sources.sizes(clips)) or {synthetic.SIZE} if clips else set(_usable_sizes(jobs))
        if frames:  # otherwise every image fails, with its own message
            segmenter = within(latency_budget, segmenter, frames, json)
    if clips:
        options = segment_video.VideoOptions(what, labels, palette, preset or PRESET, preview, smoothing)
        return segment_video.run(segmenter, clips, options, json)
    with annotating as writer:
        return _segment_images(_Work(segmenter, what, palette, out, writer), jobs, json)


def _what(
    save: tuple[ResultName, ...] | None, also: tuple[ResultName, ...], video: bool, labels: Path | None, out: Path
) -> tuple[ResultName, ...]:
    """Return the results to write. Raises ArgumentError for a list that does not go together with the other options."""
    if save is not None and "overlay" not in save and (inputs.is_video(out) if video else results.is_image_file(out)):
        raise ArgumentError(f"{out}: is a file for the overlay; add overlay to --save, or give --out a folder.")
    if not video:
        return (*(save or ("labels", "overlay")), *also)
    chosen: tuple[ResultName, ...] = (*(save or ("overlay",)), *also)
    of_frames = [name.replace("_", "-") for name in ("labels", "confidence") if name in chosen]
    if labels is None and (of_frames or "overlay" not in chosen):
        raise ArgumentError(f"save: for a video or camera, {' and '.join(of_frames) or 'a list without overlay'} "
                            "needs --labels DIR, the folder for the results of each frame.")
    return (*(("labels",) if labels is not None and "labels" not in chosen else ()), *chosen)


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


@dataclass(frozen=True)
class _Work:
    """What is done with each image."""

    segmenter: Segmenter
    what: tuple[ResultName, ...]
    palette: bool
    out: Path
    writer: AnnotationWriter | None


def _segment_images(work: _Work, jobs: Sequence[Job], json: bool) -> int:
    """Segment images, several at a time; return the exit code."""
    from fastscnn.media.stream import ordered

    segmenter, writer = work.segmenter, work.writer
    times: list[dict[str, float]] = []
    percentages: list[dict[str, float]] = []
    failed: list[str] = []
    start = perf_counter()
    with progress_bar("segment", quiet=json or len(jobs) == 1) as advance:
        lines = ordered(partial(_segment_file, work), jobs, segmenter.backend.streams)
        for done, (job, (made, described)) in enumerate(lines, start=1):
            line = made if writer is None or described is None else _write_annotations(writer, described, job, made)
            if "error" in line:
                failed.append(line["error"])
            if "milliseconds" in line:
                times.append(line["milliseconds"])
                percentages.append(line["class_percentages"])
            if json:
                print(json_.dumps(line), flush=True)
            advance(done, len(jobs))
    if not json and times:
        results.print_summary(segmenter, times, percentages, work.out)
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
        complain(f"The annotations of {len(failed) - lost} of {len(jobs)} images are missing; their other results are written.")
    return 1 if failed else 0


def _write_annotations(writer: AnnotationWriter, described: Any, job: Job, line: dict[str, Any]) -> dict[str, Any]:
    """Write the annotations of an image; return its JSON line with their file, or with the error."""
    try:
        return {**line, "annotations": str(writer.write(described))}
    except FastSCNNError as error:
        return line | _failure(job, error)


def _failure(job: Job, error: FastSCNNError) -> dict[str, Any]:
    """Return the JSON line of an image that failed."""
    return {**_named(job), "error": sentence(job.image, error)}


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


def _segment_file(work: _Work, job: Job) -> tuple[dict[str, Any], Any]:
    """Segment one file and write its results; return its JSON line, with the error if there was one, and its annotations."""
    segmenter, what = work.segmenter, work.what
    try:
        if job.fault:
            raise FastSCNNError(job.fault)
        segmentation = _segmented(segmenter, job, what)
        line = results.write(segmentation, job, what, work.palette, work.out, segmenter)
        described = None
        if work.writer is not None:
            described = work.writer.describe(job.image, job.result, segmentation.labels, segmentation.ood_mask)
        return {**_named(job), **line}, described
    except FastSCNNError as error:
        return _failure(job, error), None


def _segmented(segmenter: Segmenter, job: Job, what: tuple[ResultName, ...]) -> Segmentation:
    options = {"confidence": "confidence" in what, "ood_mask": "ood_mask" in what, "keep_image": "overlay" in what}
    if not job.extra_channels:
        return segmenter.segment(job.image, **options)
    from fastscnn.media import images

    start, most = perf_counter(), segmenter.max_pixels
    image = images.stack(images.read(job.image, most), job.image, job.extra_channels, most)
    decode = perf_counter() - start
    segmentation = segmenter.segment(image, **options)
    return replace(segmentation, seconds={"decode": decode, **segmentation.seconds})
