"""segment: labels of images, and of the drawn scene of the first run."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.columns import Columns
from rich.table import Table

from fastscnn import files, machine
from fastscnn.cli._console import STDERR, STDOUT, complain, progress_bar
from fastscnn.cli._flags import load
from fastscnn.errors import FastSCNNError
from fastscnn.runtimes import MOST_STREAMS

if TYPE_CHECKING:
    from fastscnn.arrays import UInt8Array
    from fastscnn.inputs import Job
    from fastscnn.segmentation import Segmentation
    from fastscnn.segmenter import Segmenter
_SCENE = 3  # the drawn street of the first run: people, a cyclist, signs and trees stand close enough to see
_MANY = 50  # images from which an engine that compiles the network first has the time back


def segment(
    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PATH ...]")] = (),
    *,
    weights: Path | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    size: str | None = None,
    budget: str | None = None,
    threads: int | None = None,
    out: Path = Path("segmented"),
    json: bool = False,
) -> int:
    """Label every pixel of images: STEM.labels.png (class ids) and STEM.overlay.jpg of each, in --out.

    Without a PATH, a street scene that the package draws is labelled and compared with its exact labels.

    Args:
        paths: Image files, and folders that are searched recursively.
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        runtime: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        size: Of the network's input, HxW or native; the weights' own where none is given.
        budget: Milliseconds a frame, such as 33ms: takes the largest input that needs no more on this machine.
        threads: To compute with; all where none is given.
        out: Folder of the results.
        json: Print one JSON line an image instead of tables.
    """
    from fastscnn import inputs
    from fastscnn.stream import ordered

    jobs = inputs.find(paths, out) if paths else []
    # Several images at a time, each on fewer threads: reading and writing files use one processor each.
    streams = 1 if budget is not None else min(MOST_STREAMS, threads or machine.threads(), max(1, len(jobs)))
    compiled = weights is None or weights.suffix.lower() == ".onnx"
    if compiled and len(jobs) < _MANY and runtime == precision == "auto":
        runtime = "onnx"  # faster for few images: OpenVINO first compiles the network
    segmenter = load(weights, runtime, size, threads, precision=precision, streams=streams)
    if budget is not None:
        if size:
            raise FastSCNNError("budget: chooses the size; leave --size out.")
        segmenter = _within(budget, segmenter, jobs, json)
    if not paths:
        return _segment_scene(segmenter, out, json)
    times: list[dict[str, float]] = []
    shares: list[dict[str, float]] = []
    failed: list[str] = []
    start = perf_counter()
    with progress_bar("segment", quiet=json or len(jobs) == 1) as advance:
        lines = ordered(lambda job: _segment_file(segmenter, job), jobs, segmenter.runtime.streams)
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
            STDOUT.print(f"{rate:.1f} images per second from file to file, {segmenter.runtime.streams} at a time")
    for message in failed:
        complain(message)
    if failed and len(jobs) > 1:
        others = "the others are labelled" if times else "none is labelled"
        complain(f"{len(failed)} of {len(jobs)} images failed; {others}.")
    return 1 if failed else 0


def _within(budget: str, segmenter: Segmenter, jobs: Sequence[Job], quiet: bool) -> Segmenter:
    """The segmenter with the largest input that is labelled within the budget; says which, and how good it is."""
    from fastscnn import budget as budgets
    from fastscnn import scene
    from fastscnn.segmenter import Segmenter

    try:
        milliseconds = float(budget.lower().removesuffix("ms"))
    except ValueError:
        raise FastSCNNError(f"budget: is milliseconds a frame, for example 33ms, not {budget!r}.") from None
    frame = max(_readable_sizes(jobs), key=lambda size: size[0] * size[1], default=scene.SIZE)
    with progress_bar("measure this machine", quiet) as advance:
        measured = budgets.measure(segmenter, frame, files.cache("budget"), advance)
    choice = measured.largest(milliseconds)
    known = segmenter.card.miou(choice.size)
    accuracy = f"mIoU {known[1]:.2f} on {known[0]} by its card" if known else "its card holds no mIoU for that input"
    runtime = segmenter.runtime
    STDERR.print(f"input {choice.size[0]}x{choice.size[1]}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of "
                 f"{frame[0]}x{frame[1]}, {runtime.name} {runtime.precision}{measured.source()}; {accuracy}", soft_wrap=True)
    return Segmenter(runtime, choice.size, segmenter.path)


def _readable_sizes(jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """(height, width) of the images whose header can be read; the others are reported when they are labelled."""
    from fastscnn import images

    for job in jobs:
        with suppress(FastSCNNError):
            yield images.size(job.image)


def _segment_file(segmenter: Segmenter, job: Job) -> dict[str, Any]:
    """Labels one file and writes its results; returns what `--json` prints of it, the error where there was one."""
    from fastscnn import images

    try:
        start = perf_counter()
        image = images.read(job.image)
        seconds = {"decode": perf_counter() - start}
        segmentation = segmenter.segment(image)
        return {"image": str(job.image), **_write_results(segmentation, image, job, seconds), **_engine(segmenter)}
    except FastSCNNError as error:
        message = str(error) if str(job.image) in str(error) else f"{job.image}: {error}"
        return {"image": str(job.image), "error": message}


def _engine(segmenter: Segmenter) -> dict[str, str]:
    """What ran, since `auto` may have chosen it."""
    return {"runtime": segmenter.runtime.name, "precision": segmenter.runtime.precision}


def _write_results(segmentation: Segmentation, image: UInt8Array, job: Job, seconds: dict[str, float]) -> dict[str, Any]:
    from fastscnn import images

    labels, overlay = job.beside(".labels.png"), job.beside(".overlay.jpg")
    start = perf_counter()
    drawn = segmentation.overlay(image)
    after_overlay = perf_counter()
    segmentation.save_labels(labels)
    images.write(overlay, drawn)
    seconds = {**seconds, **segmentation.seconds, "overlay": after_overlay - start, "write": perf_counter() - after_overlay}
    return {
        "labels": str(labels),
        "overlay": str(overlay),
        "size": list(segmentation.labels.shape),
        "share": {name: round(share, 3) for name, share in segmentation.shares().items()},
        "milliseconds": {stage: round(1e3 * value, 3) for stage, value in seconds.items()},
    }


def _segment_scene(segmenter: Segmenter, out: Path, json: bool) -> int:
    """The first run: labels the drawn scene and says how right the labels are."""
    from fastscnn import images, inputs, scene
    from fastscnn.metrics import Confusion

    drawn = scene.draw(seed=_SCENE)
    job = inputs.Job(out / "scene.png", out / "scene")
    images.write(job.image, drawn.image)
    segmentation = segmenter.segment(drawn.image)
    line = {"image": str(job.image), **_write_results(segmentation, drawn.image, job, {}), **_engine(segmenter)}
    if segmenter.card.label_set.names == scene.CLASSES:
        confusion = Confusion(len(scene.CLASSES))
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
    runtime = segmenter.runtime
    table = Table("stage", "ms", title=f"{runtime.name} {runtime.precision}, {runtime.threads} threads")
    for stage in times[0]:
        table.add_row(stage, f"{median(frame[stage] for frame in times):.1f}")
    classes = Table("class", "share %")
    for name in sorted(shares[0], key=lambda name: -fmean(image[name] for image in shares)):
        classes.add_row(name, f"{fmean(image[name] for image in shares):.2f}")
    STDOUT.print(Columns([table, classes]))
    STDOUT.print(f"{len(times)} labelled; results in {out}", soft_wrap=True)
