"""Check of a dataset: read every file, collect what is wrong, and count the pixels of each class."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fastscnn.data.check.cache import Cache, stamp
from fastscnn.data.check.files import Facts, Remark, read
from fastscnn.data.check.findings import Finding, Report
from fastscnn.data.patterns import captured, has_placeholder
from fastscnn.data.spec import DatasetSpec, Pair, Split, relative
from fastscnn.media import images

_Read = list[tuple[Pair, Facts]]


@dataclass(frozen=True)
class CheckReport(Report):
    """Result of `check`; every mapping is by split.

    Attributes:
        findings: in the order of splits and file names; duplicates are last.
        counts: number of images.
        pixels: pixels of each class, in the order of train ids; unknown ids are not counted.
        class_percentages: class name -> percentage of the pixels that are not ignored.
        ignored: percentage of ignored pixels.
        sizes: "HxW" -> number of images of that size, upright and without crop; most frequent first.
        fingerprint: sha256 of splits, file names relative to the root, decoded pixels and decoded ids. It does not depend on
            where the dataset is and how its files are compressed.
    """

    counts: Mapping[str, int]
    pixels: Mapping[str, tuple[int, ...]]
    class_percentages: Mapping[str, Mapping[str, float]]
    ignored: Mapping[str, float]
    sizes: Mapping[str, Mapping[str, int]]
    fingerprint: str


def check(
    spec: DatasetSpec,
    splits: Sequence[str] | None = None,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every pair of `splits` (default: all whose labels are public) and report what is wrong.

    The same image twice in one split is a warning: it only gets more weight. The same image in two splits is an error: the
    evaluation would use images that were seen in training.

    Args:
        spec: the dataset.
        splits: names of splits.
        cache: folder that remembers unchanged files, such as `files.cache("check")`; None reads all files.
        progress: called with (pairs done, all pairs) after each pair.

    Raises:
        FastSCNNError: unknown split, or one whose labels are not public. Broken files are findings.
    """
    labelled = [name for name, split in spec.splits.items() if not split.labels_unavailable]
    chosen = list(dict.fromkeys(labelled if splits is None else splits))
    for split in chosen:
        spec.labelled(split)
    pairs = {split: [spec.pair(split, image) for image in spec.image_files(split)] for split in chosen}
    facts = _read_all(spec, [pair for split in chosen for pair in pairs[split]], cache, progress)
    found = {split: [(pair, facts[pair]) for pair in pairs[split]] for split in chosen}
    extra = _extra_files(spec, chosen)
    findings = [finding for split in chosen for finding in _of_split(spec, split, found[split], extra[split])]
    pixels = {split: _summed(spec, found[split]) for split in chosen}
    ignored = {split: sum(one.ignored for _, one in found[split]) for split in chosen}
    return CheckReport(
        findings=(*findings, *_duplicates(found)),
        counts={split: len(pairs[split]) for split in chosen},
        pixels=pixels,
        class_percentages={split: dict(zip(spec.label_set.names, _percent(pixels[split]), strict=True)) for split in chosen},
        ignored={split: _percent((ignored[split], sum(pixels[split])))[0] for split in chosen},
        sizes={split: _sizes(found[split]) for split in chosen},
        fingerprint=_fingerprint(spec, found),
    )


def _read_all(
    spec: DatasetSpec, pairs: list[Pair], cache: Path | None, progress: Callable[[int, int], None] | None
) -> dict[Pair, Facts]:
    """Return the facts of each pair, from the cache or from its files. Threads help, as Pillow decodes without the GIL."""
    known = Cache(cache, spec) if cache else None
    facts = {pair: found for pair in pairs if known and (found := known.get(pair))}
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in facts]
    total = len(facts) + len(missing)
    if progress and facts:
        progress(len(facts), total)
    pool = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1)))
    try:
        read_files = pool.map(lambda pair: (stamp(pair), read(spec, pair)), missing)
        for pair, (before, found) in zip(missing, read_files, strict=True):
            facts[pair] = found
            if known:
                known.put(pair, before, found)
            if progress:
                progress(len(facts), total)
    finally:  # after an interrupt, too, what was read stays in the cache
        pool.shutdown(cancel_futures=True)
        if known:
            known.save()
    return facts


def _of_split(spec: DatasetSpec, split: str, found: _Read, extra: list[tuple[str, Path]]) -> Iterator[Finding]:
    place = spec.split(split)
    yield from _of_counts(spec, split, place, found)
    sharing = Counter(pair.labels for pair, _ in found)
    one_file = place.labels and not has_placeholder(place.labels)  # as of COCO
    for pair, facts in found:
        for remark in facts.remarks:
            path = pair.labels if remark.of_labels else pair.image
            yield Finding(remark.severity, split, path, remark.kind, remark.message, _fix(remark, place))
        if sharing[pair.labels] > 1 and not one_file:
            message = f"{pair.image}: shares its label file {pair.labels} with another image."
            yield Finding("warning", split, pair.image, "shared-labels", message, "Give each image its own label file.")
    source = f" (of {place.images_in})" if place.images_in else ""
    for kind, path in extra:
        what = "a label file" if kind == "extra-labels" else "an extra channel"
        message = f"{path}: is {what} without an image."
        yield Finding("warning", split, path, kind, message, f"Add the image{source}, or remove the file.")
    pixels = _summed(spec, found)
    for name, count in zip(spec.label_set.names, pixels, strict=True):
        if "train" in split and any(pixels) and not count:
            message = f"{spec.root}: no pixel of the split {split!r} is {name!r}."
            fix = "Add images with this class, or expect the network not to learn it."
            yield Finding("warning", split, spec.root, "absent-class", message, fix)


def _of_counts(spec: DatasetSpec, split: str, place: Split, found: _Read) -> Iterator[Finding]:
    if not found:
        message = f"{spec.root}: no images match {place.images!r}, the images of the split {split!r}."
        fix = f"Correct the pattern; these files are images: {', '.join(sorted(images.SUFFIXES))}."
        if place.images_in:
            fix = f"Extract {place.images_in} here."
        yield Finding("error", split, spec.root, "no-images", message, fix)
        return
    there = len(found) if spec.every == 1 else len(spec.image_files(split, all_frames=True))
    if there < place.count:
        message = f"{spec.root}: has {there} of the {place.count} released images of the split {split!r}."
        yield Finding("warning", split, spec.root, "incomplete", message, f"Extract {place.images_in} completely.")


def _fix(remark: Remark, place: Split) -> str:
    """Return the fix of a remark; of a missing file, with the archive that contains it."""
    archive = {"missing-labels": place.labels_in, "missing-channel": place.images_in}.get(remark.kind, "")
    return f"Extract the file from {archive}, or remove the image." if archive else remark.fix


def _extra_files(spec: DatasetSpec, chosen: list[str]) -> dict[str, list[tuple[str, Path]]]:
    """Return split -> (kind, file) of label files and extra channels that belong to no image of any split, each once."""
    seen: set[Path] = set()
    for split in spec.splits:  # all of them, since splits may share a folder of labels
        for image in spec.image_files(split, all_frames=True):
            seen |= {image, *spec.label_files(split, image), *spec.channel_files(split, image)}
    extra: dict[str, list[tuple[str, Path]]] = {}
    for split in chosen:
        extra[split] = []
        place = spec.split(split)
        named: set[tuple[str, ...] | None] = set()  # missing images: one finding for a label file and its polygons
        kinds = [("extra-labels", place.labels), ("extra-labels", place.polygons)]
        for kind, pattern in [*kinds, *(("extra-channel", channel) for channel in place.extra_channels)]:
            if not pattern:
                continue
            for glob in place.globs(pattern):
                found = sorted(set(spec.root.glob(glob)) - seen)
                seen.update(found)
                for path in found:
                    key = captured(glob, relative(spec.root, path)) if place.polygons else None
                    if key is None or key not in named:
                        extra[split].append((kind, path))
                    named.add(key)
    return extra


def _duplicates(found: Mapping[str, _Read]) -> Iterator[Finding]:
    """Yield images whose decoded pixels occur more than once in the dataset."""
    first: dict[str, dict[str, Path]] = {}  # hash -> split -> its first image
    for split, pairs in found.items():
        for pair, facts in pairs:
            if not facts.image:
                continue
            before = first.setdefault(facts.image, {})
            other = next((name for name in before if name != split), None)
            if split in before:
                message = f"{pair.image}: is the same image as {before[split]}."
                yield Finding("warning", split, pair.image, "duplicate", message, "Keep one of the equal images.")
            elif other:
                message = f"{pair.image}: is the same image as {before[other]} of the split {other!r}."
                yield Finding("error", split, pair.image, "leak", message, "Keep each image in one split only.")
            before.setdefault(split, pair.image)


def _summed(spec: DatasetSpec, found: _Read) -> tuple[int, ...]:
    """Return the pixels of each class."""
    columns = zip(*(facts.pixels for _, facts in found), strict=True)
    return tuple(map(sum, columns)) if found else (0,) * len(spec.label_set)


def _sizes(found: _Read) -> dict[str, int]:
    """Return the number of images of each size, without unreadable ones."""
    counts = Counter(f"{facts.size[0]}x{facts.size[1]}" for _, facts in found if facts.image)
    return dict(counts.most_common())


def _percent(counts: tuple[int, ...]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(100 * count / total if total else 0.0 for count in counts)


def _fingerprint(spec: DatasetSpec, found: Mapping[str, _Read]) -> str:
    rows = [
        (split, relative(spec.root, pair.image), facts.image, facts.labels)
        for split, pairs in found.items()
        for pair, facts in pairs
    ]
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
