"""Export: an ONNX file that says and does what the weights do, at any size, or none at all."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fastscnn import cli
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.backends.torch import TorchBackend
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.evaluation import evaluate
from fastscnn.exporting import onnx_export as module
from fastscnn.exporting import quantize
from fastscnn.exporting.onnx_export import Agreement, export
from fastscnn.exporting.quantize import Layer
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.card import KEY, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.model.onnx_hash import content_sha256
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.upsampling import upsample


@dataclass(frozen=True)
class Exported:
    """Weights and the file made of them, alone in its folder."""

    weights: Path
    file: Path
    agreements: list[Agreement]


def lively(seed: int = 0) -> FastSCNN:
    """A network of random weights whose batch norms have seen pictures, so that its labels vary over one."""
    torch.manual_seed(seed)
    model = FastSCNN(11).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    with torch.no_grad():
        model(torch.from_numpy(scenes(6, 96, 128)))
    return model.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    checkpoint.save(weights, lively(), Card(LabelSet(synthetic.CLASSES), (96, 128), recipe={"lr": 0.1}))
    file = tmp_path_factory.mktemp("export") / "model.onnx"
    return Exported(weights, file, export(weights, file))


@pytest.fixture
def traced(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Tracing, which takes long, gives the bytes made before."""
    data = exported.file.read_bytes()
    monkeypatch.setattr(module, "_trace", lambda *_: data)
    return exported


def scenes(batch: int, height: int, width: int) -> UInt8Array:
    drawn = [synthetic.draw(max(64, height), max(64, width), seed).image[:height, :width] for seed in range(batch)]
    return np.stack(drawn)


def test_one_file_and_no_sidecar(exported: Exported) -> None:
    assert list(exported.file.parent.iterdir()) == [exported.file]
    assert abs(exported.file.stat().st_size - exported.weights.stat().st_size) < 500_000


def test_the_image_is_not_divided(exported: Exported) -> None:
    """By the standard deviation; the first weights are."""
    graph = onnx.load(exported.file).graph
    (subtract,) = (node for node in graph.node if node.op_type == "Sub" and "_to_copy" in node.input[0])
    (conv,) = (node for node in graph.node if subtract.output[0] in node.input)
    assert (conv.op_type, conv.input[1]) == ("Conv", "downsample.0.0.weight")


def test_inputs_and_outputs(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.file.read_bytes(), providers=["CPUExecutionProvider"])
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", "height", "width", 3])
    assert (result.name, result.type, result.shape[:2]) == ("logits", "tensor(float)", ["batch", 11])
    assert all(isinstance(side, str) for side in result.shape[2:])
    onnx.checker.check_model(onnx.load(exported.file))


def test_it_was_compared_where_it_was_not_traced(exported: Exported) -> None:
    assert len(exported.agreements) == 3
    assert all(agreement.logits <= 1e-4 and agreement.labels >= 99.99 for agreement in exported.agreements)
    assert len({agreement.batch for agreement in exported.agreements}) > 1


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (3, 65, 131), (1, 200, 333), (2, 96, 160), (5, 47, 64)])
def test_agrees_with_torch(exported: Exported, batch: int, height: int, width: int) -> None:
    model, card = checkpoint.load(exported.weights)
    pictures = scenes(batch, height, width)
    expected, got = TorchBackend(model, card)(pictures), OnnxBackend(exported.file, 1)(pictures)
    assert got.shape == expected.shape == (batch, 11, -(-height // 8), -(-width // 8))
    assert np.abs(got - expected).max() <= 1e-4
    assert expected.std() > 0.1  # 1e-4 does mean something
    pairs = zip(got, expected, strict=True)
    labels = [[upsample.labels(logits, (height, width)) for logits in pair] for pair in pairs]
    assert np.mean([one == other for one, other in labels]) >= 0.9999
    if height > 64:
        assert len(np.unique(labels)) > 1


def test_the_card_is_the_same(exported: Exported) -> None:
    card, content = checkpoint.load(exported.weights)[1], content_sha256(exported.file.read_bytes())
    assert card.content_sha256 == ""
    described = dataclasses.replace(card, content_sha256=content)
    assert OnnxBackend(exported.file, 1).card == described
    inside = {prop.key: prop.value for prop in onnx.load(exported.file).metadata_props}
    assert inside == {KEY: described.to_json()}


def test_nothing_of_this_machine_is_inside(exported: Exported) -> None:
    data = exported.file.read_bytes()
    for path in (Path.cwd(), Path.home(), Path(__file__).parents[1], Path(sys.prefix), Path(torch.__file__).parent,
                 exported.weights.parent):
        assert str(path) == "/" or str(path).encode() not in data
    assert b"site-packages" not in data
    model = onnx.load(exported.file)
    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
    assert b".py" not in model.SerializeToString()  # in raw weights those three bytes may stand by chance


@pytest.mark.parametrize("name", ["model", "model.pb", "model.safetensors"])
def test_another_suffix_is_refused(exported: Exported, tmp_path: Path, name: str) -> None:
    with pytest.raises(FastSCNNError, match=r"give --out a name that ends in \.onnx"):
        export(exported.weights, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_disagrees_is_not_written(traced: Exported, tmp_path: Path) -> None:
    """The trace is of other weights than those to export."""
    checkpoint.save(tmp_path / "other.safetensors", lively(1), Card(LabelSet(synthetic.CLASSES), (96, 128)))
    (tmp_path / "model.onnx").write_bytes(b"before")
    with pytest.raises(FastSCNNError, match=r"model\.onnx: not written, because ONNX Runtime and PyTorch disagree"):
        export(tmp_path / "other.safetensors", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"before"


@pytest.mark.parametrize(("logits", "labels", "good"), [(9e-5, 99.995, True), (2e-4, 100.0, False), (0.0, 99.9, False),
                                                        (float("nan"), 100.0, False)])
def test_the_limits(
    traced: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logits: float, labels: float, good: bool
) -> None:
    agreements = [Agreement(1, 64, 64, 0.0, 100.0), Agreement(1, 65, 64, logits, labels)]
    monkeypatch.setattr(module, "_compare", lambda *_: agreements)
    if good:
        assert export(traced.weights, tmp_path / "model.onnx") == agreements
    else:
        with pytest.raises(FastSCNNError, match="disagree"):
            export(traced.weights, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists() == good


def test_at_the_command_line(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--data", str(tiny_dataset)]
    assert cli.main([*words, "--split", "val", "--gate", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "IoU in % on tiny val, 3 images" in printed
    assert all(name in printed for name in (*synthetic.CLASSES, "mIoU", "before", "after"))
    got, plain = OnnxBackend(tmp_path / "model.onnx", 1), OnnxBackend(traced.file, 1)
    pictures = scenes(1, 65, 131)
    np.testing.assert_array_equal(got(pictures), plain(pictures))
    # The card says what was measured: the scores at each input that is large enough, and what other engines lose.
    assert list(got.card.metrics) == ["val", "val at 72x96", "val at 48x64"]
    assert set(got.card.losses) <= {"openvino bfloat16"}
    assert dataclasses.replace(got.card, metrics=plain.card.metrics, losses={}, calibration=None) == plain.card
    assert got.card.calibration is not None
    assert (got.card.calibration.split, got.card.calibration.images) == ("val", 3)


def test_the_gate(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exported file takes two of a hundred pixels for another class."""
    score = evaluate.evaluate

    def worse(segmenter: Segmenter, *arguments: object) -> evaluate.Report:
        report = score(segmenter, *arguments)  # type: ignore[arg-type]
        report.confusion.matrix[:] = 100 * np.eye(11, dtype=int)
        if segmenter.backend.name != "torch":
            report.confusion.matrix[2, 2:4] = 98, 2
        return report

    monkeypatch.setattr(evaluate, "evaluate", worse)
    monkeypatch.setattr(module, "_compare", lambda *_: [])
    words = ["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--data", str(tiny_dataset)]
    assert cli.main([*words, "--gate", "2.1"]) == 0
    assert cli.main([*words, "--gate", "1.9"]) == 1
    assert "loses 2.000 points of IoU where the gate is 1.9" in " ".join(capsys.readouterr().err.split())


def test_a_gate_needs_data(traced: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--gate", "1"]) == 1
    assert "give --data too" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


INT8 = ["--int8", "--calibration", "train", "--split", "val"]


def test_int8_at_the_command_line(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.int8.onnx"
    assert cli.main(["export", str(traced.weights), "--out", str(out), "--data", str(tiny_dataset), *INT8]) == 0
    printed = capsys.readouterr().out
    assert "IoU in % on tiny val, 3 images" in printed
    assert "int8: 58 of 58 layers, calibrated on 6 images of tiny train" in printed
    assert list(tmp_path.iterdir()) == [out]
    assert out.stat().st_size < 0.4 * traced.file.stat().st_size
    backend, plain = OnnxBackend(out, 1), OnnxBackend(traced.file, 1)
    assert backend.precision == "int8"
    measured = {field: getattr(backend.card, field) for field in ("metrics", "losses", "calibration", "content_sha256")}
    assert backend.card == dataclasses.replace(plain.card, precision="int8", **measured)
    assert backend.card.calibration is not None
    assert {"onnx int8"} <= set(backend.card.losses) <= {"onnx int8", "openvino int8"}
    assert backend.card.losses["onnx int8"]["images"] == 3
    for batch, height, width in ((2, 96, 128), (1, 65, 131)):
        pictures = scenes(batch, height, width)
        got, expected = backend(pictures), plain(pictures)
        assert got.shape == expected.shape
        assert 0 < np.linalg.norm(got - expected) < 0.7 * np.linalg.norm(expected)  # random weights bear int8 badly: 0.5


def test_int8_that_fails_the_gate_is_not_written(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss is small enough for a negative gate; the attempts are two, and of the float32 file itself."""
    layers = [Layer("classifier.3", ("node",), 12.345)]

    def attempts(exported: Path, pictures: object, accept: Callable[[Path, list[Layer]], bool], stage: object) -> None:
        assert not accept(exported, [])
        assert not accept(exported, layers)

    monkeypatch.setattr(quantize, "quantize", attempts)
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    words = ["export", str(traced.weights), "--out", str(out), "--data", str(tiny_dataset), *INT8, "--gate", "-0.5"]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert out.read_bytes() == b"before"
    assert "model.onnx: not written, because int8 loses more than -0.5 points of IoU" in " ".join(captured.err.split())
    printed = " ".join(captured.out.split())
    assert "int8 with 0 layers in float32 loses 0.000 points of IoU where the gate is -0.5" in printed
    assert "int8 with 1 layers in float32 loses 0.000 points" in printed
    assert "classifier.3" in printed
    assert "12.35" in printed or "12.34" in printed


def test_int8_needs_data(traced: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--int8"]) == 1
    assert "int8: needs labelled images; give --data too" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_torch_takes_any_layout_of_an_array(exported: Exported) -> None:
    """Mirrored views and read-only arrays are what users have."""
    model, card = checkpoint.load(exported.weights)
    backend = TorchBackend(model, card)
    pictures = scenes(2, 64, 96)
    expected = backend(np.ascontiguousarray(pictures[:, :, ::-1]))
    assert np.array_equal(backend(pictures[:, :, ::-1]), expected)
    pictures.flags.writeable = False
    assert backend(pictures).shape == expected.shape
