"""Files that are cut off at each percent of their length."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from promises import Some, refusal

from fastscnn import backends
from fastscnn.data import synthetic
from fastscnn.data.formats import arrays, text
from fastscnn.data.soft import SoftClasses
from fastscnn.media import images

SCENE, IDS = synthetic.draw(96, 128).image, synthetic.draw(96, 128).labels
IMAGES = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "SGI", "TGA")
Read = Callable[[Path], Any]


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    content = io.BytesIO()
    save(content)
    return content.getvalue()


def image(kind: str) -> tuple[str, bytes, Read]:
    return f"a.{kind.lower()}", saved(lambda file: Image.fromarray(SCENE).save(file, kind)), images.read


def weights(tiny_onnx: Path) -> list[tuple[str, bytes, Read]]:
    """Files of weights, as name, content and reader; those that PyTorch reads only where it is installed."""
    found: list[tuple[str, bytes, Read]] = [
        ("a.onnx", tiny_onnx.read_bytes(), lambda path: backends.load(path, "onnx", threads=1).card),
    ]
    try:
        import safetensors.torch
        import torch

        from fastscnn.convert import pickles
        from fastscnn.network import checkpoint
    except ImportError:
        return found
    state = {"a": torch.arange(600.0), "b": torch.ones(3, 4)}

    def tensors(path: Path) -> Any:
        return {name: tensor.tolist() for name, tensor in checkpoint.load_tensors(path)[0].items()}

    def foreign(path: Path) -> Any:
        return {name: tensor.tolist() for name, tensor in pickles.read(path).items()}

    return [
        *found,
        ("a.safetensors", safetensors.torch.save(state), tensors),
        ("a.pth", saved(lambda file: torch.save(state, file)), foreign),
        ("legacy.pth", saved(lambda file: torch.save(state, file, _use_new_zipfile_serialization=False)), foreign),
        ("a.pdparams", pickle.dumps({name: tensor.numpy() for name, tensor in state.items()}, 4), foreign),
    ]


def labels() -> list[tuple[str, bytes, Read]]:
    """Files of labels, as name, content and reader."""
    classes, halves = SoftClasses(("a", "b"), (0, 1)), np.full((2, 12, 16), 127, np.uint8)
    shapes = {"shapes": [{"label": "a", "points": [[0, 1], [2, 3]]}]}
    return [
        ("a.npy", saved(lambda file: np.save(file, IDS)), arrays.npy),
        ("a.npz", saved(lambda file: np.savez(file, probabilities=halves)), lambda path: classes.read(path, (96, 128))),
        ("a.json", json.dumps(shapes).encode(), lambda path: text.read_json(path, dict)),
        ("labels.png", saved(lambda file: Image.fromarray(IDS).save(file, "PNG")), lambda path: images.read_values(path)[0]),
    ]


def assert_read_as(expected: Any, read: Read, path: Path) -> None:
    assert np.array_equal(read(path), expected), f"{path.name}, {path.stat().st_size} bytes"


@pytest.mark.reliability("truncation")
def test_files_cut_off_at_each_percent(
    tmp_path: Path, tiny_onnx: Path, some: Some, record_property: Callable[[str, object], None]
) -> None:
    kinds = [image(kind) for kind in IMAGES if kind != "AVIF" or features.check("avif")]
    kinds += [*weights(tiny_onnx), *labels()]
    cases, whole = some((kind, percent) for kind in kinds for percent in range(100)), 0
    for (name, data, read), percent in cases:
        path = tmp_path / name
        path.write_bytes(data)
        expected = read(path)
        path.write_bytes(data[: len(data) * percent // 100])
        message = refusal(assert_read_as, expected, read, path)
        assert message is None or name in message
        whole += message is None
    assert whole < len(cases) // 20
    record_property("read as the whole file", whole)
    record_property("cases", len(cases))
