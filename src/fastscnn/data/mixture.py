"""Mixture: several datasets that are trained on together, with the classes of the first one.

A mixture is a list of datasets, or a file that also says what the classes of each further dataset are, and how often it is
sampled:

```toml
[[datasets]]
data = "camvid:/data/camvid"   # the classes of the first dataset are trained
split = "train"                # optional: the training split; the default is that of the training, --split
weight = 1.0                   # optional, in all datasets or in none: how often crops come from this dataset, relative to the
                               # others; the default is the number of its images
[[datasets]]
data = "facade/dataset.toml"   # paths are relative to the folder of this file
weight = 0.5
[datasets.map]                 # its class -> class of the first dataset, or "ignore"; classes of equal names need no line
door = "Building"
window = "Building"
vegetation = "Tree"
```

A class of the first dataset to which no class of another one is mapped is not annotated there. Training and evaluation do not
count it as absent from those images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from fastscnn.base import files
from fastscnn.base.arguments import is_number
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import BoolArray, Float32Array, Int64Array, UInt8Array
from fastscnn.data import class_map, datasets
from fastscnn.data.datasets import ClassFolders, DatasetSpec, Pair
from fastscnn.data.soft import SoftClasses
from fastscnn.data.toml_table import MIXTURE_KEY, Table
from fastscnn.model.label_set import IGNORE_INDEX, IGNORE_NAME, LabelSet

_KEYS = ("data", "split", "weight", "map")


@dataclass(frozen=True)
class Source:
    """A dataset to put into a mixture. The fields are the keys of a mixture file.

    Attributes:
        data: "NAME:ROOT", a dataset.toml or its folder, or a `DatasetSpec`.
        split: the training split, or several joined by `+`; None is the default of the training.
        weight: how often crops come from this dataset, relative to the others; None is its number of images.
        map: class of this dataset -> class of the first dataset, or "ignore". Classes of equal names, without regard to case,
            need no entry.
    """

    data: str | PathLike[str] | DatasetSpec
    split: str | None = None
    weight: float | None = None
    map: Mapping[str, str] = field(default_factory=dict)


SourceLike = str | PathLike[str] | DatasetSpec | Source


@dataclass(frozen=True)
class Member:
    """A dataset of a mixture, read with the classes of the first dataset.

    Attributes:
        spec: the dataset.
        label_set: the classes of the first dataset, which are trained.
        train_ids: for each class of `spec`, the index of its class in `label_set`, or 255: ignored.
        split: the training split; None is the default of the training.
        weight: how often it is sampled, relative to the others; None is its number of images.
    """

    spec: DatasetSpec
    label_set: LabelSet
    train_ids: tuple[int, ...]
    split: str | None = None
    weight: float | None = None

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.spec.name

    @property
    def mapped(self) -> bool:
        """Whether `label_set` differs from the dataset's own classes."""
        own = tuple(range(len(self.label_set)))
        return self.train_ids != own or self.label_set.names != self.spec.label_set.names

    @property
    def annotated(self) -> BoolArray:
        """Of each class of `label_set`, whether the labels contain it: bool [classes]."""
        return np.isin(np.arange(len(self.label_set)), self.train_ids)

    @property
    def not_annotated(self) -> tuple[str, ...]:
        """Names of the classes of `label_set` that the labels do not contain."""
        return tuple(name for name, known in zip(self.label_set.names, self.annotated, strict=True) if not known)

    @property
    def class_map(self) -> dict[str, str]:
        """Class of the dataset -> class of `label_set`, or "ignore"."""
        names, own = dict(enumerate(self.label_set.names)), self.spec.label_set.names
        return {name: names.get(index, IGNORE_NAME) for name, index in zip(own, self.train_ids, strict=True)}

    def read(self, pair: Pair) -> tuple[UInt8Array, UInt8Array]:
        """Read a pair like `DatasetSpec.read`, with the train ids of `label_set`."""
        image, labels = self.spec.read(pair)
        if not self.mapped:
            return image, labels
        table = np.full(256, IGNORE_INDEX, np.uint8)
        table[: len(self.train_ids)] = self.train_ids
        return image, table[labels]

    def counts(self, pixels: Sequence[int] | Int64Array) -> Int64Array:
        """Return the pixels of each class of `label_set`, int64 [classes], from those of each class of the dataset."""
        totals = np.zeros(IGNORE_INDEX + 1, np.int64)
        np.add.at(totals, list(self.train_ids), pixels)
        return totals[: len(self.label_set)]


@dataclass(frozen=True)
class Mixture:
    """Datasets that are used together; the first one decides the classes.

    Attributes:
        members: the datasets, at least one.
    """

    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """The names of the datasets, joined by `+`."""
        return "+".join(member.name for member in self.members)

    @property
    def first(self) -> DatasetSpec:
        """The dataset whose classes are trained."""
        return self.members[0].spec

    def shares(self, images: Sequence[int]) -> tuple[float, ...]:
        """Return the fraction of the crops that come from each dataset, from its number of training images."""
        weights = [member.weight or count for member, count in zip(self.members, images, strict=True)]
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def soft(self) -> SoftClasses | None:
        """What the soft labels of the first dataset with any mean; None if no dataset has any."""
        return next((member.spec.soft for member in self.members if member.spec.soft), None)

    @property
    def soft_to_classes(self) -> Float32Array | None:
        """The matrix float32 [soft classes, classes] that sums soft labels into the trained classes; None without soft labels.

        It is that of the first dataset with soft labels, also for the soft labels of the others.
        """
        for member in self.members:
            if member.spec.soft:
                return member.spec.soft.to_classes(member.train_ids, len(member.label_set))
        return None

    @property
    def weighted(self) -> bool:
        """Whether weights are given; otherwise each image is seen equally often."""
        return self.members[0].weight is not None


def load(data: SourceLike | Mixture | Sequence[SourceLike]) -> Mixture:
    """Load one or several datasets. Image and label files are not read yet.

    Args:
        data: a dataset, several, or the path of a mixture file. In Python, a `Source` adds a class map, a split or a weight.

    Raises:
        FastSCNNError: a dataset that cannot be loaded, an invalid mixture file, a class that maps to no class of the first
            dataset, or datasets whose images have different channels.
    """
    if isinstance(data, Mixture):
        return data
    given = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if not given:
        raise ArgumentError("data: give at least one dataset.")
    for each in given:
        if (table := _mixture_table(each)) is None:
            continue
        if len(given) > 1:
            raise ArgumentError(f"{each}: is a mixture of datasets; give it alone, and add the other datasets to the file.")
        sources = _sources(table)
        try:
            return _combined(sources)
        except FastSCNNError as error:
            raise FastSCNNError(f"{table.path}: {error}") from error
    return _combined([each if isinstance(each, Source) else Source(each) for each in given])


def load_each(data: Sequence[str]) -> list[DatasetSpec | ClassFolders]:
    """Load datasets, or those of a mixture file, each for itself: without class maps unless the file has them."""
    if any(_mixture_table(each) is not None for each in data):
        return [member.spec for member in load(data).members]
    return [datasets.load_any(each) for each in data]


def load_any(data: SourceLike | ClassFolders | Mixture | Sequence[SourceLike]) -> Mixture | ClassFolders:
    """Load like `load`, or class folders: "imagenet:ROOT". Only a single dataset may have class folders."""
    if isinstance(data, ClassFolders):
        return data
    single = data[0] if isinstance(data, Sequence) and not isinstance(data, str) and len(data) == 1 else data
    if isinstance(single, str | PathLike) and _mixture_table(single) is None:
        found = datasets.load_any(single)
        return found if isinstance(found, ClassFolders) else load(found)
    return load(data)


def _mixture_table(data: SourceLike) -> Table | None:
    """Return the content of a mixture file; None for anything else, and for files that `datasets.load` then reports."""
    if not isinstance(data, str | PathLike) or (path := files.expand(data)).suffix != ".toml":
        return None
    try:
        table = Table.load(path)
    except FastSCNNError:
        return None
    return table if MIXTURE_KEY in table else None


def _sources(table: Table) -> list[Source]:
    """Return the datasets of a mixture file."""
    table.only((MIXTURE_KEY,))
    entries = table.value(MIXTURE_KEY)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise table.error(MIXTURE_KEY, "must be tables; begin each with [[datasets]].")
    return [_source(Table(table.path, entry, f"datasets.{number}")) for number, entry in enumerate(entries, start=1)]


def _source(entry: Table) -> Source:
    entry.only(_KEYS)
    named = entry.table("map", 'class names, such as door = "Building"') if "map" in entry else None
    classes = {key: named.text(key) for key in named} if named else {}
    split = entry.text("split") if "split" in entry else None
    return Source(_beside(entry.path.parent, entry.text("data")), split, entry.value("weight", None), classes)


def _beside(folder: Path, data: str) -> str:
    """Return the dataset `data` with its path relative to the folder of the mixture file."""
    path = folder / files.expand(data)
    name, colon, root = data.partition(":")
    if not colon or path.suffix == ".toml" or files.is_folder(path):
        return fspath(path)
    return f"{name}:{folder / files.expand(root)}"


def _combined(sources: Sequence[Source]) -> Mixture:
    specs = [datasets.load(source.data) for source in sources]
    first = specs[0]
    if sources[0].map:
        raise FastSCNNError(f"{first.name}: is the first dataset, whose classes are trained; remove its map.")
    members: list[Member] = []
    for spec, source in zip(specs, sources, strict=True):
        if spec.channels != first.channels:
            raise FastSCNNError(f"{spec.name}: has images of {spec.channels} channels, but {first.name} of {first.channels}; "
                                "use datasets with the same channels.")
        train_ids = class_map.train_ids(spec, first, source.map) if members else tuple(range(len(first.label_set)))
        members.append(Member(spec, first.label_set, train_ids, source.split, _weight(spec, source)))
    softened = [member for member in members if member.spec.soft]
    for member in softened[1:]:
        if (theirs := member.spec.soft) and (ours := softened[0].spec.soft) and theirs.classes != ours.classes:
            raise FastSCNNError(f"{member.name}: its soft labels have other classes than those of {softened[0].name}; make "
                                "both with the same network.")
    unweighted = [member.name for member in members if member.weight is None]
    if 0 < len(unweighted) < len(members):
        raise FastSCNNError(f"{unweighted[0]}: has no weight, but other datasets have one; give weights to all or to none.")
    return Mixture(tuple(members))


def _weight(spec: DatasetSpec, source: Source) -> float | None:
    weight = source.weight
    if weight is None:
        return None
    if not is_number(weight) or weight <= 0:
        raise FastSCNNError(f"{spec.name}: weight is {weight!r}; it must be a number above 0.")
    return float(weight)
