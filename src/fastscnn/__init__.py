"""Fast-SCNN for real-time street-scene segmentation.

Examples:
    >>> import fastscnn
    >>> from fastscnn.data import synthetic
    >>> image = synthetic.draw(360, 480).image  # uint8 [H, W, 3], RGB; a path or a PIL image works too
    >>> segmenter = fastscnn.Segmenter.load()
    >>> segmenter(image).labels.shape  # uint8 [H, W]
    (360, 480)

Functions that take data accept a name such as "camvid:PATH", the path of a dataset.toml, or a DatasetSpec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

if TYPE_CHECKING:
    from fastscnn.data.datasets import load as load_dataset
    from fastscnn.data.init.folder import init_dataset
    from fastscnn.data.shards import write_shards
    from fastscnn.distillation.soft_labels import soft_labels
    from fastscnn.evaluation.evaluate import evaluate
    from fastscnn.exporting.pipeline import export
    from fastscnn.hub.push import push
    from fastscnn.media.images import read as read_image
    from fastscnn.training.train import train
    from fastscnn.tuning.tune import tune

__all__ = [
    "Card",
    "FastSCNNError",
    "LabelSet",
    "Segmentation",
    "Segmenter",
    "__version__",
    "evaluate",
    "export",
    "init_dataset",
    "load_dataset",
    "push",
    "read_image",
    "soft_labels",
    "train",
    "tune",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used: training and export need PyTorch, and all take time to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = _function(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "fastscnn":
            raise
        found = _unavailable(name)
    globals()[name] = found
    return found


def _function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any]
    if name == "read_image":
        from fastscnn.media.images import read as found
    elif name == "load_dataset":
        from fastscnn.data.datasets import load as found
    elif name == "init_dataset":
        from fastscnn.data.init.folder import init_dataset as found
    elif name == "write_shards":
        from fastscnn.data.shards import write_shards as found
    elif name == "evaluate":
        from fastscnn.evaluation.evaluate import evaluate as found
    elif name == "soft_labels":
        from fastscnn.distillation.soft_labels import soft_labels as found
    elif name == "push":
        from fastscnn.hub.push import push as found
    elif name == "train":
        from fastscnn.training.train import train as found
    elif name == "tune":
        from fastscnn.tuning.tune import tune as found
    else:
        from fastscnn.exporting.pipeline import export as found
    return found


def _unavailable(name: str) -> Callable[..., Any]:
    """Return a function that raises the error about the missing extra, so that help() and dir() work without it."""

    def needs_extra(*_: object, **__: object) -> None:
        raise missing_extra(f"fastscnn.{name}", "train")

    needs_extra.__doc__ = f"Not available: {missing_extra(f'fastscnn.{name}', 'train')}"
    return needs_extra


def __dir__() -> list[str]:
    return list(__all__)
