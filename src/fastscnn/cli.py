"""The command line: the verbs, their flags and what they print. What they do is imported where it is used."""

from __future__ import annotations

import dataclasses
import importlib
import json as json_
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fastscnn import files, machine
from fastscnn.errors import FastSCNNError, unknown
from fastscnn.recipes import Recipe, named, names
from fastscnn.runtimes import MOST_STREAMS
from fastscnn.version import __version__

if TYPE_CHECKING:
    from fastscnn.arrays import Int64Array, UInt8Array
    from fastscnn.benchmark import BenchmarkReport
    from fastscnn.datasets import DatasetSpec
    from fastscnn.inputs import Job
    from fastscnn.labels import LabelSet
    from fastscnn.learn.quantize import Layer
    from fastscnn.learn.train import Progress as TrainingProgress
    from fastscnn.segmentation import Segmentation
    from fastscnn.segmenter import Segmenter, Size

_out = Console(markup=False, highlight=False)  # a class or a folder may well be called "[road]"
_err = Console(markup=False, highlight=False, stderr=True)
_SCENE = 3  # the drawn street of the first run: people, a cyclist, signs and trees stand close enough to see
_MANY = 50  # images from which an engine that compiles the network first has the time back
_PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal

Paths = tyro.conf.Positional[tuple[Path, ...]]
Spec = tyro.conf.Positional[str]
_Scores = dict[str, float | None]


def segment(
    paths: Annotated[Paths, tyro.conf.arg(metavar="[PATH ...]")] = (),
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
    segmenter = _load(weights, runtime, size, threads, precision=precision, streams=streams)
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
    with _progress("segment", quiet=json or len(jobs) == 1) as advance:
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
            _out.print(f"{rate:.1f} images per second from file to file, {segmenter.runtime.streams} at a time")
    for message in failed:
        _complain(message)
    if failed and len(jobs) > 1:
        others = "the others are labelled" if times else "none is labelled"
        _complain(f"{len(failed)} of {len(jobs)} images failed; {others}.")
    return 1 if failed else 0


@dataclass(frozen=True)
class _Training:
    """Train Fast-SCNN by a recipe. Every field of the recipe is a flag."""

    data: str
    """The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml."""
    out: Path
    """Folder of the run: weights, log and all that is needed to resume."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe]
    """How to train."""
    split: str = "train"
    """What to train on; several splits joined by +."""
    validation: str = "val"
    """The split that chooses the best weights; none: the last are the best."""
    resume: bool = False
    """Go on where the run in --out stopped."""
    pause_after: int | None = None
    """Stop after this many steps with the state saved."""
    init: Path | None = None
    """A .safetensors file to go on from, or `bundled`; its last layer is replaced where the classes differ."""
    teacher: tuple[Path, ...] = ()
    """.safetensors files whose mean probabilities --distillation follows."""


def train(run: _Training) -> int:
    """Trains with a progress bar; see `_Training` for the flags."""
    from fastscnn import datasets
    from fastscnn.weights import bundled

    training = _training("train")
    dataset = datasets.load(run.data)
    facts = TextColumn("{task.fields[facts]}", markup=False)
    with Progress("{task.description}", BarColumn(), MofNCompleteColumn(), facts, TimeRemainingColumn(), console=_err) as bar:
        task = bar.add_task(run.recipe.name, total=None, facts="reading the data")

        told = perf_counter()

        def observe(progress: TrainingProgress) -> None:
            miou = "" if progress.miou is None else f"  mIoU {progress.miou:.2f}"
            news = f"loss {progress.loss:.3f}{miou}  {progress.images_per_second:.1f} images/s"
            bar.update(task, completed=progress.step, total=progress.steps, facts=news)
            nonlocal told
            if not _err.is_terminal and (progress.step == progress.steps or perf_counter() - told > _PLAIN_SECONDS):
                told = perf_counter()  # a log file gets lines in place of the bar
                _err.print(f"{progress.step}/{progress.steps}  {news}")

        card = training.train(
            run.recipe,
            dataset,
            run.out,
            split=run.split,
            validation=None if run.validation == "none" else run.validation,
            resume=run.resume,
            pause_after=run.pause_after,
            init=bundled("torch") if run.init == Path("bundled") else run.init,
            teacher=run.teacher,
            observe=observe,
            tell=_err.print,
        )
    for name, scores in card.metrics.items():
        _out.print(f"mIoU {scores['miou']:.2f} on {name} with the last weights")
    best = run.out / "best.safetensors"
    if best.is_file():
        _out.print(f"Next: fastscnn export {best} --out {run.out / 'model.onnx'}", soft_wrap=True)
    return 0


def evaluate(
    *,
    data: str,
    weights: Path | None = None,
    split: str = "test",
    runtime: str = "auto",
    precision: str = "auto",
    size: str | None = None,
    scales: str = "1",
    flip: bool = False,
    threads: int | None = None,
    submit: Path | None = None,
    json: Path | None = None,
) -> int:
    """Score weights on labelled images, through the same path that labels a user's.

    Args:
        data: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        split: What to evaluate on; several splits joined by +.
        runtime: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        size: Of the network's input, HxW or native; the weights' own where none is given.
        scales: Times that size, the sizes at which each image is run, for example 0.5,1,1.5; probabilities are averaged.
        flip: Also run each scale mirrored left to right.
        threads: To compute with; all where none is given.
        submit: Do not score, but write the labels into this folder as the server of Cityscapes takes them.
        json: Also write the scores to this file.
    """
    from fastscnn import datasets
    from fastscnn.datasets import cityscapes
    from fastscnn.evaluate import evaluate as score

    segmenter = _load(weights, runtime, size, threads, _scales(scales), flip, precision)
    dataset = datasets.load(data)
    if submit:
        return _submit(segmenter, dataset, split, submit)
    with _progress("evaluate") as advance:
        report = score(segmenter, dataset, dataset.pairs(split), advance)
    scores = report.to_dict()
    table = Table("class", "IoU %")
    table.columns[1].justify = "right"
    for name, iou in scores["iou"].items():
        table.add_row(name, "absent" if iou is None else f"{iou:.2f}")
    table.add_section()
    table.add_row("mIoU", f"{scores['miou']:.2f}")
    table.add_row("pixel accuracy", f"{scores['pixel_accuracy']:.2f}")
    if report.names == cityscapes.LABELS.names:
        order = list(dict.fromkeys(cityscapes.CATEGORIES))
        categories = report.confusion.grouped([order.index(name) for name in cityscapes.CATEGORIES])
        scores["category_iou"] = dict(zip(order, categories.iou(), strict=True))
        scores["category_miou"] = categories.miou()
        table.add_row("category mIoU", f"{scores['category_miou']:.2f}")
    _out.print(table)
    _out.print(_confusion_table(report.names, report.confusion.matrix))
    passes = f"scales {', '.join(f'{scale:g}' for scale in report.scales)}{' with flip' if report.flip else ''}"
    engine = f"{report.runtime} {report.precision}"
    _out.print(f"{report.images} images of {dataset.name} {split}, {engine}, input {report.size}, {passes}")
    if json:
        files.write(json, json_.dumps(scores, indent=1).encode())
    return 0


def _submit(segmenter: Segmenter, dataset: DatasetSpec, split: str, folder: Path) -> int:
    """Writes the labels of a split of Cityscapes as its server wants them; the labels themselves are not needed."""
    from fastscnn import images
    from fastscnn.cityscapes import write_submission
    from fastscnn.datasets import cityscapes

    if dataset.label_set.names != cityscapes.LABELS.names or segmenter.card.label_set.names != cityscapes.LABELS.names:
        raise FastSCNNError(f"submit: takes weights and images of Cityscapes' {len(cityscapes.LABELS)} classes.")
    found = dataset.image_files(split)
    if not found:
        raise FastSCNNError(f"{dataset.root}: no images in the split {split!r} of {dataset.name}.")
    with _progress("label") as advance:
        for done, image in enumerate(found, start=1):
            write_submission(folder, image, segmenter.segment(images.read(image)).labels, cityscapes.LABELS)
            advance(done, len(found))
    _out.print(f"{len(found)} files of {dataset.name} {split} in {folder}", soft_wrap=True)
    return 0


def export(
    weights: tyro.conf.Positional[Path],
    *,
    out: Path,
    data: str | None = None,
    split: str = "val",
    gate: float | None = None,
    int8: bool = False,
    calibration: str = "train",
) -> int:
    """Write weights as an ONNX file that runs at any size, compared with PyTorch before it is kept.

    Args:
        weights: A .safetensors file.
        out: The .onnx file to write.
        data: A dataset on which to compare the scores before and after; the card then holds them, and what faster engines lose.
        split: Of that dataset.
        gate: Fail where the IoU of a class, or the mIoU, falls by more than this many points.
        int8: Quantise what was compared with PyTorch; layers that lose too much for --gate stay in float32.
        calibration: The split of the dataset whose images tell the ranges for --int8.
    """
    from fastscnn import datasets

    exporting = _training("export")
    for flag, given in {"gate": gate is not None, "int8": int8}.items():
        if given and data is None:
            raise FastSCNNError(f"{flag}: needs labelled images; give --data too.")
    dataset = datasets.load(data) if data else None

    def finish(candidate: Path) -> bytes:
        if dataset is None:
            return candidate.read_bytes()
        if int8:
            data = _quantize(candidate, out, dataset, calibration, split, gate)
        else:
            before, after = _scores(weights, "torch", dataset, split), _scores(candidate, "onnx", dataset, split)
            worst = _compare_scores(before, after, dataset, split)
            if gate is not None and worst > gate:
                raise FastSCNNError(f"{out}: not written, because it loses {worst:.3f} points of IoU where the gate is {gate}.")
            data = candidate.read_bytes()
        return _measured(data, candidate, dataset, split)

    table = Table("batch", "size", "largest difference of a logit", "equal labels %", title="ONNX Runtime against PyTorch")
    for agreement in exporting.export(weights, out, finish):
        size = f"{agreement.height}x{agreement.width}"
        table.add_row(str(agreement.batch), size, f"{agreement.logits:.1e}", f"{agreement.labels:.3f}")
    _out.print(table)
    _out.print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    return 0


def convert(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    classes: str,
    layout: Annotated[str, tyro.conf.arg(name="from")] = "auto",
    size: str = "1024x2048",
) -> int:
    """Take over a checkpoint of mmsegmentation, Tramac's Fast-SCNN-pytorch or PaddleSeg. No code in it is run.

    Args:
        file: Its .pth or .pdparams file.
        out: The .safetensors file to write.
        classes: What its logits mean: cityscapes, or a dataset as for --data elsewhere.
        layout: mmseg, tramac, paddleseg, or auto, which looks at the names of the tensors.
        size: Of the input that it was trained for, HxW; it runs at any.
    """
    foreign = _training("foreign")
    trained = _size(size)
    if not isinstance(trained, tuple):
        raise FastSCNNError(f"size: of a network's training is HxW, not {size!r}.")
    card = foreign.convert(file, out, layout, _classes(classes), trained)
    _out.print(f"wrote {out}: variant {card.variant}, {len(card.label_set)} classes", soft_wrap=True)
    _out.print(f"Next: fastscnn export {out} --out {out.with_suffix('.onnx')}", soft_wrap=True)
    return 0


def _classes(text: str) -> LabelSet:
    """Classes by the name of a dataset that need not be there, or of one that is."""
    from fastscnn import datasets
    from fastscnn.datasets import camvid, cityscapes

    known = {"cityscapes": cityscapes.LABELS, "camvid": camvid.LABELS}
    if text in known:
        return known[text]
    try:
        return datasets.load(text).label_set
    except FastSCNNError as error:
        raise FastSCNNError(f"classes: are {', '.join(known)}, or those of a dataset; {error}") from error


def check(
    spec: Annotated[Spec, tyro.conf.arg(metavar="SPEC")],
    *,
    splits: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Read every image and label file of a dataset and say what is wrong with it. Exit code 1 on any error.

    Args:
        spec: The dataset: NAME:ROOT, for example camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml.
        splits: Which ones; all where none is given.
        json: Print the report as JSON.
    """
    from fastscnn import datasets
    from fastscnn.datasets.check import check as read_all

    dataset = datasets.load(spec)
    with _progress("check", quiet=json) as advance:
        report = read_all(dataset, splits or None, cache=files.cache("check"), progress=advance)
    if json:
        print(report.to_json())
        return 0 if report.ok else 1
    for finding in report.findings:
        _out.print(f"{finding.severity}: {finding.message}", soft_wrap=True)
    table = Table("share of pixels in %", *report.counts, title=f"{dataset.name}: {sum(report.counts.values())} images")
    for name in dataset.label_set.names:
        table.add_row(name, *(f"{report.shares[split][name]:.2f}" for split in report.counts))
    table.add_section()
    table.add_row("ignored, of all", *(f"{report.ignored[split]:.2f}" for split in report.counts))
    table.add_row("images", *(str(count) for count in report.counts.values()))
    _out.print(table)
    errors = sum(finding.severity == "error" for finding in report.findings)
    _out.print(f"{errors} errors, {len(report.findings) - errors} warnings")
    return 0 if report.ok else 1


def benchmark(
    *,
    weights: Path | None = None,
    sizes: str = "1024x2048",
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    protocol: str = "files",
    runs: int | None = None,
    warmup: int | None = None,
    against: Path | None = None,
    plot: Path | None = None,
    json: Path | None = None,
) -> int:
    """Time whole frames, stage by stage, with memory, cold start and the share of the machine's limit.

    Args:
        weights: A .onnx or .safetensors file; the bundled weights where none is given.
        sizes: Of the frame and of the network's input, HxW; several with commas between show the growth.
        runtime: onnx, openvino, torch, cuda, or auto: the fastest here that is, by the weights' card, as good as float32.
        precision: float32, bfloat16, float16, int8, or auto: the fastest that is, by the weights' card, as good as float32.
        threads: To compute with; all where none is given.
        protocol: files, from JPEG to PNG; paper or mmseg, frames in memory as those count them.
        runs: Frames measured; the protocol's where none is given.
        warmup: Frames before them; the protocol's where none is given.
        against: An environment that holds mmsegmentation, which is timed in turn with ours at the last size.
        plot: Also draw the milliseconds over the pixels, as .svg, .png or .pdf.
        json: Also write everything to this file.
    """
    from fastscnn.against import against as compare
    from fastscnn.against import interpreter
    from fastscnn.benchmark import PROTOCOLS
    from fastscnn.benchmark import benchmark as measure

    frames = _frames(sizes)
    if against:
        interpreter(against)  # what cannot be done is said before the measuring
    draw = _plotter(plot) if plot else None
    segmenter = _load(weights, runtime, None, threads, precision=precision)
    reports = []
    for frame in frames:
        with _progress(f"benchmark {frame[0]}x{frame[1]}") as advance:
            reports.append(measure(segmenter, frame, protocol, runs, warmup, advance))
        _print_benchmark(reports[-1], PROTOCOLS[protocol].what)
    found: dict[str, Any] = {"reports": [json_.loads(report.to_json()) for report in reports]}
    if json:
        files.write(json, json_.dumps(found, indent=1).encode())
    if draw:
        draw(reports)
    if len(reports) > 1:
        growth = Table("size", "megapixels", "network ms", "labels ms", "frame ms", "network ns a pixel")
        for report in reports:
            pixels = report.size[0] * report.size[1]
            network, labels, whole = (report.stages[name].p50 for name in ("network", "labels", "frame"))
            size = f"{report.size[0]}x{report.size[1]}"
            per_pixel = f"{1e6 * network / pixels:.1f}"
            growth.add_row(size, f"{pixels / 1e6:.2f}", f"{network:.2f}", f"{labels:.2f}", f"{whole:.2f}", per_pixel)
        _out.print(growth)
    if against:
        with _progress("against mmsegmentation") as advance:
            comparison = compare([segmenter], reports[-1].size, against, progress=advance)
        found["against"] = dataclasses.asdict(comparison)
        table = Table("frame in memory to labels", "ms", "ours is faster by", title=f"mmsegmentation {comparison.version}")
        (ours,) = comparison.ours.values()
        for name, milliseconds in {**comparison.ours, **comparison.peers}.items():
            table.add_row(name, f"{milliseconds:.1f}", f"{milliseconds / ours:.1f}")
        _out.print(table)
        if json:
            files.write(json, json_.dumps(found, indent=1).encode())
    return 0


def _frames(sizes: str) -> list[tuple[int, int]]:
    """Sizes of frames, HxW with commas between."""
    from fastscnn import scene

    frames = []
    for part in sizes.split(","):
        height, _, width = part.strip().lower().partition("x")
        if not height.isdecimal() or not width.isdecimal():
            raise FastSCNNError(f"sizes: of the frame are HxW, for example 512x1024,1024x2048, not {sizes!r}.")
        frames.append((int(height), int(width)))
        if min(frames[-1]) < scene.MIN_SIDE:
            raise FastSCNNError(f"sizes: a frame is a drawn scene of at least {scene.MIN_SIDE} pixels a side, not {part}.")
    return frames


def _plotter(path: Path) -> Callable[[Sequence[BenchmarkReport]], None]:
    """What draws the growth over the sizes into a file; refuses a file or a machine that cannot before all measuring."""
    try:
        from fastscnn import plot
    except ImportError as error:
        raise FastSCNNError(f"plot: {error.name} is not installed; pip install 'fastscnn[plot]'.") from error
    plot.check(path)
    return lambda reports: plot.growth(path, reports)


def _print_benchmark(report: BenchmarkReport, protocol: str) -> None:
    """One size: times of the stages, rates, and the machine."""
    title = f"{report.size[0]}x{report.size[1]}, {report.runtime} {report.precision}, {report.threads} threads"
    table = Table("stage", "mean ms", "p50", "p95", "p99", title=title)
    for name, stage in report.stages.items():
        table.add_row(name, *(f"{value:.2f}" for value in (stage.mean, stage.p50, stage.p95, stage.p99)))
    _out.print(table)
    _out.print(f"{1e3 / report.stages['frame'].mean:.1f} frames per second, {protocol}; {report.runs} after {report.warmup}",
               soft_wrap=True)
    if report.stream_fps is not None:
        _out.print(f"{report.stream_fps:.1f} frames per second with {report.streams} at a time")
    roof = report.roofline
    _out.print(f"network {report.stages['network'].p50:.2f} ms, {roof.share:.0f} % of the limit of {roof.limit_ms:.2f} ms: "
               f"{roof.operations / 1e9:.2f} G operations at {roof.peak / 1e9:.0f} G/s, "
               f"{roof.bytes / 1e6:.0f} MB at {roof.bandwidth / 1e9:.1f} GB/s", soft_wrap=True)
    _out.print(f"cold start to first labels {report.cold_start_s:.2f} s, peak memory {report.peak_memory_mib:.0f} MiB, "
               f"weights {report.weights_bytes / 1e6:.1f} MB", soft_wrap=True)
    _out.print(f"{report.machine}, {report.processors} processors, Python {report.python}, fastscnn {report.version}")


_VERBS: dict[str, Callable[..., int]] = {
    "segment": segment,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "convert": convert,
    "check": check,
    "benchmark": benchmark,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 where the input was wrong, 2 where the call was, 130 on Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except FastSCNNError as error:
        _complain(str(error))
        return 1
    except MemoryError:
        _complain("out of memory; give a smaller --size, or a smaller --batch and --crop.")
        return 1
    except KeyboardInterrupt:
        _complain("interrupted; what was finished is kept.")
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        _print_overview()
        return 0 if words else 2
    if words[0] == "--version":
        print(f"fastscnn {__version__}")
        return 0
    verb, *rest = words
    if verb not in _VERBS:
        raise unknown("command", verb, _VERBS)
    config = (tyro.conf.FlagCreatePairsOff,)
    if verb != "train":
        return tyro.cli(_VERBS[verb], prog=f"fastscnn {verb}", args=rest, config=config)
    if not rest or rest[0].startswith("-"):
        known = ", ".join(names())
        raise FastSCNNError(f"Say the recipe first: fastscnn train RECIPE --data SPEC --out DIR, RECIPE one of {known}.")
    default = _Training(data=tyro.MISSING, out=tyro.MISSING, recipe=named(rest[0]))
    return train(tyro.cli(_Training, prog=f"fastscnn train {rest[0]}", args=rest[1:], default=default, config=config))


def _print_overview() -> None:
    print("usage: fastscnn COMMAND ...; `fastscnn COMMAND --help` tells its flags\n")
    summaries = {verb: (function.__doc__ or "").split("\n")[0] for verb, function in _VERBS.items()}
    summaries["train"] = (_Training.__doc__ or "").split("\n")[0]
    for verb, summary in summaries.items():
        print(f"  {verb:<10} {summary}")


def _complain(message: str) -> None:
    _err.print(f"fastscnn: {message}", soft_wrap=True)


def _load(
    weights: Path | None,
    runtime: str,
    size: str | None,
    threads: int | None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    precision: str = "auto",
    streams: int = 1,
) -> Segmenter:
    from fastscnn.segmenter import Segmenter

    return Segmenter.load(weights, runtime, _size(size), threads, scales, flip, precision, streams)


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
    with _progress("measure this machine", quiet) as advance:
        measured = budgets.measure(segmenter, frame, files.cache("budget"), advance)
    choice = measured.largest(milliseconds)
    known = segmenter.card.miou(choice.size)
    accuracy = f"mIoU {known[1]:.2f} on {known[0]} by its card" if known else "its card holds no mIoU for that input"
    runtime = segmenter.runtime
    _err.print(f"input {choice.size[0]}x{choice.size[1]}: {choice.milliseconds:.1f} ms at the 95th percentile for frames of "
               f"{frame[0]}x{frame[1]}, {runtime.name} {runtime.precision}{measured.source()}; {accuracy}", soft_wrap=True)
    return Segmenter(runtime, choice.size, segmenter.path)


def _readable_sizes(jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """(height, width) of the images whose header can be read; the others are reported when they are labelled."""
    from fastscnn import images

    for job in jobs:
        with suppress(FastSCNNError):
            yield images.size(job.image)


def _size(text: str | None) -> Size:
    """HxW as (height, width); "native" and None as they are."""
    if text is None:
        return None
    if text == "native":
        return "native"
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdecimal() or not width.isdecimal():
        raise FastSCNNError(f"size: is HxW, for example 360x480, or native, not {text!r}.")
    return int(height), int(width)


def _scales(text: str) -> tuple[float, ...]:
    """Numbers with commas between; what they may be, the Segmenter says."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FastSCNNError(f"scales: are numbers with commas between, for example 0.5,1,1.5, not {text!r}.") from None


def _training(verb: str) -> ModuleType:
    """The module of `fastscnn.learn` behind a verb; a clear error where PyTorch is not installed."""
    try:
        return importlib.import_module(f"fastscnn.learn.{verb}")
    except ModuleNotFoundError as error:
        message = f"{verb}: needs the training extra ({error.name} is missing); pip install 'fastscnn[train]'."
        raise FastSCNNError(message) from error


@contextmanager
def _progress(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the error stream, moved by calls of (done, all)."""
    if quiet:  # not by rich's own switch, which prints an empty line before rich 15
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
        _out.print(f"The drawn scene's own labels: mIoU {line['miou']}, pixel accuracy {line['pixel_accuracy']} %")
    _out.print(f"Look at {job.beside('.overlay.jpg')}", soft_wrap=True)
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
    _out.print(Columns([table, classes]))
    _out.print(f"{len(times)} labelled; results in {out}", soft_wrap=True)


def _quantize(exported: Path, out: Path, dataset: DatasetSpec, calibration: str, split: str, gate: float | None) -> bytes:
    """An exported file in int8 that passes the gate; prints the scores of each attempt beside those in float32."""
    quantising = _training("quantize")
    before = _scores(exported, "onnx", dataset, split)
    pictures = quantising.calibration_images(dataset, calibration, _load(exported, "onnx", None, None).card.size)

    def accept(attempt: Path, kept: Sequence[Layer]) -> bool:
        if kept:
            layers = Table("kept in float32", "error of the logits %", title="the layers that lose most when quantised alone")
            for layer in kept:
                layers.add_row(layer.name, f"{layer.error:.2f}")
            _out.print(layers)
        worst = _compare_scores(before, _scores(attempt, "onnx", dataset, split), dataset, split)
        passed = gate is None or worst <= gate
        if not passed:
            _out.print(f"int8 with {len(kept)} layers in float32 loses {worst:.3f} points of IoU where the gate is {gate}")
        return passed

    quantized = quantising.quantize(exported, pictures, accept, _progress)
    if quantized is None:
        raise FastSCNNError(f"{out}: not written, because int8 loses more than {gate} points of IoU even with half of the "
                            "layers in float32; give a larger --gate, or leave out --int8.")
    _out.print(f"int8: {quantized.layers - len(quantized.kept)} of {quantized.layers} layers, "
               f"calibrated on {len(pictures)} images of {dataset.name} {calibration}")
    made: bytes = quantized.data
    return made


def _measured(data: bytes, reference: Path, dataset: DatasetSpec, split: str) -> bytes:
    """An exported file with a card that says how good it is at smaller inputs, and what each engine here loses with it."""
    from fastscnn.compare import by_size, losses

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(data)
        with _progress("compare engines") as advance:
            lost = losses(file, reference, dataset, split, advance)
        with _progress("compare inputs") as advance:
            scores = by_size(file, dataset, split, advance)
        described = _load(file, "onnx", None, None).card
    if lost:
        engines = Table("engine", "equal labels %", "mIoU lost", "worst class", title="against ONNX Runtime in float32")
        for name, loss in lost.items():
            engines.add_row(name, f"{loss['labels']:.2f}", f"{loss['miou']:.3f}", f"{loss['class']} {loss['worst']:.3f}")
        _out.print(engines)
    inputs = Table("input", "mIoU")
    for name, score in scores.items():
        inputs.add_row(name, f"{score['miou']:.2f}")
    _out.print(inputs)
    # Scores of the same weights in float32, or on other data, say nothing of this file on this data.
    same = described.precision == "float32" and described.data is not None and described.data.name == dataset.name
    described = dataclasses.replace(described, metrics={**(described.metrics if same else {}), **scores}, losses=lost)
    made: bytes = _training("exported").with_card(data, described)
    return made


def _scores(weights: Path, runtime: str, dataset: DatasetSpec, split: str) -> _Scores:
    """IoU of each class in percent, None where it is absent, and the mIoU."""
    from fastscnn.evaluate import evaluate as score

    with _progress(f"evaluate {weights.name}") as advance:
        report = score(_load(weights, runtime, None, None), dataset, dataset.pairs(split), advance).to_dict()
    return {**report["iou"], "mIoU": report["miou"]}


def _compare_scores(before: _Scores, after: _Scores, dataset: DatasetSpec, split: str) -> float:
    """Prints the IoU of each class before and after; returns the largest loss in points."""
    images = len(dataset.pairs(split))
    table = Table("class", "before", "after", "change", title=f"IoU in % on {dataset.name} {split}, {images} images")
    losses = [0.0]
    for name, old in before.items():
        new = after[name]
        if old is None or new is None:
            table.add_row(name, "absent" if old is None else f"{old:.3f}", "absent" if new is None else f"{new:.3f}", "")
            continue
        table.add_row(name, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}")
        losses.append(old - new)
    _out.print(table)
    return max(losses)


def _confusion_table(class_names: Sequence[str], matrix: Int64Array) -> Table:
    """Percent of each true class (rows) that was given each label (columns)."""
    table = Table("truth \\ label", *(name[:6] for name in class_names), title="confusion in % of the true class")
    table.columns[0].no_wrap = True
    for name, row in zip(class_names, matrix, strict=True):
        total = int(row.sum())
        table.add_row(name, *(f"{100 * int(count) / total:.0f}" if total and count else "" for count in row))
    return table
