"""Small wrong changes of what protects a user from hostile files, and the tests that must fail for each.

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
    Mutation("web/server.py", ".lower() not in _HOSTS:", '.lower() not in (*_HOSTS, ""):',
             "tests/test_web.py -k what_the_server_refuses"),
    Mutation("training/run_lock.py", "        _acquire(lock, path, on_message)\n", "",
             "tests/test_train.py -k one_training_at_a_time"),
)


def main() -> int:
    """Try the mutations, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check that tests catch wrong changes.")
    parser.add_argument("numbers", nargs="*", type=int, help="Mutations to try, from 1 (default: all).")
    numbers = parser.parse_args().numbers or range(1, len(MUTATIONS) + 1)
    missed = 0
    for number in numbers:
        mutation = MUTATIONS[number - 1]
        verdict = _verdict(mutation)
        missed += verdict != "caught"
        print(f"{number:2} {verdict:10} {mutation.file}: {mutation.old.strip()} -> {mutation.new or 'nothing'}", flush=True)
    print(f"{len(numbers) - missed} of {len(numbers)} caught.")
    return int(missed > 0)


def _verdict(mutation: Mutation) -> str:
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "project")
        shutil.copytree(ROOT / "src", copy / "src")
        shutil.copytree(ROOT / "tests", copy / "tests")
        for file in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, copy)
        path = copy / "src" / "fastscnn" / mutation.file
        before = path.read_text("utf-8")
        if before.count(mutation.old) != 1:
            return "not there"
        if not _pass(copy, mutation.tests):
            return "fails already"
        path.write_text(before.replace(mutation.old, mutation.new), "utf-8")
        return "MISSED" if _pass(copy, mutation.tests) else "caught"


def _pass(project: Path, tests: str) -> bool:
    """Return whether the tests pass; a crash of the interpreter is a failure."""
    command = f"{sys.executable} -m pytest -q -x -m '' -p no:cacheprovider {tests}"
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, shell=True, cwd=project, env=environment, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
