"""Recipes: the published values, errors for bad values, and recipes read from a run.json."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.training import recipes


def test_the_papers_numbers() -> None:
    """Section 4.1 of the paper."""
    paper = recipes.named("paper")
    stated = {"variant": "paper", "batch": 12, "epochs": 1000, "iterations": None, "lr": 0.045, "power": 0.9, "momentum": 0.9,
              "weight_decay": 4e-5, "auxiliary": 0.4, "class_weights": "none", "scale": (0.5, 2.0), "flip": 0.5}
    assert {field: getattr(paper, field) for field in stated} == stated
    assert paper.brightness > 0  # the paper does not state how much
    assert paper.channel_noise > 0
    ours = {"loss_stride": 1, "auxiliary_stride": 1, "ema": 0.0, "contrast": 1.0, "gamma": 1.0, "width_mult": 1.0,
            "reparam_branches": False,
            "norm_momentum": 0.1, "optimiser": "sgd", "min_lr": 0.0, "warmup": 0, "weight_decay_on": "dense",
            "loss": "softmax", "ohem_ratio": 1.0, "ohem_threshold": 1.0, "distillation": 0.0, "soft_head": 0.0,
            "label_smoothing": 0.0,
            "lovasz": 0.0, "cat_max_ratio": 1.0,
            "balanced_crops": 0.0, "classmix": 0.0, "paste": 0.0, "colour": "tone", "corruption": 0.0}
    assert {field: getattr(paper, field) for field in ours} == ours  # not in the paper, so off


def test_mmsegmentations_numbers() -> None:
    """configs/fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py of mmsegmentation 1.2.2, and its base files."""
    mmseg = recipes.named("mmseg")
    stated = {"variant": "mmseg", "batch": 8 * 4, "iterations": 160_000, "optimiser": "sgd", "lr": 0.12, "min_lr": 1e-4,
              "power": 0.9, "momentum": 0.9, "weight_decay": 4e-5, "weight_decay_on": "all", "norm_momentum": 0.01,
              "dropout": 0.1,
              "loss": "sigmoid", "auxiliary": 0.4, "crop": (512, 1024), "scale": (0.5, 2.0), "flip": 0.5,
              "cat_max_ratio": 0.75, "colour": "mmseg", "class_weights": "none", "loss_stride": 1, "auxiliary_stride": 1}
    assert {field: getattr(mmseg, field) for field in stated} == stated


@pytest.mark.parametrize("name", ["pst900", "pst900-rgbt"])
def test_pst900s_numbers(name: str) -> None:
    """pstnet/code/FastSCNN/train.py, data_loader/penn_dataset.py and utils_fscnn/loss.py of the authors' repository."""
    recipe = recipes.named(name)
    stated = {"variant": "tramac", "batch": 12, "epochs": 300, "optimiser": "sgd", "lr": 0.01, "momentum": 0.9, "power": 0.9,
              "min_lr": 0.0, "weight_decay": 1e-4, "weight_decay_on": "all", "auxiliary": 0.0, "dropout": 0.1,
              "loss": "softmax",
              "class_weights": (1.4543, 43.8739, 34.2410, 47.3663, 27.4869), "ohem_threshold": 0.7, "size": (360, 640),
              "crop": (360, 640), "scale": (1.0, 1.0), "flip": 0.0, "brightness": 0.0, "contrast": 1.0, "channel_noise": 0.0}
    assert {field: getattr(recipe, field) for field in stated} == stated


def test_recipes_that_differ_from_the_papers_in_their_data_only() -> None:
    paper = recipes.named("paper")
    coarse, eventscape = recipes.named("cityscapes-coarse"), recipes.named("eventscape")
    own = ("name", "source", "epochs", "validate_every", "crop")
    for recipe in (coarse, eventscape):
        same = [field.name for field in fields(paper) if field.name not in own]
        assert {name: getattr(recipe, name) for name in same} == {name: getattr(paper, name) for name in same}
    assert coarse.crop == (1024, 2048)
    assert eventscape.crop == (256, 512)


def test_ohem_by_ratio_and_by_threshold_exclude_each_other() -> None:
    with pytest.raises(FastSCNNError, match="ohem_ratio: cannot be combined with ohem_threshold"):
        replace(recipes.named("pst900"), ohem_ratio=0.5)


def test_names() -> None:
    assert recipes.names() == [recipes.named(name).name for name in recipes.names()]
    assert {"paper", "mmseg", "camvid", "debug"} <= set(recipes.names())
    assert all(recipes.named(name).source for name in recipes.names())


@pytest.mark.parametrize(("word", "meant"), [("camvd", "camvid"), ("Paper", "paper"), ("debugg", "debug")])
def test_the_nearest_spelling(word: str, meant: str) -> None:
    with pytest.raises(FastSCNNError, match=f"no recipe '{word}'. Did you mean '{meant}'\\? Known: .*camvid.*"):
        recipes.named(word)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "papr"),
        ("width_mult", 0.2),
        ("width_mult", 8.1),
        ("width_mult", nan),
        ("norm_momentum", 1.1),
        ("optimiser", "adam"),
        ("min_lr", -1e-4),
        ("min_lr", inf),
        ("warmup", -1),
        ("weight_decay_on", "none"),
        ("loss", "sigmoidal"),
        ("ohem_ratio", 0.0),
        ("ohem_ratio", 1.1),
        ("distillation", -1.0),
        ("label_smoothing", 1.1),
        ("lovasz", -0.5),
        ("lovasz", nan),
        ("cat_max_ratio", 0.0),
        ("cat_max_ratio", 1.5),
        ("balanced_crops", 1.1),
        ("classmix", -0.1),
        ("paste", 2.0),
        ("colour", "grey"),
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
        ("class_weights", (1.0, 0.0)),
        ("class_weights", (1.0, inf)),
        ("ohem_threshold", 0.0),
        ("ohem_threshold", nan),
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
        ("corruption", 1.1),
        ("corruption", nan),
        ("precision", "bf16"),
        ("validate_every", 0),
        ("seed", -1),
        ("seed", 1 << 31),
        ("crop", (10_000, 10_000)),  # more pixels than an image may have
        ("lr", "fast"),
        ("lr", None),
        ("lr", True),
        ("lr", 1 << 2000),
        ("epochs", 10.0),
        ("epochs", 1 << 63),
        ("batch", None),
        ("batch", "Auto"),
        ("reparam_branches", 1),
        ("name", 7),
        ("variant", ["paper"]),
        ("variant", {}),
        ("size", (64,)),
        ("size", "64x64"),
        ("crop", None),
        ("crop", [64, 64]),
        ("crop", (64.0, 64.0)),
        ("scale", (1.0, "2")),
        ("class_weights", 1.0),
        ("class_weights", (1.0, None)),
    ],
)
def test_bad_values_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"^[a-z_ ]*\b{field}\b[a-z ]*: "):
        replace(recipes.named("debug"), **{field: value})


def test_every_number_and_every_choice_has_bounds() -> None:
    """Also of fields that are added later."""
    debug = recipes.named("debug")
    bad = {"bool": None, "str": None, "tuple": (-1, -1), "int": -1, "float": -1.0}
    for field in fields(debug):
        kind = "tuple" if "tuple" in str(field.type) else str(field.type).split(" ")[0]
        value: Any = "no such choice" if kind.startswith(("Literal", "VariantName")) else bad[kind]
        if value is not None:
            with pytest.raises(ArgumentError, match=rf"^[a-z_ ]*\b{field.name}\b[a-z ]*: "):
                replace(debug, **{field.name: value})


def test_a_batch_without_a_number_has_no_steps() -> None:
    auto = replace(recipes.named("paper"), batch="auto")
    assert asdict(auto)["batch"] == "auto"
    assert replace(auto, batch=4).steps(8) == 2000
    with pytest.raises(ArgumentError, match=r"^batch: auto is a number only while it trains, .*; give a number\.$"):
        auto.steps(8)
    assert replace(auto, iterations=7).steps(8) == 7


def test_adamw_needs_a_momentum_below_one() -> None:
    with pytest.raises(FastSCNNError, match=r"^momentum: must be below 1 with adamw, not 1.0"):
        replace(recipes.named("debug"), optimiser="adamw", momentum=1.0)
    assert replace(recipes.named("debug"), momentum=1.0).momentum == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("ema", 0.0), ("flip", 1.0), ("lr", 1e30), ("batch", 2), ("crop", (32, 32)), ("size", None), ("scale", (1.0, 1.0)),
     ("seed", 0), ("seed", (1 << 31) - 1), ("auxiliary", 0.0), ("iterations", None),
     ("width_mult", 0.25), ("width_mult", 8.0), ("ohem_ratio", 0.01), ("warmup", 0),
     ("cat_max_ratio", 0.01), ("classmix", 1.0), ("reparam_branches", True)],
)
def test_limits_are_allowed(field: str, value: Any) -> None:
    assert getattr(replace(recipes.named("debug"), **{field: value}), field) == value


@pytest.mark.parametrize("changes", [{"ohem_ratio": 0.5}, {"ohem_threshold": 0.7}, {"label_smoothing": 0.1}])
def test_what_needs_softmax_is_refused_with_sigmoid(changes: dict[str, Any]) -> None:
    replace(recipes.named("debug"), **changes)
    with pytest.raises(FastSCNNError, match="loss: sigmoid cannot be combined with ohem_ratio, ohem_threshold or label_"):
        replace(recipes.named("debug"), loss="sigmoid", **changes)


OLD = {"width_mult": "width", "reparam_branches": "branches", "ohem_ratio": "hard_pixels", "ohem_threshold": "hard_probability",
       "weight_decay_on": "decayed"}  # names in 0.1


def run_file(folder: Path, recipe: Any) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps({"recipe": recipe, "split": "train"}))
    return path


@pytest.mark.parametrize("name", recipes.names())
def test_a_run_of_this_version_gives_its_recipe(tmp_path: Path, name: str) -> None:
    recipe = recipes.named(name)
    path = run_file(tmp_path, asdict(recipe))
    assert recipes.from_run(path) == recipe
    assert recipes.from_run(tmp_path) == recipe


def test_a_run_of_0_1_gives_its_recipe_under_the_new_names(tmp_path: Path) -> None:
    recipe = replace(recipes.named("pst900"), width_mult=0.5, reparam_branches=True)
    old = {OLD.get(name, name): value for name, value in asdict(recipe).items()}
    assert set(OLD.values()) < set(old)
    assert recipes.from_run(run_file(tmp_path, old)) == recipe
    del old["task"], old["corruption"], old["soft_head"]  # added by later versions; their defaults apply
    assert recipes.from_run(run_file(tmp_path, old)) == recipe


def test_fields_that_a_run_file_lacks_come_from_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run_file(tmp_path, {"width": 2.0, "hard_pixels": 0.5})
    debug = recipes.named("debug")
    assert recipes.from_run("~/run.json", debug) == replace(debug, width_mult=2.0, ohem_ratio=0.5)


def test_errors_are_value_errors_too() -> None:
    with pytest.raises(ValueError, match=r"^batch: must be at least 2"):
        replace(recipes.named("debug"), batch=1)
    with pytest.raises(ValueError, match="no recipe 'x'"):
        recipes.named("x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"There is no recipe field 'epoch'\. Did you mean 'epochs'\?"),
        ({"epoch": 3, "rate": 1, "\x1b": 2}, r"no recipe field 'epoch'.* Also unknown: 'rate', '\\x1b'\."),
        ({"hard_pixels": 0.5}, "has both 'ohem_ratio' and its old name 'hard_pixels'"),
        ({"lr": "fast"}, "lr: must be a number, not 'fast'"),
        ({"lr": nan}, "lr: must be at least 0, not nan"),
        ({"epochs": 1.5}, "epochs: must be a whole number, not 1.5"),
        ({"batch": 1}, "batch: must be at least 2, not 1"),
        ({"crop": [64]}, r"crop: must be a height and a width, not \(64,\)"),
        ({"size": {"height": 64}}, "size: must be a height and a width or none, not {'height': 64}"),
        ({"loss": ["softmax"]}, "loss: must be softmax, sigmoid, not"),
        ({"class_weights": [[1]]}, "class_weights: must be none, log or numbers, not"),
    ],
)
def test_a_faulty_run_file_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = run_file(tmp_path, asdict(recipes.named("debug")) | changes)
    with pytest.raises(FastSCNNError, match=rf"run\.json: .*{message}"):
        recipes.from_run(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"recipe"', "{}", '{"recipe": []}', '{"recipe": null}',
                                  '{"recipe": {}}', "[" * 100_000, '{"recipe": {"lr": ' + "9" * 5000 + "}}", "\ufeff{}"])
def test_a_file_without_a_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(FastSCNNError, match=r"run\.json: .*`fastscnn train` wrote"):
        recipes.from_run(path)


def test_unreadable_run_files_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(FastSCNNError, match=rf"{'run' if path == tmp_path else 'gone'}\.json: cannot be read"):
            recipes.from_run(path)
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(FastSCNNError, match=r"run\.json: is not JSON"):
        recipes.from_run(tmp_path)
