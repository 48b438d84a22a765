"""segment: labels of images, and of the drawn scene of the first run."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fastscnn.backends import MAX_STREAMS
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.cli import clips as sources
from fastscnn.cli import segment_video
from fastscnn.cli.console import STDERR, STDOUT, complain, print_stages, progress_bar
from fastscnn.cli.flags import load, within

if TYPE_CHECKING:
    from fastscnn.base.types import UInt8Array
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import Segmenter
    from fastscnn.media.inputs import Job

    _Work = Callable[[UInt8Array], Segmentation]

_SCENE = 3  # the drawn street of the first run: people, a cyclist, signs and trees stand close enough to see
_MANY = 50  # images from which an engine that compiles the network first has the time back


def segment(
    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PATH ...]")] = (),
    *,
    weights: Path | None = None,
    thermal: Path | None = None,
    backend: str = "auto",
    precision: str = "auto",
    size: str | None = None,
    budget: str | None = None,
    threads: int | None = None,
    confidence: bool = False,
    unknown: bool = False,
    steady: bool = False,
    camera: str | None = None,
    fps: float = 10,
    realtime: bool = False,
    preview: bool = False,
    labels: Path | None = None,
    out: Path = Path("segmented"),
    json: bool = False,
) -> int:
    """Label every pixel of images: STEM.labels.png (class ids) and STEM.overlay.jpg of each, in --out; or of videos.

    Without a PATH, a street scene that the package draws is labelled and compared with its exact labels.

    Args:
        paths: Image files, and folders that are searched recursively for them; or videos, whose overlays are STEM.overlay.mp4.
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        thermal: For weights that take RGB and thermal: the thermal file of the one image; or a folder that holds a file of
            each image's name, whatever the suffix, in the same subfolder, or anywhere if only one image and one file have
            that name. What lies there is no PATH.
        backend: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        size: Of the network's input, HxW or native; the weights' own where none is given.
        budget: Milliseconds a frame, such as 33ms: takes the largest input that needs no more on this machine.
        threads: To compute with; all where none is given.
        confidence: Also write the probability of each label, as grey from 0 to 255: STEM.confidence.png.
        unknown: Also write where nothing is seen that the weights know well, 255 there: STEM.unknown.png. There the overlay
            keeps the image's own colours.
        steady: Let earlier frames of a video or camera count where the picture stays the same, against flicker.
        camera: Its number, or what the system calls it (/dev/video0), until Ctrl-C: camera.overlay.mp4. Frames that come
            while busy are dropped.
        fps: Frames a second of the video that images become where --out is a video.
        realtime: Take a video at its own pace, and drop frames that come while busy.
        preview: Show the overlays of a video or camera in a window, too; closing it ends the work.
        labels: Folder for the class ids of each frame of a video or camera: STEM.NUMBER.labels.png.
        out: Folder of the results; or, of one video or camera, or of images as one video, a file: .mp4, .mov or .mkv.
        json: Print one JSON line an image or video instead of tables.
    """
    from fastscnn.media import inputs

    if budget is not None and size:
        raise FastSCNNError("budget: chooses the size; leave --size out.")
    clips = sources.clips(paths, camera, out, fps, realtime)
    if clips and thermal:
        raise FastSCNNError("thermal: goes with images, not with a video or camera.")
    if not clips and (realtime or preview or labels or steady):
        message = "--realtime, --preview, --labels and --steady: go with a video or camera; of images, labels are in --out."
        raise FastSCNNError(message)
    if clips and confidence and not labels:
        message = "confidence: of a video or camera is written beside the class ids of each frame; give --labels DIR too."
        raise FastSCNNError(message)
    jobs = inputs.find(paths, out, thermal) if (paths or thermal) and not clips else []
    if jobs and (left := inputs.videos_below(paths)):
        STDERR.print(f"Of folders the images are labelled; videos are given by name, such as {left[0]}.", soft_wrap=True)
    # Several images at a time, each on fewer threads: reading and writing files use one processor each.
    at_most = MAX_STREAMS if clips else min(MAX_STREAMS, max(1, len(jobs)))
    streams = 1 if budget is not None else min(at_most, threads or machine.threads())
    compiled = weights is None or weights.suffix.lower() == ".onnx"
    if compiled and not clips and len(jobs) < _MANY and backend == precision == "auto":
        backend = "onnx"  # faster for few images: OpenVINO first compiles the network
    segmenter = load(weights, backend, size, threads, precision=precision, streams=streams)
    _check_channels(segmenter, thermal)
    if budget is not None:
        segmenter = within(budget, segmenter, sources.sizes(clips) if clips else _readable_sizes(jobs), json)
    if unknown:
        segmenter.check_ood()
    if clips:
        return segment_video.run(segmenter, clips, segment_video.VideoOptions(labels, preview, steady, confidence, unknown), json)
    work = partial(segmenter.segment, confidence=confidence, unknown=unknown)
    if not paths:
        return _segment_scene(segmenter, work, out, json)
    return _segment_images(segmenter, work, jobs, out, json)


def _segment_images(segmenter: Segmenter, work: _Work, jobs: Sequence[Job], out: Path, json: bool) -> int:
    """Labels images, several at a time; returns the exit code."""
    from fastscnn.media.stream import ordered

    times: list[dict[str, float]] = []
    shares: list[dict[str, float]] = []
    failed: list[str] = []
    start = perf_counter()
    with progress_bar("segment", quiet=json or len(jobs) == 1) as advance:
        lines = ordered(lambda job: _segment_file(segmenter, work, job), jobs, segmenter.backend.streams)
        for done, (_, line) in enumerate(lines, start=1):
            if "error" in line:
                failed.append(line["error"])
            else:
                times.append(line["milliseconds"])
                shares.append(line["share"])
            if json:
                print(json_.dumps(line), flush=True)
            advance(done, len(jobs))
    if not json and times:
        _print_summary(segmenter, times, shares, out)
        if len(jobs) > 1:
            rate = len(times) / (perf_counter() - start)
            STDOUT.print(f"{rate:.1f} images per second from file to file, {segmenter.backend.streams} at a time")
    for message in failed:
        complain(message)
    if failed and len(jobs) > 1:
        others = "the others are labelled" if times else "none is labelled"
        complain(f"{len(failed)} of {len(jobs)} images failed; {others}.")
    return 1 if failed else 0


def _check_channels(segmenter: Segmenter, thermal: Path | None) -> None:
    """Refuses weights of other channels than the images will have."""
    channels = segmenter.card.channels
    if channels not in (3, 4):
        raise FastSCNNError(f"{segmenter.path}: takes {channels} channels, and segment reads RGB, or RGB and thermal; "
                            "label such images in Python, by Segmenter.segment.")
    if channels == 4 and not thermal:
        raise FastSCNNError(f"{segmenter.path}: takes RGB and thermal; give images, and their thermal files by --thermal.")
    if channels == 3 and thermal:
        raise FastSCNNError(f"{segmenter.path}: takes RGB alone; leave --thermal out, or give weights trained with thermal.")


def _readable_sizes(jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """(height, width) of the images whose header can be read; the others are reported when they are labelled."""
    from fastscnn.media import images

    for job in jobs:
        with suppress(FastSCNNError):
            yield images.size(job.image)


def _segment_file(segmenter: Segmenter, work: _Work, job: Job) -> dict[str, Any]:
    """Labels one file and writes its results; returns what `--json` prints of it, the error where there was one."""
    from fastscnn.media import images

    named = {"image": str(job.image)}
    if job.more:
        named["thermal"] = str(job.more[0])
    try:
        if job.fault:
            raise FastSCNNError(job.fault)
        start = perf_counter()
        image = images.stack(images.read(job.image), job.image, job.more)
        seconds = {"decode": perf_counter() - start}
        segmentation = work(image)
        return {**named, **_write_results(segmentation, image[:, :, :3], job, seconds), **_engine(segmenter)}
    except FastSCNNError as error:
        message = str(error) if str(error).startswith(f"{job.image}: ") else f"{job.image}: {error}"
        return {**named, "error": message}


def _engine(segmenter: Segmenter) -> dict[str, str]:
    """What ran, since `auto` may have chosen it."""
    return {"backend": segmenter.backend.name, "precision": segmenter.backend.precision}


def _write_results(segmentation: Segmentation, image: UInt8Array, job: Job, seconds: dict[str, float]) -> dict[str, Any]:
    from fastscnn.media import images

    labels, overlay = job.beside(".labels.png"), job.beside(".overlay.jpg")
    start = perf_counter()
    drawn = segmentation.overlay(image)
    after_overlay = perf_counter()
    segmentation.save_labels(labels)
    images.write(overlay, drawn)
    more: dict[str, Any] = {}
    if segmentation.confidence is not None:
        segmentation.save_confidence(path := job.beside(".confidence.png"))
        more["confidence"] = str(path)
    if segmentation.unknown is not None:
        segmentation.save_ood_mask(path := job.beside(".unknown.png"))
        more |= {"unknown": str(path), "unknown_share": round(100 * float(segmentation.unknown.mean()), 3)}
    seconds = {**seconds, **segmentation.seconds, "overlay": after_overlay - start, "write": perf_counter() - after_overlay}
    return {
        "labels": str(labels),
        "overlay": str(overlay),
        **more,
        "size": list(segmentation.labels.shape),
        "share": {name: round(share, 3) for name, share in segmentation.class_percentages().items()},
        "milliseconds": {stage: round(1e3 * value, 3) for stage, value in seconds.items()},
    }


def _segment_scene(segmenter: Segmenter, work: _Work, out: Path, json: bool) -> int:
    """The first run: labels the drawn scene and says how right the labels are."""
    from fastscnn.data import synthetic
    from fastscnn.evaluation.metrics import Confusion
    from fastscnn.media import images, inputs

    drawn = synthetic.draw(seed=_SCENE)
    job = inputs.Job(out / "scene.png", out / "scene")
    images.write(job.image, drawn.image)
    segmentation = work(drawn.image)
    line = {"image": str(job.image), **_write_results(segmentation, drawn.image, job, {}), **_engine(segmenter)}
    if segmenter.card.label_set.names == synthetic.CLASSES:
        confusion = Confusion(len(synthetic.CLASSES))
        confusion.add(segmentation.labels, drawn.labels)
        line["miou"] = round(confusion.miou(), 2)
        line["pixel_accuracy"] = round(confusion.pixel_accuracy(), 2)
    if json:
        print(json_.dumps(line))
        return 0
    _print_summary(segmenter, [line["milliseconds"]], [line["share"]], out)
    if "miou" in line:
        STDOUT.print(f"The drawn scene's own labels: mIoU {line['miou']}, pixel accuracy {line['pixel_accuracy']} %")
    STDOUT.print(f"Look at {job.beside('.overlay.jpg')}", soft_wrap=True)
    return 0


def _print_summary(segmenter: Segmenter, times: list[dict[str, float]], shares: list[dict[str, float]], out: Path) -> None:
    """Median time of each stage and mean share of each class over the images labelled."""
    backend = segmenter.backend
    print_stages(f"{backend.name} {backend.precision}, {backend.threads} threads", times, shares)
    STDOUT.print(f"{len(times)} labelled; results in {out}", soft_wrap=True)
