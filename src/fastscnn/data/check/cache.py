"""Cache of a check: the facts of files that have not changed since they were read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.files import Facts, Remark
from fastscnn.data.spec import DatasetSpec, Pair, relative
from fastscnn.version import __version__


class Cache:
    """Facts of unchanged files: one JSON file per dataset in a folder.

    A cache that is broken, outdated or not writable counts as empty: it only saves time.
    """

    def __init__(self, folder: Path, spec: DatasetSpec) -> None:
        """
        Args:
            folder: folder of the caches.
            spec: the dataset. Another root, label set or crop has another cache.
        """
        self._root = spec.root
        self._classes = len(spec.label_set)
        meaning = [__version__, str(spec.root), str(spec.root.resolve()), spec.name, asdict(spec.label_set), repr(spec.labels),
                   spec.crop]
        self._path = folder / f"{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()}.json"
        self._entries = self._loaded()
        self._changed = False

    def get(self, pair: Pair) -> Facts | None:
        """Return the facts of a pair; None if they are unknown or one of its files has another size or time now."""
        known, facts = self._entries.get(self._key(pair), (None, None))
        return facts if known == stamp(pair) else None

    def put(self, pair: Pair, stamp: list[int] | None, facts: Facts) -> None:
        """Keep `facts`, unless a file could not be read: the cause may disappear without a change of the file."""
        if stamp and facts.image and facts.labels:
            self._entries[self._key(pair)] = (stamp, facts)
            self._changed = True

    def save(self) -> None:
        """Write the cache if it has changed."""
        if not self._changed:
            return
        entries = {key: [stamp, asdict(facts)] for key, (stamp, facts) in self._entries.items()}
        try:
            files.write(self._path, json.dumps(entries).encode())
        except FastSCNNError:  # a cache is optional
            return

    def _key(self, pair: Pair) -> str:
        return json.dumps([relative(self._root, path) for path in (pair.image, pair.labels, *pair.extra_channels)])

    def _loaded(self) -> dict[str, tuple[list[int], Facts]]:
        try:
            entries = json.loads(self._path.read_bytes())
            return {key: (stamp, self._facts(facts)) for key, (stamp, facts) in entries.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return {}

    def _facts(self, saved: dict[str, Any]) -> Facts:
        remarks = tuple(Remark(**remark) for remark in saved["remarks"])
        pixels = tuple(map(int, saved["pixels"]))
        if len(pixels) != self._classes:
            raise ValueError
        height, width = map(int, saved["size"])
        return Facts(remarks, str(saved["image"]), str(saved["labels"]), pixels, int(saved["ignored"]), (height, width))


def stamp(pair: Pair) -> list[int] | None:
    """Return the sizes and times of all files of a pair, to be taken before they are read; None if one is missing."""
    try:
        stats = [path.stat() for path in (pair.image, pair.labels, *pair.extra_channels)]
    except OSError:
        return None
    return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns)]
