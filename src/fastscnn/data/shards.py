"""Shards: a dataset as a few tar files in place of many small ones.

A shard has the WebDataset format: the files of a sample have one key, the name up to its first dot, and follow each other.

```text
OUT/dataset.toml
OUT/train/000000.tar   00000000-street.image.jpg 00000000-street.labels.png 00000001-square.image.jpg ...
OUT/train/000001.tar   ...
```
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType

import numpy as np

from fastscnn.base import archives, files
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data import datasets, toml_text
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.soft import SoftClasses
from fastscnn.media import png
from fastscnn.model.label_set import IGNORE_NAME

_NAME = 60  # characters of a file name that a key keeps
_LABELS, _THERMAL, _SOFT = "labels.png", "thermal.png", "soft.npz"  # what follows a key and a dot; of an image: image.jpg


def write_shards(
    data: str | PathLike[str] | DatasetSpec,
    out: str | PathLike[str],
    split: str | None = None,
    *,
    megabytes: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a dataset as tar shards of the WebDataset format, and the dataset.toml that describes them.

    Image files are copied as they are; of a dataset with crop or windows, each part becomes a PNG. Labels of any format become
    PNG files of train ids, 255 where a pixel is ignored. The order is that of the dataset, so a training takes the same steps.
    Files of instances are left out. The folder appears when it is complete.

    Args:
        data: "camvid:ROOT" or another built-in dataset, a dataset.toml or its folder, or a `DatasetSpec`.
        out: the folder, which must not exist.
        split: a split, or several joined by `+`; None takes all whose labels are public.
        megabytes: a shard has at most so many 10^6 bytes; a larger sample gets a shard of its own.
        on_progress: called with (samples done, all samples) after each sample.

    Returns:
        The path of the dataset.toml.

    Raises:
        FastSCNNError: an unknown dataset or split, a file that cannot be read, `out` exists or cannot be written.
        ArgumentError: `megabytes` below 1. It is also a ValueError.

    Examples:
        >>> import fastscnn
        >>> fastscnn.write_shards("data", "shards", "val").as_posix()
        'shards/dataset.toml'
        >>> spec = fastscnn.load_dataset("shards")
        >>> spec.pairs("val")[0].image.as_posix()
        'shards/val/000000.tar/00000000-6.image.png'
    """
    if megabytes < 1:
        raise ArgumentError(f"megabytes: must be at least 1, not {megabytes}.")
    spec, folder = datasets.load(data), files.expand(out)
    pairs = {name: spec.pairs(name) for name in _splits(spec, split)}
    places = {name: _plain(name) for name in pairs}
    if len(set(places.values())) < len(places):
        raise FastSCNNError(f"{spec.source or spec.root}: the names of its splits are too much alike for folders "
                            f"({', '.join(places)}); rename them, or write one at a time.")
    done, total = 0, sum(map(len, pairs.values()))
    kinds: dict[str, set[str]] = {name: set() for name in pairs}  # of image files, such as "image.jpg"
    with _new_folder(folder) as made:
        for name, place in places.items():
            with _Writer(made / place, megabytes * 10**6) as writer:
                for number, pair in enumerate(pairs[name]):
                    image, others = _sample(spec, pair)
                    kinds[name].update(image)
                    writer.add(f"{number:08}-{_plain(pair.image.stem)}", {**image, **others})
                    done += 1
                    if on_progress:
                        on_progress(done, total)
        files.write(made / "dataset.toml", _toml(spec, places, kinds).encode())
    return folder / "dataset.toml"


def _splits(spec: DatasetSpec, split: str | None) -> list[str]:
    """Return the splits to write."""
    if split is not None:
        return list(dict.fromkeys(split.split("+")))
    found = [name for name, place in spec.splits.items() if not place.labels_unavailable and spec.image_files(name)]
    if not found:
        raise FastSCNNError(f"{spec.root}: {spec.name} has no images with labels; `fastscnn check` says what it looks for.")
    return found


def _plain(name: str) -> str:
    """Return a name without characters that mean something in a key, a glob pattern or a path."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:_NAME]


def _sample(spec: DatasetSpec, pair: Pair) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of a pair by what follows the key: the image, and the others. They are decoded once, to find errors."""
    pixels, labels = spec.read(pair)
    if pair.box is None and spec.crop is None:
        image = {f"image{pair.image.suffix.lower()}": archives.read(pair.image)}
    else:
        image = {"image.png": png.encoded(np.ascontiguousarray(pixels[:, :, :3]))}
    others = {_LABELS: png.encoded(labels)}
    if pixels.shape[2] > 3:
        others[_THERMAL] = png.encoded(pixels[:, :, 3])
    if pair.soft is not None and spec.read_soft(pair, (labels.shape[0], labels.shape[1])) is not None:
        others[_SOFT] = archives.read(pair.soft)
    return image, others


class _Writer:
    """Writes samples into the shards of a new folder, `000000.tar` and so on."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._shards = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> _Writer:
        self._folder.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish()

    def add(self, key: str, sample: Mapping[str, bytes]) -> None:
        """Write the files of a sample one after the other."""
        size = sum(tarfile.BLOCKSIZE + len(content) + -len(content) % tarfile.BLOCKSIZE for content in sample.values())
        if self._tar is not None and self._tar.offset + size > self._limit:
            self._finish()
        if self._tar is None:
            self._tar = tarfile.TarFile(self._folder / f"{self._shards:06}.tar", "x", format=tarfile.USTAR_FORMAT)
            self._shards += 1
        for kind, content in sample.items():
            entry = tarfile.TarInfo(f"{key}.{kind}")  # without a time: equal samples give equal shards
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))

    def _finish(self) -> None:
        """End a shard, and wait until the disk has it."""
        if self._tar is None:
            return
        self._tar.close()
        with Path(str(self._tar.name)).open("rb") as written:
            os.fsync(written.fileno())
        self._tar = None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder`, which becomes `folder` afterwards. After an error, it is removed."""
    if os.path.lexists(folder):
        raise FastSCNNError(f"{folder}: exists already; choose another --out, or remove it.")
    made = files.part(folder)
    try:
        made.mkdir(parents=True)
        yield made
        made.rename(folder)
    except OSError as error:
        raise FastSCNNError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _toml(spec: DatasetSpec, places: Mapping[str, str], kinds: Mapping[str, set[str]]) -> str:
    """Return the dataset.toml of the shards.

    Args:
        spec: the dataset.
        places: split -> its folder.
        kinds: split -> what follows the keys of its images.
    """
    lines = ["# Written by `fastscnn dataset shards`: tar files of the WebDataset format."]
    lines += [f"name = {toml_text.value(spec.name)}"]
    lines += toml_text.array("classes", spec.label_set.names)
    lines += toml_text.array("colours", [list(colour) for colour in spec.label_set.colours])
    lines += [f"terms = {toml_text.value(spec.terms)}"]
    for name, place in places.items():
        beside = {"labels": _LABELS}
        if spec.split(name).extra_channels:
            beside["thermal"] = _THERMAL
        if spec.split(name).soft:
            beside["soft"] = _SOFT
        lines += ["", f"[splits.{toml_text.key(name)}]"]
        lines += toml_text.array("images", [f"{place}/*.tar/*.{kind}" for kind in sorted(kinds[name])])
        lines += [f'{key} = "{place}/{{1}}.tar/{{2}}.{kind}"' for key, kind in beside.items()]
    if spec.soft and any(spec.split(name).soft for name in places):
        lines += _soft(spec.soft, spec.label_set.names)
    return "\n".join(lines) + "\n"


def _soft(soft: SoftClasses, names: tuple[str, ...]) -> list[str]:
    lines = ["", "[soft]", *toml_text.array("classes", soft.classes)]
    if soft.terms:
        lines.append(f"terms = {toml_text.value(soft.terms)}")
    targets = [*names, *[IGNORE_NAME] * 256]
    return [*lines, "", "[soft.map]", *(f"{toml_text.key(name)} = {toml_text.value(targets[target])}"
                                        for name, target in zip(soft.classes, soft.train_ids, strict=True))]
