"""Problems that no file shows alone: found by comparing the facts of all files of a dataset."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fastscnn.data.check.facts import Facts
from fastscnn.data.check.findings import Finding, Severity
from fastscnn.data.formats.ids import IdLabels
from fastscnn.data.scaled_ids import step_of
from fastscnn.data.spec import DatasetSpec, Pair
from fastscnn.model.label_set import IGNORE_INDEX

Read = list[tuple[Pair, Facts]]
Found = Mapping[str, Read]  # split -> its pairs
_MOST = 0.5  # share of the pixels


def summed(spec: DatasetSpec, found: Read) -> tuple[int, ...]:
    """Return the pixels of each class."""
    columns = zip(*(facts.pixels for _, facts in found), strict=True)
    return tuple(map(sum, columns)) if found else (0,) * len(spec.label_set)


def about_classes(spec: DatasetSpec, split: str, found: Found) -> Iterator[Finding]:
    """Yield classes that a split lacks, and a split of one class."""
    pixels = summed(spec, found[split])
    there = [name for name, count in zip(spec.label_set.names, pixels, strict=True) if count]
    if len(there) == 1 and not any(facts.unknown or facts.names for _, facts in found[split]):
        yield _one_class(spec, split, there[0], found[split])
        return
    for index, name in enumerate(spec.label_set.names):
        if "train" in split and there and not pixels[index]:
            message = f"{spec.root}: no pixel of the split {split!r} is {name!r}{_elsewhere(found, index)}."
            fix = "Add images with this class, or expect the network not to learn it."
            if not index and spec.label_set.names[-1] in there and _begins_with_one(spec, found):
                fix = "Add images with this class; if the ids of the classes begin with 1, set ignore = 0 in dataset.toml."
            yield Finding("warning", split, spec.root, "absent-class", message, fix)


def _one_class(spec: DatasetSpec, split: str, name: str, found: Read) -> Finding:
    values = {value for _, facts in found for value in facts.values}
    message = (f"{spec.root}: every labelled pixel of the split {split!r} is {name!r}, so any network scores 100 % there "
               "and learns nothing.")
    fix = "Label the rest of the images as classes of their own, or as one class, such as \"background\"."
    if len(spec.label_set) == 1:
        fix = ('Add a class for the rest, such as classes = ["background", "road"], and do not ignore these pixels.')
    if values == {0, IGNORE_INDEX} and len(spec.label_set) <= 2:
        fix = 'If the files are masks of 0 and 255, set labels_are = "binary" and two classes in dataset.toml.'
    return Finding("warning", split, spec.root, "one-class", message, fix)


def _elsewhere(found: Found, index: int) -> str:
    """Return which other splits have a class."""
    counts = {split: sum(bool(facts.pixels[index]) for _, facts in pairs) for split, pairs in found.items()}
    named = [f"{count} image{'s' * (count != 1)} of {split!r}" for split, count in counts.items() if count]
    return f", but that of {' and '.join(named)}" if named else ""


def mixed_masks(spec: DatasetSpec, found: Found) -> Iterator[Finding]:
    """Yield masks of 0 and 255 beside masks of 0 and 1. Their 255 is ignored.

    255 that marks pixels to ignore lies beside 1 in some file, too.
    """
    whole: dict[tuple[str, Path], tuple[Pair, set[int]]] = {}  # the windows of a file together
    for split, pairs in found.items():
        for pair, facts in pairs:
            whole.setdefault((split, pair.labels), (pair, set()))[1].update(facts.values)
    files = [(split, pair, values) for (split, _), (pair, values) in whole.items()]
    ones = [pair for _, pair, values in files if 1 in values]
    ignored = isinstance(spec.labels, IdLabels) and spec.labels.mapping(spec.label_set).get(IGNORE_INDEX) == IGNORE_INDEX
    masks = len(spec.label_set) == 2 and all(values <= {0, 1, IGNORE_INDEX} for _, _, values in files)
    if not ignored or not ones or not masks or any({1, IGNORE_INDEX} <= values for _, _, values in files):
        return
    for split, pair, values in files:
        if values == {0, IGNORE_INDEX}:
            message = (f"{pair.labels}: holds 0 and 255, where {ones[0].labels} holds 0 and 1; "
                       "255 is ignored, and not a class.")
            yield Finding("warning", split, pair.labels, "mixed-masks", message,
                          'Set labels_are = "binary" in dataset.toml, which reads both kinds of masks.')


def palettes(found: Found) -> Iterator[Finding]:
    """Yield indexed files in which an index has another colour than in most files: indices may follow each file's palette."""
    files = [(split, pair, facts.palette) for split, pairs in found.items() for pair, facts in pairs]
    colours: dict[int, dict[str, tuple[int, Path]]] = defaultdict(dict)  # index -> colour -> number of files, the first
    indices: dict[str, set[int]] = defaultdict(set)  # of a colour, in files that have each colour once
    for _, pair, palette in files:
        once = len({colour for _, colour in palette}) == len(palette)
        for index, colour in palette:
            count, first = colours[index].get(colour, (0, pair.labels))
            colours[index][colour] = count + 1, first
            if once:
                indices[colour].add(index)
    usual = {index: max(of_index, key=lambda colour: of_index[colour][0]) for index, of_index in colours.items()}
    for split, pair, palette in files:
        for index, colour in palette:
            if colour == usual[index]:
                continue
            moved = any(len(indices[one]) > 1 for _, one in palette)
            other = colours[index][usual[index]][1]
            message = f"{pair.labels}: the index {index} has the colour {colour} in its palette, but {usual[index]} in {other}."
            yield Finding("error" if moved else "warning", split, pair.labels, "palettes-differ", message,
                          "Give the colours of the classes in dataset.toml, so that each file is decoded by its own palette.")
            break


def about_unknown(spec: DatasetSpec, found: Found) -> Iterator[Finding]:
    """Yield the splits in which most pixels are ignored because they are of no class."""
    for split, pairs in found.items() if spec.labels.lenient else ():
        share = _unknown(spec, pairs)
        if share > _MOST:
            what = spec.labels.unknown
            message = f"{spec.root}: {100 * share:.0f} % of the pixels of the split {split!r} have {what} of no class."
            fix = (f"Make sure that the classes, their {what} and labels_are in dataset.toml belong to these files, or set "
                   '"*" = "ignore" in [map].')
            yield Finding("warning", split, spec.root, "mostly-unknown", message, fix)


def _unknown(spec: DatasetSpec, pairs: Read) -> float:
    """Return the share of pixels of no class."""
    unknown = sum(facts.unknown for _, facts in pairs)
    ignored = sum(facts.ignored for _, facts in pairs) + (0 if spec.labels.lenient else unknown)
    return unknown / max(1, ignored + sum(summed(spec, pairs)))


def fix_of_ids(spec: DatasetSpec, found: Found) -> str:
    """Return the fix for ids of no class that the values of all files suggest; "" if they suggest none."""
    pairs = [one for of_split in found.values() for one in of_split]
    values = sorted({value for _, facts in pairs for value in facts.values})
    if values and values[-1] <= IGNORE_INDEX and _counts_from_zero(spec) and (fix := _fix_of_values(spec, values)):
        return fix
    if _unknown(spec, pairs) > _MOST:
        return ("Most pixels are of no class: make sure that the classes and labels_are in dataset.toml belong to these files, "
                "or map the ids in [map].")
    return ""


def _fix_of_values(spec: DatasetSpec, values: list[int]) -> str:
    """Return the fix for ids up to 255 of which some are no class, although they should be the positions of the classes."""
    names = spec.label_set.names
    used = [value for value in values if value != IGNORE_INDEX]
    for ids in (values, used):
        if not (step := step_of(ids, len(names))):
            continue
        listed = ", ".join(f"{value} = {json.dumps(names[round(value / step)])}" for value in ids)
        return f"The ids look scaled to be visible: map them in [map] of dataset.toml, such as {listed}."
    if max(used, default=0) != len(names):
        return ""
    if 0 in used:
        return ("There is one id more than classes: if 0 is no class and the others begin with 1, set ignore = 0 in "
                "dataset.toml; else add the missing class.")
    return "The ids begin with 1: set ignore = 0 in dataset.toml."


def _begins_with_one(spec: DatasetSpec, found: Found) -> bool:
    """Return whether ids that count the classes from 0 do not include 0."""
    used = {value for pairs in found.values() for _, facts in pairs for value in facts.values}
    return _counts_from_zero(spec) and bool(used) and 0 not in used


def _counts_from_zero(spec: DatasetSpec) -> bool:
    """Return whether the id of a class is its position."""
    if not isinstance(spec.labels, IdLabels):
        return False
    ids = spec.labels.mapping(spec.label_set)
    return {stored: train for stored, train in ids.items() if train != IGNORE_INDEX} == {
        train: train for train in range(len(spec.label_set))
    }


def repeated(found: Found) -> Iterator[Finding]:
    """Yield images, and labels, that occur more than once in the dataset."""
    first: dict[str, dict[str, tuple[Pair, Facts]]] = {}  # hash of an image -> split -> the first pair with it
    labels: dict[str, tuple[Pair, Facts]] = {}
    for split, pair, facts in _pairs(found):
        if facts.image:
            before = first.setdefault(facts.image, {})
            yield from _same_image(split, pair, facts, before)
            before.setdefault(split, (pair, facts))
        if facts.labels and sum(map(bool, (*facts.pixels, facts.ignored))) > 1:  # labels of one value may well be equal
            other, known = labels.setdefault(facts.labels, (pair, facts))
            if known.image != facts.image and other.labels != pair.labels:
                message = f"{pair.labels}: holds the same labels as {other.labels}, but their images differ."
                fix = "Make sure that each label file belongs to its image."
                yield Finding("warning", split, pair.labels, "same-labels", message, fix)


def _pairs(found: Found) -> Iterable[tuple[str, Pair, Facts]]:
    return ((split, pair, facts) for split, pairs in found.items() for pair, facts in pairs)


def _same_image(
    split: str, pair: Pair, facts: Facts, before: Mapping[str, tuple[Pair, Facts]]
) -> Iterator[Finding]:
    """Yield that an image is one of `before`: split -> the first pair with this image."""
    if not before:
        return
    known = split if split in before else next(iter(before))
    other, of_other = before[known]
    if other.image == pair.image and known == split:  # windows of one image
        return
    severity: Severity = "warning"
    kind, fix = "duplicate", "Keep one of the equal images."
    where = f" ({other.box})" if other.box else ""
    same = other.image == pair.image and other.box == pair.box
    message = f"{pair.image}: is the same image as {other.image}{where}"
    if known != split:
        severity, kind, fix = "error", "leak", "Keep each image in one split only."
        message = f"{pair.image}: is in the splits {known!r} and {split!r}" if same else f"{message} of the split {known!r}"
    yield Finding(severity, split, pair.image, kind, f"{message}.", fix)
    if facts.labels and of_other.labels and facts.labels != of_other.labels:
        message = f"{pair.labels}: differs from {other.labels}, the labels of the same image."
        if pair.labels == other.labels:
            message = f"{pair.labels}: gives {pair.image} and {other.image} different labels, but they are the same image."
        yield Finding("warning", split, pair.labels, "contradicting-labels", message, "Keep the correct labels.")
