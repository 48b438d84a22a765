"""Datasets by name ("camvid:ROOT") or described by a dataset.toml."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data import class_folders, options, toml
from fastscnn.data.builtin import camvid, camvid_colours, cityscapes, dada, eventscape, pst900
from fastscnn.data.class_folders import ClassFolders
from fastscnn.data.spec import DatasetSpec, Pair, Split

__all__ = ["ClassFolders", "DatasetSpec", "Pair", "Split", "load", "load_any"]


@dataclass(frozen=True)
class _BuiltIn:
    """A built-in dataset.

    Attributes:
        make: makes it from its root and the values of its options.
        options: option -> its values; an empty collection stands for a whole number.
    """

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


def load(data: str | PathLike[str] | DatasetSpec) -> DatasetSpec:
    """Load the description of a dataset. Image and label files are not read yet.

    Args:
        data: one of
            - "NAME:ROOT", a built-in dataset and its folder: camvid, camvid-colours, cityscapes, cityscapes-coarse, dada,
              eventscape, pst900 or pst900-rgbt. Options follow the root, as in "eventscape:ROOT?every=30", and become part of
              the dataset's name.
            - the path of a dataset.toml, or of its folder. The module `data.toml` describes the file.
            - a `DatasetSpec`, which is returned as it is.
            `~` is expanded in paths.

    Raises:
        FastSCNNError: unknown dataset or option, missing folder or file, an invalid dataset.toml, or a dataset with a class
            per image instead of per pixel.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import fastscnn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "dataset.toml").write_text('''
        ...         name = "facade"
        ...         classes = ["building", "car"]
        ...         [splits.val]
        ...         images = "images/*.png"
        ...         labels = "labels/{stem}.png"
        ...     ''')
        ...     spec = fastscnn.load_dataset(folder)
        >>> spec.name, spec.label_set.names, list(spec.splits)
        ('facade', ('building', 'car'), ['val'])
    """
    if isinstance(data, DatasetSpec):
        return data
    found = load_any(data)
    if isinstance(found, ClassFolders):
        raise FastSCNNError(f"{data}: has a class for each image, not for each pixel; use it with `fastscnn train imagenet`, "
                            "`fastscnn check` and `fastscnn evaluate`.")
    return found


def load_any(data: str | PathLike[str]) -> DatasetSpec | ClassFolders:
    """Load the description of a dataset like `load`, or of class folders: "imagenet:ROOT"."""
    found = _loaded(data)
    return found if isinstance(found, ClassFolders) else replace(found, source=fspath(data))


def _loaded(data: str | PathLike[str]) -> DatasetSpec | ClassFolders:
    path = files.expand(data)
    if path.suffix == ".toml":
        return toml.spec(path)
    if files.is_file(path / "dataset.toml"):
        return toml.spec(path / "dataset.toml")
    name, separator, place = fspath(data).partition(":")
    if not separator and files.is_folder(path):
        raise FastSCNNError(f"{fspath(data)!r} is not a dataset: it has no dataset.toml; `fastscnn dataset init` writes one. "
                            "Built-in datasets are NAME:ROOT, such as camvid:ROOT.")
    if not separator:
        raise FastSCNNError(f"{fspath(data)!r} is not a dataset: give NAME:ROOT, such as camvid:ROOT, "
                            "or the path of a dataset.toml.")
    if name not in _BUILT_IN:
        raise unknown("dataset", name, _BUILT_IN)
    root, asked, given = place.rpartition("?") if "?" in place and not files.is_folder(files.expand(place)) else (place, "", "")
    values = options.parse(name, given, _BUILT_IN[name].options) if asked else {}
    folder = files.expand(root)
    if not files.is_folder(folder):
        raise FastSCNNError(f"{root}: no such folder (the root of the dataset {name!r}).")
    made = _BUILT_IN[name].make(folder, values)
    suffix = "&".join(f"{key}={values[key]}" for key in sorted(values))
    return replace(made, name=f"{name}?{suffix}") if suffix else made
