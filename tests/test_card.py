"""Card: what goes into a weight file comes out again, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

SOURCE = Path("weights/a.onnx")
SMALL = Card(LabelSet(("road", "car")), (64, 96))
WHOLE = Card(
    LabelSet(("road", "größe"), ((1, 2, 3), (250, 0, 9))),
    (360, 480),
    variant="mmseg",
    channels=4,
    precision="int8",
    data=Data("facade", "train+val", 12, "CC BY 4.0", "abc"),
    recipe={"lr": 0.045, "size": None, "crop": [64, 96]},
    metrics={"val": {"miou": 51.25, "iou": {"road": 90.5, "größe": None}}},
    parameters_sha256="0" * 64,
    version="9.9.9",
)


@pytest.mark.parametrize("made", [SMALL, WHOLE], ids=["small", "whole"])
def test_round_trip(made: Card) -> None:
    again = Card.from_json(made.to_json(), SOURCE)
    assert again == made
    assert again.to_json() == made.to_json()
    assert type(again.size) is tuple


def test_a_card_says_who_made_it() -> None:
    assert json.loads(SMALL.to_json())["version"] == __version__
    assert json.loads(SMALL.to_json())["classes"] == ["road", "car"]


def test_raw_ids_stay_with_the_dataset() -> None:
    raw = Card(LabelSet(("road",), ((1, 2, 3),), raw_ids=((7, 0),)), (64, 96))
    assert Card.from_json(raw.to_json(), SOURCE).label_set == LabelSet(("road",), ((1, 2, 3),))


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(WHOLE.to_json()), **fields})


def without(*names: str) -> str:
    return json.dumps({name: value for name, value in json.loads(WHOLE.to_json()).items() if name not in names})


BROKEN = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "a text": '"card"',
    "null": "null",
    "no classes": without("classes"),
    "no colours": without("colours"),
    "no size": without("size"),
    "no data": without("data"),
    "classes of null": changed(classes=None),
    "one value too few": changed(size=[360]),
    "one value too many": changed(size=[1, 2, 3]),
    "a size in words": changed(size="large"),
    "a size of texts": changed(size=["a", "b"]),
    "a size of null": changed(size=[None, 480]),
    "colours that are numbers": changed(colours=[1, 2]),
    "data of other fields": changed(data={"name": "a"}),
    "data of more fields": changed(data={**json.loads(WHOLE.to_json())["data"], "more": 1}),
    "an unknown field": changed(mean=[0.5]),
    "data that is a text": changed(data="camvid"),
    "an infinite size": changed(size=[float("inf"), 480]),
    "lists without end": "[" * 100_000,
}


def test_a_card_from_before_int8_is_of_float32() -> None:
    assert Card.from_json(without("precision"), SOURCE).precision == "float32"


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_cards_name_the_file(text: str) -> None:
    with pytest.raises(FastSCNNError, match=r"a\.onnx: its card is broken .*make the file anew"):
        Card.from_json(text, SOURCE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(classes=[]), "1 to 255 classes"),
        (changed(classes=["a", "a"]), "stands twice"),
        (changed(classes=["a"]), "1 classes but 2 colours"),
        (changed(colours=[[1, 2], [1, 2, 3]]), "three values"),
        (changed(colours=[[1, 2, 256], [1, 2, 3]]), "0 to 255"),
        (changed(size=[0, 480]), "size"),
        (changed(size=[360, -480]), "size"),
        (changed(channels=0), "channels"),
        (changed(channels="3"), "card is broken"),
        (changed(width_mult=None), "card is broken"),
        (changed(width_mult=0), "width_mult lies above 0"),
        (changed(width_mult=1e9), "width_mult lies above 0"),
        (changed(precision="int4"), "precision is one of float32, int8, not 'int4'"),
        (changed(precision=["int8"]), "precision is one of"),
    ],
)
def test_impossible_cards_name_the_file(text: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=f"a.onnx: .*{message}"):
        Card.from_json(text, SOURCE)


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(FastSCNNError, match="mean"):
        Card.from_json(BROKEN["an unknown field"], SOURCE)


def test_missing() -> None:
    assert str(card.missing(SOURCE)).startswith("weights/a.onnx: carries no fastscnn card")
