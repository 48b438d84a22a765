"""The promises of docs/reliability.md: which tests check each one, and the figures of the last complete run.

A test names its promise by `@pytest.mark.reliability("bombs")`. `pytest -m reliability` runs every case of every promise, and
writes the figures to benchmarks/reliability.json. Other runs take a twentieth of the long lists.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError

FIGURES = Path(__file__).parents[1] / "benchmarks" / "reliability.json"
_PART = 20  # a short run takes one of so many inputs
_MEMORY = Path("/proc/self/status")

PROMISES = {
    "pickles": "A pickle is refused wherever a file is read, and no code in it runs.",
    "safetensors-flips": "A safetensors file with a flipped bit is refused, unless the bit is in the text of its card.",
    "onnx-flips": "An ONNX file with a flipped bit is refused, unless the bit is in the text of its card.",
    "cards": "A hostile model card is refused by file and field, or it describes a network that runs.",
    "toml": "A wrong dataset.toml is refused by file and key, or it describes a dataset that can be checked.",
    "bombs": "A small file that claims or unpacks to a large one takes at most 10 s of processor time and 640 MiB.",
    "exif": "Images are upright for each of the 8 EXIF orientations, in 5 formats.",
    "modes": "Pixels of every mode of images and label files are read as documented, or refused.",
    "truncation": "A file cut off at any percent is refused, or read as the whole file.",
    "faults": "`check` finds each planted fault of a dataset, and nothing in the dataset without it.",
    "kill-time": "A training that is killed (SIGKILL) at any time resumes to the same weights as an uninterrupted one.",
    "kill-call": "A file that is being written by a process killed in any system call is the old or the new one, whole.",
    "full-disk": "A full disk is an error in one sentence; old files stay whole, and no partial file stays.",
    "not-finite": "NaN and infinity in an input, loss, gradient, weight or variance stop with an error, and are not saved.",
    "seed": "Training twice with one seed and one number of threads gives the same weights, byte for byte.",
    "processes": "4 processes that write into one folder leave the files that one process leaves.",
    "threads": "8 threads that share one Segmenter get the labels that one thread gets.",
    "soak": "`segment`, `stream` and smoothing grow by less than 1 MB per 1,000 frames.",
    "videos": "A damaged video is refused, or its frames before the damage are read.",
    "server": "The web server answers its own files to localhost only, whatever is sent, and stays up.",
    "import": "`import fastscnn` takes less than 0.3 s and 40 MB.",
}

_T = TypeVar("_T")


def _is_full(config: pytest.Config) -> bool:
    return "reliability" in config.option.markexpr


@dataclass(frozen=True)
class Some:
    """Chooses the inputs of a test: all of them in a run of the reliability suite, otherwise one of twenty."""

    full: bool

    def __call__(self, items: Iterable[_T]) -> list[_T]:
        return list(items)[:: 1 if self.full else _PART]


@pytest.fixture(scope="session")
def some(pytestconfig: pytest.Config) -> Some:
    """Return a function that chooses the inputs of a test; see `Some`."""
    return Some(_is_full(pytestconfig))


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """Return what the FastSCNNError of a call says; None if it raises none."""
    try:
        call(*arguments)
    except FastSCNNError as error:
        return str(error)
    return None


def memory(kind: str = "VmRSS") -> float:
    """Return the memory of this process in MiB: "VmRSS" now, "VmHWM" its peak since `peak_memory` began."""
    if not _MEMORY.exists():
        pytest.skip(f"{_MEMORY} is missing")
    return next(int(line.split()[1]) for line in _MEMORY.read_text().splitlines() if line.startswith(kind)) / 1024


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list that receives the MiB by which the memory of this process rose at most, that of C libraries included."""
    before, found = memory(), list[float]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present value
    try:
        yield found
    finally:
        found.append(memory("VmHWM") - before)


class _Recorder:
    """Collects the figures of each promise; the tests of several processes of pytest-xdist report to one of them."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a test: `record_property("cases", n)` says how many inputs it had; of other properties the largest counts."""
        properties: Mapping[str, Any] = dict(report.user_properties)
        if "promise" not in properties or (report.when != "call" and report.passed):
            return
        name = properties["promise"]
        new = {"promise": PROMISES[name], "cases": 0, "failed": 0, "skipped": 0, "seconds": 0.0, "figures": {}}
        entry = self.figures.setdefault(name, new)
        if report.skipped:
            entry["skipped"] += 1
            return
        entry["cases"] += properties.get("cases", 1)
        entry["failed"] += report.failed
        entry["seconds"] = round(entry["seconds"] + report.duration, 1)
        for what, value in properties.items():
            if what not in ("promise", "cases"):
                entry["figures"][what] = max(value, entry["figures"].get(what, value))

    def pytest_sessionfinish(self) -> None:
        """Replace the figures of the promises that this run checked."""
        kept = json.loads(FIGURES.read_text())["promises"] if FIGURES.exists() else {}
        found = {name: self.figures.get(name, kept.get(name)) for name in PROMISES}
        promises = {name: entry for name, entry in found.items() if entry}
        FIGURES.write_text(json.dumps({"machine": machine.processor(), "python": sys.version.split()[0], "promises": promises},
                                      indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Record the figures of a run that is chosen by its marker alone: with paths or -k, a promise may be tested in part."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if _is_full(config) and whole and not config.option.collectonly and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of a promise its name, which reports carry. Raises KeyError for an unknown promise."""
    for item in items:
        if (mark := item.get_closest_marker("reliability")) is not None:
            (name,) = mark.args
            PROMISES[name]
            item.user_properties.append(("promise", name))
