"""Reports: pages that hold what was measured, whole in themselves, whatever the names in them."""

from __future__ import annotations

import json
import math
import shlex
import sys
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastscnn import Segmenter, cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.check.findings import grouped
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.evaluate import Report, evaluate_pairs
from fastscnn.evaluation.metrics import BINS, Confusion, Reliability
from fastscnn.evaluation.report import charts, data, page, scores, training
from fastscnn.evaluation.report.gallery import KEPT, Gallery, overlay, small
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

NASTY = ("<b>bold</b>", "R&D \"quoted\" 'single'", "plain")  # names of classes that would break a page as they stand
TOML = """
name = "nasty <i>"
classes = {classes}
[splits.train]
images = "train/images/*.png"
labels = "train/labels/{{stem}}.png"
[splits.test]
images = "test/images/*.png"
labels = "test/labels/{{stem}}.png"
"""


class Reader(HTMLParser):
    """Reads a page: that its elements are closed in turn, what its text says, and what it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(text)

    def values(self, tag: str, name: str) -> list[str]:
        return [value or "" for its, attribute, value in self.attributes if (its, attribute) == (tag, name)]


def read(html: str) -> Reader:
    """The page, which must be whole: nothing in it runs, and nothing is fetched."""
    reader = Reader(html)
    assert html.startswith("<!DOCTYPE html>")
    assert not {"script", "iframe", "link", "object", "b", "i"} & set(reader.names)
    for _, name, value in reader.attributes:
        if name in ("src", "href", "srcset", "action", "xlink:href"):
            assert str(value).startswith(("data:image/jpeg;base64,", "#")), value
        assert not name.startswith("on")
    assert "url(" not in html
    assert "@import" not in html
    assert all(reader.values("img", "alt"))
    assert len(reader.values("img", "alt")) == reader.names.count("img")
    anchors = {value.removeprefix("#") for value in reader.values("a", "href")}
    assert anchors == set(reader.values("section", "id"))
    return reader


def dataset(root: Path, classes: tuple[str, ...] = NASTY, test: int = 3) -> DatasetSpec:
    """Stripes in red, green and blue, which `tiny` labels as they are; of the test images each has more wrong columns."""
    stripes = np.repeat(np.array([[0, 1, 2]], np.uint8), 64, axis=1).repeat(64, axis=0)
    for split, count in (("train", 2), ("test", test)):
        for index in range(count):
            labels = stripes.copy()
            labels[:, : 8 * index] = 2
            labels[:4] = IGNORE_INDEX
            picture = np.eye(3, dtype=np.uint8)[stripes] * np.uint8(200 - 3 * index - (split == "train"))
            images.write(root / split / "images" / f"{index}.png", picture)
            images.write(root / split / "labels" / f"{index}.png", labels)
    (root / "dataset.toml").write_text(TOML.format(classes=json.dumps(classes)))
    return datasets.load(str(root))


@pytest.fixture
def nasty(tmp_path: Path, write_onnx: WriteOnnx) -> Segmenter:
    """As `tiny`, with the names of NASTY for its classes."""
    return Segmenter.load(write_onnx(tmp_path / "nasty & co.onnx", NASTY), "onnx", threads=1)


def examined(segmenter: Segmenter, spec: DatasetSpec) -> tuple[Report, scores.Examination, str]:
    """What evaluate gives, what saw its images, and the page."""
    seen = scores.Examination(spec)
    report = evaluate_pairs(segmenter, spec, spec.pairs("test"), on_image=seen.add, confidence=True)
    report = replace(report, dataset_metrics={"more": {"a": 1.5}})
    html = scores.render(report, seen, segmenter, f"{spec.name} test", "fastscnn evaluate ...")
    return report, seen, html


def test_a_page_of_scores(tmp_path: Path, nasty: Segmenter) -> None:
    report, seen, html = examined(nasty, dataset(tmp_path))
    reader = read(html)
    told = report.to_dict()
    assert 60 < told["miou"] < 99, "some labels are wrong"
    for number in (told["miou"], told["pixel_accuracy"], *told["iou"].values(), seen.calibration.error()):
        assert f"{number:.2f}" in reader.text
    for name, of in scores.by_class(report).items():
        assert name in reader.text
        assert all(f"{value:.2f}" in reader.text for value in of.values())
    assert "nasty <i> test" in reader.text
    assert reader.text.count("test/images/2.png") == 1
    assert [f"mIoU {example.miou:.2f} %" in html for example in seen.gallery.worst] == [True] * 3
    assert reader.names.count("img") == 4 * 3
    assert nasty.card.version in reader.text
    for confused in told["most_confused"]:
        assert f"{confused['percent']:.2f}" in reader.text
    assert "fastscnn evaluate ..." in reader.text
    assert "1.5" in reader.text
    # rows of the confusion, in percent of the truth
    for row in report.confusion.matrix.tolist():
        assert all(f"{100 * count / sum(row):.0f}" in reader.text for count in row if count / sum(row) >= 0.005)


def test_shares_of_classes() -> None:
    confusion = Confusion(3)
    confusion.matrix[:] = [[6, 2, 0], [1, 1, 0], [0, 0, 0]]
    report = Report(confusion, ("a", "b", "c"), 1, "onnx", "float32", "cpu", "native", True, (1.0,), False, "")
    assert scores.by_class(report) == {
        "a": {"precision": pytest.approx(100 * 6 / 7), "recall": 75, "share": 80},
        "b": {"precision": pytest.approx(100 / 3), "recall": 50, "share": 20},
        "c": {"precision": None, "recall": None, "share": 0},
    }


def test_absent_classes_and_one_image(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path, ("red", "green", "blue"), test=1)
    images.write(tmp_path / "test/images/0.png", np.full((64, 96, 3), (0, 90, 0), np.uint8))
    images.write(tmp_path / "test/labels/0.png", np.full((64, 96), 1, np.uint8))
    _, seen, html = examined(tiny, spec)
    text = read(html).text
    assert text.count("absent") == 2
    assert "Best images" not in text, "the one image is the worst"
    assert [example.miou for example in seen.gallery.worst] == [100]


def test_images_without_a_label_that_counts(tmp_path: Path, tiny: Segmenter) -> None:
    spec = dataset(tmp_path, ("red", "green", "blue"), test=1)
    images.write(tmp_path / "test/labels/0.png", np.full((64, 192), IGNORE_INDEX, np.uint8))
    _, seen, html = examined(tiny, spec)
    assert "Worst images" not in read(html).text
    assert seen.calibration.error() == 0


def test_more_classes_than_a_matrix_shows(tiny: Segmenter, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(60)]
    matrix = np.diag(np.arange(60)) + np.eye(60, k=1, dtype=np.int64)
    shown = read("<!DOCTYPE html>" + charts.heat_map(names, matrix, list(range(20, 60)))).text
    assert shown.count("class 20") == 2
    assert "class 19" not in shown


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 30))
def test_calibration_error_as_torchmetrics(seed: int, classes: int, side: int) -> None:
    torch = pytest.importorskip("torch")
    metric = pytest.importorskip("torchmetrics.classification").MulticlassCalibrationError
    rng = np.random.default_rng(seed)
    calibration = Reliability()
    oracle = metric(classes, n_bins=BINS, norm="l1", ignore_index=IGNORE_INDEX)
    for _ in range(2):
        probabilities = rng.dirichlet(np.full(classes, 0.4), (side, side)).astype(np.float64)
        truth = rng.choice([*range(classes), IGNORE_INDEX], (side, side)).astype(np.uint8)
        calibration.add(probabilities.max(-1).astype(np.float32), probabilities.argmax(-1).astype(np.uint8), truth)
        # the metric keeps a bin of its own for 1 itself, which ours counts with what lies just below
        nearly = np.minimum(probabilities.astype(np.float32).astype(np.float64), 1 - 1e-9)
        oracle.update(torch.from_numpy(nearly).permute(2, 0, 1)[None], torch.from_numpy(truth.astype(np.int64))[None])
    if (np.array([share for *_, share in calibration.bins()]) > 0).any():
        assert calibration.error() == pytest.approx(100 * float(oracle.compute()), abs=1e-4)


def test_bins_of_calibration() -> None:
    calibration = Reliability()
    confidence = np.array([[1.0, 0.0, 0.5, 0.5]], np.float32)
    calibration.add(confidence, np.array([[1, 1, 1, 1]], np.uint8), np.array([[1, 0, 1, IGNORE_INDEX]], np.uint8))
    bins = calibration.bins()
    assert (bins[0], bins[7], bins[-1]) == ((0, 0, 1 / 3), (0.5, 1, 1 / 3), (1, 1, 1 / 3))
    assert calibration.error() == pytest.approx(100 / 6)
    assert calibration.to_dict()["bins"][7] == {"confidence": 50, "accuracy": 100, "share": pytest.approx(100 / 3)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 64) | st.sampled_from([0, 64]), min_size=1, max_size=30))
@example([7] * 9)
def test_the_worst_image_is_the_worst(wrong: list[int]) -> None:
    """Of images whose first columns are wrong; kept are no more than asked for."""
    gallery = Gallery(LabelSet(("a", "b")))
    truth = np.zeros((2, 64), np.uint8)
    picture = np.zeros((2, 64, 4), np.uint8)
    for index, columns in enumerate(wrong):
        labels = truth.copy()
        labels[:, :columns] = 1
        gallery.add(f"{index}", picture, labels, truth)
    ranked = sorted(100 * (1 - columns / 64) for columns in wrong)
    assert [example.miou for example in gallery.worst] == pytest.approx(ranked[:KEPT])
    assert [example.miou for example in gallery.best] == pytest.approx(ranked[KEPT:][::-1][:KEPT])
    assert not {example.name for example in gallery.worst} & {example.name for example in gallery.best}


def test_miou_of_an_image_counts_the_classes_of_its_truth() -> None:
    gallery = Gallery(LabelSet(("a", "b", "c")))
    labels, truth = np.array([[0, 0, 2, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8)
    gallery.add("one", np.zeros((1, 4, 3), np.uint8), labels, truth)
    assert gallery.worst[0].to_dict() == {"image": "one", "miou": pytest.approx(100 * (2 / 3 + 1) / 2), "pixel_accuracy": 75}


def test_small_pictures() -> None:
    ids = np.arange(200, dtype=np.uint8).reshape(1, 200).repeat(100, axis=0)
    assert small(ids, 50).shape == (25, 50)
    assert small(ids, 50)[0].tolist() == list(range(2, 200, 4))
    assert small(ids, 500) is not None
    assert small(ids, 500).shape == ids.shape
    assert small(np.zeros((3000, 10, 3), np.uint8), 5).shape == (1500, 5, 3)
    label_set = LabelSet(("a",), ((200, 100, 0),))
    over = overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0, IGNORE_INDEX]], np.uint8), label_set)
    assert over.tolist() == [[[155, 100, 45], [100, 100, 100]]]


@settings(deadline=None, max_examples=25)
@example("smallest number", [(0, 5e-324)])
@example("zero and the smallest number", [(0, 0.0), (1, 5e-324)])
@example("neighbours", [(0, 1e6), (1, math.nextafter(1e6, 2e6))])
@example("negative neighbours", [(0, -1e6), (1, math.nextafter(-1e6, 0))])
@given(st.text(max_size=20).filter("b".__ne__),
       st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6)), min_size=1, max_size=70))
def test_curves(name: str, points: list[tuple[float, float]]) -> None:
    """Every point lies in the drawing, whatever it is."""
    reader = Reader(charts.lines(name, {name: sorted(points), "b": sorted(points)}))
    (first, _) = reader.values("polyline", "points")
    places = [tuple(map(float, place.split(","))) for place in first.split()]
    assert len(places) == len(points)
    assert all(0 <= x <= 480 and 0 <= y <= 240 for x, y in places)


def test_elements_escape_what_is_no_markup() -> None:
    inner = page.element("em", "<&>\"'")
    assert page.element("p", inner, "<x>", class_='"') == '<p class="&quot;"><em>&lt;&amp;&gt;&quot;&#x27;</em>&lt;x&gt;</p>'
    facts = read("<!DOCTYPE html>" + page.facts({"a_b": {"<c>": ["&", "d"]}, "none": None, "zero": 0, "no": False}))
    assert facts.text == ["a b", "<c>", "&, d", "zero", "0", "no", "no"]


def test_only_our_pages_are_replaced(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a" / "index.html", tmp_path / "index.html"
    for title in ("first", "second"):
        page.write(ours, page.page(title, "", [], []))
    assert "second" in ours.read_text()
    theirs.write_text("<html>mine</html>")
    with pytest.raises(FastSCNNError, match=r"index\.html: exists and is not a report of fastscnn; it is kept"):
        page.write(theirs, page.page("third", "", [], []))
    assert theirs.read_text() == "<html>mine</html>"
    (tmp_path / "folder").mkdir()
    with pytest.raises(FastSCNNError, match="folder: cannot be read"):
        page.check_ours(tmp_path / "folder")


def test_evaluate_writes_it(
    tmp_path: Path, tiny_onnx: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(tmp_path, ("red", "green", "blue"))
    out = tmp_path / "report"
    words = ["evaluate", str(tmp_path), "--split", "test", "--weights", str(tiny_onnx), "--threads", "1", "--report", str(out)]
    monkeypatch.setattr(sys, "argv", ["anywhere/fastscnn", *words])
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    text = read((out / "index.html").read_text()).text
    assert shlex.join(["fastscnn", *words]) in text
    assert f"{told['miou']:.2f}" in text
    assert f"{told['calibration']['ece']:.2f}" in text
    assert [image["image"] for image in told["worst_images"]] == [f"test/images/{index}.png" for index in (2, 1, 0)]
    assert list(told["milliseconds"]) == ["resize", "network", "labels", "frame"]
    assert told["by_class"]["red"]["recall"] == 100
    (out / "index.html").write_text("theirs")
    assert cli.main(words) == 1
    assert "is not a report of fastscnn" in capsys.readouterr().err
    assert cli.main([*words[:-1], str(tmp_path / "new"), "--submit", str(tmp_path / "submit")]) == 2
    assert "report: --submit scores nothing" in " ".join(capsys.readouterr().err.split())


def test_check_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = dataset(tmp_path)
    (tmp_path / "test/images/1.png").write_bytes(b"no image <script>")
    images.write(tmp_path / "train/images/2.png", np.zeros((40, 50, 3), np.uint8))
    assert cli.main(["check", str(tmp_path), "--report", str(tmp_path / "report")]) == 1
    assert f"Open {tmp_path / 'report' / 'index.html'}" in capsys.readouterr().out.replace("\n", "")
    reader = read((tmp_path / "report/index.html").read_text())
    report = check(spec)
    assert report.sizes == {"train": {"64x192": 2, "40x50": 1}, "test": {"64x192": 2}}
    assert "40x50" in reader.text
    for finding in report.findings:
        assert finding.message in reader.text
        assert finding.fix in reader.text
    assert "test/images/1.png" not in reader.text, "it cannot be read, so it is a finding alone"
    assert reader.names.count("img") == 2 * (2 + 2)
    for split in ("train", "test"):
        assert all(f"{share:.2f}" in reader.text for share in report.class_percentages[split].values())


def test_a_dataset_of_many_sizes_and_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataset(tmp_path)
    for index in range(15):
        images.write(tmp_path / f"train/images/odd{index}.png", np.zeros((32, 40 + index, 3), np.uint8))
    report = check(spec)
    monkeypatch.setattr(data, "MAX_FILES", 4)
    text = read(data.render(spec, report, "fastscnn check ...")).text
    assert "4 others" in text
    largest = max(len(group.findings) for group in grouped(report.findings))
    assert largest > 10
    assert f"And {largest - 4} more" in " ".join(text)
    assert "1 more" in text, "of the four, three are shown at once"
    assert "No problems were found." not in text


LOG: list[dict[str, Any]] = [
    {"step": step, "loss": 2 / step, "lr": 0.1 / step, "validation": {
        "miou": 10.0 * step, "pixel_accuracy": 50.0 + step, "iou": {"<b>": 3.0 * step, "gone": None}}}
    for step in (1, 2, 3)
]


def test_a_page_of_a_training() -> None:
    run = {"recipe": {"name": "debug", "lr": 0.1}, "command": ["x/fastscnn", "train", "a b"]}
    reader = read(training.render("a & b", LOG, run))
    assert "a & b" in reader.text
    assert "fastscnn train 'a b'" in reader.text
    assert "mIoU at step 2: 20 %" in reader.text
    assert "<b>: <b> 9 % at step 3" in reader.text
    assert "gone" not in reader.text
    unvalidated = [{**line, "validation": None} for line in LOG]
    assert "Validation" not in read(training.render("a", unvalidated, {})).text


def test_series_of_any_figures() -> None:
    assert training.series([{"step": 5, "loss": 1.0, "lr": 0.1, "validation": {"top1": 3.0, "top5": 9.0}}]) == {
        "training": {"loss": [(5, 1.0)], "lr": [(5, 0.1)]},
        "validation": {"top-1": [(5, 3.0)], "top-5": [(5, 9.0)]},
    }


needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs PyTorch")


@needs_torch
def test_a_run_writes_it_and_goes_on(tmp_path: Path) -> None:
    import torch

    from fastscnn.network.fast_scnn import FastSCNN
    from fastscnn.training.callbacks import HtmlReport
    from fastscnn.training.run import Run, State

    def initial_state(resume: bool) -> tuple[Run, State, HtmlReport]:
        model = FastSCNN(2, width_mult=0.25)
        state = State(model, deepcopy(model), torch.optim.SGD(model.parameters(), 0.1))
        report = HtmlReport(tmp_path / "run")
        return Run(tmp_path / "run", {"recipe": {"name": "debug & co"}}, state, resume), state, report

    def points() -> int:
        reader = read((tmp_path / "run" / "report.html").read_text())
        assert "debug & co, one point per validation" in reader.text
        return len(reader.values("polyline", "points")[0].split())

    run, state, report = initial_state(False)
    for line in LOG:
        state.step = line["step"]
        run.save(Path.touch, line, 10.0)
        report.on_validation(run.log)
        if line["step"] == 2:
            kept = (tmp_path / "run" / "resume.safetensors").read_bytes()
        assert points() == line["step"]
    (tmp_path / "run" / "resume.safetensors").write_bytes(kept)  # as if killed while it saved what came after step 2
    run, state, report = initial_state(True)
    assert state.step == 2
    state.step = 3
    run.save(lambda path: None, LOG[2], 10.0)
    report.on_validation(run.log)
    assert points() == 3
    (tmp_path / "run" / "report.html").write_text("theirs")
    with pytest.raises(FastSCNNError, match="is not a report of fastscnn"):
        initial_state(True)


def test_an_image_that_cannot_be_read_leaves_the_old_page(tmp_path: Path, tiny_onnx: Path) -> None:
    dataset(tmp_path, ("red", "green", "blue"))
    words = ["evaluate", str(tmp_path), "--split", "test", "--weights", str(tiny_onnx), "--threads", "1"]
    words += ["--report", str(tmp_path)]
    assert cli.main(words) == 0
    before = (tmp_path / "index.html").read_bytes()
    (tmp_path / "test/images/1.png").write_bytes(b"")
    assert cli.main(words) == 1
    assert (tmp_path / "index.html").read_bytes() == before
