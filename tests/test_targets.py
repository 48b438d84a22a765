"""Export targets: what each one writes, its runtime runs with our labels; what a target cannot do is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exports import Exported as Traced
from exports import lively, scenes
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from onnx import TensorProto, helper, numpy_helper

from fastscnn import backends, cli
from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.exporting import agreement, delivery, pipeline
from fastscnn.exporting.finish import finished
from fastscnn.exporting.float16 import to_float16
from fastscnn.exporting.form import Form
from fastscnn.exporting.metadata import card_of
from fastscnn.exporting.pipeline import export
from fastscnn.exporting.quantize import Quantized
from fastscnn.exporting.report import AccuracyLossError
from fastscnn.exporting.targets import TARGETS, Exported, Target, opencv, target, tensorrt, triton
from fastscnn.exporting.trace import trace
from fastscnn.model.card import KEY, Card
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint

FIXED = Form("confidence", static=(96, 128))


@dataclass
class Written:
    """What a target wrote, and the network."""

    path: Path
    exported: Exported


@pytest.fixture
def write(exported: Traced, tmp_path: Path) -> Callable[[str, Form], Written]:
    """Return a function that writes the network for a target, without its check."""

    def written(name: str, form: Form) -> Written:
        plain = exported.file.read_bytes()
        content = finished(to_float16(plain) if form.precision == "float16" else plain, form)
        made = Exported(content, card_of(content), form, lambda: checkpoint.load(exported.weights)[0])
        path = tmp_path / f"model{TARGETS[name].suffix}"
        TARGETS[name].write(made, path)
        return Written(path, made)

    return written


FORMS = [Form(), Form("labels", output_size=(50, 70)), FIXED, Form(static=(65, 131))]
CASES = [(name, form) for name, one in TARGETS.items() for form in FORMS
         if one.load and (form.static or not one.static) and "float32" in one.precisions and form.output in one.outputs]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), CASES, ids=[f"{name} {form.output} {form.static}" for name, form in CASES])
def test_the_runtime_returns_our_labels(
    name: str, form: Form, exported: Traced, write: Callable[[str, Form], Written]
) -> None:
    try:
        TARGETS[name].check()
    except FastSCNNError as error:
        pytest.skip(str(error))
    written, load = write(name, form), TARGETS[name].load
    assert load
    found = agreement.compare(OnnxBackend(exported.file, 1), load(written.path, written.exported.card), form)
    assert found.passed, str(found)
    assert (found.logit_difference is None) == (form.output != "logits")
    assert (found.logit_difference or 0) < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (2, 4), (255, 1)])
def test_other_classes_and_channels(classes: int, channels: int, tmp_path: Path) -> None:
    """The smallest and the largest network, of an odd size, for every target whose runtime is here."""
    model, size = lively(0, classes, channels), (33, 65)
    described = Card(LabelSet(tuple(f"class {index}" for index in range(classes))), (96, 128), channels=channels)
    plain = trace(model, described)
    reference = backends.load(tmp_path / "plain.onnx", "onnx", 1, data=plain)
    for name, one in TARGETS.items():
        try:
            one.check()
        except FastSCNNError:
            continue
        form = Form("labels" if "labels" in one.outputs else "logits", static=size)
        content = finished(plain, form)
        made, path = Exported(content, card_of(content), form, lambda: model), tmp_path / f"{name}{one.suffix}"
        one.write(made, path)
        assert one.load
        found = agreement.compare(reference, one.load(path, made.card), form)
        assert found.passed, f"{name}: {found}"


def test_openvino_carries_the_card(write: Callable[[str, Form], Written]) -> None:
    openvino = pytest.importorskip("openvino")
    from fastscnn.backends.openvino import core

    written = write("openvino", FIXED)
    assert sorted(file.name for file in written.path.parent.iterdir()) == ["model.bin", "model.xml"]
    model = core().read_model(written.path)
    assert isinstance(model, openvino.Model)
    assert Card.from_json(model.get_rt_info(["fastscnn", "card"]).astype(str), written.path) == written.exported.card


def test_opencv_resizes_no_single_cell(write: Callable[[str, Form], Written]) -> None:
    """OpenCV 5.0 reads beyond a map of one cell. ONNX Runtime gives the same result up to rounding."""
    written = write("opencv", FIXED)
    graph = onnx.load(written.path).graph
    before = onnx.load_from_string(written.exported.content).graph
    kinds = [[node.op_type for node in each.node] for each in (graph, before)]
    assert (kinds[0].count("Resize"), kinds[0].count("Add")) == (kinds[1].count("Resize") - 1, kinds[1].count("Add") + 1)
    pictures = scenes(1, 96, 128)
    results = [onnxruntime.InferenceSession(data).run(None, {"images": pictures})
               for data in (written.path.read_bytes(), written.exported.content)]
    (labels, confidence), (expected, certain) = results
    assert np.mean(labels == expected) > 0.999
    np.testing.assert_allclose(confidence, certain, atol=1e-4)
    assert backends.onnx.session(written.path.read_bytes(), 1)
    assert card_of(onnx.load(written.path)).fixed_size == (96, 128)


@pytest.mark.parametrize("version", ["4.9.0", "3.4.1"])
def test_an_old_opencv(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "__version__", version)
    with pytest.raises(FastSCNNError, match=f"does not work with OpenCV {version}; run pip install 'opencv-python-headless"):
        opencv.TARGET.check()


def test_a_missing_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(FastSCNNError, match="target opencv: needs OpenCV, which is not installed; run pip install"):
        opencv.TARGET.check()


@pytest.mark.slow
def test_a_program_of_torch_carries_the_card_and_no_path(write: Callable[[str, Form], Written]) -> None:
    import torch

    written = write("torch-export", Form("labels"))
    extra = {KEY: ""}
    torch.export.load(written.path, extra_files=extra)
    assert Card.from_json(extra[KEY], written.path) == written.exported.card
    content = written.path.read_bytes()
    assert b"model.json" in content  # not compressed
    assert not any(inside in content for inside in (b"site-packages", b"fast_scnn.py", str(Path(__file__).parents[1]).encode()))


def test_tensorrt_gets_uint8_at_the_borders_only(write: Callable[[str, Form], Written]) -> None:
    for form in (FIXED, dataclasses.replace(FIXED, precision="float16")):
        written = write("tensorrt", form)
        model = onnx.load(written.path)
        onnx.checker.check_model(model, full_check=True)
        assert [node.op_type for node in model.graph.node][:3] == ["Cast", "Transpose", "Sub"]
        (last,) = (node for node in model.graph.node if node.output[0] == "labels")
        values = onnx.shape_inference.infer_shapes(model).graph.value_info
        typed = {value.name: value.type.tensor_type.elem_type for value in values}
        assert typed[last.input[0]] == TensorProto.FLOAT
        pictures = scenes(1, 96, 128)
        results = [onnxruntime.InferenceSession(data).run(None, {"images": pictures})
                   for data in (written.path.read_bytes(), written.exported.content)]
        for got, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(got, expected)


def small(*nodes: Any, sizes: list[Any], opset: int = 20, constants: dict[str, Any] | None = None) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, sizes)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, sizes)
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "small", [given], [out], tensors)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


CAST = helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)
RELU = helper.make_node("Relu", ["float"], ["out"])


def quantise(zero: Any) -> onnx.ModelProto:
    nodes = [CAST, helper.make_node("QuantizeLinear", ["float", "scale", "zero"], ["whole"], "q"),
             helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["out"], "d")]
    return small(*nodes, sizes=[1, 4, 4, 3], constants={"scale": np.float32(1), "zero": zero})


@pytest.mark.parametrize(("model", "expected"), [
    (small(CAST, RELU, sizes=[1, 4, 4, 3]), []),
    (small(CAST, RELU, sizes=["n", 4, 4, 3]), ["the dynamic size of images", "the dynamic size of out"]),
    (small(CAST, RELU, sizes=[1, 4, 4, 3], opset=26), ["the opset ai.onnx 26"]),
    (small(CAST, helper.make_node("Mod", ["float", "float"], ["out"], fmod=1), sizes=[1, 4, 4, 3]), ["the operator Mod"]),
    (small(helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 2, 1, 3]),
           helper.make_node("Cast", ["planes"], ["out"], to=TensorProto.FLOAT), sizes=[1, 4, 4, 3]),
     ["uint8 inside the network, planes", "uint8 images that Transpose reads"]),
    (quantise(np.int8(0)), []),
    (quantise(np.int8(3)), ["the zero point of q, which must be 0 of int8", "the zero point of d, which must be 0 of int8"]),
    (quantise(np.uint8(0)), ["uint8 inside the network, whole", "the zero point of q, which must be 0 of int8",
                             "the zero point of d, which must be 0 of int8"]),
])
def test_what_tensorrt_refuses_is_found(model: onnx.ModelProto, expected: list[str]) -> None:
    assert list(tensorrt.problems(model)) == expected


def test_a_network_that_tensorrt_refuses_is_not_written(exported: Traced, tmp_path: Path) -> None:
    """Here one of any size, although the target asks for a fixed one."""
    content = exported.file.read_bytes()
    made = Exported(content, card_of(content), Form(), lambda: pytest.fail("loaded"))
    with pytest.raises(FastSCNNError, match=r"target tensorrt: its parser refuses the network: the operator Abs; .*dynamic"):
        tensorrt.TARGET.write(made, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def model_config() -> Any:
    """Return an empty ModelConfig message of Triton, with the fields that we write; the numbers do not matter in text."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(("TYPE_INVALID", "TYPE_UINT8", "TYPE_FP32")):
        types.value.add(name=name, number=number)
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(message_name: str, /, **fields: tuple[Any, str, bool]) -> None:
        made = file.message_type.add(name=message_name)
        for number, (field, (kind, type_name, repeated)) in enumerate(fields.items(), start=1):
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            made.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)

    tensor = {"name": (kinds.TYPE_STRING, "", False), "data_type": (kinds.TYPE_ENUM, ".inference.DataType", False),
              "dims": (kinds.TYPE_INT64, "", True)}
    message("ModelTensor", **tensor)
    message("ModelDynamicBatching")
    message("ModelConfig", name=(kinds.TYPE_STRING, "", False), backend=(kinds.TYPE_STRING, "", False),
            max_batch_size=(kinds.TYPE_INT32, "", False), input=(kinds.TYPE_MESSAGE, ".inference.ModelTensor", True),
            output=(kinds.TYPE_MESSAGE, ".inference.ModelTensor", True),
            dynamic_batching=(kinds.TYPE_MESSAGE, ".inference.ModelDynamicBatching", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()


@pytest.mark.parametrize("form", [*FORMS, Form("labels", static=(65, 131), output_size=(9, 8))])
def test_the_configuration_of_triton_describes_the_file(form: Form, write: Callable[[str, Form], Written]) -> None:
    path = write("triton", form).path
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()) == ["1/model.onnx", "config.pbtxt"]
    config = text_format.Parse((path / "config.pbtxt").read_text(), model_config())
    assert (config.name, config.backend, config.HasField("dynamic_batching")) == ("model", "onnxruntime", not form.static)
    session = onnxruntime.InferenceSession(path / "1/model.onnx")
    kinds = {1: "tensor(uint8)", 2: "tensor(float)"}
    for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        for one, other in zip(described, real, strict=True):
            assert (one.name, kinds[one.data_type]) == (other.name, other.type)
            sides = list(one.dims) if form.static else [-1, *one.dims]  # the batch is left out if there may be one
            assert sides == [side if isinstance(side, int) else -1 for side in other.shape]
    assert config.max_batch_size == (0 if form.static else 8)


def test_the_name_of_a_model_of_triton_is_quoted(write: Callable[[str, Form], Written]) -> None:
    text = triton.config('a "b"', write("triton", Form()).exported)
    assert text_format.Parse(text, model_config()).name == 'a "b"'


@pytest.mark.parametrize(("installed", "message"), [
    (None, "needs openvino, which is not installed; run pip install 'openvino>=2026.1'"),
    ("2025.4.1", "does not work with openvino 2025.4.1; run pip install 'openvino>=2026.1'"),
    ("2028.0+cpu", "does not work with openvino 2028.0"),
    ("2026.1.0", None), ("2026.2.dev1", None),
])
def test_the_version_of_a_package(installed: str | None, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(_: str) -> str:
        if installed is None:
            raise PackageNotFoundError
        return installed

    monkeypatch.setattr(target, "version", version)
    arguments = ("openvino", "openvino", "openvino>=2026.1", (2026, 1), (2028,))
    if message is None:
        target.needs(*arguments)
    else:
        with pytest.raises(FastSCNNError, match=f"target openvino: {re.escape(message)}"):
            target.needs(*arguments)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"target": "onyx"}, "There is no target 'onyx'. Did you mean 'onnx'"),
    ({"target": "opencv"}, "target opencv: needs a fixed input size; add --static HxW, such as --static 360x480"),
    ({"target": "opencv", "static": "96x96", "precision": "int8"}, "opencv: has no precision int8; use --precision float32"),
    ({"target": "tensorrt", "static": "96x96", "precision": "int8"}, "has no precision int8; use --precision float32 or"),
    ({"target": "torch-export"}, r"out\.onnx: the target torch-export writes \.pt2 files; use a name that ends in \.pt2"),
])
def test_what_a_target_cannot_do(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        export("weights.safetensors", "out.onnx", **arguments)


def test_a_folder_is_not_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "streets").touch()
    with pytest.raises(ArgumentError, match="streets: the target triton writes a folder, and this is a file"):
        export("weights.safetensors", tmp_path / "streets", target="triton")


@pytest.mark.slow
def test_at_the_command_line(
    traced: Traced, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Triton model that returns labels, compared on the labelled images."""
    out = tmp_path / "repository" / "streets"
    words = ["export", str(traced.weights), "--out", str(out), "--target", "triton", "--output", "labels",
             "--data", str(tiny_dataset)]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1", "config.pbtxt", "model.onnx", "repository", "streets"]
    assert report["file_size"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert (report["target"], report["precision"], report["runtime"]) == ("triton", "float32", "ONNX Runtime, Triton's backend")
    found = report["agreement"]
    assert found["images"] == 3
    assert found["equal_labels"] >= 99.9
    assert list(found["iou"]) == list(found["iou_before"]) == list(report["iou_before"])
    described = card_of(onnx.load(out / "1/model.onnx"))
    assert (described.precision, described.output) == ("float32", "labels")
    assert described.calibration is not None
    assert cli.main([*words, "--quiet"]) == 0  # over the files of before
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"triton, run by ONNX Runtime, Triton's backend: \d+\.\d+ % equal labels on 3 images, .* mIoU", printed)


def wrong(share: float) -> Target:
    """The target onnx, whose runtime labels a share of the rows as class 0."""

    def load(path: Path, card: Card) -> target.Runner:
        run = TARGETS["onnx"].load(path, card)  # type: ignore[misc]

        def changed(pictures: Any) -> Any:
            labels = run(pictures)["labels"].copy()
            labels[:, : round(share * labels.shape[1])] = 0
            return {"labels": labels}

        return changed

    return dataclasses.replace(TARGETS["onnx"], name="wrong", load=load)


def test_a_runtime_that_differs_writes_nothing(traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    monkeypatch.setitem(TARGETS, "wrong", wrong(0.3))
    monkeypatch.setattr(delivery, "wrong_layer", lambda *_: "The last one is wrong.")  # tests/test_layers.py
    with pytest.raises(FastSCNNError, match=r"model\.onnx: not written, because the target wrong in float32 differs from our "
                                            r"labels: \d+\.\d+ % equal labels on 4 images, \d+ ties, \d+ other differences\. "
                                            r"The last one is wrong\. Export for another target"):
        export(traced.weights, out, target="wrong", output="labels")
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("step", ["write", "load", "run"])
def test_a_converter_that_fails(step: str, traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is of any class, such as that of a package that is installed but cannot be imported."""

    def fail(*_: Any) -> Any:
        raise ImportError("cannot import\nTypeForm" + 300 * " x")

    given: dict[str, Any] = {"load": lambda *_: fail} if step == "run" else {step: fail}
    monkeypatch.setitem(TARGETS, "broken", dataclasses.replace(TARGETS["onnx"], name="broken", **given))
    with pytest.raises(FastSCNNError) as error:
        export(traced.weights, tmp_path / "model.onnx", target="broken", output="labels")
    expected = (r"target broken: its converter or runtime fails \(ImportError: cannot import TypeForm( x)+ \[\.\.\.\]\); "
                r"install the versions of docs/deploy\.md, or export for another target\.")
    assert re.fullmatch(expected, str(error.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unmeasured")
def test_int8_of_a_target_is_held_to_the_limit(
    traced: Traced, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself passes the limit before; its labels in the runtime do not."""
    monkeypatch.setitem(TARGETS, "wrong", wrong(1.0))
    monkeypatch.setattr(pipeline, "quantize", lambda plain, *_: Quantized(plain, (), 58))
    arguments: dict[str, Any] = {"target": "wrong", "output": "labels", "precision": "int8", "data": tiny_dataset}
    with pytest.raises(AccuracyLossError, match=r"because \w+ loses .* of IoU with the target wrong in int8; the") as raised:
        export(traced.weights, tmp_path / "model.onnx", **arguments, max_iou_loss=0.5)
    assert raised.value.report.agreement
    assert raised.value.report.agreement.equal_labels < 99.9
    assert list(tmp_path.iterdir()) == []
    assert export(traced.weights, tmp_path / "model.onnx", **arguments).agreement  # no limit


def test_a_target_without_a_runtime(
    traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TARGETS, "chip", dataclasses.replace(TARGETS["onnx"], name="chip", load=None, runtime=""))
    assert cli.main(["export", str(traced.weights), "--out", str(tmp_path / "a.onnx"), "--target", "chip"]) == 0
    assert "chip: converted, not run" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("unmeasured")
def test_calibration_images_are_for_targets_that_quantise(
    traced: Traced, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a target gets the float32 network, and images of the fixed size."""
    seen: list[Exported] = []

    def write(exported: Exported, path: Path) -> None:
        seen.append(exported)
        path.touch()

    chip = dataclasses.replace(TARGETS["onnx"], name="chip", own_precisions=("int8",), load=None, write=write)
    monkeypatch.setitem(TARGETS, "chip", chip)
    export(traced.weights, tmp_path / "a.onnx", target="chip", precision="int8", static="64x96", data=tiny_dataset)
    (one,) = seen
    assert [image.shape for image in one.calibration] == [(64, 96, 3)] * 6
    assert one.card.precision == "float32"
    assert one.network is one.network
    assert type(one.network).__name__ == "FastSCNN"


def test_only_the_network_that_was_verified_is_not_compared_again() -> None:
    onnx_ = TARGETS["onnx"]
    assert delivery._is_verified(onnx_, Form())
    assert delivery._is_verified(onnx_, Form(precision="int8-symmetric"))
    for form in (Form("labels"), Form(precision="float16"), Form(static=(96, 96)), Form(opset=18)):
        assert not delivery._is_verified(onnx_, form)
    assert not delivery._is_verified(TARGETS["openvino"], Form())
