"""Check of a dataset: read every file, collect what is wrong, and count the pixels of each class."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fastscnn.base.arguments import hxw
from fastscnn.data.check import compare
from fastscnn.data.check.cache import Cache
from fastscnn.data.check.facts import Facts, Remark
from fastscnn.data.check.files import read
from fastscnn.data.check.findings import Finding, Report
from fastscnn.data.check.folders import Folders
from fastscnn.data.check.names import unknown_names
from fastscnn.data.check.outlines import about_outlines, only_boxes
from fastscnn.data.spec import DatasetSpec, Pair, Split, pair_name
from fastscnn.media import images


@dataclass(frozen=True)
class CheckReport(Report):
    """Result of `check`; every mapping is by split.

    Attributes:
        findings: in the order of splits and file names; those of several files are last.
        counts: number of images.
        pixels: pixels of each class, in the order of train ids; unknown ids are not counted.
        class_percentages: class name -> percentage of the pixels that are not ignored.
        ignored: percentage of ignored pixels.
        sizes: "HxW" -> number of images of that size, upright and without crop; most frequent first.
        fingerprint: sha256 of splits, file names relative to the root, decoded pixels and decoded ids. It does not depend on
            where the dataset is and how its files are compressed.
        hashes: image file -> sha256 of its decoded pixels, of the images that can be read; not in the JSON.
    """

    counts: Mapping[str, int]
    pixels: Mapping[str, tuple[int, ...]]
    class_percentages: Mapping[str, Mapping[str, float]]
    ignored: Mapping[str, float]
    sizes: Mapping[str, Mapping[str, int]]
    fingerprint: str
    hashes: Mapping[Path, str] = field(repr=False)


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
    pairs = {
        split: [pair for image in spec.image_files(split) for pair in spec.windows(split, spec.pair(split, image))]
        for split in chosen
    }
    facts = _read_all(spec, [pair for split in chosen for pair in pairs[split]], cache, progress)
    found = {split: [(pair, facts[pair]) for pair in pairs[split]] for split in chosen}
    pixels = {split: compare.summed(spec, found[split]) for split in chosen}
    ignored = {split: sum(one.ignored for _, one in found[split]) for split in chosen}
    return CheckReport(
        findings=tuple(_findings(spec, found)),
        counts={split: len(pairs[split]) for split in chosen},
        pixels=pixels,
        class_percentages={split: dict(zip(spec.label_set.names, _percent(pixels[split]), strict=True)) for split in chosen},
        ignored={split: _percent((ignored[split], sum(pixels[split])))[0] for split in chosen},
        sizes={split: _sizes(found[split]) for split in chosen},
        fingerprint=_fingerprint(spec, found),
        hashes={pair.image: one.image for pair, one in facts.items() if one.image},
    )


def _read_all(
    spec: DatasetSpec, pairs: list[Pair], cache: Path | None, progress: Callable[[int, int], None] | None
) -> dict[Pair, Facts]:
    """Return the facts of each pair, from the cache or from its files. Threads help, as Pillow decodes without the GIL."""
    known = Cache(cache, spec) if cache else None

    def facts_of(pair: Pair) -> Facts:
        if not known:
            return read(spec, pair)
        digest = known.digest(pair)  # before the files are decoded: what changes in between is read anew the next time
        facts = known.get(pair, digest)
        if facts is None:
            facts = read(spec, pair)
            known.put(pair, digest, facts)
        return facts

    unique = list(dict.fromkeys(pairs))
    facts: dict[Pair, Facts] = {}
    pool = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1)))
    try:
        for pair, found in zip(unique, pool.map(facts_of, unique), strict=True):
            facts[pair] = found
            if progress:
                progress(len(facts), len(unique))
    finally:  # after an interrupt, too, what was read stays in the cache
        pool.shutdown(cancel_futures=True)
        if known:
            known.save()
    return facts


def _findings(spec: DatasetSpec, found: compare.Found) -> Iterator[Finding]:
    fix_of_ids = compare.fix_of_ids(spec, found)
    folders = Folders(spec, list(found))
    for split in found:
        for archive, problem in spec.broken_archives(split).items():
            fix = "Copy the archive again from its source, or pack it again."
            if "is compressed" in problem:
                fix = "Decompress the archive."
            yield Finding("error", split, archive, "unreadable-archive", problem, fix)
        yield from _of_split(spec, split, found[split], fix_of_ids)
        yield from unknown_names(spec, split, found[split])
        yield from about_outlines(spec, split, found[split])
        yield from folders.findings(split)
        yield from compare.about_classes(spec, split, found)
    yield from only_boxes(spec, found)
    yield from compare.about_unknown(spec, found)
    yield from compare.mixed_masks(spec, found)
    yield from compare.palettes(found)
    yield from compare.repeated(found)


def _of_split(spec: DatasetSpec, split: str, found: compare.Read, fix_of_ids: str) -> Iterator[Finding]:
    """Yield the problems of the images and labels of a split."""
    place = spec.split(split)
    yield from _of_counts(spec, split, place, found)
    sharing = Counter(labels for labels, _ in {(pair.labels, pair.image) for pair, _ in found})
    for pair, facts in found:
        for remark in facts.remarks:
            path = pair.labels if remark.of_labels else pair.image
            fix = fix_of_ids if fix_of_ids and remark.kind == "unknown-ids" else _fix(remark, place)
            message = f"{remark.message.removesuffix('.')} ({pair.box})." if pair.box else remark.message
            yield Finding(remark.severity, split, path, remark.kind, message, fix)
        if sharing[pair.labels] > 1 and not spec.labels.of_many:
            message = f"{pair.image}: shares its label file {pair.labels} with another image."
            yield Finding("warning", split, pair.image, "shared-labels", message, "Give each image its own label file.")


def _of_counts(spec: DatasetSpec, split: str, place: Split, found: compare.Read) -> Iterator[Finding]:
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
    """Return the fix of a remark; of a missing or unreadable file, with the archive that contains it."""
    archives = {"missing-labels": place.labels_in, "unreadable-labels": place.labels_in, "missing-channel": place.images_in}
    archive = archives.get(remark.kind, "")
    return f"Extract the file from {archive}, or remove the image." if archive else remark.fix


def _sizes(found: compare.Read) -> dict[str, int]:
    """Return the number of images of each size, without unreadable ones."""
    counts = Counter(hxw(facts.size) for _, facts in found if facts.image)
    return dict(counts.most_common())


def _percent(counts: tuple[int, ...]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(100 * count / total if total else 0.0 for count in counts)


def _fingerprint(spec: DatasetSpec, found: compare.Found) -> str:
    rows = [
        (split, pair_name(spec.root, pair), facts.image, facts.labels, *([facts.soft] if pair.soft else []))
        for split, pairs in found.items()
        for pair, facts in pairs
    ]
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
