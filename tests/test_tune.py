"""tune: the space, the trials, pruning, and a search that is killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from fastscnn import cli
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.training import loop
from fastscnn.training.recipes import DEFAULTS, Recipe, from_run, named
from fastscnn.training.run import State
from fastscnn.training.segmentation import SegmentationTask
from fastscnn.tuning.space import Range, Space, checked_space, decoded, default_space, encoded
from fastscnn.tuning.study import Study, Trial

optuna = pytest.importorskip("optuna", reason="needs the extra tune")
from fastscnn.tuning.tune import tune  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
DEBUG = named("debug")
SPACE: Space = {"lr": Range(0.001, 0.1, log=True), "crop": [(64, 96), (32, 64)], "batch": Range(2, 3), "flip": Range(0, 1)}
SEARCH = ["lr=0.001:0.1:log", "crop=64x96,32x64", "batch=2:3", "flip=0:1"]  # the same, on the command line


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.fixture(scope="module")
def searched(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted search of three trials."""
    out = tmp_path_factory.mktemp("searched") / "search"
    tune(DEBUG, str(tiny_dataset), out, trials=3, search=SPACE)
    return out


def outcome(out: Path) -> Any:
    """Return all that a search found: its trials, its best recipe, and the weights of each run."""
    runs = sorted(path.relative_to(out) for path in (out / "trials").glob("*/*.safetensors"))
    return (
        json.loads((out / "study.json").read_text()), json.loads((out / "best.json").read_text()),
        {str(path): (out / path).read_bytes() for path in runs if path.name != "resume.safetensors"},
        {path.parent.name: path.read_text() for path in (out / "trials").glob("*/log.jsonl")},
    )  # fmt: skip


def test_a_search(searched: Path, tiny_dataset: Path) -> None:
    study = json.loads((searched / "study.json").read_text())
    assert [(trial["number"], trial["state"]) for trial in study["trials"]] == [(n, "finished") for n in range(3)]
    for trial in study["trials"]:
        run = searched / "trials" / str(trial["number"])
        recipe = json.loads((run / "run.json").read_text())["recipe"]
        assert {name: recipe[name] for name in SPACE} == trial["params"]
        assert {**recipe, **dict.fromkeys(SPACE)} == {**json.loads(json.dumps(vars(DEBUG))), **dict.fromkeys(SPACE)}
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert trial["scores"] == [line["validation"]["miou"] for line in log]
        assert 0.001 <= trial["params"]["lr"] <= 0.1
        assert trial["params"]["batch"] in (2, 3)
        assert trial["params"]["crop"] in ([64, 96], [32, 64])
    best = max(study["trials"], key=lambda trial: max(trial["scores"]))
    recipe = from_run(searched / "best.json")
    assert {name: getattr(recipe, name) for name in SPACE} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in best["params"].items()}
    assert replace(recipe, source=DEBUG.source, **{name: getattr(DEBUG, name) for name in SPACE}) == DEBUG
    page = (searched / "report.html").read_text()
    assert page.count("<circle") == 3 * (1 + len(SPACE))  # each trial in the history, and by each field
    assert f"{max(best['scores']):.2f}" in page


def test_the_best_recipe_trains(searched: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """With the same data, the run of the best trial comes out again."""
    assert cli.main(["train", "--config", str(searched / "best.json"), str(tiny_dataset), "--out", str(tmp_path / "run")]) == 0
    number = json.loads((searched / "best.json").read_text())["trial"]
    assert (tmp_path / "run/log.jsonl").read_text() == (searched / f"trials/{number}/log.jsonl").read_text()


@pytest.mark.slow
def test_more_trials(searched: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Two trials and then one more are the three trials of one search."""
    tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=2, search=SPACE)
    seen: list[Trial] = []
    tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=3, search=SPACE, resume=True, on_trial=seen.append)
    assert [trial.number for trial in seen] == [2]
    assert outcome(tmp_path / "out") == outcome(searched)


class StopError(Exception):
    """Stands for a kill: nothing is saved after it."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 7, 9])
def test_a_stopped_search_makes_the_same_trials(
    searched: Path, tiny_dataset: Path, tmp_path: Path, steps: int
) -> None:
    """In the first step, at a validation, in the second trial and in the third."""
    counted = 0

    def stop(_: object) -> None:
        nonlocal counted
        counted += 1
        if counted == steps:
            raise StopError

    with pytest.raises(StopError):
        tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=3, search=SPACE, on_step=stop)
    tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=3, search=SPACE, resume=True)
    assert outcome(tmp_path / "out") == outcome(searched)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_killed_search_continues(tiny_dataset: Path, tmp_path: Path, number: str) -> None:
    words = ["tune", "debug", str(tiny_dataset), "--trials", "2", "--search", "lr=0.01:0.1", "--iterations", "30"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert cli.main([*words, "--out", str(whole)]) == 0
    command = [sys.executable, "-m", "fastscnn", *words, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: (out / "trials/1/log.jsonl").is_file() or process.poll() is not None, 120)
        assert process.poll() is None
        os.kill(process.pid, getattr(signal, number))
        _, err = process.communicate()
    assert json.loads((out / "study.json").read_text())["trials"][1]["state"] == "running"
    assert process.returncode == (130 if number == "SIGTERM" else -9), err
    assert cli.main([*words, "--out", str(out), "--resume"]) == 0
    assert outcome(out) == outcome(whole)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that replaces validation by a function of the recipe and the number of the validation, from 0.

    The steps learn nothing.
    """

    def by(score: Callable[[Mapping[str, Any], int], float]) -> None:
        calls: dict[int, int] = {}

        def validate(task: SegmentationTask, _: object) -> dict[str, Any]:
            count = calls.setdefault(id(task.card), 0)
            calls[id(task.card)] += 1
            return {"miou": score(task.card.recipe, count), "pixel_accuracy": 50.0, "iou": {}}

        def step(state: State, *_: object) -> float:
            state.step += 1
            return 1.0

        monkeypatch.setattr(SegmentationTask, "validate", validate)
        monkeypatch.setattr(loop, "step", step)

    return by


LONG = replace(DEBUG, iterations=18, validate_every=1)  # 6 validations, the first two before pruning starts


@pytest.mark.slow
def test_poor_trials_are_pruned(scored: Callable[..., None], tiny_dataset: Path, tmp_path: Path) -> None:
    """The score is the learning rate: after five trials, one below the median ends at the first validation that may end it."""
    scored(lambda recipe, _: 50 * recipe["lr"])
    study = tune(LONG, str(tiny_dataset), tmp_path / "out", trials=9, search={"lr": Range(0.0, 1.0)})
    finished: list[float] = []
    for trial in study.trials:
        score = 50 * trial.params["lr"]
        poor = len(finished) >= 5 and score < sorted(finished)[len(finished) // 2] and len(finished) % 2 == 1
        if len(finished) % 2 == 1 or len(finished) < 5:
            assert trial.state == ("pruned" if poor else "finished"), trial
        assert len(trial.scores) == (6 if trial.state == "finished" else 3)
        if trial.state == "finished":
            finished.append(score)
    assert {trial.state for trial in study.trials} == {"finished", "pruned"}
    assert study.best
    assert study.best.score == max(finished)
    assert "pruned" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_a_trial_killed_after_it_was_pruned(scored: Callable[..., None], tiny_dataset: Path, tmp_path: Path) -> None:
    """The run is there, and study.json does not know of its end."""
    scored(lambda recipe, _: 50 * recipe["lr"])
    out, space = tmp_path / "out", {"lr": Range(0.0, 1.0)}
    tune(LONG, str(tiny_dataset), out, trials=9, search=space)
    before = json.loads((out / "study.json").read_text())
    last = max(trial["number"] for trial in before["trials"] if trial["state"] == "pruned")
    trials = before["trials"][: last + 1]
    changed = [*trials[:-1], {**trials[-1], "state": "running", "scores": []}]
    (out / "study.json").write_text(json.dumps({**before, "trials": changed}))
    study = tune(LONG, str(tiny_dataset), out, trials=last + 1, search=space, resume=True)
    assert json.loads((out / "study.json").read_text())["trials"] == trials
    assert study.trials[last].state == "pruned"


@pytest.mark.slow
def test_a_trial_that_fails(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "debug", str(tiny_dataset), "--out", str(tmp_path / "out"), "--trials", "5", "--json"]
    assert cli.main([*words, "--search", "lr=0.01,1e12"]) == 0
    *trials, best = map(json.loads, capsys.readouterr().out.splitlines())
    for trial in trials:
        assert trial["outcome"] == ("finished" if trial["values"]["lr"] == 0.01 else "failed")
        assert ("not finite" in trial["reason"] or "nan" in trial["reason"]) if trial["outcome"] == "failed" else trial["miou"]
    assert {trial["outcome"] for trial in trials} == {"finished", "failed"}
    assert best["miou"] == max(trial["miou"] or 0 for trial in trials)
    assert from_run(best["recipe"]).lr == 0.01
    words[4] = str(tmp_path / "other")
    assert cli.main([*words, "--search", "lr=1e12:1e13"]) == 1
    assert "none of 5 trials has finished; change --search. The" in said(capsys)


@pytest.mark.slow
def test_values_that_exclude_each_other_fail(tiny_dataset: Path, tmp_path: Path) -> None:
    space = {"ohem_ratio": [1.0, 0.5], "ohem_threshold": [1.0, 0.7]}
    study = tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=8, search=space)
    both = [trial for trial in study.trials if max(trial.params.values()) < 1]
    assert both
    assert [trial for trial in study.trials if trial.state == "failed"] == both
    assert both[0].reason.startswith("ohem_ratio: cannot be combined")
    assert not (tmp_path / f"out/trials/{both[0].number}").exists()


def test_faulty_data_stops_before_the_first_trial(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match="no such file"):
        tune(DEBUG, str(tmp_path / "gone.toml"), tmp_path / "out", trials=1)
    with pytest.raises(FastSCNNError, match="There is no split"):
        tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=1, validation="vla")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "what"), [
    ({"resume": False}, "already contains a search; continue it with --resume"),
    ({"search": {"lr": Range(0.001, 0.2, log=True)}}, "was started with different settings (search was"),
    ({"recipe": replace(DEBUG, momentum=0.8)}, "different settings (momentum was 0.9 and is 0.8)"),
    ({"patience": 3}, "different settings (patience was None and is 3)"),
    ({"out": "gone"}, "contains no search to resume (study.json is missing)"),
])
def test_what_cannot_be_resumed(
    searched: Path, tiny_dataset: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    before = outcome(searched)
    given: dict[str, Any] = {"recipe": DEBUG, "data": str(tiny_dataset), "out": searched, "trials": 4, "search": SPACE}
    given |= {"resume": True} | changes
    given["out"] = tmp_path / given["out"]
    with pytest.raises(FastSCNNError) as caught:
        tune(**given)
    assert what in str(caught.value)
    assert outcome(searched) == before


@pytest.mark.parametrize("text", [
    "{", "[]", '{"identity": {"recipe": {}}, "trials": [{"number": 0, "params": {}, "state": "?"}]}'])
def test_a_damaged_study(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(FastSCNNError, match="is not the file of a search, or is damaged"):
        Study(tmp_path, {"recipe": {}}, resume=True)


def test_one_search_at_a_time(tiny_dataset: Path, tmp_path: Path) -> None:
    def second(_: Trial) -> None:
        with pytest.raises(FastSCNNError, match="trains there; wait for it"):
            tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=2, resume=True)

    tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=1, on_trial=second)


def test_not_under_torchrun(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FastSCNNError, match="start it without torchrun"):
        tune(DEBUG, str(tiny_dataset), tmp_path / "out", trials=1)


def test_without_optuna(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.main(["tune", "debug", str(tiny_dataset), "--out", "y", "--trials", "1"]) == 1
    assert "tune (optuna is missing) needs the extra 'tune': install fastscnn[tune]" in said(capsys)


@pytest.mark.parametrize(("search", "message"), [
    ("lr", "search: 'lr' is not FIELD=VALUES, for example lr=1e-4:1e-2:log"),
    ("rl=1,2", "search: There is no recipe field 'rl'. Did you mean 'lr'?"),
    ("name=a,b", "There is no recipe field 'name'"),
    ("lr=0.1:0.01", "search: lr: the range 0.1:0.01 is empty; give the smaller number first"),
    ("lr=0:0.01:log", "search: lr: a logarithmic range must start above 0, not at 0"),
    ("lr=-1:1", "search: lr: must be at least 0, not -1.0"),
    ("lr=1:nan", "search: lr: a range needs two numbers, not 1.0 and nan"),
    ("lr=1:2:lgo", "search: lr: expected LOW:HIGH or LOW:HIGH:log, not '1:2:lgo'"),
    ("batch=1:4", "search: batch: must be at least 2, not 1"),
    ("batch=2:4.5", "search: batch: invalid literal for int"),
    ("batch=2,auto", "batch: auto depends on the memory that is free, so a search cannot compare trials with it"),
    ("dropout=0:2", "search: dropout: must be from 0 to 1, not 2.0"),
    ("lr=0.1", "search: lr: needs two or more different choices"),
    ("lr=0.1,0.1", "search: lr: needs two or more different choices"),
    ("optimiser=sgd,adam", "search: optimiser: There is no choice 'adam'. Did you mean 'adamw'?"),
    ("optimiser=1:2", "search: optimiser: must be sgd, adamw, not 1.0"),
    ("crop=64,32", "search: crop: expected HxW, for example 360x480, not '64'"),
    ("scale=1,2", "search: scale: its values contain commas; use fastscnn.tune in Python"),
    ("reparam-branches=true,no", "search: reparam_branches: expected true or false, not 'no'"),
])
def test_wrong_spaces(
    search: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["tune", "debug", "x.toml", "--out", "y", "--trials", "1", "--search", search]) == 2
    printed = said(capsys)
    assert message in printed
    assert "usage: fastscnn tune debug [options] DATASET ... --out DIR --trials N" in printed


@pytest.mark.parametrize(("words", "message"), [
    ([], "Missing RECIPE"),
    (["debgu"], "There is no recipe 'debgu'. Did you mean 'debug'"),
    (["debug", "x.toml", "--out", "y"], "--trials"),
    (["debug", "x.toml", "--out", "y", "--trials", "0"], "trials: must be at least 1, not 0"),
    (["debug", "x.toml", "--out", "y", "--trials", "1", "--validation", "test"], "it must not be the test split"),
    (["debug", "x.toml", "--out", "y", "--trials", "1", "--search", "lr=1,2", "lr=3,4"], "search: lr is given twice"),
    (["imagenet", "x.toml", "--out", "y", "--trials", "1"], "'imagenet' is for a class per image"),
    (["debug", "x.toml", "--out", "y", "--trials", "1", "--batch", "auto"], "batch: auto depends on the memory that is free"),
])
def test_wrong_calls(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", *words]) == 2
    assert message in said(capsys)


def test_the_command_line(
    searched: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same search as in Python; its table fits 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    assert cli.main(["tune", "debug", str(tiny_dataset), "--out", str(out), "--trials", "3", "--search", *SEARCH, "-q"]) == 0
    printed = capsys.readouterr().out
    assert outcome(out) == outcome(searched)
    table = printed.partition("Best: ")[0]
    assert max(map(len, table.splitlines())) <= 80
    best = json.loads((out / "best.json").read_text())
    assert f"Best: trial {best['trial']}, mIoU {best['score']:.2f} on val; open {out / 'report.html'}" in printed
    assert f"fastscnn train --config {out / 'best.json'} DATASET --out DIR" in printed


def test_default_space() -> None:
    for recipe in (DEBUG, named("camvid"), replace(DEBUG, weight_decay=0.0)):
        space = default_space(recipe)
        assert checked_space(space, recipe) == space
        assert ("weight_decay" in space) == (recipe.weight_decay > 0)
        lr = space["lr"]
        assert isinstance(lr, Range)
        assert lr == Range(recipe.lr / 10, recipe.lr * 10, log=True)


def test_choices_of_any_type() -> None:
    space = checked_space({
        "scale": [(0.5, 2.0), (1.0, 1.0)], "size": [None, (64, 96)], "reparam_branches": [True, False], "class_weights":
        ["none", "log"]}, DEBUG)
    params = {name: values[1] for name, values in space.items() if isinstance(values, tuple)}
    assert encoded(space, params) == dict.fromkeys(space, 1)
    assert decoded(space, encoded(space, params)) == params


@pytest.mark.parametrize(("space", "what"), [
    ({}, "search: names no field"),
    ({"lr": "0.1"}, "search: lr: must be a Range or a list of choices, not '0.1'"),
    ({"batch": Range(2.5, 4)}, "search: batch: must be a whole number or auto, not 2.5"),
    ({"lr": Range(True, 4)}, "search: lr: a range needs two numbers"),
])
def test_wrong_spaces_in_python(space: Any, what: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        checked_space(space, DEBUG)
    assert what in str(caught.value)


def test_every_field_can_be_searched() -> None:
    """Two choices each: the recipe's and another one."""
    others: dict[str, Any] = {"variant": "mmseg", "size": (64, 96), "iterations": 5, "crop": (64, 64), "scale": (1.0, 1.5)}
    for name in set(DEFAULTS) - {"task"}:
        value = getattr(DEBUG, name)
        hint = Recipe.__annotations__[name]
        other = others.get(name, not value if isinstance(value, bool) else value * 0.5 + 0.5 if isinstance(value, float) else
                           value + 1 if isinstance(value, int) else None)
        if other is not None and other != value:
            assert checked_space({name: [value, other]}, DEBUG)[name] == (value, other), hint
