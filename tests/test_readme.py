"""The commands and code of the README work as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastscnn import cli
from fastscnn.data import datasets, synthetic
from fastscnn.media import images

README = Path(__file__).parents[1] / "README.md"


def block(language: str, containing: str) -> str:
    """Return the one fenced block of that language that contains `containing`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return str(found)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder with the street.jpg of the README; the commands write into it."""
    images.write(tmp_path / "street.jpg", synthetic.draw(360, 480).image)
    return tmp_path


def test_python(street: Path) -> None:
    subprocess.run([sys.executable, "-c", block("python", "import fastscnn")], cwd=street, check=True, timeout=120)


@pytest.mark.slow
def test_own_data(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    """The commands of "Your own data", with a recipe of two steps."""
    monkeypatch.chdir(street)
    Path("dataset.toml").write_text(block("toml", "facade"))
    for seed in range(3):
        drawn = synthetic.draw(96, 128, seed)
        images.write(Path(f"images/train/{seed}.jpg"), drawn.image)
        images.write(Path(f"labels/train/{seed}.png"), (drawn.labels == synthetic.CAR).astype("uint8"))
    assert datasets.load("dataset.toml").label_set.names == ("building", "car")
    commands = [line.split("#")[0].split()[1:] for line in block("sh", "fastscnn check").splitlines()]
    assert [words[0] for words in commands] == ["check", "train", "export", "evaluate", "segment"]
    commands[1] += ["--iterations", "2", "--batch", "2", "--crop", "64x96"]
    assert [cli.main(words) for words in commands] == [0] * 5
    assert Path("segmented/street.overlay.jpg").is_file()


def test_the_examples_of_datasets_load(tmp_path: Path) -> None:
    text = (README.parent / "docs/datasets.md").read_text()
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    examples = [block for block in blocks if "[splits" in block]
    assert len(examples) >= 4
    (tmp_path / "images").mkdir()
    for suffix in ("jpg", "png"):
        images.write(tmp_path / f"images/a.{suffix}", synthetic.draw(96, 128).image)
    for split in ("train", "val"):
        (tmp_path / f"{split}.txt").write_text("images/a.jpg\n")
    for example in examples:
        (tmp_path / "dataset.toml").write_text(example)
        assert datasets.load(tmp_path).splits
