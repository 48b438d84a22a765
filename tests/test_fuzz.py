"""Every parser gives a result or an error of the package, for any bytes."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from random import Random

import pytest
from fuzz.mutations import mutated, retyped
from fuzz.targets import CORPUS, TARGETS

INCOMPLETE = {"onnx-metadata", "onnx-hash", "weights"}  # their seeds have a card of another network
SECONDS = 5  # of the processor, for one input


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(tmp_path: Path, name: str) -> None:
    target, random = TARGETS[name], Random(zlib.crc32(name.encode()))
    if target.needs:
        pytest.importorskip(target.needs)
    check, inputs = target.prepared(tmp_path), target.inputs()
    for data in [*inputs, *(mutated(random.choice(inputs), random) for _ in range(target.examples))]:
        start = time.process_time()
        try:
            check(data)
        except Exception as error:
            pytest.fail(f"{data[:2000]!r}: {error!r}")
        assert time.process_time() - start < SECONDS, data[:2000]


@pytest.mark.parametrize("name", TARGETS)
def test_values_of_another_type(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    if target.needs:
        pytest.importorskip(target.needs)
    check = target.prepared(tmp_path)
    for seed in target.seeds():
        for data in retyped(seed):
            try:
                check(data)
            except Exception as error:
                pytest.fail(f"{data[:2000]!r}: {error!r}")


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - INCOMPLETE))
def test_the_seeds_are_valid(tmp_path: Path, name: str) -> None:
    """A seed that is refused early tests little."""
    target = TARGETS[name]
    if target.needs:
        pytest.importorskip(target.needs)
    target.beside(tmp_path)
    for data in target.seeds():
        (tmp_path / target.name).write_bytes(data)
        target.run(tmp_path / target.name)


def test_every_find_has_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)
