"""scores: what an evaluation looks like: scores, confusions, worst and best images, calibration, speed and the card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from fastscnn.base import machine
from fastscnn.base.types import UInt8Array
from fastscnn.data.check.files import relative
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.evaluate import Report
from fastscnn.evaluation.metrics import BINS, Reliability
from fastscnn.evaluation.report.charts import bar, heat_map, reliability
from fastscnn.evaluation.report.gallery import Gallery
from fastscnn.evaluation.report.page import Markup, Section, element, facts, legend, named, page, percent, table
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.label_set import LabelSet

_MOST_CLASSES = 40  # of a confusion matrix that can still be read
_UNTIMED = "confidence"  # the stage that a report asks for and `segment` does not


class Examination:
    """What a page shows beside the scores, gathered image by image; no more than a few small pictures are kept."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.calibration = Reliability()
        self.gallery = Gallery(spec.label_set)
        self._root = spec.root
        self._seconds: list[dict[str, float]] = []

    def see(self, image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        """Counts an image: uint8 [H, W, channels], its labels with their confidence, and its true ids, uint8 [H, W]."""
        assert result.confidence is not None
        self.calibration.add(result.confidence, result.labels, truth)
        self.gallery.add(relative(self._root, pair.image), image, result.labels, truth)
        self._seconds.append({stage: taken for stage, taken in result.seconds.items() if stage != _UNTIMED})

    def milliseconds(self) -> dict[str, float]:
        """Median over the images of each stage, and of the frame, from its pixels in memory to its labels."""
        stages = {stage: median(1000 * taken[stage] for taken in self._seconds) for stage in self._seconds[0]}
        return {**stages, "frame": median(1000 * sum(taken.values()) for taken in self._seconds)}

    def to_dict(self) -> dict[str, Any]:
        """Calibration, times and the images shown, for JSON; percent and milliseconds."""
        return {
            "calibration": self.calibration.to_dict(),
            "milliseconds": self.milliseconds(),
            "worst_images": [example.to_dict() for example in self.gallery.worst],
            "best_images": [example.to_dict() for example in self.gallery.best],
        }


def by_class(report: Report) -> dict[str, dict[str, float | None]]:
    """Of each class precision, recall and share of the true pixels, in percent; None where there is nothing to divide by."""
    matrix = report.confusion.matrix
    hit, true, labelled = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    total = max(1, int(true.sum()))
    return {
        name: {
            "precision": 100 * int(hit[index]) / int(labelled[index]) if labelled[index] else None,
            "recall": 100 * int(hit[index]) / int(true[index]) if true[index] else None,
            "share": 100 * int(true[index]) / total,
        }
        for index, name in enumerate(report.names)
    }


def render(
    report: Report,
    examination: Examination,
    segmenter: Segmenter,
    what: str,
    command: str,
    further: Mapping[str, Any],
) -> str:
    """The page.

    Args:
        report: the scores.
        examination: what saw the same images.
        segmenter: what was measured.
        what: the data that it was measured on, in words.
        command: that made the page.
        further: name -> other scores in percent, as the data's own authors take them.
    """
    confusion, gallery, label_set = report.confusion, examination.gallery, segmenter.card.label_set
    times, engine = examination.milliseconds(), _engine(report, segmenter)
    tiles = [
        ("mIoU", f"{confusion.miou():.2f}", "%"),
        ("pixel accuracy", f"{confusion.pixel_accuracy():.2f}", "%"),
        ("calibration error", f"{examination.calibration.error():.2f}", "%"),
        ("frame", f"{times['frame']:.1f}", "ms"),
        ("images", str(report.images), ""),
    ]
    weights = {"weights": segmenter.path.name if segmenter.path else "in no file", "their sha256": report.weights_sha256}
    key = element("p", "By the image's own mIoU: the mean over the classes that its truth holds. Each with its picture, "
                       "truth, labels over the picture, and errors: wrong pixels red, ignored ones blue.", class_="note")
    worst, best = gallery.show(gallery.worst), gallery.show(gallery.best)
    return page(what, f"{report.backend} {report.precision}, input {engine['input']}", tiles, [
        Section("Classes", [_classes(report, label_set), *([facts(further)] if further else [])]),
        Section("Confusion", _confusion(report)),
        Section("Worst images", [key, legend(label_set), *worst] if worst else []),
        Section("Best images", best),
        Section("Calibration", _calibration(examination.calibration)),
        Section("Speed", [*_speed(times, report.images), facts(engine)]),
        Section("Card", [element("p", "What the weights say of themselves.", class_="note"),
                         facts(json.loads(segmenter.card.to_json()))]),
        Section("Measured", [facts({"data": what, **weights, **engine}), element("pre", command)]),
    ])


def _engine(report: Report, segmenter: Segmenter) -> dict[str, str]:
    """What was measured on, for a table."""
    several = f", scales {', '.join(f'{scale:g}' for scale in report.scales)}" if report.scales != (1.0,) else ""
    return {
        "engine": f"{report.backend} {report.precision}, {segmenter.backend.threads} threads",
        "input": f"{report.size}{several}{' with flip' if report.flip else ''}",
        "machine": f"{machine.processor()}, {machine.threads()} processors",
    }


def _classes(report: Report, label_set: LabelSet) -> Markup:
    rows = []
    known = by_class(report)
    for index, (name, iou) in enumerate(zip(report.names, report.confusion.iou(), strict=True)):
        of = known[name]
        figures = [bar("absent" if iou is None else percent(iou), iou), bar(percent(of["precision"]), of["precision"])]
        figures += [bar(percent(of["recall"]), of["recall"]), bar(percent(of["share"]), of["share"])]
        rows.append([named(label_set, index), *figures])
    foot = ["mean", percent(report.confusion.miou()), "", "", ""]
    return table(("class", "IoU %", "precision %", "recall %", "share %"), rows, foot, words=9)


def _confusion(report: Report) -> list[Markup]:
    matrix, names = report.confusion.matrix, report.names
    note = "Percent of each true class (rows) that was given each label (columns); shaded by the square root."
    if len(names) > _MOST_CLASSES:
        kept = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:_MOST_CLASSES])
        note += f" The {_MOST_CLASSES} classes with most pixels; percents are of all labels."
        return [element("p", note, class_="note"), heat_map(names, matrix, kept.tolist())]
    return [element("p", note, class_="note"), heat_map(names, matrix)]


def _calibration(calibration: Reliability) -> list[Markup]:
    bins = calibration.bins()
    rows = [(f"{100 * index / BINS:.0f} to {100 * (index + 1) / BINS:.0f}", *(percent(100 * part) for part in one))
            for index, one in enumerate(bins) if one[2]]
    error = calibration.error()
    note = (f"The expected calibration error is {error:.2f} %: so far is the confidence of a label, averaged over the pixels, "
            "from the share of labels that are right at that confidence. Bars below the dashed line are labels that are surer "
            "than they should be.")
    figures = table(("confidence %", "mean", "right %", "share of pixels %"), rows)
    return [element("p", note), element("div", reliability("Reliability diagram", bins), figures, class_="split")]


def _speed(times: Mapping[str, float], images: int) -> list[Markup]:
    rows = [[stage, bar(f"{taken:.2f}", taken, times["frame"])] for stage, taken in times.items() if stage != "frame"]
    note = element("p", f"From an image in memory to its labels at full size, median of {images} images; reading files and the "
                        "confidence that this report needs are not in it.", class_="note")
    rate = 1000 / times["frame"] if times["frame"] else 0.0
    foot = ["frame", f"{times['frame']:.2f} ({rate:.0f} a second)"]
    return [note, table(("stage", "milliseconds"), rows, foot, words=9)]
