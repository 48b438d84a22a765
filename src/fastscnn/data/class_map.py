"""Class maps: which class of one dataset a class of another dataset is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data.spec import DatasetSpec
from fastscnn.model.label_set import IGNORE_INDEX, IGNORE_NAME


def train_ids(spec: DatasetSpec, first: DatasetSpec, given: Mapping[str, str]) -> tuple[int, ...]:
    """Return the train id in `first` of each class of `spec`; 255 for ignored ones.

    Args:
        spec: the dataset.
        first: the dataset whose classes are trained.
        given: class of `spec` -> class of `first`, or "ignore". Classes of equal names, without regard to case, need no entry.

    Raises:
        FastSCNNError: an unknown class, two entries for one class, a class without an entry, or every class ignored.
    """
    own, names = spec.label_set.names, first.label_set.names
    said: dict[str, int] = {}
    for key, target in given.items():
        if (name := _named(key, own)) is None:
            raise FastSCNNError(f"{spec.name}: {unknown(f'class of {spec.name}', key, own)} Correct its map.")
        found = None if target == IGNORE_NAME else _named(target, names)
        if target != IGNORE_NAME and found is None:
            raise FastSCNNError(f"{spec.name}: {unknown(f'class of {first.name}', target, [*names, IGNORE_NAME])} "
                                f"Correct what {key!r} maps to.")
        if name in said:
            raise FastSCNNError(f"{spec.name}: its map has two entries for the class {name!r}; remove one.")
        said[name] = names.index(found) if found else IGNORE_INDEX
    for name in own:
        if name not in said and (found := _named(name, names)):
            said[name] = names.index(found)
    if missing := [name for name in own if name not in said]:
        raise _unmapped(spec, first, missing)
    if set(said.values()) == {IGNORE_INDEX}:
        raise FastSCNNError(f"{spec.name}: every class is ignored; map one to a class of {first.name}.")
    return tuple(said[name] for name in own)


def soft_train_ids(classes: Sequence[str], given: Mapping[str, str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the train id of each class of soft labels; 255 if it is no class of the dataset.

    Args:
        classes: the soft classes.
        given: soft class -> class of the dataset, or "ignore". Classes of equal names, without regard to case, need no entry.
        names: the classes of the dataset.

    Raises:
        FastSCNNError: an unknown class; it names the nearest one.
    """
    same = {name: _named(name, names) for name in classes}
    ids = {name: names.index(found) if found else IGNORE_INDEX for name, found in same.items()}
    for name, target in given.items():
        if name not in ids:
            raise unknown("soft class", name, classes)
        if target not in (*names, IGNORE_NAME):
            raise unknown("class", target, [*names, IGNORE_NAME])
        ids[name] = IGNORE_INDEX if target == IGNORE_NAME else names.index(target)
    return tuple(ids.values())


def _named(word: str, names: Sequence[str]) -> str | None:
    """Return the name that equals `word`, else the only one that does without regard to case, else None."""
    if word in names:
        return word
    folded = [name for name in names if name.casefold() == word.casefold()]
    return folded[0] if len(folded) == 1 else None


def _unmapped(spec: DatasetSpec, first: DatasetSpec, missing: Sequence[str]) -> FastSCNNError:
    word = missing[0]
    key = word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else json.dumps(word)
    others = f" The same holds for {', '.join(map(repr, missing[1:]))}." if missing[1:] else ""
    return FastSCNNError(f"{spec.name}: {unknown(f'class of {first.name}', word, first.label_set.names)} Write in a mixture "
                         f'file, below [datasets.map], which class it is: {key} = "CLASS", or {key} = "{IGNORE_NAME}".{others}')
