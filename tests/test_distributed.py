"""Training in several processes: the parts of a step make the whole, and a training gives the same as one process.

On a CPU, each process normalises by the statistics of its own part of the batch. One process that does the same
(`PartsNorm`) is the reference. torchrun runs this file as a script; `WORKERS` are its functions.
"""

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
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from waiting import wait_until

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets, mixture, synthetic
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN, TrainingLogits
from fastscnn.training import loop
from fastscnn.training.distributed import ALONE, World, join
from fastscnn.training.initial import initial
from fastscnn.training.loader import Loader
from fastscnn.training.loss import at_points, lovasz_softmax, training_loss
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.run import State
from fastscnn.training.segmentation import SegmentationLoss, SegmentationTask
from fastscnn.training.train import train

# One step per epoch, so that the log has every loss. A low learning rate, because a high one amplifies rounding.
# Classes are pasted from the previous sample, which may be another process's.
RECIPE = replace(named("debug"), precision="float32", dropout=0.0, batch=6, lr=0.0001, classmix=0.5, iterations=4)
FLAGS = ["--precision", "float32", "--dropout", "0", "--batch", "6", "--lr", "0.0001", "--classmix", "0.5", "--iterations", "4"]
SECONDS = 300  # until a run counts as hung; on a quiet machine it takes ten


class PartsNorm(nn.BatchNorm2d):
    """Batch norm of each part of the batch by itself, as in several processes on a CPU.

    Args:
        norm: the parameters and statistics to use.
        parts: its only element is the number of parts.
    """

    def __init__(self, norm: nn.BatchNorm2d, parts: list[int]) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias, self.parts = norm.weight, norm.bias, parts
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name in nn.BatchNorm2d
        assert self.training
        assert self.momentum is not None
        made, means, variances = [], [], []
        for part in input.chunk(self.parts[0]):
            mean, variance = self.get_buffer("running_mean").clone(), self.get_buffer("running_var").clone()
            made.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, self.momentum, self.eps))
            means.append(mean)
            variances.append(variance)
        self.get_buffer("num_batches_tracked").add_(1)
        self.get_buffer("running_mean").copy_(torch.stack(means).mean(0))
        self.get_buffer("running_var").copy_(torch.stack(variances).mean(0))
        return torch.cat(made)


def in_parts(model: nn.Module, parts: list[int]) -> nn.Module:
    """Replace every batch norm of the model by a `PartsNorm`."""
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, PartsNorm(norm, parts))
    return model


# Run in each of two processes.


def check_sums(world: World) -> None:
    rank = world.rank
    assert (world.size, rank, world.local_size) == (2, world.local_rank, 2)
    tensors, texts = world.from_first(lambda: ({"x": torch.tensor([rank, 7])}, [rank, "é"]))
    assert (tensors["x"].tolist(), texts) == ([0, 7], [0, "é"])
    values = torch.tensor([rank + 1, 10], dtype=torch.int64)
    assert world.sum(values).tolist() == [3, 20]
    assert world.mean(values).tolist() == [1.5, 10]
    assert values.tolist() == [rank + 1, 10]
    assert world.any(rank == 1)
    assert not world.any(False)
    world.agree("the same")
    with pytest.raises(FastSCNNError, match="Processes 1 start with other settings or files than process 0; give all"):
        world.agree(f"step {rank}")
    seen: list[int] = []
    with world.one_first():
        seen.append(rank)
    assert seen == [rank]
    norm = nn.BatchNorm2d(2)
    norm.get_buffer("running_mean").fill_(rank)
    world.average_buffers(norm)
    assert norm.get_buffer("running_mean").tolist() == [0.5, 0.5]
    assert norm.get_buffer("running_var").tolist() == [1, 1]


def check_network(world: World, frozen: bool) -> None:
    """Compare gradients and running statistics of the whole network with one process, in float64.

    Args:
        world: two processes.
        frozen: batch norms use their running statistics, so one process needs no parts.
    """
    torch.manual_seed(1)
    one = FastSCNN(4, dropout=0, auxiliary=True, reparam_branches=True).double().train()
    model = copy.deepcopy(one)
    if frozen:
        for norm in itertools.chain(one.modules(), model.modules()):
            norm.train(not isinstance(norm, nn.BatchNorm2d))
    else:
        in_parts(one, [2])
    random = np.random.default_rng(0)
    network = world.parallel(model)
    assert isinstance(network, DistributedDataParallel)
    assert network.static_graph
    for _ in range(3):  # the static graph is recorded in the first step
        images = torch.from_numpy(random.integers(0, 256, (4, 64, 96, 3), np.uint8))
        slopes = [torch.from_numpy(random.normal(size=(4, 4, *size))) for size in ((8, 12), (2, 3), (8, 12))]

        def gradients(called: nn.Module, rows: slice, images: Tensor = images, slopes: list[Tensor] = slopes) -> list[Tensor]:
            called.zero_grad()
            logits = called(images[rows])
            assert isinstance(logits, TrainingLogits)
            own = [(head * slope[rows]).sum() for head, slope in zip((logits.main, *logits.auxiliary), slopes, strict=True)]
            (4 / len(images[rows]) * torch.stack(own).sum()).backward()  # type: ignore[no-untyped-call]
            return [parameter.grad for parameter in called.parameters() if parameter.grad is not None]

        expected, got = gradients(one, slice(4)), gradients(network, slice(2 * world.rank, 2 * world.rank + 2))
        world.average_buffers(model)
        assert len(got) == len(expected) == len(list(one.parameters()))
        scale = max(float(gradient.abs().max()) for gradient in expected)
        for ours, theirs in zip(got, expected, strict=True):
            assert (ours - theirs).abs().max() < 1e-9 * scale
        for ours, theirs in zip(model.buffers(), one.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def check_losses(world: World) -> None:
    """The mean of the losses is the loss of the batch, though the processes ignore different numbers of pixels."""
    random = np.random.default_rng(5)
    sizes = (8, 8), (2, 2), (8, 8)
    heads = [torch.from_numpy(random.normal(size=(4, 3, *size)).astype(np.float32)) for size in sizes]
    labels = torch.from_numpy(random.integers(0, 3, (4, 64, 64), np.uint8))
    labels[0, 10:], labels[2:, :, :5] = 255, 255
    weights, probabilities = torch.tensor([1.0, 4.0, 9.0]), heads[2].softmax(1)
    halves = slice(2), slice(2, 4)
    part = halves[world.rank]
    soft = torch.from_numpy(random.dirichlet([1.0, 1.0], (4, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32))
    soft[0], soft[3, :, 2:] = 0, 0
    means: list[dict[str, Any]] = [
        {}, {"loss": "sigmoid"}, {"label_smoothing": 0.1}, {"distillation": 0.7}, {"distillation": 0.7, "soft_head": 0.6},
    ]  # fmt: skip
    for mean, weight in itertools.product(means, (None, weights)):
        recipe = replace(named("debug"), **mean)

        def loss(rows: slice, world: World, recipe: Recipe = recipe, weight: Tensor | None = weight) -> Tensor:
            teacher = probabilities[rows] if recipe.distillation else None
            learned = (soft[rows], torch.eye(2, 3)) if recipe.soft_head else None
            second = heads[2][rows, :2] if learned else None
            own = TrainingLogits(heads[0][rows], tuple(head[rows] for head in heads[1:]), second)
            return training_loss(own, labels[rows], recipe, weight, (1, 2), teacher, world, soft=learned)

        expected, ours = loss(slice(4), ALONE), loss(part, world)
        torch.testing.assert_close(world.mean(ours), expected, rtol=1e-5, atol=0)
        assert abs(float(ours / expected) - 1) > 1e-4  # the halves differ
    points = at_points(heads[0], labels, 2, (0, 0))
    apart = [lovasz_softmax(*(values[rows] for values in points)) for rows in halves]
    plain, lovasz = (replace(named("debug"), loss_stride=1, auxiliary=0.0, lovasz=factor) for factor in (0.0, 1.0))
    losses = [training_loss(heads[0][part], labels[part], recipe, None, (0, 0), None, world) for recipe in (plain, lovasz)]
    torch.testing.assert_close(world.mean(losses[1] - losses[0]), sum(apart, torch.tensor(0.0)) / 2, rtol=1e-4, atol=0)


def check_validation(world: World, toml: str) -> None:
    """Three images among two processes give the scores of one process, bit for bit."""
    spec = datasets.load(toml)
    card = Card(spec.label_set, (96, 128))
    state, _ = initial(RECIPE, card, torch.device("cpu"))
    loader = Loader(mixture.load(spec), [spec.pairs("train")], RECIPE)
    alone, shared = (
        SegmentationTask(card, spec, "val", loader, SegmentationLoss(RECIPE), processes) for processes in (ALONE, world)
    )
    expected = alone.validate(state.average)
    assert expected is not None
    assert expected["pixel_accuracy"] > 0
    assert shared.validate(state.average) == expected


def arithmetic(toml: str) -> int:
    torch.set_num_threads(1)
    with join() as world:
        check_sums(world)
        check_network(world, frozen=True)
        check_network(world, frozen=False)
        check_losses(world)
        check_validation(world, toml)
    return 0


def command_line(*words: str) -> int:
    """Run `fastscnn`; after each step, check that all processes have the same weights and losses, bit for bit."""
    step = loop.step

    def compare(state: State, *arguments: Any) -> float:
        loss = step(state, *arguments)
        tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
        arguments[-1].agree(json.dumps([checkpoint.digest(tensors), state.best, state.losses, loss]))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", compare)
        return cli.main(words)


def failing(how: str, *words: str) -> int:
    """Run `fastscnn`; process 1 fails before the third step."""
    step = loop.step

    def fail(state: State, *arguments: Any) -> float:
        if state.step == 2 and arguments[-1].rank == 1:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise FastSCNNError("this disk is broken")
        return step(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", fail)
        return cli.main(words)


def killed(marker: str, rank: str, step: str, *words: str, end: signal.Signals = signal.SIGKILL) -> int:
    """Run `fastscnn`; the process `rank` is killed once, after so many steps. The file `marker` says that it was."""
    take = loop.step

    def kill(state: State, *arguments: Any) -> float:
        if (state.step, arguments[-1].rank) == (int(step), int(rank)) and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), end)
        return take(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", kill)
        return cli.main(words)


# The tests.


def torchrun(processes: int, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run this file in several processes."""
    with started(processes, *words, program=(*options, __file__)) as process:
        return finished(process)


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Return the result of torchrun; a run that hangs is a failure."""
    try:
        out, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends what it started
        out, errors = process.communicate(timeout=60)
        pytest.fail(f"hung\n{out}\n{errors}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def started(processes: int, *words: str, program: tuple[str, ...] = (__file__,)) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, pipe = [*launcher, *program, *words], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def in_one_process(toml: Path, out: Path, parts: Sequence[int]) -> Path:
    """Train in one process whose batch norms use the statistics of so many parts of the batch in each step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    step, used = loop.step, [1]

    def in_so_many(state: State, *arguments: Any) -> float:
        used[0] = parts[state.step]
        return step(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", in_so_many)
        patch.setattr(World, "parallel", lambda _, model: in_parts(model, used))
        train(RECIPE, toml, out)
    torch.set_num_threads(before)
    return out


def assert_same_curve(out: Path, alone: Path) -> None:
    """Compare every step. Rounding changes the first loss by 1e-6, and grows with each step."""
    assert [line["step"] for line in log(out)] == [line["step"] for line in log(alone)] == [1, 2, 3, 4]
    for ours, theirs in zip(log(out), log(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-6 if ours["step"] == 1 else 1e-4)
        assert ours["validation"]["pixel_accuracy"] == pytest.approx(theirs["validation"]["pixel_accuracy"], abs=1.0)
    states = [checkpoint.load_tensors(folder / "resume.safetensors")[0] for folder in (out, alone)]
    assert states[0].keys() == states[1].keys()
    for name in ("model.classifier.3.weight", "average.classifier.3.weight", "model.downsample.0.1.running_var"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-3, atol=1e-4)


def assert_same_run(out: Path, other: Path) -> None:
    """Compare all that two runs have saved, bit for bit."""
    assert log(out) == log(other)
    for name in ("resume", "last", "best"):
        ours, theirs = (checkpoint.load_tensors(folder / f"{name}.safetensors") for folder in (out, other))
        assert checkpoint.digest(ours[0]) == checkpoint.digest(theirs[0]), name
        assert ours[1] == theirs[1], name


@given(st.integers(2, 40), st.integers(1, 12))
def test_the_parts_make_the_batch(share: int, size: int) -> None:
    parts = [World(rank, size).part(share * size) for rank in range(size)]
    assert all(len(part) == share for part in parts)
    assert list(itertools.chain(*parts)) == list(range(share * size))


@given(st.integers(0, 40), st.integers(2, 12))
def test_a_batch_that_cannot_be_split_is_refused(batch: int, size: int) -> None:
    world = World(size - 1, size)
    if batch >= 2 * size and batch % size == 0:
        assert len(world.part(batch)) == batch // size
    elif batch == size:
        with pytest.raises(FastSCNNError, match=f"^batch: {batch} images per step leave one image for each of {size}"):
            world.part(batch)
        assert len(replace(world, device=torch.device("cuda")).part(batch)) == 1  # SyncBatchNorm sees the whole batch
    else:
        with pytest.raises(ValueError, match=f"^batch: {batch} images per step cannot be split evenly among {size} processes"):
            world.part(batch)


@pytest.mark.parametrize("mix", [{}, {"classmix": 0.7}, {"paste": 0.7}, {"balanced_crops": 0.5}])
@pytest.mark.parametrize("size", [2, 3])
def test_the_loaders_of_all_processes_make_the_batch(tiny_dataset: Path, mix: dict[str, float], size: int) -> None:
    spec = datasets.load(tiny_dataset)
    fields: dict[str, Any] = {"crop": (32, 48), "batch": 6, **mix}
    recipe = replace(named("debug"), **fields)
    worlds = [ALONE, *(World(rank, size) for rank in range(size))]
    loaders = [Loader(mixture.load(spec), [spec.pairs("train")], recipe, world=world) for world in worlds]
    for step in range(3):
        whole, *parts = (loader.batch(step) for loader in loaders)
        assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
        assert np.array_equal(np.concatenate([part.labels for part in parts]), whole.labels)
        assert sum((part.names for part in parts), ()) == whole.names


def test_a_single_process_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")  # set by another program than torchrun
    values = torch.rand(3)
    model = nn.Sequential(nn.BatchNorm2d(3))
    with join() as world, world.one_first():
        assert world.sum(values) is world.mean(values) is values
        assert world.parallel(model) is model
        world.average_buffers(model)
        world.agree("anything")
        world.wait()
    assert not torch.distributed.is_initialized()
    assert type(model[0]) is nn.BatchNorm2d
    assert world == World(device=world.device)
    assert world.first


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
            "MASTER_PORT": "1"}  # fmt: skip


def test_torchruns_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert World.from_environment(TORCHRUN) == World(3, 4, 1, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert World.from_environment(TORCHRUN) == World(3, 4, 1, 2, torch.device("cuda", 1))
    assert World.from_environment({}) == World(device=torch.device("cuda"))
    missing = "WORLD_SIZE is 2, but RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT is missing; start"
    with pytest.raises(FastSCNNError, match=missing):
        World.from_environment({"WORLD_SIZE": "2"})


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(FastSCNNError, match="2 processes cannot share the 1 GPUs"), join():
        pass


def test_on_cuda_batch_norms_are_synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimiser keeps the same parameters. What CUDA computes is not tested here."""
    wrapper = "fastscnn.training.distributed.DistributedDataParallel"
    monkeypatch.setattr(wrapper, lambda *arguments, **options: (arguments, options))
    model = FastSCNN(4, auxiliary=True, reparam_branches=True)
    before, keys = list(model.parameters()), list(model.state_dict())
    wrapped: Any = World(1, 2, 1, 2, torch.device("cuda", 1)).parallel(model)
    assert wrapped == ((model, [torch.device("cuda", 1)]), {"static_graph": True})
    assert all(new is old for new, old in zip(model.parameters(), before, strict=True))
    assert list(model.state_dict()) == keys
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 44 + 2 + 14  # of the network, its auxiliary heads and its re-parameterised branches
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


@pytest.mark.slow
def test_the_arithmetic_of_two_processes(tiny_dataset: Path) -> None:
    """Run all the checks above in two processes; a failed assertion is in the error stream."""
    done = torchrun(2, "arithmetic", str(tiny_dataset))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_three_processes_give_the_losses_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", in_one_process(tiny_dataset, tmp_path / "alone", [3] * 4)
    done = torchrun(3, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert_same_curve(out, alone)
    assert done.stdout.count("with the last weights") == 1  # only process 0 prints
    assert json.loads((out / "run.json").read_text())["processes"] == 3
    assert json.loads((alone / "run.json").read_text())["processes"] == 1
    _, card = checkpoint.load(out / "last.safetensors")
    assert card.metrics["val"] == {**log(out)[-1]["validation"], "dataset": "tiny"}


@pytest.mark.slow
def test_one_of_two_datasets_has_soft_labels(tiny_dataset: Path, tmp_path: Path) -> None:
    """A process whose crops have none still takes part in every sum."""
    softened = tmp_path / "softened" / "dataset.toml"
    shutil.copytree(tiny_dataset.parent, softened.parent)
    text = softened.read_text().replace("[splits.train]\n", '[splits.train]\nsoft = "soft/{stem}.npz"\n')
    softened.write_text(f'{text}\n[soft]\nclasses = ["a", "b"]\nmap = {{ a = "Road", b = "Sky" }}\n')
    (softened.parent / "soft").mkdir()
    for seed in range(6):
        np.savez(softened.parent / f"soft/{seed}.npz", probabilities=np.full((2, 12, 16), 127, np.uint8))
    plain = tmp_path / "plain" / "dataset.toml"
    plain.parent.mkdir()
    names = tiny_dataset.read_text().partition("[splits")[0].replace('"tiny"', '"plain"')
    plain.write_text(names + '[splits.train]\nimages = "images/*.png"\nlabels = "labels/{stem}.png"\n')
    for seed in range(6):
        drawn = synthetic.draw(96, 128, 100 + seed)
        images.write(plain.parent / f"images/{seed}.png", drawn.image)
        images.write(plain.parent / f"labels/{seed}.png", drawn.labels)
    words = ["--batch", "4", "--iterations", "6", "--distillation", "1", "--soft-head", "1"]
    done = torchrun(2, "command_line", "train", "debug", str(softened), str(plain), "--out", str(tmp_path / "run"), *words)
    assert done.returncode == 0, done.stderr
    assert "6 of 12 training images have no soft labels" in done.stderr


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    """One process takes the first step, two the next two, one the last."""
    out, alone = tmp_path / "out", in_one_process(tiny_dataset, tmp_path / "alone", [1, 2, 2, 1])
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS]
    assert cli.main([*words, "--pause-after", "1"]) == 0
    done = torchrun(2, "command_line", *words, "--pause-after", "3", "--resume")
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in log(out)] == [1, 2, 3]
    assert cli.main([*words, "--resume"]) == 0
    assert_same_curve(out, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("error", "fastscnn: this disk is broken"), ("kill", "")])
def test_all_processes_end_when_one_does(tiny_dataset: Path, tmp_path: Path, how: str, said: str) -> None:
    out = tmp_path / "out"
    done = torchrun(2, "failing", how, "train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS)
    assert done.returncode == 1
    assert said in done.stderr
    assert [line["step"] for line in log(out)] == [1, 2]
    assert checkpoint.load_tensors(out / "resume.safetensors")[1]["step"] == "2"


SIX_STEPS = ["--batch", "6", "--iterations", "6", "--validate-every", "2"]  # saved after every second one


@pytest.fixture(scope="session")
def six_steps(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run of two processes."""
    out = tmp_path_factory.mktemp("six_steps") / "run"
    done = torchrun(2, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), *SIX_STEPS)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "step"), [(1, 1), (1, 3), (0, 5)])
def test_torchrun_restarts_a_killed_process(tiny_dataset: Path, six_steps: Path, tmp_path: Path, rank: int, step: int) -> None:
    """After step 1 nothing is saved; process 0 holds the lock of the folder."""
    out, marker = tmp_path / "out", tmp_path / "marker"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--resume", *SIX_STEPS]
    done = torchrun(2, "killed", str(marker), str(rank), str(step), *words, options=("--max-restarts", "1"))
    assert done.returncode == 0, done.stderr
    assert marker.exists()
    assert done.stderr.count("nothing was saved yet") == (2 if step == 1 else 1)
    assert_same_run(out, six_steps)


@pytest.mark.slow
def test_patience_stops_all_at_one_step(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--batch", "6", "--lr", "1e-9", "--min-lr", "0", "--iterations", "500", "--validate-every", "1", "--patience", "1"]
    done = torchrun(2, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Stopped at step") == 1
    scores = [line["validation"]["miou"] for line in log(out)]
    assert len(scores) < 500
    assert scores[-1] <= scores[-2]  # the first one that is not better


@pytest.mark.slow
def test_errors_come_before_the_first_step(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = torchrun(2, "command_line", "train", "debug", str(tiny_dataset), "--out", str(out), "--batch", "3")
    assert done.returncode == 1
    assert "batch: 3 images per step cannot be split evenly among 2 processes" in done.stderr
    assert not out.exists()


@pytest.mark.slow
def test_all_take_the_batch_that_one_measures(tiny_dataset: Path, tmp_path: Path) -> None:
    """Six images leave three for each process, so two are the largest power of two."""
    out = tmp_path / "run"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--batch", "auto", "--iterations", "2"]
    done = torchrun(2, "command_line", *words)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("Batch: 4 images per step, 2 in each of 2 processes.") == 1
    assert json.loads((out / "run.json").read_text())["recipe"]["batch"] == 4
    assert log(out)[-1]["step"] == 2


@pytest.mark.slow
def test_an_interruption_stops_all_at_one_step(tiny_dataset: Path, tmp_path: Path) -> None:
    """torchrun passes the signal on to all processes."""
    out = tmp_path / "out"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), *FLAGS[:-1], "100000"]
    with started(2, *words, program=("-m", "fastscnn")) as process:
        wait_until(lambda: (out / "log.jsonl").exists() or process.poll() is not None, SECONDS)
        process.terminate()
        _, errors = process.communicate(timeout=SECONDS)
    assert "fastscnn: interrupted; finished results are kept." in errors
    _, kept = checkpoint.load_tensors(out / "resume.safetensors")
    assert 1 <= int(kept["step"]) < 1000
    assert int(kept["step"]) == log(out)[-1]["step"]
    assert all(math.isfinite(line["loss"]) for line in log(out))


WORKERS: dict[str, Callable[..., int]] = {"arithmetic": arithmetic, "command_line": command_line, "failing": failing,
                                          "killed": killed, "stopped": partial(killed, end=signal.SIGSTOP)}

if __name__ == "__main__":
    raise SystemExit(WORKERS[sys.argv[1]](*sys.argv[2:]))
