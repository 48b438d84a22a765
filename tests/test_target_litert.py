"""Target litert: the .tflite file in LiteRT's own interpreter, compared with our labels; its operators; its card."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import mobile

from fastscnn.data import datasets
from fastscnn.exporting.agreement import compare
from fastscnn.exporting.quantize import calibration_images
from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.litert import TARGET
from fastscnn.model import card
from fastscnn.model.card import Card

with quiet():
    pytest.importorskip("litert_torch", reason="needs litert-torch (docs/deploy.md)")

pytestmark = pytest.mark.slow
SIZE = (360, 480)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("litert") / "float32.tflite"
    TARGET.write(mobile.bundled_export(SIZE), file)
    return file


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, camvid_root: Path) -> Path:
    file = tmp_path_factory.mktemp("litert") / "int8.tflite"
    calibration = calibration_images(datasets.load(f"camvid:{camvid_root}"), "train", SIZE)
    TARGET.write(mobile.bundled_export(SIZE, "int8", calibration=calibration), file)
    return file


def model(file: Path) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model(str(file))


def operators(file: Path) -> Counter[str]:
    from ai_edge_litert.tools import flatbuffer_utils

    read = model(file)
    (graph,) = read.subgraphs
    names = (flatbuffer_utils.opcode_to_name(read, operator.opcodeIndex) for operator in graph.operators)
    return Counter(name or "" for name in names)


def loaded(file: Path) -> Any:
    return TARGET.load and TARGET.load(file, mobile.reference().card)


def test_float32_agrees(float32: Path) -> None:
    found = compare(mobile.reference(), loaded(float32), mobile.bundled_export(SIZE).form)
    assert found.equal_labels > 99.99
    assert found.logit_difference is not None
    assert found.logit_difference < 1e-3


def test_layers_are_those_of_phones(float32: Path) -> None:
    found = operators(float32)
    assert found["DEPTHWISE_CONV_2D"] == 14
    assert found["CONV_2D"] == 31
    # From [h, w, channels] to [channels, bins] and back, at the pyramid pooling: no other change of layout.
    assert found["TRANSPOSE"] == 2
    assert not [name for name in found if "CUSTOM" in name or "FLEX" in name.upper()]


def test_the_card_is_in_the_metadata(float32: Path) -> None:
    read = model(float32)
    (entry,) = (entry for entry in read.metadata if entry.name == card.KEY.encode())
    described = Card.from_json(bytes(read.buffers[entry.buffer].data).decode(), float32)
    assert described.label_set == mobile.reference().card.label_set
    assert described.precision == "float32"


def test_int8_keeps_the_scores(int8: Path, camvid_root: Path) -> None:
    spec = datasets.load(f"camvid:{camvid_root}")
    found = compare(mobile.reference(), loaded(int8), mobile.bundled_export(SIZE, "int8").form, spec, spec.pairs("val")[::4])
    assert found.equal_labels > 99
    assert found.largest_loss < 1


def test_int8_computes_in_integers(int8: Path) -> None:
    read, found = model(int8), operators(int8)
    (graph,) = read.subgraphs
    image = graph.tensors[graph.inputs[0]]
    assert list(image.quantization.scale) == [1]  # uint8 pixels are read as they are
    assert not found["CAST"]
    assert found["DEQUANTIZE"] == 1  # the logits
    depthwise = [tensor for tensor in graph.tensors if tensor.quantization and tensor.quantization.quantizedDimension == 3]
    assert len(depthwise) == 14
    assert all(len(tensor.quantization.scale) == tensor.shape[3] for tensor in depthwise)  # per channel


def test_labels(tmp_path: Path) -> None:
    exported = mobile.bundled_export((96, 160), output="labels")
    TARGET.write(exported, tmp_path / "labels.tflite")
    found = compare(mobile.reference(), loaded(tmp_path / "labels.tflite"), exported.form)
    assert found.equal_labels > 99.99
    assert operators(tmp_path / "labels.tflite")["TRANSPOSE"] == 2  # none at full size


@pytest.mark.parametrize(("variant", "size", "channels"), mobile.UNUSUAL)
def test_other_networks(variant: str, size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    exported = mobile.untrained_export(variant, size, channels)
    TARGET.write(exported, tmp_path / "other.tflite")
    got = loaded(tmp_path / "other.tflite")(mobile.noise(exported))["logits"]
    np.testing.assert_allclose(got, mobile.expected(exported), atol=1e-4)
