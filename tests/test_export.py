"""The export: an ONNX file with the same card and results as the weights, at any size, or an error and no file."""

from __future__ import annotations

import dataclasses
import doctest
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exports import Exported, lively, scenes
from onnx import numpy_helper

from fastscnn import cli
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.backends.torch import TorchBackend
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data import datasets, synthetic
from fastscnn.evaluation import evaluate
from fastscnn.exporting import pipeline
from fastscnn.exporting.metadata import card_of, with_card
from fastscnn.exporting.pipeline import export
from fastscnn.exporting.quantize import Layer
from fastscnn.exporting.report import AccuracyLossError, ExportReport
from fastscnn.exporting.trace import Verification, trace
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.card import KEY, Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.model.onnx_hash import content_sha256
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.upsampling import upsample


def test_one_file_and_no_sidecar(exported: Exported) -> None:
    assert list(exported.file.parent.iterdir()) == [exported.file]
    assert abs(exported.file.stat().st_size - exported.weights.stat().st_size) < 500_000


def test_the_standard_deviation_is_fused(exported: Exported) -> None:
    """The graph does not divide the image by it."""
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


def test_it_was_verified_at_sizes_that_it_was_not_traced_at(exported: Exported) -> None:
    found = exported.report.verifications
    assert len(found) == 3
    assert all(one.passed and one.logit_difference <= 1e-4 and one.equal_labels >= 99.99 for one in found)
    assert len({one.batch for one in found}) > 1
    assert exported.report == ExportReport(exported.file, "float32", found, file_size=exported.file.stat().st_size)


def test_the_example_of_the_docstring_runs(traced: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights of this test, whose trace is at hand."""
    monkeypatch.setattr("fastscnn.model.weights.bundled", lambda *_: traced.weights)
    source = (export.__doc__ or "").replace("(360, 480)", "(96, 128)")
    example = doctest.DocTestParser().get_doctest(source, {}, "export", None, None)
    assert len(example.examples) == 6
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize(("batch", "height", "width"), [
    (1, 32, 32), (3, 65, 131), (5, 47, 64), pytest.param(1, 200, 333, marks=pytest.mark.slow),
    pytest.param(2, 96, 160, marks=pytest.mark.slow),
])  # fmt: skip
def test_agrees_with_torch(exported: Exported, batch: int, height: int, width: int) -> None:
    model, card = checkpoint.load(exported.weights)
    pictures = scenes(batch, height, width)
    expected, got = TorchBackend(model, card)(pictures), OnnxBackend(exported.file, 1)(pictures)
    assert got.shape == expected.shape == (batch, 11, -(-height // 8), -(-width // 8))
    assert np.abs(got - expected).max() <= 1e-4
    assert expected.std() > 0.1  # so that 1e-4 is a strict limit
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
    assert b".py" not in model.SerializeToString()  # raw weights can contain these three bytes by chance


@pytest.mark.parametrize("name", ["model", "model.pb", "model.safetensors"])
def test_another_suffix_is_refused(exported: Exported, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"use a name that ends in \.onnx"):
        export(exported.weights, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_torch_is_not_written(traced: Exported, tmp_path: Path) -> None:
    """The trace has other weights than the file to export."""
    checkpoint.save(tmp_path / "other.safetensors", lively(1), Card(LabelSet(synthetic.CLASSES), (96, 128)))
    (tmp_path / "model.onnx").write_bytes(b"before")
    with pytest.raises(FastSCNNError, match=r"model\.onnx: not written, because ONNX Runtime and PyTorch differ"):
        export(tmp_path / "other.safetensors", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"before"


@pytest.mark.parametrize(("logits", "labels", "good"), [(9e-5, 99.995, True), (2e-4, 100.0, False), (0.0, 99.9, False),
                                                        (float("nan"), 100.0, False)])
def test_the_limits(
    traced: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logits: float, labels: float, good: bool
) -> None:
    found = (Verification(1, 64, 64, 0.0, 100.0), Verification(1, 65, 64, logits, labels))
    monkeypatch.setattr(pipeline, "verify", lambda *_: found)
    if good:
        assert export(traced.weights, tmp_path / "model.onnx").verifications == found
    else:
        with pytest.raises(FastSCNNError, match="differ"):
            export(traced.weights, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists() == good


def test_at_the_command_line(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--data", str(tiny_dataset)]
    assert cli.main([*words, "--split", "val", "--max-iou-loss", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "IoU in % on tiny val, 3 images" in printed
    assert all(name in printed for name in (*synthetic.CLASSES, "mIoU", "before", "after"))
    got, plain = OnnxBackend(tmp_path / "model.onnx", 1), OnnxBackend(traced.file, 1)
    pictures = scenes(1, 65, 131)
    np.testing.assert_array_equal(got(pictures), plain(pictures))
    # The card has the scores at each input size that is large enough, and the accuracy loss of the other backends.
    assert list(got.card.metrics) == ["val", "val at 64x96"]
    assert set(got.card.losses) <= {"openvino bfloat16"}
    assert dataclasses.replace(got.card, metrics=plain.card.metrics, losses={}, calibration=None) == plain.card
    assert got.card.calibration is not None
    assert (got.card.calibration.split, got.card.calibration.images) == ("val", 3)


@pytest.mark.usefixtures("unmeasured")
def test_the_limit_of_the_accuracy_loss(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exported file labels two of a hundred pixels of a class wrongly."""
    score = evaluate.evaluate_pairs

    def worse(segmenter: Segmenter, *arguments: object) -> evaluate.Report:
        report = score(segmenter, *arguments)  # type: ignore[arg-type]
        report.confusion.matrix[:] = 100 * np.eye(11, dtype=int)
        if segmenter.backend.name != "torch":
            report.confusion.matrix[2, 2:4] = 98, 2
        return report

    monkeypatch.setattr(pipeline, "evaluate_pairs", worse)
    monkeypatch.setattr(pipeline, "verify", lambda *_: ())
    words = ["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), "--data", str(tiny_dataset)]
    assert cli.main([*words, "--max-iou-loss", "2.1"]) == 0
    assert cli.main([*words, "--max-iou-loss", "1.9"]) == 1
    captured = capsys.readouterr()
    assert "because Pole loses 2.000 points of IoU; the limit is 1.9" in " ".join(captured.err.split())
    assert captured.out.count("-2.000") == 2  # in the tables of both calls


@pytest.mark.parametrize("flags", [["--max-iou-loss", "1"], ["--precision", "int8"]])
def test_without_a_dataset(traced: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert cli.main(["export", str(traced.weights), "--out", str(tmp_path / "model.onnx"), *flags]) == 2
    name = flags[-1] if flags[0] == "--precision" else "max-iou-loss"
    assert f"{name}: needs labelled images; give a dataset as data, too" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_home_and_a_loaded_dataset(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home folder in both paths; a dataset can be a text, a path, or a DatasetSpec."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.safetensors").write_bytes(traced.weights.read_bytes())
    (tmp_path / "tiny").symlink_to(tiny_dataset.parent)
    stages: list[str] = []

    @contextmanager
    def stage(what: str) -> Iterator[Callable[[int, int], None]]:
        stages.append(what)
        yield lambda done, total: None

    for data in ("~/tiny/dataset.toml", tiny_dataset, datasets.load(str(tiny_dataset))):
        report = export("~/w.safetensors", Path("~/model.onnx"), data=data, on_stage=stage)
        assert report.out == tmp_path / "model.onnx"
        assert report.file_size == report.out.stat().st_size
        assert (report.dataset, report.split, report.images) == ("tiny", "val", 3)
        assert [(attempt.float32_layers, attempt.accepted) for attempt in report.attempts] == [((), True)]
        assert set(report.iou_before) == {*synthetic.CLASSES, "mIoU"}
        report.out.unlink()
    assert stages == 3 * ["trace", "verify", "evaluate PyTorch", "evaluate ONNX Runtime", "compare backends",
                          "compare input sizes", "calibrate confidence", "write for onnx"]


def convolutions_of_openvino(file: Path) -> set[str]:
    """The types that OpenVINO computes the convolutions of a file in."""
    pytest.importorskip("openvino")
    from fastscnn.backends.openvino import OpenVinoBackend

    backend = OpenVinoBackend(file, 1)
    backend(np.zeros((1, 96, 128, 3), np.uint8))
    (compiled,) = backend._compiled.values()
    facts = [node.get_rt_info() for node in compiled._network.get_runtime_model().get_ordered_ops()]
    kinds = [tuple(fact[name].astype(str) for name in ("layerType", "runtimePrecision")) for fact in facts]
    return {precision for kind, precision in kinds if kind == "Convolution"}


INT8 = ["--precision", "int8", "--calibration", "train", "--split", "val"]


@pytest.mark.slow
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
    # The first one reads the bytes of the image; with zero point 128 as i8 on processors with AMX, as u8 on others.
    assert convolutions_of_openvino(out) <= {"i8", "u8"}
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


def test_int8_that_loses_too_much_is_not_written(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss is below a negative limit. Both attempts are the float32 file itself."""
    layers = [Layer("classifier.3", ("node",), 12.345)]

    def attempts(exported: bytes, pictures: object, accept: Callable[[bytes, list[Layer]], bool], *_: object) -> None:
        assert not accept(exported, [])
        assert not accept(exported, layers)

    monkeypatch.setattr(pipeline, "quantize", attempts)
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    words = ["export", str(traced.weights), "--out", str(out), "--data", str(tiny_dataset), *INT8, "--max-iou-loss", "-0.5"]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert out.read_bytes() == b"before"
    assert "model.onnx: not written, because int8 loses more than -0.5 points of IoU" in " ".join(captured.err.split())
    printed = " ".join(captured.out.split())
    assert "int8 attempts (limit: -0.5)" in printed
    assert printed.count("none │ no │") == 2  # attempts, of which no class loses
    assert "classifier.3" in printed
    assert "12.35" in printed or "12.34" in printed


def test_the_error_has_the_report(traced: Exported, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(AccuracyLossError) as caught:
        export(traced.weights, tmp_path / "model.onnx", data=tiny_dataset, max_iou_loss=-1)
    report = caught.value.report.to_dict()
    assert json.loads(json.dumps(report)) == report | {"verifications": list(report["verifications"]),
                                                       "attempts": list(report["attempts"])}
    assert (report["file_size"], report["max_iou_loss"], report["attempts"][0]["accepted"]) == (None, -1, False)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"max_iou_loss": float("nan")}, "max_iou_loss: must be a finite number of points, not nan"),
    ({"max_iou_loss": "1"}, "max_iou_loss: must be a finite number of points, not '1'"),
    ({"precision": "int8", "calibration": "trian"}, "There is no split of tiny 'trian'"),
])
def test_wrong_arguments_are_refused_before_the_network_is_loaded(
    tiny_dataset: Path, tmp_path: Path, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastscnn.exporting.pipeline.checkpoint.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ArgumentError, match=message):
        export("weights.safetensors", tmp_path / "model.onnx", data=tiny_dataset, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("trained_on", "kept"), [
    ("tiny", ["test", "old"]), ("tiny+other", ["test"]),
])  # fmt: skip
def test_scores_of_other_datasets_are_not_kept(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_on: str, kept: list[str]
) -> None:
    """A score that names no dataset, as in older cards, is of the training data."""
    metrics = {"test": {"miou": 1, "dataset": "tiny"}, "night": {"miou": 1, "dataset": "other"}, "old": {"miou": 1}}
    plain = traced.file.read_bytes()
    card = dataclasses.replace(card_of(plain), data=Data(trained_on, "train", 6, "none", "0" * 64), metrics=metrics)
    monkeypatch.setattr(pipeline, "trace", lambda *_: with_card(plain, card))
    export(traced.weights, tmp_path / "model.onnx", data=tiny_dataset)
    assert list(OnnxBackend(tmp_path / "model.onnx", 1).card.metrics) == [*kept, "val", "val at 64x96"]


def test_json_is_one_line(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.onnx"
    assert cli.main(["export", str(traced.weights), "--out", str(out), "--data", str(tiny_dataset), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert (report["out"], report["precision"], report["file_size"]) == (str(out), "float32", out.stat().st_size)
    card = OnnxBackend(out, 1).card
    assert (report["metrics"], report["losses"]) == (card.metrics, card.losses)
    assert report["calibration"] == dataclasses.asdict(card.calibration) if card.calibration else False


def test_tables_fit_80_columns(traced: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(traced.weights), "--out", str(tmp_path / "model.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80


def test_a_full_disk_behind_the_temporary_files(
    traced: Exported, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 calibration is the one step that needs them; the limit on file sizes stands for the disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(FastSCNNError, match=f"{tmp_path}: the temporary files of the int8 calibration cannot be written"):
            export(traced.weights, tmp_path / "model.onnx", data=tiny_dataset, precision="int8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_torch_takes_any_layout_of_an_array(exported: Exported) -> None:
    """Users pass mirrored views and read-only arrays."""
    model, card = checkpoint.load(exported.weights)
    backend = TorchBackend(model, card)
    pictures = scenes(2, 64, 96)
    expected = backend(np.ascontiguousarray(pictures[:, :, ::-1]))
    assert np.array_equal(backend(pictures[:, :, ::-1]), expected)
    pictures.flags.writeable = False
    assert backend(pictures).shape == expected.shape


@pytest.mark.slow
def test_the_bundled_weights_export_to_the_bundled_file() -> None:
    """The same nodes, and the same tensors but for their names and their rounding."""
    made = onnx.load_from_string(trace(*checkpoint.load(bundled("torch")))).graph
    expected = onnx.load(bundled("onnx", "float32")).graph
    names: dict[str, str] = {}
    for ours, theirs in zip(made.node, expected.node, strict=True):
        assert (ours.op_type, list(ours.attribute)) == (theirs.op_type, list(theirs.attribute))
        for own, shipped in zip((*ours.input, *ours.output), (*theirs.input, *theirs.output), strict=True):
            assert names.setdefault(own, shipped) == shipped
    assert len(set(names.values())) == len(names)
    assert (names["images"], names["logits"]) == ("images", "logits")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in expected.initializer}
    assert {names[tensor.name] for tensor in made.initializer} == tensors.keys()
    for tensor in made.initializer:  # weights are rounded to 10 bits in the bundled file
        np.testing.assert_allclose(tensors[names[tensor.name]], numpy_helper.to_array(tensor), rtol=2**-10)


@pytest.mark.parametrize("words", [["--split", "val"], ["--calibration", "train"]])
def test_a_needless_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cli.main(["export", "weights.safetensors", "--out", str(tmp_path / "model.onnx"), *words]) == 2
    assert f"{words[0].removeprefix('--')}: " in capsys.readouterr().err
