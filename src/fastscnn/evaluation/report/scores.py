"""Report page of an evaluation: scores, confusions, worst and best images, calibration, speed and model card."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from fastscnn.base import machine
from fastscnn.base.types import UInt8Array
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.spec import pair_name
from fastscnn.evaluation.evaluate import Report
from fastscnn.evaluation.metrics import BINS, Reliability
from fastscnn.evaluation.report.charts import bar, heat_map, reliability
from fastscnn.evaluation.report.gallery import Gallery
from fastscnn.evaluation.report.page import Markup, Section, element, facts, legend, named, page, percent, table
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.label_set import LabelSet

_MOST_CLASSES = 40  # of a readable confusion matrix
_CONFUSED = 10  # pairs of classes that are confused most
_UNTIMED = "confidence"  # this stage runs for the report only


class Examination:
    """Content of the page beside the scores, collected image by image. Only a few small images are kept in memory."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.calibration = Reliability()
        self.gallery = Gallery(spec.label_set)
        self._root = spec.root
        self._seconds: list[dict[str, float]] = []

    def add(self, image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        """Count one image, as `on_image` of `evaluate` with `confidence`.

        Args:
            image: uint8 [H, W, channels].
            result: its segmentation with confidence.
            truth: true train ids, uint8 [H, W].
            pair: its files.
        """
        assert result.confidence is not None
        self.calibration.add(result.confidence, result.labels, truth)
        self.gallery.add(pair_name(self._root, pair), image, result.labels, truth)
        self._seconds.append({stage: taken for stage, taken in result.seconds.items() if stage != _UNTIMED})

    def milliseconds(self) -> dict[str, float]:
        """Return the median time of each stage, and of the frame, from pixels in memory to labels."""
        stages = {stage: median(1000 * taken[stage] for taken in self._seconds) for stage in self._seconds[0]}
        return {**stages, "frame": median(1000 * sum(taken.values()) for taken in self._seconds)}

    def to_dict(self) -> dict[str, Any]:
        """Return calibration, times and the shown images for JSON, in percent and milliseconds."""
        return {
            "calibration": self.calibration.to_dict(),
            "milliseconds": self.milliseconds(),
            "worst_images": [example.to_dict() for example in self.gallery.worst],
            "best_images": [example.to_dict() for example in self.gallery.best],
        }


def by_class(report: Report) -> dict[str, dict[str, float | None]]:
    """Return precision, recall and share of the true pixels of each class in percent; None for a division by 0."""
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
) -> str:
    """Return the page.

    Args:
        report: the scores.
        examination: what was collected from the same images.
        segmenter: the evaluated segmenter.
        what: name of the data.
        command: the command that made the page.
    """
    confusion, gallery, label_set = report.confusion, examination.gallery, segmenter.card.label_set
    times, settings = examination.milliseconds(), _settings(report, segmenter)
    tiles = [
        ("mIoU", f"{confusion.miou():.2f}", "%"),
        ("pixel accuracy", f"{confusion.pixel_accuracy():.2f}", "%"),
        ("calibration error", f"{examination.calibration.error():.2f}", "%"),
        ("frame", f"{times['frame']:.1f}", "ms"),
        ("images", str(report.images), ""),
    ]
    weights = {"weights": segmenter.path.name if segmenter.path else "in no file", "weights sha256": report.weights_sha256}
    key = element("p", "Images by their own mIoU, the mean over the classes in their truth. Each has the image, the truth, "
                       "an overlay of the labels, and the errors: wrong pixels are red, ignored pixels blue.", class_="note")
    worst, best = gallery.show(gallery.worst), gallery.show(gallery.best)
    return page(what, f"{report.backend} {report.precision} on {report.device}, input {settings['input']}", tiles, [
        Section("Classes", [
            _classes(report, label_set), *([facts(report.dataset_metrics)] if report.dataset_metrics else []),
        ]),
        Section("Confusion", [*_most_confused(report, label_set), *_confusion(report)]),
        Section("Worst images", [key, legend(label_set), *worst] if worst else []),
        Section("Best images", best),
        Section("Calibration", _calibration(examination.calibration)),
        Section("Speed", [*_speed(times, report.images), facts(settings)]),
        Section("Model card", [facts(segmenter.card.to_dict())]),
        Section("Evaluation", [facts({"data": what, **weights, **settings}), element("pre", command)]),
    ])


def _settings(report: Report, segmenter: Segmenter) -> dict[str, str]:
    """Return backend, input size and machine for a table."""
    several = f", scales {', '.join(f'{scale:g}' for scale in report.scales)}" if report.scales != (1.0,) else ""
    return {
        "backend": f"{report.backend} {report.precision} on {report.device}, {segmenter.backend.threads} threads",
        "input": f"{report.input}{several}{' with flip' if report.flip else ''}",
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


def _most_confused(report: Report, label_set: LabelSet) -> list[Markup]:
    rows = [
        (named(label_set, true), named(label_set, predicted), bar(percent(100 * fraction), 100 * fraction))
        for true, predicted, fraction in report.confusion.most_confused(_CONFUSED)
    ]
    return [table(("true class", "predicted as", "% of the true class"), rows, words=9)] if rows else []


def _confusion(report: Report) -> list[Markup]:
    matrix, names = report.confusion.matrix, report.names
    note = "Percentage of each true class (rows) that is predicted as each class (columns), shaded by the square root."
    if len(names) > _MOST_CLASSES:
        kept = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:_MOST_CLASSES])
        note += f" Shown are the {_MOST_CLASSES} classes with most pixels; percentages are of all pixels of a class."
        return [element("p", note, class_="note"), heat_map(names, matrix, kept.tolist())]
    return [element("p", note, class_="note"), heat_map(names, matrix)]


def _calibration(calibration: Reliability) -> list[Markup]:
    bins = calibration.bins()
    rows = [(f"{100 * index / BINS:.0f} to {100 * (index + 1) / BINS:.0f}", *(percent(100 * part) for part in one))
            for index, one in enumerate(bins) if one[2]]
    error = calibration.error()
    note = (f"The expected calibration error is {error:.2f} %: the mean difference between confidence and accuracy, weighted "
            "by pixels. Bars below the dashed line mean that the network is overconfident.")
    figures = table(("confidence %", "mean %", "accuracy %", "pixels %"), rows)
    return [element("p", note), element("div", reliability("Reliability diagram", bins), figures, class_="split")]


def _speed(times: Mapping[str, float], images: int) -> list[Markup]:
    rows = [[stage, bar(f"{taken:.2f}", taken, times["frame"])] for stage, taken in times.items() if stage != "frame"]
    note = element("p", f"Median time of {images} images, from an image in memory to labels at full size. Reading files and "
                        "computing the confidence for this report are not included.", class_="note")
    rate = 1000 / times["frame"] if times["frame"] else 0.0
    foot = ["frame", f"{times['frame']:.2f} ({rate:.0f} frames per second)"]
    return [note, table(("stage", "milliseconds"), rows, foot, words=9)]
