"""The documentation site: its pages, the pages made from code, and the check of its links."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import html_links
import lazy_picture
import pytest
import reference
import staging

import fastscnn
from fastscnn import cli
from fastscnn.data import toml
from fastscnn.data.toml_labels import FORMATS
from fastscnn.training import recipes

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "website" / "build_site.py"
GENERATED = {f"reference/{name}.md" for name in ("api", "cli", "dataset-toml")}


def pages_of(entries: list[Any]) -> Iterator[str]:
    """The pages of a navigation, in their order."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [value] if isinstance(value, str) else pages_of(value)


def slug(heading: str) -> str:
    """The name that code hosts give to the place of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def places(page: Path) -> set[str]:
    text = re.sub(r"^(`{3,}).*?^\1`*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages that the site is built from, without the generated ones."""
    folder = tmp_path_factory.mktemp("pages")
    staging.stage(folder)
    return folder


def test_every_page_is_in_the_navigation_once(pages: Path) -> None:
    navigation = list(pages_of(tomllib.loads((ROOT / "website/zensical.toml").read_text())["project"]["nav"]))
    assert len(set(navigation)) == len(navigation)
    own = {"index.md", "examples/index.md", *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))}
    assert own - set(navigation) == set()
    assert [page for page in navigation if not (pages / page).is_file() and page not in GENERATED] == []


def test_links_of_the_repository_lead_to_a_place() -> None:
    dead = []
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]:
        list(staging.links(page))  # raises for a missing file
        for target, place in re.findall(r"\]\((?!\w+:)([^)\s#]*)#([^)\s]+)\)", page.read_text()):
            if place not in places(page.parent / target if target else page):
                dead.append(f"{page.name}: {target}#{place}")
    assert dead == []


def test_staged_pages_link_to_staged_files(pages: Path) -> None:
    linked = [(page, path) for page in pages.rglob("*.md") for path in staging.links(page, pages)]
    assert len(linked) > 100
    assert [path for _, path in linked if path.suffix in ("", ".py", ".toml", ".json")] == []  # these are pages, too
    code = (pages / "tests/test_architecture.py.md").read_text()
    assert (ROOT / "tests/test_architecture.py").read_text().strip() in code
    assert "](client.py.md)" in (pages / "examples/serve/index.md").read_text()


def test_a_readme_is_the_page_of_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name, text in {
        "README.md": "[a](docs/a.md#b) [code](x/) ![shot](docs/s.png)\n```sh\n[kept](no.md)\n```\n", "docs/a.md": "# b\n",
        "docs/s.png": "", "x/README.md": "[up](..)", "x/one.py": "````\n", "website/site.css": "",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    staged = staging.stage(tmp_path / "out", root)
    assert {path.as_posix() for path in staged} == {"README.md", "docs/a.md", "docs/s.png", "x", "x/README.md", ".",
                                                    "website/site.css"}
    text = (tmp_path / "out/index.md").read_text()
    assert text == "[a](docs/a.md#b) [code](x/index.md) ![shot](docs/s.png)\n```sh\n[kept](no.md)\n```\n"
    assert (tmp_path / "out/x/index.md").read_text() == "[up](../index.md)"


def test_hidden_files_have_visible_pages(tmp_path: Path) -> None:
    root = tmp_path / "root"
    texts = {"README.md": "[run](.ci/run), [guide](.hub/guide.md)", ".ci/run": "echo", ".hub/guide.md": "[run](../.ci/run)",
             "website/site.css": ""}  # fmt: skip
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    staging.stage(tmp_path / "out", root)
    assert (tmp_path / "out/index.md").read_text() == "[run](dot.ci/run.md), [guide](dot.hub/guide.md)"
    assert (tmp_path / "out/dot.hub/guide.md").read_text() == "[run](../dot.ci/run.md)"
    assert "echo" in (tmp_path / "out/dot.ci/run.md").read_text()


@pytest.mark.parametrize("target", ["missing.md", "../outside.md"])
def test_a_dead_link_is_named(target: str, tmp_path: Path) -> None:
    (tmp_path / "outside.md").touch()
    root = tmp_path / "repository"
    (root / "website").mkdir(parents=True)
    (root / "website/site.css").touch()
    (root / "README.md").write_text(f"A [link]({target}).\n")
    with pytest.raises(staging.DeadLinkError, match=rf"^README\.md: links to {re.escape(target)}, which is no file"):
        staging.stage(tmp_path / "out", root)


def test_the_api_is_complete() -> None:
    pytest.importorskip("torch")
    documented = {name for names in reference.API.values() for name in names}
    assert set(fastscnn.__all__) - documented == {"__version__"}
    for name in documented - set(fastscnn.__all__):
        module, _, found = name.rpartition(".")
        assert getattr(import_module(f"fastscnn.{module}"), found).__doc__


def test_examples_are_sections_of_their_docstring() -> None:
    """mkdocstrings knows "Examples:"; what follows "Example:" would be shown as a quotation."""
    assert [path.name for path in ROOT.glob("src/**/*.py") if re.search(r"^ *Example:$", path.read_text(), re.MULTILINE)] == []


def test_the_command_line_has_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    named = {"layout": "from", "license_id": "license"}  # parameters whose option has another name
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", reference.command_line(), re.MULTILINE | re.DOTALL))
    assert list(sections) == list(cli.VERBS)
    for verb, text in sections.items():
        module = import_module(f"fastscnn.cli.{verb.replace('-', '_')}")
        if verb in ("train", "tune"):
            run = module.for_recipe(recipes.named(reference.RECIPE))
        else:
            run = getattr(module, next(iter(module.COMMANDS))) if hasattr(module, "COMMANDS") else module.run
        options = [named.get(name, name).replace("_", "-") for name, one in inspect.signature(run).parameters.items()
                   if one.kind is one.KEYWORD_ONLY and name != "recipe"]
        assert options
        assert [name for name in options if f" --{name}" not in text] == [], verb


def test_the_documented_keys_of_dataset_toml_are_those_that_are_read() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", toml.__doc__ or "", re.MULTILINE | re.DOTALL)
    (example,) = (tomllib.loads(block) for block in blocks)
    assert set(example) == set(toml.KEYS)
    assert {key for split in example["splits"].values() for key in split} == set(toml.SPLIT_KEYS)
    assert set(example["soft"]) == set(toml.SOFT_KEYS)
    described = (toml.__doc__ or "").partition("`labels_are`:")[2]
    assert set(re.findall(r'"([a-z-]+)"', "".join(re.findall(r"^\| (.*?) \|", described, re.MULTILINE)))) == set(FORMATS)
    assert [key for form in FORMATS.values() for key in form.keys if not re.search(rf"\b{key}\b", described)] == []
    page = reference.dataset_toml()
    assert [key for key in (*toml.KEYS, *toml.SPLIT_KEYS, *toml.SOFT_KEYS) if f"`{key}`" not in page] == []


def test_the_picture_is_drawn_by_the_code_that_it_explains() -> None:
    assert lazy_picture.PICTURE.read_text() == lazy_picture.picture()


def test_faults_of_a_built_site(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b/#here"></a><a href="b/index.html#gone"></a><a href="c.html"></a><a href="#x"></a>'
        '<script src="https://cdn.example/x.js"></script><link rel="canonical" href="https://x.y/">'
        '<a href="https://example.com"></a><img src="data:image/png;base64,"><img src="i%20j.png">'
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b/index.html").write_text('<h1 id="here">b</h1><a href="../a.html"></a>')
    assert list(html_links.faults(tmp_path)) == [
        "a.html: links to #x, but a.html has no such place.",
        "a.html: links to b/index.html#gone, but b/index.html has no such place.",
        "a.html: links to c.html, which is no file of the site.",
        "a.html: loads https://cdn.example/x.js; add it to the site, or leave it out.",
        "a.html: links to i%20j.png, which is no file of the site.",
    ]


def test_without_the_extra_the_error_names_the_fix(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-S", BUILD, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "zensical" in done.stderr
    assert "pip install '.[docs]'" in done.stderr
    assert "\n" not in done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("zensical") and find_spec("mkdocstrings")), reason="the extra docs is not installed")
def test_the_site_is_built_without_a_fault(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, BUILD, tmp_path], env=environment, capture_output=True, text=True, check=False,
                          timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "html/reference/api.html").read_text()
    assert 'id="fastscnn.Segmenter.segment"' in text
