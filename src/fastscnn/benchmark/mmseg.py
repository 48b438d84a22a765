"""against: mmsegmentation's Fast-SCNN beside ours, in turn, on the same frame size, classes and threads."""

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
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000"}  # glibc gives none back to the system
# Name -> how it runs, and what it finds in its environment.
_PEERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "default": ("default", {}),
    "kept memory": ("default", _KEEP_MEMORY),
    "channels_last, bfloat16": ("tuned", {}),
    "channels_last, bfloat16, kept memory": ("tuned", _KEEP_MEMORY),
}
_FRAMES = 4  # of each in a turn
_PAUSE = 0.3  # seconds, until the threads of whoever ran before have stopped waiting for work


@dataclass(frozen=True)
class Comparison:
    """Median milliseconds of a frame in memory to its full-size labels, all in the same run.

    Attributes:
        ours: by "ENGINE PRECISION".
        peers: of mmsegmentation, by how it was run: "default" as it comes, the others tuned.
        version: of mmsegmentation.
    """

    ours: dict[str, float]
    peers: dict[str, float]
    version: str

    def ratios(self, name: str) -> tuple[float, float]:
        """How many times faster one of ours is than mmsegmentation's default, and than the best of its ways."""
        return self.peers["default"] / self.ours[name], min(self.peers.values()) / self.ours[name]


def against(
    segmenters: Sequence[Segmenter],
    size: tuple[int, int],
    environment: Path,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Times our engines and mmsegmentation in turn, a few frames each, round after round.

    Args:
        segmenters: ours, whose networks run at the size of the frame; with the same threads and classes.
        size: (height, width) of the frame.
        environment: a virtual environment that holds mmsegmentation; or its interpreter.
        rounds: turns of each.
        progress: called with (done, all) after each turn.

    Raises:
        FastSCNNError: an environment without an interpreter or mmsegmentation.
    """
    backend = segmenters[0].backend
    if backend.name == "cuda":
        raise FastSCNNError("against: mmsegmentation is timed on the CPU; benchmarks/gpu.py compares on an NVIDIA card.")
    image = synthetic.draw(*size).image
    sized = {f"{one.backend.name} {one.backend.precision}": Segmenter(one.backend, size) for one in segmenters}
    python = interpreter(environment)
    arguments = [*size, len(backend.card.label_set), backend.threads]
    times: dict[str, list[float]] = {name: [] for name in (*sized, *_PEERS)}
    version = ""
    with ExitStack() as stack:
        peers = {}
        for name, (way, variables) in _PEERS.items():
            peers[name] = stack.enter_context(_peer(python, [*arguments, way], variables))
            version = peers[name].answer()
        for segmenter in sized.values():
            segmenter.segment(image)  # makes the engine's buffers
        for turn in range(rounds):
            for index, name in enumerate(times):
                sleep(_PAUSE)
                if name in sized:
                    times[name] += [_milliseconds(sized[name], image) for _ in range(_FRAMES)]
                else:
                    times[name] += peers[name].times(_FRAMES)
                if progress:
                    progress(turn * len(times) + index + 1, rounds * len(times))
    medians = {name: median(taken) for name, taken in times.items()}
    return Comparison({name: medians[name] for name in sized}, {name: medians[name] for name in _PEERS}, version)


def _milliseconds(segmenter: Segmenter, image: UInt8Array) -> float:
    start = perf_counter()
    segmenter.segment(image)
    return 1e3 * (perf_counter() - start)


def interpreter(environment: Path) -> Path:
    """The Python of a virtual environment. Raises FastSCNNError where there is none."""
    for path in (environment, environment / "bin" / "python", environment / "Scripts" / "python.exe"):
        if path.is_file():
            return path
    raise FastSCNNError(f"{environment}: holds no Python; give the virtual environment in which mmsegmentation is installed.")


@contextmanager
def _peer(python: Path, arguments: Sequence[object], variables: Mapping[str, str]) -> Iterator[_Peer]:
    """A process that times mmsegmentation on request."""
    command = [str(python), str(_SCRIPT), *map(str, arguments)]
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)  # what is meant for this interpreter is not for that one
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,  # no pipe, which would stop it when full
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            yield _Peer(process, errors)
        finally:
            process.kill()
            with contextlib.suppress(OSError):  # of what it did not read any more
                if process.stdin:
                    process.stdin.close()


@dataclass(frozen=True)
class _Peer:
    """A process that answers lines, and what it complains of."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def times(self, frames: int) -> list[float]:
        """Milliseconds of some frames."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # where it has ended: `answer` says why
            self.process.stdin.write(f"{frames}\n")
            self.process.stdin.flush()
        taken: list[float] = self.answer()
        return taken

    def answer(self) -> Any:
        """The next line that it prints."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.errors.seek(0)
        code = self.process.wait()
        reason = (self.errors.read().strip().splitlines() or [f"it ended with exit code {code} and said nothing"])[-1]
        raise FastSCNNError(f"mmsegmentation cannot be run there: {reason}")
