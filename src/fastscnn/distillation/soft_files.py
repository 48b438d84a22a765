"""Files of soft labels: their names, their content, and the lines of a dataset.toml that name them."""

from __future__ import annotations

import io
import json
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.class_map import soft_train_ids
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.patterns import beside, matching
from fastscnn.data.spec import relative
from fastscnn.distillation.teacher import Teacher

_STEM = "{stem}.npz"
_WILD = re.compile(r"\*\*/|\*")  # as in data.patterns: what {1}, {2} ... stand for
IMAGE = "image_sha256"  # in the settings of a file


@dataclass(frozen=True)
class Target:
    """An image, and the file of its soft labels.

    Attributes:
        split: the split of the image.
    """

    split: str
    image: Path
    file: Path


def targets(spec: DatasetSpec, splits: Sequence[str], out: Path) -> tuple[list[Target], dict[str, str]]:
    """Return the images of some splits with their files in `out`, and the pattern of the files of each split.

    A file has the stem of its image. If two images of the dataset have the same one, the folders of the images are kept.

    Raises:
        FastSCNNError: two images that would have the same file.
    """
    found = {split: [(image, relative(spec.root, image)) for image in spec.image_files(split)] for split in spec.splits}
    stems: dict[str, str] = {}
    unique = all(stems.setdefault(Path(name).stem.casefold(), name) == name for pairs in found.values() for _, name in pairs)
    patterns = {split: _STEM if unique else _with_folders(spec.split(split).patterns) for split in splits}
    made: dict[str, Target] = {}
    for split in splits:
        for image, name in found[split]:
            file = out / beside(matching(spec.split(split).patterns, name), name, patterns[split])
            first = made.setdefault(str(file).casefold(), Target(split, image, file))
            if first.image != image:
                raise FastSCNNError(f"{image}: would have the same soft-label file as {first.image}, {file}; rename one.")
    return list(made.values()), patterns


def _with_folders(patterns: Sequence[str]) -> str:
    """Return the pattern of soft labels in the folders that the first glob of images names."""
    if not patterns or re.search(r"[?\[]", patterns[0]):  # these wildcards have no placeholder
        return _STEM
    numbers = count(1)
    path = PurePosixPath(_WILD.sub(lambda _: f"{{{next(numbers)}}}", patterns[0]))
    return PurePosixPath(*(part for part in path.parts if part != "..")).with_suffix(".npz").as_posix()


def write(path: Path, soft: UInt8Array, teacher: Teacher, image_sha256: str) -> None:
    """Write the soft labels of an image, atomically. Raises FastSCNNError if the file cannot be written."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=soft,
        classes=np.array(teacher.classes),
        source=np.array(teacher.source),
        terms=np.array(teacher.terms),
        settings=np.array(json.dumps({**teacher.settings, IMAGE: image_sha256})),
    )
    files.write(path, content.getvalue())


def check_existing(target: Target, teacher: Teacher, image_sha256: str) -> None:
    """Check that an existing file is what would be written.

    Raises:
        FastSCNNError: it is no file of soft labels, or was made by another network, with other settings, or of another image.
    """
    source, settings, classes = _made_by(target.file)
    fix = "choose another --out, or delete the old files"
    if source != teacher.source:
        raise FastSCNNError(f"{target.file}: was made by {source}, not by {teacher.source}; {fix}.")
    if classes != teacher.classes:
        raise FastSCNNError(f"{target.file}: was made with the classes {', '.join(classes)}, not {', '.join(teacher.classes)}; "
                            f"{fix}.")
    if (image := settings.pop(IMAGE, "")) != image_sha256:
        raise FastSCNNError(f"{target.file}: was made of another image than {target.image} (sha256 {image}); {fix}.")
    for key in {**settings, **teacher.settings}:
        theirs, ours = settings.get(key), teacher.settings.get(key)
        if theirs != ours:
            raise FastSCNNError(f"{target.file}: was made with {key} = {json.dumps(theirs)}, not {json.dumps(ours)}; {fix}.")


def _made_by(path: Path) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Return the source, the settings and the classes in a file."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            source, settings = str(stored["source"]), json.loads(str(stored["settings"]))
            classes = tuple(map(str, stored["classes"].tolist()))
    except Exception:  # any error of the readers of zip files, arrays and JSON
        source, settings, classes = "", None, ()
    if isinstance(settings, dict):
        return source, settings, classes
    raise FastSCNNError(f"{path}: is no soft-label file of `fastscnn soft-labels`, or is damaged; choose another --out, or "
                        "delete it.")


def toml_lines(spec: DatasetSpec, teacher: Teacher, out: Path, patterns: Mapping[str, str]) -> str:
    """Return the lines to add to a dataset.toml: `soft` of each split, and [soft] for other classes or terms.

    Classes of equal names, without regard to case, are mapped; the others are left open in comments.

    Raises:
        FastSCNNError: `out` is on another drive than the dataset.
    """
    try:
        folder = Path(os.path.relpath(out, spec.root)).as_posix()
    except ValueError:
        raise FastSCNNError(f"{out}: must be on the drive of the dataset, {spec.root}, since dataset.toml needs a relative "
                            "path.") from None
    lines = []
    for split, pattern in patterns.items():
        lines += [f"# Add to [splits.{_key(split)}]:", f"soft = {_quoted((PurePosixPath(folder) / pattern).as_posix())}"]
    same = teacher.classes == spec.label_set.names
    if not same or teacher.terms != spec.terms:
        lines += ["[soft]", f"terms = {_quoted(teacher.terms)}"]
    if not same:
        ours = dict(enumerate(spec.label_set.names))
        lines += [f"classes = [{', '.join(map(_quoted, teacher.classes))}]", "[soft.map]"]
        for name, train_id in zip(teacher.classes, soft_train_ids(teacher.classes, {}, spec.label_set.names), strict=True):
            open_ = f'# {_key(name)} = "..."  # a class of {spec.name}, or "ignore"'
            lines += [f"{_key(name)} = {_quoted(ours[train_id])}" if train_id in ours else open_]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)
