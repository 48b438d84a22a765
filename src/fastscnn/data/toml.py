"""A user's dataset, described by a dataset.toml in its folder.

```toml
name = "facade"
classes = ["building", "car"]          # the id of a class is its position
colours = [[128, 0, 0], [128, 0, 128]] # one per class; optional, but required if labels_are = "colours"
ignore = 255                           # id of pixels excluded from training and evaluation; this is the default
labels_are = "ids"                     # the default; or "colours": pixels of other colours are ignored, and counted by `check`
terms = "..."                          # optional: terms of use of the data

[splits.train]
images = "images/train/*.jpg"          # glob pattern relative to the folder of the toml; `**` and `..` are allowed
labels = "labels/train/{stem}.png"     # {stem}: the image's file name without its suffix
thermal = "thermal/train/{stem}.png"   # optional, in all splits or in none: a fourth channel, greyscale of 8 or 16 bits
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.model.label_set import IGNORE_INDEX, Colour, LabelSet

_KEYS = ("name", "classes", "colours", "ignore", "labels_are", "terms", "splits")
_LABELS_ARE = ("ids", "colours")


def spec(path: Path) -> DatasetSpec:
    """Return the dataset of a dataset.toml. Its root is the folder of the file.

    Raises:
        FastSCNNError: no such file, not TOML, or a key that is missing, unknown or invalid.
    """
    table = _parsed(path)
    _only(path, "", table, _KEYS)
    labels_are = _text(path, table, "labels_are", "ids")
    if labels_are not in _LABELS_ARE:
        raise FastSCNNError(f"{path}: {unknown('kind of labels_are', labels_are, _LABELS_ARE)}")
    label_set = _label_set(path, table)
    if labels_are == "colours":
        _decodable(path, label_set, given="colours" in table)
    return DatasetSpec(
        name=_text(path, table, "name"),
        root=path.parent,
        label_set=label_set,
        splits=_splits(path, table),
        labels_are=labels_are,
        terms=_text(path, table, "terms", DatasetSpec.terms),
    )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # -sig: editors on Windows write a byte-order mark
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8, or lists nested too deeply
        raise FastSCNNError(f"{path}: is not TOML ({error}); correct it.") from error


def _label_set(path: Path, table: dict[str, Any]) -> LabelSet:
    names = _required(path, "", table, "classes")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise FastSCNNError(f'{path}: classes must be a list of names, such as ["road", "car"].')
    ignore = table.get("ignore", IGNORE_INDEX)
    if not _is_byte(ignore):
        raise FastSCNNError(f"{path}: ignore is {ignore!r}; it must be one id from 0 to 255.")
    if ignore < min(len(names), IGNORE_INDEX):
        raise FastSCNNError(f"{path}: ignore is {ignore}, the id of the class {names[ignore]!r}; "
                            "use an id of no class, such as 255.")
    raw_ids = () if ignore == IGNORE_INDEX else (*((index, index) for index in range(len(names))), (ignore, IGNORE_INDEX))
    try:
        return LabelSet(tuple(names), _colours(path, table), raw_ids)
    except FastSCNNError as error:
        raise FastSCNNError(f"{path}: {error}") from None


def _colours(path: Path, table: dict[str, Any]) -> tuple[Colour, ...]:
    colours = table.get("colours", [])
    if not isinstance(colours, list) or not all(isinstance(colour, list) for colour in colours):
        raise FastSCNNError(f"{path}: colours must be a list of [red, green, blue], one for each class.")
    for colour in colours:
        if len(colour) != 3 or not all(_is_byte(value) for value in colour):
            raise FastSCNNError(f"{path}: colours contains {colour}; a colour is three whole numbers from 0 to 255.")
    return tuple((red, green, blue) for red, green, blue in colours)


def _decodable(path: Path, label_set: LabelSet, given: bool) -> None:
    """Refuse labels stored as colours if two classes have the same colour."""
    if not given:
        raise FastSCNNError(f'{path}: colours is missing; labels_are = "colours" requires the colour of each class.')
    first: dict[Colour, str] = {}
    for name, colour in zip(label_set.names, label_set.colours, strict=True):
        if colour in first:
            raise FastSCNNError(f"{path}: colours gives {first[colour]!r} and {name!r} the same {list(colour)}; "
                                'with labels_are = "colours" give each class its own colour.')
        first[colour] = name


def _splits(path: Path, table: dict[str, Any]) -> dict[str, Split]:
    splits = _required(path, "", table, "splits")
    if not isinstance(splits, dict) or not splits:
        raise FastSCNNError(f"{path}: splits is empty; add [splits.train] with the keys images and labels.")
    made = {name: _split(path, name, split) for name, split in splits.items()}
    without = [name for name, split in made.items() if not split.extra_channels]
    if 0 < len(without) < len(made):
        raise FastSCNNError(f"{path}: splits.{without[0]}.thermal is missing, but other splits have it; "
                            "give it in all splits or in none.")
    return made


def _split(path: Path, name: str, split: object) -> Split:
    place = f"splits.{name}"
    if not name or "+" in name:
        raise FastSCNNError(f"{path}: a split cannot be called {name!r}, since `+` joins splits; choose another name.")
    if not isinstance(split, dict):
        raise FastSCNNError(f"{path}: {place} must be a table with the keys images and labels.")
    _only(path, place, split, ("images", "labels", "thermal"))
    beside = [key for key in ("labels", "thermal") if key == "labels" or key in split]
    patterns = {key: _pattern(path, place, split, key) for key in ("images", *beside)}
    for key in beside:
        if "{stem}" not in patterns[key]:
            raise FastSCNNError(f"{path}: {place}.{key} is {patterns[key]!r}, one file for all images; "
                                "write {stem} for the image's file name without its suffix.")
    return Split(patterns["images"], patterns["labels"], extra_channels=tuple(patterns[key] for key in beside[1:]))


def _pattern(path: Path, place: str, split: dict[str, Any], key: str) -> str:
    pattern = _required(path, place, split, key)
    if not isinstance(pattern, str) or not PurePath(pattern).parts:
        raise FastSCNNError(f'{path}: {place}.{key} is {pattern!r}; it must be a pattern in quotes, '
                            f'such as "{key}/train/*.png".')
    if PurePath(pattern).is_absolute() or pattern.startswith("/"):
        raise FastSCNNError(f"{path}: {place}.{key} is {pattern!r}, an absolute path; "
                            f"write it relative to {path.parent.absolute()} (`..` is allowed).")
    if "\0" in pattern:
        raise FastSCNNError(f"{path}: {place}.{key} is {pattern!r}; remove the zero byte.")
    if any("**" in part and part != "**" for part in PurePath(pattern).parts):
        raise FastSCNNError(f"{path}: {place}.{key} is {pattern!r}; `**` must be a whole part of the path, "
                            "as in images/**/*.png.")
    return pattern


def _text(path: Path, table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = _required(path, "", table, key) if default is None else table.get(key, default)
    if not isinstance(value, str) or not value:
        raise FastSCNNError(f"{path}: {key} is {value!r}; it must be a text in quotes.")
    return value


def _required(path: Path, place: str, table: dict[str, Any], key: str) -> Any:
    if key not in table:
        raise FastSCNNError(f"{path}: {f'{place}.{key}' if place else key} is missing; add it.")
    return table[key]


def _only(path: Path, place: str, table: dict[str, Any], keys: Iterable[str]) -> None:
    for key in table:
        if key not in keys:
            raise FastSCNNError(f"{path}: {unknown(f'key of {place}' if place else 'key', key, keys)}")


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255  # not isinstance: True is an int
