"""Datasets: image and label files on disk, by a short name or a dataset.toml of one's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data import class_folders, options, toml
from fastscnn.data.builtin import camvid, camvid_colours, cityscapes, dada, eventscape, pst900
from fastscnn.data.class_folders import ClassFolders
from fastscnn.data.spec import DatasetSpec, Pair, Split

__all__ = ["ClassFolders", "DatasetSpec", "Pair", "Split", "load", "load_any"]


@dataclass(frozen=True)
class _BuiltIn:
    """How a dataset is made of its root and its options, and which values those take; none stands for a whole number."""

    make: Callable[[Path, Mapping[str, str]], DatasetSpec | ClassFolders]
    options: Mapping[str, Collection[str]] = field(default_factory=dict)


_BUILT_IN = {
    "camvid": _BuiltIn(lambda root, _: camvid.spec(root)),
    "camvid-colours": _BuiltIn(lambda root, given: camvid_colours.spec(root, given.get("classes")), {"classes": ("11", "32")}),
    "cityscapes": _BuiltIn(lambda root, _: cityscapes.fine(root)),
    "cityscapes-coarse": _BuiltIn(lambda root, _: cityscapes.coarse(root)),
    "dada": _BuiltIn(lambda root, given: dada.spec(root, given.get("crop")), {"crop": ("issafe",)}),
    "eventscape": _BuiltIn(lambda root, given: eventscape.spec(root, int(given.get("every", "1"))), {"every": ()}),
    "imagenet": _BuiltIn(lambda root, _: class_folders.imagenet(root)),
    "pst900": _BuiltIn(lambda root, _: pst900.rgb(root)),
    "pst900-rgbt": _BuiltIn(lambda root, given: pst900.rgbt(root, given.get("thermal")), {"thermal": ("agc", "raw")}),
}


def load(spec: str) -> DatasetSpec:
    """The dataset that `spec` names: `camvid:ROOT`, or the path of a dataset.toml (docs: README, "Your own data").

    Built in are camvid, camvid-colours, cityscapes, cityscapes-coarse, dada, eventscape, pst900 and pst900-rgbt. Options
    follow the root, as in `eventscape:ROOT?every=30`, and become part of the dataset's name.

    Raises:
        FastSCNNError: unknown dataset or option, missing folder or file, a dataset.toml that says something impossible, or
            classes of whole images.
    """
    found = load_any(spec)
    if isinstance(found, ClassFolders):
        raise FastSCNNError(f"{spec}: has a class for each image and none for its pixels; it is for "
                            "`fastscnn train imagenet`, and for check and evaluate.")
    return found


def load_any(spec: str) -> DatasetSpec | ClassFolders:
    """As `load`; also `imagenet:ROOT`, images in a folder for each class."""
    path = Path(spec)
    if path.suffix == ".toml":
        return toml.spec(path)
    if path.is_dir() and (path / "dataset.toml").is_file():
        return toml.spec(path / "dataset.toml")
    name, separator, place = spec.partition(":")
    if not separator:
        raise FastSCNNError(f"{spec!r} names no dataset: say camvid:ROOT, or give the path of a dataset.toml.")
    if name not in _BUILT_IN:
        raise unknown("dataset", name, _BUILT_IN)
    root, asked, given = place.rpartition("?") if "?" in place and not Path(place).is_dir() else (place, "", "")
    values = options.parse(name, given, _BUILT_IN[name].options) if asked else {}
    if not Path(root).is_dir():
        raise FastSCNNError(f"{root}: no such folder (the root of the dataset {name!r}).")
    made = _BUILT_IN[name].make(Path(root), values)
    said = "&".join(f"{key}={values[key]}" for key in sorted(values))
    return replace(made, name=f"{name}?{said}") if said else made
