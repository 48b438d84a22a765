"""Built-in datasets: small trees in the layout of each release, read whole and with each part missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.builtin import camvid, camvid_colours, cityscapes
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.formats.colours import ColourLabels
from fastscnn.media import images
from fastscnn.model.label_set import Colour

HEIGHT, WIDTH = 40, 64


def save(path: Path, pixels: UInt8Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ids(seed: int, values: int, height: int = HEIGHT, width: int = WIDTH) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, values, (height, width), np.uint8)


def colours_of(spec: DatasetSpec) -> list[Colour]:
    """The colours of its label files."""
    assert isinstance(spec.labels, ColourLabels)
    return [colour for colour, _ in spec.labels.colours]


def kinds(report: CheckReport) -> list[tuple[str, str, str]]:
    """Findings but for the images that a small tree lacks, and for its labels that are alike."""
    return [(one.severity, one.split, one.kind) for one in report.findings if one.kind not in ("incomplete", "same-labels")]


def message(report: CheckReport, kind: str) -> str:
    return next(f"{one.message} {one.fix}" for one in report.findings if one.kind == kind)


CITIES = (("train", "aachen"), ("train", "zurich"), ("val", "munster"), ("test", "berlin"))


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Cityscapes as its archives unpack: fine labels of all splits, coarse ones of two and of train_extra."""
    for seed, (split, name) in enumerate((*CITIES, ("train_extra", "augsburg"))):
        stem = f"{name}_000000_000019"
        save(tmp_path / f"leftImg8bit/{split}/{name}/{stem}_leftImg8bit.png", picture(seed))
        for kind in ("gtFine", "gtCoarse"):
            if (kind, split) in (("gtFine", "train_extra"), ("gtCoarse", "test")):
                continue
            place = tmp_path / f"{kind}/{split}/{name}/{stem}_{kind}"
            labels = ids(seed + 50, 34)
            labels[:, :20] = 7
            save(Path(f"{place}_labelIds.png"), labels)
            save(Path(f"{place}_instanceIds.png"), labels)
            save(Path(f"{place}_color.png"), np.dstack([labels] * 4))
            road = {"label": "road", "polygon": [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]}
            Path(f"{place}_polygons.json").write_text(json.dumps({"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [road]}))
    return tmp_path


def test_cityscapes_classes_are_the_official_ones() -> None:
    theirs = pytest.importorskip("cityscapesscripts.helpers.labels", reason="needs PyPI's cityscapesscripts")
    used = sorted((label for label in theirs.labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert cityscapes.LABELS.names == tuple(label.name for label in used)
    assert cityscapes.LABELS.colours == tuple(label.color for label in used)
    assert dict(cityscapes.LABELS.raw_ids) == {label.id: label.trainId for label in theirs.labels if label.id >= 0}
    assert len(cityscapes.LABELS.raw_ids) == 34
    assert {label.name: label.id for label in theirs.labels} == cityscapes.IDS


def test_cityscapes(city: Path) -> None:
    spec = datasets.load(f"cityscapes:{city}")
    assert (spec.name, spec.channels, list(spec.splits)) == ("cityscapes", 3, ["train", "val", "test"])
    pairs = spec.pairs("train+val")
    assert [pair.labels.relative_to(city).as_posix() for pair in pairs] == [
        f"gtFine/{split}/{name}/{name}_000000_000019_gtFine_labelIds.png" for split, name in CITIES[:3]
    ]
    image, labels = spec.read(pairs[1])
    np.testing.assert_array_equal(image, picture(1))
    raw = images.read_values(pairs[1].labels)[0]
    table = dict(cityscapes.LABELS.raw_ids)
    np.testing.assert_array_equal(labels, np.vectorize(table.__getitem__)(raw))
    report = check(spec)
    assert (report.ok, kinds(report), dict(report.counts)) == (True, [], {"train": 2, "val": 1})
    expected = "has 2 of the 2975 released images of the split 'train'. Extract leftImg8bit_trainvaltest.zip"
    assert expected in message(report, "incomplete")


def test_cityscapes_keeps_its_test_labels(city: Path) -> None:
    spec = datasets.load(f"cityscapes:{city}")
    assert len(spec.image_files("test")) == 1
    with pytest.raises(FastSCNNError, match=r"the split 'test' of cityscapes has no labels: .*cityscapes-dataset\.com/submit"):
        spec.pairs("train+test")
    with pytest.raises(FastSCNNError, match="the split 'test' of cityscapes has no labels"):
        check(spec, ["test"])


def test_cityscapes_draws_what_is_missing(city: Path, tmp_path: Path) -> None:
    spec = datasets.load(f"cityscapes:{city}")
    before = spec.pairs("train")
    before[0].labels.unlink()
    pairs = spec.pairs("train")
    assert pairs[0].labels == before[0].labels.with_name("aachen_000000_000019_gtFine_polygons.json")
    assert pairs[1] == before[1]
    assert (spec.read(pairs[0])[1] == 0).all()
    cache = tmp_path / "cache"
    report = check(spec, cache=cache)
    assert kinds(report) == []
    assert check(spec, cache=cache) == report, "the same from the cache"
    whole = pairs[0].labels.read_text()
    pairs[0].labels.write_text(whole[:-9])
    report = check(spec, cache=cache)
    assert kinds(report) == [("error", "train", "unreadable-labels")]
    assert "polygons.json: is truncated or not JSON" in message(report, "unreadable-labels")
    pairs[0].labels.write_text(whole.replace(str(HEIGHT), str(HEIGHT + 1)))
    assert kinds(check(spec)) == [("error", "train", "size-mismatch")]


def test_cityscapes_half_extracted(city: Path) -> None:
    spec = datasets.load(f"cityscapes:{city}")
    shutil.rmtree(city / "gtFine/train/zurich")
    missing = "label file .*zurich.*_gtFine_labelIds.png is missing; it belongs to gtFine_trainvaltest.zip"
    with pytest.raises(FastSCNNError, match=missing):
        spec.pairs("train")
    shutil.rmtree(city / "leftImg8bit/train/aachen")
    report = check(spec)
    assert kinds(report) == [("error", "train", "missing-labels"), ("warning", "train", "extra-labels")]
    expected = "is missing. Extract the file from gtFine_trainvaltest.zip of cityscapes"
    assert expected in message(report, "missing-labels")
    assert "Add the image (of leftImg8bit_trainvaltest.zip" in message(report, "extra-labels")
    shutil.rmtree(city / "leftImg8bit")
    with pytest.raises(FastSCNNError, match=r"no images match .* they belong to leftImg8bit_trainvaltest\.zip of city"):
        spec.pairs("val")
    assert "Extract leftImg8bit_trainvaltest.zip of cityscapes" in message(check(spec), "no-images")


def test_cityscapes_wrong_ids(city: Path) -> None:
    spec = datasets.load(f"cityscapes:{city}")
    save(spec.pairs("val")[0].labels, np.full((HEIGHT, WIDTH), 255, np.uint8))
    with pytest.raises(FastSCNNError, match="contains the id 255, which is no class of cityscapes"):
        spec.read(spec.pairs("val")[0])
    assert kinds(check(spec)) == [("error", "val", "unknown-ids")]


def test_cityscapes_coarse(city: Path) -> None:
    spec = datasets.load(f"cityscapes-coarse:{city}")
    assert list(spec.splits) == ["train", "train_extra", "val"]
    (pair,) = spec.pairs("train_extra")
    assert pair.labels == city / "gtCoarse/train_extra/augsburg/augsburg_000000_000019_gtCoarse_labelIds.png"
    assert kinds(check(spec)) == []
    shutil.rmtree(city / "leftImg8bit/train_extra")
    with pytest.raises(FastSCNNError, match=r"they belong to leftImg8bit_trainextra\.zip"):
        spec.pairs("train_extra")
    shutil.rmtree(city / "gtCoarse")
    with pytest.raises(FastSCNNError, match=r"it belongs to gtCoarse\.zip"):
        spec.pairs("train")


@pytest.fixture
def scape(tmp_path: Path) -> Path:
    """EventScape: two sequences of five frames to train, one to validate below a town's folder."""
    sequences = ("Town01-03_train/sequence_0", "Town01-03_train/sequence_1", "Town05_val/Town05/sequence_9")
    for number, place in enumerate(sequences):
        for frame in range(5):
            stem = f"05_00{number}_{frame:04}"
            save(tmp_path / f"{place}/rgb/data/{stem}_image.png", picture(10 * number + frame, 256, 512))
            labels = ids(frame, 13, 256, 512)
            save(tmp_path / f"{place}/semantic/data/{stem}_gt_labelIds.png", labels)
        (tmp_path / f"{place}/events/data").mkdir(parents=True)
        (tmp_path / f"{place}/events/data/{number}_events.npz").touch()
        (tmp_path / f"{place}/rgb/timestamps.txt").touch()
    return tmp_path


def test_eventscape(scape: Path) -> None:
    spec = datasets.load(f"eventscape:{scape}")
    assert len(spec.label_set) == 12
    assert [len(spec.pairs(split)) for split in ("train", "val")] == [10, 5]
    pair = spec.pairs("val")[3]
    assert pair.labels == scape / "Town05_val/Town05/sequence_9/semantic/data/05_002_0003_gt_labelIds.png"
    raw = ids(3, 13, 256, 512)
    np.testing.assert_array_equal(spec.read(pair)[1], np.where(raw == 0, 255, raw - 1))
    assert spec.label_set.names[spec.read(pair)[1][raw == 7][0]] == "Road"
    assert kinds(check(spec, ["train", "val"])) == []
    with pytest.raises(FastSCNNError, match=r"no images match 'Town05_test/.* they belong to Town05_test\.zip"):
        spec.pairs("test")
    pair.labels.unlink()
    with pytest.raises(FastSCNNError, match=r"0003_gt_labelIds\.png is missing; it belongs to Town05_val\.zip"):
        spec.pairs("val")


def test_eventscape_takes_one_frame_in_some(scape: Path) -> None:
    spec = datasets.load(f"eventscape:{scape}?every=2")
    assert spec.name == "eventscape?every=2"
    assert [image.name[7:11] for image in spec.image_files("train")] == ["0000", "0002", "0004"] * 2
    assert len(spec.image_files("train", all_frames=True)) == 10
    assert kinds(check(spec, ["train", "val"])) == [], "labels of frames left out belong to images"
    assert len(datasets.load(f"eventscape:{scape}?every=30").pairs("train+val")) == 3


@pytest.mark.parametrize(
    ("image", "labels"), [("_leftImg8bit.jpg", "_gtFine_labelTrainIds.png"), (".jpg", "_labelTrainIds.png")]
)
@pytest.mark.parametrize("folder", ["", "a/"])
def test_dada(tmp_path: Path, image: str, labels: str, folder: str) -> None:
    for seed in range(2):
        path = tmp_path / f"leftImg8bit/val/{folder}images_{seed}{image}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, 660, 1584)).save(path, quality=95)
        values = ids(seed, 20, 660, 1584)
        values[values == 19] = 255
        save(tmp_path / f"gtFine/val/{folder}images_{seed}{labels}", values)
    spec = datasets.load(f"dada:{tmp_path}")
    assert (list(spec.splits), spec.label_set.names) == (["val"], cityscapes.LABELS.names)
    whole, truth = spec.read(spec.pairs("val")[1])
    assert whole.shape == (660, 1584, 3)
    assert (np.unique(truth) == [*range(19), 255]).all()
    cropped = datasets.load(f"dada:{tmp_path}?crop=issafe")
    assert cropped.name == "dada?crop=issafe"
    part, part_truth = cropped.read(cropped.pairs("val")[1])
    np.testing.assert_array_equal(part, whole[0:600, 162:1422])
    np.testing.assert_array_equal(part_truth, truth[0:600, 162:1422])
    report = check(cropped)
    assert kinds(report) == []
    assert sum(report.pixels["val"]) + round(report.ignored["val"] / 100 * 2 * 600 * 1260) == 2 * 600 * 1260
    assert check(spec).fingerprint != report.fingerprint


def test_dada_too_small_for_its_crop(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/val/a_leftImg8bit.jpg", picture(0))
    save(tmp_path / "gtFine/val/a_gtFine_labelTrainIds.png", ids(0, 19))
    spec = datasets.load(f"dada:{tmp_path}?crop=issafe")
    with pytest.raises(FastSCNNError, match="is 40x64, too small for the crop"):
        spec.read(spec.pairs("val")[0])
    assert kinds(check(spec)) == [("error", "val", "too-small")]


@pytest.fixture
def pst(tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "test")):
        for seed in range(2):
            name = f"{number}{seed}_bag1a_rect_rgb_frame0000000007.png"
            rng = np.random.default_rng(seed)
            save(tmp_path / split / "rgb" / name, picture(10 * number + seed))
            save(tmp_path / split / "labels" / name, ids(seed, 5))
            save(tmp_path / split / "thermal" / name, ids(seed + 9, 256))
            raw = rng.integers(21_000, 25_000, (HEIGHT, WIDTH), np.uint16)
            raw[:3] = 0
            raw[3, :2] = 65_535, 1
            path = tmp_path / split / "thermal_raw" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(raw).save(path)
    return tmp_path


def test_pst900(pst: Path) -> None:
    spec = datasets.load(f"pst900:{pst}")
    assert (spec.channels, list(spec.splits), len(spec.label_set)) == (3, ["train", "test"], 5)
    image, labels = spec.read(spec.pairs("test")[1])
    np.testing.assert_array_equal(image, picture(11))
    np.testing.assert_array_equal(labels, ids(1, 5))
    assert kinds(check(spec)) == []


def test_pst900_with_thermal(pst: Path, tmp_path: Path) -> None:
    spec = datasets.load(f"pst900-rgbt:{pst}")
    assert spec.channels == 4
    pair = spec.pairs("train")[0]
    image, _ = spec.read(pair)
    assert image.shape == (HEIGHT, WIDTH, 4)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., :3], picture(0))
    np.testing.assert_array_equal(image[..., 3], ids(9, 256))
    report = check(spec, cache=tmp_path / "cache")
    assert kinds(report) == []
    assert report.fingerprint != check(datasets.load(f"pst900:{pst}")).fingerprint, "the fourth channel counts"
    save(pair.extra_channels[0], ids(77, 256))
    assert check(spec, cache=tmp_path / "cache").fingerprint != report.fingerprint, "and is no stale memory"
    save(pair.extra_channels[0], ids(0, 256, HEIGHT + 1))
    with pytest.raises(FastSCNNError, match=r"thermal/00_.*\.png: is 41x64 \(HxW\) but its image .*rgb/00_.* 40x64"):
        spec.read(pair)
    assert kinds(check(spec)) == [("error", "train", "broken-channel")]
    pair.extra_channels[0].unlink()
    with pytest.raises(FastSCNNError, match=r"its extra channel .*/thermal/00_.* is missing; it belongs to the archive PST"):
        spec.pairs("train")
    assert kinds(check(spec)) == [("error", "train", "missing-channel")]
    assert "train/thermal/00_" in message(check(spec), "missing-channel")
    spec.pairs("test")[0].image.unlink()
    report = check(spec)
    assert kinds(report)[1:] == [("warning", "test", "extra-labels"), ("warning", "test", "extra-channel")]
    assert "is an extra channel without an image. Add the image (of the archive PST900" in message(report, "extra-channel")


def test_pst900_raw_thermal(pst: Path) -> None:
    spec = datasets.load(f"pst900-rgbt:{pst}?thermal=raw")
    assert spec.name == "pst900-rgbt?thermal=raw"
    pair = spec.pairs("train")[1]
    raw = np.array(Image.open(pair.extra_channels[0])).astype(float)
    thermal = spec.read(pair)[0][..., 3]
    np.testing.assert_array_equal(thermal == 0, raw == 0)
    low, high = np.percentile(raw[raw > 0], (1, 99))
    inside = (raw >= low) & (raw <= high)
    assert np.abs(thermal[inside] - (1 + 254 * (raw[inside] - low) / (high - low))).max() <= 0.5 + 1e-9
    assert (thermal[raw > high] == 255).all()
    assert (thermal[(raw > 0) & (raw < low)] == 1).all()
    assert datasets.load(f"pst900-rgbt:{pst}?thermal=agc").pairs("train")[1].extra_channels[0].parent.name == "thermal"


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    palette = np.array(colours_of(camvid_colours.spec(tmp_path)), np.uint8)
    for seed, name in enumerate(("0001TP_006690", "Seq05VD_f05100")):
        save(tmp_path / f"701_StillsRaw_full/{name}.png", picture(seed))
        save(tmp_path / f"LabeledApproved_full/{name}_L.png", palette[ids(seed, 32)])
    (tmp_path / "label_colors.txt").touch()
    return tmp_path


def test_camvid_colours(stills: Path) -> None:
    spec = datasets.load(f"camvid-colours:{stills}")
    colours = colours_of(spec)
    assert (list(spec.splits), len(colours), len(set(colours)), len(spec.label_set)) == (["all"], 32, 32, 31)
    raw, labels = ids(1, 32), spec.read(spec.pairs("all")[1])[1]
    for index, colour in enumerate(colours):
        expected = 255 if colour == (0, 0, 0) else spec.label_set.colours.index(colour)
        assert (labels[raw == index] == expected).all()
    assert kinds(check(spec)) == []
    assert datasets.load(f"camvid-colours:{stills}?classes=32") == replace(spec, name="camvid-colours?classes=32")


def test_camvid_colours_in_eleven_classes(stills: Path) -> None:
    spec = datasets.load(f"camvid-colours:{stills}?classes=11")
    assert spec.label_set.names == camvid.LABELS.names
    path = save(stills / "LabeledApproved_full/0001TP_006690_L.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    grouped = {  # SegNet's groups, by colour
        "Sky": [(128, 128, 128)],
        "Building": [(0, 128, 64), (128, 0, 0), (64, 192, 0), (64, 0, 64), (192, 0, 128)],
        "Pole": [(192, 192, 128), (0, 0, 64)],
        "Road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
        "Pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
        "Tree": [(128, 128, 0), (192, 192, 0)],
        "SignSymbol": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
        "Fence": [(64, 64, 128)],
        "Car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
        "Pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
        "Bicyclist": [(0, 128, 192), (192, 0, 192)],
    }
    assert sum(map(len, grouped.values())) == 31
    for name, colours in grouped.items():
        for colour in colours:
            save(path, np.full((HEIGHT, WIDTH, 3), colour, np.uint8))
            assert (spec.read_labels(path) == spec.label_set.index(name)).all()
    strange = np.full((HEIGHT, WIDTH, 3), (1, 2, 3), np.uint8)
    strange[0] = 0
    save(path, strange)
    assert (spec.read_labels(path) == 255).all()
    report = check(spec)
    assert kinds(report) == [("warning", "all", "unknown-colours"), ("warning", "all", "empty-labels")]
    expected = f"{(HEIGHT - 1) * WIDTH} pixels have a colour of no class and are ignored: [1, 2, 3]"
    assert expected in message(report, "unknown-colours")


def test_camvid_colours_without_its_archives(stills: Path) -> None:
    spec = datasets.load(f"camvid-colours:{stills}")
    shutil.rmtree(stills / "LabeledApproved_full")
    with pytest.raises(FastSCNNError, match=r"it belongs to LabeledApproved_full\.zip"):
        spec.pairs("all")
    shutil.rmtree(stills / "701_StillsRaw_full")
    with pytest.raises(FastSCNNError, match=r"they belong to 701_StillsRaw_full\.zip"):
        spec.pairs("all")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eventscape:{}?evry=3", "no option of eventscape 'evry'. Did you mean 'every'"),
        ("eventscape:{}?every=0", "the option every is '0'; give a whole number of at least 1"),
        ("eventscape:{}?every=-3", "the option every is '-3'"),
        ("eventscape:{}?every=", "the option every is ''"),
        ("eventscape:{}?every=²", "the option every is '²'"),
        ("eventscape:{}?every=3&every=3", "the option every is given twice"),
        ("eventscape:{}?", "no option of eventscape ''"),
        ("eventscape:{}?every=3&", "no option of eventscape ''"),
        ("dada:{}?crop=isafe", "no value of the option crop of dada 'isafe'. Did you mean 'issafe'"),
        ("dada:{}?crop", "no value of the option crop of dada ''"),
        ("pst900-rgbt:{}?thermal=row", "no value of the option thermal .*Did you mean 'raw'"),
        ("pst900:{}?thermal=raw", "pst900: has no options"),
        ("camvid:{}?every=3", "camvid: has no options"),
        ("camvid-colours:{}?classes=12", "no value of the option classes .*'12'"),
        ("cityscape:{}", "no dataset 'cityscape'. Did you mean 'cityscapes'"),
        ("eventscape:{}/gone?every=3", "gone: no such folder"),
    ],
)
def test_options_are_strict(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        datasets.load(name.format(tmp_path))


def test_a_folder_may_be_called_with_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "what?").mkdir()
    assert datasets.load(f"camvid:{tmp_path}/what?").root == tmp_path / "what?"
    assert datasets.load(f"eventscape:{tmp_path}/what??every=2").root == tmp_path / "what?"


# Training and scoring, through the same calls for all


@pytest.mark.parametrize(
    ("recipe", "name", "tree", "train_on", "score_on"),
    [
        ("paper", "cityscapes", "city", "train", "val"),
        pytest.param("mmseg", "cityscapes", "city", "train", "val", marks=pytest.mark.slow),
        pytest.param("cityscapes-coarse", "cityscapes-coarse", "city", "train+train_extra", "val", marks=pytest.mark.slow),
        pytest.param("eventscape", "eventscape", "scape", "train", "val", marks=pytest.mark.slow),
        pytest.param("pst900", "pst900", "pst", "train", "test", marks=pytest.mark.slow),
        ("pst900-rgbt", "pst900-rgbt", "pst", "train", "test"),
    ],
)
def test_training_and_scoring(
    request: pytest.FixtureRequest, tmp_path: Path, recipe: str, name: str, tree: str, train_on: str, score_on: str
) -> None:
    """Two steps of each recipe on its dataset, with patches and batches that a test has the time for."""
    pytest.importorskip("torch")
    import dataclasses

    from fastscnn import Segmenter
    from fastscnn.evaluation.evaluate import evaluate_pairs
    from fastscnn.training.recipes import named
    from fastscnn.training.train import train

    spec = datasets.load(f"{name}:{request.getfixturevalue(tree)}")
    small = dataclasses.replace(named(recipe), iterations=2, batch=2, crop=(64, 64), size=(64, 96))
    card = train(small, spec, tmp_path / "out", split=train_on, validation=None)
    assert (card.channels, card.variant) == (spec.channels, small.variant)
    segmenter = Segmenter.load(tmp_path / "out" / "last.safetensors", "torch")
    report = evaluate_pairs(segmenter, spec, spec.pairs(score_on))
    assert report.images == len(spec.pairs(score_on))
    assert report.confusion.matrix.sum() > 0


@pytest.mark.slow
def test_coarse_labels_first_then_fine_ones(city: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import dataclasses

    from fastscnn.network import checkpoint
    from fastscnn.training.recipes import named
    from fastscnn.training.train import train

    small: dict[str, Any] = {"iterations": 1, "batch": 2, "crop": (64, 64), "size": (64, 96)}
    coarse = datasets.load(f"cityscapes-coarse:{city}")
    recipe = dataclasses.replace(named("cityscapes-coarse"), **small)
    train(recipe, coarse, tmp_path / "coarse", split="train_extra", validation=None)
    first = tmp_path / "coarse" / "last.safetensors"
    notes: list[str] = []
    fine = dataclasses.replace(named("paper"), **small, lr=0.0)
    train(fine, datasets.load(f"cityscapes:{city}"), tmp_path / "fine", validation=None, init=first, on_message=notes.append)
    before, after = (checkpoint.load(path)[0].state_dict() for path in (first, tmp_path / "fine" / "last.safetensors"))
    assert (before["classifier.3.weight"] == after["classifier.3.weight"]).all()  # the classes are the same: all is kept
    assert [note.partition(" has ")[0] for note in notes] == ["The check of the data"]


def test_class_weights_of_another_number_of_classes_are_refused(city: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from fastscnn.training.recipes import named
    from fastscnn.training.train import train

    with pytest.raises(FastSCNNError, match="class_weights: there are 5 weights, but the dataset has 19 classes"):
        train(named("pst900"), datasets.load(f"cityscapes:{city}"), tmp_path / "out", validation=None)
