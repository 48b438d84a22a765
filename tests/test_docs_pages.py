"""Code in README and docs/: the commands and programs of the short pages run; every command of every page is a valid call."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from made.dataset import write_scenes

from fastscnn import cli
from fastscnn.cli import cluster, dataset
from fastscnn.data import synthetic
from fastscnn.media import images

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
# Lines that need a camera, a stream or the network of a package index.
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/fastscnn demo",
    "fastscnn segment --camera 0 --preview",
    "fastscnn segment rtsp://camera.local/stream --out stream.mp4",
}
# Options that make a training short, in place of those of a page or beside them.
SHORT = {"--iterations": "2", "--batch": "2", "--crop": "64x96", "--size": "64x96"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def lines(block: str) -> list[str]:
    """The commands of a block, without comments."""
    joined = re.sub(r" *\\\n *", " ", block)
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()) if line]


def calls(page: Path) -> list[list[str]]:
    """The words after `fastscnn` of each command of a page."""
    found = [line for language, block in blocks(page) if language in ("", "sh") for line in lines(block)]
    words = [[word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)] for line in found]
    return [line[1:] for line in words if line[:1] == ["fastscnn"]]


def stub(run: Callable[..., int]) -> Callable[..., int]:
    """A function with the options of a command that does nothing."""

    @functools.wraps(run)
    def nothing(*_: Any, **__: Any) -> int:
        return 0

    return nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_a_valid_call(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.VERBS:
        module = import_module(f"fastscnn.cli.{verb.replace('-', '_')}")
        if hasattr(module, "run"):
            monkeypatch.setattr(module, "run", stub(module.run))
    for module, name in ((dataset, "init"), (dataset, "shards"), (cluster, "segment")):
        monkeypatch.setattr(module, name, stub(getattr(module, name)))
    for verb in ("train", "tune"):
        module = import_module(f"fastscnn.cli.{verb}")
        monkeypatch.setattr(module, "for_recipe", lambda recipe, made=module.for_recipe: stub(made(recipe)))
    for words in calls(page):
        if "--config" not in words:  # whose file is read first
            assert cli.main(words) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_can_be_parsed(page: Path) -> None:
    parsers: dict[str, Callable[[str], object]] = {"python": ast.parse, "toml": tomllib.loads}
    for language, block in blocks(page):
        parsers.get(language, str)(block)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a picture, a dataset and, if the extra train is installed, the run of a training."""
    monkeypatch.chdir(tmp_path)
    images.write(Path("street.jpg"), synthetic.draw(360, 480).image)
    write_scenes(tmp_path, "scenes", train=4, val=2)
    return tmp_path


def shortened(words: Sequence[str]) -> list[str]:
    """The words of a command, with the options of a short training; the young network is no measure of what int8 costs."""
    short = SHORT if words[0] == "train" else {"--max-iou-loss": "100"} if "--max-iou-loss" in words else {}
    kept = [word for before, word in pairwise(["", *words]) if word not in short and before not in short]
    return [*kept, *(word for option in short.items() for word in option)]


def run(page: str) -> list[str]:
    """Run the blocks of a page in their order; return what the programs print."""
    printed = []
    for language, block in blocks(ROOT / "docs" / page):
        if language == "sh":
            for line in lines(block):
                if line not in NOT_RUN:
                    words = shlex.split(line)
                    assert words[0] == "fastscnn", line
                    assert cli.main(shortened(words[1:])) == 0, line
        elif language == "python":
            program = block.replace('train("camvid"', 'train("debug"')
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
    return printed


def test_start(home: Path) -> None:
    from_files, from_python = run("start.md")
    assert "Road" in from_files
    assert "'Road': " in from_python
    assert {path.name for path in Path("labelled").iterdir()} == {
        f"street.{kind}" for kind in ("labels.png", "overlay.jpg", "confidence.png", "ood.png")
    }
    install = lines(next(block for language, block in blocks(ROOT / "docs/start.md") if language == "sh"))
    assert install == lines(next(block for language, block in blocks(ROOT / "README.md") if language == "sh"))


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("av"), reason="the extra video is not installed")
def test_video(home: Path) -> None:
    for number in range(3):
        images.write(Path(f"drive/{number}.jpg"), synthetic.draw(96, 128, number).image)
    assert cli.main(["segment", "drive", "--out", "drive.mp4"]) == 0
    (printed,) = run("video.md")
    assert printed.count("Segmentation(") == 3
    assert Path("drive.overlay.mp4").is_file()
    assert len(list(Path("frames").iterdir())) == 3


def test_card_and_lazy_labels(home: Path) -> None:
    (printed,) = run("card.md")
    assert "(360, 480)" in printed
    assert run("lazy-labels.md") == [""]


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("torch"), reason="the extra train is not installed")
def test_learning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (miou,) = run("fine-tune.md")
    assert 0 <= float(miou) <= 100
    scores = run("evaluate.md")[0].split("\n", 1)
    assert 0 <= float(scores[0]) <= 100
    assert [line.split(" ")[0] for line in scores[1].splitlines()] == list(synthetic.CLASSES)
    assert Path("report/index.html").is_file()
    (losses,) = run("gates.md")
    assert "limit: 0.5 points" in losses
    assert Path("int8.onnx").is_file()


def test_the_annotation_writer_of_datasets(home: Path) -> None:
    (program,) = (block for language, block in blocks(ROOT / "docs/datasets.md") if "AnnotationWriter" in block)
    given = "import fastscnn\nsegmenter, paths = fastscnn.Segmenter.load(), ['street.jpg']\n"
    subprocess.run([sys.executable, "-c", given + program], check=True, timeout=120)
    assert "Road" in next(Path("results").glob("*.json")).read_text()
