"""Pretraining as an image classifier: network, scores, files, and training from its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastscnn import Segmenter, cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.datasets import ClassFolders
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.classifier_card import KEY, ClassifierCard
from fastscnn.network.fast_scnn import Classifier, FastSCNN
from fastscnn.training.distributed import World
from fastscnn.training.initial import initial
from fastscnn.training.job import Progress
from fastscnn.training.loader import Batch
from fastscnn.training.pretraining import classify
from fastscnn.training.pretraining.classify import _SEGMENTATION_ONLY, ClassificationTask, ClassLoss, count_hits, ranks
from fastscnn.training.pretraining.loader import ClassLoader, centre, centres
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.train import train

CPU = torch.device("cpu")
SMALL = replace(named("imagenet"), batch=6, size=(72, 72), crop=(64, 64), scale=(1.0, 1.3), iterations=4, lr=0.02, ema=0.3)
NAMES = ("blue", "green", "red")


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(seed: int, colour: int) -> UInt8Array:
    """Return a noisy image of one colour, in one of several sizes."""
    picture = np.random.default_rng(seed).integers(0, 120, (80 - 2 * (seed % 4), 72 + 3 * (seed % 5), 3), np.uint8)
    picture[..., colour] += 100
    return picture


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of three classes with four training and two validation images each. Do not change it."""
    root = tmp_path_factory.mktemp("colours")
    for index, name in enumerate(NAMES):
        for number in range(6):
            split = "train" if number < 4 else "val"
            images.write(root / split / name / f"{number}.png", noise(6 * index + number, 2 - index))
    return root


def load(root: Path) -> ClassFolders:
    data = datasets.load_any(f"imagenet:{root}")
    assert isinstance(data, ClassFolders)
    return data


@pytest.fixture(scope="module")
def learned(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of 30 steps, two per epoch, validated every ten."""
    out = tmp_path_factory.mktemp("learned")
    train(replace(SMALL, iterations=30, validate_every=5, lr=0.05), load(tree), out)
    return out


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_recipe() -> None:
    """The optimiser is the paper's; it does not state the rest, which is from He et al. 2016, section 3.4."""
    recipe, paper = named("imagenet"), named("paper")
    stated = ("variant", "width_mult", "optimiser", "momentum", "power", "weight_decay", "weight_decay_on", "flip", "loss")
    assert {field: getattr(recipe, field) for field in stated} == {field: getattr(paper, field) for field in stated}
    shorter = [round(scale * recipe.size[0]) for scale in recipe.scale] if recipe.size else []
    assert (shorter, recipe.size, recipe.crop) == ([256, 480], (256, 256), (224, 224))
    assert (recipe.batch, recipe.epochs, recipe.lr, recipe.label_smoothing) == (256, 90, 0.1, 0.0)


def test_every_field_of_a_recipe_acts_or_is_refused() -> None:
    """The test covers fields added later, too."""
    acting = {
        "name", "source", "task", "variant", "width_mult", "norm_momentum", "size", "batch", "epochs", "iterations",
        "optimiser",
        "lr", "min_lr", "power", "warmup", "momentum", "weight_decay", "weight_decay_on", "label_smoothing", "ema", "crop",
        "scale",
        "flip", "colour", "brightness", "contrast", "gamma", "channel_noise", "corruption", "precision", "validate_every",
        "seed",
    }
    assert acting.isdisjoint(_SEGMENTATION_ONLY)
    assert acting | set(_SEGMENTATION_ONLY) == {field.name for field in fields(SMALL)}


@pytest.mark.parametrize("classes", [3, 1000])
def test_the_parameters_are_those_counted_by_hand(classes: int) -> None:
    def conv(inputs: int, outputs: int, kernel: int = 1) -> int:
        return inputs * outputs * kernel * kernel + 2 * outputs  # batch norm has a scale and a shift

    def depthwise(channels: int) -> int:
        return 9 * channels + 2 * channels

    def bottleneck(inputs: int, outputs: int) -> int:
        return conv(inputs, 6 * inputs) + depthwise(6 * inputs) + conv(6 * inputs, outputs)

    downsample = conv(3, 32, 3) + depthwise(32) + conv(32, 48) + depthwise(48) + conv(48, 64)
    stages = sum(bottleneck(a, b) for a, b in ((64, 64), (64, 64), (64, 64), (64, 96), (96, 96), (96, 96), (96, 128)))
    pooling = 4 * conv(128, 32) + conv(256, 128)
    expected = downsample + stages + 2 * bottleneck(128, 128) + pooling + 128 * classes + classes
    assert classes != 1000 or expected == 1_201_752  # stated in docs/paper.md
    with torch.device("meta"):
        model = Classifier(classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model.train()(torch.empty(2, 224, 224, 3, dtype=torch.uint8, device="meta")).shape == (2, classes)


def test_it_pools_the_global_features_of_fast_scnn() -> None:
    torch.manual_seed(0)
    model, other = Classifier(4).train(), FastSCNN(4).train()  # in training mode, features are large
    shared = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("linear")}
    other.load_state_dict({**other.state_dict(), **shared})
    image = torch.randint(256, (2, 75, 101, 3), dtype=torch.uint8)
    with torch.no_grad():
        _, deep = other.features(image)
        average = nn.functional.adaptive_avg_pool2d(deep, 1)[:, :, 0, 0]
        assert (average - deep.amax((2, 3))).abs().max() > 0.1
        torch.testing.assert_close(model(image), average @ model.linear.weight.T + model.linear.bias)


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_top_k_is_torchmetrics(classes: int) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    torch.manual_seed(classes)
    logits, truth = torch.randn(200, classes), torch.randint(classes, (200,))
    for k in (1, min(5, classes)):
        expected = multiclass_accuracy(logits, truth, num_classes=classes, average="micro", top_k=k)
        assert float((ranks(logits, truth) < k).float().mean()) == pytest.approx(float(expected))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8), st.integers(0, 7))
def test_of_equal_logits_the_first_class_ranks_first(values: list[int], number: int) -> None:
    truth = number % len(values)
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    assert int(ranks(torch.tensor([values]).float(), torch.tensor([truth]))) == order.index(truth)


def test_nan_ranks_last() -> None:
    assert int(ranks(torch.full((1, 4), torch.nan), torch.tensor([0]))) == 4
    assert int(ranks(torch.tensor([[1.0, torch.nan, 0.0]]), torch.tensor([0]))) == 1


def test_the_centre_crop() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, :50], image[:30, :, 2] = (200, 0, 0), 90
    middle = centre(image, 30, (24, 26))
    assert middle.shape == (24, 26, 3)
    assert (middle[:, :13, 0] == 200).all()
    assert (middle[:, 13:, 0] == 0).all()
    assert (middle[:12, :, 2] == 90).all()
    assert (middle[12:, :, 2] == 0).all()
    assert (centre(image.swapaxes(0, 1), 30, (26, 24)) == middle.swapaxes(0, 1)).all()
    assert centre(np.zeros((10, 1000, 3), np.uint8), 32, (32, 32)).shape == (32, 32, 3)  # much too small, and thin


def test_validation_sees_every_image_once_in_order(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastscnn.training.pretraining.loader.VALIDATION_BATCH", 5)
    data = load(tree)
    batches = list(centres(data, data.pictures("train"), 72, (64, 64), threads=2))
    assert [patches.shape for patches, _ in batches] == [(5, 64, 64, 3), (5, 64, 64, 3), (2, 64, 64, 3)]
    assert np.concatenate([classes for _, classes in batches]).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    first = centre(images.read(data.path(data.pictures("train")[0])), 72, (64, 64))
    assert (batches[0][0][0] == first).all()


def test_batches_depend_on_the_seed_and_the_step(tree: Path) -> None:
    data = load(tree)
    loader = ClassLoader(data, data.pictures("train"), SMALL, threads=2)
    assert len(loader) == 2
    batches = list(loader.batches(0, 4))
    again = ClassLoader(data, data.pictures("train"), SMALL, threads=1).batch(3)
    assert (again.images == batches[3].images).all()
    assert (again.labels == batches[3].labels).all()
    for one, two in (batches[:2], batches[2:]):  # an epoch has every image once
        assert sorted([*one.labels, *two.labels]) == [0] * 4 + [1] * 4 + [2] * 4
    assert batches[0].images.shape == (6, 64, 64, 3)
    assert batches[0].labels.dtype == np.dtype(np.int64)
    assert not (batches[0].images == batches[2].images).all()
    first, name = batches[0].images[0], batches[0].names[0]
    later = [loader._sample(12 + place) for place in range(12)]
    (again_later,) = (patch for patch, _, path in later if path == name)
    assert not (again_later == first).all()  # the same image in the next epoch
    for patch, label in zip(batches[0].images, batches[0].labels, strict=True):
        assert patch.mean((0, 1)).argmax() == 2 - label
    other = ClassLoader(data, data.pictures("train"), replace(SMALL, seed=1), threads=1).batch(0)
    assert not (other.images == batches[0].images).all()


def test_the_parts_of_several_processes_make_the_batch(tree: Path) -> None:
    data = load(tree)
    torch.manual_seed(0)
    model, loss = Classifier(3).eval(), ClassLoss(replace(SMALL, precision="float32"))
    whole = ClassLoader(data, data.pictures("train"), SMALL, threads=1).batch(1)
    parts, losses = [], []
    for rank in range(3):
        parts.append(ClassLoader(data, data.pictures("train"), SMALL, threads=1, world=World(rank, 3)).batch(1))
        losses.append(float(loss(model, parts[-1], 0).detach()))
    assert (np.concatenate([part.images for part in parts]) == whole.images).all()
    assert np.concatenate([part.labels for part in parts]).tolist() == whole.labels.tolist()
    assert sum(losses) / 3 == pytest.approx(float(loss(model, whole, 0).detach()), rel=1e-4)


@pytest.mark.parametrize("size", [(2000, 10), (10, 2000)])
def test_the_centre_crop_of_a_very_long_image(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[size[0] // 2 - 5 : size[0] // 2 + 5, size[1] // 2 - 5 : size[1] // 2 + 5] = 200
    middle = centre(image, 480, (224, 224))
    assert middle.shape == (224, 224, 3)
    assert middle.min() == 200


def test_an_image_that_cannot_be_read_is_named(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(tree, root)
    (root / "train/red/2.png").write_bytes(b"broken")
    with pytest.raises(FastSCNNError, match=r"train/red/2\.png: is not an image"):
        train(SMALL, load(root), tmp_path / "out")


def test_three_colours_are_learned(learned: Path, tree: Path) -> None:
    log = lines(learned)
    assert [line["step"] for line in log] == [10, 20, 30]
    assert log[-1]["loss"] < 0.3 * log[0]["loss"]
    _, card = checkpoint.load_classifier(learned / "best.safetensors")
    assert card.metrics == {"val": {"top1": 100.0, "top5": 100.0}}
    assert max(line["validation"]["top1"] for line in log) == 100
    scores = classify.evaluate(learned / "best.safetensors", load(tree), "val")
    assert (scores["top1"], scores["images"], len(scores["weights_sha256"])) == (100.0, 6, 64)


def test_the_card_of_a_classifier(learned: Path, tree: Path) -> None:
    model, card = checkpoint.load_classifier(learned / "last.safetensors")
    data = load(tree)
    assert (card.classes, card.size, card.shorter) == (NAMES, (64, 64), 72)
    assert (card.variant, card.width_mult, card.channels) == ("paper", 1.0, 3)
    assert (card.recipe["name"], card.recipe["task"], card.recipe["iterations"]) == ("imagenet", "classification", 30)
    assert card.data
    assert (card.data.name, card.data.splits, card.data.images) == ("imagenet", "train", 12)
    assert card.data.fingerprint == data.fingerprint([*data.pictures("train"), *data.pictures("val")])
    assert card.parameters_sha256 == checkpoint.digest(model.state_dict())
    assert card.metrics["val"] == lines(learned)[-1]["validation"]
    ran = json.loads((learned / "run.json").read_text())
    assert (ran["classes"], ran["validation"], ran["recipe"]["lr"]) == (list(NAMES), "val", 0.05)


@pytest.mark.parametrize("pause", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_paused_and_resumed_equals_uninterrupted(tree: Path, tmp_path: Path, pause: int) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    card = train(SMALL, load(tree), whole)
    stopped = train(SMALL, load(tree), out, pause_after=pause)
    assert (stopped.metrics == {}) == (pause == 1)
    torch.rand(7)
    assert train(SMALL, load(tree), out, resume=True) == card
    for name in ("last.safetensors", "best.safetensors", "log.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    states = [checkpoint.load_tensors(folder / "resume.safetensors")[0] for folder in (whole, out)]
    assert checkpoint.digest(states[0]) == checkpoint.digest(states[1])


def test_without_validation_the_last_weights_are_the_best(tree: Path, tmp_path: Path) -> None:
    told: list[str] = []
    seen: list[Progress] = []
    one = replace(SMALL, iterations=None, epochs=1, batch=5)
    assert train(one, load(tree), tmp_path / "out", validation=None, on_message=told.append, on_step=seen.append).metrics == {}
    assert (tmp_path / "out/best.safetensors").read_bytes() == (tmp_path / "out/last.safetensors").read_bytes()
    assert "12 training images of 3 classes, 0 to validate; `fastscnn check imagenet:" in told[0]
    assert [(progress.step, progress.steps, progress.score) for progress in seen] == [(n, 3, None) for n in (1, 2, 3)]


def test_progress_has_the_score_of_the_validation_after_its_step(tree: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    card = train(replace(SMALL, iterations=2), f"imagenet:{tree}", tmp_path / "out", on_step=seen.append)
    assert isinstance(card, ClassifierCard)
    assert [progress.score for progress in seen] == [None, card.metrics["val"]["top1"]]


def test_a_loss_that_is_not_finite_stops(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"The loss is (nan|inf) at step [12], on \S+\.png, 5 more; "):
        train(replace(SMALL, lr=1e30), load(tree), tmp_path / "out")


def test_running_out_of_memory_says_what_to_try(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ClassificationTask, "validate", full)
    with pytest.raises(FastSCNNError, match=r"Out of memory at --batch 6 and --crop 64x64; try --batch 3"):
        train(SMALL, load(tree), tmp_path / "out")


def test_the_loss_is_the_cross_entropy_in_the_recipes_precision() -> None:
    kinds: list[torch.dtype] = []
    torch.manual_seed(0)
    model = Classifier(3).train()
    model.linear.register_forward_hook(lambda *arguments: kinds.append(arguments[2].dtype))
    batch = Batch(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8), np.array([0, 2, 1, 2]), ())
    changes: list[dict[str, Any]] = [{"precision": "float32"}, {"precision": "float32", "label_smoothing": 0.3}, {}]
    losses = [float(ClassLoss(replace(SMALL, **change))(model, batch, 0).detach()) for change in changes]
    assert kinds == [torch.float32, torch.float32, torch.bfloat16]
    with torch.no_grad():
        logs = model(torch.from_numpy(batch.images)).log_softmax(1)
    plain = -float(logs[torch.arange(4), torch.from_numpy(batch.labels)].mean())
    assert losses == pytest.approx([plain, 0.7 * plain - 0.3 * float(logs.mean()), plain], rel=0.05)
    assert losses[:2] == pytest.approx([plain, 0.7 * plain - 0.3 * float(logs.mean())])


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        (named("paper"), {}, r"imagenet: has a class per image, but the recipe 'paper' needs a class per pixel; use"),
        (replace(SMALL, lovasz=1.0, auxiliary=0.4), {}, r"^auxiliary, lovasz: a classifier does not use this"),
        (replace(SMALL, dropout=0.1), {}, r"^dropout: a classifier does not use this"),
        (replace(SMALL, size=None), {}, r"^size: for a classifier, height and width are equal"),
        (replace(SMALL, size=(72, 80)), {}, r"^size: .* size is \(72, 80\), crop \(64, 64\)"),
        (replace(SMALL, scale=(0.8, 1.0)), {}, r"^size: .* scale \(0\.8, 1\.0\)"),
        (SMALL, {"validation": "train"}, r"^validation: 'train' is also the training split"),
        (SMALL, {"split": "test"}, r"no split of imagenet 'test'"),
        (SMALL, {"init": Path("x.safetensors")}, r"^init and teacher: a classifier has neither"),
        (SMALL, {"teacher": [Path("x.safetensors")]}, r"^init and teacher: a classifier has neither"),
        (SMALL, {"pause_after": 0}, r"^pause_after: must be at least 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tree: Path, tmp_path: Path, recipe: Recipe, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        train(recipe, load(tree), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_recipe_is_refused_on_pixels(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"^tiny: has a class per pixel, but the recipe 'imagenet' needs a class per image"):
        train(named("imagenet"), datasets.load(str(tiny_dataset)), tmp_path / "out")


def test_other_classes_are_not_evaluated(learned: Path, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "data")
    for split in ("train", "val"):
        (tmp_path / "data" / split / "red").rename(tmp_path / "data" / split / "rouge")
    with pytest.raises(FastSCNNError, match=r"last\.safetensors: has 3 classes, which are not the 3 folders of"):
        classify.evaluate(learned / "last.safetensors", load(tmp_path / "data"), "val")


def test_hits_count_the_most_probable_classes(tree: Path) -> None:
    """The network's logits do not depend on the image."""

    class Fixed(Classifier):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 2.0, 1.0]).repeat(len(images), 1)

    data, calls = load(tree), list[tuple[int, int]]()
    pictures = [picture for picture in data.pictures("train") if picture.class_ != 0][:5]
    card = ClassifierCard(data.classes, (64, 64), 72)
    assert count_hits(Fixed(3), card, data, pictures, lambda *done: calls.append(done)) == [4, 5]
    assert calls == [(5, 5)]


def test_a_classifier_cannot_segment(learned: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    path = learned / "best.safetensors"
    message = r"best\.safetensors: is an image classifier and cannot segment; fine-tune it with `fastscnn train RECIPE"
    acts: list[Callable[[], object]] = [
        lambda: checkpoint.load(path),
        lambda: Segmenter.load(path),
        lambda: train(
            replace(named("debug"), distillation=1.0), datasets.load(str(tiny_dataset)), tmp_path / "out", teacher=[path]
        ),
    ]
    for act in acts:
        with pytest.raises(FastSCNNError, match=message):
            act()


def test_a_segmentation_network_is_no_classifier(tmp_path: Path) -> None:
    path = tmp_path / "labels.safetensors"
    checkpoint.save(path, FastSCNN(2), Card(LabelSet(("road", "car")), (64, 96)))
    with pytest.raises(FastSCNNError, match=r"labels\.safetensors: is not an image classifier; use a file made by `fastscnn"):
        checkpoint.load_classifier(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b"]}, r"the tensors do not match the model card of 2 classes"),
        ({"parameters_sha256": "0"}, r"do not match parameters_sha256"),
        ({"variant": "papier"}, r"unknown variant 'papier'"),
        ({"size": [64]}, r"its card is broken"),
        ({"size": [80, 80]}, r"its card is broken"),
        ({"classes": "abc"}, r"its card is broken"),
        ({"data": {"name": "x"}}, r"its card is broken"),
        ({"recipe": {"fastscnn": {"schema": 99}}}, r"written by a newer fastscnn"),
        ({"metrics": {"val": {"top1": "good"}}}, r"its card is broken at metrics\.val\.top1"),
        ({"channels": 3.5}, r"its card is broken at channels"),
        ({"width_mult": 1e9}, r"its card is broken"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(learned: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tensors, metadata = checkpoint.load_tensors(learned / "last.safetensors")
    path = tmp_path / "changed.safetensors"
    checkpoint.save_tensors(path, tensors, {KEY: json.dumps({**json.loads(metadata[KEY]), **change})})
    with pytest.raises(FastSCNNError, match=rf"changed\.safetensors: {message}|changed\.safetensors: .*{message}"):
        checkpoint.load_classifier(path)


def test_cards_of_other_versions_open() -> None:
    """0.1 has no schema, and refuses unknown fields: what is new lies inside the recipe."""
    card = ClassifierCard(("a", "b"), (64, 64), 72, recipe={"lr": 0.1}, width_mult=0.5)
    stored = json.loads(card.to_json())
    assert set(stored) == {"classes", "size", "shorter", "variant", "channels", "width", "data", "recipe", "metrics",
                           "parameters_sha256", "version"}
    assert stored["recipe"] == {"lr": 0.1, "fastscnn": {"schema": 2}}
    assert ClassifierCard.from_json(card.to_json(), Path("a")) == card
    newer = {**stored, "licence": "MIT", "recipe": {"lr": 0.1, "fastscnn": {"schema": 2, "seen": 5}}}
    read = ClassifierCard.from_json(json.dumps(newer), Path("a"))
    assert (read.recipe, read.extra) == ({"lr": 0.1}, {"licence": "MIT", "fastscnn": {"seen": 5}})
    assert json.loads(read.to_json()) == newer
    older = {**stored, "recipe": {"width": 0.5}}
    assert ClassifierCard.from_json(json.dumps(older), Path("a")).recipe == {"width_mult": 0.5}


CARD = Card(LabelSet(("road", "car")), (64, 96))


def test_init_loads_the_backbone_of_a_classifier(learned: Path) -> None:
    path = learned / "best.safetensors"
    weights = checkpoint.load_classifier(path)[0].state_dict()
    recipe = replace(named("debug"), seed=5)
    state, notes = initial(recipe, CARD, CPU, path)
    assert notes == [f"{path}: is an image classifier; its learning-to-downsample and global-feature weights are loaded, "
                     "and all others start at random."]
    fresh = initial(recipe, CARD, CPU)[0].model.state_dict()
    loaded = {name for name in fresh if name.startswith(("downsample.", "global_features."))}
    assert loaded == {name for name in weights if name.startswith(("downsample.", "global_features."))}
    for name, tensor in state.model.state_dict().items():
        assert torch.equal(tensor, weights[name] if name in loaded else fresh[name]), name
        assert torch.equal(tensor, state.average.state_dict()[name])
    assert not torch.equal(weights["downsample.0.0.weight"], fresh["downsample.0.0.weight"])


@pytest.mark.parametrize("changes", [{"variant": "mmseg"}, {"width_mult": 0.5}])
def test_init_from_a_classifier_of_another_layout_is_refused(learned: Path, changes: dict[str, Any]) -> None:
    path, recipe = learned / "best.safetensors", replace(named("debug"), **changes)
    with pytest.raises(FastSCNNError, match=r"has variant 'paper', width_mult 1\.0 and 3 channels, but the network to train "):
        initial(recipe, replace(CARD, **changes), CPU, path)


def saved(path: Path, channels: int) -> FastSCNN:
    """Save and return a network whose running statistics have changed."""
    torch.manual_seed(channels)
    model = FastSCNN(2, channels).train()
    with torch.no_grad():
        model(torch.randint(256, (4, 64, 96, channels), dtype=torch.uint8))
        model.mean += 3
    checkpoint.save(path, model, replace(CARD, channels=channels))
    return model.eval()


@pytest.mark.parametrize("channels", [4, 5])
def test_weights_of_extra_channels_start_at_zero(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "rgb.safetensors"
    rgb = saved(path, 3)
    state, notes = initial(named("debug"), replace(CARD, channels=channels), CPU, path)
    assert notes == [f"{path}: has 3 of the {channels} channels; the weights of the others start at 0."]
    image = torch.randint(256, (2, 32, 64, channels), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(state.average(image), rgb(image[..., :3].contiguous()), atol=1e-4, rtol=1e-4)
    fresh = FastSCNN(2, channels)
    assert torch.equal(state.model.mean, torch.cat([rgb.mean, fresh.mean[3:]]))
    assert torch.equal(state.model.std, fresh.std)
    first = state.model.get_parameter("downsample.0.0.weight")
    assert not first[:, 3:].any()
    state.model(image).main.square().sum().backward()
    assert first.grad is not None
    assert first.grad[:, 3:].abs().sum((0, 2, 3)).all()  # so that they learn


def test_init_of_four_channels_from_a_classifier(learned: Path) -> None:
    state, notes = initial(named("debug"), replace(CARD, channels=4), CPU, learned / "best.safetensors")
    weights = checkpoint.load_classifier(learned / "best.safetensors")[0].state_dict()
    first = state.model.state_dict()["downsample.0.0.weight"]
    assert torch.equal(first[:, :3], weights["downsample.0.0.weight"])
    assert not first[:, 3:].any()
    assert len(notes) == 2


@pytest.mark.parametrize(("theirs", "ours", "cure"), [(4, 3, "3"), (1, 3, "3"), (5, 4, "RGB or 4"), (3, 1, "1")])
def test_fewer_channels_are_refused(tmp_path: Path, theirs: int, ours: int, cure: str) -> None:
    path = tmp_path / "other.safetensors"
    saved(path, theirs)
    message = rf"other\.safetensors: has {theirs} channels, but the network to train has {ours}; use weights of {cure} ch"
    with pytest.raises(FastSCNNError, match=message):
        initial(named("debug"), replace(CARD, channels=ours), CPU, path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_on_the_command_line(tree: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pretrain, evaluate, and train a segmentation from the weights; its terms of use then include ImageNet's."""
    out, data = tmp_path / "out", f"imagenet:{tree}"
    small = ["--batch", "6", "--size", "72x72", "--crop", "64x64", "--scale", "1,1.3"]
    flags = [*small, "--iterations", "2", "--lr", "0.01"]
    assert cli.main(["train", "imagenet", data, "--out", str(out), *flags]) == 0
    printed = said(capsys)
    assert "on val with the last weights" in printed
    assert "top-1" in printed
    assert "mIoU" not in printed
    best = str(out / "best.safetensors")
    assert f"Next: fastscnn train RECIPE DATASET --init {best} --out DIR" in printed
    words = ["evaluate", data, "--weights", best, "--split", "val"]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(words) == 0
    assert found["top1"] == lines(out)[-1]["validation"]["top1"]
    assert f"top-1 {found['top1']:.2f}, top-5 100.00 on 6 images of imagenet val" in said(capsys)
    more = [str(tiny_dataset), "--out", str(tmp_path / "labels"), "--iterations", "1", "--validation", "none"]
    assert cli.main(["train", "debug", *more, "--init", best]) == 0
    assert "is an image classifier; its learning-to-downsample" in said(capsys)
    kept = checkpoint.load(tmp_path / "labels/last.safetensors")[1].data
    assert kept
    assert kept.terms.startswith("none; and of earlier weights: ImageNet: non-commercial")


def test_wrong_calls(tree: Path, learned: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, best, out = f"imagenet:{tree}", str(learned / "best.safetensors"), str(tmp_path / "out")
    for words, message in (
        (["train", "debug", data, "--out", out], "the recipe 'debug' needs a class per pixel"),
        (["train", "imagenet", str(tiny_dataset), "--out", out], "the recipe 'imagenet' needs a class per image"),
        (["evaluate", data, "--split", "val"], "weights: give a classifier made by"),
        (["evaluate", data, "--weights", best, "--flip"], "a classifier takes --weights, --split and"),
        (["evaluate", data, "--weights", best, "--split", "test"], "There is no split of imagenet 'test'"),
        (["evaluate", str(tiny_dataset), "--weights", best, "--split", "val"], "is an image classifier"),
        (["demo", "--weights", best, "--out", out], "is an image classifier and cannot segment"),
        (["export", best, "--out", f"{out}.onnx"], "is an image classifier and cannot segment"),
    ):
        assert cli.main(words) == (1 if "is an image classifier" in message else 2), words
        assert message in said(capsys), words
