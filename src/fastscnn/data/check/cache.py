"""Cache of a check: the facts of files that have not changed since they were read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.facts import Facts, Remark
from fastscnn.data.spec import DatasetSpec, Pair, relative
from fastscnn.version import __version__


class Cache:
    """Facts of unchanged files: one JSON file per dataset in a folder.

    A file is unchanged if its content is, whatever its size and time say. A cache that is broken, outdated or not writable
    counts as empty: it only saves time.
    """

    def __init__(self, folder: Path, spec: DatasetSpec) -> None:
        """
        Args:
            folder: folder of the caches.
            spec: the dataset. Another root, label set or crop has another cache.
        """
        self._root, self._labels = spec.root, spec.labels
        self._classes = len(spec.label_set)
        meaning = [__version__, [field.name for field in fields(Facts)], str(spec.root), str(spec.root.resolve()), spec.name,
                   asdict(spec.label_set), repr(spec.labels), spec.crop, repr(spec.soft)]
        self._path = folder / f"{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()}.json"
        self._entries = self._loaded()
        self._digests: dict[Path, str] = {}
        self._changed = False

    def digest(self, pair: Pair) -> str:
        """Return the sha256 of the names and contents of all files that are read for a pair; "" if one cannot be read.

        A file is read once.
        """
        try:
            soft = (pair.soft,) if pair.soft else ()
            paths = (pair.image, *self._labels.files(pair.labels, pair.image), *pair.extra_channels, *soft)
            for path in paths:
                if path not in self._digests:  # one label file may belong to many images
                    self._digests[path] = files.digest(path)
        except (OSError, FastSCNNError):
            return ""
        of_files = [(relative(self._root, path), self._digests[path]) for path in paths]
        return hashlib.sha256(json.dumps(of_files).encode()).hexdigest()

    def get(self, pair: Pair, digest: str) -> Facts | None:
        """Return the facts of a pair; None if they are unknown or were those of other contents."""
        known, facts = self._entries.get(self._key(pair), ("", None))
        return facts if known == digest else None

    def put(self, pair: Pair, digest: str, facts: Facts) -> None:
        """Keep `facts`, unless a file could not be read: the cause may disappear without a change of the file."""
        if digest and facts.image and facts.labels and bool(facts.soft) == bool(pair.soft):
            self._entries[self._key(pair)] = (digest, facts)
            self._changed = True

    def save(self) -> None:
        """Write the cache if it has changed."""
        if not self._changed:
            return
        entries = {key: [digest, asdict(facts)] for key, (digest, facts) in self._entries.items()}
        try:
            files.write(self._path, json.dumps(entries).encode())
        except FastSCNNError:  # a cache is optional
            return

    def _key(self, pair: Pair) -> str:
        paths = pair.image, pair.labels, *pair.extra_channels, *((pair.soft,) if pair.soft else ())
        return json.dumps([*(relative(self._root, path) for path in paths), pair.box])

    def _loaded(self) -> dict[str, tuple[str, Facts]]:
        try:
            entries = json.loads(self._path.read_bytes())
            return {key: (str(digest), self._facts(facts)) for key, (digest, facts) in entries.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return {}

    def _facts(self, saved: dict[str, Any]) -> Facts:
        pixels = tuple(map(int, saved["pixels"]))
        if len(pixels) != self._classes:
            raise ValueError
        height, width = map(int, saved["size"])
        return Facts(
            remarks=tuple(Remark(**remark) for remark in saved["remarks"]),
            image=str(saved["image"]),
            labels=str(saved["labels"]),
            pixels=pixels,
            ignored=int(saved["ignored"]),
            unknown=int(saved["unknown"]),
            size=(height, width),
            values=tuple(map(int, saved["values"])),
            palette=tuple((int(index), str(colour)) for index, colour in saved["palette"]),
            names=tuple((str(name), int(count)) for name, count in saved["names"]),
            outlines=tuple((str(kind), int(count), str(place)) for kind, count, place in saved["outlines"]),
            soft=str(saved["soft"]),
        )
