"""The result of an export: everything that was measured on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.agreement import Agreement
from fastscnn.exporting.quantize import Layer
from fastscnn.exporting.trace import Verification
from fastscnn.model.card import Calibration


@dataclass(frozen=True)
class Attempt:
    """The accuracy of one candidate for the file: the float32 network, or one attempt at int8.

    Attributes:
        float32_layers: layers of an int8 network that stay in float32, largest error first.
        iou: IoU of each class, and the mIoU under "mIoU", in percent; None for a class without pixels.
        worst_class: the class that loses most IoU against `ExportReport.iou_before`; None if none loses.
        largest_loss: its loss in points; 0 if none loses. The mIoU never loses more.
        accepted: whether the loss is within `max_iou_loss`.
    """

    float32_layers: tuple[Layer, ...]
    iou: Mapping[str, float | None]
    worst_class: str | None
    largest_loss: float
    accepted: bool


@dataclass(frozen=True)
class ExportReport:
    """The result of an export. Fields from `dataset` on are empty without a dataset.

    Attributes:
        out: the file or folder.
        precision: as in `Form`.
        verifications: agreement of the float32 network with PyTorch, at three sizes.
        target: name of the target.
        agreement: the target's runtime compared with our labels; None if the file is the verified network itself, or not run.
        runtime: what runs the file for `agreement`; "" if it is converted, not run.
        dataset, split, images: the labelled images of all scores.
        max_iou_loss: the limit that was given, in points; None without one.
        iou_before: IoU before the step that can lose accuracy, as in `Attempt.iou`: with PyTorch for a float32 file, with
            ONNX Runtime in float32 for an int8 file.
        attempts: the candidates, the last one accepted if the file was written.
        layers: number of layers that an int8 export can quantise.
        calibration_images, calibration_split: number and split of the images that int8 ranges were measured on.
        losses: "BACKEND PRECISION" -> accuracy loss, as in `Card.losses`.
        metrics: SPLIT and "SPLIT at HxW" -> scores in percent, as in `Card.metrics`.
        calibration: temperature and OOD threshold.
        file_size: of all files in bytes; None if it was not written.
    """

    out: Path
    precision: str
    verifications: tuple[Verification, ...]
    target: str = "onnx"
    agreement: Agreement | None = None
    runtime: str = "ONNX Runtime"
    dataset: str | None = None
    split: str | None = None
    images: int = 0
    max_iou_loss: float | None = None
    iou_before: Mapping[str, float | None] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    layers: int = 0
    calibration_images: int = 0
    calibration_split: str | None = None
    losses: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    file_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON. Of a layer it holds the name and the error, not the names of graph nodes."""
        report = {**dataclasses.asdict(self), "out": str(self.out)}
        for attempt in report["attempts"]:
            attempt["float32_layers"] = [{"name": layer["name"], "error": layer["error"]}
                                         for layer in attempt["float32_layers"]]
        return report


class AccuracyLossError(FastSCNNError):
    """The file was not written, because it loses more than `max_iou_loss`.

    Attributes:
        report: everything that was measured before.
    """

    def __init__(self, message: str, report: ExportReport) -> None:
        super().__init__(message)
        self.report = report
