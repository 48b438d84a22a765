"""Shared fixtures: real data beside the repository, if present, and a tiny network with known output."""

from __future__ import annotations

import builtins
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from made.dataset import write_scenes

from fastscnn.base import files, machine
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.model import card, onnx_hash
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet

pytest_plugins = ["promises", "exports"]

_SHARED = Path(__file__).parents[2] / "shared"
_COLOURS = ("red", "green", "blue")

WriteOnnx = Callable[..., Path]

# Each process of `-n auto` has one processor; threads of PyTorch that wait for others would take time from the other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore = [] if find_spec("fastapi") else ["test_serve.py", "test_live_service.py"]  # the extra `serve`
collect_ignore += [] if find_spec("huggingface_hub") else ["test_hub.py"]  # the extra `hub`
if find_spec("torch") is None:  # the core is also tested without the extra `train`
    _LEARN = (
        "auto_batch", "bundled", "checkpoint", "classify", "convert", "cuda", "distillation", "distributed", "evaluate",
        "every_format", "export", "forms", "kernel", "layers", "loader", "loss", "machines", "metrics", "network",
        "quantize", "round_trip", "static_network", "stem", "target_coreml", "target_litert", "target_ncnn", "targets",
        "thermal", "tracking", "train", "train_cli", "train_mixture", "train_shards", "tune", "upsample",
    )
    collect_ignore += [f"test_{name}.py" for name in _LEARN]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the processes of `-n auto`: one for each processor; for one file none but this one, as debuggers need it."""
    chosen = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(chosen) == 1 and Path(*chosen).is_file() else machine.threads()


@pytest.fixture(autouse=True)
def _no_last_value() -> Iterator[None]:
    """Forget the last value that a doctest displayed: tyro hashes what is in builtins when it is imported."""
    yield
    vars(builtins).pop("_", None)


@pytest.fixture(autouse=True)
def _threads_of_pytorch() -> Iterator[None]:
    """Undo `torch.set_num_threads`, which the backend torch calls for the whole process."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


_drawn = synthetic.draw


@wraps(synthetic.draw)
def _draw(height: int = synthetic.SIZE[0], width: int = synthetic.SIZE[1], seed: int = 0) -> Scene:
    path = Path(os.environ["TEST_SCENES"], f"{height}x{width}.{seed}.npy")
    if not path.exists():
        scene, content = _drawn(height, width, seed), BytesIO()
        np.save(content, np.dstack([scene.image, scene.labels]))
        files.write(path, content.getvalue())
    kept = np.load(path)
    return Scene(kept[:, :, :3].copy(), kept[:, :, 3].copy())


def pytest_configure(config: pytest.Config) -> None:
    """Draw each generated scene once: it takes long, and many tests, and code that they call, draw the same ones.

    All processes of pytest-xdist share the folder of the first.
    """
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setattr(synthetic, "draw", _draw)
    if "TEST_SCENES" not in os.environ:
        folder = TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        patch.setenv("TEST_SCENES", folder.name)


def pytest_collection_finish() -> None:
    """Collect garbage less often, and not among the imported modules and the tests: walking through them takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the limits of the machine once instead of the best of several rounds, which takes long."""
    fastest = machine.fastest
    monkeypatch.setattr(machine, "fastest", lambda work, _rounds: fastest(work, 1))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Runs are compared bit for bit, so all sums need the same order; small images gain nothing from more threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache out of the home folder, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _or_skip(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path} is missing")
    return path


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """CamVid at 360x480; skips the test if the data is missing."""
    return _or_skip(_SHARED / "data" / "camvid")


@pytest.fixture(scope="session")
def media_root() -> Path:
    """Street images and a video without labels; skips the test if they are missing."""
    return _or_skip(_SHARED / "media")


def _write_onnx(
    path: Path, classes: Sequence[str] = _COLOURS, metadata: Mapping[str, str] | None = None, external: str = ""
) -> Path:
    """Write a network of one 1x1 convolution at stride 8: the logits of class k are 1/16 of channel k mod 3.

    Args:
        path: File to write.
        classes: Class names, also in the card.
        metadata: Metadata of the file; None: a card with input size 64x96 and the hash of the content.
        external: Name of a file in the same folder for the weights (external data); "": none.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((len(classes), 3, 1, 1), np.float32)
    weight[np.arange(len(classes)), np.arange(len(classes)) % 3] = 1 / 16
    tensor = numpy_helper.from_array(weight, "weight")
    if external:
        (path.parent / external).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=external)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["logits"], kernel_shape=[1, 1], strides=[8, 8]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(classes), "rows", "columns"])
    graph = helper.make_graph(nodes, "tiny", [images], [logits], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    hashed = onnx_hash.content_sha256(model.SerializeToString())
    own = {card.KEY: Card(LabelSet(tuple(classes)), (64, 96), content_sha256=hashed).to_json()}
    helper.set_model_props(model, dict(own if metadata is None else metadata))
    if not external:
        onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def write_onnx() -> WriteOnnx:
    """Return a function that writes a tiny network; see `_write_onnx`."""
    return _write_onnx


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file made without PyTorch, with the classes red, green and blue: the largest channel of a pixel."""
    return _write_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny(tiny_onnx: Path) -> Segmenter:
    """The segmenter of `tiny_onnx`, with its input size of 64x96."""
    return Segmenter.load(tiny_onnx, "onnx", threads=1)


@pytest.fixture(scope="session")
def stripes() -> Scene:
    """An image of 128x192 with red, green and blue stripes of 64 columns, and its labels by `tiny`."""
    labels = np.repeat(np.array([[0, 1, 2]], np.uint8), 64, axis=1).repeat(128, axis=0)
    return Scene(np.eye(3, dtype=np.uint8)[labels] * np.uint8(200), labels)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset.toml of generated scenes of 96x128 with exact labels: 6 in train, 3 in val. Tests must not change it."""
    return write_scenes(tmp_path_factory.mktemp("tiny_dataset"), "tiny", train=6, val=3)


@pytest.fixture(scope="session")
def partial_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset.toml of four scenes of 64x96 and 96x64. Tests must not change it.

    Its classes are road, construction (a building or a fence of `tiny_dataset`) and void (all other classes).
    """
    root = tmp_path_factory.mktemp("partial_dataset")
    table = np.full(256, 2, np.uint8)
    table[[synthetic.CLASSES.index(name) for name in ("Road", "Building", "Fence")]] = 0, 1, 1
    for seed in range(4):
        drawn = synthetic.draw(*((64, 96) if seed % 2 else (96, 64)), seed + 50)
        images.write(root / f"images/{seed}.png", drawn.image)
        images.write(root / f"labels/{seed}.png", table[drawn.labels])
    toml = root / "dataset.toml"
    toml.write_text(
        'name = "partial"\nclasses = ["road", "construction", "void"]\nterms = "partial only"\n'
        '[splits.train]\nimages = "images/*.png"\nlabels = "labels/{stem}.png"\n'
    )
    return toml


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of the network's inputs, filled as ONNX Runtime gets them."""
    from fastscnn.backends.onnx import OnnxBackend

    sizes: list[tuple[int, ...]] = []
    call = OnnxBackend.__call__

    def note(self: OnnxBackend, images: Any) -> Any:
        sizes.append(images.shape[1:3])
        return call(self, images)

    monkeypatch.setattr(OnnxBackend, "__call__", note)
    monkeypatch.setattr("fastscnn.benchmark.latency_budget.SECONDS", 0.0)
    return sizes
