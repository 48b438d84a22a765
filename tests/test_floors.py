"""The house rules, read off the source: who may import whom, and what lives in one room only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import fastscnn
from fastscnn import images
from fastscnn.scene import Scene

FLOORS = [  # each module imports only from those above it
    "fastscnn.errors",
    "fastscnn.version",
    "fastscnn.arrays",
    "fastscnn.files",
    "fastscnn.machine",
    "fastscnn.labels",
    "fastscnn.images",
    "fastscnn.recipes",
    "fastscnn.datasets.polygons",
    "fastscnn.datasets.spec",
    "fastscnn.datasets.camvid",
    "fastscnn.datasets.camvid_colours",
    "fastscnn.datasets.cityscapes",
    "fastscnn.datasets.dada",
    "fastscnn.datasets.eventscape",
    "fastscnn.datasets.pst900",
    "fastscnn.datasets.class_folders",
    "fastscnn.datasets.folder",
    "fastscnn.datasets.options",
    "fastscnn.datasets",
    "fastscnn.datasets._files",
    "fastscnn.datasets.check",
    "fastscnn.datasets.class_check",
    "fastscnn.card",
    "fastscnn.kernel",
    "fastscnn.upsample",
    "fastscnn.steady",
    "fastscnn.metrics",
    "fastscnn.cityscapes",
    "fastscnn.scene.shapes",
    "fastscnn.scene.canvas",
    "fastscnn.scene.ground",
    "fastscnn.scene.buildings",
    "fastscnn.scene.cars",
    "fastscnn.scene.nature",
    "fastscnn.scene.things",
    "fastscnn.scene.street",
    "fastscnn.scene",
    "fastscnn.segmentation",
    "fastscnn.official",
    "fastscnn.video",
    "fastscnn.recording",
    "fastscnn.learn",
    "fastscnn.learn.model",
    "fastscnn.learn.classifier_card",
    "fastscnn.learn.checkpoint",
    "fastscnn.runtimes.product",
    "fastscnn.runtimes.protocol",
    "fastscnn.runtimes.onnx",
    "fastscnn.runtimes.openvino",
    "fastscnn.learn.runtime",
    "fastscnn.learn.fold",
    "fastscnn.learn.labels_torch",
    "fastscnn.learn.labels_triton",
    "fastscnn.learn.cuda",
    "fastscnn.runtimes",
    "fastscnn.weights",
    "fastscnn.inputs",
    "fastscnn.stream",
    "fastscnn.segmenter",
    "fastscnn",
    "fastscnn.web.engine",
    "fastscnn.web.server",
    "fastscnn.web",
    "fastscnn.evaluate",
    "fastscnn.calibrate",
    "fastscnn.report",
    "fastscnn.report.page",
    "fastscnn.report.charts",
    "fastscnn.report.gallery",
    "fastscnn.report.scores",
    "fastscnn.report.training",
    "fastscnn.report.data",
    "fastscnn.compare",
    "fastscnn.budget",
    "fastscnn.cost",
    "fastscnn.benchmark",
    "fastscnn.against",
    "fastscnn.plot",
    "fastscnn.learn.peer",
    "fastscnn.learn.distributed",
    "fastscnn.learn.augment",
    "fastscnn.learn.loader",
    "fastscnn.learn.loss",
    "fastscnn.learn.track",
    "fastscnn.learn.run",
    "fastscnn.learn.initial",
    "fastscnn.learn.loop",
    "fastscnn.learn.train",
    "fastscnn.learn.class_loader",
    "fastscnn.learn.classify",
    "fastscnn.learn.exported",
    "fastscnn.learn.stem",
    "fastscnn.learn.export",
    "fastscnn.learn.quantize",
    "fastscnn.learn.foreign.layouts",
    "fastscnn.learn.foreign.pickles",
    "fastscnn.learn.foreign",
    "fastscnn.cli._console",
    "fastscnn.cli._flags",
    "fastscnn.cli._preview",
    "fastscnn.cli._clips",
    "fastscnn.cli._video",
    "fastscnn.cli._segment",
    "fastscnn.cli._classes",
    "fastscnn.cli._train",
    "fastscnn.cli._evaluate",
    "fastscnn.cli._export",
    "fastscnn.cli._convert",
    "fastscnn.cli._check",
    "fastscnn.cli._benchmark",
    "fastscnn.cli._web",
    "fastscnn.cli",
    "fastscnn.__main__",
]
LEARN = tuple(name for name in FLOORS if name.startswith("fastscnn.learn."))
CLI = tuple(name for name in FLOORS if name.startswith("fastscnn.cli"))
ROOMS = {  # foreign package -> the only modules that import it
    "torch": LEARN,
    "safetensors": LEARN,
    "onnx": LEARN,
    "onnxscript": LEARN,
    "triton": ("fastscnn.learn.labels_triton",),  # which a PyTorch without CUDA does not bring
    # Networks run in runtimes/onnx.py alone; the quantiser comes with ONNX Runtime but needs onnx: it belongs to training.
    "onnxruntime": ("fastscnn.runtimes.onnx", "fastscnn.learn.quantize"),
    "openvino": ("fastscnn.runtimes.openvino",),
    "matplotlib": ("fastscnn.plot",),
    "av": ("fastscnn.video", "fastscnn.recording"),
    "tkinter": ("fastscnn.cli._preview",),
    "tyro": CLI,
    "rich": CLI,
    "importlib": ("fastscnn.cli._flags",),  # which could import what no rule here sees
    "cv2": ("fastscnn.learn.augment",),  # too large for those who only label images
    "ctypes": ("fastscnn.kernel", "fastscnn.learn.loop"),  # a wrong argument there is a crash; the second: mallopt alone
    "PIL": ("fastscnn.images", "fastscnn.segmentation", "fastscnn.scene.canvas"),
}
CALLS = {"print": CLI, "eval": (), "exec": (), "__import__": ()}


def offences(sources: Mapping[str, str]) -> list[str]:
    """Every breach of the rules in modules given as name -> source. Imports inside functions and under TYPE_CHECKING
    count too."""
    found = [f"{name} has no floor" for name in sources if name not in FLOORS]
    for name in sources:
        for node in ast.walk(ast.parse(sources[name])):
            for target in _imported(node):
                package = target.partition(".")[0]
                if package == "fastscnn":
                    if target not in FLOORS or name not in FLOORS or FLOORS.index(target) >= FLOORS.index(name):
                        found.append(f"{name} imports {target}")
                elif name not in ROOMS.get(package, (name,)):
                    found.append(f"{name} imports {target}")
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{name} has a relative import")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and name not in CALLS.get(node.func.id, (name,)):
                found.append(f"{name} calls {node.func.id}")
    return found


def _imported(node: ast.AST) -> Iterator[str]:
    """The modules that a statement imports; of `from package import module`, the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if submodule in FLOORS else str(node.module)


def house() -> dict[str, str]:
    """The source of every module of the package."""
    root = Path(fastscnn.__file__).parent
    names = {path: ".".join(("fastscnn", *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): path.read_text("utf-8") for path, name in names.items()}


def test_the_house_keeps_its_rules() -> None:
    assert offences(house()) == []


def test_every_floor_has_a_module() -> None:
    assert set(FLOORS) == set(house())
    assert len(set(FLOORS)) == len(FLOORS)


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("fastscnn.utils", "", "fastscnn.utils has no floor"),
        ("fastscnn.labels", "import fastscnn.images", "fastscnn.labels imports fastscnn.images"),
        ("fastscnn.labels", "from fastscnn import images", "fastscnn.labels imports fastscnn.images"),
        ("fastscnn.labels", "from fastscnn.images import read", "fastscnn.labels imports fastscnn.images"),
        ("fastscnn.labels", "def f():\n    from fastscnn import card as c", "fastscnn.labels imports fastscnn.card"),
        ("fastscnn.labels", "if TYPE_CHECKING:\n    import fastscnn.card", "fastscnn.labels imports fastscnn.card"),
        ("fastscnn.labels", "from fastscnn import errors, Card", "fastscnn.labels imports fastscnn"),
        ("fastscnn.labels", "from fastscnn.labels import IGNORE", "fastscnn.labels imports fastscnn.labels"),
        ("fastscnn.labels", "import fastscnn.gone", "fastscnn.labels imports fastscnn.gone"),
        ("fastscnn.labels", "from . import errors", "fastscnn.labels has a relative import"),
        ("fastscnn.labels", "from .errors import unknown", "fastscnn.labels has a relative import"),
        ("fastscnn.runtimes.onnx", "from fastscnn import runtimes", "fastscnn.runtimes.onnx imports fastscnn.runtimes"),
        ("fastscnn.segmenter", "import torch", "fastscnn.segmenter imports torch"),
        ("fastscnn.segmenter", "import torch.nn.functional as F", "fastscnn.segmenter imports torch.nn.functional"),
        ("fastscnn.learn", "import torch", "fastscnn.learn imports torch"),
        ("fastscnn.card", "from safetensors.torch import load", "fastscnn.card imports safetensors.torch"),
        ("fastscnn.runtimes.onnx", "import onnx", "fastscnn.runtimes.onnx imports onnx"),
        ("fastscnn.evaluate", "def f():\n    import onnxscript", "fastscnn.evaluate imports onnxscript"),
        ("fastscnn.learn.export", "import onnxruntime", "fastscnn.learn.export imports onnxruntime"),
        ("fastscnn.cli", "import onnxruntime.quantization", "fastscnn.cli imports onnxruntime.quantization"),
        ("fastscnn.recipes", "import tyro", "fastscnn.recipes imports tyro"),
        ("fastscnn.learn.train", "from rich.progress import track", "fastscnn.learn.train imports rich.progress"),
        ("fastscnn.runtimes", "import importlib", "fastscnn.runtimes imports importlib"),
        ("fastscnn.evaluate", "if 1:\n    print(1)", "fastscnn.evaluate calls print"),
        ("fastscnn.cli", "eval('1')", "fastscnn.cli calls eval"),
        ("fastscnn.cli", "exec('1')", "fastscnn.cli calls exec"),
        ("fastscnn.runtimes", "__import__('torch')", "fastscnn.runtimes calls __import__"),
        ("fastscnn.learn.cuda", "import triton.language", "fastscnn.learn.cuda imports triton.language"),
        ("fastscnn.upsample", "import cv2", "fastscnn.upsample imports cv2"),
        ("fastscnn.upsample", "import ctypes", "fastscnn.upsample imports ctypes"),
        ("fastscnn.upsample", "from PIL import Image", "fastscnn.upsample imports PIL"),
    ],
)
def test_a_breach_is_found(name: str, source: str, expected: str) -> None:
    assert offences({name: source}) == [expected]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fastscnn.labels", "import os, numpy\nfrom fastscnn import errors\nfrom fastscnn.errors import unknown"),
        ("fastscnn.learn.train", "import torch\nfrom torch import nn\nimport safetensors.torch"),
        ("fastscnn.runtimes.onnx", "import onnxruntime\nfrom fastscnn import card"),
        ("fastscnn.learn.quantize", "def f():\n    from onnxruntime.quantization import QuantType"),
        ("fastscnn.cli", "import tyro, rich.table\nprint(1)\nfrom fastscnn import Segmenter\nimport fastscnn.learn.train"),
        ("fastscnn.images", "from PIL import Image\nimage.print(1)"),
        ("fastscnn.kernel", "import ctypes"),
    ],
)
def test_what_is_allowed_is_no_breach(name: str, source: str) -> None:
    assert offences({name: source}) == []


BARE = """
import sys
blocked = {"torch", "safetensors", "onnx", "onnxscript"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
import fastscnn, fastscnn.cli, fastscnn.benchmark, fastscnn.evaluate
code = fastscnn.cli.main([*sys.argv[1:]])
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & (blocked | {"torchvision", "scipy", "matplotlib", "cv2"}), loaded
sys.exit(code)
"""


def bare(folder: Path, words: str, code: str = BARE) -> subprocess.CompletedProcess[str]:
    """A command where the training extra is not installed."""
    command = [sys.executable, "-W", "error", "-c", code, *words.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_images_are_labelled_without_the_training_extra(tmp_path: Path, tiny_onnx: Path, stripes: Scene) -> None:
    images.write(tmp_path / "a.png", stripes.image)
    done = bare(tmp_path, f"segment a.png --weights {tiny_onnx} --threads 1 --json")
    assert (done.returncode, done.stderr) == (0, "")
    assert (images.read_ids(tmp_path / "segmented" / "a.labels.png") == stripes.labels).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train debug --data camvid:. --out run", "train: needs the training extra (torch is missing)"),
        ("export a.safetensors --out a.onnx", "export: needs the training extra (onnx is missing)"),
        ("segment --weights a.safetensors", "a.safetensors: runs in PyTorch, and torch is not installed"),
    ],
)
def test_what_needs_the_training_extra_says_so(tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "a.safetensors").touch()
    done = bare(tmp_path, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fastscnn: {message}")
    assert done.stderr.endswith("pip install 'fastscnn[train]'.\n")


def test_a_core_that_loads_pytorch_is_found(tmp_path: Path) -> None:
    done = bare(tmp_path, "--version", BARE.replace("import fastscnn,", "import fastscnn.learn.model, fastscnn,"))
    assert done.returncode == 1
    assert "No module named 'torch'" in done.stderr
    done = bare(tmp_path, "--version", BARE.replace("code = ", "sys.meta_path.pop(0)\nimport onnx\ncode = "))
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
