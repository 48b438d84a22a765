"""Weight files and the backends that run them: what loads, and one sentence for all that does not."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx

from fastscnn import backends
from fastscnn.backends.onnx import OnnxBackend, session
from fastscnn.base import machine
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.onnx_hash import content_sha256

engines = pytest.mark.parametrize(
    "engine",
    ["onnx", pytest.param("openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is missing"))],
)


def test_facts(tiny_onnx: Path) -> None:
    backend = backends.load(tiny_onnx, "onnx", threads=2)
    hashed = content_sha256(tiny_onnx.read_bytes())
    assert backend.card == Card(LabelSet(("red", "green", "blue")), (64, 96), content_sha256=hashed)
    assert (backend.name, backend.precision, backend.threads, backend.streams) == ("onnx", "float32", 2, 1)
    assert (backend.device, backend.notes) == ("cpu", ())
    assert isinstance(backends.load(tiny_onnx, "onnx"), OnnxBackend)


@engines
def test_all_threads_of_this_process_are_used(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(machine, "threads", lambda: 3)
    assert backends.load(tiny_onnx, engine).threads == 3


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (2, 33, 47), (3, 40, 41)])
def test_logits(tiny_onnx: Path, batch: int, height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)).astype(np.uint8)
    logits = backends.load(tiny_onnx, "onnx", threads=1)(images)
    assert logits.dtype == np.float32
    assert logits.flags.c_contiguous
    np.testing.assert_allclose(logits, images[:, ::8, ::8].transpose(0, 3, 1, 2) / 16, rtol=1e-6)
    assert logits.shape == (batch, 3, -(-height // 8), -(-width // 8))


def test_logits_of_images_in_any_memory_layout(tiny_onnx: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 80, 64, 3)).astype(np.uint8)
    flipped = images[:, ::-1, ::2]
    backend = backends.load(tiny_onnx, "onnx", threads=1)
    np.testing.assert_array_equal(backend(flipped), backend(flipped.copy()))


def test_the_suffix_may_shout(tiny_onnx: Path, tmp_path: Path) -> None:
    loud = tmp_path / "TINY.ONNX"
    loud.write_bytes(tiny_onnx.read_bytes())
    assert backends.load(loud, "onnx").name == "onnx"


@engines
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated(tiny_onnx: Path, tmp_path: Path, engine: str, share: float) -> None:
    data = tiny_onnx.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FastSCNNError, match=r"cut\.onnx: "):
        backends.load(path, engine)


@engines
@pytest.mark.parametrize("data", [b"", b"hello", b"PK\3\4", b"\x89PNG\r\n\x1a\n", bytes(1000), pickle.dumps([1, 2])])
def test_no_onnx(tmp_path: Path, engine: str, data: bytes) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(data)
    with pytest.raises(FastSCNNError, match=r"no\.onnx: is not an ONNX model"):
        backends.load(path, engine)


@engines
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "carries no fastscnn card"),
        ({"fastscnn": "{}"}, "carries no fastscnn card"),
        ({card.KEY: ""}, "its card is broken"),
        ({card.KEY: "{}"}, "its card is broken"),
        ({card.KEY: Card(LabelSet(("a", "b")), (64, 96)).to_json()}, "gives 3 classes but its card names 2"),
        ({card.KEY: Card(LabelSet(("a", "b", "c", "d")), (64, 96)).to_json()}, "gives 3 classes but its card names 4"),
    ],
)
def test_cards_that_do_not_fit(
    tmp_path: Path, write_onnx: WriteOnnx, engine: str, metadata: dict[str, str], message: str
) -> None:
    path = write_onnx(tmp_path / "odd.onnx", metadata=metadata)
    with pytest.raises(FastSCNNError, match=rf"odd\.onnx: {message}"):
        backends.load(path, engine)


@engines
@pytest.mark.parametrize("here", [False, True], ids=["beside the file", "in the working folder"])
def test_weights_in_another_file_are_refused(
    tmp_path: Path, write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch, engine: str, here: bool
) -> None:
    path = write_onnx(tmp_path / "split.onnx", external="weights.bin")
    if here:
        monkeypatch.chdir(tmp_path)
    with pytest.raises(FastSCNNError, match=r"split\.onnx: has weights in another file \(external data\)"):
        backends.load(path, engine)


def test_onnx_runtime_opens_no_other_file(tmp_path: Path, write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file is refused before; this is the second lock."""
    path = write_onnx(tmp_path / "split.onnx", external="weights.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="weights"):
        session(path.read_bytes(), 1)


@pytest.mark.reliability("pickles")
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pkl", "a.bin", "a", "a.onnx.gz"])
def test_other_files_are_not_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FastSCNNError, match=r"weights are \.onnx or \.safetensors files; others, such as pickles"):
        backends.load(path, "onnx")


class Trap:
    """Fails the test that unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was read",)


def test_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path / "none.pth", tmp_path):
        with pytest.raises(FastSCNNError, match="no such weight file"):
            backends.load(path, "onnx")
    with pytest.raises(FastSCNNError, match=r"none\.onnx: cannot be read \(No such file"):
        OnnxBackend(tmp_path / "none.onnx", 1)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("onx", "There is no backend 'onx'. Did you mean 'onnx'"),
        ("TORCH ", "Did you mean 'torch'"),
        ("", "There is no backend ''. Known: auto, cuda, onnx, openvino, torch"),
        ("torch", r"tiny\.onnx: runs with the backends openvino and onnx, not with torch"),
    ],
)
def test_wrong_backends(tiny_onnx: Path, backend: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message) as caught:
        backends.load(tiny_onnx, backend)
    assert isinstance(caught.value, ValueError) == (backend != "torch")


def test_safetensors_is_not_for_onnx(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"")
    with pytest.raises(FastSCNNError, match=r"runs with the backends torch and cuda, not with onnx; `fastscnn export`"):
        backends.load(path, "onnx")


@pytest.mark.parametrize("argument", ["threads", "streams"])
@pytest.mark.parametrize("value", [0, -1, 100_000, 1.5, "2", True])
def test_wrong_threads_and_streams(tiny_onnx: Path, argument: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}: must be (a whole number, )?from 1 to 1024, not {value!r}"):
        backends.load(tiny_onnx, **{argument: value})


def test_a_path_may_be_text_with_a_tilde(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_onnx.parent))
    assert backends.load(f"~/{tiny_onnx.name}", "onnx", threads=1).threads == 1


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastscnn.backends.torch", None)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"")
    with pytest.raises(FastSCNNError, match=r"a\.safetensors: .* is missing\. .* needs the extra 'train'"):
        backends.load(path)


def test_a_damaged_graph_prints_nothing(tiny_onnx: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An operator that does not exist: ONNX Runtime would try again, and say so on stdout."""
    data = tiny_onnx.read_bytes()
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data.replace(b"Conv", b"Conw"))
    with pytest.raises(FastSCNNError):
        backends.load(path, "onnx")
    assert capfd.readouterr() == ("", "")
