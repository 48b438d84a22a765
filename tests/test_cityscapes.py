"""cityscapes: against the official script on random trees, and by hand."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastscnn import Segmenter, cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.builtin import cityscapes as official_labels
from fastscnn.data.builtin.cityscapes import AVERAGE_SIZES
from fastscnn.evaluation.protocols.cityscapes import SIZE, Scores, mean, submission_name, write_submission
from fastscnn.media import images
from fastscnn.model.card import Card
from fastscnn.model.label_set import LabelSet

# Three classes, of which the last two have instances; "caravan" (29) is ignored.
SMALL = LabelSet(("road", "person", "car"), raw_ids=((0, 255), (7, 0), (24, 1), (26, 2), (29, 255)))
CATEGORIES = ("flat", "human", "vehicle")
AVERAGES = {"person": 4.0, "car": 10.0}


@pytest.fixture(scope="session")
def script() -> Any:
    """The official script; a test that needs it is skipped where it, or what it imports, is missing."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    return pytest.importorskip(name, reason="needs PyPI's cityscapesscripts and pyquaternion")


def tables(script: Any) -> tuple[LabelSet, tuple[str, ...]]:
    """The official label set and categories."""
    evaluated = sorted((label for label in script.labels if not label.ignoreInEval), key=lambda label: label.trainId)
    raw_ids = tuple((label.id, label.trainId) for label in script.labels if label.id >= 0)
    label_set = LabelSet(tuple(label.name for label in evaluated), raw_ids=raw_ids)
    return label_set, tuple(label.category for label in evaluated)


def official(script: Any, monkeypatch: pytest.MonkeyPatch, predicted: list[Path], truth: list[Path]) -> dict[str, Any]:
    """What the script says of these files."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which the script calls and NumPy 2.4 has no more
    args = copy.copy(script.args)
    args.quiet, args.JSONOutput, args.predictionPath, args.predictionWalk = True, False, None, None
    if not predicted:
        predicted = [Path(script.getPrediction(args, str(file))) for file in truth]
    results: dict[str, Any] = script.evaluateImgLists([str(file) for file in predicted], [str(file) for file in truth], args)
    return results


def assert_equal(scores: Scores, results: dict[str, Any]) -> None:
    """Every table and mean of the script, to 1e-6 of a fraction; what has no score there has none here."""
    report = scores.to_dict()
    for ours, theirs, its_mean in (
        ("class_iou", "classScores", "averageScoreClasses"),
        ("category_iou", "categoryScores", "averageScoreCategories"),
        ("class_iiou", "classInstScores", "averageScoreInstClasses"),
        ("category_iiou", "categoryInstScores", "averageScoreInstCategories"),
    ):
        known = {name: score for name, score in report[ours].items() if score is not None}
        expected = {name: 100 * score for name, score in results[theirs].items() if not math.isnan(score)}
        assert known == pytest.approx(expected, abs=1e-7)
        average = report[f"mean_{ours}"]
        assert (average is None) == math.isnan(results[its_mean])
        assert average is None or average == pytest.approx(100 * results[its_mean], abs=1e-7)


def blocks(rng: np.random.Generator, values: np.ndarray[Any, Any], shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """An image of random rectangles of these values, from the whole down to single pixels."""
    image = np.full(shape, rng.choice(values))
    for value in rng.choice(values, 30):
        height, width = (max(1, int(side * rng.random() ** 3)) for side in shape)
        top, left = rng.integers(0, shape[0] - height + 1), rng.integers(0, shape[1] - width + 1)
        image[top : top + height, left : left + width] = value
    return image


def draw(rng: np.random.Generator, script: Any, shape: tuple[int, int], alone: bool) -> tuple[Any, Any, Any]:
    """Predicted train ids, true label ids and instance ids of one image.

    Args:
        alone: no instances, as in images where all people stand in groups.
    """
    label_set, _ = tables(script)
    things = [label.id for label in script.labels if label.hasInstances]
    ids = blocks(rng, rng.choice(34, 16, replace=False), shape)
    instances = ids.astype(np.uint16)
    number = blocks(rng, np.arange(12), shape)  # 0: a group, which has no instances
    single = np.isin(ids, things) & (number > 0) & (not alone)
    instances[single] = ids[single] * 1000 + number[single]
    ids[blocks(rng, np.arange(8), shape) == 0] = 0  # ignored, over instances too
    train = label_set.train_ids()[ids]
    guess = blocks(rng, rng.choice(19, 12, replace=False), shape)
    wrong = (rng.random(shape) < 0.2) | (blocks(rng, np.arange(3), shape) == 0) | (train == 255)
    return np.where(wrong, guess, train).astype(np.uint8), ids.astype(np.uint8), instances


def write_truth(folder: Path, number: int, ids: Any, instances: Any) -> Path:
    """The ground truth of an image as Cityscapes has it; its label file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"aachen_{number:06}_000019_gtFine_labelIds.png"
    Image.fromarray(ids).save(file)
    Image.fromarray(instances).save(folder / file.name.replace("labelIds", "instanceIds"))
    return file


@pytest.mark.parametrize("seed", range(12))
def test_as_the_official_script(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_set, categories = tables(script)
    scores = Scores(label_set, categories, AVERAGE_SIZES)
    raw = np.array([np.flatnonzero(label_set.train_ids() == train)[0] for train in range(19)], np.uint8)
    predicted, truth = [], []
    for number in range(1 + seed % 4):
        shape = (int(rng.integers(20, 60)), int(rng.integers(20, 90)))
        labels, ids, instances = draw(rng, script, shape, alone=seed % 3 == 0 and number % 2 == 0)
        truth.append(write_truth(tmp_path, number, ids, instances))
        predicted.append(tmp_path / f"{number}.png")
        Image.fromarray(raw[labels]).save(predicted[-1])
        with Image.open(str(truth[-1]).replace("labelIds", "instanceIds")) as stored:
            scores.add(labels, label_set.train_ids()[ids].astype(np.uint8), np.asarray(stored))
    results = official(script, monkeypatch, predicted, truth)
    assert_equal(scores, results)
    if seed == 1:  # the trees hold what they should
        assert 0 < results["averageScoreInstClasses"] < results["averageScoreInstCategories"] < 1
        assert math.isnan(results["categoryScores"]["void"])


@pytest.mark.parametrize("what", ["nothing counted", "right", "groups only"])
def test_as_the_official_script_at_the_edges(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    label_set, categories = tables(script)
    ids = np.repeat(np.array([0, 3, 29, 30] if what == "nothing counted" else [7, 24, 26, 33], np.uint8), 6).reshape(4, 6)
    instances = ids.astype(np.uint16)
    if what != "groups only":
        instances[ids > 23] = ids[ids > 23] * np.uint16(1000) + np.arange((ids > 23).sum(), dtype=np.uint16) // 4
    train = label_set.train_ids()[ids].astype(np.uint8)
    labels = np.where(train == 255, 11, train).astype(np.uint8)
    raw = np.where(train == 255, 24, ids).astype(np.uint8)
    truth = write_truth(tmp_path, 0, ids, instances)
    Image.fromarray(raw).save(tmp_path / "predicted.png")
    scores = Scores(label_set, categories, AVERAGE_SIZES)
    scores.add(labels, train, instances)
    results = official(script, monkeypatch, [tmp_path / "predicted.png"], [truth])
    assert_equal(scores, results)
    averages = {name: value for name, value in scores.to_dict().items() if name.startswith("mean_")}
    expected = {"nothing counted": {None}, "right": {100.0}, "groups only": {100.0, None}}[what]
    assert {None if value is None else round(value, 9) for value in averages.values()} == expected


def test_average_sizes_are_the_official_ones(script: Any) -> None:
    label_set, _ = tables(script)
    assert dict(AVERAGE_SIZES) == {name: size for name, size in script.args.avgClassSize.items() if name in label_set.names}


def test_a_submission_is_found_and_scored_by_the_official_script(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    label_set, categories = tables(script)
    scores, truth = Scores(label_set, categories, AVERAGE_SIZES), []
    for number in range(2):
        labels, ids, instances = draw(np.random.default_rng(number), script, SIZE, alone=False)
        truth.append(write_truth(tmp_path / "gtFine" / "val" / "aachen", number, ids, instances))
        scores.add(labels, label_set.train_ids()[ids].astype(np.uint8), instances)
        write_submission(tmp_path / "results", f"aachen_{number:06}_000019_leftImg8bit.png", labels, label_set)
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "results"))
    assert_equal(scores, official(script, monkeypatch, [], truth))


def small(predicted: Any, truth: Any, instances: Any) -> Scores:
    scores = Scores(SMALL, CATEGORIES, AVERAGES)
    scores.add(np.asarray(predicted, np.uint8), np.asarray(truth, np.uint8), np.asarray(instances, np.uint16))
    return scores


@pytest.mark.parametrize(
    ("predicted", "truth", "instances", "person", "car"),
    [
        # person 1 of 1 pixel, hit, weighs 4; person 2 of 4 pixels, hit twice: 2 of 4; of 8 weighted pixels 6 are hits
        ([[1, 1, 1, 0, 0]], [[1] * 5], [[24001, 24002, 24002, 24002, 24002]], 75, None),
        # ... and two false hits on the road: 6 of 10
        ([[1, 1, 1, 0, 0, 1, 1]], [[1] * 5 + [0] * 2], [[24001, *[24002] * 4, 7, 7]], 60, None),
        # a group counts for nothing, and false hits alone make 0
        ([[1, 0, 2]], [[1, 1, 0]], [[24, 24, 7]], None, 0),
        # the same number of another class is another instance: a car of 2 pixels, 10 weighted, half hit; 5 of (10 + 0)
        ([[1, 2, 0]], [[1, 2, 2]], [[24001, 26001, 26001]], 100, 50),
        # ignored classes have no part, however predicted; ignored truth takes no false hits but keeps its instances
        ([[1, 2, 2]], [[255, 255, 255]], [[29001, 29001, 26001]], None, 100),
        # 1000 is no instance, 24000 is one
        ([[0, 1]], [[0, 1]], [[1000, 24000]], 100, None),
        # a class beyond the label set where nothing is counted is a miss
        ([[9, 1]], [[255, 1]], [[24001, 24001]], 50, None),
    ],
    ids=["sizes", "false hits", "groups", "numbers", "ignored", "lowest", "beyond"],
)
def test_iiou_by_hand(predicted: Any, truth: Any, instances: Any, person: float | None, car: float | None) -> None:
    scores = small(predicted, truth, instances)
    assert scores.class_iiou() == {"person": person, "car": car}
    assert scores.category_iiou() == {"human": person, "vehicle": car}


def test_categories_by_hand() -> None:
    scores = Scores(SMALL, ("flat", "moves", "moves"), AVERAGES)
    # a person taken for a car is right in its category; weights stay those of the class: 4 and 10 / 2
    predicted, truth = np.array([[2, 0, 2, 1]], np.uint8), np.array([[1, 2, 2, 0]], np.uint8)
    scores.add(predicted, truth, np.array([[24001, 26001, 26001, 7]], np.uint16))
    assert scores.category_iou() == {"flat": 0, "moves": 50}
    assert scores.category_iiou() == {"moves": pytest.approx(100 * 9 / 15)}
    assert scores.class_iiou() == {"person": 0, "car": pytest.approx(100 * 5 / 11)}
    report = scores.to_dict()
    assert report["mean_category_iou"] == 25
    assert report["mean_class_iou"] == pytest.approx(100 / 9)
    assert report["mean_class_iiou"] == pytest.approx(50 * 5 / 11)
    assert list(Scores(SMALL, ("a", "a", "b"), AVERAGES).category_iiou()) == ["b"]  # road, in "a", has no instances


def test_a_class_beyond_the_label_set_is_of_no_category() -> None:
    scores = Scores(LabelSet(("person",), raw_ids=((24, 0),)), ("human",), {"person": 8.0})
    scores.add(np.array([[0, 9]], np.uint8), np.array([[0, 255]], np.uint8), np.array([[24001, 24001]], np.uint16))
    assert scores.category_iiou() == {"human": 50}


def test_instances_of_different_images_are_different() -> None:
    scores = small([[1, 1]], [[1, 1]], [[24001, 24001]])
    scores.add(np.zeros((1, 8), np.uint8), np.ones((1, 8), np.uint8), np.full((1, 8), 24001))
    assert scores.class_iiou()["person"] == 50  # one of two, where one of ten pixels in eight would be 20


def test_no_score_without_pixels() -> None:
    report = Scores(SMALL, CATEGORIES, AVERAGES).to_dict()
    assert {name: score for name, score in report.items() if name.startswith("mean")} == dict.fromkeys(
        ("mean_class_iou", "mean_category_iou", "mean_class_iiou", "mean_category_iiou")
    )
    assert mean({"a": None, "b": 3.0, "c": 0.0}) == 1.5


IMAGES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(rng=IMAGES, factor=st.floats(0.01, 100))
def test_iiou_is_iou_where_all_instances_are_average(rng: np.random.Generator, factor: float) -> None:
    truth = np.repeat(rng.integers(0, 3, (6, 5)), 4, axis=1).astype(np.uint8)  # instances of 4 pixels
    predicted = rng.integers(0, 3, truth.shape).astype(np.uint8)
    number = np.repeat(np.arange(30).reshape(6, 5), 4, axis=1)
    instances = np.where(truth > 0, np.array([0, 24, 26])[truth] * 1000 + number, 7).astype(np.uint16)
    scores = Scores(SMALL, CATEGORIES, {"person": 4, "car": 4})
    scores.add(predicted, truth, instances)
    iou = scores.class_iou()
    iiou = scores.class_iiou()
    assert iiou == pytest.approx({name: iou[name] for name in iiou})

    weighted = Scores(SMALL, CATEGORIES, {"person": 4 * factor, "car": 4})  # the heavier, the less false hits count
    weighted.add(predicted, truth, instances)
    before, after = iiou["person"], weighted.class_iiou()["person"]
    assert before is None or (after is not None and (after - before) * (factor - 1) >= -1e-9)
    assert weighted.class_iiou()["car"] == iiou["car"]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(rng=IMAGES)
def test_the_order_of_images_does_not_count(rng: np.random.Generator) -> None:
    drawn = []
    for _ in range(3):
        truth = rng.choice([0, 1, 2, 255], (9, 7)).astype(np.uint8)
        number = rng.integers(0, 4, truth.shape)
        raw = np.array([7, 24, 26] + [0] * 253)[truth]
        instances = np.where((raw > 20) & (number > 0), raw * 1000 + number, raw).astype(np.uint16)
        drawn.append((rng.integers(0, 3, truth.shape).astype(np.uint8), truth, instances))
    forward, backward = Scores(SMALL, CATEGORIES, AVERAGES), Scores(SMALL, CATEGORIES, AVERAGES)
    for predicted, truth, instances in drawn:
        forward.add(predicted, truth, instances)
    for predicted, truth, instances in reversed(drawn):
        backward.add(predicted.T, truth.T, instances.T)  # nor does the order of pixels
    for name, table in forward.to_dict().items():
        assert backward.to_dict()[name] == pytest.approx(table)


@pytest.mark.parametrize(
    ("predicted", "truth", "instances", "message"),
    [
        ([[0, 0]], [[0, 0]], np.zeros((1, 3), np.uint16), "Instances are \\(1, 3\\), true labels \\(1, 2\\)"),
        ([[0]], [[0, 0]], np.zeros((1, 2), np.uint16), "Predicted labels are \\(1, 1\\)"),
        ([[0, 3]], [[0, 0]], np.array([[7, 24001]], np.uint16), "beyond the 3 classes"),
        ([[0, 255]], [[0, 1]], np.array([[7, 24001]], np.uint16), "beyond the 3 classes"),
        ([[0, 0]], [[0, 0]], np.zeros((1, 2), np.uint8), "uint8, but instanceIds files have 16 bits"),
        ([[0, 0]], [[0, 0]], np.zeros((1, 2), np.float32), "float32"),
        ([[0, 0]], [[0, 0]], np.array([[24001, 7001]], np.uint16), "instance 7001 is of the label id 7"),
        ([[0, 0]], [[0, 0]], np.array([[24001, 31001]], np.uint16), "instance 31001 is of the label id 31"),
        ([[0, 0]], [[0, 0]], np.array([[24001, 300_001]], np.int32), "instance 300001 is of the label id 300"),
    ],
    ids=["instances", "sizes", "predicted", "255 predicted", "8 bits", "floats", "no instances", "unknown", "large"],
)
def test_errors_count_nothing(predicted: Any, truth: Any, instances: Any, message: str) -> None:
    scores = Scores(SMALL, CATEGORIES, AVERAGES)
    with pytest.raises(FastSCNNError, match=message):
        scores.add(np.asarray(predicted, np.uint8), np.asarray(truth, np.uint8), instances)
    assert scores.to_dict() == Scores(SMALL, CATEGORIES, AVERAGES).to_dict()


@pytest.mark.parametrize(
    ("categories", "averages", "message"),
    [
        (("flat", "human"), {}, "there are 2 for 3 classes"),
        (CATEGORIES, {"persons": 4.0}, "no class 'persons'. Did you mean 'person'"),
        (CATEGORIES, {"person": 0.0}, "'person' has 0.0"),
        (CATEGORIES, {"person": math.nan}, "'person' has nan"),
    ],
)
def test_tables_that_do_not_fit(categories: tuple[str, ...], averages: dict[str, float], message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        Scores(SMALL, categories, averages)


def test_submission_names() -> None:
    assert submission_name("a/aachen_000000_000019_leftImg8bit.png") == "aachen_000000_000019_pred_labelIds.png"
    assert submission_name(Path("bad-honnef_000000_000000.png")) == "bad-honnef_000000_000000_pred_labelIds.png"


@pytest.mark.parametrize("name", ["image.png", "ulm_00000_000019_a.png", "ulm_000000_0000190_a.png", "*_000000_000019.png"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FastSCNNError, match="is not named <city>_<sequence>_<frame>"):
        write_submission(tmp_path, name, np.zeros(SIZE, np.uint8), SMALL)
    assert not list(tmp_path.iterdir())


IMAGE = "ulm_000001_000019_leftImg8bit.png"


def test_a_submission_holds_label_ids(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8)
    file = write_submission(tmp_path / "new", IMAGE, labels, SMALL)
    assert file == tmp_path / "new" / "ulm_000001_000019_pred_labelIds.png"
    with Image.open(file) as stored:
        assert (stored.format, stored.mode, stored.size) == ("PNG", "L", (2048, 1024))
    np.testing.assert_array_equal(images.read_values(file)[0], np.array([7, 24, 26])[labels])


@pytest.mark.parametrize("shape", [(512, 1024), (33, 70), (1, 1), (1100, 3000)])
def test_a_resized_submission_is_nearest(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    with pytest.raises(FastSCNNError, match=f"are {shape[0]}x{shape[1]}, and the server requires 1024x2048"):
        write_submission(tmp_path, IMAGE, labels, SMALL)
    assert not list(tmp_path.iterdir())
    file = write_submission(tmp_path, IMAGE, labels, SMALL, resize=True)
    nearest = Image.fromarray(np.array([7, 24, 26], np.uint8)[labels]).resize((2048, 1024), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(images.read_values(file)[0], np.asarray(nearest))


def test_a_submission_is_not_overwritten_unasked(tmp_path: Path) -> None:
    ones, twos = np.ones(SIZE, np.uint8), np.full(SIZE, 2, np.uint8)
    file = write_submission(tmp_path, IMAGE, ones, SMALL)
    with pytest.raises(FastSCNNError, match="exists, and the server accepts one file"):
        write_submission(tmp_path, IMAGE, twos, SMALL)
    assert images.read_values(file)[0].max() == 24
    write_submission(tmp_path, IMAGE, twos, SMALL, overwrite=True)
    assert images.read_values(file)[0].min() == 26
    write_submission(tmp_path, "ulm_000001_000020_leftImg8bit.png", ones, SMALL)  # another frame is no obstacle
    file.rename(tmp_path / "ulm_000001_000019_other.png")
    for overwrite in (False, True):
        with pytest.raises(FastSCNNError, match="000019_other\\.png: exists"):
            write_submission(tmp_path, IMAGE, twos, SMALL, overwrite=overwrite)
    assert not file.exists()


@pytest.mark.parametrize("value", [3, 255])
def test_a_submission_has_a_class_for_every_pixel(tmp_path: Path, value: int) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[5, 5] = value
    with pytest.raises(FastSCNNError, match=f"contains the train id {value}, beyond the 3 classes"):
        write_submission(tmp_path, IMAGE, labels, SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("raw_ids", [((7, 0), (24, 1)), ((7, 0), (24, 1), (26, 2), (27, 2))])
def test_a_submission_needs_one_label_id_for_each_class(tmp_path: Path, raw_ids: tuple[tuple[int, int], ...]) -> None:
    label_set = LabelSet(SMALL.names, raw_ids=raw_ids)
    with pytest.raises(FastSCNNError, match="'car' has the label ids"):
        write_submission(tmp_path, IMAGE, np.zeros(SIZE, np.uint8), label_set)


@pytest.mark.parametrize("shape", [(0, 0), (1024, 2048, 3)])
def test_labels_of_no_image_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(FastSCNNError, match="the server requires 1024x2048"):
        write_submission(tmp_path, IMAGE, np.zeros(shape, np.uint8), SMALL, resize=True)


# At the command line


def tree(tmp_path: Path) -> tuple[Path, Path]:
    """A Cityscapes of one val image, 1024x2048, with its labels, and weights whose 19 classes are Cityscapes'."""
    pytest.importorskip("torch")
    import torch

    from fastscnn.data.builtin import cityscapes as official
    from fastscnn.media import images
    from fastscnn.model.card import Card
    from fastscnn.network import checkpoint
    from fastscnn.network.fast_scnn import FastSCNN

    stem = "leftImg8bit/val/ulm/ulm_000000_000019"
    images.write(tmp_path / f"{stem}_leftImg8bit.png", np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), np.uint8))
    labels = np.full((1024, 2048), 7, np.uint8)  # road
    labels[:512] = 24  # person
    images.write(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", labels)
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    checkpoint.save(weights, FastSCNN(19).eval(), Card(official.LABELS, (64, 128)))
    return tmp_path, weights


def test_categories_are_the_official_ones() -> None:
    theirs = pytest.importorskip("cityscapesscripts.helpers.labels")
    from fastscnn.data.builtin import cityscapes as official

    by_train_id = {label.trainId: label.category for label in theirs.labels if 0 <= label.trainId < 19}
    assert tuple(by_train_id[index] for index in range(19)) == official.CATEGORIES


def test_scores_and_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from fastscnn import Segmenter, cli
    from fastscnn.data.builtin import cityscapes as official
    from fastscnn.media import images

    root, weights = tree(tmp_path)
    words = ["evaluate", f"cityscapes:{root}", "--weights", str(weights), "--backend", "torch", "--split", "val"]
    assert cli.main(words) == 0
    assert "category mIoU" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores["category_iou"]) == set(official.CATEGORIES)
    out = tmp_path / "submitted"
    assert cli.main([*words, "--submit", str(out)]) == 0
    (file,) = out.iterdir()
    assert file.name.startswith("ulm_000000_000019")
    image = images.read(root / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    expected = Segmenter.load(weights, "torch").segment(image).labels
    back = official.LABELS.train_ids()[images.read_values(file)[0]]
    np.testing.assert_array_equal(back, expected)
    capsys.readouterr()
    assert cli.main([*words, "--submit", str(out)]) == 1  # never over another one's
    assert cli.main(["evaluate", f"cityscapes:{root}", "--split", "val", "--submit", str(out)]) == 1
    assert "needs weights and images of the 19 Cityscapes classes" in capsys.readouterr().err


SHAPE = (96, 128)


def knowing(path: Path, write_onnx: WriteOnnx) -> Path:
    """A network of one convolution that gives every eighth pixel the class whose colour is nearest."""
    onnx = pytest.importorskip("onnx")
    from fastscnn.exporting.metadata import with_card

    colours = np.array(official_labels.LABELS.colours, np.float32) / 16  # |x - c|^2 is least where 2 c x - |c|^2 is largest
    model = onnx.load(write_onnx(path, classes=official_labels.LABELS.names))
    del model.graph.initializer[:]
    for name, values in (("weight", 2 * colours[:, :, None, None] / 16), ("bias", -(colours**2).sum(axis=1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    next(node for node in model.graph.node if node.op_type == "Conv").input.append("bias")
    path.write_bytes(with_card(model, Card(LabelSet(official_labels.LABELS.names), (64, 96))))
    return path


@pytest.fixture
def instances(script: Any, tmp_path: Path, write_onnx: WriteOnnx) -> tuple[Path, list[str]]:
    """Cityscapes in its official layout, two cities with two images each and all their files, and the words that score it."""
    rng = np.random.default_rng(5)
    for number, city in enumerate(("ulm", "ulm", "bonn", "bonn")):
        labels, ids, values = draw(rng, script, SHAPE, alone=number == 1)
        stem = f"{city}/{city}_{number:06}_000019"
        images.write(tmp_path / f"leftImg8bit/val/{stem}_leftImg8bit.png",
                     np.array(official_labels.LABELS.colours, np.uint8)[labels])
        images.write(tmp_path / f"gtFine/val/{stem}_gtFine_labelIds.png", ids)
        Image.fromarray(values).save(tmp_path / f"gtFine/val/{stem}_gtFine_instanceIds.png")
    weights = knowing(tmp_path / "knowing.onnx", write_onnx)
    words = ["evaluate", f"cityscapes:{tmp_path}", "--split", "val", "--size", "native", "--backend", "onnx"]
    return tmp_path, [*words, "--weights", str(weights)]


def test_instance_scores_are_the_official_ones(
    script: Any, monkeypatch: pytest.MonkeyPatch, instances: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, words = instances
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    raw = np.array([np.flatnonzero(official_labels.LABELS.train_ids() == train)[0] for train in range(19)], np.uint8)
    segmenter = Segmenter.load(root / "knowing.onnx", "onnx", size="native")
    truth = sorted(root.glob("gtFine/val/*/*_labelIds.png"))
    predicted = []
    for file in truth:
        frame = file.name.removesuffix("_gtFine_labelIds.png")
        image = images.read(root / "leftImg8bit/val" / file.parent.name / f"{frame}_leftImg8bit.png")
        predicted.append(root / f"{frame}_predicted.png")
        images.write(predicted[-1], raw[segmenter.segment(image).labels])
    theirs = official(script, monkeypatch, predicted, truth)
    for ours, table, ours_mean, its_mean in (
        ("iou", "classScores", "miou", "averageScoreClasses"),
        ("category_iou", "categoryScores", "category_miou", "averageScoreCategories"),
        ("class_iiou", "classInstScores", "class_miiou", "averageScoreInstClasses"),
        ("category_iiou", "categoryInstScores", "category_miiou", "averageScoreInstCategories"),
    ):
        known = {name: score for name, score in scores[ours].items() if score is not None}
        assert known == pytest.approx({name: 100 * score for name, score in theirs[table].items() if not math.isnan(score)},
                                      abs=1e-6)
        assert scores[ours_mean] == pytest.approx(100 * theirs[its_mean], abs=1e-6)
        assert 5 < scores[ours_mean] < 95, "labels that are neither all right nor all wrong"
        assert f"{scores[ours_mean]:.2f}" in shown
    assert "iIoU %" in shown
    assert "not computed" not in shown


def test_without_instance_files_iiou_is_left_out(
    instances: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, words = instances
    for file in root.glob("gtFine/val/*/*_instanceIds.png"):
        file.unlink()
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "iIoU: not computed, because instance files are missing, such as " in shown
    assert "bonn_000002_000019_gtFine_instanceIds.png" in shown
    assert "iIoU %" not in shown
    assert cli.main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert "category_miou" in scores
    assert not [name for name in scores if "iiou" in name]


def too_small(file: Path) -> None:
    Image.fromarray(np.zeros((SHAPE[0] - 1, SHAPE[1]), np.uint16)).save(file)


def eight_bits(file: Path) -> None:
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(file)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def of_a_road(file: Path) -> None:
    Image.fromarray(np.full(SHAPE, 7001, np.uint16)).save(file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "is missing, but other instance files exist and iIoU needs all of them; it belongs to "
                      "gtFine_trainvaltest.zip of cityscapes-dataset.com/downloads."),
        (too_small, "Instances are (95, 128), true labels (96, 128)"),
        (eight_bits, "has the mode L, but one channel of 16 bits is expected"),
        (truncated, "is truncated or broken"),
        (of_a_road, "The instance 7001 is of the label id 7, which is no class that has instances"),
    ],
)  # fmt: skip
def test_instance_files_that_are_wrong(
    instances: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    root, words = instances
    file = root / "gtFine/val/bonn/bonn_000003_000019_gtFine_instanceIds.png"
    spoil(file)
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert message in error
    assert not (root / "scores.json").exists()


def test_coarse_labels_have_no_instances(instances: tuple[Path, list[str]]) -> None:
    root, _ = instances
    fine = datasets.load(f"cityscapes:{root}").pairs("val")
    assert [pair.instances for pair in fine] == sorted(root.glob("gtFine/val/*/*_instanceIds.png"))
    coarse = datasets.load(f"cityscapes-coarse:{root}")
    assert coarse.pair("val", fine[0].image).instances is None
