"""The programs of examples/, run as their users run them: the labels of `Segmenter` are the oracle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made.street import street
from PIL import Image

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array
from fastscnn.model import weights

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
WEIGHTS = weights.bundled("onnx", "float32")
COARSE = 0.97  # equal labels, if those of the program are enlarged from a smaller grid: borders are coarser


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def scene(path: Path, size: tuple[int, int]) -> Path:
    Image.fromarray(street(*size).image).save(path)
    return path


def labels_of(done: subprocess.CompletedProcess[str], path: Path) -> UInt8Array:
    """The file that a program wrote, as ids: one channel, no palette."""
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image, np.uint8)


def expected(path: Path, size: str = "360x480") -> UInt8Array:
    return Segmenter.load(WEIGHTS, "onnx", size, threads=1).segment(path).labels


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network with interpolation and argmax in the graph: its output `labels` has the size of its input."""
    onnx = pytest.importorskip("onnx")
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    model = onnx.load(WEIGHTS)
    graph = model.graph
    graph.initializer.append(tensor(np.array(len(json.loads(model.metadata_props[0].value)["classes"])).reshape(1), "classes"))
    graph.node.extend([
        node("Shape", ["images"], ["batch_of"], start=0, end=1),
        node("Shape", ["images"], ["size_of"], start=1, end=3),
        node("Concat", ["batch_of", "classes", "size_of"], ["full"], axis=0),
        node("Resize", ["logits", "", "", "full"], ["interpolated"], mode="linear"),
        node("ArgMax", ["interpolated"], ["winner"], axis=1, keepdims=0),
        node("Cast", ["winner"], ["labels"], to=onnx.TensorProto.UINT8),
    ])
    graph.output.pop()
    graph.output.append(onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.UINT8, ["batch", "height", "width"]))
    path = tmp_path_factory.mktemp("labels") / "labels.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def static_file(labels_file: Path) -> Path:
    """The same of one size, without a card."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(labels_file)
    for dimension, value in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 256, 384, 3), strict=True):
        dimension.dim_value = value
    del model.metadata_props[:]
    path = labels_file.with_name("static.onnx")
    onnx.save(model, path)
    return path


def in_python(file: Path, image: Path) -> UInt8Array:
    target = image.with_suffix(".labels.png")
    return labels_of(run([sys.executable, "-W", "error", EXAMPLES / "python" / "label_image.py", file, image, target]), target)


@pytest.mark.parametrize("size", [(360, 480), (720, 960), (300, 400)])
def test_python(tmp_path: Path, size: tuple[int, int]) -> None:
    """Logits of an image of the network's size, a larger and a smaller one."""
    path = scene(tmp_path / "scene.png", size)
    ours = in_python(WEIGHTS, path)
    assert ours.shape == size
    assert (ours == expected(path)).mean() >= 0.9999


def test_python_with_labels_in_the_graph(tmp_path: Path, labels_file: Path, static_file: Path) -> None:
    path = scene(tmp_path / "scene.png", (360, 480))
    assert (in_python(labels_file, path) == expected(path)).mean() >= 0.9999
    coarse = in_python(static_file, path)
    assert coarse.shape == (360, 480)
    assert (coarse == expected(path, "256x384")).mean() >= COARSE


@pytest.mark.parametrize("words", [[], ["a.onnx", "b.png"]])
def test_python_prints_its_usage(words: list[str]) -> None:
    done = run([sys.executable, EXAMPLES / "python" / "label_image.py", *words])
    assert done.returncode == 1
    assert "python label_image.py WEIGHTS.onnx IMAGE LABELS.png" in done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in C++; CMAKE_PREFIX_PATH names the folder of ONNX Runtime if it is not in a system's folder."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is missing")
    build = tmp_path_factory.mktemp("build")
    done = run(["cmake", "-S", EXAMPLES / "cpp", "-B", build])
    if "ONNX Runtime for C++ is missing" in done.stderr:
        pytest.skip("ONNX Runtime for C++ is missing: set CMAKE_PREFIX_PATH to its folder")
    assert done.returncode == 0, done.stderr
    done = run(["cmake", "--build", build])
    assert done.returncode == 0, done.stderr
    return build / "label_image"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(360, 480), (371, 503)])
def test_cpp(program: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    path, target = scene(tmp_path / "scene.ppm", size), tmp_path / "labels.pgm"
    np.testing.assert_array_equal(labels_of(run([program, WEIGHTS, path, target]), target), expected(path, "native"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG", "is no PPM file"),
        (b"P6\n64 64\n255\nshort", "is truncated"),
        (b"P6\n64 99999\n255\n", "with sides of 32 to 16384"),
    ],
)
def test_cpp_refuses_other_files(program: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scene.ppm").write_bytes(content)
    done = run([program, WEIGHTS, tmp_path / "scene.ppm", tmp_path / "labels.pgm"])
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "labels.pgm").exists()


@pytest.fixture
def in_node(tmp_path: Path) -> list[str | Path]:
    """The command of the program in Node, beside its packages."""
    node, modules = shutil.which("node"), os.environ.get("FASTSCNN_NODE_MODULES", "")
    if node is None:
        pytest.skip("node is missing")
    for package in json.loads((EXAMPLES / "node" / "package.json").read_text())["dependencies"]:
        if not modules or not (Path(modules) / package).is_dir():
            pytest.skip(f"{package} is missing: FASTSCNN_NODE_MODULES names the folder node_modules that holds it")
    folder = tmp_path / "examples" / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(Path(modules).resolve())
    (tmp_path / "src").symlink_to(ROOT / "src")
    return [node, "--throw-deprecation", folder / "label_image.mjs"]


@pytest.mark.parametrize(("size", "words"), [((360, 480), []), ((720, 960), ["360x480"]), ((300, 400), ["360x480"])])
def test_node(in_node: list[str | Path], tmp_path: Path, size: tuple[int, int], words: list[str]) -> None:
    path, target = scene(tmp_path / "scene.png", size), tmp_path / "labels.png"
    ours = labels_of(run([*in_node, WEIGHTS, path, target, *words]), target)
    np.testing.assert_array_equal(ours, expected(path))


def test_node_with_labels_in_the_graph(
    in_node: list[str | Path], tmp_path: Path, labels_file: Path, static_file: Path
) -> None:
    path, target = scene(tmp_path / "scene.png", (360, 480)), tmp_path / "labels.png"
    ours = labels_of(run([*in_node, labels_file, path, target]), target)
    assert (ours == expected(path)).mean() >= 0.9999
    ours = labels_of(run([*in_node, static_file, path, target]), target)
    assert (ours == expected(path, "256x384")).mean() >= COARSE


def test_ci_installs_the_versions_of_the_example() -> None:
    folders = (ROOT / "tests" / "node", EXAMPLES / "node")
    installed, wanted = (json.loads((folder / "package.json").read_text())["dependencies"] for folder in folders)
    assert wanted.items() <= installed.items()
