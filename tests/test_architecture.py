"""The rules of the architecture, read off the source: who may import whom, and what lives in one place only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

import fastscnn
from fastscnn.data.synthetic import Scene
from fastscnn.media import images

# A module imports from its own folder and from the folders on the lines above its own.
LAYERS = [line.split() for line in (
    "base version", "model media upsampling", "data network annotations", "backends hub", "inference",
    "evaluation benchmark distillation", "exporting convert training", "web serve cluster tuning", "cli",
)]
# Foreign package or built-in function -> the folders and modules that may use it.
TORCH = "network backends.torch backends.cuda exporting convert training benchmark.mmseg_worker"
HOMES = {name: homes.split() for names, homes in {
    "torch safetensors onnx onnxscript": TORCH, "triton": "backends.cuda.labels_triton",
    "cv2": "training.augment training.corruption data.formats.rasterise exporting.targets.opencv",
    "pycocotools": "data.formats.rasterise",
    "onnxruntime": "backends.onnx backends.providers exporting.quantize",
    "openvino": "backends.openvino exporting.targets.openvino",
    "matplotlib": "benchmark.plot", "mlflow": "training.tracking.mlflow", "wandb": "training.tracking.wandb",
    "litert_torch ai_edge_litert ai_edge_quantizer": "exporting.targets.litert", "ncnn pnnx": "exporting.targets.ncnn",
    "coremltools": "exporting.targets.coreml exporting.targets.mil",
    "av": "media.live media.video media.video_writer", "rasterio": "media.windows",
    "PIL": "media.images media.decoding media.drawing media.jpeg media.label_maps media.netpbm media.png media.shrinking "
           "media.windows data.synthetic.canvas data.legend",
    "simplejpeg": "media.jpeg", "isal": "media.png",
    "ray fsspec pyarrow": "cluster",
    "ctypes": "upsampling.native media.label_maps media.shrinking training.loop", "tyro rich tkinter print()": "cli",
    "huggingface_hub": "hub",
    "fastapi starlette uvicorn pydantic prometheus_client": "serve",
    "optuna": "tuning",
    "importlib": "cli benchmark.latency_budget exporting.targets.target exporting.targets.opencv",
    "eval() exec() __import__()": "",
    "fcntl grp posix pty pwd resource termios tty": "",  # not on Windows
}.items() for name in names.split()}


def folder(module: str) -> str:
    """The folder of the package that a module lies in; of a module outside them all, its own name."""
    return [*module.split("."), ""][1]


def layer(module: str) -> int:
    """Its place in LAYERS; the public API and __main__ come last."""
    return next((place for place, folders in enumerate(LAYERS) if folder(module) in folders), len(LAYERS))


def offences(sources: Mapping[str, str]) -> list[str]:
    """Every breach of the rules in modules given as name -> source. Imports inside functions and under TYPE_CHECKING
    count too."""
    outside = [name for name in sources if layer(name) == len(LAYERS) and folder(name) not in ("", "__main__")]
    found = [f"{name} lies in no folder of LAYERS" for name in outside]
    for name in sources:
        for node in ast.walk(ast.parse(sources[name])):
            for target in _imported(node, sources):
                package = target.partition(".")[0]
                if package == "fastscnn":
                    if layer(target) > layer(name) or (layer(target) == layer(name) and folder(target) != folder(name)):
                        found.append(f"{name} imports {target}")
                elif package in HOMES and not _within(name, HOMES[package]):
                    found.append(f"{name} imports {target}")
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{name} has a relative import")
            called = f"{node.func.id}()" if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in HOMES and not _within(name, HOMES[called]):
                found.append(f"{name} calls {called}")
    return found


def cycles(sources: Mapping[str, str]) -> list[str]:
    """Modules that import one another when they are loaded."""
    graph = {name: {target for node in _on_import(ast.parse(text)) for target in _imported(node, sources) if target in sources}
             for name, text in sources.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def _on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is loaded: those outside functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _on_import(node)


def _within(module: str, homes: Sequence[str]) -> bool:
    """Return whether a module of ours is one of these, or lies in one."""
    return any(f"{module}.".startswith(f"fastscnn.{home}.") for home in homes)


def _imported(node: ast.AST, known: Collection[str]) -> Iterator[str]:
    """The modules that a statement imports; of `from package import module`, the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if submodule in known else str(node.module)


def package() -> dict[str, str]:
    """Every module of the package, name -> source."""
    root = Path(fastscnn.__file__).parent
    names = {path: ".".join(["fastscnn", *path.relative_to(root).with_suffix("").parts]) for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): path.read_text() for path, name in names.items()}


def test_the_rules_hold() -> None:
    assert offences(package()) == []


def test_no_modules_import_one_another() -> None:
    assert cycles(package()) == []


def test_every_folder_says_what_it_is_for() -> None:
    for name, source in package().items():
        if folder(name):
            assert ast.get_docstring(ast.parse(source)), name
    assert {folder(name) for name in package()} == {"", "__main__", *chain(*LAYERS)}


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("fastscnn.utils", "", "fastscnn.utils lies in no folder of LAYERS"),
        ("fastscnn.model.card", "from fastscnn.media import images", "fastscnn.model.card imports fastscnn.media"),
        ("fastscnn.model.card", "import fastscnn.media.images", "fastscnn.model.card imports fastscnn.media.images"),
        ("fastscnn.base.files", "def f():\n    from fastscnn.model import card", "fastscnn.base.files imports fastscnn.model"),
        ("fastscnn.base.files", "if TYPE_CHECKING:\n    import fastscnn.cli", "fastscnn.base.files imports fastscnn.cli"),
        ("fastscnn.cli.train", "from fastscnn import Segmenter", "fastscnn.cli.train imports fastscnn"),
        ("fastscnn.base.files", "from . import errors", "fastscnn.base.files has a relative import"),
        ("fastscnn.inference.segmenter", "import torch", "fastscnn.inference.segmenter imports torch"),
        ("fastscnn.backends.onnx", "import torch.nn as nn", "fastscnn.backends.onnx imports torch.nn"),
        ("fastscnn.backends.torchish", "import torch", "fastscnn.backends.torchish imports torch"),
        ("fastscnn.model.card", "from safetensors.torch import load", "fastscnn.model.card imports safetensors.torch"),
        ("fastscnn.evaluation.metrics", "def f():\n    import onnxscript", "fastscnn.evaluation.metrics imports onnxscript"),
        ("fastscnn.backends.torch", "import onnxruntime", "fastscnn.backends.torch imports onnxruntime"),
        ("fastscnn.training.loop", "from rich.progress import track", "fastscnn.training.loop imports rich.progress"),
        ("fastscnn.upsampling.upsample", "import ctypes", "fastscnn.upsampling.upsample imports ctypes"),
        ("fastscnn.evaluation.metrics", "if 1:\n    print(1)", "fastscnn.evaluation.metrics calls print()"),
        ("fastscnn.cli.train", "eval('1')", "fastscnn.cli.train calls eval()"),
        ("fastscnn.base.files", "def f():\n    import fcntl", "fastscnn.base.files imports fcntl"),
    ],
)
def test_a_breach_is_found(name: str, source: str, expected: str) -> None:
    assert offences({name: source}) == [expected]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fastscnn.model.card", "import os, numpy\nimport fastscnn.base\nfrom fastscnn.model.label_set import LabelSet"),
        ("fastscnn.training.train", "import torch\nfrom torch import nn\nimport safetensors.torch"),
        ("fastscnn.backends.onnx", "import onnxruntime\nfrom fastscnn.model import card"),
        ("fastscnn.backends.cuda.backend", "import torch"),
        ("fastscnn.cli.train", "import tyro, rich.table\nprint(1)\nimport fastscnn.training.train"),
        ("fastscnn.media.images", "from PIL import Image\nimage.print(1)"),
    ],
)
def test_what_is_allowed_is_no_breach(name: str, source: str) -> None:
    assert offences({name: source}) == []


def test_a_cycle_is_found() -> None:
    assert cycles({"fastscnn.a": "from fastscnn import b", "fastscnn.b": "import fastscnn.a"})
    assert not cycles({"fastscnn.a": "from fastscnn import b", "fastscnn.b": "def f():\n    import fastscnn.a"})


BARE = """
import sys
blocked = {"torch", "safetensors", "onnx", "onnxscript"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
import fastscnn, fastscnn.cli, fastscnn.benchmark.benchmark, fastscnn.evaluation.evaluate
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
    assert (images.read_values(tmp_path / "segmented" / "a.labels.png")[0] == stripes.labels).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train debug camvid:. --out run", "train (torch is missing) needs the extra 'train'"),
        ("export a.safetensors --out a.onnx", "export (torch is missing) needs the extra 'train'"),
        ("demo --weights a.safetensors", "a.safetensors: torch is missing. Running a .safetensors file needs the extra"),
    ],
)
def test_what_needs_the_training_extra_says_so(tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "a.safetensors").touch()
    done = bare(tmp_path, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fastscnn: {message}")


def test_a_core_that_loads_pytorch_is_found(tmp_path: Path) -> None:
    done = bare(tmp_path, "--version", BARE.replace("import fastscnn,", "import fastscnn.network.fast_scnn, fastscnn,"))
    assert done.returncode == 1
    assert "No module named 'torch'" in done.stderr
    done = bare(tmp_path, "--version", BARE.replace("code = ", "sys.meta_path.pop(0)\nimport onnx\ncode = "))
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
