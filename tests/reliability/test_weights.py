"""Hostile weight files: pickles, flipped bits, and cards of wrong content."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from promises import Some, refusal

from fastscnn import backends, cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model import card
from fastscnn.model.card import Calibration, Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.model.weights import bundled

Record = Callable[[str, object], None]


class Trap:
    """Its pickle makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (self.folder,)


def pickled(trap: Trap) -> dict[str, bytes]:
    """The trap in every container of pickles."""
    torch = pytest.importorskip("torch")
    state, found = {"weight": trap}, {}
    for protocol in range(6):
        found[f"pickle {protocol}"] = pickle.dumps(state, protocol)
    for zipped in (True, False):
        content = io.BytesIO()
        torch.save(state, content, _use_new_zipfile_serialization=zipped)
        found["torch zip" if zipped else "torch legacy"] = content.getvalue()
    objects = np.array([trap], dtype=object)
    for name, save in (("npy", np.save), ("npz", np.savez)):
        content = io.BytesIO()
        save(content, objects, allow_pickle=True)
        found[name] = content.getvalue()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", found["pickle 2"])
    found["zip"] = content.getvalue()
    return found


DATASET = """name = "d"
classes = ["a", "b"]
[splits.train]
images = "images/*.png"
labels = "labels/{stem}.LABELS"
SOFT
"""


def described(folder: Path, labels: str, soft: str = "") -> Path:
    """The dataset.toml of one image, beside the label files of a test."""
    images.write(folder / "images/a.png", np.zeros((64, 96, 3), np.uint8))
    images.write(folder / "labels/a.png", np.zeros((64, 96), np.uint8))
    toml = folder / "dataset.toml"
    toml.write_text(DATASET.replace("LABELS", labels).replace("SOFT", soft and f'soft = "{soft}"'))
    return toml


def paths(tmp_path: Path) -> dict[str, Callable[[bytes], object]]:
    """Everything that reads a file of weights, checkpoints or arrays: name -> a call that reads these bytes."""
    from fastscnn import convert, export, train
    from fastscnn.network import checkpoint

    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    def array(suffix: str, data: bytes) -> object:
        toml = described(tmp_path, suffix)
        file(f"labels/a.{suffix}", data)
        spec = datasets.load(toml)
        return spec.read(spec.pairs("train")[0])

    def soft(data: bytes) -> object:
        toml = described(tmp_path, "png", "soft/{stem}.npz")
        file("soft/a.npz", data)
        return train("debug", toml, tmp_path / "soft-run", validation=None)

    def resumed(data: bytes) -> object:
        file("run/resume.safetensors", data)
        return train("debug", described(tmp_path, "png"), tmp_path / "run", validation=None, resume=True)

    def command(data: bytes) -> object:
        code = cli.main(["segment", str(described(tmp_path, "png").parent / "images"), "--weights", str(file("a.pth", data))])
        raise FastSCNNError(f"exit code {code}") if code == 1 else AssertionError(code)

    names, size = LabelSet(("a", "b")), (64, 96)
    return {
        **{f"Segmenter.load {suffix}": lambda data, suffix=suffix: Segmenter.load(file(f"a{suffix}", data))  # type: ignore[misc]
           for suffix in (".onnx", ".safetensors", ".pth", ".pt", ".pkl", ".bin", ".ckpt", "")},
        **{f"backend {backend}": lambda data, backend=backend: backends.load(file("a.onnx", data), backend)  # type: ignore[misc]
           for backend in ("onnx", "openvino")},
        "checkpoint.load": lambda data: checkpoint.load(file("a.safetensors", data)),
        "checkpoint.load_classifier": lambda data: checkpoint.load_classifier(file("a.safetensors", data)),
        "export": lambda data: export(file("a.safetensors", data), tmp_path / "out.onnx"),
        "convert": lambda data: convert.convert(file("a.pth", data), tmp_path / "out.safetensors", "auto", names, size),
        "train init": lambda data: train("debug", described(tmp_path, "png"), tmp_path / "init-run", validation=None,
                                         init=file("a.safetensors", data)),
        "train resume": resumed,
        "labels .npy": lambda data: array("npy", data),
        "labels .mat": lambda data: array("mat", data),
        "labels .png": lambda data: array("png", data),
        "soft labels": soft,
        "image": images.read,
        "dataset.toml": lambda data: datasets.load(file("dataset.toml", data)),
        "command": command,
    }


@pytest.mark.slow
@pytest.mark.reliability("pickles")
def test_pickles_are_refused_on_every_path(tmp_path: Path, some: Some, record_property: Record) -> None:
    folder = tmp_path / "mark"
    kinds = pickled(Trap(folder))
    pickle.loads(kinds["pickle 4"])
    folder.rmdir()  # the trap works
    cases = some((place, kind) for place in paths(tmp_path) for kind in kinds)
    for place, kind in cases:
        with pytest.raises(FastSCNNError):
            paths(tmp_path)[place](kinds[kind])
        assert not folder.exists(), (place, kind)
    record_property("cases", len(cases))


def flips(data: bytes, text: bytes, seeds: list[int]) -> list[int]:
    """Bits to flip, by number: half of them anywhere, half in the first and last 64 KiB, where headers and graphs are.

    Args:
        data: content of the file.
        text: the part of it that may change.
        seeds: one for each bit.
    """
    assert data.count(text) == 1
    edge = min(len(data), 1 << 16)
    chosen = []
    for seed in seeds:
        draw = random.Random(seed)
        near = (draw.randrange(edge), len(data) - 1 - draw.randrange(edge))
        byte = draw.choice(near) if seed % 2 else draw.randrange(len(data))
        chosen.append(8 * byte + draw.randrange(8))
    return chosen


def flip_each(path: Path, data: bytes, text: bytes, seeds: list[int], load: Callable[[Path], object]) -> int:
    """Load the file with each bit flipped. Return how many were read; all others were refused by a FastSCNNError."""
    start, read = data.index(text), 0
    load(path)  # as it is, it is read
    for bit in flips(data, text, seeds):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        message = refusal(load, path)
        if message is None:
            assert start <= bit // 8 < start + len(text), f"bit {bit} of {path.name} was not noticed"
            read += 1
        else:
            assert path.name in message
    return read


@pytest.mark.reliability("safetensors-flips")
def test_flipped_bits_of_a_safetensors_file(tmp_path: Path, some: Some, record_property: Record) -> None:
    checkpoint = pytest.importorskip("fastscnn.network.checkpoint")
    path, seeds = tmp_path / "weights.safetensors", some(range(500))
    data = next(bundled("torch").parent.glob("*.safetensors")).read_bytes()
    path.write_bytes(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = json.dumps(header["__metadata__"][card.KEY], ensure_ascii=False).encode()
    record_property("read, in the card", flip_each(path, data, text, seeds, checkpoint.load))
    record_property("cases", len(seeds))


@pytest.mark.reliability("onnx-flips")
def test_flipped_bits_of_an_onnx_file(tmp_path: Path, some: Some, record_property: Record) -> None:
    path, seeds = tmp_path / "weights.onnx", some(range(500))
    data = bundled("onnx", "int8").read_bytes()
    path.write_bytes(data)
    load = partial(backends.load, backend="onnx", threads=1)
    text = load(path).card.to_json().encode()
    record_property("read, in the card", flip_each(path, data, text, seeds, load))
    record_property("cases", len(seeds))


CARD = Card(
    LabelSet(("red", "green", "blue")), (64, 96), data=Data("d", "train", 6, "CC BY 4.0", "f"), recipe={"lr": 0.1},
    metrics={"val": {"miou": 51.25}}, losses={"onnx int8": {"miou": -0.2}},
    calibration=Calibration(1.5, 2.0, "val", 9, 3.0, 0.5),
)  # fmt: skip
FIELDS = (
    "classes", "colours", "size", "variant", "channels", "width", "precision", "version", "schema", "parameters_sha256",
    "data", "data.name", "data.images", "recipe", "recipe.fastscnn", "metrics", "metrics.val", "losses", "calibration",
    "calibration.temperature",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, -1, 10**400, float("nan"), "", "x" * 20_000, "\udc80\x1b[31m\n", {"a": {"b": [{}]}},
    json.loads("[" * 60 + "]" * 60),
)  # fmt: skip


def used(path: Path) -> None:
    """Segment an image with a weight file, and write its card again."""
    with Segmenter.load(path, "onnx", threads=1) as segmenter:
        assert segmenter.segment(np.zeros((64, 96, 3), np.uint8)).labels.shape == (64, 96)
        assert Card.from_json(segmenter.card.to_json(), path) == segmenter.card


@pytest.mark.reliability("cards")
def test_hostile_cards(tmp_path: Path, write_onnx: WriteOnnx, some: Some, record_property: Record) -> None:
    cases, refused = some((field, value) for field in FIELDS for value in VALUES), 0
    for field, value in cases:
        fields = copy.deepcopy(json.loads(CARD.to_json()))
        *outer, last = field.split(".")
        inside = fields
        for name in outer:
            inside = inside[name]
        inside[last] = value
        path = write_onnx(tmp_path / "hostile.onnx", metadata={card.KEY: json.dumps(fields)})
        if (message := refusal(used, path)) is not None:
            assert "hostile.onnx" in message, field
            assert len(message) < 400, field
            assert not {"\x1b", "\n"} & set(message), field
            refused += 1
    assert refused > len(cases) // 2
    record_property("refused", refused)
    record_property("cases", len(cases))
