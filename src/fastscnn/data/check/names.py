"""Names of shapes that are no class, counted over all label files of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fastscnn.base.errors import nearest
from fastscnn.data.check.compare import Read
from fastscnn.data.check.findings import Finding
from fastscnn.data.formats.base import Shapes
from fastscnn.data.spec import DatasetSpec, relative

_SHOWN = 8  # names in one message
_FIX = 'Correct the names, add the classes, or map the names to classes or "ignore" in [map] of dataset.toml.'


def unknown_names(spec: DatasetSpec, split: str, found: Read) -> Iterator[Finding]:
    """Yield one finding on all names in a split that are no class: how often they occur, where first, and the nearest class."""
    shapes: Counter[str] = Counter()
    images: Counter[str] = Counter()
    first: dict[str, Path] = {}
    for pair, facts in found:
        for name, count in facts.names:
            shapes[name] += count
            images[name] += 1
            first.setdefault(name, pair.labels)
    if not isinstance(spec.labels, Shapes) or not shapes:
        return
    listed = []
    for name, count in shapes.most_common(_SHOWN):
        near = nearest(name, spec.labels.ids)
        place = relative(spec.root, first[name]) + (f"; did you mean {near!r}?" if near else "")
        listed.append(f"{name!r} ({_of(count, 'shape')} in {_of(images[name], 'image')}, first in {place})")
    more = f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else ""
    path = next(iter(first.values()))
    message = f"{path}: shapes of the split {split!r} have names that are no class of {spec.name}: {', '.join(listed)}{more}."
    yield Finding("error", split, path, "unknown-names", message, _FIX)


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
