"""Random wrong changes of the core, made by Cosmic Ray, and whether the tests of each module catch them.

    pip install cosmic-ray==8.7.0
    python benchmarks/random_mutants.py --out benchmarks/random_mutants.json

A sample of places is drawn for each group of modules, and one change for each place. Annotations are left out: they are not
evaluated. Each change is made in a copy of the checkout. If one survives, a test is missing, or it is equivalent: nobody can
see it, for a reason in `EQUIVALENT`. The exit code is 1 if one survives without a reason.
Each run of the tests is a fork of this process, which has imported what takes long; so Windows cannot run this.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import groupby, islice
from multiprocessing import get_context
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec
from mutations import copied

_PYTEST = ("-q", "-x", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", "-W", "ignore:Module already imported")
_SECONDS = 600  # limit for the tests of one change; one that takes longer counts as killed
_SLOW_IMPORTS = ("cv2", "hypothesis", "numpy", "onnx", "onnxruntime", "safetensors", "torch", "tyro")


@dataclass(frozen=True)
class Group:
    """Modules to change, below `src/fastscnn`, and the files of tests, below `tests`, that must then fail."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "model": Group(
        ("model/architecture.py", "network/fast_scnn.py", "network/fuse.py"),
        ("test_network.py", "test_checkpoint.py", "test_convert.py", "test_cuda.py"),
    ),
    "upsampling": Group(("upsampling/upsample.py", "upsampling/native.py"), ("test_upsample.py", "test_kernel.py")),
    "card": Group(
        ("model/card.py", "model/card_fields.py", "model/label_set.py"),
        ("test_card.py", "test_labels.py", "test_accuracy_loss.py"),
    ),
    "data": Group(
        ("data/spec.py", "data/toml.py", "data/toml_labels.py", "data/toml_table.py", "data/lists.py", "data/patterns.py",
         "data/class_map.py", "data/formats/ids.py", "data/formats/colours.py"),
        ("test_datasets.py", "test_label_formats.py", "test_lists.py", "test_round_trip.py",
         "test_mixture.py", "test_distillation.py"),
    ),
}  # fmt: skip


EQUIVALENT = {  # module and changed line -> why no test can see the change
    "data/formats/ids.py if len(colours) is not len(used) or any(colour not in trained for colour in colours):":
        "there are never more colours than used indices, and small numbers are one object",
    "data/lists.py @dataclass(frozen=False)": "nothing sets the attributes of a list",
    "model/card_fields.py limits = [f\"above {above:g}\"] * (above > -inf) + [f\"at least {least:g}\"] * (least != -inf)":
        "no number is below -inf",
    "model/label_set.py rgb = colorsys.hsv_to_rgb(index * -0.381966 % 1, 0.75, (0.95, 0.65)[index % 2])":
        "the same hues: the factors differ by 1",
    "network/fast_scnn.py conv.weight[:, -1, 1, 1] += scale": "the kernel of a depthwise convolution has one input channel",
    "network/fast_scnn.py def _dsconv(inputs: int, outputs: int, *, stride: int = 1, relu: bool = True) -> nn.Sequential:":
        "all calls name it",
    "network/fast_scnn.py layers = [Stem(inputs, outputs, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=False)]":
        "the same values in more memory",
    "network/fast_scnn.py step = self.stride[ 1]": "both strides are equal",
    "network/fast_scnn.py padding = dilation * (KERNEL // 3)": "1, as with 2: the kernel has three rows and columns",
    "network/fast_scnn.py def _dsconv(inputs: int, outputs: int, /, stride: int = 1, relu: bool = False) -> nn.Sequential:":
        "all calls give the first two by position and the others by name",
    "upsampling/native.py parts = threads * _STRIPS if threads > 0 else 1":
        "one thread computes four parts instead of one; the labels are the same",
    "upsampling/upsample.py step = max(1, _BLOCK // (tall.shape[ 0] * wide.shape[1]))":
        "other blocks of rows, each computed by itself",
    "upsampling/upsample.py _WIDE_BLOCK = 1 ^ 18": "other blocks of rows, each computed by itself; it is only slower",
    "upsampling/upsample.py @lru_cache(maxsize= 17)": "a cache with one more place; the results are the same",
}


@dataclass(frozen=True)
class Mutant:
    """A wrong change of a line of a module, and its outcome: "killed", "timeout" (of the tests), "equivalent" or "survived"."""

    group: str
    module: str
    line: int
    operator: str
    before: str
    after: str
    outcome: str


def main() -> int:
    """Try the mutants, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check that tests catch random wrong changes.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (default: all).")
    parser.add_argument("--sample", type=int, default=30, help="Mutants of each group.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the sample.")
    parser.add_argument("--lines", nargs="*", help="Only the mutants of the sample in these lines, as MODULE:LINE.")
    parser.add_argument("--out", type=Path, help="JSON file of the results.")
    options = parser.parse_args()
    results: list[Mutant] = []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        copied(Path(name))
        sys.path.insert(0, str(Path(name, "src")))
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": sys.path[0], "PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "1",
                       "OMP_NUM_THREADS": "1"}  # one thread is fast enough, and is not slowed down by other programs
        for module in _SLOW_IMPORTS:
            import_module(module)
        for group in options.groups or GROUPS:
            for mutant in _tried(group, options.sample, options.seed, options.lines):
                results.append(mutant)
                print(f"{mutant.outcome:11}{mutant.module}:{mutant.line} {mutant.operator}", flush=True)
                if mutant.outcome == "survived":
                    print(f"    - {mutant.before}\n    + {mutant.after}", flush=True)
    for group, found in groupby(results, key=lambda mutant: mutant.group):
        print(group, *(f"{count} {outcome}" for outcome, count in Counter(mutant.outcome for mutant in found).items()))
    if options.out:
        options.out.write_text(json.dumps([asdict(mutant) for mutant in results], indent=1) + "\n", "utf-8")
    return int(any(mutant.outcome == "survived" for mutant in results))


def _tried(name: str, count: int, seed: int, lines: Sequence[str] | None) -> Iterator[Mutant]:
    """Yield the mutants of a group with their outcomes; the current folder is the copy of the checkout."""
    group = GROUPS[name]
    tests = [f"tests/{test}" for test in group.tests]
    if _outcome(tests) != "survived":
        raise SystemExit(f"{name}: its tests fail without a change.")
    for spec in _sample([Path("src/fastscnn", module) for module in group.modules], count, seed):
        module = spec.module_path.relative_to("src/fastscnn").as_posix()
        if lines and f"{module}:{spec.start_pos[0]}" not in lines:
            continue
        with use_mutation(spec.module_path, get_operator(spec.operator_name)(), spec.occurrence) as (code, wrong):
            before, after = (_line(text, spec.start_pos[0]) for text in (code, wrong))
            outcome = "equivalent" if f"{module} {after}" in EQUIVALENT else _outcome(tests)
            yield Mutant(name, module, spec.start_pos[0], spec.operator_name.removeprefix("core/"), before, after, outcome)


def _line(text: str, number: int) -> str:
    """Return a line without its comment and indentation."""
    return " ".join(text.splitlines()[number - 1].partition("  #")[0].split())


def _outcome(tests: Sequence[str]) -> str:
    """Return "survived" if the tests pass, else "killed", or "timeout"."""
    run = get_context("fork").Process(target=_run, args=(tests,))
    run.start()
    run.join(_SECONDS)
    if run.exitcode is None:
        assert run.pid
        os.killpg(run.pid, signal.SIGKILL)
        run.join()
        return "timeout"
    return "killed" if run.exitcode else "survived"


def _run(tests: Sequence[str]) -> None:
    os.setsid()  # a group of its own, so that programs that it starts can be stopped with it
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    sys.exit(pytest.main([*_PYTEST, *tests]))


def _sample(modules: Sequence[Path], count: int, seed: int) -> list[MutationSpec]:
    """Return mutants at random places. Each place counts once, however many operators can change it."""
    drawn = random.Random(seed)
    places: defaultdict[tuple[Path, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    with use_db(":memory:") as session:
        init(modules, session, {})
        for item in session.work_items:
            spec, = item.mutations
            places[spec.module_path, spec.start_pos].append(spec)
    left_out = {(module, place) for module in modules for place in _annotations(module)}
    kept = sorted(place for place in places if place not in left_out)
    drawn.shuffle(kept)
    each = (drawn.choice(sorted(places[place], key=lambda spec: (spec.operator_name, spec.occurrence))) for place in kept)
    return sorted(islice(filter(_compiles, each), count), key=lambda spec: (spec.module_path, spec.start_pos))


def _compiles(spec: MutationSpec) -> bool:
    """Return whether a mutant is valid Python: Cosmic Ray takes some asterisks for products."""
    code = mutate_code(spec.module_path.read_text("utf-8"), get_operator(spec.operator_name)(), spec.occurrence)
    try:
        compile(code, spec.module_path, "exec")
    except SyntaxError:
        return False
    return True


def _annotations(module: Path) -> Iterator[tuple[int, int]]:
    """Yield the places (line, column) in the annotations of a module."""
    text = module.read_text("utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                for line in range(part.lineno, (part.end_lineno or part.lineno) + 1):
                    start = part.col_offset if line == part.lineno else 0
                    end = part.end_col_offset if line == part.end_lineno else len(lines[line - 1])
                    yield from ((line, column) for column in range(start, end or 0))


if __name__ == "__main__":
    sys.exit(main())
