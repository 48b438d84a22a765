"""Training: resumed equals uninterrupted, what is refused before the first step, and the arithmetic of a step."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastscnn import datasets, images
from fastscnn.card import Card
from fastscnn.datasets.check import CheckReport, check
from fastscnn.errors import FastSCNNError
from fastscnn.learn import checkpoint
from fastscnn.learn import train as module
from fastscnn.learn.loss import training_loss
from fastscnn.learn.model import TrainingLogits
from fastscnn.learn.run import Run as Folder
from fastscnn.learn.train import Progress, _average, _class_weights, _start, train
from fastscnn.recipes import Recipe, named

DEBUG = named("debug")
KEPT = ("last.safetensors", "best.safetensors", "log.jsonl")

Run = Callable[..., Card]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Bits are compared between processes, so that all must add up in one order; and small images gain nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> Run:
    """Trains on the tiny dataset, 3 steps an epoch, in the folder `out` unless told otherwise."""
    spec = datasets.load(str(tiny_dataset))

    def start(recipe: Recipe = DEBUG, out: Path | None = None, **arguments: Any) -> Card:
        return train(recipe, spec, out or tmp_path / "out", **arguments)

    return start


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps, validated after the third and the fourth."""
    out = tmp_path_factory.mktemp("uninterrupted")
    train(DEBUG, datasets.load(str(tiny_dataset)), out)
    return out


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    for name in KEPT:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tensors = [checkpoint.load_tensors(out / "resume.safetensors")[0] for out in (one, other)]
    assert checkpoint.digest(tensors[0]) == checkpoint.digest(tensors[1])


def test_a_run(uninterrupted: Path, tiny_dataset: Path) -> None:
    assert sorted(content(uninterrupted)) == sorted([*KEPT, "resume.safetensors", "run.json"])
    log = lines(uninterrupted)
    assert [line["step"] for line in log] == [3, 4]
    assert all(line["loss"] > 0 and 0 <= line["validation"]["miou"] <= 100 for line in log)
    spec = datasets.load(str(tiny_dataset))
    _, card = checkpoint.load(uninterrupted / "last.safetensors")
    assert card.label_set.names == spec.label_set.names
    assert (card.size, card.variant) == ((96, 128), "paper")
    assert card.metrics == {"val": log[-1]["validation"]}
    assert card.recipe["lr"] == DEBUG.lr
    assert card.data
    assert (card.data.name, card.data.splits, card.data.images, card.data.terms) == ("tiny", "train", 6, "none")
    assert card.data.fingerprint == check(spec, ["train", "val"]).fingerprint
    best = max(log, key=lambda line: (line["validation"]["miou"], -line["step"]))
    assert checkpoint.load(uninterrupted / "best.safetensors")[1].metrics == {"val": best["validation"]}


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


@pytest.mark.parametrize("pause", [1, 2, 3])
def test_paused_and_resumed_equals_uninterrupted(run: Run, uninterrupted: Path, tmp_path: Path, pause: int) -> None:
    run(pause_after=pause)
    assert (tmp_path / "out" / "last.safetensors").exists() == (pause == 3)
    torch.rand(7)  # what else draws random numbers does not matter
    card = run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)
    assert card == checkpoint.load(uninterrupted / "last.safetensors")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_equals_uninterrupted(
    run: Run, uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 1:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(observe=interrupt)
    assert signal.getsignal(number) == before
    assert "last.safetensors" not in content(tmp_path / "out")
    run(resume=True)
    assert_same_run(tmp_path / "out", uninterrupted)


def test_killed_while_saving_and_resumed_equals_uninterrupted(
    run: Run, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the state of step 3 is written: the log and the weights are ahead of it."""
    run(pause_after=1)

    def kill(*_: object) -> None:
        raise SystemExit

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
    command = [sys.executable, "-m", "fastscnn", "train", "debug", "--data", str(tiny_dataset), "--out", str(out), *changes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not (out / "log.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    stopped = int(checkpoint.load_tensors(out / "resume.safetensors")[1]["step"])
    assert 9 <= stopped < 24
    subprocess.run([*command, "--resume"], check=True, capture_output=True, timeout=300)
    run(replace(DEBUG, iterations=24, validate_every=3))
    assert_same_run(out, tmp_path / "out")


def test_the_loss_falls(run: Run, tmp_path: Path) -> None:
    run(replace(DEBUG, iterations=30, validate_every=5, batch=6), validation=None)
    losses = [line["loss"] for line in lines(tmp_path / "out")]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]


def test_without_validation_the_last_weights_are_the_best(run: Run, tmp_path: Path) -> None:
    card = run(validation=None)
    assert card.metrics == {}
    out = content(tmp_path / "out")
    assert out["last.safetensors"] == out["best.safetensors"]
    assert [line["validation"] for line in lines(tmp_path / "out")] == [None, None]


def test_the_best_weights_stay_when_later_ones_are_worse(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([40.0, 50.0, 45.0, 49.0])
    monkeypatch.setattr(module, "_validate", lambda *_: {"miou": next(scores)})
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


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pause_after=3)
    before = content(tmp_path / "out")
    monkeypatch.setattr(module, "training_loss", lambda logits, *_: logits.main.sum() * math.nan)
    with pytest.raises(FastSCNNError, match=r"The loss is nan at step 3, on \S+images/train/\d\.png, \S+\d\.png; "):
        run(resume=True)
    assert content(tmp_path / "out") == before


def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The square root of zero is finite, its slope is not."""
    run(pause_after=3)
    before = content(tmp_path / "out")
    monkeypatch.setattr(module, "training_loss", lambda logits, *_: (logits.main.sum() * 0).sqrt())
    with pytest.raises(FastSCNNError, match=r"The gradient's length is nan at step 3, on \S+images/train/\d\.png"):
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
    with pytest.raises(FastSCNNError, match=r"holds a run already; go on with it by --resume"):
        run()
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_weights_are_not_overwritten(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(FastSCNNError, match=f"holds {name} of a run that cannot be resumed"):
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
def test_resuming_otherwise_names_what_changed(
    run: Run, uninterrupted: Path, recipe: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        run(replace(DEBUG, **recipe), uninterrupted, resume=True, **arguments)


@pytest.fixture
def own_dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the tiny dataset that may be changed."""
    shutil.copytree(tiny_dataset.parent, tmp_path / "data")
    return tmp_path / "data" / "dataset.toml"


def test_resuming_with_other_classes_is_refused(uninterrupted: Path, own_dataset: Path) -> None:
    own_dataset.write_text(own_dataset.read_text().replace("'Sky'", "'Heaven'"))
    with pytest.raises(FastSCNNError, match=r"\(classes was \['Sky', .*\] and is \['Heaven', "):
        train(DEBUG, datasets.load(str(own_dataset)), uninterrupted, resume=True)


def test_there_must_be_a_run_to_resume(run: Run) -> None:
    with pytest.raises(FastSCNNError, match=r"out: holds no run to resume \(resume\.safetensors is missing\)"):
        run(resume=True)


def test_a_broken_state_is_refused(run: Run, tmp_path: Path) -> None:
    run(pause_after=1)
    path = tmp_path / "out" / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FastSCNNError, match=r"resume\.safetensors: is no safetensors file or is truncated"):
        run(resume=True)


@pytest.mark.parametrize("arguments", [{"split": "trian"}, {"validation": "trian"}, {"split": "train+trian"}])
def test_an_unknown_split_is_refused(run: Run, tmp_path: Path, arguments: dict[str, str]) -> None:
    with pytest.raises(FastSCNNError, match=r"no split of tiny 'trian'\. Did you mean 'train'"):
        run(**arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_faulty_data_is_refused_before_the_first_step(own_dataset: Path, tmp_path: Path, split: str) -> None:
    path = sorted((own_dataset.parent / "labels" / split).iterdir())[1]
    labels = images.read_ids(path)
    labels[:3, :3] = 50
    images.write(path, labels)
    with pytest.raises(FastSCNNError, match=rf"{path.name}.*no class of tiny: 50 \(9 pixels\).*fastscnn check"):
        train(DEBUG, datasets.load(str(own_dataset)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FastSCNNError, match=r"file/run\.json: cannot be written"):
        run(out=tmp_path / "file")


@pytest.mark.parametrize("arguments", [{"split": "train+val"}, {"validation": "train"}])
def test_a_split_that_is_trained_on_chooses_nothing(run: Run, arguments: dict[str, str]) -> None:
    with pytest.raises(FastSCNNError, match=r"'(val|train)' is trained on"):
        run(**arguments)


def test_several_splits(run: Run) -> None:
    card = run(replace(DEBUG, iterations=2), split="train+val", validation=None)
    assert card.data
    assert (card.data.splits, card.data.images) == ("train+val", 9)


def test_epochs_count_images(run: Run) -> None:
    seen: list[Progress] = []
    run(replace(DEBUG, iterations=None, epochs=3, batch=4, validate_every=9), validation=None, observe=seen.append)
    assert [(progress.step, progress.steps) for progress in seen] == [(step, 5) for step in range(1, 6)]  # 18 images, 4 a step


def test_the_learning_rate_falls_as_a_polynomial(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.SGD.step

    def record(optimiser: torch.optim.SGD) -> None:
        used.extend({group["lr"] for group in optimiser.param_groups})
        step(optimiser)

    monkeypatch.setattr(torch.optim.SGD, "step", record)
    seen: list[Progress] = []
    run(observe=seen.append)
    expected = [0.045 * (1 - done / 4) ** 0.9 for done in range(4)]
    assert used == pytest.approx(expected)
    assert [progress.lr for progress in seen] == pytest.approx(expected)
    assert [line["lr"] for line in lines(tmp_path / "out")] == pytest.approx(expected[2:])


def test_the_average_of_the_weights() -> None:
    state = _start(DEBUG, 2, torch.device("cpu"))
    name, bits = "fusion.deep.0.weight", "fusion.deep.1.running_var"
    expected = {key: state.average.state_dict()[key].double() for key in (name, bits)}
    for step in range(1, 31):
        with torch.no_grad():
            for tensor in state.model.state_dict().values():
                tensor.add_(1) if tensor.is_floating_point() else tensor.fill_(step)
        state.step = step
        _average(state, 0.6)
        decay = min(0.6, step / (step + 10))
        for key, value in expected.items():
            expected[key] = decay * value + (1 - decay) * state.model.state_dict()[key].double()
    average = state.average.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(average[key].double(), value, atol=1e-4, rtol=1e-6)
    assert average["fusion.deep.1.num_batches_tracked"] == 30


def test_without_averaging_the_plain_weights_are_kept() -> None:
    state = _start(DEBUG, 2, torch.device("cpu"))
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.mul_(1.1).add_(0.3)
    state.step = 1
    _average(state, 0.0)
    pairs = zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True)
    assert all(torch.equal(average, new) for average, new in pairs)


def test_depthwise_convolutions_do_not_decay() -> None:
    state = _start(replace(DEBUG, weight_decay=0.1, momentum=0.0), 2, torch.device("cpu"))
    before = copy.deepcopy(state.model)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in state.optimiser.param_groups:
        group["lr"] = 0.5
    state.optimiser.step()
    convolutions = [(name, layer) for name, layer in before.named_modules() if isinstance(layer, nn.Conv2d)]
    depthwise = {f"{name}.weight" for name, layer in convolutions if layer.groups > 1}
    assert len(depthwise) == 14  # 2 of learning to downsample, 9 of the bottlenecks, 1 of the fusion, 2 of the classifier
    pairs = zip(before.named_parameters(), state.model.parameters(), strict=True)
    for (name, old), new in pairs:
        torch.testing.assert_close(new, old if name in depthwise else 0.95 * old)


def test_class_weights() -> None:
    pixels = {"train": (900, 50, 0), "val": (0, 50, 0)}
    report = CheckReport((), {}, pixels, {}, {}, "")
    cpu = torch.device("cpu")
    weights = _class_weights(replace(DEBUG, class_weights="log"), report, "train+val", cpu)
    expected = [1 / math.log(1.1 + share) for share in (0.9, 0.1, 0.0)]
    assert isinstance(weights, Tensor)
    assert weights.tolist() == pytest.approx(expected)
    assert weights.dtype == torch.float32
    assert _class_weights(replace(DEBUG, class_weights="none"), report, "train", cpu) is None


def test_a_step_sees_its_own_pixels_of_the_loss(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[tuple[int, int]] = []
    def record(*arguments: Any) -> Tensor:
        phases.append(arguments[-1])
        return training_loss(*arguments)

    monkeypatch.setattr(module, "training_loss", record)
    run(replace(DEBUG, iterations=12), validation=None)
    assert len(set(phases)) > 6
    rest = {tuple(np.mod(phase, 2)) for phase in phases}
    assert rest == set(itertools.product((0, 1), repeat=2))


@pytest.mark.parametrize("changes", [{"auxiliary": 0.0}, {"variant": "mmseg"}, {"size": (64, 64)}])
def test_other_recipes_run(run: Run, changes: dict[str, Any]) -> None:
    card = run(replace(DEBUG, iterations=2, **changes))
    assert card.size == changes.get("size", (96, 128))
    assert card.variant == changes.get("variant", "paper")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_the_recipes(run: Run, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    kinds: list[torch.dtype] = []
    def record(logits: TrainingLogits, *arguments: Any) -> Tensor:
        kinds.extend(head.dtype for head in logits)
        return training_loss(logits, *arguments)

    monkeypatch.setattr(module, "training_loss", record)
    changes: dict[str, Any] = {"iterations": 1, "precision": precision}
    run(replace(DEBUG, **changes), validation=None)
    assert kinds == [getattr(torch, precision)] * 3
