"""The public API: its names, what importing it costs, and the examples in its docstrings."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastscnn
from fastscnn.base.errors import FastSCNNError

MODULES = {  # function -> the module that it is imported from, and the packages that this module needs
    "read_image": ("fastscnn.media.images", ()),
    "init_dataset": ("fastscnn.data.init.folder", ()),
    "load_dataset": ("fastscnn.data.datasets", ()),
    "write_shards": ("fastscnn.data.shards", ()),
    "push": ("fastscnn.hub.push", ()),
    "evaluate": ("fastscnn.evaluation.evaluate", ()),
    "soft_labels": ("fastscnn.distillation.soft_labels", ()),
    "train": ("fastscnn.training.train", ("torch",)),
    "tune": ("fastscnn.tuning.tune", ("torch", "optuna")),
    "export": ("fastscnn.exporting.pipeline", ("torch",)),
}
AVAILABLE = [
    name for name in fastscnn.__all__ if all(find_spec(needed) for needed in (MODULES.get(name, ("fastscnn",))[0],
                                                                              *MODULES.get(name, ("", ()))[1]))
]  # fmt: skip


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", AVAILABLE)
def test_the_public_names(name: str) -> None:
    assert name in dir(fastscnn)
    value = getattr(fastscnn, name)
    assert getattr(fastscnn, name) is value
    if name in MODULES:
        assert value.__module__ == MODULES[name][0]


def test_other_names_do_not_exist() -> None:
    assert set(MODULES) < set(fastscnn.__all__)
    assert not hasattr(fastscnn, "segment")
    with pytest.raises(AttributeError, match="module 'fastscnn' has no attribute 'trian'"):
        fastscnn.trian  # noqa: B018


def test_the_import_is_light() -> None:
    heavy = {"torch", "onnxruntime", "openvino", "onnx", "av", "cv2", "rich", "tyro", "matplotlib", "scipy"}
    done = run(f"import sys, fastscnn; print(*sorted({{name.partition('.')[0] for name in sys.modules}} & {heavy}))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_without_pytorch_training_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import fastscnn; from fastscnn import train; help(fastscnn); {}"
    for call in ("train()", "fastscnn.train()"):
        done = run(code.format(call))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith(
            "FastSCNNError: fastscnn.train needs the extra 'train': install fastscnn[train], or from a checkout: "
            "pip install '.[train]'."
        )


@pytest.fixture
def dataset_here(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples run in a new folder with `data/dataset.toml`: the splits train and val of a generated dataset."""
    (tmp_path / "data").symlink_to(tiny_dataset.parent, target_is_directory=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("dataset_here")
@pytest.mark.parametrize("name", ["fastscnn", *(
    pytest.param(name, marks=pytest.mark.slow) if name in ("export", "train", "tune") else name for name in AVAILABLE)])
def test_examples(name: str) -> None:
    value = fastscnn if name == "fastscnn" else getattr(fastscnn, name)
    finder = doctest.DocTestFinder(recurse=isinstance(value, type))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for example in finder.find(value, name, globs={}):
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("name", ["Segmenter", "Segmentation", "read_image"])
def test_what_is_explained_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(fastscnn, name).__doc__ or "")


def test_the_error_is_public() -> None:
    assert fastscnn.FastSCNNError is FastSCNNError
