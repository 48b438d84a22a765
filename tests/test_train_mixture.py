"""Training on several datasets: the batches, what is refused, and what the run says about its data."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets, mixture, synthetic
from fastscnn.data.check.dataset import check
from fastscnn.data.mixture import Mixture, Source
from fastscnn.inference.size import in_shape
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.training.augment import augment
from fastscnn.training.distributed import ALONE, World
from fastscnn.training.loader import Batch, Loader, order
from fastscnn.training.recipes import Recipe, named
from fastscnn.training.train import train
from fastscnn.training.training_data import checked

MAP = {"construction": "Building", "void": "ignore"}
ROAD, BUILDING = synthetic.CLASSES.index("Road"), synthetic.CLASSES.index("Building")
DEBUG = named("debug")
MIXES: list[dict[str, float]] = [{}, {"classmix": 1.0}, {"paste": 1.0}, {"balanced_crops": 0.6, "classmix": 0.3, "paste": 0.5}]


pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {"crop": (32, 48), "batch": 6, "size": (64, 96)} | changes
    return replace(DEBUG, **fields)


def of(data: Mixture, changes: dict[str, Any] | None = None, world: World = ALONE) -> Loader:
    pairs = [member.spec.pairs("train") for member in data.members]
    return Loader(data, pairs, recipe_of(**(changes or {})), world=world)


def same(one: Batch, two: Batch) -> bool:
    return one.names == two.names and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("images", "labels", "annotated")
    )


@pytest.fixture
def mixed(tiny_dataset: Path, partial_dataset: Path) -> Mixture:
    """Six images with all classes, and four whose labels contain road and buildings only."""
    return mixture.load([tiny_dataset, Source(partial_dataset, map=MAP)])


@pytest.fixture
def weighted(tiny_dataset: Path, partial_dataset: Path) -> Mixture:
    """The same with weights, so that half of the crops come from each."""
    return mixture.load([Source(tiny_dataset, weight=1), Source(partial_dataset, map=MAP, weight=1)])


def test_batches_of_one_dataset_do_not_change(tiny_dataset: Path) -> None:
    """Order, random numbers and crops are those of a loader without mixtures."""
    spec, recipe = datasets.load(tiny_dataset), recipe_of()
    pairs = spec.pairs("train")
    loader = Loader(mixture.load(spec), [pairs], recipe)
    for step in range(4):
        batch = loader.batch(step)
        assert batch.annotated is None
        for index in range(6):
            place = step * 6 + index
            chosen = pairs[order(recipe.seed, place // 6, 6)[place % 6]]
            image, labels, _ = augment(*spec.read(chosen), recipe, np.random.default_rng((recipe.seed, 1, place)))
            assert batch.names[index] == str(chosen.image)
            assert np.array_equal(batch.images[index], image)
            assert np.array_equal(batch.labels[index], labels)


def test_without_weights_an_epoch_has_every_image_once(mixed: Mixture) -> None:
    loader = of(mixed, {"batch": 10})
    assert len(loader) == 1
    for step in range(3):
        assert len(set(loader.batch(step).names)) == 10


def test_weights_are_the_shares_of_the_crops(weighted: Mixture) -> None:
    names = [name for batch in of(weighted, {"batch": 10}).batches(0, 20) for name in batch.names]
    counts = Counter(names)
    from_second = sum(count for name, count in counts.items() if "partial_dataset" in name)
    assert from_second == 100
    assert len(counts) == 10
    assert all(20 <= counts[name] <= 40 for name in counts if "partial_dataset" in name)  # 20 epochs, each image once or twice


@pytest.mark.parametrize("mix", MIXES)
def test_labels_never_leave_the_annotated_classes(weighted: Mixture, mix: dict[str, float]) -> None:
    """Also what is pasted comes from the same dataset."""
    for batch in of(weighted, mix).batches(0, 12):
        assert batch.annotated is not None
        assert batch.annotated.shape == (6, 11)
        for name, labels, known in zip(batch.names, batch.labels, batch.annotated, strict=True):
            assert known.all() == ("partial_dataset" not in name)
            assert set(np.unique(labels)) <= {*np.flatnonzero(known).tolist(), 255}
            if not known.all():
                assert np.flatnonzero(known).tolist() == sorted([ROAD, BUILDING])


@pytest.mark.parametrize("mix", MIXES)
def test_a_step_is_the_same_wherever_one_begins_and_in_parts(weighted: Mixture, mix: dict[str, float]) -> None:
    for step, batch in enumerate(of(weighted, mix).batches(3, 6), 3):
        assert same(batch, of(weighted, mix).batch(step))
        parts = [of(weighted, mix, World(rank, 3)).batch(step) for rank in range(3)]
        for name in ("images", "labels", "annotated"):
            assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (30, 160)])
def test_an_image_is_trained_at_the_size_at_which_it_is_segmented(shape: tuple[int, int]) -> None:
    recipe = recipe_of(size=(120, 160), crop=(512, 512), scale=(1.0, 1.0))
    _, ids, _ = augment(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), recipe, np.random.default_rng(0))
    rows, columns = np.nonzero(ids == 0)
    height, width = in_shape((120, 160), shape)
    assert abs(np.ptp(rows) + 1 - height) <= 1
    assert abs(np.ptp(columns) + 1 - width) <= 1
    assert (height, width) == (120, 160) or shape != (60, 80)


def run(data: Any, out: Path, changes: dict[str, Any] | None = None, **arguments: Any) -> Card:
    card = train(replace(DEBUG, **(changes or {})), data, out, **arguments)
    assert isinstance(card, Card)
    return card


ALL: dict[str, Any] = {"paste": 0.5, "classmix": 0.3, "balanced_crops": 0.3, "lovasz": 0.5, "label_smoothing": 0.1,
                       "ohem_ratio": 0.7, "batch": 4}


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), ALL])
def test_resumed_equals_uninterrupted(weighted: Mixture, tmp_path: Path, changes: dict[str, Any]) -> None:
    run(weighted, tmp_path / "whole", changes)
    run(weighted, tmp_path / "parts", changes, pause_after=2)
    run(weighted, tmp_path / "parts", changes, resume=True)
    for name in ("last.safetensors", "best.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_the_card_and_the_run_name_all_datasets(mixed: Mixture, weighted: Mixture, tmp_path: Path) -> None:
    said: list[str] = []
    card = run(mixed, tmp_path / "a", {"iterations": 1}, on_message=said.append)
    assert card.label_set == mixed.first.label_set
    assert card.data
    assert (card.data.name, card.data.splits, card.data.images) == ("tiny+partial", "train", 10)
    assert card.data.terms == "tiny: none; partial: partial only"
    assert set(card.metrics) == {"val"}
    assert card.metrics["val"]["dataset"] == "tiny"
    assert checkpoint.load(tmp_path / "a" / "last.safetensors")[1] == card
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert [(row["name"], row["split"], row["share"]) for row in facts["datasets"]] == [
        ("tiny", "train", 0.6), ("partial", "train", 0.4)
    ]
    assert facts["datasets"][1]["map"] == {"road": "Road", "construction": "Building", "void": "ignore"}
    assert said[0] == "tiny: 6 images of train, 60.0 % of the crops; all classes are annotated."
    assert said[1].startswith("partial: 4 images of train, 40.0 % of the crops; road -> Road; construction -> Building; "
                              "ignored: void; not annotated: Sky, Pole, ")
    with pytest.raises(FastSCNNError, match="was started with different settings"):
        run(weighted, tmp_path / "a", {"iterations": 1}, resume=True)


def test_one_dataset_is_described_as_before(tiny_dataset: Path, tmp_path: Path) -> None:
    said: list[str] = []
    card = run([tiny_dataset], tmp_path / "a", {"iterations": 1}, on_message=said.append, validation=None)
    assert card.data
    assert (card.data.name, card.data.terms) == ("tiny", "none")
    assert card.data.fingerprint == check(datasets.load(tiny_dataset), ["train"]).fingerprint
    assert "datasets" not in json.loads((tmp_path / "a" / "run.json").read_text())
    assert said == []


def test_warnings_of_the_check_are_counted(tiny_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "my data"
    shutil.copytree(tiny_dataset.parent, root)
    for folder in ("images", "labels"):
        shutil.copy(root / folder / "train/0.png", root / folder / "train/copy.png")
    (said,) = checked(mixture.load(str(root)), "train", "val").messages()
    assert said == f"The check of the data has 1 warning; list with: fastscnn check '{root}'"
    shutil.copy(root / "images/train/1.png", root / "images/train/0.jpeg")
    *_, said = checked(mixture.load([datasets.load(tiny_dataset), str(root), datasets.load(root)]), "train", None).messages()
    assert said == f"The check of the data has 2 warnings; list with: fastscnn check {tiny_dataset} '{root}'"
    (said,) = checked(mixture.load(replace(datasets.load(root), source="")), "train", None).messages()
    assert said.endswith("list with: fastscnn check DATASET")


def test_class_weights_count_pixels_as_often_as_they_are_seen(mixed: Mixture, weighted: Mixture) -> None:
    data = checked(mixed, "train", None)
    read = [member.read(pair)[1] for member in mixed.members for pair in member.spec.pairs("train")]
    pixels = [np.bincount(labels.ravel(), minlength=256)[:11] for labels in read]
    assert np.array_equal(data.pixels, np.sum(pixels, axis=0))
    assert np.array_equal(data.expected_pixels, data.pixels)
    first, second = np.sum(pixels[:6], axis=0), np.sum(pixels[6:], axis=0)
    assert checked(weighted, "train", None).expected_pixels == pytest.approx(first * 5 / 6 + second * 5 / 4)


def test_splits_of_a_source(tiny_dataset: Path, partial_dataset: Path) -> None:
    data = checked(mixture.load([Source(tiny_dataset, split="train+val"), Source(partial_dataset, map=MAP)]), "train", None)
    assert (data.images, data.split) == ((9, 4), "train+val of tiny, train of partial")
    with pytest.raises(FastSCNNError, match="validation: 'val' is also a training split"):
        checked(data.mixture, "train", "val")


def test_data_that_cannot_be_trained_on(tiny_dataset: Path, partial_dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "held"
    root.mkdir()
    spec = datasets.load(tiny_dataset)
    for folder in ("images", "labels"):
        (root / folder).symlink_to(tiny_dataset.parent / folder, target_is_directory=True)
    (root / "dataset.toml").write_text(tiny_dataset.read_text().replace('"tiny"', '"held"').replace("/train/", "/val/"))
    with pytest.raises(FastSCNNError, match=r"images/val/6.png: this training image of held is the same image as .*6\.png, a "
                                            "validation image of tiny; remove one of the two"):
        checked(mixture.load([spec, root]), "train", "val")
    (root / "images").unlink()
    for path in (tiny_dataset.parent / "images/val").iterdir():  # the same pixels in other files
        images.write(root / "images/val" / path.name, images.read(path))
    with pytest.raises(FastSCNNError, match="a validation image of tiny"):
        checked(mixture.load([spec, root]), "train", "val")
    assert checked(mixture.load([spec, root]), "train", None).images == (6, 3)
    with pytest.raises(FastSCNNError, match="There is no split of partial 'all'"):
        checked(mixture.load([spec, Source(partial_dataset, map=MAP, split="all")]), "train", None)
    few = tmp_path / "few" / "dataset.toml"
    few.parent.mkdir()
    (few.parent / "images").symlink_to(partial_dataset.parent / "images", target_is_directory=True)
    (few.parent / "labels").symlink_to(partial_dataset.parent / "labels", target_is_directory=True)
    few.write_text(partial_dataset.read_text().replace('"void"', '"void", "tram"').replace('"partial"', '"few"'))
    everything = {"Road": "road", "Building": "construction"} | {
        name: "ignore" for name in synthetic.CLASSES if name not in ("Road", "Building")
    }
    data = checked(mixture.load([few, Source(spec, map=everything)]), "train", None)
    assert "No training pixel is tram; the network will not learn these classes." in list(data.messages())
    roads = tmp_path / "roads" / "dataset.toml"
    images.write(roads.parent / "images/0.png", np.zeros((64, 96, 3), np.uint8))
    images.write(roads.parent / "labels/0.png", np.zeros((64, 96), np.uint8))
    roads.write_text(partial_dataset.read_text().replace('"partial"', '"roads"'))
    only = Source(partial_dataset, map={"construction": "ignore", "void": "ignore"})
    with pytest.raises(FastSCNNError, match=r"roads\+partial: all labelled training pixels of these datasets are 'road', so"):
        checked(mixture.load([roads, only]), "train", None)
    blank = tmp_path / "blank" / "dataset.toml"
    images.write(blank.parent / "images/0.png", np.zeros((64, 96, 3), np.uint8))
    images.write(blank.parent / "labels/0.png", np.full((64, 96), 2, np.uint8))
    blank.write_text(partial_dataset.read_text())
    with pytest.raises(FastSCNNError, match=r"blank: every pixel of the split 'train' is ignored"):
        checked(mixture.load([spec, Source(blank, map=MAP)]), "train", None)


def test_the_command_line(
    tiny_dataset: Path, partial_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--out", str(tmp_path / "run"), "--iterations", "1", "--validation", "none"]
    assert cli.main(["train", "debug", str(tiny_dataset), str(partial_dataset), *more]) == 1
    assert "There is no class of tiny 'construction'" in capsys.readouterr().err
    file = tmp_path / "mixture.toml"
    file.write_text(f"[[datasets]]\ndata = '{tiny_dataset}'\n[[datasets]]\ndata = '{partial_dataset}'\n"
                    "[datasets.map]\nconstruction = 'Building'\nvoid = 'ignore'\n")
    assert cli.main(["train", "debug", str(file), *more]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "partial: 4 images of train, 40.0 % of the crops" in printed
    assert "warning" not in printed
    assert checkpoint.load(tmp_path / "run" / "last.safetensors")[1].data is not None
    more[1] = str(tmp_path / "same")
    assert cli.main(["train", "debug", str(tiny_dataset), str(tiny_dataset), *more]) == 0
