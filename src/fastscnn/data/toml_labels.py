"""The label format that a dataset.toml describes: labels_are, ignore, [map], and the keys of each format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.data.formats.base import LabelFormat, Shapes
from fastscnn.data.formats.coco import CocoLabels
from fastscnn.data.formats.colours import ColourLabels, unpack
from fastscnn.data.formats.cvat import CvatLabels
from fastscnn.data.formats.ids import BinaryLabels, Channel, IdLabels
from fastscnn.data.formats.labelme import LabelMeLabels
from fastscnn.data.formats.labelstudio import LabelStudioLabels
from fastscnn.data.formats.panoptic import PanopticLabels
from fastscnn.data.formats.supervisely import SuperviselyLabels
from fastscnn.data.formats.yolo import YoloLabels
from fastscnn.data.toml_table import Table
from fastscnn.model.label_set import IGNORE_INDEX, IGNORE_NAME, Colour, LabelSet

_REST = "*"  # key of [map]
_MAX_ID = (1 << 31) - 1
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})|\[?\s*(\d{1,3})[ ,]+(\d{1,3})[ ,]+(\d{1,3})\s*\]?")


@dataclass(frozen=True)
class _Format:
    """A value of labels_are.

    Attributes:
        make: returns the label format.
        keys: keys of dataset.toml that it alone has.
    """

    make: Callable[[Table, LabelSet], LabelFormat]
    keys: tuple[str, ...] = ()


def label_format(table: Table, kind: str, label_set: LabelSet) -> LabelFormat:
    """Return the label format of a dataset.toml.

    Args:
        table: the file.
        kind: its labels_are, one of `FORMATS`.
        label_set: its classes.

    Raises:
        FastSCNNError: a key that is missing, invalid, or contradicts another.
    """
    if IGNORE_NAME in label_set.names and "map" in table:
        raise table.error("classes", f"contains {IGNORE_NAME!r}, which means no class in [map]; choose another name.")
    return FORMATS[kind].make(table, label_set)


def _ids(table: Table, label_set: LabelSet) -> IdLabels:
    named, rest = _map(table, label_set)
    ignored = _ignored(table)
    if named or rest is not None:
        ids = {_id(table, key): train for key, train in named.items()}
        for value in ignored:
            if ids.setdefault(value, IGNORE_INDEX) != IGNORE_INDEX and "ignore" in table:
                raise table.error("ignore", f"is {value}, which [map] gives to {label_set.names[ids[value]]!r}; remove one.")
    else:
        first = 1 if 0 in ignored else 0  # ids from 1, and 0 for what is not labelled
        ids = {index + first: index for index in range(len(label_set))}
        for value in ignored:
            if value in ids and (value < IGNORE_INDEX or "ignore" in table):
                raise table.error("ignore", f"is {value}, the id of the class {label_set.names[ids[value]]!r}; "
                                            "use an id of no class, such as 255.")
            ids[value] = IGNORE_INDEX
    return IdLabels(
        ids,
        rest,
        channel=_channel(table),
        variable=table.text("variable", ""),
        palette=label_set.colours if "colours" in table else (),
    )


def _colours(table: Table, label_set: LabelSet) -> ColourLabels:
    named, rest = _map(table, label_set)
    if "colours" not in table and not named:
        raise table.error("colours", 'is missing; labels_are = "colours" requires the colour of each class.')
    colours: dict[Colour, int] = {}
    for train, colour in enumerate(label_set.colours if "colours" in table else ()):
        if colour in colours:
            first, second = label_set.names[colours[colour]], label_set.names[train]
            raise table.error("colours", f"gives {first!r} and {second!r} the same {list(colour)}; "
                                         'with labels_are = "colours" give each class its own colour.')
        colours[colour] = train
    for key, train in named.items():
        colours[_colour(table, key)] = train
    return ColourLabels(tuple(colours.items()), rest)


def _binary(table: Table, label_set: LabelSet) -> BinaryLabels:
    if len(label_set) != 2:
        raise table.error("classes", f'has {len(label_set)} names; labels_are = "binary" needs two, '
                                     'such as ["background", "road"].')
    if "map" in table or "ignore" in table:
        raise table.error("map" if "map" in table else "ignore", 'does not go together with labels_are = "binary"; remove it.')
    return BinaryLabels(table.whole("threshold", BinaryLabels.threshold, 1, 255), _channel(table))


def _channel(table: Table) -> Channel:
    return cast(Channel, table.choice("channel", get_args(Channel)[1:], ""))


def _shapes(make: Callable[..., Shapes], numbered: bool = False) -> Callable[[Table, LabelSet], LabelFormat]:
    """Return what makes a format of shapes. `numbered`: the file stores the numbers of classes in place of their names."""

    def shapes(table: Table, label_set: LabelSet) -> LabelFormat:
        named, rest = _map(table, label_set)
        keys = map(str, range(len(label_set))) if numbered else label_set.names
        own = {} if numbered and named else {key: train for train, key in enumerate(keys)}
        ids = {**own, **named}
        background = table.text("background", IGNORE_NAME)
        if background not in (*label_set.names, IGNORE_NAME):
            raise FastSCNNError(f"{table.path}: background: {unknown('class', background, [*label_set.names, IGNORE_NAME])}")
        order = table.texts("order")
        for name in order:
            if name not in ids:
                raise FastSCNNError(f"{table.path}: order: {unknown('name', name, ids)}")
        train = IGNORE_INDEX if background == IGNORE_NAME else label_set.index(background)
        return make(ids, train, order, rest)

    return shapes


def _shape_format(make: Callable[..., Shapes], numbered: bool = False) -> _Format:
    return _Format(_shapes(make, numbered), ("background", "order"))


FORMATS: Mapping[str, _Format] = {
    "ids": _Format(_ids, ("channel", "variable")),
    "colours": _Format(_colours),
    "binary": _Format(_binary, ("threshold", "channel")),
    "coco": _shape_format(CocoLabels),
    "coco-panoptic": _shape_format(PanopticLabels),
    "labelme": _shape_format(LabelMeLabels),
    "yolo": _shape_format(YoloLabels, numbered=True),
    "cvat": _shape_format(CvatLabels),
    "supervisely": _shape_format(SuperviselyLabels),
    "label-studio": _shape_format(LabelStudioLabels),
}


def _map(table: Table, label_set: LabelSet) -> tuple[dict[str, int], int | None]:
    """Return the keys of [map] with their train ids, and the train id of everything else."""
    if "map" not in table:
        return {}, None
    given = table.table("map", 'a class or "ignore" for each stored id, colour or name')
    trained = {name: train for train, name in enumerate(label_set.names)} | {IGNORE_NAME: IGNORE_INDEX}
    named = {}
    for key in given:
        name = given.value(key)
        if not isinstance(name, str) or name not in trained:
            raise FastSCNNError(f"{table.path}: map.{key}: {unknown('class', name, trained)}")
        named[key] = trained[name]
    rest = named.pop(_REST, None)
    return named, rest


def _ignored(table: Table) -> list[int]:
    """Return the ignored ids, each once."""
    value = table.value("ignore", IGNORE_INDEX)
    values = value if isinstance(value, list) else [value]
    for one in values:
        if type(one) is not int or not -1 <= one <= _MAX_ID:
            raise table.error("ignore", f"is {value!r}; it must be one id, such as 255, or a list of ids.")
    return list(dict.fromkeys(values))


def _id(table: Table, key: str) -> int:
    if not re.fullmatch(r"-?\d{1,10}", key, re.ASCII) or int(key) > _MAX_ID:
        raise FastSCNNError(f'{table.path}: map.{key}: is no id; with labels_are = "ids", [map] goes from ids to classes.')
    return int(key)


def _colour(table: Table, key: str) -> Colour:
    match = _COLOUR.fullmatch(key.strip())
    if match and match[1]:
        return unpack(int(match[1], 16))
    if not match or max(values := tuple(int(match[place]) for place in (2, 3, 4))) > 255:
        raise FastSCNNError(f'{table.path}: map."{key}": is no colour; write "128,64,128" or "#804080".')
    return values[0], values[1], values[2]
