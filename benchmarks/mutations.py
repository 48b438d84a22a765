"""Small wrong changes that matter, and the tests that must fail for each.

Some are of what protects a user from hostile files, others of numbers and conditions that a result depends on.

    python benchmarks/mutations.py

Each change is made in a copy of the checkout. The exit code is 1 if the tests pass with a change, or fail without one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutation:
    """A wrong change: in `file`, `old` becomes `new`; `tests` are arguments of pytest, for tests that must then fail."""

    file: str
    old: str
    new: str
    tests: str


_CONVERT = "tests/test_convert.py -k"
MUTATIONS = (
    Mutation("data/formats/matlab.py", "if size > most:", "if size > 10 * most:", "tests/test_matlab.py"),
    Mutation("data/formats/matlab.py", "if kind not in _TYPES:", "if kind not in _TYPES and kind < 20:",
             "tests/test_matlab.py"),
    Mutation("data/toml_table.py", "-1 << 63 <= value < 1 << 63", "-1 << 63 <= value", "tests/test_datasets.py"),
    Mutation("convert/pickles.py", 'raise _RefusedError(f"{module}.{name}")', "return super().find_class(module, name)",
             f"{_CONVERT} code_is_refused"),
    Mutation("convert/pickles.py", '_SAFE = "2.10"', '_SAFE = "2.1"', f"{_CONVERT} unsafe_pytorch"),
    Mutation("convert/pickle_limits.py", "_DEEPEST = 100 ", "_DEEPEST = 1_000_000 ", f"{_CONVERT} nested_too_deep"),
    Mutation("convert/pickle_limits.py", "if place > self._count:", "if place < 0:", f"{_CONVERT} fill_the_memory"),
    Mutation("convert/pickle_limits.py", "return written.getvalue()", "return data", f"{_CONVERT} second_table"),
    Mutation("network/checkpoint.py", "if sha256 != digest(tensors):", "if not sha256:",
             "tests/test_checkpoint.py -k every_tensor_counts"),
    Mutation("backends/onnx.py", 'folder_path", os.devnull)', 'folder_path", os.curdir)',
             "tests/test_onnx_backend.py -k opens_no_other_file"),
    Mutation("model/onnx_graph.py", "if tag == _EXTERNAL_DATA or (", "if tag == _EXTERNAL_DATA and (",
             "tests/test_onnx_graph.py -k weights_in_other_files"),
    Mutation("media/decoding.py", "if width * height > max_pixels:", "if width > max_pixels:",
             "tests/test_images.py -k large_images_are_refused"),
    Mutation("data/formats/cvat.py", 'if "<!DOCTYPE" in content:', 'if "<!ELEMENT" in content:',
             "tests/test_formats_cvat.py -k broken_files"),
    Mutation("data/soft.py", "allow_pickle=False", "allow_pickle=True", "tests/test_distillation.py -k pickle"),
    Mutation("web/server.py", "not in _HOSTS:", 'not in (*_HOSTS, None):',
             "tests/test_web.py -k what_the_server_refuses"),
    Mutation("training/run_lock.py", "        _acquire(lock, path, on_message)\n", "",
             "tests/test_train.py -k one_training_at_a_time"),
    Mutation("convert/pickles.py", '"__builtin__.bytes": _no_bytes,',
             '"__builtin__.bytes": _no_bytes, "__builtin__.getattr": getattr, "builtins.getattr": getattr,',
             f"{_CONVERT} gets_no_attributes"),
    Mutation("convert/pickles.py", "if torch.__version__ < _SAFE:", "if torch.__version__ <= _SAFE:",
             f"{_CONVERT} unsafe_pytorch"),
    Mutation("convert/pickles.py", "if torch.__version__ < _SAFE:", "if False:", f"{_CONVERT} unsafe_pytorch"),
    Mutation("backends/select.py", "count = machine.threads() if", "count = 2 * machine.threads() if",
             "tests/test_onnx_backend.py -k all_threads"),
    Mutation("base/machine.py", "return max(1, min([affinity,", "return 2 * max(1, min([affinity,",
             "tests/test_machine.py -k threads"),
    Mutation("model/card.py", '["miou"] <= MAX_MIOU_LOSS', '["miou"] < MAX_MIOU_LOSS', "tests/test_card.py -k half_a_point"),
    Mutation("backends/openvino.py", "_OFTEN = 8 ", "_OFTEN = 9 ", "tests/test_openvino_backend.py -k what_is_compiled"),
    Mutation("backends/openvino.py", "_OFTEN = 8 ", "_OFTEN = 7 ", "tests/test_openvino_backend.py -k what_is_compiled"),
    *(Mutation("benchmark/latency_budget.py", f"{fact},", "", "tests/test_latency_budget.py -k measured_again")
      for fact in ("files.digest(weights)", "backend.name", "backend.precision", "backend.threads", "backend.streams",
                   "backend.device", "backend.hardware()", "machine.processor()", "machine.threads()", "__version__")),
    Mutation("evaluation/calibrate.py", "_KNOWN = 0.05 ", "_KNOWN = 0.06 ", "tests/test_calibrate.py -k one_pixel_in_twenty"),
    *(Mutation("backends/cuda/streams.py", wait, "pass", "tests/test_cuda.py -k each_stream_waits")
      for wait in ("self.wait()", "stream.wait_event(done)", "self.done.synchronize()")),
)


def main() -> int:
    """Try the mutations, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check that tests catch wrong changes.")
    parser.add_argument("numbers", nargs="*", type=int, help="Mutations to try, from 1 (default: all).")
    numbers = parser.parse_args().numbers or range(1, len(MUTATIONS) + 1)
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        copied(Path(name))
        for number in numbers:
            mutation = MUTATIONS[number - 1]
            verdict = _verdict(Path(name), mutation)
            missed += verdict != "caught"
            print(f"{number:2} {verdict:13} {mutation.file}: {mutation.old.strip()} -> {mutation.new or 'nothing'}", flush=True)
    print(f"{len(numbers) - missed} of {len(numbers)} caught.")
    return int(missed > 0)


def _verdict(project: Path, mutation: Mutation) -> str:
    path = project / "src" / "fastscnn" / mutation.file
    before = path.read_text("utf-8")
    if before.count(mutation.old) != 1:
        return "not there"
    if not _sound(project, mutation.tests):
        return "fails already"
    path.write_text(before.replace(mutation.old, mutation.new), "utf-8")
    caught = not _pass(project, mutation.tests)
    path.write_text(before, "utf-8")
    return "caught" if caught else "MISSED"


def copied(folder: Path) -> None:
    """Copy what the tests need into a folder."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for file in (".gitignore", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)


@cache
def _sound(project: Path, tests: str) -> bool:
    """Return whether the tests pass without a change."""
    return _pass(project, tests)


def _pass(project: Path, tests: str) -> bool:
    """Return whether the tests pass; a crash of the interpreter is a failure."""
    command = f"{sys.executable} -m pytest -q -x -n 0 -m '' -p no:cacheprovider {tests}"
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, shell=True, cwd=project, env=environment, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
