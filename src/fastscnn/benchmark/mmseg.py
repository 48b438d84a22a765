"""mmseg comparison: time mmsegmentation's Fast-SCNN and fastscnn in turn, with the same frame size, classes and threads."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import IO, Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.inference.segmenter import Segmenter

_SCRIPT = Path(__file__).with_name("mmseg_worker.py")
# glibc then keeps freed memory instead of returning it to the system.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000"}
# Name -> argument of the worker, and environment variables.
_CONFIGURATIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "default": ("default", {}),
    "kept memory": ("default", _KEEP_MEMORY),
    "channels_last, bfloat16": ("tuned", {}),
    "channels_last, bfloat16, kept memory": ("tuned", _KEEP_MEMORY),
}
_FRAMES = 4  # per configuration and turn
PAUSE = 0.3  # seconds, until the threads of the previous configuration stop spinning


@dataclass(frozen=True)
class MmsegComparison:
    """Median milliseconds from a frame in memory to its full-size labels, all from one run.

    Attributes:
        fastscnn_ms: "BACKEND PRECISION" -> milliseconds of fastscnn.
        mmseg_ms: configuration -> milliseconds of mmsegmentation: "default", the others are tuned.
        mmseg_version: version of mmsegmentation.
    """

    fastscnn_ms: dict[str, float]
    mmseg_ms: dict[str, float]
    mmseg_version: str

    def ratios(self, name: str) -> tuple[float, float]:
        """Return the speed-up of "BACKEND PRECISION" over mmsegmentation's default, and over its fastest configuration."""
        return self.mmseg_ms["default"] / self.fastscnn_ms[name], min(self.mmseg_ms.values()) / self.fastscnn_ms[name]


def compare_with_mmseg(
    segmenters: Sequence[Segmenter],
    size: tuple[int, int],
    environment: Path,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> MmsegComparison:
    """Time fastscnn and mmsegmentation in turn, a few frames each, for several rounds.

    Args:
        segmenters: segmenters with equal threads and classes; their networks run at `size`.
        size: (height, width) of the frame.
        environment: virtual environment with mmsegmentation, or its Python interpreter.
        rounds: turns of each configuration.
        progress: called with (done, total) after each turn.

    Raises:
        FastSCNNError: a backend is not on the CPU, or the environment has no interpreter or no mmsegmentation.
    """
    backend = segmenters[0].backend
    if any(one.backend.device != "cpu" for one in segmenters):
        raise FastSCNNError("mmseg: mmsegmentation is timed on the CPU; run benchmarks/gpu.py to compare on an NVIDIA device.")
    image = synthetic.draw(*size).image
    sized = {f"{one.backend.name} {one.backend.precision}": Segmenter(one.backend, size) for one in segmenters}
    python = interpreter(environment)
    arguments = [*size, len(backend.card.label_set), backend.threads]
    times: dict[str, list[float]] = {name: [] for name in (*sized, *_CONFIGURATIONS)}
    version = ""
    with ExitStack() as stack:
        workers = {}
        for name, (way, variables) in _CONFIGURATIONS.items():
            workers[name] = stack.enter_context(_worker(python, [*arguments, way], variables))
            version = workers[name].answer()
        for segmenter in sized.values():
            segmenter.segment(image)  # warm-up: the backend allocates its buffers
        for turn in range(rounds):
            for index, name in enumerate(times):
                sleep(PAUSE)
                if name in sized:
                    times[name] += [_milliseconds(sized[name], image) for _ in range(_FRAMES)]
                else:
                    times[name] += workers[name].times(_FRAMES)
                if progress:
                    progress(turn * len(times) + index + 1, rounds * len(times))
    medians = {name: median(taken) for name, taken in times.items()}
    return MmsegComparison({name: medians[name] for name in sized}, {name: medians[name] for name in _CONFIGURATIONS}, version)


def _milliseconds(segmenter: Segmenter, image: UInt8Array) -> float:
    start = perf_counter()
    segmenter.segment(image)
    return 1e3 * (perf_counter() - start)


def interpreter(environment: Path) -> Path:
    """Return the Python interpreter of a virtual environment. Raises FastSCNNError if it has none."""
    for path in (environment, environment / "bin" / "python", environment / "Scripts" / "python.exe"):
        if path.is_file():
            return path
    raise FastSCNNError(f"{environment}: contains no Python interpreter; "
                        "give the virtual environment in which mmsegmentation is installed.")


@contextmanager
def _worker(python: Path, arguments: Sequence[object], variables: Mapping[str, str]) -> Iterator[_Worker]:
    """Run a process that times mmsegmentation on request."""
    command = [str(python), str(_SCRIPT), *map(str, arguments)]
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)  # it would point the other interpreter at this one's packages
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,  # a full pipe would block it
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, encoding="utf-8", env=environment) as process,
    ):
        try:
            yield _Worker(process, errors)
        finally:
            process.kill()
            with contextlib.suppress(OSError):  # unread input
                if process.stdin:
                    process.stdin.close()


@dataclass(frozen=True)
class _Worker:
    """A process that answers requests line by line, and its error output."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def times(self, frames: int) -> list[float]:
        """Return the milliseconds of `frames` frames."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # the process has ended: `answer` raises the reason
            self.process.stdin.write(f"{frames}\n")
            self.process.stdin.flush()
        taken: list[float] = self.answer()
        return taken

    def answer(self) -> Any:
        """Return its next line of output, decoded from JSON."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.errors.seek(0)
        code = self.process.wait()
        reason = (self.errors.read().strip().splitlines() or [f"exit code {code}, no error output"])[-1]
        raise FastSCNNError(f"mmsegmentation does not run in that environment: {reason}")
