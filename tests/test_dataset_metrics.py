"""Metrics of datasets: PST900's running mean, and which datasets have any. test_cityscapes compares Cityscapes' scores."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import WriteOnnx
from PIL import Image

from fastscnn import Segmenter, cli
from fastscnn.data import datasets
from fastscnn.data.builtin import pst900
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.protocols.dataset_metrics import dataset_scores
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

IMAGES = 4


@pytest.fixture
def pst(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in rng.permutation(IMAGES):  # files are not made in the order of their names
        for kind, pixels in (
            ("rgb", rng.integers(0, 256, (64, 96, 3))), ("labels", rng.integers(0, 2 + number, (64, 96))),
            ("thermal", rng.integers(0, 256, (64, 96))),
        ):
            images.write(tmp_path / "test" / kind / f"{number}.png", pixels.astype(np.uint8))
    return tmp_path


def running(root: Path, segmenter: Segmenter) -> tuple[float, float]:
    """Their mean, with their loop written out, and the standard one, in percent."""
    counts = np.zeros((5, 5))
    total = 0.0
    for number in range(IMAGES):
        truth = np.asarray(Image.open(root / "test" / "labels" / f"{number}.png"))
        labels = segmenter.segment(images.read(root / "test" / "rgb" / f"{number}.png")).labels
        for true, seen in zip(truth.ravel(), labels.ravel(), strict=True):
            counts[true, seen] += 1
        union = counts.sum(axis=0) + counts.sum(axis=1) - counts.diagonal()
        iou = np.divide(counts.diagonal(), union, out=np.zeros(5), where=union > 0)
        total += iou.mean()
    return 100 * total / (IMAGES - 1), 100 * iou.mean()


def test_the_running_mean_stands_beside_the_standard_one(
    pst: Path, write_onnx: WriteOnnx, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_onnx(pst / "w.onnx", classes=pst900.LABELS.names)
    words = ["evaluate", f"pst900:{pst}", "--split", "test", "--weights", str(weights), "--backend", "onnx"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    theirs, standard = running(pst, Segmenter.load(weights, "onnx"))
    assert scores["pst900_running_miou"] == pytest.approx(theirs, abs=1e-9)
    assert scores["miou"] == pytest.approx(standard, abs=1e-9)
    assert abs(theirs - standard) > 0.1
    line = next(line for line in shown.splitlines() if "running mIoU of the PST900 authors" in line)
    assert f"{theirs:.2f}" in line
    assert "in the order of file names" in " ".join(shown.split())


def test_one_image_has_no_running_mean(pst: Path, write_onnx: WriteOnnx, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, IMAGES):
        (pst / "test" / "rgb" / f"{number}.png").unlink()
    weights = write_onnx(pst / "w.onnx", classes=pst900.LABELS.names)
    assert cli.main(["evaluate", f"pst900:{pst}", "--split", "test", "--weights", str(weights), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pst900_running_miou"] is None


def test_which_datasets_have_scores_of_their_own(pst: Path) -> None:
    thermal = datasets.load(f"pst900-rgbt:{pst}")
    scores = dataset_scores(thermal, [])
    assert scores is not None
    assert scores.to_dict() == {"pst900_running_miou": None}
    other = DatasetSpec("other", pst, LabelSet(("a", "b", "c", "d", "e")), thermal.splits)
    assert dataset_scores(other, []) is None
    same_classes = DatasetSpec("other", pst, pst900.LABELS, thermal.splits)
    assert dataset_scores(same_classes, []) is None, "the dataset has them, not its class names"


def test_the_dataset_carries_them_by_value(pst: Path) -> None:
    for name in ("pst900", "cityscapes", "cityscapes-coarse", "dada"):
        spec = datasets.load(f"{name}:{pst}")
        assert spec.metrics is not None
        assert pickle.loads(pickle.dumps(spec)) == spec
    assert datasets.load(f"camvid:{pst}").metrics is None
    scores = dataset_scores(datasets.load(f"dada:{pst}"), [])
    assert scores is not None
    assert set(scores.to_dict()) == {"category_iou", "category_miou"}
