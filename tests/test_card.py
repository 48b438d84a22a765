"""Model card: round trips, validation, and files of older and newer versions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Calibration, Card, Data
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
    metrics={"val": {"miou": 51.25, "iou": {"road": 90.5, "größe": None}, "dataset": "facade"}},
    losses={"onnx int8": {"split": "val", "images": 3, "labels": 98.5, "miou": -0.2, "worst": 0.4, "class": "road"}},
    calibration=Calibration(1.5, 2.0, "val", 12, 3.0, 0.5),
    parameters_sha256="0" * 64,
    content_sha256="1" * 64,
    version="9.9.9",
)
CALIBRATION = {"temperature": 1.5, "unknown_below": 2.0, "split": "val", "images": 12, "ece_before": 3.0, "ece": 0.5}


@pytest.mark.parametrize("made", [SMALL, WHOLE], ids=["small", "whole"])
def test_round_trip(made: Card) -> None:
    again = Card.from_json(made.to_json(), SOURCE)
    assert again == made
    assert again.to_json() == made.to_json()
    assert type(again.size) is tuple


def test_a_card_has_version_and_schema() -> None:
    saved = json.loads(SMALL.to_json())
    assert saved["version"] == __version__
    assert saved["classes"] == ["road", "car"]
    assert saved["recipe"]["fastscnn"]["schema"] == card.SCHEMA == 2


def test_raw_ids_stay_with_the_dataset() -> None:
    raw = Card(LabelSet(("road",), ((1, 2, 3),), raw_ids=((7, 0),)), (64, 96))
    assert Card.from_json(raw.to_json(), SOURCE).label_set == LabelSet(("road",), ((1, 2, 3),))


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(WHOLE.to_json()), **fields})


def without(*names: str) -> str:
    return json.dumps({name: value for name, value in json.loads(WHOLE.to_json()).items() if name not in names})


def calibration(**fields: Any) -> str:
    return changed(calibration={**CALIBRATION, **fields})


def data(**fields: Any) -> str:
    return changed(data={**json.loads(WHOLE.to_json())["data"], **fields})


def deep(levels: int) -> list[Any]:
    return [deep(levels - 1)] if levels else []


BROKEN = {  # text, and where the message says that it is broken
    "empty": ("", "as a whole"),
    "no JSON": ("{", "as a whole"),
    "a list": ("[]", "as a whole"),
    "a text": ('"card"', "as a whole"),
    "null": ("null", "as a whole"),
    "lists without end": ("[" * 100_000, "as a whole"),
    "an integer of 5000 digits": (f'{{"size": {"9" * 5000}}}', "as a whole"),
    "5 MB": (" " * 5_000_000, "as a whole"),
    "no classes": (without("classes"), "at classes: it is missing"),
    "no colours": (without("colours"), "at colours: it is missing"),
    "no size": (without("size"), "at size: it is missing"),
    "no data": (without("data"), "at data: it is missing"),
    "classes of null": (changed(classes=None), "at classes"),
    "classes of numbers": (changed(classes=[1, 2]), "at classes"),
    "no class": (changed(classes=[], colours=[]), "at classes: .*1 to 255 classes"),
    "equal classes": (changed(classes=["a", "a"]), "at classes: .*used twice"),
    "fewer classes than colours": (changed(classes=["a"]), "at classes: 1 classes but 2 colours"),
    "a long class name": (changed(classes=["x" * 201, "b"]), "at classes: a name of 201 characters"),
    "a class name of 2 MB": (changed(classes=["x" * 2_000_000, "b"]), r"at classes\[0\]: a text of 2000000 characters"),
    "a surrogate": (changed(classes=["\ud800x", "b"]), r"at classes\[0\]: .*not valid Unicode"),
    "a surrogate in a key": (changed(metrics={"\udfff": {"miou": 1}}), "at metrics: .*not valid Unicode"),
    "colours that are numbers": (changed(colours=[1, 2]), "at colours"),
    "colours of fractions": (changed(colours=[[1.5, 2, 3], [1, 2, 3]]), "at colours"),
    "colours of booleans": (changed(colours=[[True, 2, 3], [1, 2, 3]]), "at colours"),
    "a colour of two values": (changed(colours=[[1, 2], [1, 2, 3]]), "at colours: each colour must be three"),
    "a colour out of range": (changed(colours=[[1, 2, 256], [1, 2, 3]]), "at colours: .*0 to 255"),
    "colours in an object": (changed(colours={"a": 1}), "at colours"),
    "one side": (changed(size=[360]), r"at size: .* is not \[height, width\]"),
    "three sides": (changed(size=[1, 2, 3]), "at size"),
    "a size in words": (changed(size="large"), "at size"),
    "a size of texts": (changed(size=["a", "b"]), "at size: 'a' is not a whole number"),
    "a size of null": (changed(size=[None, 480]), "at size"),
    "a size of fractions": (changed(size=[64.0, 480]), "at size"),
    "a size of booleans": (changed(size=[True, 480]), "at size"),
    "an infinite size": (changed(size=[float("inf"), 480]), r"at size\[0\]: inf is not a finite number"),
    "no height": (changed(size=[0, 480]), "at size: 0 must be from 1"),
    "a negative width": (changed(size=[360, -480]), "at size: -480 must be from 1"),
    "a huge size": (changed(size=[100_000, 100_000]), "at size: .* has more than 40000000 pixels"),
    "no channels": (changed(channels=0), "at channels"),
    "channels in words": (changed(channels="3"), "at channels"),
    "very many channels": (changed(channels=10**9), "at channels"),
    "a width of null": (changed(width=None), "at width"),
    "no width": (changed(width=0), "at width: 0 must be above 0"),
    "a huge width": (changed(width_mult=1e9), "at width_mult: .*at most 8"),
    "a width of 10**400": (changed(width=10**400), "at width: a whole number of more than 64 bits"),
    "an unknown precision": (changed(precision="int4"), "at precision: 'int4' is not one of float32, float16, int8"),
    "a list of precisions": (changed(precision=["int8"]), "at precision"),
    "a variant of numbers": (changed(variant=3), "at variant"),
    "data of other fields": (changed(data={"name": "a"}), r"at data\.splits: it is missing"),
    "data that is a text": (changed(data="camvid"), "at data: 'camvid' is not an object"),
    "images in words": (data(images="12"), r"at data\.images"),
    "fewer images than none": (data(images=-1), r"at data\.images"),
    "terms in a list": (data(terms=["CC"]), r"at data\.terms"),
    "a recipe in a list": (changed(recipe=[1]), "at recipe"),
    "a recipe without end": (changed(recipe={"lr": deep(50)}), r"at recipe\.lr.*nested"),
    "a recipe with NaN": (changed(recipe={"lr": float("nan")}), r"at recipe\.lr: nan is not a finite number"),
    "a schema in words": (changed(schema="2"), "at schema"),
    "no schema": (changed(schema=0), "at schema"),
    "an extension in a list": (changed(recipe={"fastscnn": [2]}), r"at recipe\.fastscnn"),
    "a hash of numbers": (changed(recipe={"fastscnn": {"schema": 2, "content_sha256": 1}}), r"\.content_sha256"),
    "metrics in a list": (changed(metrics=[1]), "at metrics"),
    "a score in words": (changed(metrics={"val": {"miou": "abc"}}), r"at metrics\.val\.miou"),
    "a score alone": (changed(metrics={"val": 51.0}), r"at metrics\.val"),
    "no mIoU": (changed(metrics={"val": {"pixel_accuracy": 1.0}}), r"at metrics\.val\.miou: it is missing"),
    "more than all": (changed(metrics={"val": {"miou": 101}}), r"at metrics\.val\.miou: .*at most 100"),
    "a dataset of numbers": (changed(metrics={"val": {"miou": 1, "dataset": 2}}), r"at metrics\.val\.dataset"),
    "IoU in words": (changed(metrics={"val": {"miou": 1, "iou": {"road": "a"}}}), r"at metrics\.val\.iou\.road"),
    "losses in words": (changed(losses="none"), "at losses"),
    "a loss in words": (changed(losses={"onnx int8": {"miou": "little"}}), r"at losses\.onnx int8\.miou"),
    "a loss without figures": (changed(losses={"onnx int8": None}), r"at losses\.onnx int8"),
    "a calibration in a list": (changed(calibration=[1]), "at calibration"),
    "an empty calibration": (changed(calibration={}), r"at calibration\.temperature: it is missing"),
    "a temperature of 10**400": (calibration(temperature=10**400), r"at calibration\.temperature"),
    "a temperature of 0": (calibration(temperature=0), r"at calibration\.temperature: 0 must be above 0"),
    "a temperature of NaN": (calibration(temperature=float("nan")), r"at calibration\.temperature"),
    "a temperature in words": (calibration(temperature="hot"), r"at calibration\.temperature"),
    "a boolean temperature": (calibration(temperature=True), r"at calibration\.temperature"),
    "an infinite threshold": (calibration(unknown_below=float("-inf")), r"at calibration\.unknown_below"),
    "a negative error": (calibration(ece=-1), r"at calibration\.ece"),
    "a version of numbers": (changed(version=2), "at version"),
    "a hash in a list": (changed(parameters_sha256=[]), "at parameters_sha256"),
}


@pytest.mark.reliability("cards")
@pytest.mark.parametrize(("text", "where"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_card_names_file_and_field(text: str, where: str) -> None:
    with pytest.raises(FastSCNNError, match=rf"a\.onnx: its card is broken .*{where}") as caught:
        Card.from_json(text, SOURCE)
    message = str(caught.value)
    assert message.endswith("; write the file again with this version of fastscnn.")
    assert len(message) < 400
    assert "\n" not in message
    message.encode()


def loss(**fields: Any) -> str:
    return changed(losses={"onnx int8": {"miou": 0.5, **fields}})


def score(**fields: Any) -> str:
    return changed(metrics={"val": {"miou": 50, **fields}})


LIMITS = {  # the last text that is read, and the first that is not
    "characters": (WHOLE.to_json().ljust(4 << 20), WHOLE.to_json().ljust((4 << 20) + 1)),
    "channels": (changed(channels=1024), changed(channels=1025)),
    "one channel": (changed(channels=1), changed(channels=0)),
    "images": (data(images=0), data(images=-1)),
    "width": (changed(width_mult=8), changed(width_mult=8.01)),
    "loss": (loss(miou=100), loss(miou=100.01)),
    "gain": (loss(miou=-100), loss(miou=-100.01)),
    "loss of a class": (loss(worst=100), loss(worst=100.01)),
    "gain of a class": (loss(worst=-100), loss(worst=-100.01)),
    "equal labels": (loss(labels=100), loss(labels=100.01)),
    "no equal label": (loss(labels=0), loss(labels=-0.01)),
    "mIoU": (score(miou=100), score(miou=100.01)),
    "mIoU of 0": (score(miou=0), score(miou=-0.01)),
    "pixel accuracy": (score(pixel_accuracy=100), score(pixel_accuracy=100.01)),
    "IoU": (score(iou={"road": 100}), score(iou={"road": 100.01})),
    "IoU of 0": (score(iou={"road": 0}), score(iou={"road": -0.01})),
    "error": (calibration(ece=100, ece_before=100), calibration(ece=100.01)),
}


@pytest.mark.parametrize(("last", "beyond"), LIMITS.values(), ids=LIMITS.keys())
def test_limits(last: str, beyond: str) -> None:
    Card.from_json(last, SOURCE)
    with pytest.raises(FastSCNNError, match="its card is broken"):
        Card.from_json(beyond, SOURCE)


def test_a_loss_and_a_score_need_the_miou_only() -> None:
    losses, metrics = {"onnx int8": {"miou": 0.5}}, {"val": {"miou": 50}}
    read = Card.from_json(changed(losses=losses, metrics=metrics), SOURCE)
    assert (read.losses, read.metrics) == (losses, metrics)


def test_a_card_from_before_int8_is_of_float32() -> None:
    assert Card.from_json(without("precision"), SOURCE).precision == "float32"


# Other versions


def test_unknown_fields_are_kept_and_ignored() -> None:
    saved = json.loads(WHOLE.to_json())
    saved["mean"] = [0.5]
    saved["data"]["licence"] = "CC"
    saved["calibration"]["bins"] = {"a": [1]}
    saved["recipe"]["fastscnn"]["tiles"] = 4
    read = Card.from_json(json.dumps(saved), SOURCE)
    assert (read.size, read.recipe, read.temperature) == (WHOLE.size, WHOLE.recipe, 1.5)
    again = json.loads(dataclasses.replace(read, metrics={}, precision="float32").to_json())
    assert again == {**saved, "metrics": {}, "precision": "float32"}


@pytest.mark.parametrize("place", ["extension", "top"])
def test_a_newer_schema_is_refused(place: str) -> None:
    text = changed(schema=3, classes={}) if place == "top" else changed(recipe={"fastscnn": {"schema": 3}}, classes={})
    with pytest.raises(FastSCNNError, match=r"a\.onnx: was written by a newer fastscnn .*schema 3.* install a newer"):
        Card.from_json(text, SOURCE)


def test_a_card_of_0_1_opens() -> None:
    saved = json.loads(WHOLE.to_json())
    saved["recipe"] = {"lr": 0.1, "width": 1.0, "branches": False, "hard_pixels": 0.5, "hard_probability": 1, "decayed": "all"}
    saved["width"] = 0.5
    read = Card.from_json(json.dumps(saved), SOURCE)
    assert read.width_mult == 0.5
    assert read.calibration == WHOLE.calibration
    assert read.content_sha256 == ""
    assert read.recipe == {
        "lr": 0.1, "width_mult": 1.0, "reparam_branches": False, "ohem_ratio": 0.5, "ohem_threshold": 1.0,
        "weight_decay_on": "all",
    }


def test_recipes_of_this_schema_keep_their_fields() -> None:
    made = dataclasses.replace(SMALL, recipe={"width": 3})
    assert Card.from_json(made.to_json(), SOURCE).recipe == {"width": 3}


@dataclasses.dataclass(frozen=True)
class CalibrationOf01:
    """The fields that fastscnn 0.1 takes; it refuses any other."""

    temperature: float
    unknown_below: float
    split: str
    images: int
    ece_before: float
    ece: float


@dataclasses.dataclass(frozen=True)
class CardOf01:
    """The fields that fastscnn 0.1 takes; it refuses any other."""

    label_set: LabelSet
    size: tuple[int, int]
    variant: str = "paper"
    channels: int = 3
    width: float = 1.0
    precision: str = "float32"
    data: Any = None
    recipe: Any = None
    metrics: Any = None
    losses: Any = None
    calibration: CalibrationOf01 | None = None
    parameters_sha256: str = ""
    version: str = ""


@pytest.mark.parametrize("made", [SMALL, WHOLE], ids=["small", "whole"])
def test_the_reader_of_0_1_takes_a_card_of_today(made: Card) -> None:
    """By its own rules, `from_json` of src/fastscnn/card.py at 0.1.0."""
    saved = json.loads(made.to_json())
    label_set = LabelSet(tuple(saved.pop("classes")), tuple(tuple(colour) for colour in saved.pop("colours")))
    (height, width), of_data, measured = saved.pop("size"), saved.pop("data"), saved.pop("calibration", None)
    old = CardOf01(
        label_set,
        (int(height), int(width)),
        data=dataclasses.make_dataclass("Data", ("name", "splits", "images", "terms", "fingerprint"))(**of_data)
        if of_data else None,
        calibration=CalibrationOf01(**measured) if measured else None,
        **saved,
    )
    assert (old.label_set, old.size, old.width, old.precision) == (made.label_set, made.size, made.width_mult, made.precision)


@pytest.mark.parametrize(
    ("backend", "precision", "kept"),
    [("onnx", "float32", True), ("onnx", "int8", True), ("openvino", "int8", False), ("openvino", "bfloat16", False),
     ("onnx", "float16", False)],
)
def test_a_backend_may_lose_half_a_point(backend: str, precision: str, kept: bool) -> None:
    losses = {"onnx int8": {"miou": 0.5}, "openvino int8": {"miou": 0.501}}  # bfloat16 and float16 are not measured
    made = dataclasses.replace(SMALL, losses=losses)
    assert made.keeps_accuracy(backend, precision) == kept


@pytest.mark.parametrize(("stored", "precision", "kept"), [
    ("float16", "float16", True), ("float16", "int8", False), ("int8", "int8", False), ("int8", "float32", True),
])
def test_a_float16_file_keeps_its_accuracy(stored: str, precision: str, kept: bool) -> None:
    assert dataclasses.replace(SMALL, precision=stored).keeps_accuracy("onnx", precision) == kept


def test_missing() -> None:
    assert str(card.missing(SOURCE)).startswith("weights/a.onnx: carries no fastscnn card")


@pytest.mark.parametrize(("size", "inputs"), [
    ((360, 480), [(360, 480), (264, 352), (168, 224), (104, 128)]),
    ((480, 360), [(480, 360), (352, 264), (256, 200), (128, 104)]),
    ((1024, 2048), [(1024, 2048), (768, 1536), (512, 1024), (256, 512)]),
    ((64, 96), [(64, 96), (32, 64)]),  # 3/4 becomes the card's size again, 1/4 is too small
    ((32, 32), [(32, 32)]),
    ((16, 64), []),
])
def test_base_sizes(size: tuple[int, int], inputs: list[tuple[int, int]]) -> None:
    assert Card(LabelSet(("road",)), size).inputs() == inputs


@given(st.integers(32, 3000), st.integers(32, 3000))
@settings(derandomize=True, deadline=None)
def test_base_sizes_of_any_card(height: int, width: int) -> None:
    found = Card(LabelSet(("road",)), (height, width)).inputs()
    assert found[0] == (height, width)
    assert len(set(found)) == len(found)
    assert found == sorted(found, reverse=True)
    for tall, wide in found:
        assert min(tall, wide) >= 32
        assert ((height - tall) % 32, (width - wide) % 32) == (0, 0)
        assert wide == 32 + (width - 32) % 32 or abs(wide - tall * width / height) <= 16
