"""Training on tar shards gives the weights of a training on the folder that they come from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_distributed import SIX_STEPS, torchrun
from test_shards import cut

from fastscnn.base import archives
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets, mixture
from fastscnn.data.shards import write_shards
from fastscnn.network import checkpoint
from fastscnn.training.distributed import World
from fastscnn.training.loader import Loader
from fastscnn.training.recipes import named
from fastscnn.training.train import train


@pytest.fixture(scope="module")
def scenes(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset as shards."""
    return write_shards(tiny_dataset, tmp_path_factory.mktemp("scenes") / "shards").parent


def digests(run: Path) -> list[str]:
    return [checkpoint.digest(checkpoint.load_tensors(run / f"{name}.safetensors")[0]) for name in ("resume", "last", "best")]


def test_a_training_on_shards_gives_the_weights_of_the_folder(tiny_dataset: Path, scenes: Path, tmp_path: Path) -> None:
    """Also if it is interrupted and resumed."""
    train("debug", tiny_dataset, tmp_path / "folder")
    train("debug", scenes, tmp_path / "shards", pause_after=2)
    train("debug", scenes, tmp_path / "shards", resume=True)
    assert digests(tmp_path / "shards") == digests(tmp_path / "folder")


def test_a_training_refuses_a_damaged_shard(scenes: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(scenes, tmp_path / "own"))
    cut(own / "train/000000.tar")
    with pytest.raises(FastSCNNError, match=r"train/000000\.tar: is truncated or damaged after '0000000\d-\d\.\w+\.png'"):
        train("debug", own, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_process_reads_its_part(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = datasets.load(scenes)
    pairs = spec.pairs("train")
    seen: list[archives.Member] = []
    read = archives.Member.read

    def noted(member: archives.Member) -> bytes:
        seen.append(member)
        return read(member)

    monkeypatch.setattr(archives.Member, "read", noted)
    recipe = replace(named("debug"), batch=4)
    for rank in range(2):
        seen.clear()
        batch = Loader(mixture.load(spec), [pairs], recipe, world=World(rank, 2)).batch(0)
        files = [path for name in batch.names for path in (Path(name), Path(name.replace("image", "labels")))]
        expected = [archives.member(path) for path in files]
        assert len(expected) == 4
        assert seen == expected


@pytest.mark.slow
def test_two_processes_give_the_weights_of_the_folder(tiny_dataset: Path, scenes: Path, tmp_path: Path) -> None:
    for name, data in (("folder", tiny_dataset), ("shards", scenes)):
        done = torchrun(2, "command_line", "train", "debug", str(data), "--out", str(tmp_path / name), *SIX_STEPS)
        assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "shards") == digests(tmp_path / "folder")
