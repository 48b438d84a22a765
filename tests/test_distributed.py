"""Several processes: each step's parts make the whole, and a training gives what one process gives, to rounding.

Run as a script by torchrun, this file is one of the processes: `worker` says what it does there.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN, TrainingLogits
from fastscnn.training import distributed, loop
from fastscnn.training.initial import initial
from fastscnn.training.loader import Loader
from fastscnn.training.loss import at_points, lovasz_softmax, training_loss
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.run import State
from fastscnn.training.train import LabelLoss, _Labelling, train

# A step an epoch, so that the log has every loss; a low learning rate, since a high one makes much of every rounding.
# Classes are pasted from the sample before, which may be another process's.
RECIPE = replace(
    named("debug"), precision="float32", dropout=0.0, batch=6, lr=0.0001, classmix=0.5, iterations=4
)
FLAGS = ["--precision", "float32", "--dropout", "0", "--batch", "6", "--lr", "0.0001", "--classmix", "0.5", "--iterations", "4"]
SECONDS = 300  # until a run counts as hung; on a quiet machine it takes ten


@contextmanager
def numbered(rank: int, size: int) -> Iterator[None]:
    """As torchrun would number this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", str(rank))
        patch.setenv("WORLD_SIZE", str(size))
        yield


# What runs in each of several processes.


def check_sums() -> None:
    rank, size = distributed.rank(), distributed.size()
    assert (size, rank, distributed.neighbours()) == (2, int(os.environ["LOCAL_RANK"]), 2)
    values = torch.tensor([rank + 1, 10], dtype=torch.int64)
    assert distributed.total(values).tolist() == [3, 20]
    assert values.tolist() == [rank + 1, 10]
    assert distributed.anyone(rank == 1)
    assert not distributed.anyone(False)
    gradients = [torch.full((2, 3), float(rank)), torch.tensor(5.0), torch.arange(24.0).reshape(1, 2, 3, 4)]
    gradients[2] = gradients[2].contiguous(memory_format=torch.channels_last)
    distributed.add_up(gradients)
    assert gradients[0].tolist() == [[1.0] * 3] * 2
    assert gradients[1] == 10
    assert torch.equal(gradients[2], 2 * torch.arange(24.0).reshape(1, 2, 3, 4))
    distributed.agree("the same")
    with pytest.raises(FastSCNNError, match=r"begins with what process 0 begins with \(1 not\)"):
        distributed.agree(f"step {rank}")
    seen: list[int] = []
    with distributed.one_first():
        seen.append(rank)
    assert seen == [rank]


def check_norm() -> None:
    """Output, gradients and statistics of the halves are those that nn.BatchNorm2d has of the whole."""
    random = torch.Generator().manual_seed(3)
    whole = torch.rand(6, 5, 3, 4, generator=random, dtype=torch.float64) * 4 + 20
    slope = torch.rand(6, 5, 3, 4, generator=random, dtype=torch.float64)
    oracle = nn.BatchNorm2d(5, momentum=0.3).double()
    nn.init.uniform_(oracle.weight, generator=random)
    norm = nn.Sequential(copy.deepcopy(oracle))
    distributed.synchronise(norm)
    assert isinstance(norm[0], distributed.SynchronisedNorm)
    assert norm[0].state_dict().keys() == oracle.state_dict().keys()
    part = slice(3 * distributed.rank(), 3 * distributed.rank() + 3)
    x, mine = whole.clone().requires_grad_(), whole[part].clone().requires_grad_()
    expected, got = oracle(x), norm(mine)
    (expected * slope).sum().backward()
    (got * slope[part]).sum().backward()
    assert x.grad is not None
    exact: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(got, expected[part], **exact)
    torch.testing.assert_close(mine.grad, x.grad[part], **exact)
    gradients = [parameter.grad for parameter in norm.parameters() if parameter.grad is not None]
    distributed.add_up(gradients)
    torch.testing.assert_close(gradients, [oracle.weight.grad, oracle.bias.grad], **exact)
    for name, value in oracle.state_dict().items():
        torch.testing.assert_close(norm[0].state_dict()[name], value, **exact)
    torch.testing.assert_close(norm.eval()(mine), oracle.eval()(whole)[part], **exact)


def check_network() -> None:
    """The gradients of the whole network, in float64: so the arithmetic is the same, and float32 differs by rounding."""
    torch.manual_seed(1)
    one = FastSCNN(4, dropout=0, auxiliary=True, reparam_branches=True).double().train()
    model = copy.deepcopy(one)
    before = list(model.parameters())
    distributed.synchronise(model)
    assert all(new is old for new, old in zip(model.parameters(), before, strict=True))
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (4, 64, 96, 3), np.uint8))
    slopes = [torch.from_numpy(random.normal(size=(4, 4, *size))) for size in ((8, 12), (2, 3), (8, 12))]
    part = slice(2 * distributed.rank(), 2 * distributed.rank() + 2)

    def gradients(network: FastSCNN, rows: slice) -> list[Tensor]:
        logits = network(images[rows])
        assert isinstance(logits, TrainingLogits)
        torch.stack([(head * slope[rows]).sum() for head, slope in zip(logits, slopes, strict=True)]).sum().backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    expected, got = gradients(one, slice(4)), gradients(model, part)
    distributed.add_up(got)
    assert len(got) == len(before)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-9 * scale
    for ours, theirs in zip(model.buffers(), one.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def check_losses() -> None:
    """Shares of the loss add up to the loss of the whole batch, though the processes ignore different numbers of pixels."""
    random = np.random.default_rng(5)
    sizes = (8, 8), (2, 2), (8, 8)
    heads = TrainingLogits(*(torch.from_numpy(random.normal(size=(4, 3, *size)).astype(np.float32)) for size in sizes))
    labels = torch.from_numpy(random.integers(0, 3, (4, 64, 64), np.uint8))
    labels[0, 10:], labels[2:, :, :5] = 255, 255
    weights, taught = torch.tensor([1.0, 4.0, 9.0]), heads.downsample.softmax(1)
    halves = slice(2), slice(2, 4)
    part = halves[distributed.rank()]
    means: list[dict[str, Any]] = [{}, {"loss": "sigmoid"}, {"label_smoothing": 0.1}, {"distillation": 0.7}]
    for mean, weight in itertools.product(means, (None, weights)):
        recipe = replace(named("debug"), **mean)

        def loss(rows: slice, recipe: Recipe = recipe, weight: Tensor | None = weight) -> Tensor:
            own = TrainingLogits(*(head[rows] for head in heads))
            return training_loss(own, labels[rows], recipe, weight, (1, 2), taught[rows] if recipe.distillation else None)

        with numbered(0, 1):
            expected = loss(slice(4))
        share = loss(part)
        torch.testing.assert_close(distributed.total(share), expected, rtol=1e-5, atol=0)
        assert abs(float(share / expected) - 0.5) > 1e-4  # neither half has half of it
    points = at_points(heads.main, labels, 2, (0, 0))
    with numbered(0, 1):
        apart = [lovasz_softmax(*(values[rows] for values in points)) for rows in halves]
    plain, lovasz = (replace(named("debug"), loss_stride=1, auxiliary=0.0, lovasz=factor) for factor in (0.0, 1.0))
    shares = [training_loss(heads.main[part], labels[part], recipe, None, (0, 0)) for recipe in (plain, lovasz)]
    torch.testing.assert_close(distributed.total(shares[1] - shares[0]), sum(apart, torch.tensor(0.0)) / 2, rtol=1e-4, atol=0)


def check_validation(toml: str) -> None:
    """Three images among two processes: the figures are one process's, bit for bit."""
    spec = datasets.load(toml)
    card = Card(spec.label_set, (96, 128))
    state, _ = initial(RECIPE, card, torch.device("cpu"))
    loader = Loader(spec, spec.pairs("train"), RECIPE)
    task = _Labelling(card, spec, "val", loader, LabelLoss(RECIPE))
    with numbered(0, 1):
        expected = task.validate(state.average)
    assert expected is not None
    assert expected["pixel_accuracy"] > 0
    assert task.validate(state.average) == expected


@distributed.joined()
def arithmetic(toml: str) -> int:
    torch.set_num_threads(1)
    check_sums()
    check_norm()
    check_network()
    check_losses()
    check_validation(toml)
    return 0


def command_line(*words: str) -> int:
    """`fastscnn` that looks after each step whether all processes hold the same weights and losses, bit for bit."""
    step = loop.step

    def compare(state: State, *arguments: Any) -> float:
        loss = step(state, *arguments)
        tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
        distributed.agree(json.dumps([checkpoint.digest(tensors), state.best, state.losses, loss]))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", compare)
        return cli.main(words)


def failing(how: str, *words: str) -> int:
    """`fastscnn`, in which process 1 comes to a bad end before the third step."""
    step = loop.step

    def fail(state: State, *arguments: Any) -> float:
        if state.step == 2 and distributed.rank() == 1:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise FastSCNNError("this disk is broken")
        return step(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", fail)
        return cli.main(words)


# The tests.


def torchrun(processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    """This file as so many processes."""
    with started(processes, *words) as process:
        try:
            out, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends what it started
            out, errors = process.communicate(timeout=60)
            pytest.fail(f"hung\n{out}\n{errors}")
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def started(processes: int, *words: str, program: tuple[str, ...] = (__file__,)) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, pipe = [*launcher, *program, *words], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps in one process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone")
    train(RECIPE, datasets.load(str(tiny_dataset)), out)
    torch.set_num_threads(before)
    return out


def assert_same_curve(out: Path, alone: Path) -> None:
    """Losses and learning rates of every step, and some weights: a bias that a norm follows is moved by rounding alone."""
    assert [line["step"] for line in log(out)] == [1, 2, 3, 4]
    for ours, theirs in zip(log(out), log(alone), strict=True):
        assert ours["lr"] == theirs["lr"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-6 if ours["step"] == 1 else 1e-4)
        assert ours["validation"]["pixel_accuracy"] == pytest.approx(theirs["validation"]["pixel_accuracy"], abs=1.0)
    states = [checkpoint.load_tensors(folder / "resume.safetensors")[0] for folder in (out, alone)]
    assert states[0].keys() == states[1].keys()
    for name in ("model.classifier.3.weight", "average.classifier.3.weight", "model.downsample.0.1.running_var"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-3, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 12))
def test_the_parts_make_the_batch(share: int, size: int) -> None:
    parts: list[int] = []
    for rank in range(size):
        with numbered(rank, size):
            assert len(distributed.part(share * size)) == share
            parts += distributed.part(share * size)
    assert parts == list(range(share * size))


@given(st.integers(0, 40), st.integers(2, 12))
def test_a_batch_that_cannot_be_split_is_refused(batch: int, size: int) -> None:
    with numbered(size - 1, size):
        if batch and batch % size == 0:
            assert len(distributed.part(batch)) == batch // size
            return
        with pytest.raises(FastSCNNError, match=f"^batch: {batch} images a step cannot be split evenly among {size} processes"):
            distributed.part(batch)


@pytest.mark.parametrize("mix", [{}, {"classmix": 0.7}, {"paste": 0.7}, {"balanced_crops": 0.5}])
@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_loaders_of_all_processes_make_the_batch(tiny_dataset: Path, mix: dict[str, float], size: int) -> None:
    spec = datasets.load(str(tiny_dataset))
    fields: dict[str, Any] = {"crop": (32, 48), "batch": 6, **mix}
    recipe = replace(named("debug"), **fields)
    loaders = [Loader(spec, spec.pairs("train"), recipe)]
    for rank in range(size):
        with numbered(rank, size):
            loaders.append(Loader(spec, spec.pairs("train"), recipe))
    for step in range(3):
        whole, *parts = (loader.batch(step) for loader in loaders)
        assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
        assert np.array_equal(np.concatenate([part.labels for part in parts]), whole.labels)
        assert sum((part.names for part in parts), ()) == whole.names


def test_one_process_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    values = torch.rand(3)
    model = nn.Sequential(nn.BatchNorm2d(3))
    with distributed.joined(), distributed.one_first():
        assert distributed.total(values) is values
        distributed.synchronise(model)
        distributed.add_up([values])
        distributed.agree("anything")
        distributed.wait()
    assert not torch.distributed.is_initialized()
    assert type(model[0]) is nn.BatchNorm2d
    assert (distributed.size(), distributed.rank(), distributed.neighbours(), distributed.first()) == (1, 0, 1, True)
    monkeypatch.setenv("RANK", "3")  # of something else than torchrun
    assert distributed.first()


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    said = "WORLD_SIZE is 2 but LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT is missing; start the processes by"
    with numbered(1, 2), pytest.raises(FastSCNNError, match=said), distributed.joined():
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    named_ = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in named_.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with numbered(1, 2):
        assert distributed.device() == torch.device("cuda", 1)
        with pytest.raises(FastSCNNError, match="2 processes are to share the 1 GPUs"), distributed.joined():
            pass


def test_the_arithmetic_of_two_processes(tiny_dataset: Path) -> None:
    """All the checks above, in two processes; an assertion that fails in one is in its error stream."""
    done = torchrun(2, "arithmetic", str(tiny_dataset))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_three_processes_give_the_losses_of_one(tiny_dataset: Path, tmp_path: Path, alone: Path) -> None:
    out = tmp_path / "out"
    done = torchrun(3, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS)
    assert done.returncode == 0, done.stderr
    assert_same_curve(out, alone)
    assert done.stdout.count("with the last weights") == 1  # the first process alone speaks
    assert json.loads((out / "run.json").read_text())["processes"] == 3
    assert json.loads((alone / "run.json").read_text())["processes"] == 1
    weights, card = checkpoint.load(out / "last.safetensors")  # plain batch norms
    assert card.metrics["val"] == log(out)[-1]["validation"]
    assert not any(isinstance(module, distributed.SynchronisedNorm) for module in weights.modules())


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tiny_dataset: Path, tmp_path: Path, alone: Path) -> None:
    """One process takes the first step, two the next two, one the last."""
    out = tmp_path / "out"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS]
    assert cli.main([*words, "--pause-after", "1"]) == 0
    done = torchrun(2, "command_line", *words, "--pause-after", "3", "--resume")
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in log(out)] == [1, 2, 3]
    assert cli.main([*words, "--resume"]) == 0
    assert_same_curve(out, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("error", "fastscnn: this disk is broken"), ("kill", "")])
def test_the_others_end_when_one_does(tiny_dataset: Path, tmp_path: Path, how: str, said: str) -> None:
    out = tmp_path / "out"
    done = torchrun(2, "failing", how, "train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS)
    assert done.returncode == 1
    assert said in done.stderr
    assert [line["step"] for line in log(out)] == [1, 2]
    assert checkpoint.load_tensors(out / "resume.safetensors")[1]["step"] == "2"


@pytest.mark.slow
def test_what_is_wrong_is_said_before_the_first_step(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = torchrun(2, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), "--batch", "3")
    assert done.returncode == 1
    assert "batch: 3 images a step cannot be split evenly among 2 processes" in done.stderr
    assert not out.exists()


@pytest.mark.slow
def test_an_interruption_stops_all_at_one_step(tiny_dataset: Path, tmp_path: Path) -> None:
    """The signal goes to torchrun, which passes it on."""
    out = tmp_path / "out"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS[:-1], "100000"]
    with started(2, *words, program=("-m", "fastscnn")) as process:
        deadline = time.monotonic() + SECONDS
        while not (out / "log.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        _, errors = process.communicate(timeout=SECONDS)
    assert "fastscnn: interrupted; what was finished is kept." in errors
    _, kept = checkpoint.load_tensors(out / "resume.safetensors")
    assert 1 <= int(kept["step"]) < 1000
    assert int(kept["step"]) == log(out)[-1]["step"]
    assert all(math.isfinite(line["loss"]) for line in log(out))


WORKERS: dict[str, Callable[..., int]] = {"arithmetic": arithmetic, "command_line": command_line, "failing": failing}

if __name__ == "__main__":
    raise SystemExit(WORKERS[sys.argv[1]](*sys.argv[2:]))
