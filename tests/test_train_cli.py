"""The command line of training: what works from end to end, and what it says when it cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastscnn import cli
from fastscnn.network import checkpoint


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_train_then_evaluate(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["train", "debug", str(tiny_dataset), "--out", str(out), "--iterations", "2"]) == 0
    printed = said(capsys)
    assert "on val with the last weights" in printed
    assert f"fastscnn export {out / 'best.safetensors'}" in printed
    weights = str(out / "last.safetensors")
    words = ["evaluate", "--weights", weights, "--backend", "torch", str(tiny_dataset), "--split", "val"]
    assert cli.main([*words, "--json", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    logged = json.loads((out / "log.jsonl").read_text())
    assert logged["step"] == 2
    assert f"{logged['validation']['miou']:.2f}" in (out / "report.html").read_text()
    assert report["miou"] == pytest.approx(logged["validation"]["miou"], abs=0.01)
    assert (report["images"], report["backend"], report["precision"], report["size"]) == (3, "torch", "float32", "96x128")
    assert len(report["iou"]) == len(report["confusion"]) == 11


def test_flags_of_the_recipe(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--iterations", "2"]
    flags = ["--lr", "0.02", "--crop", "32x64", "--validation", "none", "--split", "val", "--pause-after", "1"]
    assert cli.main([*words, *flags]) == 0
    ran = json.loads((out / "run.json").read_text())
    assert (ran["recipe"]["lr"], ran["recipe"]["crop"], ran["validation"], ran["split"]) == (0.02, [32, 64], None, "val")
    assert not (out / "last.safetensors").exists()
    assert cli.main([*words, *flags[:-2], "--resume"]) == 0
    assert (out / "best.safetensors").exists()
    assert cli.main(words) == 1
    assert "already contains a run" in said(capsys)


@pytest.mark.slow
def test_going_on_from_weights_and_learning_from_teachers(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["train", "debug", str(tiny_dataset), "--validation", "none", "--iterations", "1", "--out"]
    assert cli.main([*words, str(first)]) == 0
    weights = str(first / "last.safetensors")
    more = ["--init", weights, "--teacher", weights, weights, "--distillation", "0.5"]
    other = tmp_path / "data" / "dataset.toml"
    shutil.copytree(tiny_dataset.parent, other.parent)
    other.write_text(other.read_text().replace("'Sky'", "'[red]'"))
    said(capsys)
    assert cli.main([*words, str(second), *more]) == 0
    assert "last layer" not in said(capsys)
    ran = json.loads((second / "run.json").read_text())
    assert ran["teacher"] == [ran["init"]] * 2
    words[2] = str(other)
    assert cli.main([*words, str(tmp_path / "third"), *more[:2]]) == 0
    assert "its last layer is replaced, because its classes (Sky, " in (printed := said(capsys))
    assert "those of the dataset ([red], " in printed
    assert cli.main([*words, str(tmp_path / "fourth"), *more[2:]]) == 1
    assert "cannot be a teacher, because its classes or channels are not those of the dataset" in said(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "debug", "x.toml", "--out", "y"], "x.toml: no such file"),
        (["train", "debug", "camvit:x", "--out", "y"], "no dataset 'camvit'. Did you mean 'camvid'"),
        (["train", "debug", "x.toml", "--out", "y", "--batch", "1"], "batch: must be at least 2"),
        (["train", "debug", "x.toml", "--out", "y", "--lovasz", "-1"], "lovasz: must be at least 0, not -1.0"),
    ],
)
def test_wrong_input(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == (1 if "no such file" in message else 2)
    assert message in said(capsys)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "Missing RECIPE"),
        (["--out", "y"], "Missing RECIPE"),
        (["debgu", "x.toml", "--out", "y"], "There is no recipe 'debgu'. Did you mean 'debug'"),
        (["debug", "--out", "y"], "DATASET"),
        (["debug", "x.toml"], "--out"),
        (["debug", "x.toml", "--out", "y", "--iteration", "2"], "--iterations"),
        (["debug", "x.toml", "--out", "y", "--precision", "float16"], "--precision"),
        (["debug", "x.toml", "--out", "y", "--optimiser", "adam"], "'sgd'"),
        (["debug", "x.toml", "--out", "y", "--crop", "64"], "expected HxW, for example 360x480, not '64'"),
        (["debug", "x.toml", "--out", "y", "--batch", "all"], "expected a whole number or auto, not 'all'"),
        (["debug", "x.toml", "--out", "y", "--scale", "1"], "expected two numbers separated by a comma"),
        (["debug", "x.toml", "--out", "y", "--config"], "--config"),
        (["debug", "a", "b", "--out", "y", "c"], "c: give every DATASET in one place, without options between them."),
    ],
)
def test_wrong_calls(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *words]) == 2
    printed = said(capsys)
    assert named in printed
    assert "usage: fastscnn train " in printed


def test_a_run_as_configuration(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of the run.json are the defaults, options override them, and what is no field of a recipe is named."""
    first, second = tmp_path / "first", tmp_path / "second"
    words = [str(tiny_dataset), "--validation", "none"]
    changes = ["--iterations", "1", "--lr", "0.02", "--crop", "32x64"]
    assert cli.main(["train", "debug", *words, "--out", str(first), *changes]) == 0
    config = first / "run.json"
    assert cli.main(["train", "--config", str(config), *words, "--out", str(second), "--lr", "0.03"]) == 0
    ours, theirs = (json.loads((folder / "run.json").read_text())["recipe"] for folder in (second, first))
    assert ours == theirs | {"lr": 0.03}
    capsys.readouterr()
    for given in (config, first):  # a folder means its run.json
        assert cli.main(["train", f"--config={given}", "--help"]) == 0
        assert "(default: 32x64)" in said(capsys)
    for text, message in (
        (json.dumps({"recipe": theirs | {"epoch": 3}}), "There is no recipe field 'epoch'. Did you mean 'epochs'?"),
        (json.dumps({"recipe": theirs | {"lr": "fast"}}), "run.json: lr: must be a number, not 'fast'"),
        (json.dumps({"recipe": theirs | {"batch": 1}}), "run.json: batch: must be at least 2"),
        ("[]", "run.json: has no recipe"),
        ("{", "run.json: is not JSON"),
    ):
        config.write_text(text)
        assert cli.main(["train", "--config", str(config), *words, "--out", str(tmp_path / "third")]) == 1
        assert message in said(capsys)
    assert cli.main(["train", "--config", str(tmp_path / "gone.json"), *words, "--out", str(tmp_path / "third")]) == 1
    assert "gone.json: cannot be read" in said(capsys)


_WITHOUT_TORCH = """
import sys
from fastscnn.cli import main

class Missing:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Missing())
raise SystemExit(main())
"""


@pytest.mark.parametrize("verb", ["train", "export"])
def test_without_torch_the_extra_is_named(verb: str, tiny_dataset: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    words = {"train": ["debug", str(tiny_dataset)], "export": ["w.safetensors"]}[verb]
    command = [sys.executable, "-c", _WITHOUT_TORCH, verb, *words, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"{verb} (torch is missing) needs the extra 'train'" in done.stderr
    assert "Traceback" not in done.stderr


def test_going_on_from_the_bundled_weights_carries_their_terms(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--iterations", "1", "--validation", "none"]
    assert cli.main([*words, "--init", "bundled"]) == 0
    data = checkpoint.load(out / "last.safetensors")[1].data
    assert data is not None
    assert data.terms.startswith("none; and of earlier weights: CamVid, CC BY-NC 4.0")
