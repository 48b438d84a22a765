"""The files of the project name what exists: chores, scripts, files, versions of Python, releases."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import conftest
import pytest

from fastscnn.version import __version__

ROOT = Path(__file__).parents[1]
if not (ROOT / ".github").is_dir():
    pytest.skip("needs a checkout: an sdist has no workflows", allow_module_level=True)

yaml = pytest.importorskip("yaml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CHORES = PROJECT["tool"]["poe"]["tasks"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = [path for path in sorted((ROOT / ".ci").iterdir()) if path.is_file()]
TEXTS = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "RELEASING", "SECURITY", "README", "CODE_OF_CONDUCT")]
TEXTS += sorted((ROOT / ".github").rglob("*.md"))
NAMING = [*TEXTS, *WORKFLOWS, *SCRIPTS]
NAMING += [ROOT / name for name in ("pyproject.toml", ".pre-commit-config.yaml", ".github/dependabot.yml")]
# Heading of CONTRIBUTING.md -> the name of its example, and what a module of the package that knows the example contains.
GUIDES = {
    "Add a dataset format": ("cvat", "cvat"),
    "Add a backend": ("openvino", '"openvino"'),
    "Add an export target": ("ncnn", "ncnn"),
    "Add a recipe": ("eventscape", 'name="eventscape"'),
}
# An export target and a dataset of the same names.
OTHERS = {"src/fastscnn/exporting/targets/openvino.py", "src/fastscnn/data/builtin/eventscape.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def section(heading: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def links(text: str) -> list[str]:
    """The files that Markdown links to."""
    return [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]


def locked_chores() -> Iterator[str]:
    """The chores that workflows pass to `.ci/run`, and its own."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            for step in job.get("steps", ()):
                for given in re.findall(r"\.ci/run \$\{\{ matrix\.(\w+) \}\}", step.get("run", "")):
                    for chores in job["strategy"]["matrix"][given]:
                        yield from chores.split()
    found = re.search(r"chores=\(([a-z -]+)\)", (ROOT / ".ci/run").read_text("utf-8"))
    assert found
    yield from found[1].split()


@pytest.mark.parametrize("path", NAMING, ids=relative)
def test_chores_and_scripts_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    assert set(re.findall(r"\bpoe ([a-z][a-z-]*)", text)) <= set(CHORES)
    for name in re.findall(r"(?<![\w/])\.ci/([a-z]+)\b", text):
        script = ROOT / ".ci" / name
        assert name == "venv" or script.is_file(), name
        assert name == "venv" or sys.platform == "win32" or os.access(script, os.X_OK), name


def test_chores_of_ci_exist() -> None:
    found = set(locked_chores())
    assert {"lint", "types", "tests-all", "tests-long"} <= found <= set(CHORES)


def test_contributing_lists_every_chore() -> None:
    assert re.findall(r"^\| `poe ([a-z-]+)` \|", section("Chores"), re.MULTILINE) == list(CHORES)


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_named_files_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    missing = [link for link in links(text) if not (path.parent / link).exists()]
    named = re.findall(r"`((?:src|tests|docs|benchmarks|examples|\.github)/[\w./-]*)`", text)
    assert missing + [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("heading", GUIDES)
def test_a_guide_lists_the_files_of_its_example(heading: str) -> None:
    """Every module of the package that knows the example, and no file that does not."""
    name, mark = GUIDES[heading]
    rows = [line.split(" | ")[0] for line in section(heading).splitlines() if line.startswith("| [")]
    listed = links("\n".join(rows))
    assert [path for path in listed if name not in (ROOT / path).read_text("utf-8").lower()] == []
    modules = {relative(path) for path in (ROOT / "src").rglob("*.py") if mark in path.read_text("utf-8").lower()}
    assert {path for path in listed if path.startswith("src/")} == modules - OTHERS


def test_the_versions_of_python_are_those_of_the_classifiers() -> None:
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    stated = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert matrix["python"] == stated
    assert {job["python"] for job in matrix["include"]} <= set(stated)
    assert PROJECT["project"]["requires-python"] == f">={stated[0]}"


def test_the_extra_dev_has_all_extras() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (own,) = (each for each in extras["dev"] if each.startswith("fastscnn["))
    assert own == f"fastscnn[{','.join(sorted(extras.keys() - {'dev'}))}]"


def test_releases() -> None:
    """The first version of the changelog is that of the code; the newest one with a date is cited."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    releases = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)", heading) for heading in headings]
    assert releases[0]
    assert releases[0][1] == __version__
    dated = [release.groups() for release in releases if release and release[2] != "unreleased"]
    assert len(dated) >= len(releases) - 1
    cited: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (cited["version"], cited["date-released"]) == dated[0]


@pytest.mark.parametrize(("arguments", "alone"), [
    (["tests"], False), (["tests/test_card.py"], True), (["tests/test_card.py::a", "tests/test_card.py::b"], True),
    (["tests/test_card.py", "tests/test_cli.py"], False), (["tests/made"], False),
])  # fmt: skip
def test_tests_of_one_file_run_in_this_process(arguments: list[str], alone: bool) -> None:
    config: Any = SimpleNamespace(args=[str(ROOT / argument) for argument in arguments])
    assert (conftest.pytest_xdist_auto_num_workers(config) == 0) == alone
