"""Measure from file to file: JPEG images to labels and overlays, folders, and a video; an earlier version and peers beside.

    python benchmarks/files.py IMAGES --before PYTHON --mmseg PYTHON [--video FILE] [--count 500]

IMAGES is a folder of photographs; they are resized to 360x480 and 1024x2048 and written as JPEG files of quality 92 by Pillow.
--before is the Python of an environment with an earlier version of fastscnn, --mmseg that of one with mmsegmentation. The
network runs at the size of the files, on two threads.

- one: one file after another, in one process per system. All systems take turns; the median of all files and turns counts.
- folder: `fastscnn segment FOLDER`, images per second of the whole command, start included; both versions take turns.
- share: images per second from files to label files, without start, beside those of the network alone on decoded images; two
  images at a time on one thread each, in one process, in turns.
- video: `fastscnn segment VIDEO`, frames per second that the command prints; both versions take turns.

Writes benchmarks/speed/files.json after each part.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, cast

import onnx
import tyro
from onnx import TensorProto, helper
from PIL import Image

from fastscnn import Segmenter, read_image
from fastscnn.base import files, machine
from fastscnn.base.types import BackendName
from fastscnn.benchmark import mmseg as mmseg_comparison
from fastscnn.media.stream import ordered
from fastscnn.model.weights import bundled

RESULT = Path(__file__).parent / "speed" / "files.json"
WORKER = Path(__file__).with_name("files_worker.py")
BUILDER = Path(mmseg_comparison.__file__).with_name("mmseg_worker.py")
SIZES = ((360, 480), (1024, 2048))
BACKENDS: tuple[BackendName, ...] = ("onnx", "openvino")
QUALITY, THREADS, CLASSES = 92, 2, 11
_PER_TURN = 4  # files that a system labels before the next one
_SHARE_PIXELS = 2**27  # decoded images of the part `share`: 384 MB
_PAUSE = 0.3  # seconds, until the threads of the last system stop spinning


def main(
    images: Path, /, before: Path, mmseg: Path, video: Path | None = None, count: int = 500, turns: int = 7,
    runs: int = 3, parts: tuple[str, ...] = ("one", "folder", "share", "video"),
) -> None:  # fmt: skip
    """Run all parts.

    Args:
        images: Folder of photographs.
        before: Python of an environment with an earlier version of fastscnn.
        mmseg: Python of an environment with mmsegmentation.
        video: A video file.
        count: Images of a folder.
        turns: Turns of each system, in the first part.
        runs: Runs of each command, in the other parts.
        parts: Which parts to run; the others keep their last results.
    """
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    found["machine"] = {"platform": platform.platform(), "processor": machine.processor(), "threads": THREADS}
    pythons = {"before": before, "after": Path(sys.executable)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for height, width in SIZES:
            made = written(images, root / f"{height}x{width}", (height, width), count)
            if "one" in parts:
                found[f"one {height}x{width}"] = one(made[:_PER_TURN], (height, width), pythons, mmseg, root, turns)
                save(found)
            if "folder" in parts:
                found[f"folder {height}x{width}"] = folders(made[0].parent, len(made), (height, width), pythons, root, runs)
                save(found)
            if "share" in parts:
                found[f"share {height}x{width}"] = shares(made, (height, width), root / "share", turns)
                save(found)
        if video is not None and "video" in parts:
            found["video"] = videos(video, pythons, root, runs)
            save(found)


def written(images: Path, folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write the first photographs of a folder at a size, as JPEG files."""
    folder.mkdir(parents=True)
    made = []
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:count]:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
        resized.save(folder / f"{path.stem}.jpg", quality=QUALITY)
        made.append(folder / f"{path.stem}.jpg")
    return made


def one(
    paths: Sequence[Path], size: tuple[int, int], pythons: Mapping[str, Path], mmseg: Path, root: Path, turns: int
) -> dict[str, Any]:
    """Time all systems in turn, one file after another; return the median milliseconds of each."""
    common = {"files": [str(path) for path in paths], "threads": THREADS, "size": f"{size[0]}x{size[1]}", "classes": CLASSES}
    systems: dict[str, tuple[Path, str, dict[str, Any]]] = {}
    for way in ("labels", "overlay"):
        for backend in BACKENDS:
            for name, python in pythons.items():
                systems[f"{name}, {backend} int8, {way}"] = (python, "fastscnn", {"backend": backend, "way": way})
    graph = root / "labels.onnx"
    graph.write_bytes(with_labels(bundled("onnx", "float32"), size))
    systems["OpenVINO with upsampling in the graph and OpenCV, labels"] = (pythons["after"], "openvino", {"model": str(graph)})
    systems["mmsegmentation's default and OpenCV, labels"] = (mmseg, "mmseg", {"builder": str(BUILDER)})
    times: dict[str, list[float]] = {name: [] for name in systems}
    versions = {}
    with ExitStack() as stack:
        workers = {}
        for number, (name, (python, system, options)) in enumerate(systems.items()):
            given = {**common, **options, "out": str(root / f"out-{number}")}
            workers[name] = stack.enter_context(worker(python, system, given))
            versions[name] = answer(workers[name])
        for turn in range(turns):
            for name, process in workers.items():
                sleep(_PAUSE)
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                times[name] += answer(process)
            print(f"{size}: turn {turn + 1} of {turns}", flush=True)
    medians = {name: median(taken) for name, taken in times.items()}
    for name, taken in medians.items():
        print(f"{size} {name}: {taken:.1f} ms", flush=True)
    return {"milliseconds": medians, "versions": versions, "files": len(paths), "turns": turns}


@contextmanager
def worker(python: Path, system: str, options: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Run files_worker.py in the environment of a system."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pipe = subprocess.PIPE
    command = [str(python), str(WORKER), system, json.dumps(options)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                if process.stdin:
                    process.stdin.close()


def answer(process: subprocess.Popen[str]) -> Any:
    """Return the next line that a worker prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A worker ended with {process.wait()}; its error is above.")
    return json.loads(line)


def folders(
    folder: Path, count: int, size: tuple[int, int], pythons: Mapping[str, Path], root: Path, runs: int
) -> dict[str, Any]:
    """Return the images per second of `fastscnn segment FOLDER`, median of the runs, for labels alone and with overlays."""
    rates: dict[str, list[float]] = {}
    for run in range(runs):
        for backend in BACKENDS:
            for name, python in pythons.items():
                for way in ("labels", "overlay") if name == "after" else ("overlay",):
                    words = ["segment", str(folder), "--out", str(root / "folder"), "--size", f"{size[0]}x{size[1]}",
                             "--backend", backend, "--precision", "int8", "--threads", str(THREADS), "--quiet",
                             *(["--save", "labels"] if way == "labels" else [])]
                    seconds, _ = timed(python, words)
                    rates.setdefault(f"{name}, {backend} int8, {way}", []).append(count / seconds)
                    print(f"{size} folder, run {run + 1}: {name} {backend} {way} {count / seconds:.1f} images/s", flush=True)
    return {"images": count, "images_per_second": {name: median(taken) for name, taken in rates.items()}, "runs": runs}


def shares(paths: Sequence[Path], size: tuple[int, int], out: Path, turns: int) -> dict[str, Any]:
    """Return the images per second of the network alone, and from files to label files; median of the turns."""
    out.mkdir(exist_ok=True)
    paths = paths[: _SHARE_PIXELS // (size[0] * size[1])]
    frames = [read_image(path)[None] for path in paths]
    found = {}
    for backend in BACKENDS:
        with Segmenter.load(None, backend, size, THREADS, precision="int8", streams=THREADS) as segmenter:

            def work(path: Path, segmenter: Segmenter = segmenter) -> None:
                segmenter.segment(path, keep_image=False).save_labels(out / f"{path.stem}.png")

            ways = {"network": (segmenter.backend, frames), "files": (work, paths)}
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(turns + 1):
                for name, (call, items) in ways.items():
                    sleep(_PAUSE)
                    start = perf_counter()
                    for _ in ordered(cast(Callable[[Any], object], call), cast(Iterable[Any], items), THREADS):
                        pass
                    if turn:  # the first is a warm-up
                        rates[name].append(len(paths) / (perf_counter() - start))
        found[f"{backend} int8"] = {name: median(taken) for name, taken in rates.items()}
        print(f"{size} share: {backend} {found[f'{backend} int8']}", flush=True)
    return {"images": len(paths), "turns": turns, "images_per_second": found}


def videos(video: Path, pythons: Mapping[str, Path], root: Path, runs: int) -> dict[str, Any]:
    """Return the frames per second that `fastscnn segment VIDEO` prints, median of the runs."""
    rates: dict[str, list[float]] = {}
    for run in range(runs):
        for backend in BACKENDS:
            for name, python in pythons.items():
                words = ["segment", str(video), "--out", str(root / "video"), "--backend", backend, "--precision", "int8",
                         "--threads", str(THREADS), "--json"]
                rate = json.loads(timed(python, words)[1])["fps"]
                rates.setdefault(f"{name}, {backend} int8", []).append(rate)
                print(f"video, run {run + 1}: {name} {backend} {rate:.1f} frames/s", flush=True)
    return {"video": video.name, "frames_per_second": {name: median(taken) for name, taken in rates.items()}, "runs": runs}


def timed(python: Path, words: Sequence[str]) -> tuple[float, str]:
    """Run a command of fastscnn; return its seconds and its output."""
    sleep(_PAUSE)
    start = perf_counter()
    done = subprocess.run([str(python), "-m", "fastscnn", *words], check=True, stdout=subprocess.PIPE, text=True)
    return perf_counter() - start, done.stdout


def with_labels(model: Path, size: tuple[int, int]) -> bytes:
    """Return an ONNX file with bilinear upsampling to `size` and argmax behind its logits, as a user would add them."""
    proto = onnx.load(model)
    graph = proto.graph
    (output,) = graph.output
    sizes = helper.make_tensor("label_size", TensorProto.INT64, [4], [1, CLASSES, *size])
    graph.initializer.append(sizes)
    graph.node.extend([
        helper.make_node("Resize", [output.name, "", "", "label_size"], ["full"], mode="linear",
                         coordinate_transformation_mode="half_pixel"),
        helper.make_node("ArgMax", ["full"], ["labels"], axis=1, keepdims=0),
    ])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, *size]))
    serialized: bytes = proto.SerializeToString()
    return serialized


def save(found: dict[str, Any]) -> None:
    """Write the results so far."""
    files.write(RESULT, json.dumps(found, indent=1).encode() + b"\n")


if __name__ == "__main__":
    tyro.cli(main)
