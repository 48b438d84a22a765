"""Distillation from files: reading soft labels, warping them with the crop, their loss, and what is refused before a step."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets, mixture, synthetic
from fastscnn.data.builtin.cityscapes import LABELS as CITYSCAPES
from fastscnn.data.check.dataset import check
from fastscnn.data.class_map import soft_train_ids
from fastscnn.data.mixture import Source
from fastscnn.data.soft import SoftClasses
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN, TrainingLogits
from fastscnn.training.augment import Crop, augment, paste
from fastscnn.training.loader import Loader
from fastscnn.training.loss import soft_loss, training_loss
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.train import train

DEBUG = named("debug")
CLASSES = ("land", "thing", "air")  # of the soft labels
SOFT = """
[soft]
classes = ["land", "thing", "air"]
terms = "of the teacher"
map = { land = "Road", air = "Sky" }
"""

pytestmark = pytest.mark.usefixtures("one_thread")


def random_soft(size: tuple[int, int], seed: int, classes: int = 3) -> UInt8Array:
    """Random probabilities of an image of this size, as uint8."""
    values = np.random.default_rng(seed).dirichlet([1.0] * classes, tuple(round(side / 8) for side in size))
    return np.rint(255 * values.transpose(2, 0, 1)).astype(np.uint8)


@pytest.fixture
def softened(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the tiny dataset, with soft labels of three other classes in train."""
    toml = tmp_path / "data" / "dataset.toml"
    shutil.copytree(tiny_dataset.parent, toml.parent)
    (toml.parent / "soft").mkdir()
    for seed in range(6):
        np.savez_compressed(toml.parent / f"soft/{seed}.npz", probabilities=random_soft((96, 128), seed))
    text = toml.read_text().replace('labels = "labels/train/{stem}.png"\n',
                                    'labels = "labels/train/{stem}.png"\nsoft = "soft/{stem}.npz"\n')
    toml.write_text(text + SOFT)
    return toml


def changed(toml: Path, old: str, new: str) -> Path:
    text = toml.read_text()
    assert old in text
    toml.write_text(text.replace(old, new))
    return toml


# Reading


def test_soft_labels_are_read_with_their_image(softened: Path) -> None:
    spec = datasets.load(softened)
    assert spec.soft == SoftClasses(CLASSES, (synthetic.CLASSES.index("Road"), 255, synthetic.CLASSES.index("Sky")),
                                   "of the teacher")
    for seed, pair in enumerate(spec.pairs("train")):
        read = spec.read_soft(pair, (96, 128))
        assert read is not None
        assert np.array_equal(read, random_soft((96, 128), seed))
    assert all(spec.read_soft(pair, (96, 128)) is None for pair in spec.pairs("val"))


def test_without_a_table_soft_labels_have_the_classes_of_the_dataset(softened: Path) -> None:
    changed(softened, SOFT, "")
    spec = datasets.load(softened)
    assert spec.soft == SoftClasses(synthetic.CLASSES, tuple(range(len(synthetic.CLASSES))))
    report = check(spec)
    assert {finding.kind for finding in report.findings if finding.severity == "error"} == {"unreadable-soft"}


def test_a_known_list_of_classes_has_a_name(softened: Path) -> None:
    changed(softened, 'classes = ["land", "thing", "air"]', 'classes = "cityscapes"')
    changed(softened, "map = { land", "map = { road = \"Road\", terrain = \"ignore\", vegetation = \"Tree\" }\n#")
    soft = datasets.load(softened).soft
    assert soft
    assert soft.classes == CITYSCAPES.names
    named_ids = dict(zip(soft.classes, soft.train_ids, strict=True))
    assert named_ids["vegetation"] == synthetic.CLASSES.index("Tree")
    assert named_ids["building"] == synthetic.CLASSES.index("Building")  # equal but for case
    assert named_ids["terrain"] == named_ids["train"] == 255


def test_a_name_in_the_same_case_comes_first() -> None:
    assert soft_train_ids(["car", "Car", "CAR"], {}, ["Car", "car"]) == (1, 0, 255)  # the last one fits both
    assert soft_train_ids(["SKY", "road"], {"road": "ignore"}, ["Sky", "Road"]) == (0, 255)


def test_the_check_counts_soft_labels_in(softened: Path, tmp_path: Path) -> None:
    spec = datasets.load(softened)
    before = check(spec, cache=tmp_path / "cache")
    assert before.ok
    assert not before.findings
    np.savez(softened.parent / "soft/0.npz", probabilities=random_soft((96, 128), 99), classes=np.array(CLASSES))
    after = check(spec, cache=tmp_path / "cache")
    assert after.ok
    assert after.fingerprint != before.fingerprint


def save(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("probabilities.npy", content)


GOOD = random_soft((96, 128), 0)
BROKEN: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, r"0\.png: its soft labels .*0\.npz are missing\. Make them with `fastscnn soft-labels`"),
    "other size": (lambda path: save(path, probabilities=random_soft((96, 96), 0)),
                   r"0\.npz: has 12x12 cells, but its image of 96x128 has 12x16 cells of 8 pixels"),
    "other count": (lambda path: save(path, probabilities=random_soft((96, 128), 0, 4)),
                    r"0\.npz: probabilities have the shape \[4, 12, 16\], but there are 3 soft classes"),
    "other classes": (lambda path: save(path, probabilities=GOOD, classes=np.array(["land", "air", "thing"])),
                      r"0\.npz: holds probabilities of other classes \('land', 'air', 'thing'\) than \[soft\] in"),
    "other type": (lambda path: save(path, probabilities=GOOD / np.float32(255)),
                   r"0\.npz: probabilities have the type float32; save 255 times"),
    "no probabilities": (lambda path: save(path, logits=GOOD), r"0\.npz: has no array 'probabilities'"),
    "no sum of one": (lambda path: save(path, probabilities=GOOD // 2), r"0\.npz: the probabilities of a cell add up to 0\.\d"),
    "pickle": (lambda path: save(path, probabilities=np.array([{}], dtype=object)), r"0\.npz: is no \.npz file of numbers"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]), r"0\.npz: is no \.npz file of numbers, or is truncated"),
    "no text": (lambda path: save(path, probabilities=GOOD, classes=np.array([b"land", b"thing", b"air"])),
                r"0\.npz: is no \.npz file of numbers, or is truncated \(classes have the type"),
    "no array": (lambda path: zipped(path, b"hello"), r"0\.npz: is no \.npz file of numbers"),
    "broken header": (lambda path: zipped(path, b"\x93NUMPY\x01\x00\x10\x00{{descr'" + bytes(40)), r"0\.npz: is no \.npz file"),
    "one array": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(90)), r"0\.npz: is no \.npz file of numbers"),
    "huge": (lambda path: np.savez_compressed(path, probabilities=np.zeros((3, 8000, 8000), np.uint8)),
             r"0\.npz: holds 192 MB, more than the soft labels of an image of 40 megapixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_is_refused_before_the_first_step(softened: Path, tmp_path: Path, name: str) -> None:
    make, message = BROKEN[name]
    make(softened.parent / "soft/0.npz")
    with pytest.raises(FastSCNNError, match=message):
        train(replace(DEBUG, distillation=1.0), softened, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("old", "new", "message"), [
    ('soft = "soft/{stem}.npz"', 'soft = "soft.npz"', r"splits\.train\.soft is 'soft\.npz', one file for all images"),
    ('soft = "soft/{stem}.npz"', "", r"soft needs the files of a split; add soft = "),
    ("land = ", "lend = ", r"soft\.map: .*'lend'.*'land'"),
    ('"Road"', '"Raod"', r"soft\.map: .*'Raod'.*'Road'"),
    ('terms = "of', 'term = "of', r"'term'.*'terms'"),
    ('["land", "thing", "air"]', '["land", "land", "air"]', r"soft\.classes must be different names"),
    ('["land", "thing", "air"]', '"citiscapes"', r"'citiscapes'.*'cityscapes'"),
    ('soft = "soft/{stem}.npz"', 'soft = "soft/{stem}.npz"\nwindow = "64x64"', r"window cannot be used with soft"),
])  # fmt: skip
def test_a_wrong_table_is_refused(softened: Path, old: str, new: str, message: str) -> None:
    changed(softened, old, new)
    with pytest.raises(FastSCNNError, match=message) as caught:
        datasets.load(softened)
    assert str(softened) in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), [
    ({"soft_head": 0.5}, r"soft_head: the training images \(train\) have no soft labels; add soft = "),
    ({"distillation": 0.5}, r"distillation: needs a teacher"),
])  # fmt: skip
def test_losses_without_soft_labels_are_refused(
    tiny_dataset: Path, tmp_path: Path, changes: dict[str, float], message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        train(replace(DEBUG, **changes), tiny_dataset, tmp_path / "out")  # type: ignore[arg-type]


@pytest.mark.parametrize("mapping", ["", 'land = "Road"'])
def test_a_main_head_that_cannot_learn_is_refused(softened: Path, tmp_path: Path, mapping: str) -> None:
    changed(softened, 'land = "Road", air = "Sky"', mapping)
    with pytest.raises(FastSCNNError, match=r"distillation: fewer than two classes .*; complete map in \[soft\]"):
        train(replace(DEBUG, distillation=1.0), softened, tmp_path / "out")


def test_soft_labels_of_another_split_are_not_enough(softened: Path, tmp_path: Path) -> None:
    line = 'soft = "soft/{stem}.npz"\n'
    changed(softened, line, "")
    changed(softened, "[splits.val]\n", f"[splits.val]\n{line}")
    for seed in range(6, 9):
        np.savez(softened.parent / f"soft/{seed}.npz", probabilities=random_soft((96, 128), seed))
    for changes in ({"distillation": 1.0}, {"soft_head": 1.0}):
        with pytest.raises(FastSCNNError, match=r"the training images \(train\)"):
            train(replace(DEBUG, **changes), softened, tmp_path / "out")  # type: ignore[arg-type]


# Crops


@pytest.mark.parametrize("size", [(96, 128), (100, 90), (97, 131)])
def test_soft_labels_follow_the_crop(size: tuple[int, int]) -> None:
    """The oracle: a picture of the same ramps, cropped by OpenCV."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x / width, y / height, (1 - x / width) * 0.5], axis=2).astype(np.float32)
    image = np.rint(255 * ramps).astype(np.uint8)
    cells = round(height / 8), round(width / 8)
    rows, columns = ((np.arange(count) + 0.5) / count for count in cells)
    soft = np.stack(np.broadcast_arrays(columns[None], rows[:, None], (1 - columns[None]) * 0.5))
    soft = np.rint(255 * soft).astype(np.uint8)
    for seed in range(30):
        recipe = replace(DEBUG, crop=(64, 80), scale=(0.7, 2.5), brightness=0, contrast=1, gamma=1, channel_noise=0, size=size)
        crop = augment(image, np.zeros(size, np.uint8), recipe, np.random.default_rng(seed), None, soft)
        assert crop.soft is not None
        assert crop.soft.dtype == np.float32
        assert crop.soft.shape == (3, 8, 10)
        mean = crop.image.reshape(8, 8, 10, 8, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255
        whole = (crop.labels.reshape(8, 8, 10, 8) == 0).all(axis=(1, 3))  # cells that lie inside the image
        inner = whole & (mean[:2] > 0.08).all(axis=0) & (mean[:2] < 0.92).all(axis=0)  # the border has no more cells outside
        assert abs(crop.soft - mean)[:, inner].max(initial=0) < 0.02
        outside = (crop.labels.reshape(8, 8, 10, 8) == 255).all(axis=(1, 3))
        assert not crop.soft[:, outside].any()
        assert crop.soft[:, whole].any(axis=0).all()


def test_a_paste_takes_the_soft_labels_along() -> None:
    ones, twos = np.full((3, 4, 4), 1, np.float32), np.full((3, 4, 4), 2, np.float32)
    labels = np.zeros((32, 32), np.uint8)
    labels[8:16, 16:] = 5
    onto = Crop(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8), ones)
    made = paste(onto, Crop(np.ones((32, 32, 3), np.uint8), labels, twos), np.array([5]))
    assert made.soft is not None
    expected = ones.copy()
    expected[:, 1, 2:] = 2
    assert np.array_equal(made.soft, expected)


def test_a_paste_from_an_image_without_soft_labels_leaves_none(softened: Path) -> None:
    """Three of nine images have no soft labels; a cell has those of the crop that the pixel at its centre is from."""
    more = '[splits.more]\nimages = "images/val/*.png"\nlabels = "labels/val/{stem}.png"\n'
    spec = datasets.load(changed(softened, "[splits.val]", f"{more}[splits.val]"))
    recipe = replace(DEBUG, crop=(64, 96), batch=9, distillation=1.0)
    before, after = (
        Loader(mixture.load(spec), [spec.pairs("train+more")], replace(recipe, classmix=share)).batch(0) for share in (0.0, 1.0)
    )
    assert before.soft is not None
    assert after.soft is not None
    assert sum(not soft.any() for soft in before.soft) == 3
    moved = (after.labels != before.labels)[:, 4::8, 4::8]
    from_none = 0
    for index in range(9):
        source = before.soft[index - 1]
        assert np.array_equal(after.soft[index][:, moved[index]], source[:, moved[index]])
        from_none += 0 if source.any() else int(moved[index].sum())
    assert from_none > 10


def loader_of(data: Any, **changes: Any) -> Loader:
    mixed = mixture.load(data)
    fields: dict[str, Any] = {"crop": (64, 96), "batch": 10, "distillation": 1.0} | changes
    return Loader(mixed, [member.spec.pairs("train") for member in mixed.members], replace(DEBUG, **fields))


@pytest.mark.slow
def test_a_dataset_without_soft_labels_has_empty_cells(softened: Path, partial_dataset: Path) -> None:
    loader = loader_of([softened, Source(partial_dataset, map={"construction": "Building", "void": "ignore"})])
    batch = loader.batch(0)
    assert batch.soft is not None
    assert batch.soft.shape == (10, 3, 8, 12)
    for name, soft in zip(batch.names, batch.soft, strict=True):
        assert soft.any() == (str(softened.parent) in name)


def test_soft_labels_that_no_loss_uses_are_not_read(softened: Path) -> None:
    for path in softened.parent.glob("soft/*.npz"):
        path.unlink()
    assert loader_of(softened, distillation=0.0).batch(0).soft is None


def test_the_map_of_the_first_dataset_holds_for_all(softened: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "dataset.toml"
    shutil.copytree(softened.parent, other.parent)
    changed(other, 'land = "Road", air = "Sky"', 'thing = "Car"')
    both, alone = (mixture.load(data).soft_to_classes for data in ([softened, other], softened))
    assert both is not None
    assert alone is not None
    assert np.array_equal(both, alone)
    changed(other, '"thing", "air"', '"air", "thing"')
    with pytest.raises(FastSCNNError, match="its soft labels have other classes than those of tiny"):
        mixture.load([softened, other])


# The loss


def by_numpy(
    logits: Float32Array, soft: Float32Array, to_classes: Float32Array | None, weights: Float32Array | None
) -> float:
    """The divergence by its definition, cell by cell in float64."""
    total, mass = 0.0, 0.0
    classes = list(range(logits.shape[1])) if to_classes is None else np.flatnonzero(to_classes.any(axis=0)).tolist()
    for image, row, column in itertools.product(*map(range, (logits.shape[0], *logits.shape[2:]))):
        own = soft[image, :, row, column].astype(np.float64)
        target = own if to_classes is None else own @ to_classes
        target = target if weights is None else target * weights
        values = logits[image, :, row, column].astype(np.float64)[classes]
        log = values - np.log(np.exp(values).sum())
        for place, index in enumerate(classes):
            if target[index]:
                total += target[index] * (np.log(target[index] / target.sum()) - log[place])
        mass += target.sum()
    return total / mass


@pytest.mark.parametrize("mapping", [
    None, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]],
])  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_divergence(mapping: list[list[int]] | None, weighted: bool) -> None:
    random = np.random.default_rng(3)
    classes = 3 if mapping is None else 4
    logits = random.normal(size=(2, classes, 4, 5)).astype(np.float32)
    soft = (np.stack([random_soft((32, 40), seed) for seed in (1, 2)]) / 255).astype(np.float32)
    soft[:, :, 0], soft[1, :, 2, 3] = 0, (1, 0, 0)
    to_classes = None if mapping is None else np.array(mapping, np.float32)
    weights = random.uniform(0.5, 9, classes).astype(np.float32) if weighted else None
    values = torch.from_numpy(logits).requires_grad_()
    table, class_weights = (None if array is None else torch.from_numpy(array) for array in (to_classes, weights))
    loss = soft_loss(values, torch.from_numpy(soft), table, class_weights)
    assert float(loss.detach()) == pytest.approx(by_numpy(logits, soft, to_classes, weights), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, values)
    assert not gradient[:, :, 0].any()  # cells without soft labels
    if to_classes is not None:
        assert not gradient[:, torch.from_numpy(to_classes.sum(axis=0)) == 0].any()  # classes that no soft class maps to
    assert gradient[0, :, 1].any()


def test_equal_probabilities_cost_nothing_and_no_cells_neither() -> None:
    logits = torch.randn(2, 3, 4, 5)
    assert abs(float(soft_loss(logits, logits.softmax(1)))) < 1e-6
    assert float(soft_loss(logits, torch.zeros(2, 3, 4, 5))) == 0
    expected = F.kl_div(logits.log_softmax(1), (2 * logits).softmax(1), reduction="none").sum(1).mean()
    torch.testing.assert_close(soft_loss(logits, (2 * logits).softmax(1)), expected)


def test_both_terms_have_their_weight() -> None:
    heads = TrainingLogits(torch.randn(2, 4, 8, 8), (), torch.randn(2, 3, 8, 8))
    soft = torch.rand(2, 3, 8, 8).softmax(1), torch.eye(3, 4)
    labels = torch.randint(4, (2, 64, 64), dtype=torch.uint8)

    def loss(**changes: float) -> float:
        recipe = replace(DEBUG, class_weights="none", **changes)  # type: ignore[arg-type]
        return float(training_loss(heads, labels, recipe, None, (0, 0), soft=soft))

    main, own = float(soft_loss(heads.main, *soft)), float(soft_loss(heads.soft, soft[0])) if heads.soft is not None else 0
    assert loss(distillation=0.3) - loss() == pytest.approx(0.3 * main, rel=1e-4)
    assert loss(soft_head=0.7) - loss() == pytest.approx(0.7 * own, rel=1e-4)


# Training


SMALL: dict[str, Any] = {"distillation": 0.5, "soft_head": 0.5}


def test_a_run_learns_from_soft_labels_and_drops_their_layer(softened: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    card = train(replace(DEBUG, **SMALL), softened, tmp_path / "out", on_message=messages.append)
    assert messages == ["The main head does not learn the soft classes thing, which [soft.map] maps to no class."]
    messages.clear()
    assert card.data
    assert card.data.terms == "none; soft labels: of the teacher"
    model, _ = checkpoint.load(tmp_path / "out" / "last.safetensors")
    assert model.state_dict().keys() == FastSCNN(len(synthetic.CLASSES)).state_dict().keys()
    state, _ = checkpoint.load_tensors(tmp_path / "out" / "resume.safetensors")
    assert state["model.soft_head.weight"].shape == (3, 128, 1, 1)
    plain = train(DEBUG, softened, tmp_path / "plain", on_message=messages.append)
    assert messages == ["The soft labels of the data are not used; set distillation or soft_head above 0 to learn from them."]
    assert plain.parameters_sha256 != card.parameters_sha256


@pytest.mark.slow
def test_a_resumed_run_is_the_same(softened: Path, tmp_path: Path) -> None:
    recipe = replace(DEBUG, **SMALL)
    whole = train(recipe, softened, tmp_path / "whole")
    train(recipe, softened, tmp_path / "parts", pause_after=2)
    again = train(recipe, softened, tmp_path / "parts", resume=True)
    assert again.parameters_sha256 == whole.parameters_sha256
    changed(softened, 'air = "Sky"', 'air = "Tree"')
    with pytest.raises(FastSCNNError, match=r"was started with different settings \(soft was"):
        train(recipe, softened, tmp_path / "parts", resume=True)
    changed(softened, 'air = "Tree"', 'air = "Sky"')
    np.savez(softened.parent / "soft/0.npz", probabilities=random_soft((96, 128), 77))
    with pytest.raises(FastSCNNError, match="was started with different settings"):
        train(recipe, softened, tmp_path / "parts", resume=True)


@pytest.mark.slow
def test_the_soft_head_learns(softened: Path, tmp_path: Path) -> None:
    """The soft labels are the true classes of two groups; after some steps the layer separates them."""
    road = synthetic.CLASSES.index("Road")
    spec = datasets.load(softened)
    for pair in spec.pairs("train"):
        is_road = (spec.read(pair)[1] == road).reshape(12, 8, 16, 8).mean(axis=(1, 3))
        soft = np.stack([is_road, 1 - is_road, 0 * is_road])
        np.savez(softened.parent / "soft" / f"{pair.image.stem}.npz", probabilities=np.rint(255 * soft).astype(np.uint8))
    recipe: Recipe = replace(DEBUG, soft_head=1.0, iterations=30, batch=6, crop=(96, 128), scale=(1.0, 1.0), lr=0.02,
                             validate_every=100)
    losses: list[float] = []
    train(recipe, softened, tmp_path / "out", on_step=lambda progress: losses.append(progress.loss))
    tensors, _ = checkpoint.load_tensors(tmp_path / "out" / "resume.safetensors")
    model = FastSCNN(len(synthetic.CLASSES), auxiliary=True, soft_classes=3)
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    pair = spec.pairs("train")[0]
    image, _ = spec.read(pair)
    logits = model.train()(torch.from_numpy(np.stack([image, image])))
    truth = spec.read_soft(pair, (96, 128))
    assert truth is not None
    got = float(soft_loss(logits.soft, torch.from_numpy(np.stack([truth, truth])).float() / 255).detach())
    assert got < 0.35  # guessing costs more than 0.6
