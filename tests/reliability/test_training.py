"""Trainings: equal bytes from equal seeds, and after any number of kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from promises import Some

torch = pytest.importorskip("torch")
from fastscnn.base import files  # noqa: E402
from fastscnn.network import checkpoint  # noqa: E402
from fastscnn.training.recipes import Recipe, named  # noqa: E402
from fastscnn.training.train import train  # noqa: E402

Record = Callable[[str, object], None]


def digests(out: Path) -> list[str]:
    """Hashes of the weights, and of the state: of its tensors, since safetensors writes other metadata in any order."""
    state = checkpoint.load_tensors(out / "resume.safetensors")[0]
    return [*(files.digest(out / f"{name}.safetensors") for name in ("best", "last")), checkpoint.digest(state)]


@pytest.mark.slow
@pytest.mark.reliability("seed")
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_seeds_give_equal_bytes(tmp_path: Path, tiny_dataset: Path, threads: int, record_property: Record) -> None:
    recipe, before = replace(named("debug"), iterations=9, crop=(96, 128)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, seed in (("one", 0), ("two", 0), ("other", 1)):
            train(replace(recipe, seed=seed), tiny_dataset, tmp_path / name)
    finally:
        torch.set_num_threads(before)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert not set(digests(tmp_path / "one")) & set(digests(tmp_path / "other"))
    record_property("cases", 2)


TRAINER = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from fastscnn.training.recipes import named
from fastscnn.training.train import train
torch.set_num_threads(1)
data, out = map(Path, sys.argv[1:])
recipe = replace(named("debug"), iterations=30)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        train(recipe, data, out, resume=(out / "resume.safetensors").exists())
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.reliability("kill-time")
@pytest.mark.usefixtures("one_thread")
def test_a_training_killed_many_times_equals_one_that_is_not(
    tmp_path: Path, tiny_dataset: Path, some: Some, record_property: Record
) -> None:
    """One process imports PyTorch; its children train until each is killed. The last one runs to the end."""
    recipe: Recipe = replace(named("debug"), iterations=30)
    start = time.monotonic()
    train(recipe, tiny_dataset, tmp_path / "whole")
    whole = time.monotonic() - start
    kills, hit, draw = len(some(range(30))), 0, random.Random(0)
    command = [sys.executable, "-c", TRAINER, str(tiny_dataset), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None

        def child() -> int:
            assert parent.stdin is not None
            assert parent.stdout is not None
            print("go", file=parent.stdin, flush=True)
            return int(parent.stdout.readline())

        for _ in range(kills):
            number = child()
            time.sleep(draw.uniform(0, whole / 4))
            os.kill(number, signal.SIGKILL)
            hit += int(parent.stdout.readline()) == -signal.SIGKILL
        child()
        assert int(parent.stdout.readline()) == 0
        parent.stdin.close()
    assert hit > kills // 2
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    record_property("cases", hit)
