"""Training: resuming, errors before the first step, and the arithmetic of a step."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from waiting import wait_until

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets, synthetic
from fastscnn.data.check.dataset import check
from fastscnn.evaluation.evaluate import evaluate
from fastscnn.media import images
from fastscnn.model.card import Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import Backbone, FastSCNN, TrainingLogits
from fastscnn.training import loop, run_lock
from fastscnn.training import segmentation as module
from fastscnn.training.initial import initial, teachers
from fastscnn.training.job import Progress
from fastscnn.training.loader import Batch, Loader
from fastscnn.training.loop import _average, _learning_rate, step
from fastscnn.training.loss import training_loss
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.run import Run as Folder
from fastscnn.training.run import State
from fastscnn.training.segmentation import SegmentationLoss, SegmentationTask, _class_weights
from fastscnn.training.train import train

DEBUG = named("debug")
KEPT = ("last.safetensors", "best.safetensors", "log.jsonl")

CPU = torch.device("cpu")
CARD = Card(LabelSet(("road", "car")), (64, 96))

Run = Callable[..., Card]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> Run:
    """Return a function that trains on the tiny dataset, 3 steps per epoch, by default in the folder `out`."""
    spec = datasets.load(str(tiny_dataset))

    def start(recipe: Recipe = DEBUG, out: Path | None = None, **arguments: Any) -> Card:
        card = train(recipe, spec, out or tmp_path / "out", **arguments)
        assert isinstance(card, Card)
        return card

    return start


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of four steps, validated after the third and the fourth."""
    out = tmp_path_factory.mktemp("uninterrupted")
    train(DEBUG, datasets.load(str(tiny_dataset)), out)
    return out


def initial_state(recipe: Recipe, card: Card = CARD, weights: Path | None = None) -> State:
    """Return the state before the first step."""
    return initial(recipe, card, CPU, weights)[0]


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    for name in KEPT:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tensors = [checkpoint.load_tensors(out / "resume.safetensors")[0] for out in (one, other)]
    assert checkpoint.digest(tensors[0]) == checkpoint.digest(tensors[1])


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the validation after each third step score 10, 20, 15, 20, 30, 30, 30 and so on. The steps learn nothing."""
    scores = dict(zip(range(3, 31, 3), [10.0, 20.0, 15.0, 20.0, *[30.0] * 6], strict=True))
    steps: list[int] = []
    monkeypatch.setattr(Loader, "batches", _noting(Loader.batches, steps))
    monkeypatch.setattr(loop, "step", _counted)
    monkeypatch.setattr(SegmentationTask, "validate", lambda task, average: {
        "miou": scores[steps[-1]], "pixel_accuracy": 50.0, "iou": {}})


def _noting(batches: Callable[..., Any], steps: list[int]) -> Callable[..., Any]:
    """Return `Loader.batches`, which also appends the number of steps after each batch."""

    def noted(loader: Loader, start: int, stop: int) -> Any:
        for number, batch in enumerate(batches(loader, start, stop), start + 1):
            steps.append(number)
            yield batch

    return noted


def _counted(state: State, *_: object) -> float:
    """Take the place of `loop.step`: only the number of the step changes."""
    state.step += 1
    return 1.0


LONG = replace(DEBUG, iterations=30, validate_every=1)


@pytest.mark.slow
@pytest.mark.usefixtures("scored")
def test_patience(run: Run, tmp_path: Path) -> None:
    said: list[str] = []
    run(LONG, tmp_path / "two", patience=2, on_message=said.append)
    assert [line["step"] for line in lines(tmp_path / "two")] == [3, 6, 9, 12]  # 20 again is no gain
    assert said[-1] == ("Stopped at step 12: the last 2 validations did not score more than 20.00. --resume with a larger "
                        "--patience continues.")
    run(LONG, tmp_path / "three", patience=3)
    assert lines(tmp_path / "three")[-1]["step"] == 24  # 30 at 15, and three times 30 after it


@pytest.mark.slow
@pytest.mark.usefixtures("scored")
def test_patience_of_a_resumed_run(run: Run, tmp_path: Path) -> None:
    run(LONG, tmp_path / "whole", patience=2)
    run(LONG, patience=2, pause_after=10)
    lost = (tmp_path / "out/log.jsonl").read_bytes()
    (tmp_path / "out/log.jsonl").unlink()  # the count does not depend on it
    run(LONG, patience=2, resume=True)
    (tmp_path / "out/log.jsonl").write_bytes(lost + (tmp_path / "out/log.jsonl").read_bytes())
    assert_same_run(tmp_path / "whole", tmp_path / "out")
    said: list[str] = []
    run(LONG, patience=2, resume=True, on_message=said.append)  # it has stopped already
    assert_same_run(tmp_path / "whole", tmp_path / "out")
    assert said[-1].startswith("Stopped at step 12")
    run(LONG, patience=3, resume=True)
    assert lines(tmp_path / "out")[-1]["step"] == 24


@pytest.mark.parametrize(("given", "what"), [
    ({"patience": 0}, "patience: must be at least 1, not 0"),
    ({"patience": 2, "validation": None}, "patience: counts validations, and there are none"),
])
def test_wrong_patience(run: Run, tmp_path: Path, given: dict[str, Any], what: str) -> None:
    with pytest.raises(FastSCNNError, match=what):
        run(**given)
    assert not (tmp_path / "out").exists()


def test_a_run(uninterrupted: Path, tiny_dataset: Path) -> None:
    assert sorted(content(uninterrupted)) == sorted([*KEPT, "report.html", "resume.safetensors", "run.json"])
    log = lines(uninterrupted)
    assert [line["step"] for line in log] == [3, 4]
    assert all(line["loss"] > 0 and 0 <= line["validation"]["miou"] <= 100 for line in log)
    spec = datasets.load(str(tiny_dataset))
    _, card = checkpoint.load(uninterrupted / "last.safetensors")
    assert card.label_set.names == spec.label_set.names
    assert (card.size, card.variant) == ((96, 128), "paper")
    assert card.metrics == {"val": {**log[-1]["validation"], "dataset": "tiny"}}
    assert card.recipe["lr"] == DEBUG.lr
    assert card.data
    assert (card.data.name, card.data.splits, card.data.images, card.data.terms) == ("tiny", "train", 6, "none")
    assert card.data.fingerprint == check(spec, ["train", "val"]).fingerprint
    best = max(log, key=lambda line: (line["validation"]["miou"], -line["step"]))
    assert checkpoint.load(uninterrupted / "best.safetensors")[1].metrics == {"val": {**best["validation"], "dataset": "tiny"}}


def test_what_ran_is_written_down(uninterrupted: Path) -> None:
    ran = json.loads((uninterrupted / "run.json").read_text())
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in ran["recipe"].items()}
    assert Recipe(**fields) == DEBUG
    assert (ran["split"], ran["validation"], len(ran["classes"])) == ("train", "val", 11)
    assert len(ran["data"]) == 64
    assert ran["versions"]["torch"] == torch.__version__
    assert ran["device"]
    assert ran["threads"] >= 1
    assert "git" in ran


@pytest.mark.parametrize("pause", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_paused_and_resumed_equals_uninterrupted(run: Run, uninterrupted: Path, tmp_path: Path, pause: int) -> None:
    run(pause_after=pause)
    assert (tmp_path / "out" / "last.safetensors").exists() == (pause == 3)
    torch.rand(7)  # other users of random numbers do not matter
    card = run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)
    assert card == checkpoint.load(uninterrupted / "last.safetensors")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_and_resumed_equals_uninterrupted(
    run: Run, uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 1:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(on_step=interrupt)
    assert signal.getsignal(number) == before
    assert "last.safetensors" not in content(tmp_path / "out")
    run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)


@pytest.mark.slow
def test_killed_while_saving_and_resumed_equals_uninterrupted(
    run: Run, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but the state of step 3 is written, so the log and the weights are ahead of the state."""
    run(pause_after=1)
    save = Folder.save_state
    calls: list[Folder] = []

    def kill(folder: Folder) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise SystemExit
        save(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "save_state", kill)
        with pytest.raises(SystemExit):
            run(resume=True)
    assert lines(tmp_path / "out")[-1]["step"] == 3
    run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)


def test_resuming_what_is_finished_changes_nothing(run: Run, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "out")
    card = run(resume=True)
    assert content(tmp_path / "out") == content(uninterrupted)
    assert card == checkpoint.load(uninterrupted / "last.safetensors")[1]


@pytest.mark.slow
def test_control_c_in_a_terminal(run: Run, tiny_dataset: Path, tmp_path: Path) -> None:
    changes = ["--iterations", "24", "--validate-every", "3"]
    out = tmp_path / "terminal"
    command = [sys.executable, "-m", "fastscnn", "train", "debug", str(tiny_dataset), "--out", str(out), *changes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (out / "log.jsonl").exists() or process.poll() is not None, 300)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    stopped = int(checkpoint.load_tensors(out / "resume.safetensors")[1]["step"])
    assert 9 <= stopped < 24
    subprocess.run([*command, "--resume"], check=True, capture_output=True, timeout=300)
    run(replace(DEBUG, iterations=24, validate_every=3))
    assert_same_run(out, tmp_path / "out")


def test_terms_of_a_chain_of_trainings_are_named_once(tmp_path: Path) -> None:
    label_set = LabelSet(("a", "b"))
    for name, terms in (("one", "A; and of earlier weights: B"), ("two", "B; and of earlier weights: C")):
        described = Card(label_set, (64, 96), data=Data(name, "train", 1, terms, ""))
        checkpoint.save(tmp_path / name, FastSCNN(2), described)
    expected = "A; and of earlier weights: B; and of earlier weights: C"
    assert module._terms("A", [tmp_path / "one", tmp_path / "two"]) == expected
    assert module._terms("A", []) == "A"


def test_names_and_paths(tiny_dataset: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(uninterrupted / "last.safetensors", tmp_path)
    shutil.copytree(tiny_dataset.parent, tmp_path / "data")
    card = train("debug", "~/data", "~/out", init="~/last.safetensors", pause_after=1)
    assert card.recipe["name"] == "debug"
    assert (tmp_path / "out" / "resume.safetensors").is_file()
    with pytest.raises(ValueError, match=r"There is no recipe 'debgu'\. Did you mean 'debug'"):
        train("debgu", tiny_dataset, tmp_path / "other")


def test_the_loss_falls(run: Run, tmp_path: Path) -> None:
    run(replace(DEBUG, iterations=20, validate_every=5, batch=6), validation=None)
    losses = [line["loss"] for line in lines(tmp_path / "out")]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]


def test_without_validation_the_last_weights_are_the_best(run: Run, tmp_path: Path) -> None:
    card = run(validation=None)
    assert card.metrics == {}
    out = content(tmp_path / "out")
    assert out["last.safetensors"] == out["best.safetensors"]
    assert [line["validation"] for line in lines(tmp_path / "out")] == [None, None]


@pytest.mark.slow
def test_a_stop_during_a_validation_repeats_only_the_validation(
    run: Run, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation is killed."""
    validate = SegmentationTask.validate
    for steps, whole in ((3, []), (4, [True])):  # a validation in the middle, and the last one

        def some(task: SegmentationTask, average: Backbone, whole: list[bool] = whole) -> dict[str, Any] | None:
            if whole:
                whole.pop()
                return validate(task, average)
            raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(SegmentationTask, "validate", some)
            with pytest.raises(RuntimeError, match="killed"):
                run(out=tmp_path / str(steps))
        kept = checkpoint.load_tensors(tmp_path / str(steps) / "resume.safetensors")[1]
        assert json.loads(kept["step"]) == steps
        run(out=tmp_path / str(steps), resume=True)
        assert_same_run(tmp_path / str(steps), uninterrupted)


@pytest.mark.slow
def test_a_report_without_run_json(run: Run, uninterrupted: Path, tmp_path: Path) -> None:
    run(pause_after=1)
    (tmp_path / "out" / "run.json").write_text("{")
    run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_best_weights_stay_when_later_ones_are_worse(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([40.0, 50.0, 45.0, 49.0])
    monkeypatch.setattr(SegmentationTask, "validate", lambda *_: {"miou": next(scores)})
    recipe = replace(DEBUG, iterations=12)
    run(recipe, pause_after=7)
    run(recipe, resume=True)
    out = tmp_path / "out"
    mious = [checkpoint.load(out / f"{name}.safetensors")[1].metrics["val"]["miou"] for name in ("best", "last")]
    assert mious == [50.0, 49.0]


def test_what_is_validated_and_saved_is_the_average(run: Run, tmp_path: Path) -> None:
    run(validation=None)
    state = checkpoint.load_tensors(tmp_path / "out" / "resume.safetensors")[0]
    weights = checkpoint.load_tensors(tmp_path / "out" / "last.safetensors")[0]
    name = "fusion.deep.0.weight"
    assert torch.equal(weights[name], state[f"average.{name}"])
    assert not torch.equal(weights[name], state[f"model.{name}"])


@pytest.mark.reliability("not-finite")
def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pause_after=3)
    before = content(tmp_path / "out")
    monkeypatch.setattr(module, "training_loss", lambda logits, *_: logits.main.sum() * math.nan)
    with pytest.raises(FastSCNNError, match=r"The loss is nan at step 3, on \S+images/train/\d\.png, \S+\d\.png; "):
        run(resume=True)
    assert content(tmp_path / "out") == before


@pytest.mark.reliability("not-finite")
def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The square root of zero is finite, but its derivative is not."""
    run(pause_after=3)
    before = content(tmp_path / "out")
    monkeypatch.setattr(module, "training_loss", lambda logits, *_: (logits.main.sum() * 0).sqrt())
    with pytest.raises(FastSCNNError, match=r"The gradient norm is nan at step 3, on \S+images/train/\d\.png"):
        run(resume=True)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("steps", [0, -1])
def test_a_pause_before_the_first_step_is_refused(run: Run, steps: int) -> None:
    with pytest.raises(FastSCNNError, match=f"pause_after: must be at least 1, not {steps}"):
        run(pause_after=steps)


def test_a_learning_rate_that_is_far_too_high_stops(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"The loss is (nan|inf) at step [12], .*lower --lr"):
        run(replace(DEBUG, lr=1e30))
    assert list(content(tmp_path / "out")) == ["run.json"]


def test_a_run_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    run(pause_after=1)
    before = content(tmp_path / "out")
    with pytest.raises(FastSCNNError, match=r"already contains a run; continue it with --resume"):
        run()
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_weights_are_not_overwritten(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(FastSCNNError, match=f"contains {name} of a run that cannot be resumed"):
        run()
    assert content(tmp_path / "out") == {name: b"precious"}


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        ({"lr": 0.01}, {}, r"\(lr was 0.045 and is 0.01\)"),
        ({"crop": (64, 128)}, {}, r"\(crop was \[64, 96\] and is \[64, 128\]\)"),
        ({"seed": 3, "ema": 0.9}, {}, r"\(ema was 0.5 and is 0.9; seed was 0 and is 3\)"),
        ({}, {"validation": None}, r"data was .*; validation was val and is None"),
        ({}, {"split": "val", "validation": "train"}, r"split was train and is val; validation was val and is train"),
    ],
)
def test_resuming_with_other_settings_names_them(
    run: Run, uninterrupted: Path, recipe: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        run(replace(DEBUG, **recipe), uninterrupted, resume=True, **arguments)


@pytest.fixture
def own_dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny dataset that may be changed."""
    shutil.copytree(tiny_dataset.parent, tmp_path / "data")
    return tmp_path / "data" / "dataset.toml"


def test_resuming_with_other_classes_is_refused(uninterrupted: Path, own_dataset: Path) -> None:
    own_dataset.write_text(own_dataset.read_text().replace("'Sky'", "'Heaven'"))
    with pytest.raises(FastSCNNError, match=r"\(classes was \['Sky', .*\] and is \['Heaven', "):
        train(DEBUG, datasets.load(str(own_dataset)), uninterrupted, resume=True)


def test_a_run_of_version_0_1_is_resumed(run: Run, uninterrupted: Path, tmp_path: Path) -> None:
    """Its recipe has other names, its source is another text, and a field that was added since has its default."""
    run(pause_after=2)
    path = tmp_path / "out" / "resume.safetensors"
    tensors, metadata = checkpoint.load_tensors(path)
    identity = json.loads(metadata["identity"])
    old = {"width_mult": "width", "reparam_branches": "branches", "ohem_ratio": "hard_pixels",
           "ohem_threshold": "hard_probability", "weight_decay_on": "decayed"}  # fmt: skip
    newer = {"soft_head", "corruption"}  # fields that version 0.1 did not have
    recipe = {old.get(name, name): value for name, value in identity["recipe"].items() if name not in newer}
    recipe["source"] = "the smallest training"
    assert set(old.values()) < set(recipe)
    checkpoint.save_tensors(path, tensors, {**metadata, "identity": json.dumps({**identity, "recipe": recipe})})
    run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)


STATES: dict[str, Callable[[dict[str, Any], dict[str, str]], object]] = {
    "no identity": lambda tensors, numbers: numbers.pop("identity"),
    "no step": lambda tensors, numbers: numbers.pop("step"),
    "identity that is a number": lambda tensors, numbers: numbers.update(identity="1"),
    "not JSON": lambda tensors, numbers: numbers.update(losses="[1,"),
    "losses that are a number": lambda tensors, numbers: numbers.update(losses="1"),
    "a missing weight": lambda tensors, numbers: tensors.pop(next(name for name in tensors if name.startswith("model."))),
    "an unknown parameter": lambda tensors, numbers: tensors.update({"optimiser.exp_avg.nothing": torch.zeros(1)}),
}


@pytest.mark.parametrize("damage", list(STATES.values()), ids=list(STATES))
def test_a_state_that_lacks_something_is_refused(
    run: Run, uninterrupted: Path, tmp_path: Path, damage: Callable[[dict[str, Any], dict[str, str]], object]
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "out")
    path = tmp_path / "out" / "resume.safetensors"
    tensors, numbers = checkpoint.load_tensors(path)
    damage(tensors, numbers)
    checkpoint.save_tensors(path, tensors, numbers)
    with pytest.raises(FastSCNNError, match=r"resume\.safetensors: is not the state of a run, .* The last intact weights"):
        run(resume=True)


@pytest.mark.parametrize("line", [b"{", b"1", b'{"step": null}', b"\xff"])
def test_a_log_that_cannot_be_read_is_refused(run: Run, uninterrupted: Path, tmp_path: Path, line: bytes) -> None:
    shutil.copytree(uninterrupted, tmp_path / "out")
    path = tmp_path / "out" / "log.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(FastSCNNError, match=r"log\.jsonl: .*; move it away to resume without the earlier lines"):
        run(resume=True)


def test_resume_starts_a_run_where_nothing_was_saved(run: Run, uninterrupted: Path, tmp_path: Path) -> None:
    """So that the command of a cluster or of torchrun is the same at every start."""
    said: list[str] = []
    run(resume=True, on_message=said.append)
    assert said[0] == f"{tmp_path / 'out'}: nothing was saved yet; the training starts from the beginning."
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == (uninterrupted / "best.safetensors").read_bytes()
    run(resume=True, on_message=said.append)
    assert len(said) == 1


def test_resume_starts_no_run_beside_weights_of_another(run: Run, tmp_path: Path) -> None:
    run(pause_after=1)
    (tmp_path / "out" / "resume.safetensors").rename(tmp_path / "moved")
    (tmp_path / "out" / "best.safetensors").write_bytes(b"weights")
    with pytest.raises(FastSCNNError, match=r"out: contains best\.safetensors of a run that cannot be resumed"):
        run(resume=True)
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == b"weights"


def test_a_broken_state_is_refused(run: Run, tmp_path: Path) -> None:
    run(pause_after=1)
    path = tmp_path / "out" / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FastSCNNError, match=r"resume\.safetensors: is not a safetensors file or is truncated"):
        run(resume=True)


@pytest.mark.parametrize(("broken", "named"), [((), "last"), (("last",), "best"), (("last", "best"), None)])
def test_a_broken_state_names_the_last_intact_weights(
    run: Run, uninterrupted: Path, tmp_path: Path, broken: tuple[str, ...], named: str | None
) -> None:
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    for name in ("resume", *broken):
        path = out / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    whole = "No weights of this run are intact; start a new run"
    if named:
        whole = f"The last intact weights of this run are {out / named}.safetensors; train from them with"
    with pytest.raises(FastSCNNError, match=rf"resume\.safetensors: is not a safetensors file .*\. {re.escape(whole)}"):
        run(resume=True)


@pytest.mark.parametrize("arguments", [{"split": "trian"}, {"validation": "trian"}, {"split": "train+trian"}])
def test_an_unknown_split_is_refused(run: Run, tmp_path: Path, arguments: dict[str, str]) -> None:
    with pytest.raises(FastSCNNError, match=r"no split of tiny 'trian'\. Did you mean 'train'"):
        run(**arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_faulty_data_is_refused_before_the_first_step(own_dataset: Path, tmp_path: Path, split: str) -> None:
    path = sorted((own_dataset.parent / "labels" / split).iterdir())[1]
    labels = images.read_values(path)[0].astype(np.uint8)
    labels[:3, :3] = 50
    images.write(path, labels)
    with pytest.raises(FastSCNNError, match=rf"{path.name}.*no class of tiny: 50 \(9 pixels\)\. Correct the ids, add the"):
        train(DEBUG, datasets.load(str(own_dataset)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FastSCNNError, match=r"file/report\.html: cannot be read \(Not a directory\)"):
        run(out=tmp_path / "file")


@pytest.mark.parametrize("arguments", [{"split": "train+val"}, {"validation": "train"}])
def test_a_training_split_cannot_validate(run: Run, arguments: dict[str, str]) -> None:
    with pytest.raises(FastSCNNError, match=r"'(val|train)' is also a training split"):
        run(**arguments)


def test_several_splits(run: Run) -> None:
    card = run(replace(DEBUG, iterations=2), split="train+val", validation=None)
    assert card.data
    assert (card.data.splits, card.data.images) == ("train+val", 9)


def test_epochs_count_images(run: Run) -> None:
    seen: list[Progress] = []
    run(replace(DEBUG, iterations=None, epochs=3, batch=4, validate_every=9), validation=None, on_step=seen.append)
    assert [(progress.step, progress.steps) for progress in seen] == [(step, 5) for step in range(1, 6)]  # 18 images


def test_progress_has_the_score_of_the_validation_after_its_step(run: Run, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(on_step=seen.append)
    scores = {line["step"]: line["validation"]["miou"] for line in lines(tmp_path / "out")}
    assert [progress.score for progress in seen] == [None, None, scores[3], scores[4]]
    assert seen[-1].loss == lines(tmp_path / "out")[-1]["loss"]


def test_a_validation_without_a_step_has_progress_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped during its last validation resumes with that validation."""

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "validate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(replace(DEBUG, iterations=2))
    seen: list[Progress] = []
    run(replace(DEBUG, iterations=2), resume=True, on_step=seen.append)
    (line,) = lines(tmp_path / "out")
    assert [(progress.step, progress.score, progress.loss) for progress in seen] == [
        (2, line["validation"]["miou"], line["loss"])
    ]


def test_the_learning_rate_falls_as_a_polynomial(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.SGD.step

    def record(optimiser: torch.optim.SGD) -> None:
        used.extend({group["lr"] for group in optimiser.param_groups})
        step(optimiser)

    monkeypatch.setattr(torch.optim.SGD, "step", record)
    seen: list[Progress] = []
    run(on_step=seen.append)
    expected = [0.045 * (1 - done / 4) ** 0.9 for done in range(4)]
    assert used == pytest.approx(expected)
    assert [progress.lr for progress in seen] == pytest.approx(expected)
    assert [line["lr"] for line in lines(tmp_path / "out")] == pytest.approx(expected[2:])


def test_warm_up_and_minimum_learning_rate() -> None:
    recipe = replace(DEBUG, lr=0.1, min_lr=0.02, power=1.0, warmup=3)
    rates = [_learning_rate(recipe, step, 8) for step in range(8)]
    # Without warm-up it falls by 0.01 per step, from 0.1. The first three steps use a quarter, a half and three quarters of it.
    assert rates == pytest.approx([0.025, 0.045, 0.06, 0.07, 0.06, 0.05, 0.04, 0.03])
    assert _learning_rate(recipe, 8, 8) == pytest.approx(0.02)
    squared = replace(recipe, power=2.0, warmup=0)
    assert [_learning_rate(squared, step, 2) for step in range(2)] == pytest.approx([0.1, 0.02 + 0.08 / 4])


def test_the_average_of_the_weights() -> None:
    state = initial_state(DEBUG)
    name, bits = "fusion.deep.0.weight", "fusion.deep.1.running_var"
    expected = {key: state.average.state_dict()[key].double() for key in (name, bits)}
    for number in range(1, 31):
        with torch.no_grad():
            for tensor in state.model.state_dict().values():
                tensor.add_(1) if tensor.is_floating_point() else tensor.fill_(number)
        state.step = number
        _average(state, 0.6)
        decay = min(0.6, number / (number + 10))
        for key, value in expected.items():
            expected[key] = decay * value + (1 - decay) * state.model.state_dict()[key].double()
    average = state.average.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(average[key].double(), value, atol=1e-4, rtol=1e-6)
    assert average["fusion.deep.1.num_batches_tracked"] == 30


def test_without_averaging_the_plain_weights_are_kept() -> None:
    state = initial_state(DEBUG)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.mul_(1.1).add_(0.3)
    state.step = 1
    _average(state, 0.0)
    pairs = zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True)
    assert all(torch.equal(average, new) for average, new in pairs)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("weight_decay_on", ["dense", "all"])
def test_weight_decay(optimiser: Any, weight_decay_on: Any) -> None:
    """The paper excludes depthwise convolutions."""
    changes: dict[str, Any] = {"weight_decay": 0.1, "momentum": 0.0, "optimiser": optimiser, "weight_decay_on": weight_decay_on}
    state = initial_state(replace(DEBUG, **changes))
    before = copy.deepcopy(state.model)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in state.optimiser.param_groups:
        group["lr"] = 0.5
    state.optimiser.step()
    convolutions = [(name, layer) for name, layer in before.named_modules() if isinstance(layer, nn.Conv2d)]
    depthwise = {f"{name}.weight" for name, layer in convolutions if layer.groups > 1}
    assert len(depthwise) == 14  # learning to downsample 2, bottlenecks 9, fusion 1, classifier 2
    pairs = zip(before.named_parameters(), state.model.parameters(), strict=True)
    for (name, old), new in pairs:
        torch.testing.assert_close(new, old if name in depthwise and weight_decay_on == "dense" else 0.95 * old)


def test_adamw_takes_the_recipes_momentum() -> None:
    optimiser = initial_state(replace(DEBUG, optimiser="adamw", momentum=0.8)).optimiser
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.defaults["betas"] == (0.8, 0.999)


def test_norm_momentum_reaches_every_batch_norm() -> None:
    state = initial_state(replace(DEBUG, norm_momentum=0.37, reparam_branches=True))
    for model in (state.model, state.average):
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert len(norms) == 44 + 2 + 14  # the network, its auxiliary heads, its re-parameterised branches
        assert {norm.momentum for norm in norms} == {0.37}


def test_class_weights() -> None:
    pixels = np.array([900, 100, 0])
    weights = _class_weights(replace(DEBUG, class_weights="log"), pixels, CPU)
    expected = [1 / math.log(1.1 + share) for share in (0.9, 0.1, 0.9)]  # one without pixels counts as the most frequent
    assert isinstance(weights, Tensor)
    assert weights.tolist() == pytest.approx(expected)
    assert weights.dtype == torch.float32
    assert _class_weights(replace(DEBUG, class_weights="none"), pixels, CPU) is None


@pytest.mark.slow
def test_the_pixels_of_the_loss_change_with_the_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[tuple[int, int]] = []
    def record(*arguments: Any) -> Tensor:
        phases.append(arguments[4])
        return training_loss(*arguments)

    monkeypatch.setattr(module, "training_loss", record)
    run(replace(DEBUG, iterations=12), validation=None)
    assert len(set(phases)) > 6
    rest = {tuple(np.mod(phase, 2)) for phase in phases}
    assert rest == set(itertools.product((0, 1), repeat=2))


@pytest.mark.parametrize("changes", [{"auxiliary": 0.0}, {"variant": "mmseg"}, {"size": (64, 64)}, {"width_mult": 0.5}])
def test_other_recipes_run(run: Run, tmp_path: Path, changes: dict[str, Any]) -> None:
    card = run(replace(DEBUG, iterations=2, **changes))
    assert card.size == changes.get("size", (96, 128))
    assert (card.variant, card.width_mult) == (changes.get("variant", "paper"), changes.get("width_mult", 1.0))
    assert checkpoint.load(tmp_path / "out" / "last.safetensors")[1] == card


def test_mmsegmentations_recipe_runs(run: Run) -> None:
    small: dict[str, Any] = {"batch": 2, "iterations": 1, "crop": (64, 96)}
    card = run(replace(named("mmseg"), **small), validation=None)
    assert (card.variant, card.recipe["loss"], card.recipe["colour"]) == ("mmseg", "sigmoid", "mmseg")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_the_recipes(run: Run, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    kinds: list[torch.dtype] = []
    def record(logits: TrainingLogits, *arguments: Any) -> Tensor:
        kinds.extend(head.dtype for head in (logits.main, *logits.auxiliary))
        return training_loss(logits, *arguments)

    monkeypatch.setattr(module, "training_loss", record)
    changes: dict[str, Any] = {"iterations": 1, "precision": precision}
    run(replace(DEBUG, **changes), validation=None)
    assert kinds == [getattr(torch, precision)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"optimiser": "adamw", "lr": 0.003, "warmup": 2},
    {"ohem_threshold": 0.3, "class_weights": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0)},
    {"reparam_branches": True, "classmix": 0.5, "distillation": 1.0, "optimiser": "adamw", "lr": 0.003},
    {"reparam_branches": True, "balanced_crops": 0.5, "paste": 0.5, "lovasz": 0.5, "ohem_ratio": 0.5, "label_smoothing": 0.1},
])
def test_with_all_options_resumed_equals_uninterrupted(
    run: Run, uninterrupted: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe, whole, out = replace(DEBUG, **changes), tmp_path / "whole", tmp_path / "out"
    teacher = [uninterrupted / "last.safetensors"] if "distillation" in changes else []
    run(recipe, whole, teacher=teacher)
    run(recipe, pause_after=2, teacher=teacher)
    if "optimiser" in changes:
        kept = checkpoint.load_tensors(out / "resume.safetensors")[0]
        assert kept["optimiser.step.classifier.3.weight"] == 2
        assert kept["optimiser.exp_avg_sq.classifier.3.weight"].any()
    run(recipe, resume=True, teacher=teacher)
    assert_same_run(out, whole)


def test_branches_are_fused_when_weights_are_saved(run: Run, tmp_path: Path) -> None:
    recipe = replace(DEBUG, reparam_branches=True, iterations=2)
    card = run(recipe)
    saved, _ = checkpoint.load(tmp_path / "out" / "last.safetensors")
    state = checkpoint.load_tensors(tmp_path / "out" / "resume.safetensors")[0]
    trained = initial_state(recipe, card).average
    trained.load_state_dict({name.removeprefix("average."): value for name, value in state.items() if "average" in name})
    with torch.no_grad():
        for conv in trained.depthwise():
            assert conv.branch is not None
        image = torch.randint(256, (1, 64, 96, 3))
        torch.testing.assert_close(saved(image), trained(image), atol=1e-4, rtol=1e-4)
    assert card.metrics["val"]["miou"] >= 0


@pytest.mark.parametrize("reparam_branches", [False, True])
def test_init_gives_these_weights(uninterrupted: Path, reparam_branches: bool) -> None:
    path = uninterrupted / "last.safetensors"
    weights, card = checkpoint.load(path)
    state, notes = initial(replace(DEBUG, seed=5, reparam_branches=reparam_branches), card, CPU, path)
    assert notes == []
    for model in (state.model, state.average):
        for name, tensor in weights.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor)
        assert [conv.branch is not None for conv in model.depthwise()] == [reparam_branches] * 14
    with torch.no_grad():
        image = torch.randint(256, (1, 75, 101, 3), dtype=torch.uint8)
        weights = weights.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training
        assert torch.equal(state.average(image), weights(image))
    fresh = initial_state(replace(DEBUG, seed=5, reparam_branches=reparam_branches), card)
    kept = {name: tensor for name, tensor in fresh.model.state_dict().items() if name.startswith("auxiliary")}
    assert all(torch.equal(state.model.state_dict()[name], tensor) for name, tensor in kept.items())


def test_a_branch_of_weight_zero_learns(uninterrupted: Path) -> None:
    """A branch whose weight is 0 has a gradient."""
    path = uninterrupted / "last.safetensors"
    state = initial_state(replace(DEBUG, reparam_branches=True), checkpoint.load(path)[1], path)
    state.model(torch.randint(256, (2, 64, 96, 3))).main.square().sum().backward()
    for conv in state.model.depthwise():
        assert conv.branch is not None
        assert not conv.branch.weight.any()
        assert conv.branch.weight.grad is not None
        assert conv.branch.weight.grad.any()


@pytest.mark.parametrize("names", [("road", "car"), tuple("abcdefghijk")])
def test_init_with_other_classes_replaces_the_last_layer(uninterrupted: Path, names: tuple[str, ...]) -> None:
    path = uninterrupted / "last.safetensors"
    weights, theirs = checkpoint.load(path)
    card = replace(CARD, label_set=LabelSet(names))
    state, notes = initial(DEBUG, card, CPU, path)
    before, now = ", ".join(theirs.label_set.names), ", ".join(names)
    assert notes == [f"{path}: its last layer is replaced, because its classes ({before}) are not those of the "
                     f"dataset ({now})."]
    fresh = initial_state(DEBUG, card).model.state_dict()
    for name, tensor in state.model.state_dict().items():
        last = name.startswith(("classifier.3", "auxiliary"))
        assert torch.equal(tensor, fresh[name] if last else weights.state_dict()[name])
    assert not torch.equal(state.model.state_dict()["fusion.deep.0.weight"], fresh["fusion.deep.0.weight"])


@pytest.mark.slow
def test_the_message_about_init_comes_once(run: Run, own_dataset: Path, uninterrupted: Path, tmp_path: Path) -> None:
    path, messages, later = uninterrupted / "last.safetensors", list[str](), list[str]()
    run(replace(DEBUG, iterations=1), tmp_path / "same", validation=None, init=path, on_message=messages.append)
    assert messages == []
    own_dataset.write_text(own_dataset.read_text().replace("'Sky'", "'Heaven'"))
    arguments: dict[str, Any] = {"validation": None, "init": path}
    spec = datasets.load(str(own_dataset))
    train(DEBUG, spec, tmp_path / "out", on_message=messages.append, pause_after=1, **arguments)
    assert len(messages) == 1
    assert "its last layer is replaced, because its classes (Sky, " in messages[0]
    assert "dataset (Heaven, " in messages[0]
    train(DEBUG, spec, tmp_path / "out", on_message=later.append, resume=True, **arguments)
    assert later == []
    ran = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ran["init"], ran["teacher"]) == (hashlib.sha256(path.read_bytes()).hexdigest(), [])
    with pytest.raises(FastSCNNError, match=rf"\(init was {ran['init']} and is None\)"):
        train(DEBUG, spec, tmp_path / "out", validation=None, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "mmseg"}, "but the network to train has variant 'mmseg', width_mult 1\\.0 and 3 channels"),
        ({"width_mult": 0.5}, "but the network to train has variant 'paper', width_mult 0\\.5 and 3 channels"),
    ],
)
def test_init_from_another_network_is_refused(run: Run, uninterrupted: Path, changes: dict[str, Any], message: str) -> None:
    known = r"last\.safetensors: has variant 'paper', width_mult 1\.0 and 3 channels, "
    with pytest.raises(FastSCNNError, match=known + message):
        run(replace(DEBUG, **changes), init=uninterrupted / "last.safetensors")


@pytest.mark.parametrize(("crop", "message"), [
    ((64, 96), []), ((96, 128), []), ((64, 64), []),
    ((64, 90), ["--crop 64x96"]),
    ((40, 96), ["--crop 32x96"]),
])  # fmt: skip
def test_a_crop_that_does_not_fit_the_input_size_is_named(run: Run, crop: tuple[int, int], message: list[str]) -> None:
    said: list[str] = []
    run(replace(DEBUG, crop=crop, iterations=1), validation=None, on_message=said.append)
    differ = f"The crop {crop[0]}x{crop[1]} and the input size 96x128 differ modulo 32, which costs about a point of mIoU; "
    assert said == [f"{differ}{fit} fits (docs/accuracy.md)." for fit in message]


@pytest.mark.parametrize("arguments", [{"init": Path("none.safetensors")}, {"teacher": [Path("none.safetensors")]}])
def test_initial_weights_must_exist(run: Run, tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(FastSCNNError, match=r"none\.safetensors: cannot be read"):
        run(replace(DEBUG, distillation=float("teacher" in arguments)), **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("weight", "message"), [
    (0.0, r"distillation: is 0, so the teachers would not be used; set it above 0"),
    (1.0, r"distillation: needs a teacher; give --teacher, or add soft labels to the training images"),
])
def test_a_teacher_and_distillation_go_together(
    run: Run, uninterrupted: Path, tmp_path: Path, weight: float, message: str
) -> None:
    teacher = [] if weight else [uninterrupted / "last.safetensors"]
    with pytest.raises(FastSCNNError, match=message):
        run(replace(DEBUG, distillation=weight), teacher=teacher)
    assert not (tmp_path / "out").exists()


def test_a_teacher_may_be_wider_but_has_the_same_classes(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(path, FastSCNN(2, width_mult=1.5, variant="mmseg"), replace(CARD, width_mult=1.5, variant="mmseg"))
    (teacher,) = teachers([path], CARD, CPU)
    assert not teacher.training
    for names in (("car", "road"), ("road", "car", "sky")):
        with pytest.raises(FastSCNNError, match=r"teacher\.safetensors: cannot be a teacher, because its classes"):
            teachers([path], replace(CARD, label_set=LabelSet(names)), CPU)


def test_the_target_is_the_mean_of_the_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def record(*arguments: Any) -> Tensor:
        seen.append(arguments[5])
        return training_loss(*arguments)

    monkeypatch.setattr(module, "training_loss", record)
    recipe = replace(DEBUG, precision="float32", distillation=1.0)
    random = np.random.default_rng(0)
    batch = Batch(random.integers(0, 256, (2, 64, 96, 3), np.uint8), random.integers(0, 2, (2, 64, 96), np.uint8), ("a", "b"))
    torch.manual_seed(1)
    teaching = [FastSCNN(2).eval(), FastSCNN(2, width_mult=0.5).eval()]
    for teacher in teaching:
        nn.init.normal_(teacher.get_parameter("classifier.3.bias"))  # so that they differ
    step(initial_state(recipe), batch, SegmentationLoss(recipe, teachers=teaching), recipe, 0.01)
    with torch.no_grad():
        first, second = (teacher(torch.from_numpy(batch.images)).softmax(1) for teacher in teaching)
    torch.testing.assert_close(seen[0], (first + second) / 2)
    assert (first - second).abs().max() > 0.01
    assert all(parameter.grad is None for teacher in teaching for parameter in teacher.parameters())


OF_ABSENT: list[Any] = [
    {"class_weights": "log", "label_smoothing": 0.1}, {"balanced_crops": 1.0, "paste": 1.0},
    *(pytest.param(changes, marks=pytest.mark.slow) for changes in (
        {"class_weights": "log", "loss": "sigmoid"}, {"lovasz": 1.0, "classmix": 1.0, "ohem_ratio": 0.5})),
]  # fmt: skip


@pytest.mark.parametrize("changes", OF_ABSENT)
def test_classes_without_pixels_are_named_and_not_learned(own_dataset: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    ghosts = [f"ghost {number}" for number in range(12)]
    own_dataset.write_text(own_dataset.read_text().replace("]\n", f", {str(ghosts)[1:-1]}]\n", 1))
    said: list[str] = []
    recipe = replace(DEBUG, iterations=2, **changes)
    card = train(recipe, datasets.load(str(own_dataset)), tmp_path / "out", on_message=said.append)
    assert said[0].startswith("No training pixel is ghost 0, ghost 1, ghost 2, ")
    assert said[0].endswith("ghost 7 and 4 more; the network will not learn these classes.")
    assert isinstance(card, Card)
    scores = card.metrics["val"]
    assert math.isfinite(scores["miou"])
    assert set(scores["iou"]) == {*synthetic.CLASSES, *ghosts}
    weights = checkpoint.load_tensors(tmp_path / "out" / "last.safetensors")[0]
    assert all(bool(torch.isfinite(values).all()) for values in weights.values() if values.is_floating_point())
    report = evaluate(tmp_path / "out" / "last.safetensors", own_dataset, split="val").to_dict()
    present = [score for score in report["iou"].values() if score is not None]
    assert report["miou"] == pytest.approx(sum(present) / len(present))


def test_training_on_one_class_is_refused(own_dataset: Path, tmp_path: Path) -> None:
    for path in (own_dataset.parent / "labels/train").iterdir():
        labels = images.read_values(path)[0]
        images.write(path, np.where(labels == 1, 1, 255).astype(np.uint8))
    with pytest.raises(FastSCNNError, match=f"all labelled pixels of the split 'train' are '{synthetic.CLASSES[1]}', so there"):
        train(DEBUG, datasets.load(str(own_dataset)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


FULL = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("std::bad_alloc"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
]


@pytest.mark.parametrize(("error", "batch", "crop", "hint"), [
    *((error, 8, (64, 96), "--batch 4 or --crop 32x64") for error in FULL), (FULL[0], 3, (99, 48), "--crop 64x32"),
])  # fmt: skip
def test_running_out_of_memory_says_what_to_try(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, batch: int, crop: tuple[int, int], hint: str
) -> None:
    def full(*_: object) -> float:
        raise error

    monkeypatch.setattr(loop, "step", full)
    message = f"^Out of memory at --batch {batch} and --crop {crop[0]}x{crop[1]}; try {hint}, with another --out.$"
    with pytest.raises(FastSCNNError, match=message) as caught:
        run(replace(DEBUG, batch=batch, crop=crop))
    assert caught.value.__cause__ is error


def test_running_out_of_memory_in_loading_and_validation(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Batch:
        raise FULL[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "batch", full)
        with pytest.raises(FastSCNNError, match="Out of memory at --batch 2"):
            run()
    monkeypatch.setattr(SegmentationTask, "validate", full)
    with pytest.raises(FastSCNNError, match="Out of memory at --batch 2"):
        run(out=tmp_path / "other")


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), cv2.error("(-215:Assertion failed)")])
def test_other_errors_are_not_changed(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(loop, "step", fail)
    with pytest.raises(type(error)) as caught:
        run()
    assert caught.value is error


HOLDER = """
import signal, sys
from pathlib import Path
from fastscnn.training.distributed import ALONE
from fastscnn.training.run_lock import held
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
with held(Path(sys.argv[1]), ALONE):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["kill", pytest.param("interrupt", marks=pytest.mark.slow)])
def test_one_training_at_a_time_in_a_folder(tmp_path: Path, tiny_dataset: Path, end: str) -> None:
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FastSCNNError, match=rf"run: process {other.pid} on .* trains there; wait for it, or use another"):
            train(replace(DEBUG, iterations=1), tiny_dataset, out, validation=None)
        assert [path.name for path in out.iterdir()] == [".lock"]
        other.kill() if end == "kill" else other.send_signal(signal.SIGINT)
    train(replace(DEBUG, iterations=1), tiny_dataset, out, validation=None)
    assert (out / "best.safetensors").exists()
    assert not (out / ".lock").exists()


@pytest.fixture
def other_machine(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the folder `run`, as one of another machine does on a file server."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        (tmp_path / "run" / ".lock").write_text("process 7 on machine-b")
        yield other
        other.kill()


@pytest.mark.slow
def test_the_lock_of_a_machine_that_has_failed_is_waited_for(
    tmp_path: Path, tiny_dataset: Path, other_machine: subprocess.Popen[str]
) -> None:
    out, said = tmp_path / "run", []

    def hear(message: str) -> None:
        said.append(message)
        other_machine.kill()  # now the server frees the lock

    train(replace(DEBUG, iterations=1), tiny_dataset, out, validation=None, on_message=hear)
    assert said[0] == f"{out}: process 7 on machine-b trains there; waiting up to 120 s, in case that machine failed."
    assert (out / "best.safetensors").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("other_machine")
def test_the_lock_of_a_machine_that_trains_is_refused(
    tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "LEASE", 0.1)
    with pytest.raises(FastSCNNError, match="run: process 7 on machine-b trains there; wait for it, or use another --out"):
        train(replace(DEBUG, iterations=1), tiny_dataset, tmp_path / "run", validation=None)


def test_torchrun_that_restarts_needs_resume(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    said: list[str] = []
    run(pause_after=1, on_message=said.append)
    assert said[0].startswith("torchrun restarts this training after a failure, but a restarted one is refused without")
    said.clear()
    run(pause_after=2, resume=True, on_message=said.append)
    assert said == []


def test_what_a_killed_training_left_half_written_is_removed(tmp_path: Path, tiny_dataset: Path) -> None:
    out = tmp_path / "run"
    train(replace(DEBUG, iterations=2), tiny_dataset, out, validation=None, pause_after=1)
    left = [f".{name}.{16 * 'a'}.part" for name in ("best.safetensors", "resume.safetensors", "log.jsonl", "run.json")]
    others = ["notes.txt", ".mine.part", f".street.labels.png.{16 * 'a'}.part"]
    for name in (*left, *others):
        (out / name).write_bytes(b"half")
    train(replace(DEBUG, iterations=2), tiny_dataset, out, validation=None, resume=True)
    assert [name for name in (*left, *others) if (out / name).exists()] == others


def test_a_refused_training_leaves_no_folder(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(FastSCNNError):
        train(DEBUG, tiny_dataset, tmp_path / "run", split="gone")
    assert not (tmp_path / "run").exists()


@pytest.mark.reliability("not-finite")
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, tiny_dataset: Path, ema: float) -> None:
    """With so high a learning rate the first step overflows, and the loss before it was finite."""
    out = tmp_path / "run"
    with pytest.raises(FastSCNNError, match=r"weights are not finite at step 1 \(.*\)\. They are not saved; nothing was saved"):
        train(replace(DEBUG, iterations=1, lr=3e38, ema=ema), tiny_dataset, out, validation=None)
    assert [path.name for path in out.iterdir()] == ["run.json"]


@pytest.mark.reliability("not-finite")
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["model", "average"])
def test_a_variance_that_overflows_is_found_and_the_last_weights_are_kept(
    tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, value: float, where: str
) -> None:
    out = tmp_path / "run"
    train(replace(DEBUG, iterations=2), tiny_dataset, out, validation=None, pause_after=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def spoil(state: State, *more: Any) -> float:
        loss = step(state, *more)
        getattr(state, where).state_dict()["downsample.0.1.running_var"][0] = value
        return loss

    monkeypatch.setattr(loop, "step", spoil)
    message = r"not finite at step 2 \(downsample\.0\.1\.running_var\).*; what was saved before is kept"
    with pytest.raises(FastSCNNError, match=message):
        train(replace(DEBUG, iterations=2), tiny_dataset, out, validation=None, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
