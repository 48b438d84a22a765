"""Write the dataset.toml of a folder from what lies in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from fastscnn.base import files
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets, toml
from fastscnn.data.init import builtin, contact_sheet, masks, shapes
from fastscnn.data.init.causes import causes
from fastscnn.data.init.guess import Guess
from fastscnn.data.init.survey import OURS, Survey, survey
from fastscnn.data.init.values import WINDOW, has_transparent_parts, spread
from fastscnn.data.patterns import captured
from fastscnn.data.spec import DatasetSpec
from fastscnn.media import images, windows

_RECOGNISERS = (builtin.guess, shapes.guess_panoptic, masks.guess_of_lists, masks.guess, shapes.guess)
_SAMPLE = 24  # pairs of each split that are read before a guess is offered


@dataclass(frozen=True)
class Initialised:
    """Result of `init_dataset`.

    Attributes:
        layout: what was recognised.
        dataset: what other functions take as the dataset: the path of the dataset.toml, or "NAME:ROOT" of a built-in dataset.
        toml: content of the dataset.toml; "" for a built-in dataset.
        contact_sheet: image of some images beside their labels as read; None for a built-in dataset.
        lists: the lists of images that were written beside the dataset.toml.
        images: split -> number of images with labels.
        classes: class names.
        labels_are: the format of the label files; "" for a built-in dataset.
        guessed: sentences about what was guessed.
        left_open: sentences about what is left open; dataset.toml marks them with TODO.
    """

    layout: str
    dataset: str
    toml: str
    contact_sheet: Path | None
    lists: tuple[Path, ...]
    images: Mapping[str, int]
    classes: tuple[str, ...]
    labels_are: str
    guessed: tuple[str, ...]
    left_open: tuple[str, ...]

    def to_json(self) -> str:
        """Return the result as one JSON object."""
        return json.dumps(vars(self), default=str)


def init_dataset(
    folder: str | PathLike[str], *, force: bool = False, progress: Callable[[int, int], None] | None = None
) -> Initialised:
    """Write a dataset.toml for the images and labels in a folder, as guessed from the files.

    It contains comments on what was guessed, and TODO where something is left open. Beside it are a contact sheet, which shows
    some images and their labels as read, and lists of images where patterns cannot name them.

    Args:
        folder: the folder; its files are read only.
        force: whether to overwrite a dataset.toml.
        progress: called with (files done, all files) while files are read; each step of the work begins anew.

    Raises:
        FastSCNNError: no such folder, a dataset.toml without `force`, no images, no labels that can be read, two kinds of
            labels that are equally likely, or a file name with a line break or in another encoding than UTF-8.
    """
    root = files.expand(folder)
    if not root.is_dir():
        raise FastSCNNError(f"{root}: no such folder.")
    path = root / f"{OURS}.toml"
    if path.exists() and not force:
        raise FastSCNNError(f"{path}: exists already; add --force to overwrite it.")
    found = survey(root, progress)
    rejected: list[str] = []
    for recognise in _RECOGNISERS:
        try:
            guess = recognise(found)
            if guess:
                not_used = (f"Not used: {said.replace(f'{root}/', '')}" for said in rejected)
                guess = replace(guess, guessed=(*guess.guessed, *not_used))
                return _builtin(guess) if guess.builtin else _written(guess, path, found)
        except FastSCNNError as error:
            if recognise is shapes.guess_panoptic:
                raise  # the next ones would take the colours of its PNGs for classes
            rejected.append(str(error))
    raise _nothing(found, rejected)


def _nothing(found: Survey, rejected: list[str]) -> FastSCNNError:
    """Return the error about a folder in which no dataset is recognised."""
    if rejected:
        return FastSCNNError(rejected[0] if str(found.root) in rejected[0] else f"{found.root}: {rejected[0]}")
    pictures = found.of(*images.SUFFIXES)
    if not pictures:
        what = f"contains no images ({', '.join(sorted(images.SUFFIXES))})" if found.files else "is empty"
    elif any(has_transparent_parts(found.root / path) for path in spread(pictures, 5)):
        return FastSCNNError(f"{found.root}: contains no labels that belong to its images; seen: {found.summary()}. Some have "
                             "transparent parts; if these are the masks, put the original images into a folder named images, "
                             "and these files into a folder named masks.")
    else:
        what = "contains no labels that belong to its images"
    fix = " ".join(causes(found)) if pictures else ""
    return FastSCNNError(f"{found.root}: {what}; seen: {found.summary()}. " + (fix or (
        "Put label files with the names of their images into a folder named labels, or write dataset.toml by hand.")))


def _builtin(guess: Guess) -> Initialised:
    spec = datasets.load(guess.builtin)
    counts = {split: len(spec.image_files(split)) for split, place in spec.splits.items() if not place.labels_unavailable}
    said = f"{guess.builtin} reads this folder as it is; it needs no dataset.toml."
    return Initialised(guess.layout, guess.builtin, "", None, (), counts, spec.label_set.names, "", (said,), ())


def _written(guess: Guess, path: Path, found: Survey) -> Initialised:
    """Write a guess that loads, and whose label files can be read."""
    root = path.parent
    name = root.resolve().name.encode(errors="replace").decode() or OURS
    lists = {root / file: text for file, text in guess.lists.items()}
    _check_free(root, guess.lists, found.own)
    sheet = _sheet_name(root, guess, found.own)
    before = {file: file.read_bytes() for file in lists if file.exists()}
    trial = files.part(path).with_suffix(".toml")
    try:
        for file, text in lists.items():
            files.write(file, text.encode())
        files.write(trial, guess.toml(name).encode())
        spec = toml.spec(trial)
        if any(windows.large_size(image) for split in spec.splits for image in spec.image_files(split)):
            said = (f"Some images have over {MAX_PIXELS // 1_000_000} megapixels: each image is divided into windows of at "
                    f"most {hxw(WINDOW)} pixels (HxW).")
            guess = replace(guess, window=WINDOW, guessed=(*guess.guessed, said))
            files.write(trial, guess.toml(name).encode())
            spec = toml.spec(trial)
        shown, problems = _tried(spec, found)
    except FastSCNNError as error:
        for file in lists:
            with contextlib.suppress(OSError):
                file.unlink()
            if file in before:
                files.write(file, before[file])
        raise FastSCNNError(str(error).replace(str(trial), str(path))) from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()
    guess = replace(guess, left_open=(*guess.left_open, *problems))
    text = guess.toml(name, [sheet, *guess.lists])
    files.write(path, text.encode())
    images.write(root / sheet, contact_sheet.draw(spec, shown))
    classes = guess.classes
    assert classes is not None
    return Initialised(
        guess.layout, str(path), text, root / sheet, tuple(lists),
        {split: len(spec.image_files(split)) for split in spec.splits},
        classes.names, classes.labels_are, (*guess.guessed, *classes.guessed), (*classes.left_open, *guess.left_open),
    )  # fmt: skip


def _tried(spec: DatasetSpec, found: Survey) -> tuple[list[tuple[UInt8Array, UInt8Array]], list[str]]:
    """Read a sample of the pairs; return some of them, and the problems of others.

    Raises:
        FastSCNNError: a label file is missing, or no pair can be read.
    """
    pairs = [pair for split in spec.splits for pair in spread(spec.pairs(split), _SAMPLE)]
    show = set(spread(pairs, contact_sheet.SHOWN))
    shown, problems = [], []
    for pair in found.tracked(pairs):
        try:
            read = spec.read(pair)
        except FastSCNNError as error:
            problems.append(str(error))
        else:
            if pair in show:
                shown.append(read)
    if not shown:
        raise FastSCNNError(problems[0])
    if problems:
        problems = [f"{len(problems)} of {len(pairs)} pairs that were tried cannot be used; the first: {problems[0]}"]
    return shown, problems


def _check_free(root: Path, names: Iterable[str], own: Collection[str]) -> None:
    """Refuse to overwrite files that `dataset init` did not write."""
    for name in names:
        if name not in own and (root / name).exists():
            raise FastSCNNError(f"{root / name}: exists already, and the list of the images would have this name; rename it.")


def _sheet_name(root: Path, guess: Guess, own: Collection[str]) -> str:
    """Return a name for the contact sheet that is no image of the dataset itself, and no other file."""
    globs = [glob for place in guess.splits.values() for glob in place.images]
    names = [f"{OURS}.jpg", f"{OURS}.png", *(f"{OURS}-sheet/{number}.jpg" for number in range(1000))]
    free = (name for name in names if name in own or not (root / name).exists())
    return next(name for name in free if not any(captured(glob, name) is not None for glob in globs))
