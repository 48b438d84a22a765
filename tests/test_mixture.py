"""Mixtures: class maps, sampling, partial labels, and the commands on several datasets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn import cli
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data import datasets, mixture, synthetic
from fastscnn.data.mixture import Mixture, Source
from fastscnn.evaluation.evaluate import evaluate
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images

CLASSES = synthetic.CLASSES
OWN = ("road", "construction", "void")  # construction is a building or a fence
MAP = {"construction": "Building", "void": "ignore"}
ROAD, BUILDING = CLASSES.index("Road"), CLASSES.index("Building")


def write_dataset(root: Path, name: str, classes: tuple[str, ...], pairs: list[tuple[Any, Any]]) -> Path:
    for number, (image, labels) in enumerate(pairs):
        images.write(root / f"images/{number}.png", image)
        images.write(root / f"labels/{number}.png", labels)
    root.mkdir(exist_ok=True)
    toml = root / "dataset.toml"
    toml.write_text(f'name = "{name}"\nclasses = {list(classes)}\nterms = "{name} only"\n[splits.train]\n'
                    'images = "images/*.png"\nlabels = "labels/{stem}.png"\n')
    return toml


@pytest.fixture
def mixed(tiny_dataset: Path, partial_dataset: Path) -> Mixture:
    """The tiny dataset and the other one, whose labels contain road and buildings only."""
    return mixture.load([tiny_dataset, Source(partial_dataset, map=MAP)])


@pytest.fixture
def written(tiny_dataset: Path, partial_dataset: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a mixture file of both, with more lines for the second."""

    def write(more: str = "", head: str = "") -> Path:
        path = tmp_path / "mixture.toml"
        path.write_text(f"{head}[[datasets]]\ndata = '{tiny_dataset}'\n[[datasets]]\ndata = '{partial_dataset}'\n{more}")
        return path

    return write


FILE_MAP = '[datasets.map]\nconstruction = "Building"\nvoid = "ignore"\n'


def test_a_member_is_read_with_the_classes_of_the_first(mixed: Mixture, tiny_dataset: Path) -> None:
    first, second = mixed.members
    assert (mixed.name, mixed.first.name, mixed.weighted) == ("tiny+partial", "tiny", False)
    assert second.class_map == {"road": "Road", "construction": "Building", "void": "ignore"}
    assert np.flatnonzero(second.annotated).tolist() == sorted([ROAD, BUILDING])
    assert set(second.not_annotated) == set(CLASSES) - {"Road", "Building"}
    pair = second.spec.pairs("train")[0]
    image, labels = second.read(pair)
    raw = images.read_values(pair.labels)[0]
    assert np.array_equal(image, images.read(pair.image))
    assert np.array_equal(labels, np.array([ROAD, BUILDING, 255], np.uint8)[raw])
    pixels = np.bincount(raw.ravel(), minlength=3)
    counts = second.counts(pixels)
    assert (counts[ROAD], counts[BUILDING], counts.sum()) == (pixels[0], pixels[1], pixels[0] + pixels[1])
    assert not first.mapped
    assert first.annotated.all()
    spec = datasets.load(tiny_dataset)
    for ours, theirs in zip(first.read(spec.pairs("val")[0]), spec.read(spec.pairs("val")[0]), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_mixture_file_says_the_same(written: Callable[[str], Path], mixed: Mixture) -> None:
    assert mixture.load(written(FILE_MAP)) == mixed
    assert mixture.load([written(FILE_MAP)]) == mixed  # as the command line gives it
    assert mixture.load(mixed) is mixed
    path = written(f'split = "train"\nweight = 3\n{FILE_MAP}')
    path.write_text(path.read_text().replace("[[datasets]]\n", "[[datasets]]\nweight = 1\n", 1))
    loaded = mixture.load(path)
    assert [(member.weight, member.split) for member in loaded.members] == [(1.0, None), (3.0, "train")]
    assert loaded.shares((6, 4)) == (0.25, 0.75)
    assert mixed.shares((6, 4)) == (0.6, 0.4)


def test_paths_in_a_file_are_relative_to_it(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(tiny_dataset.parent, target_is_directory=True)
    path = tmp_path / "mixture.toml"
    monkeypatch.chdir("/")
    for data in ("data", "data/dataset.toml", f"{tiny_dataset}"):
        path.write_text(f"[[datasets]]\ndata = '{data}'\n")
        assert mixture.load(path).first.name == "tiny"
    (tmp_path / "camvid").mkdir()
    path.write_text("[[datasets]]\ndata = 'camvid:camvid'\n")
    assert mixture.load(path).first.root == tmp_path / "camvid"


def test_names_are_equal_without_regard_to_case(tmp_path: Path) -> None:
    first = write_dataset(tmp_path / "a", "a", ("Road", "CAR", "car", "sky"), [])
    second = write_dataset(tmp_path / "b", "b", ("SKY", "car", "road"), [])
    assert mixture.load([first, second]).members[1].train_ids == (3, 2, 0)
    third = write_dataset(tmp_path / "c", "c", ("Car",), [])
    with pytest.raises(FastSCNNError, match="There is no class of a 'Car'"):  # CAR or car
        mixture.load([first, third])
    assert mixture.load([first, Source(third, map={"CAR": "CAR"})]).members[1].train_ids == (1,)


def test_a_class_without_a_map_is_refused_with_the_fix(tiny_dataset: Path, partial_dataset: Path) -> None:
    with pytest.raises(FastSCNNError) as error:
        mixture.load([tiny_dataset, partial_dataset])
    message = str(error.value)
    assert message.startswith("partial: There is no class of tiny 'construction'.")
    assert 'below [datasets.map], which class it is: construction = "CLASS", or construction = "ignore"' in message
    assert message.endswith("The same holds for 'void'.")


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({**MAP, "rode": "Road"}, "There is no class of partial 'rode'. Did you mean 'road'?"),
        ({**MAP, "road": "Rode"}, "There is no class of tiny 'Rode'. Did you mean 'Road'?"),
        ({**MAP, "Void": "Road"}, "its map has two entries for the class 'void'"),
        (dict.fromkeys(OWN, "ignore"), "every class is ignored"),
    ],
)
def test_wrong_maps(tiny_dataset: Path, partial_dataset: Path, class_map: dict[str, str], message: str) -> None:
    with pytest.raises(FastSCNNError, match=r"^partial: ") as error:
        mixture.load([tiny_dataset, Source(partial_dataset, map=class_map)])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (f"wieght = 1\n{FILE_MAP}", "There is no key of datasets.2 'wieght'. Did you mean 'weight'?"),
        (f"weight = 0\n{FILE_MAP}", "partial: weight is 0; it must be a number above 0."),
        (f"weight = true\n{FILE_MAP}", "partial: weight is True; it must be a number above 0."),
        (f"weight = inf\n{FILE_MAP}", "partial: weight is inf; it must be a number above 0."),
        (f"weight = nan\n{FILE_MAP}", "partial: weight is nan; it must be a number above 0."),
        (f"weight = 2\n{FILE_MAP}", "tiny: has no weight, but other datasets have one; give weights to all or to none."),
        (f"split = 1\n{FILE_MAP}", "datasets.2.split is 1; it must be a text in quotes."),
        ("map = 3\n", "datasets.2.map must be a table with class names, such as door = "),
        ("[datasets.map]\nvoid = 3\n", "datasets.2.map.void is 3; it must be a text in quotes."),
        ("[[datasets]]\nweight = 3\n", "datasets.3.data is missing; add it."),
    ],
)
def test_wrong_mixture_files(written: Callable[[str], Path], more: str, message: str) -> None:
    path = written(more)
    with pytest.raises(FastSCNNError) as error:
        mixture.load(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_other_wrong_mixtures(tiny_dataset: Path, partial_dataset: Path, tmp_path: Path, written: Callable[..., Path]) -> None:
    with pytest.raises(ArgumentError, match="give at least one dataset"):
        mixture.load([])
    path = written(FILE_MAP, head="name = 'x'\n")
    with pytest.raises(FastSCNNError, match="There is no key 'name'"):
        mixture.load(path)
    path = written(FILE_MAP)
    with pytest.raises(ArgumentError, match="is a mixture of datasets; give it alone"):
        mixture.load([tiny_dataset, path])
    with pytest.raises(FastSCNNError, match="is a mixture file, but one dataset is needed here; give one that it names"):
        datasets.load(path)
    path.write_text("datasets = 3\n")
    with pytest.raises(FastSCNNError, match=r"begin each with \[\[datasets\]\]"):
        mixture.load(path)
    path.write_text("[[datasets]]\n[[dat")
    with pytest.raises(FastSCNNError, match="is not TOML"):
        mixture.load(path)
    with pytest.raises(FastSCNNError, match="whose classes are trained; remove its map"):
        mixture.load([Source(tiny_dataset, map={"Road": "Car"}), partial_dataset])
    thermal = tmp_path / "thermal" / "dataset.toml"
    thermal.parent.mkdir()
    thermal.write_text(partial_dataset.read_text() + 'thermal = "thermal/{stem}.png"\n')
    with pytest.raises(FastSCNNError, match="partial: has images of 4 channels, but tiny of 3"):
        mixture.load([tiny_dataset, Source(thermal, map=MAP)])


# sampling


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0.01, 10)), min_size=1, max_size=4), st.integers(0, 5))
def test_an_epoch_has_the_share_of_each_dataset(rows: list[tuple[int, float]], epoch: int) -> None:
    loader = pytest.importorskip("fastscnn.training.loader", reason="needs the extra 'train'")
    counts, weights = zip(*rows, strict=True)
    shares = tuple(weight / sum(weights) for weight in weights)
    samples = loader.epoch_samples(7, epoch, counts, shares)
    assert samples.shape == (sum(counts), 2)
    for source, (count, share) in enumerate(zip(counts, shares, strict=True)):
        seen = Counter(samples[samples[:, 0] == source, 1].tolist())
        assert abs(seen.total() - share * sum(counts)) < 1.001  # the fraction of a sample is rounded
        assert set(seen) <= set(range(count))
        assert max(seen.values(), default=0) - min((seen[image] for image in range(count)), default=0) <= 1
    even = loader.epoch_samples(7, epoch, counts, None)
    assert len({tuple(row) for row in even.tolist()}) == sum(counts)
    assert np.array_equal(even, loader.epoch_samples(7, epoch, counts, tuple(count / sum(counts) for count in counts)))


def test_the_shares_are_exact_on_average() -> None:
    loader = pytest.importorskip("fastscnn.training.loader", reason="needs the extra 'train'")
    drawn = np.concatenate([loader.epoch_samples(0, epoch, (3, 4, 2), (0.05, 0.25, 0.7)) for epoch in range(400)])
    assert np.bincount(drawn[:, 0]) / len(drawn) == pytest.approx([0.05, 0.25, 0.7], abs=0.01)
    images_of_second = np.bincount(drawn[drawn[:, 0] == 1, 1])
    assert images_of_second.min() > 0.8 * images_of_second.mean()


# evaluation and the command line


@pytest.fixture
def coloured(tmp_path: Path, stripes: synthetic.Scene) -> tuple[Path, Path]:
    """Two datasets of the image with red, green and blue stripes. The second calls red and green `warm`, and knows no blue."""
    first = write_dataset(tmp_path / "a", "a", ("red", "green", "blue"), [(stripes.image, stripes.labels)])
    labels = np.array([0, 0, 1], np.uint8)[stripes.labels]
    return first, write_dataset(tmp_path / "b", "b", ("warm", "cold"), [(stripes.image, labels)])


def test_a_class_that_is_not_annotated_has_no_score(tiny: Segmenter, coloured: tuple[Path, Path]) -> None:
    first, second = coloured
    alone = evaluate(tiny, first)
    reports = evaluate(tiny, [first, Source(second, map={"warm": "red", "cold": "green"})])
    assert len(reports) == 2
    assert reports[0].to_dict() == alone.to_dict()
    assert "not_annotated" not in alone.to_dict()
    report = reports[1]
    assert report.confusion.matrix[0].sum() == 2 * report.confusion.matrix[1].sum()
    scores = report.to_dict()
    assert scores["not_annotated"] == ["blue"]
    blue = int(report.confusion.matrix[:, 2].sum())  # the third stripe, which is labelled cold
    assert blue
    assert scores["not_annotated_percentage"] == 100 * blue / (128 * 192)
    assert scores["iou"]["blue"] is None
    assert report.confusion.matrix[1, 2] > 0.9 * report.confusion.matrix[1].sum()
    assert scores["iou"]["green"] < 5  # the stripe counts as a miss
    assert report.miou == pytest.approx((scores["iou"]["red"] + scores["iou"]["green"]) / 2)
    assert 0 < report.miou < 50


def test_evaluate_is_called_with_a_list_for_several(tiny: Segmenter, written: Callable[[str], Path], tiny_onnx: Path) -> None:
    with pytest.raises(ArgumentError, match="is a mixture of datasets; give it in a list"):
        evaluate(tiny, written(FILE_MAP))


def test_evaluate_and_check_print_each_dataset(
    coloured: tuple[Path, Path], tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text("[[datasets]]\ndata='a'\n[[datasets]]\ndata='b'\n[datasets.map]\nwarm='red'\ncold='green'\n")
    weights = ["--weights", str(tiny_onnx), "--threads", "1"]
    assert cli.main(["evaluate", str(file), *weights, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["dataset"], line["split"], line["images"]) for line in lines] == [("a", "train", 1), ("b", "train", 1)]
    assert cli.main(["evaluate", str(coloured[0]), *weights, "--json"]) == 0
    assert {"dataset": "a", "split": "train"} | json.loads(capsys.readouterr().out) == lines[0]
    assert cli.main(["evaluate", str(file), *weights]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 images of a train" in printed
    assert "b does not annotate blue: these classes have no score" in printed
    assert cli.main(["evaluate", str(file), *weights, "--report", str(tmp_path / "r")]) == 2
    for names in ([str(file)], [str(path) for path in coloured]):  # check needs no class map
        assert cli.main(["check", *names, "--json"]) == 0
        assert [json.loads(line)["dataset"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    assert cli.main(["check", *map(str, coloured), "--report", str(tmp_path / "r")]) == 2
    (coloured[1].parent / "labels/0.png").unlink()
    assert cli.main(["check", *map(str, coloured)]) == 1
    assert cli.main(["evaluate", *map(str, coloured), *weights]) == 1
    assert "There is no class of a 'warm'" in capsys.readouterr().err
