"""Soft labels: their values, their files, teachers of our weights and of other networks' ONNX files."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastscnn import Segmenter, cli, soft_labels
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets
from fastscnn.data.patterns import beside
from fastscnn.data.soft import grid_size
from fastscnn.distillation import description
from fastscnn.distillation.area_means import area_means
from fastscnn.distillation.foreign import TeacherError
from fastscnn.distillation.teacher import Teacher
from fastscnn.media import images
from fastscnn.model.card import Card, Data
from fastscnn.model.label_set import LabelSet

MEAN, STD = (120.0, 100.0, 80.0), (50.0, 60.0, 70.0)
WEIGHT = np.array([[3, -1, 0], [0, 2, -2], [-1, 1, 3], [1, 1, -2]], np.float32)  # 4 classes of 3 channels
NAMES = ("road", "Building", "sky", "traffic light")
TOML = 'name = "made"\nclasses = ["red", "green", "blue"]\n'



def lines_of(toml: str) -> dict[str, Any]:
    """Return the tables that the printed lines belong to."""
    return tomllib.loads(re.sub(r"^# Add to (\[.*\]):$", r"\1", toml, flags=re.MULTILINE))


def picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """Coarse noise, smooth between its points."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def write_dataset(root: Path, names: Sequence[str], patterns: dict[str, str], size: tuple[int, int] = (100, 140)) -> Path:
    """Write a dataset without labels, of images that all differ; return its dataset.toml."""
    for seed, name in enumerate(names):
        images.write(root / name, picture(*size, seed))
    splits = [f'[splits.{split}]\nimages = "{glob}"\nlabels = "labels/{{stem}}.png"\n' for split, glob in patterns.items()]
    (root / "dataset.toml").write_text(TOML + "".join(splits))
    return root / "dataset.toml"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A dataset of two images in `val`."""
    return write_dataset(tmp_path / "set", ["images/a.png", "images/b.png"], {"val": "images/*.png"})


def stored(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as opened:
        return {key: opened[key] for key in opened.files}


def softmax(logits: Float32Array) -> Float32Array:
    raised = np.exp(logits - logits.max(axis=0))
    result: Float32Array = raised / raised.sum(axis=0)
    return result


def reference_means(planes: Float32Array, grid: tuple[int, int]) -> Float32Array:
    """The area means of OpenCV, for grids that are not finer than the planes."""
    cv2 = pytest.importorskip("cv2")
    return np.stack([cv2.resize(plane, grid[::-1], interpolation=cv2.INTER_AREA) for plane in planes])


def upsampled(logits: Float32Array, size: tuple[int, int]) -> Float32Array:
    """The bilinear interpolation of PyTorch."""
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.ascontiguousarray(logits))[None]
    result: Float32Array = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()
    return result


def close(soft: UInt8Array, probabilities: Float32Array) -> bool:
    """Whether soft labels are 255 times these probabilities, within 1."""
    assert soft.dtype == np.uint8
    assert soft.shape == probabilities.shape
    return bool(np.abs(soft - 255 * probabilities).max() <= 1)


# the grid


@pytest.mark.parametrize("size", [(360, 480), (375, 500), (97, 33), (36, 44), (100, 140)])
def test_area_means_are_those_of_opencv(size: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).random((3, *size), np.float32)
    grid = grid_size(size)
    assert grid == (round(size[0] / 8), round(size[1] / 8))
    np.testing.assert_allclose(area_means(planes, grid), reference_means(planes, grid), atol=2e-6)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_area_means_keep_the_mean(height: int, width: int, rows: int, columns: int) -> None:
    planes = np.random.default_rng(height * width).random((2, height, width), np.float32)
    means = area_means(planes, (rows, columns))
    np.testing.assert_allclose(means.mean(axis=(1, 2)), planes.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(area_means(np.ones_like(planes), (rows, columns)), 1, atol=1e-5)
    # Cells of a multiple of the grid, averaged in groups, are the cells of the grid.
    fine = area_means(planes, (2 * rows, 3 * columns)).reshape(2, rows, 2, columns, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(fine, means, atol=1e-5)


# our own weights


@pytest.mark.parametrize("options", [{}, {"scales": (0.75, 1), "flip": True}, {"size": "native"}], ids=str)
def test_soft_labels_of_our_onnx_file(flat: Path, tiny_onnx: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    segmenter = Segmenter.load(tiny_onnx, "onnx", threads=1, **options)
    calls: list[tuple[int, int]] = []
    made = soft_labels(segmenter, flat, tmp_path / "soft", on_progress=lambda done, total: calls.append((done, total)))
    assert (made.written, made.skipped, made.failed) == (2, 0, ())
    assert calls == [(1, 2), (2, 2)]
    for name in "ab":
        content = stored(tmp_path / f"soft/{name}.npz")
        probabilities = segmenter.probabilities(flat.parent / f"images/{name}.png")
        assert close(content["probabilities"], reference_means(probabilities, (12, 18)))
        assert content["classes"].tolist() == ["red", "green", "blue"]
        assert (content["classes"].dtype.kind, content["source"].ndim, content["terms"].ndim) == ("U", 0, 0)
        assert str(content["source"]).startswith("tiny.onnx, sha256 ")
        assert str(content["terms"]) == "not stated"
    assert not (stored(tmp_path / "soft/a.npz")["probabilities"] == stored(tmp_path / "soft/b.npz")["probabilities"]).all()


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is missing")
def test_soft_labels_of_safetensors(flat: Path, tmp_path: Path) -> None:
    import torch

    from fastscnn.network import checkpoint
    from fastscnn.network.fast_scnn import FastSCNN

    torch.manual_seed(0)
    card = Card(LabelSet(("red", "green", "blue")), (96, 128), width_mult=0.25, data=Data("d", "train", 1, "my terms", "f"))
    checkpoint.save(tmp_path / "w.safetensors", FastSCNN(3, width_mult=0.25), card)
    made = soft_labels(tmp_path / "w.safetensors", flat, tmp_path / "soft")
    assert made.terms == "my terms"
    assert lines_of(made.toml)["soft"] == {"terms": "my terms"}
    content = stored(tmp_path / "soft/a.npz")
    expected = Segmenter.load(tmp_path / "w.safetensors").probabilities(flat.parent / "images/a.png")
    assert close(content["probabilities"], reference_means(expected, (12, 18)))
    assert str(content["terms"]) == "my terms"


def test_images_are_read_as_the_dataset_reads_them(flat: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    """Upright by their EXIF orientation, and cropped."""
    upright = picture(100, 140)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 90 degrees counterclockwise
    Image.fromarray(np.rot90(upright)).save(flat.parent / "images/a.png", exif=exif)
    soft_labels(tiny_onnx, flat, tmp_path / "whole")
    segmenter = Segmenter.load(tiny_onnx)
    assert close(stored(tmp_path / "whole/a.npz")["probabilities"],
                 area_means(segmenter.probabilities(upright), (12, 18)))
    cropped = replace(datasets.load(flat), crop=(10, 20, 90, 84))
    soft_labels(tiny_onnx, cropped, tmp_path / "part")
    expected = segmenter.probabilities(np.ascontiguousarray(upright[20:84, 10:90]))
    assert close(stored(tmp_path / "part/a.npz")["probabilities"], area_means(expected, (8, 10)))
    with pytest.raises(FastSCNNError, match="was made of another image"):
        soft_labels(tiny_onnx, flat, tmp_path / "part")


def test_a_teacher_of_rgb_for_rgb_and_thermal(flat: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    flat.write_text(flat.read_text() + 'thermal = "thermal/{stem}.png"\n')
    assert soft_labels(tiny_onnx, flat, tmp_path / "soft").written == 2
    four = replace(Teacher.load(tiny_onnx), channels=4)
    assert soft_labels(four, flat, tmp_path / "four").failed[0].endswith("thermal/a.png: no such file.")
    with pytest.raises(FastSCNNError, match="images have 4 channels, but the network takes 5"):
        soft_labels(replace(four, channels=5), flat, tmp_path / "five")


# other networks

Foreign = Callable[..., Path]


def logits_of(image: UInt8Array, stride: int = 1, bgr: bool = False) -> Float32Array:
    """The logits of the made network for an image of the input's size."""
    pixels = (image[::stride, ::stride, ::-1 if bgr else 1].astype(np.float32) - np.array(MEAN)) / np.array(STD)
    result: Float32Array = np.einsum("kc,hwc->khw", WEIGHT, pixels).astype(np.float32)
    return result


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    """A function that writes teacher.onnx, a 1x1 convolution, and teacher.toml, which describes it; it returns the latter.

    `keys` replace lines of the TOML; None leaves one out.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def write(layout: str = "nchw", stride: int = 1, softmax: bool = False, shape: Sequence[Any] = (1, 3, "h", "w"),
              kind: int = TensorProto.FLOAT, ids: bool = False, reshaped: bool = False, **keys: Any) -> Path:
        float16 = kind == TensorProto.FLOAT16
        weight = numpy_helper.from_array(WEIGHT[:, :, None, None].astype(np.float16 if float16 else np.float32), "weight")
        steps: list[tuple[str, dict[str, Any]]] = [("Transpose", {"perm": [0, 3, 1, 2]})] * (layout == "nhwc")
        steps += [("Conv", {"kernel_shape": [1, 1], "strides": [stride, stride]})]
        steps += [("Softmax", {"axis": 1})] * softmax + [("Transpose", {"perm": [0, 2, 3, 1]})] * (layout == "nhwc")
        steps += [("ArgMax", {"axis": 1})] * ids + [("Reshape", {})] * reshaped
        constants = {"Conv": ["weight"], "Reshape": ["sides"]}
        places = ["image", *(f"t{index}" for index in range(len(steps) - 1)), "out"]
        nodes = [helper.make_node(name, [before, *constants.get(name, [])], [after], **attributes)
                 for (name, attributes), before, after in zip(steps, places, places[1:], strict=False)]
        shape = [shape[0], *shape[2:], shape[1]] if layout == "nhwc" else list(shape)
        graph = helper.make_graph(
            nodes, "made", [helper.make_tensor_value_info("image", kind, shape)],
            [helper.make_tensor_value_info("out", TensorProto.INT64 if ids else kind, [None] * 4)],
            [weight, numpy_helper.from_array(np.array([1, len(NAMES), 64, 96]), "sides")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        (tmp_path / "teacher.onnx").write_bytes(model.SerializeToString())
        lines = {"model": "teacher.onnx", "classes": list(NAMES), "size": "native", "mean": list(MEAN), "std": list(STD),
                 "layout": layout, "output": "probabilities" if softmax else "logits", "terms": "theirs"} | keys
        text = [f"{key} = {json.dumps(value)}\n" for key, value in lines.items() if value is not None]
        (tmp_path / "teacher.toml").write_text("".join(text))
        return tmp_path / "teacher.toml"

    return write


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("softmaxed", [False, True])
def test_soft_labels_of_another_network(
    flat: Path, foreign: Foreign, tmp_path: Path, layout: str, order: str, softmaxed: bool
) -> None:
    """At the size of the image, they are the area means of the softmax."""
    teacher = foreign(layout, softmax=softmaxed, order=order)
    made = soft_labels(teacher, flat, tmp_path / "soft")
    assert (made.classes, made.terms) == (NAMES, "theirs")
    content = stored(tmp_path / "soft/b.npz")
    expected = softmax(logits_of(images.read(flat.parent / "images/b.png"), bgr=order == "bgr"))
    assert close(content["probabilities"], reference_means(expected, (12, 18)))
    assert str(content["source"]).startswith("teacher.onnx, sha256 ")


@pytest.mark.parametrize("softmaxed", [False, True])
def test_coarse_outputs_are_interpolated_to_the_image(
    flat: Path, foreign: Foreign, tmp_path: Path, softmaxed: bool
) -> None:
    """As logits, whichever of the two the network gives."""
    soft_labels(foreign(stride=8, softmax=softmaxed), flat, tmp_path / "soft")
    logits = logits_of(images.read(flat.parent / "images/a.png"), 8)
    expected = softmax(upsampled(logits, (100, 140)))
    assert close(stored(tmp_path / "soft/a.npz")["probabilities"], reference_means(expected, (12, 18)))


@pytest.mark.parametrize(("keys", "size"), [
    ({"size": "192x256"}, (192, 256)),
    ({"size": "native", "multiple": 32}, (128, 160)),
    ({"size": "native", "multiple": 20}, (100, 140)),
])  # fmt: skip
@pytest.mark.parametrize("fixed", [False, True])
def test_input_sizes(
    flat: Path, foreign: Foreign, tmp_path: Path, keys: dict[str, Any], size: tuple[int, int], fixed: bool
) -> None:
    """An output finer than the image is averaged as it is."""
    soft_labels(foreign(shape=(1, 3, *size) if fixed else ("n", 3, "h", "w"), **keys), flat, tmp_path / "soft")
    expected = softmax(logits_of(images.resize(images.read(flat.parent / "images/a.png"), size)))
    assert close(stored(tmp_path / "soft/a.npz")["probabilities"], reference_means(expected, (12, 18)))


def test_scales_and_flip(flat: Path, foreign: Foreign, tmp_path: Path) -> None:
    teacher = Teacher.load(foreign(stride=8), scales=(1, 2), flip=True, size="96x128", threads=1)
    soft_labels(teacher, flat, tmp_path / "soft")
    image, passes = images.read(flat.parent / "images/a.png"), []
    for size in ((96, 128), (192, 256)):
        resized = images.resize(image, size)
        passes += [logits_of(resized, 8), logits_of(resized[:, ::-1], 8)[:, :, ::-1]]
    expected = np.mean([softmax(upsampled(logits, (100, 140))) for logits in passes], axis=0)
    assert close(stored(tmp_path / "soft/a.npz")["probabilities"], reference_means(expected, (12, 18)))


def test_half_precision_and_names_of_classes(flat: Path, foreign: Foreign, tmp_path: Path) -> None:
    soft_labels(foreign(kind=10, softmax=True), flat, tmp_path / "soft")
    expected = softmax(logits_of(images.read(flat.parent / "images/a.png")))
    soft = stored(tmp_path / "soft/a.npz")["probabilities"]
    assert np.abs(soft - 255 * reference_means(expected, (12, 18))).max() < 3
    with pytest.raises(TeacherError, match=r"teacher\.toml: classes has 19 names, but the output of .* is \[1, 4, 100, 140\]"):
        soft_labels(foreign(classes="cityscapes"), flat, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("keys", "message"), [
    ({"model": None}, "model is missing; add it"),
    ({"modle": "x"}, "There is no key 'modle'. Did you mean 'model'"),
    ({"model": "gone.onnx"}, r"gone\.onnx: cannot be read \(No such file"),
    ({"classes": None}, "classes is missing"),
    ({"classes": "cityscape"}, "There is no list of classes 'cityscape'. Did you mean 'cityscapes'"),
    ({"classes": ["road"]}, "classes needs at least two names"),
    ({"classes": ["road", "road"]}, "The class name 'road' is used twice"),
    ({"classes": [1, 2]}, "classes must be a list of texts"),
    ({"size": None}, "size is missing"),
    ({"size": "512"}, "size: must be HxW"),
    ({"size": "16x16"}, "needs at least 32x32"),
    ({"size": 512}, "size is 512; it must be a text"),
    ({"size": "96x128", "multiple": 32}, 'multiple is for size = "native"'),
    ({"multiple": 0}, "multiple is 0; it must be a whole number from 1"),
    ({"mean": [1, 2]}, r"mean is \[1, 2\]; it must be three numbers, one for each channel"),
    ({"mean": [1, 2, True]}, "mean is"),
    ({"std": [1, 0, 1]}, "it must be three numbers above 0"),
    ({"order": "grb"}, "There is no kind of order 'grb'"),
    ({"layout": "chw"}, "There is no kind of layout 'chw'. Did you mean 'nchw'"),
    ({"output": "logit"}, "There is no kind of output 'logit'. Did you mean 'logits'"),
    ({"output_name": "none"}, r"There is no output of teacher\.onnx 'none'\. Known: out"),
    ({"output_layout": "nhwc"}, r"output of .* is \[1, 4, 100, 140\] in the layout 'nhwc'; correct classes or output_layout"),
    ({"output": "probabilities"}, r'teacher\.toml: the values of .* are not probabilities, .*; write output = "logits"'),
    ({"softmax": True, "output": "logits"}, r'the values of .* are probabilities; write output = "probabilities"'),
    ({"mean": [1e39, 0, 0]}, "its output contains NaN or infinity; correct mean and std"),
    ({"terms": ""}, "terms is ''; it must be a text"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_wrong_descriptions(flat: Path, foreign: Foreign, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    teacher = foreign(**keys)
    with pytest.raises(FastSCNNError, match=message) as caught:
        soft_labels(teacher, flat, tmp_path / "soft")
    assert "teacher.toml" in str(caught.value)
    assert not (tmp_path / "soft").exists()


@pytest.mark.parametrize(("made", "message"), [
    ({"shape": (4, 3, "h", "w")}, r"teacher\.onnx: takes \[4, 3, \?, \?\], which is not one image"),
    ({"ids": True}, r"its output 'out' is tensor\(int64\), which is not logits or probabilities; choose another one"),
    ({"shape": (1, 3, 64, 96), "size": "96x128"}, r"teacher\.onnx: takes 64x96 only, not 96x128"),
    ({"shape": (1, 3, 64, 96)}, r"teacher\.onnx: takes 64x96 only, not 100x140"),
])  # fmt: skip
def test_networks_that_do_not_fit(flat: Path, foreign: Foreign, tmp_path: Path, made: dict[str, Any], message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        soft_labels(foreign(**made), flat, tmp_path / "soft")
    assert not (tmp_path / "soft").exists()


def test_a_network_that_fails_inside(
    flat: Path, foreign: Foreign, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence, without the log of ONNX Runtime."""
    with pytest.raises(TeacherError, match=r"teacher\.onnx: cannot run an input of shape \[1, 3, 100, 140\] .*; use the input"):
        soft_labels(foreign(reshaped=True), flat, tmp_path / "soft")
    assert capfd.readouterr().err == ""
    assert soft_labels(foreign(reshaped=True, size="64x96"), flat, tmp_path / "soft").written == 2


def test_files_that_are_no_onnx(flat: Path, foreign: Foreign, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    teacher = foreign()
    (tmp_path / "teacher.onnx").write_bytes(b"hello")
    with pytest.raises(FastSCNNError, match=r"teacher\.onnx: is not an ONNX model, or it is damaged or truncated"):
        Teacher.load(teacher)
    write_onnx(tmp_path / "teacher.onnx", metadata={})
    with pytest.raises(FastSCNNError, match=r"must take one image of floats .*, but its inputs are images tensor\(uint8\)"):
        Teacher.load(teacher)
    write_onnx(tmp_path / "teacher.onnx", external="weights.bin")
    with pytest.raises(FastSCNNError, match=r"has weights in another file \(external data\), .*; export it as one file"):
        Teacher.load(teacher)
    with pytest.raises(FastSCNNError, match=r"gone\.toml: no such file"):
        Teacher.load(tmp_path / "gone.toml")
    with pytest.raises(ArgumentError, match="runs with the backend onnx in float32 only"):
        Teacher.load(teacher, backend="torch")
    with pytest.raises(ArgumentError, match="runs with the backend onnx in float32 only"):
        Teacher.load(teacher, precision="int8")


def test_an_onnx_file_without_a_card_needs_a_description(flat: Path, foreign: Foreign, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"carries no fastscnn card.* needs a \.toml that describes it"):
        soft_labels(foreign().with_suffix(".onnx"), flat, tmp_path / "soft")


# files


def test_a_second_run_skips_what_exists(flat: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "soft"
    soft_labels(tiny_onnx, flat, out)
    before = {name: (out / name).read_bytes() for name in ("a.npz", "b.npz")}
    (out / "a.npz").unlink()
    made = soft_labels(tiny_onnx, flat, out)
    assert (made.written, made.skipped) == (1, 1)
    assert {name: (out / name).read_bytes() for name in before} == before


def test_files_made_otherwise_are_refused_before_the_first_step(
    flat: Path, tiny_onnx: Path, write_onnx: WriteOnnx, foreign: Foreign, tmp_path: Path
) -> None:
    out = tmp_path / "soft"
    soft_labels(tiny_onnx, flat, out)
    (out / "a.npz").unlink()
    before = (out / "b.npz").read_bytes()
    other = write_onnx(tmp_path / "other.onnx", classes=("red", "green", "blue", "grey"))
    teachers: dict[str, Any] = {
        r"b\.npz: was made by tiny\.onnx, sha256 .*, not by other\.onnx, sha256 .*; choose another --out": other,
        r"b\.npz: was made with flip = false, not true; choose another --out": Teacher.load(tiny_onnx, flip=True),
        r"b\.npz: was made with size = \"64x96\", not \"native\"": Teacher.load(tiny_onnx, size="native"),
    }
    for message, teacher in teachers.items():
        with pytest.raises(FastSCNNError, match=message):
            soft_labels(teacher, flat, out)
    images.write(flat.parent / "images/b.png", picture(100, 140, seed=9))
    with pytest.raises(FastSCNNError, match=r"b\.npz: was made of another image than .*b\.png"):
        soft_labels(tiny_onnx, flat, out)
    assert [path.name for path in out.iterdir()] == ["b.npz"]
    assert (out / "b.npz").read_bytes() == before
    for data in (b"", b"hello", before[: len(before) // 2]):
        (out / "b.npz").write_bytes(data)
        with pytest.raises(FastSCNNError, match=r"b\.npz: is no soft-label file of `fastscnn soft-labels`, or is damaged"):
            soft_labels(tiny_onnx, flat, out)
    np.savez(out / "b.npz", probabilities=np.zeros(3), source=np.array([{}], object))
    with pytest.raises(FastSCNNError, match=r"b\.npz: is no soft-label file"):
        soft_labels(tiny_onnx, flat, out)


def test_a_description_is_part_of_the_settings(flat: Path, foreign: Foreign, tmp_path: Path) -> None:
    soft_labels(foreign(), flat, tmp_path / "soft")
    with pytest.raises(FastSCNNError, match=r'was made with order = "rgb", not "bgr"'):
        soft_labels(foreign(order="bgr"), flat, tmp_path / "soft")
    assert soft_labels(foreign(terms="new"), flat, tmp_path / "soft").skipped == 2


@pytest.mark.parametrize(("names", "patterns", "expected"), [
    (["x/a.png", "y/b.jpg"], {"train": "x/*.png", "val": "y/*.jpg"}, {"train": "{stem}", "val": "{stem}"}),
    (["x/a.png", "y/a.jpg"], {"train": "x/*.png", "val": "y/*.jpg"}, {"train": "x/{1}", "val": "y/{1}"}),
    (["x/1/a.png", "x/2/a.png", "x/3/4/b.png"], {"train": "x/**/*.png"}, {"train": "x/{1}{2}"}),
    (["x/1/a_left.png", "x/2/a_left.png"], {"train": "x/*/*_left.png"}, {"train": "x/{1}/{2}_left"}),
    (["../x/a.png", "y/A.png"], {"train": "../x/*.png", "val": "y/*.png"}, {"train": "x/{1}", "val": "y/{1}"}),
    (["x/a.png", "y/b.png"], {"train": "*/*.png", "val": "y/*.png"}, {"train": "{stem}", "val": "{stem}"}),
])  # fmt: skip
def test_names(tiny_onnx: Path, tmp_path: Path, names: list[str], patterns: dict[str, str], expected: dict[str, str]) -> None:
    """The patterns that are printed name the file of each image, and no file lies outside the folder."""
    toml = write_dataset(tmp_path / "set", names, patterns, (32, 40))
    made = soft_labels(tiny_onnx, toml, tmp_path / "soft")
    lines = lines_of(made.toml)
    assert {split: table["soft"] for split, table in lines["splits"].items()} == {
        split: f"../soft/{pattern}.npz" for split, pattern in expected.items()
    }
    assert set(lines) == {"splits"}
    assert made.written == len(names) == len([*(tmp_path / "soft").rglob("*.npz")])
    spec, segmenter = datasets.load(toml), Segmenter.load(tiny_onnx)
    for split, pattern in expected.items():
        for image in spec.image_files(split):
            name = beside(patterns[split], image.relative_to(toml.parent).as_posix(), pattern)
            assert close(stored(tmp_path / f"soft/{name}.npz")["probabilities"],
                         area_means(segmenter.probabilities(image), (4, 5)))


def test_one_split_has_the_names_that_all_have(tiny_onnx: Path, tmp_path: Path) -> None:
    """Else a later run with another split would meet files of the same names."""
    toml = write_dataset(tmp_path / "set", ["x/a.png", "y/a.png"], {"train": "x/*.png", "val": "y/*.png"}, (32, 40))
    for split in ("train", "val", "train+val"):
        soft_labels(tiny_onnx, toml, tmp_path / "soft", split)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz")) == ["soft/x/a.npz", "soft/y/a.npz"]


@pytest.mark.parametrize("pattern", ["x/a.*", "[xy]/*.png"])
def test_two_images_of_one_name_are_refused(tiny_onnx: Path, tmp_path: Path, pattern: str) -> None:
    toml = write_dataset(tmp_path / "set", ["x/a.png", "x/a.jpg", "y/a.png"], {"train": pattern}, (32, 40))
    with pytest.raises(FastSCNNError, match=r"a\.(png|jpg): would have the same soft-label file as .*; rename one"):
        soft_labels(tiny_onnx, toml, tmp_path / "soft")
    assert not (tmp_path / "soft").exists()


def test_splits_that_cannot_be_used(flat: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    text = flat.read_text()
    with pytest.raises(FastSCNNError, match=r"There is no split of made 'vla'\. Did you mean 'val'"):
        soft_labels(tiny_onnx, flat, tmp_path / "soft", "vla")
    flat.write_text(text + 'window = "64x64"\n')
    with pytest.raises(FastSCNNError, match=r"dataset\.toml: the split 'val' has a window, and soft labels of windows"):
        soft_labels(tiny_onnx, flat, tmp_path / "soft")
    flat.write_text(text + '[splits.test]\nimages = "gone/*.png"\nlabels = "labels/{stem}.png"\n')
    assert soft_labels(tiny_onnx, flat, tmp_path / "soft").written == 2
    with pytest.raises(FastSCNNError, match=r"dataset\.toml: is a file, but soft labels need a folder"):
        soft_labels(tiny_onnx, flat, flat)
    with pytest.raises(FastSCNNError, match=r"no images match 'gone/\*\.png' \(split 'test' of made\)"):
        soft_labels(tiny_onnx, flat, tmp_path / "soft", "val+test")


# the command line


def test_the_command(flat: Path, foreign: Foreign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat.write_text(flat.read_text().replace('"red"', '"ROAD", "Traffic Light"'))
    words = ["soft-labels", "--weights", str(foreign(size="96x128")), "--data", str(flat), "--out", str(tmp_path / "soft")]
    assert cli.main([*words, "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r".*teacher\.toml: unverified: the ONNX file has no card with a hash, so damage .* its source\.\n", err)
    assert out.startswith("2 files of 4 classes written to ")
    head, _, toml = out.partition("\n\n")
    assert head.endswith(f"Lines for {flat}:")
    lines = lines_of(toml)
    assert lines["splits"] == {"val": {"soft": "../soft/{stem}.npz"}}
    assert lines["soft"] == {
        "classes": list(NAMES), "terms": "theirs", "map": {"road": "ROAD", "traffic light": "Traffic Light"},
    }  # fmt: skip
    assert '# Building = "..."  # a class of made, or "ignore"' in toml
    assert cli.main([*words, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["written"], line["skipped"], line["failed"], line["classes"]) == (0, 2, [], list(NAMES))
    assert lines_of(line["toml"]) == lines


def test_unreadable_images_are_listed(
    flat: Path, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images_ = flat.parent / "images"
    (images_ / "a.png").write_bytes(b"no image")
    images.write(images_ / "c.png", picture(20, 60))
    words = ["soft-labels", "--weights", str(tiny_onnx), "--data", str(flat), "--out", str(tmp_path / "soft")]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "1 files of 3 classes" in out
    assert "2 images failed" in out
    assert f"fastscnn: {images_ / 'a.png'}: " in err
    assert "c.png: is 20x60 and needs at least 32 pixels a side" in err
    assert [path.name for path in (tmp_path / "soft").iterdir()] == ["b.npz"]
    assert cli.main([*words, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["failed"]) == 2


def test_a_built_in_dataset_needs_a_description(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(tmp_path / "set/val/a.png", picture(100, 140))
    data = f"camvid:{tmp_path / 'set'}"
    assert cli.main(["soft-labels", "--weights", str(tiny_onnx), "--data", data, "--out", str(tmp_path / "set/soft")]) == 0
    out = capsys.readouterr().out
    assert f"camvid is built in. To train on its soft labels, describe {tmp_path / 'set'} in a dataset.toml." in out
    assert lines_of(out.partition("\n\n")[2])["splits"] == {"val": {"soft": "soft/{stem}.npz"}}


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs/datasets.md").read_text()
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (example,) = (block for block in blocks if "model = " in block)
    (tmp_path / "teacher.toml").write_text(example)
    given = description.load(tmp_path / "teacher.toml")
    assert (given.model, given.size, len(given.classes)) == (tmp_path / "espnetv2.onnx", (512, 1024), 19)
    keys = lines_of((description.__doc__ or "").split("```")[1].removeprefix("toml"))
    assert {*lines_of(example), "multiple"} == set(keys)


@pytest.mark.parametrize("words", [["--out", "soft"], ["--data", "set"], ["set", "--data", "set", "--out", "soft"]])
def test_wrong_calls(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["soft-labels", *words]) == 2
    assert "usage: fastscnn soft-labels [options] --data DATASET --out DIR" in capsys.readouterr().err
