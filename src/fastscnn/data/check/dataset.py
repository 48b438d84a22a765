"""check: reads every file of a dataset, says what is wrong with it, and counts its pixels."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from fastscnn.data.check.files import Cache, Facts, read, relative, stamp
from fastscnn.data.spec import DatasetSpec, Pair, captured, from_archive
from fastscnn.media import images

_Read = list[tuple[Pair, Facts]]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset.

    Attributes:
        severity: "error": training or its figures would be wrong; "warning": worth a look.
        split: the split it was found in.
        path: the file it is about; the dataset's root where it is about a whole split.
        kind: a word for machines: no-images, incomplete, missing-labels, missing-channel, extra-labels, extra-channel,
            shared-labels, unreadable-image, unreadable-labels, broken-channel, size-mismatch, too-small, exif-rotated,
            unknown-ids, unknown-colours, empty-labels, duplicate, leak or absent-class.
        message: one sentence for people; it names the file.
    """

    severity: str
    split: str
    path: Path
    kind: str
    message: str


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        findings: in the order of splits and file names.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is an error; there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> str:
        """The report as one JSON object, `ok` included."""
        return json.dumps({"ok": self.ok, **asdict(self)}, default=str)


@dataclass(frozen=True)
class CheckReport(Report):
    """What `check` found; every mapping is by split.

    Attributes:
        findings: in the order of splits and file names; duplicates last.
        counts: images.
        pixels: pixels of each class, in the order of train ids; ids of no class are left out.
        shares: class name -> percent of the pixels that are not ignored.
        ignored: percent of the pixels that are ignored.
        sizes: "HxW" -> images that have it, upright and whole; most first.
        fingerprint: sha256 over the splits, file names below the root, decoded pixels and decoded ids: the same
            wherever the dataset lies and however its files are compressed.
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
    """Reads every pair of `splits` (by default all whose labels are not labels_unavailable).

    The same picture twice in one split only weighs it more, which is a warning; in two splits it lets what is
    measured have been seen in training, which is an error.

    Args:
        cache: a folder in which to remember unchanged files, for example `files.cache("check")`; None reads all of them.
        progress: called with (pairs done, pairs in all) after each pair.

    Raises:
        FastSCNNError: a split that does not exist, or whose labels are withheld. Whatever is wrong with files is a finding.
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
        findings=(*findings, *_twice(found)),
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
    """The facts of each pair, from the cache or from its files; by threads, as Pillow decodes outside Python's lock."""
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
    finally:  # also when it is interrupted: what was read stays known
        pool.shutdown(cancel_futures=True)
        if known:
            known.save()
    return facts


def _of_split(spec: DatasetSpec, split: str, found: _Read, extra: list[tuple[str, Path]]) -> Iterator[Finding]:
    place = spec.split(split)
    if not found:
        counted = ", ".join(sorted(images.SUFFIXES))
        cure = from_archive(place.images_in, "they belong") or f"; correct the pattern (files that count: {counted})"
        message = f"{spec.root}: no images match {place.images!r}, the images of the split {split!r}{cure}."
        yield Finding("error", split, spec.root, "no-images", message)
    there = len(found) if spec.every == 1 else len(spec.image_files(split, all_frames=True))
    if found and there < place.count:
        message = (f"{spec.root}: of the {place.count} images of the split {split!r} that were released, {there} are here; "
                   f"look whether {place.images_in} is half extracted.")
        yield Finding("warning", split, spec.root, "incomplete", message)
    sharing = Counter(pair.labels for pair, _ in found)
    archives = {"missing-labels": place.labels_in, "missing-channel": place.images_in}
    for pair, facts in found:
        for remark in facts.remarks:
            path = pair.labels if remark.of_labels else pair.image
            archive = archives.get(remark.kind, "")
            message = f"{remark.message.removesuffix('.')}{from_archive(archive)}." if archive else remark.message
            yield Finding(remark.severity, split, path, remark.kind, message)
        if sharing[pair.labels] > 1:
            message = f"{pair.image}: shares its label file {pair.labels} with another image; give each its own name."
            yield Finding("warning", split, pair.image, "shared-labels", message)
    for kind, path in extra:
        what, those = ("label file", "labels") if kind == "extra-labels" else ("further channel", "file")
        source = f" (of {place.images_in})" if place.images_in else ""
        message = f"{path}: is a {what} without an image; add the image{source}, or take the {those} out."
        yield Finding("warning", split, path, kind, message)
    pixels = _summed(spec, found)
    for name, count in zip(spec.label_set.names, pixels, strict=True):
        if "train" in split and any(pixels) and not count:
            message = f"{spec.root}: no pixel of the split {split!r} is {name!r}; a network cannot learn that class from it."
            yield Finding("warning", split, spec.root, "absent-class", message)


def _extra_files(spec: DatasetSpec, chosen: list[str]) -> dict[str, list[tuple[str, Path]]]:
    """Split -> (kind, file) where its labels and further channels lie that belong to no image of any split; each file once."""
    seen: set[Path] = set()
    for split in spec.splits:  # all of them, since splits may keep their labels in one folder
        for image in spec.image_files(split, all_frames=True):
            seen |= {image, *spec.label_files(split, image), *spec.channel_files(split, image)}
    extra: dict[str, list[tuple[str, Path]]] = {}
    for split in chosen:
        extra[split] = []
        place = spec.split(split)
        named: set[tuple[str, ...] | None] = set()  # images that are missing: named once where labels and polygons are there
        kinds = [("extra-labels", place.labels), ("extra-labels", place.polygons)]
        for kind, pattern in [*kinds, *(("extra-channel", channel) for channel in place.more)]:
            if not pattern:
                continue
            found = sorted(set(spec.root.glob(place.glob(pattern))) - seen)
            seen.update(found)
            for path in found:
                key = captured(place.glob(pattern), relative(spec.root, path)) if place.polygons else None
                if key is None or key not in named:
                    extra[split].append((kind, path))
                named.add(key)
    return extra


def _twice(found: Mapping[str, _Read]) -> Iterator[Finding]:
    """Pictures that stand more than once in the dataset, by their decoded pixels."""
    first: dict[str, list[tuple[str, Path]]] = {}
    for split, pairs in found.items():
        for pair, facts in pairs:
            if not facts.image:
                continue
            before = first.setdefault(facts.image, [])
            same = next((place for place in before if place[0] == split), None)
            other = next((place for place in before if place[0] != split), None)
            if same:
                message = f"{pair.image}: is the same picture as {same[1]}; keep one of them."
                yield Finding("warning", split, pair.image, "duplicate", message)
            elif other:
                message = f"{pair.image}: is the same picture as {other[1]} of the split {other[0]!r}; keep it in one split."
                yield Finding("error", split, pair.image, "leak", message)
            before.append((split, pair.image))


def _summed(spec: DatasetSpec, found: _Read) -> tuple[int, ...]:
    """Pixels of each class."""
    columns = zip(*(facts.pixels for _, facts in found), strict=True)
    return tuple(map(sum, columns)) if found else (0,) * len(spec.label_set)


def _sizes(found: _Read) -> dict[str, int]:
    """How many images have each size; those that cannot be read are left out."""
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
