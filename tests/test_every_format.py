"""Every format of docs/datasets.md, from a folder as its tool leaves it to scores, by the command line alone."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import FORMATS
from made.scenes import COUNT, Made
from made.tools import BY_TOOLS

from fastscnn import cli
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.spec import DatasetSpec
from fastscnn.media import images

DOCS = Path(__file__).parents[1] / "docs" / "datasets.md"
SMALL = ["--iterations", "2", "--width-mult", "0.25", "--crop", "64x64", "--validation", "none", "--quiet"]
QUICK = ("COCO instances JSON", "LabelMe JSON", "YOLO segmentation text", "Pascal VOC", "Colours", "Plain ids")  # not slow

pytest.importorskip("pycocotools", reason="needs the extra formats")
pytest.importorskip("scipy", reason="SciPy, which writes .mat files, is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")
Capture = pytest.CaptureFixture[str]


def rows() -> dict[str, list[str]]:
    """The rows of the table of formats: first cell up to the colon -> the others."""
    section = DOCS.read_text("utf-8").partition("\n## Formats\n")[2]
    table = section.partition("| format | who makes it |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in table)
    return {first.partition(":")[0]: rest for first, *rest in cells}


def test_the_table_has_each_format_and_its_tests() -> None:
    assert list(rows()) == list(FORMATS)
    for title, cells in rows().items():
        assert len(cells) == 4, title
        linked = re.findall(r"\]\(([^)#]*)\)", cells[-1])
        assert f"../tests/{Path(__file__).name}" in linked, title
        assert all((DOCS.parent / link).resolve().is_file() for link in linked), title


def described(toml: Path) -> list[dict[str, Any]]:
    """Its tables that hold the spec of the labels: the file itself, its [map] and its splits."""
    table = tomllib.loads(toml.read_text("utf-8"))
    return [table, table.get("map", {}), *table["splits"].values()]


def truth_by(spec: DatasetSpec, made: Made) -> dict[Path, UInt8Array]:
    """Image file -> its labels, in train ids of the dataset."""
    names = list(made.names)
    assert sorted(spec.label_set.names) == sorted(names)
    table = np.full(256, 255, np.uint8)
    table[: len(names)] = [spec.label_set.names.index(name) for name in names]
    found: dict[Path, UInt8Array] = {}
    for split in spec.splits:
        for pair in spec.pairs(split):
            number = re.search(r"street_(\d)", pair.image.name)
            assert number
            found[pair.image] = table[made.labels(int(number[1]))]
            assert not made.splits or int(number[1]) in made.splits[split]
    assert len(found) == COUNT
    return found


def answer(words: Sequence[object], capsys: Capture) -> Any:
    """The JSON that a command prints; it must end without an error, and say nothing else."""
    capsys.readouterr()
    code = cli.main([*map(str, words), "--json"])
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, ""), printed
    return json.loads(printed.out)


def described_as_open(toml: Path, made: Made) -> None:
    """Write what is marked as open into the dataset.toml; nothing else may be needed."""
    content = toml.read_text("utf-8")
    assert ("TODO" in content) == bool(made.filled_in), content
    for open_, filled_in in made.filled_in.items():
        assert open_ in content
        content = content.replace(open_, filled_in)
    toml.write_text(content, "utf-8")


def counts(labels: Sequence[UInt8Array], classes: int) -> list[int]:
    found: list[int] = np.bincount(np.concatenate([one.ravel() for one in labels]), minlength=256)[:classes].tolist()
    return found


def from_folder_to_scores(root: Path, made: Made, capsys: Capture) -> Path:
    """Run all commands on a folder; return its dataset.toml."""
    guessed = answer(["dataset", "init", root], capsys)
    toml = root / "dataset.toml"
    assert guessed["dataset"] == str(toml)
    described_as_open(toml, made)
    spec = datasets.load(toml)
    truth = truth_by(spec, made)
    for split in spec.splits:
        for pair in spec.pairs(split):
            np.testing.assert_array_equal(spec.read(pair)[1], truth[pair.image], str(pair.image))
    checked = answer(["check", toml], capsys)
    assert [finding for finding in checked["findings"] if finding["severity"] == "error"] == []
    classes, held_out = len(spec.label_set.names), spec.evaluation_split() if "val" in spec.splits else "test"
    for split in spec.splits:
        seen = np.array(counts([truth[pair.image] for pair in spec.pairs(split)], classes))
        percentages = list(checked["class_percentages"][split].values())
        np.testing.assert_allclose(percentages, 100 * seen / seen.sum(), atol=0.01)
    run = root.parent / "run"
    assert cli.main(["train", "debug", str(toml), "--out", str(run), *SMALL]) == 0
    weights = run / "last.safetensors"
    scores = answer(["evaluate", toml, "--weights", weights, "--split", held_out, "--backend", "torch", "--threads", 1], capsys)
    labels = [truth[pair.image] for pair in spec.pairs(held_out)]
    assert scores["images"] == len(labels)
    assert np.sum(scores["confusion"], axis=1).tolist() == counts(labels, classes)
    assert list(scores["iou"]) == list(spec.label_set.names)
    assert 0 <= scores["miou"] <= 100
    return toml


@pytest.mark.parametrize("title", [pytest.param(title, marks=() if title in QUICK else pytest.mark.slow) for title in FORMATS])
def test_from_a_folder_to_scores(tmp_path: Path, title: str, capsys: Capture) -> None:
    toml = from_folder_to_scores(tmp_path / "set", FORMATS[title](tmp_path / "set"), capsys)
    stated = tomllib.loads("\n".join(re.findall(r"`([a-z_]+ = [^`]*)`", rows()[title][1])))
    assert "labels_are" in stated
    tables = described(toml)
    for key, value in stated.items():
        assert any(table.get(key) == value for table in tables), (key, value)


@pytest.mark.filterwarnings("ignore")  # of the tools
@pytest.mark.parametrize(("title", "written_by"), BY_TOOLS)
def test_files_of_the_tool_itself(tmp_path: Path, title: str, written_by: str, capsys: Capture) -> None:
    """The labels are those that the tool reads from its own files."""
    from_folder_to_scores(tmp_path / "set", BY_TOOLS[title, written_by](tmp_path / "set"), capsys)
    assert written_by.partition(",")[0] in rows()[title][2]


def test_classes_that_no_picture_has_are_named_or_left_out_by_a_map(tmp_path: Path, capsys: Capture) -> None:
    """CARLA names more classes than a town shows: those without pixels are not learned, or [map] leaves them out."""
    made, root = FORMATS["CARLA, ids in red"](tmp_path / "set"), tmp_path / "set"
    for path in (root / "semantic_segmentation").iterdir():
        tags = images.read_channel(path, "red")
        tags[:2] = 11  # without the strip of all classes, the sky
        images.write(path, np.dstack([tags, 0 * tags, 0 * tags]))
    assert cli.main(["dataset", "init", str(root), "--quiet"]) == 0
    toml = root / "dataset.toml"
    assert answer(["check", toml], capsys)["ok"]
    train = ["train", "debug", str(toml), *(word for word in SMALL if word != "--quiet"), "--out"]
    assert cli.main([*train, str(tmp_path / "all")]) == 0
    printed = capsys.readouterr()
    assert "No training pixel is sidewalk, building, " in " ".join(f"{printed.out} {printed.err}".split())
    kept = {1: "road", 9: "vegetation", 11: "sky", 14: "car"}
    content = re.sub(r"classes = \[[^]]*\]", f"classes = {list(kept.values())}", toml.read_text()).replace("ignore = 0\n", "")
    table = "".join(f'{tag} = "{name}"\n' for tag, name in kept.items())
    toml.write_text(content.replace("[splits.all]", f'[map]\n{table}"*" = "ignore"\n\n[splits.all]'))
    spec = datasets.load(toml)
    pair = spec.pairs("train")[0]
    labels = made.labels(int(pair.image.stem[-1]))
    expected = np.array([list(kept).index(tag) if tag in kept else 255 for tag in range(1, 29)], np.uint8)[labels]
    expected[:2] = 2
    np.testing.assert_array_equal(spec.read(pair)[1], expected)
    assert cli.main([*train, str(tmp_path / "run")]) == 0
