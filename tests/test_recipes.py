"""Recipes: the paper's numbers, and bad ones refused by name."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from fastscnn import recipes
from fastscnn.errors import FastSCNNError


def test_the_papers_numbers() -> None:
    """Section 4.1 of the paper; FACTS 2."""
    paper = recipes.named("paper")
    stated = {"variant": "paper", "batch": 12, "epochs": 1000, "iterations": None, "lr": 0.045, "power": 0.9, "momentum": 0.9,
              "weight_decay": 4e-5, "auxiliary": 0.4, "class_weights": "none", "scale": (0.5, 2.0), "flip": 0.5}
    assert {field: getattr(paper, field) for field in stated} == stated
    assert paper.brightness > 0  # amounts are not stated
    assert paper.channel_noise > 0
    ours = {"loss_stride": 1, "auxiliary_stride": 1, "ema": 0.0, "contrast": 1.0, "gamma": 1.0}
    assert {field: getattr(paper, field) for field in ours} == ours  # not in the paper, so switched off


def test_names() -> None:
    assert recipes.names() == [recipes.named(name).name for name in recipes.names()]
    assert {"paper", "camvid", "debug"} <= set(recipes.names())
    assert all(recipes.named(name).source for name in recipes.names())


@pytest.mark.parametrize(("word", "meant"), [("camvd", "camvid"), ("Paper", "paper"), ("debugg", "debug")])
def test_the_nearest_spelling(word: str, meant: str) -> None:
    with pytest.raises(FastSCNNError, match=f"no recipe '{word}'. Did you mean '{meant}'\\? Known: .*camvid.*"):
        recipes.named(word)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "papr"),
        ("dropout", 1.1),
        ("dropout", -0.1),
        ("size", (31, 64)),
        ("batch", 1),
        ("epochs", 0),
        ("iterations", 0),
        ("lr", -0.1),
        ("lr", nan),
        ("lr", inf),
        ("power", -1.0),
        ("momentum", -0.9),
        ("weight_decay", -1e-5),
        ("auxiliary", -0.4),
        ("class_weights", "Log"),
        ("loss_stride", 0),
        ("auxiliary_stride", 0),
        ("ema", 1.5),
        ("ema", nan),
        ("crop", (64, 31)),
        ("scale", (0.0, 1.0)),
        ("scale", (2.0, 0.5)),
        ("scale", (0.5, inf)),
        ("scale", (nan, 1.0)),
        ("flip", 2.0),
        ("brightness", -1.0),
        ("contrast", 0.9),
        ("contrast", nan),
        ("gamma", 0.0),
        ("channel_noise", 1.5),
        ("precision", "bf16"),
        ("validate_every", 0),
        ("seed", -1),
        ("seed", 1 << 31),
    ],
)
def test_bad_values_are_refused(field: str, value: Any) -> None:
    with pytest.raises(FastSCNNError, match=rf"^[a-z_ ]*\b{field}\b[a-z ]*: "):
        replace(recipes.named("debug"), **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("ema", 0.0), ("flip", 1.0), ("lr", 1e30), ("batch", 2), ("crop", (32, 32)), ("size", None), ("scale", (1.0, 1.0)),
     ("seed", 0), ("seed", (1 << 31) - 1), ("auxiliary", 0.0), ("iterations", None)],
)
def test_limits_are_allowed(field: str, value: Any) -> None:
    assert getattr(replace(recipes.named("debug"), **{field: value}), field) == value
