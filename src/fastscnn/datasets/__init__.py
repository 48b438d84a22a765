"""Datasets: image and label files on disk, by a short name or a dataset.toml of one's own."""

from __future__ import annotations

from pathlib import Path

from fastscnn.datasets import camvid, folder
from fastscnn.datasets.spec import DatasetSpec, Pair, Split
from fastscnn.errors import FastSCNNError, unknown

__all__ = ["DatasetSpec", "Pair", "Split", "load"]

_BUILT_IN = {"camvid": camvid.spec}


def load(spec: str) -> DatasetSpec:
    """The dataset that `spec` names: `camvid:ROOT`, or the path of a dataset.toml (docs: README, "Your own data").

    Raises:
        FastSCNNError: unknown dataset, missing folder or file, or a dataset.toml that says something impossible.
    """
    path = Path(spec)
    if path.suffix == ".toml":
        return folder.spec(path)
    if path.is_dir() and (path / "dataset.toml").is_file():
        return folder.spec(path / "dataset.toml")
    name, separator, root = spec.partition(":")
    if not separator:
        raise FastSCNNError(f"{spec!r} names no dataset: say camvid:ROOT, or give the path of a dataset.toml.")
    if name not in _BUILT_IN:
        raise unknown("dataset", name, _BUILT_IN)
    if not Path(root).is_dir():
        raise FastSCNNError(f"{root}: no such folder (the root of the dataset {name!r}).")
    return _BUILT_IN[name](Path(root))
