"""The batch "auto": the choice of the number, its measurement in a process, and the training that follows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastscnn import cli
from fastscnn.base import machine
from fastscnn.base.errors import ArgumentError, FailedTrainingError, FastSCNNError
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.training import auto_batch
from fastscnn.training.auto_batch import LEAST, Measure, Memory, Probe, in_own_process, largest, measured
from fastscnn.training.distributed import World
from fastscnn.training.job import Job
from fastscnn.training.recipes import named
from fastscnn.training.train import train
from fastscnn.training.trial_steps import TrialSteps

pytestmark = pytest.mark.usefixtures("one_thread")
DEBUG = named("debug")
AUTO = replace(DEBUG, batch="auto")
PROBE = Probe(asdict(AUTO), "cpu", synthetic.CLASSES)
IMAGES = 6  # training images of tiny_dataset
CLASSIFIER = replace(named("imagenet"), crop=(64, 64), size=(72, 72), batch="auto")
EVERYTHING = replace(AUTO, distillation=1.0, soft_head=1.0, class_weights="log", lovasz=1.0, optimiser="adamw")
on_linux = pytest.mark.skipif(machine.available_memory() is None, reason="the memory of the CPU is measured on Linux only")


def memory_of(used: Callable[[int], int | None], asked: list[int] | None = None) -> Measure:
    """Return a measurement on a device with 1000 bytes free, and note what was asked."""

    def measure(images: int) -> Memory | None:
        if asked is not None:
            asked.append(images)
        taken = used(images)
        return None if taken is None else Memory(taken, 1000)

    return measure


def pretend(monkeypatch: pytest.MonkeyPatch, measure: Measure) -> list[Probe]:
    """Let trainings measure by a function; return the probes that they pass."""
    probes: list[Probe] = []

    @contextmanager
    def pretended(probe: Probe) -> Iterator[Measure]:
        probes.append(probe)
        yield measure

    monkeypatch.setattr(auto_batch, "in_own_process", pretended)
    return probes


@pytest.mark.parametrize(
    ("used", "most", "best", "asked"),
    [
        (lambda n: 100 + 10 * n, 500, 64, [2, 4, 8, 16, 32, 64]),  # 1380 bytes at 128, so it is not tried
        (lambda n: 10 * n, 500, 64, [2, 4, 8, 16, 32, 64]),
        (lambda n: 450 * (n // 2), 500, 4, [2, 4]),  # all that may be used
        (lambda n: 451 * (n // 2), 500, 2, [2, 4]),
        (lambda n: 900, 500, 256, [2, 4, 8, 16, 32, 64, 128, 256]),
        (lambda n: 901, 500, 0, [2]),
        (lambda n: 2 * n * n, 500, 16, [2, 4, 8, 16]),  # 2048 at 32; the line through 128 and 512 is at 1280
        (lambda n: 1 if n < 16 else 950, 500, 8, [2, 4, 8, 16]),  # more than the line
        (lambda n: 1 if n < 16 else None, 500, 8, [2, 4, 8, 16]),  # the process was killed
        (lambda n: None, 500, 0, [2]),
        (lambda n: 1, 6, 4, [2, 4]),
        (lambda n: 1, 8, 8, [2, 4, 8]),
        (lambda n: 1, 2, 2, [2]),
    ],
)
def test_the_largest_power_of_two(used: Callable[[int], int | None], most: int, best: int, asked: list[int]) -> None:
    seen: list[int] = []
    images, memory = largest(memory_of(used, seen), most)
    assert (images, seen) == (best, asked)
    assert memory == (Memory(used(best) or 0, 1000) if best else None)


# A training


def test_a_training_is_that_of_the_number(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its files, too. What was measured, and the learning rate, are said."""
    probes = pretend(monkeypatch, memory_of(lambda n: 100 * n))
    said: list[str] = []
    card = train(AUTO, tiny_dataset, tmp_path / "auto", on_message=said.append)
    train(replace(DEBUG, batch=4), tiny_dataset, tmp_path / "number")
    assert card.recipe["batch"] == 4
    assert checkpoint.load(tmp_path / "auto/best.safetensors")[1].recipe["batch"] == 4
    assert json.loads((tmp_path / "auto/run.json").read_text())["recipe"]["batch"] == 4
    for name in ("best.safetensors", "last.safetensors", "log.jsonl"):
        assert (tmp_path / "auto" / name).read_bytes() == (tmp_path / "number" / name).read_bytes()
    assert said[-3:] == [
        "Batch: measuring how many images per step fit into the memory of cpu.",
        "Batch: 4 images per step. Steps of 4 take 0.00 of 0.00 GiB of free memory on cpu; twice as many would exceed the 6 "
        "training images.",
        "The learning rate stays 0.045, which debug has for 2 images; the linear scaling rule would give --lr 0.09.",
    ]
    assert probes == [Probe(asdict(AUTO), "cpu", synthetic.CLASSES, pictures=IMAGES * 96 * 128 * 4)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimiser": "adamw"}, "The learning rate stays 0.045, whatever batch it was chosen for."),
        ({"lr": 0.01}, "The learning rate stays 0.01, whatever batch it was chosen for."),
        ({"name": "mine"}, "The learning rate stays 0.045, whatever batch it was chosen for."),
        ({"name": "camvid", "lr": 0.001, "optimiser": "adamw"},
         "The learning rate stays 0.001, which camvid has for 8 images; the square root scaling rule would give --lr 0.0014."),
    ],
)
def test_the_learning_rate_is_kept_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    pretend(monkeypatch, memory_of(lambda n: 50 * n))
    said: list[str] = []
    recipe = replace(AUTO, **changes)
    found = measured(Job(recipe, tmp_path, on_message=said.append), 100, PROBE)
    assert found == replace(recipe, batch=16)
    assert said[1].endswith("Steps of 16 take 0.00 of 0.00 GiB of free memory on cpu; twice as many would exceed 90 % of it.")
    assert said[2] == sentence


@pytest.mark.slow
def test_a_resumed_training_keeps_its_number(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, memory_of(lambda n: 200 * n))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(AUTO, tiny_dataset, whole)
    train(AUTO, tiny_dataset, parts, pause_after=1)
    pretend(monkeypatch, lambda images: pytest.fail("measured again"))
    with pytest.raises(FastSCNNError, match="already contains a run; continue it with --resume"):
        train(AUTO, tiny_dataset, parts)
    with pytest.raises(FastSCNNError, match=r"was started with different settings \(lr was 0\.045 and is 0\.01\)"):
        train(replace(AUTO, lr=0.01), tiny_dataset, parts, resume=True)
    said: list[str] = []
    assert train(AUTO, tiny_dataset, parts, resume=True, on_message=said.append).recipe["batch"] == 4
    assert said == []
    pretend(monkeypatch, memory_of(lambda n: 200 * n))
    assert train(AUTO, tiny_dataset, tmp_path / "fresh", resume=True).recipe["batch"] == 4  # nothing was saved yet
    assert (parts / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def test_no_batch_fits(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, memory_of(lambda n: None))
    with pytest.raises(FailedTrainingError, match=r"^Out of memory at --batch 2 and --crop 64x96; try --crop 32x64, with "):
        train(AUTO, tiny_dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_images_for_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda images: pytest.fail("measured"))
    for count, processes in ((1, 1), (7, 4)):
        with pytest.raises(ArgumentError, match=rf"^batch: auto needs 2 .* are {count} for {processes}; give a number"):
            measured(Job(AUTO, tmp_path, world=World(size=processes)), count, PROBE)


@pytest.mark.parametrize(("rank", "others", "batch"), [(0, 64, 32), (0, 4, 8), (1, 4, 8), (1, 64, 100)])
def test_processes_take_the_least_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, others: int, batch: int
) -> None:
    """On a CPU, the first process of a machine measures for all; the last case shows what another one contributes."""
    probes = pretend(monkeypatch, memory_of(lambda n: 50 * n))
    monkeypatch.setattr(World, "least", lambda _, own: min(own, others))
    said: list[str] = []
    job = Job(AUTO, tmp_path, world=World(rank, 2, rank, 2), on_message=said.append)
    assert measured(job, 100, PROBE).batch == batch
    assert len(probes) == (rank == 0)
    assert [sentence.partition(". ")[0] for sentence in said[1:2]] == (
        [f"Batch: {batch} images per step, {batch // 2} in each of 2 processes"] if rank == 0 else [])


@pytest.mark.slow
def test_a_classifier_trains_with_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = pretend(monkeypatch, memory_of(lambda n: 100 * n))
    for index in range(12):
        split, name = "train" if index < 8 else "val", "ab"[index % 2]
        images.write(tmp_path / split / name / f"{index}.png", synthetic.draw(80, 96, index).image)
    recipe = replace(CLASSIFIER, scale=(1.0, 1.1), iterations=1)
    card = train(recipe, f"imagenet:{tmp_path}", tmp_path / "run")
    assert card.recipe["batch"] == 8
    assert probes == [Probe(asdict(recipe), "cpu", ("a", "b"))]


@pytest.mark.parametrize("others", [0, 64])
def test_memory_that_is_missing_in_one_process_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    pretend(monkeypatch, memory_of(lambda n: 500 if others == 0 else None))
    monkeypatch.setattr(World, "least", lambda _, own: min(own, others))
    with pytest.raises(FailedTrainingError, match=r"^Out of memory at --batch 4 and --crop 64x96; try --crop 32x64, with "):
        measured(Job(AUTO, tmp_path, world=World(0, 2, 0, 2)), 100, PROBE)


# The measurement


@on_linux
@pytest.mark.slow
def test_a_training_on_this_machine(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Small enough for any machine, so the images are the limit."""
    words = ["train", "debug", str(tiny_dataset), "--out", str(tmp_path / "run"), "--batch", "auto", "--iterations", "1"]
    assert cli.main(words) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "Batch: 4 images per step. Steps of 4 take 0." in printed
    assert json.loads((tmp_path / "run/run.json").read_text())["recipe"]["batch"] == 4


@on_linux
@pytest.mark.slow
def test_the_memory_of_steps_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that does not fit, and a process that is killed, are answered by none."""
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with in_own_process(PROBE) as measure:
        few, many = measure(LEAST), measure(128)
        assert few
        assert many
        assert few.used + (20 << 20) < many.used < many.available == few.available
        assert measure(1 << 40) is None
        assert started[0].wait() == 0
        assert measure(4) is None  # it has ended
    with in_own_process(PROBE) as measure:
        assert measure(LEAST)
        started[1].kill()
        assert measure(4) is None
    with in_own_process(PROBE) as measure:
        started[2].kill()
        assert measure(LEAST) is None
    with in_own_process(PROBE):
        pass
    assert all(process.returncode is not None for process in started)


@on_linux
@pytest.mark.slow
def test_a_measurement_that_fails_is_no_lack_of_memory(tmp_path: Path) -> None:
    missing = replace(PROBE, teachers=[str(tmp_path / "no.safetensors")])
    with in_own_process(missing) as measure, pytest.raises(
        FastSCNNError, match=r"^batch: auto cannot be measured \(.*no\.safetensors: .*\); give a number\.$"
    ):
        measure(LEAST)


def test_a_system_that_does_not_say_how_much_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    with pytest.raises(FastSCNNError, match=r"^batch: auto needs Linux or a GPU, .*; give a number\.$"), in_own_process(PROBE):
        pass


@on_linux
@pytest.mark.parametrize(
    "probe",
    [
        PROBE,
        replace(PROBE, channels=4, partial=True),
        Probe(asdict(EVERYTHING), "cpu", synthetic.CLASSES, soft_classes=3, teachers=[str(bundled("torch"))]),
        Probe(asdict(CLASSIFIER), "cpu", ("a", "b", "c")),
    ],
    ids=["plain", "partial", "everything", "classifier"],
)
def test_steps_of_every_kind_of_training(probe: Probe) -> None:
    sent = Probe(**json.loads(json.dumps(asdict(probe))))
    memory = TrialSteps(sent)(LEAST)
    assert 0 <= memory.used < memory.available


@on_linux
def test_what_the_training_holds_beside_its_steps_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 1000 << 20)
    sizes = [TrialSteps(replace(PROBE, pictures=pictures << 20, processes=processes))(LEAST).available >> 20
             for pictures, processes in ((0, 1), (400, 1), (400, 2), (2000, 1))]
    assert sizes == [1000, 600, 300, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_memory_of_a_gpu() -> None:
    recipe = replace(named("camvid"), crop=(720, 768), batch="auto")
    with in_own_process(Probe(asdict(recipe), "cuda", synthetic.CLASSES)) as measure:
        few, many = measure(2), measure(64)
        assert few
        assert many
        assert few.used < many.used < many.available
        assert measure(2048) is None  # about 260 GB
