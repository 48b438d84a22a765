"""Shared fixtures: a network with random weights and the file exported from it. Tracing takes long, so it is done once.

All tests that use them only read these files.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made.street import street

from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet

if TYPE_CHECKING:
    from fastscnn.exporting.report import ExportReport
    from fastscnn.network.fast_scnn import FastSCNN


@dataclass(frozen=True)
class Exported:
    """Weights, and the file exported from them, alone in its folder."""

    weights: Path
    file: Path
    report: ExportReport


def lively(seed: int = 0, classes: int = 11, channels: int = 3) -> FastSCNN:
    """Return a network with random weights and batch norm statistics of images, so that its labels vary within an image."""
    import torch
    from torch import nn

    from fastscnn.network.fast_scnn import FastSCNN

    torch.manual_seed(seed)
    model = FastSCNN(classes, channels).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    with torch.no_grad():
        model(torch.from_numpy(np.stack([images.widened(scene, channels) for scene in scenes(6, 96, 128)])))
    return model.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Made by the first process of pytest-xdist that needs it; the others wait, and read it."""
    from filelock import FileLock

    from fastscnn.exporting.pipeline import export
    from fastscnn.network import checkpoint

    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    weights, file, report = (root / name for name in ("weights/weights.safetensors", "export/model.onnx", "export.report"))
    with FileLock(root / "export.lock"):
        if not report.exists():
            for path in (weights, file):
                path.parent.mkdir()
            checkpoint.save(weights, lively(), Card(LabelSet(synthetic.CLASSES), (96, 128), recipe={"lr": 0.1}))
            report.write_bytes(pickle.dumps(export(weights, file)))
    found: ExportReport = pickle.loads(report.read_bytes())
    return Exported(weights, file, found)


@pytest.fixture
def traced(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Tracing, which is slow, returns the bytes of the earlier export."""
    from fastscnn.exporting import pipeline

    data = exported.file.read_bytes()
    monkeypatch.setattr(pipeline, "trace", lambda *_: data)
    return exported


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export on labelled images measure neither other backends and sizes nor the confidence, which takes long."""
    from fastscnn.exporting import pipeline

    monkeypatch.setattr(pipeline, "backend_losses", lambda *_: {})
    monkeypatch.setattr(pipeline, "scores_by_size", lambda *_: {})
    monkeypatch.setattr(pipeline, "calibrate", lambda *_: None)


def scenes(batch: int, height: int, width: int) -> UInt8Array:
    return np.stack([street(height, width, seed).image for seed in range(batch)])
