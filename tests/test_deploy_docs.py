"""A network of two classes of one's own, taken to every target by the commands and programs of docs/deploy.md as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made.dataset import write_scenes
from PIL import Image

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.exporting.targets import TARGETS
from fastscnn.media import images

ROOT = Path(__file__).parents[1]
SECTIONS = (ROOT / "docs/deploy.md").read_text().split("\n## ")
# The programs of examples/, by the heading under which a command writes their file.
PROGRAMS = {
    "ONNX Runtime": ["label_image.py", "labels.onnx", "street.jpg", "labels.png"],
    "LiteRT (TensorFlow Lite)": ["label_image_litert.py", "labels.tflite", "street.jpg", "labels.png"],
    "ncnn": ["label_image_ncnn.py", "model.param", "360x480", "street.jpg", "labels.png"],
}


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def exports(section: str) -> list[list[str]]:
    """The words of each `fastscnn export` of a section."""
    lines = "".join(blocks(section, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("fastscnn export ")]


def heading(section: str) -> str:
    return section.splitlines()[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of two classes, the run of a training, and a picture."""
    home = tmp_path_factory.mktemp("home")
    write_scenes(home, "mine", train=4, val=2, classes=["road", "other"],
                 labels=lambda labels: (labels != synthetic.CLASSES.index("Road")).astype(np.uint8))
    images.write(home / "street.jpg", synthetic.draw(360, 480, seed=7).image)
    words = ["--iterations", "40", "--validation", "none", "--quiet"]  # enough to see both classes
    assert cli.main(["train", "debug", str(home / "dataset.toml"), "--out", str(home / "run"), *words]) == 0
    return home


def run(home: Path, command: Sequence[str | Path]) -> str:
    """Run a program in the folder, with its own home: some runtimes write into it when they are imported."""
    done = subprocess.run(command, cwd=home, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("section", [each for each in SECTIONS if exports(each)], ids=heading)
def test_a_section(section: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for words in exports(section):
        options = dict(pairwise(words))
        target = TARGETS[options.get("--target", "onnx")]
        try:
            target.check()
        except FastSCNNError as error:
            pytest.skip(str(error))
        if "--max-iou-loss" in options:  # the young network is no measure of what int8 costs
            words[words.index("--max-iou-loss") + 1] = "100"
        assert cli.main([*words, "--quiet"]) == 0
        assert Path(options["--out"]).exists()
    for block in blocks(section, "python"):
        printed = run(home, [sys.executable, "-c", block])
        assert re.search(r"1, 360, 480|^(road|other) [\d.]+$", printed, re.MULTILINE), printed
    if program := PROGRAMS.get(heading(section)):
        Path("labels.png").unlink(missing_ok=True)
        run(home, [sys.executable, ROOT / "examples/python" / program[0], *program[1:]])
        with Image.open("labels.png") as labels:
            assert labels.size == (480, 360)
            assert set(np.unique(np.asarray(labels))) <= {0, 1}


def test_every_target_has_a_section_with_a_command() -> None:
    words = [word for section in SECTIONS for command in exports(section) for word in command]
    assert [name for name in TARGETS if name != "onnx" and name not in words] == []
    assert [name for name in TARGETS if f"| `{name}`" not in "".join(SECTIONS)] == []
    assert [name for name in PROGRAMS if name not in map(heading, SECTIONS)] == []
