"""Weight files: what comes back, what is refused, and what is left when writing fails."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import safetensors
import safetensors.torch
import torch

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN

CARD = Card(LabelSet(("a", "b", "c")), (64, 96), data=Data("tiny", "train", 6, "none", "f"), recipe={"lr": 0.1})


def network(seed: int = 0, classes: int = 3) -> FastSCNN:
    torch.manual_seed(seed)
    return FastSCNN(classes, auxiliary=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, network(), CARD)
    return path


def rewrite(file: Path, **changes: object) -> None:
    """Writes the file's tensors again, with another card."""
    tensors, metadata = checkpoint.load_tensors(file)
    checkpoint.save_tensors(file, tensors, {card.KEY: json.dumps(json.loads(metadata[card.KEY]) | changes)})


def test_round_trip(tmp_path: Path) -> None:
    model = network()
    path = tmp_path / "new" / "weights.safetensors"
    saved = checkpoint.save(path, model, CARD)
    loaded, described = checkpoint.load(path)
    running = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("auxiliary")}
    assert list(loaded.state_dict()) == list(running)
    assert all(torch.equal(tensor, running[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training
    assert described == saved == dataclasses.replace(CARD, parameters_sha256=checkpoint.digest(running))
    with safetensors.safe_open(path, framework="pt") as opened:
        inside = json.loads(opened.metadata()[card.KEY])
    assert (inside["classes"], inside["size"]) == (["a", "b", "c"], [64, 96])
    assert inside["parameters_sha256"] == saved.parameters_sha256


def test_the_same_weights_give_the_same_bytes(file: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "again.safetensors", network().to(memory_format=torch.channels_last), CARD)  # type: ignore[call-overload]
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_a_narrow_network_with_branches_is_saved_fused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FastSCNN(3, width_mult=0.5, auxiliary=True, reparam_branches=True)
    for conv in model.depthwise():
        assert conv.branch is not None
        torch.nn.init.normal_(conv.branch.bias)
        torch.nn.init.uniform_(conv.branch.get_buffer("running_mean"), -1, 1)
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, model, dataclasses.replace(CARD, width_mult=0.5))
    loaded, described = checkpoint.load(path)
    assert described.width_mult == 0.5
    assert list(loaded.state_dict()) == list(FastSCNN(3, width_mult=0.5).state_dict())
    image = torch.randint(256, (1, 64, 96, 3))
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), model.eval()(image), atol=1e-4, rtol=1e-4)
    assert all(conv.branch is not None for conv in model.depthwise())  # what is trained keeps them


def test_digest() -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    digest = checkpoint.digest(tensors)
    assert checkpoint.digest(dict(reversed(tensors.items()))) == digest
    assert checkpoint.digest({**tensors, "a": tensors["a"].T.contiguous().T}) == digest
    others = [
        {**tensors, "b": torch.tensor([0.0, 1e-45])},
        {**tensors, "b": torch.zeros(2, dtype=torch.int32)},
        {**tensors, "a": tensors["a"].reshape(3, 2)},
        {"b": tensors["a"], "a": tensors["b"]},
    ]
    assert len({digest, *(checkpoint.digest(other) for other in others)}) == 5


@pytest.mark.reliability("pickles")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FastSCNNError, match=r"weights\.safetensors: is a pickle"):
        checkpoint.load(path)


@pytest.mark.parametrize("length", [640, 1152, 19280])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    """These lengths start the file with the bytes of pickles of protocol 2 and 4, and of a zip file."""
    path = tmp_path / "weights.safetensors"
    for filler in range(length - 200, length):
        checkpoint.save_tensors(path, {"x": torch.ones(3)}, {"filler": "a" * filler})
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            break
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK")
    assert torch.equal(checkpoint.load_tensors(path)[0]["x"], torch.ones(3))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 5000, -1])
def test_a_truncated_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(FastSCNNError, match=r"weights\.safetensors: is not a safetensors file or is truncated"):
        checkpoint.load(file)


@pytest.mark.parametrize("content", [b"hello, I am a text file", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(FastSCNNError, match=r"weights\.safetensors: "):
        checkpoint.load(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"none\.safetensors: cannot be read \(No such file"):
        checkpoint.load(tmp_path / "none.safetensors")
    with pytest.raises(FastSCNNError, match="cannot be read"):
        checkpoint.load(tmp_path)


def test_weights_without_a_card_are_refused(file: Path) -> None:
    checkpoint.save_tensors(file, network().state_dict(), {})
    with pytest.raises(FastSCNNError, match="carries no fastscnn card"):
        checkpoint.load(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["a", "b"], "colours": [[0, 0, 0], [1, 1, 1]]}, r"do not match .* card of 2 classes \(size mismatch"),
        ({"variant": "mmseg"}, r"do not match the model card of 3 classes \(size mismatch for global_features"),
        ({"variant": "newer"}, "unknown variant 'newer'"),
        ({"channels": 4}, "do not match the model card"),
        ({"width_mult": 2.0}, r"do not match the model card of 3 classes \(size mismatch for downsample"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(file: Path, changes: dict[str, object], message: str) -> None:
    rewrite(file, **changes)
    with pytest.raises(FastSCNNError, match=message):
        checkpoint.load(file)


@pytest.mark.parametrize("change", ["missing", "unexpected", "changed"])
def test_every_tensor_counts(file: Path, change: str) -> None:
    tensors, metadata = checkpoint.load_tensors(file)
    if change == "missing":
        del tensors["classifier.3.bias"]
    elif change == "unexpected":
        tensors["more"] = torch.zeros(1)
    else:
        tensors["classifier.3.bias"][0] += 1e-6
    checkpoint.save_tensors(file, tensors, metadata)
    message = "do not match parameters_sha256" if change == "changed" else r"do not match .*(Missing|Unexpected) key"
    with pytest.raises(FastSCNNError, match=message):
        checkpoint.load(file)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = file.read_bytes()
    monkeypatch.setattr(os, call, full)
    with pytest.raises(FastSCNNError, match=r"weights\.safetensors: cannot be written \(No space left on device\)"):
        checkpoint.save(file, network(1), CARD)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


_SAVES_FOR_EVER = """
import os, sys
from pathlib import Path
import torch
from fastscnn.network import checkpoint
for _ in sys.stdin:
    child = os.fork()
    if not child:
        while True:
            checkpoint.save_tensors(Path(sys.argv[1]), {"x": torch.full((1 << 22,), float(os.getpid()))}, {})
    print(child, flush=True)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_kill_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_tensors(path, {"x": torch.zeros(1 << 22)}, {})
    command = [sys.executable, "-c", _SAVES_FOR_EVER, str(path)]
    values = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin
        assert parent.stdout
        for seed in range(12):
            print("go", file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            time.sleep(random.Random(seed).uniform(0.05, 0.2))
            os.kill(child, signal.SIGKILL)
            x = checkpoint.load_tensors(path)[0]["x"]
            assert x.min() == x.max()
            values.add(x[0].item())
        parent.stdin.close()
    assert values - {0.0}  # it did save
    assert any(file != path for file in tmp_path.iterdir())  # and a kill did hit it in the middle
