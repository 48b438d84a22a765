"""What the README tells people to paste works as it stands."""

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
    """The one fenced block of that language which holds `containing`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return str(found)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder with the street.jpg that the README speaks of, and what the commands print goes beside it."""
    images.write(tmp_path / "street.jpg", synthetic.draw(360, 480).image)
    return tmp_path


def test_python(street: Path) -> None:
    subprocess.run([sys.executable, "-c", block("python", "import fastscnn")], cwd=street, check=True, timeout=120)


def test_own_data(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of "Your own data", with the recipe cut down to two steps."""
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
