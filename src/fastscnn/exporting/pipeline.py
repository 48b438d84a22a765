"""The export: trace, verify, quantise, measure, check the accuracy loss, and write the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastscnn import backends
from fastscnn.backends import Backend
from fastscnn.backends.torch import TorchBackend
from fastscnn.base import files
from fastscnn.base.arguments import is_number
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.data import datasets
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.accuracy_loss import backend_losses, scores_by_size
from fastscnn.evaluation.calibrate import calibrate
from fastscnn.evaluation.evaluate import evaluate_pairs
from fastscnn.exporting.agreement import largest_loss
from fastscnn.exporting.delivery import deliver
from fastscnn.exporting.finish import finished
from fastscnn.exporting.float16 import to_float16
from fastscnn.exporting.form import Form, Hxw, checked_form
from fastscnn.exporting.metadata import card_of, with_card
from fastscnn.exporting.quantize import Layer, Quantized, Stage, calibration_images, quantize
from fastscnn.exporting.report import AccuracyLossError, Attempt, ExportReport
from fastscnn.exporting.targets import TARGETS, Exported, Target
from fastscnn.exporting.trace import trace, verify
from fastscnn.hub.download import weight_file
from fastscnn.inference.segmenter import Segmenter
from fastscnn.network import checkpoint


def export(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = "onnx",
    output: str = "logits",
    output_size: Hxw | None = None,
    static: Hxw | None = None,
    precision: str = "float32",
    opset: int | None = None,
    data: str | os.PathLike[str] | DatasetSpec | None = None,
    split: str = "val",
    calibration: str = "train",
    max_iou_loss: float | None = None,
    on_stage: Stage | None = None,
) -> ExportReport:
    """Export weights to a file that runs without PyTorch, verified against PyTorch and in the runtime of its target.

    By default, the file is ONNX. It takes `images`, uint8 [N, H, W, channels] (RGB first), and returns `logits`,
    float32 [N, classes, H/8, W/8], rounded up. N, H and W are dynamic, H and W at least 32. It carries the model card. With
    `data`, the card also holds the scores by input size, the accuracy loss of the other backends, the temperature and the OOD
    threshold.

    Args:
        weights: the .safetensors file, or its address on the hub (`hub.download.weight_file`); `~` is expanded.
        out: the file to write, or the folder for targets that write one; `~` is expanded.
        target: what the file is for, a name in `targets.TARGETS`.
        output: "logits"; "labels": `labels`, uint8 [N, H, W], upsampled in the graph; "confidence": `labels`, and
            `confidence`, float32 [N, H, W], with the temperature of the card.
        output_size: (height, width) or "HxW" of labels and confidence; None: those of the input.
        static: (height, width) or "HxW" of the only input, with batch 1 and all sizes folded into constants; None: any input.
        precision: "float32"; "float16": weights and arithmetic, with float32 logits; "int8": static quantisation per channel
            with uint8 activations, for CPUs; "int8-symmetric": int8 activations with zero points 0, for TensorRT and NPUs.
            Int8 layers that lose too much for `max_iou_loss` stay in float32, up to half of them.
        opset: version of the ONNX operators, 17 to 24; None: that of the exporter.
        data: labelled images: a dataset name with its root ("camvid:ROOT"), the path of a dataset.toml, or a dataset.
        split: split of `data` to score on.
        calibration: split of `data` to measure the int8 ranges on; at most 64 of its images are used.
        max_iou_loss: largest accepted loss of a class's IoU and of the mIoU, in points (1 point = 1 %); None: no limit.
        on_stage: called with the name of each long step; returns a context manager whose value is called with
            (done, total).

    Returns:
        Everything that was measured.

    Raises:
        ArgumentError: `out` has another suffix than the target's, a form that the target does not have, a wrong limit, or
            int8 or `max_iou_loss` without `data`.
        AccuracyLossError: the loss exceeds `max_iou_loss`; `out` is not written, and the error has the report.
        FastSCNNError: the weights or a file of the dataset cannot be read, the dataset has other classes, the target's
            converter or runtime is missing, `out` cannot be written, ONNX Runtime and PyTorch differ by more than 1e-4 in a
            logit or in one label of 10,000, or the target's runtime and our labels in one of 1,000 (not with int8).

    Examples:
        >>> import tempfile, fastscnn
        >>> from fastscnn.exporting.pipeline import export
        >>> from fastscnn.model.weights import bundled
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export(bundled("torch"), f"{folder}/model.onnx")
        ...     segmenter = fastscnn.Segmenter.load(f"{folder}/model.onnx")
        >>> report.precision, all(verification.passed for verification in report.verifications)
        ('float32', True)
        >>> segmenter.card.size
        (360, 480)
    """
    path = files.expand(out)
    form, chosen = checked_form(output, precision, static, output_size, opset), _target(target)
    _check_arguments(path, chosen, form, data is not None, max_iou_loss)
    stage = on_stage or _silent
    spec = None if data is None else datasets.load(data)
    scored = _Scored(spec, split, spec.pairs(split), stage) if spec else None
    if spec and form.int8:
        spec.pairs(calibration)  # a wrong split is an error before the trace
    source = weight_file(weights, "torch")
    model, card = checkpoint.load(source)
    with stage("trace"):
        plain = trace(model, card)
    reference = TorchBackend(model, card)
    with stage("verify") as advance:
        verifications = verify(reference, _load(path, plain, reference.threads), advance)
    failed = [verification for verification in verifications if not verification.passed]
    if failed:
        raise FastSCNNError(f"{path}: not written, because ONNX Runtime and PyTorch differ: {failed[0]}.")
    report = ExportReport(path, form.precision, verifications, chosen.name)
    made = "float32" if form.precision in chosen.own_precisions else form.precision
    content = to_float16(plain) if made == "float16" else plain
    if scored:
        report = replace(report, dataset=scored.spec.name, split=split, images=len(scored.pairs), max_iou_loss=max_iou_loss)
        if made.startswith("int8"):
            report, content = _to_int8(report, plain, scored, calibration)
        else:
            report = _check_float(report, reference, content, scored)
        report, content = _measure(report, content, plain, scored)
    pictures = calibration_images(spec, calibration, form.static or card.size) if spec and chosen.own_precisions else []
    content = finished(content, form)
    exported = Exported(content, card_of(content), form, lambda: checkpoint.load(source)[0], tuple(pictures))
    return deliver(report, chosen, exported, _load(path, plain), stage, spec, scored.pairs if scored else ())


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name]


def _check_arguments(path: Path, target: Target, form: Form, labelled: bool, max_iou_loss: float | None) -> None:
    """Raise ArgumentError or FastSCNNError for arguments that do not fit together, before anything takes time."""
    if target.suffix and path.suffix.lower() != target.suffix:
        raise ArgumentError(f"{path}: the target {target.name} writes {target.suffix} files; use a name that ends in "
                            f"{target.suffix}.")
    if not target.suffix and path.exists() and not path.is_dir():
        raise ArgumentError(f"{path}: the target {target.name} writes a folder, and this is a file; use another name.")
    target.refuse(form)
    for argument, given in {form.precision: form.int8, "max-iou-loss": max_iou_loss is not None}.items():
        if given and not labelled:
            raise ArgumentError(f"{argument}: needs labelled images; give a dataset as data, too.")
    if max_iou_loss is not None and not is_number(max_iou_loss):
        raise ArgumentError(f"max_iou_loss: must be a finite number of points, not {max_iou_loss!r}.")
    target.check()


@dataclass(frozen=True)
class _Scored:
    """The labelled images to score on."""

    spec: DatasetSpec
    split: str
    pairs: Sequence[Pair]
    stage: Stage

    def iou(self, backend: Backend, what: str) -> dict[str, float | None]:
        """Return the IoU of each class and the mIoU, in percent."""
        with self.stage(f"evaluate {what}") as advance:
            report = evaluate_pairs(Segmenter(backend), self.spec, self.pairs, advance)
        return {**dict(zip(report.names, report.confusion.iou(), strict=True)), "mIoU": report.confusion.miou()}


def _check_float(report: ExportReport, reference: Backend, content: bytes, scored: _Scored) -> ExportReport:
    """Score the file in float32 or float16 against PyTorch."""
    report = replace(report, iou_before=scored.iou(reference, "PyTorch"))
    attempt = _attempt(report, scored.iou(_load(report.out, content), "ONNX Runtime"))
    report = replace(report, attempts=(attempt,))
    if not attempt.accepted:
        raise AccuracyLossError(f"{report.out}: not written, because {attempt.worst_class} loses {attempt.largest_loss:.3f} "
                                f"points of IoU; the limit is {report.max_iou_loss}.", report)
    return report


def _to_int8(report: ExportReport, plain: bytes, scored: _Scored, calibration: str) -> tuple[ExportReport, bytes]:
    """Quantise to int8, with more layers in float32 until the accuracy loss is accepted."""
    backend = _load(report.out, plain)
    pictures = calibration_images(scored.spec, calibration, backend.card.size)
    report = replace(report, iou_before=scored.iou(backend, "float32"), calibration_images=len(pictures),
                     calibration_split=calibration)
    attempts: list[Attempt] = []

    def accept(data: bytes, kept: Sequence[Layer]) -> bool:
        attempts.append(_attempt(report, scored.iou(_load(report.out, data), "int8"), kept))
        return attempts[-1].accepted

    made: Quantized | None = quantize(plain, pictures, accept, scored.stage, report.precision == "int8-symmetric")
    report = replace(report, attempts=tuple(attempts), layers=made.layers if made else 0)
    if made is None:
        raise AccuracyLossError(f"{report.out}: not written, because int8 loses more than {report.max_iou_loss} points of IoU "
                                "even with half of the layers in float32; raise the limit, or export in float32.", report)
    return report, made.data


def _attempt(report: ExportReport, iou: Mapping[str, float | None], kept: Sequence[Layer] = ()) -> Attempt:
    """Compare the IoU of a candidate with `report.iou_before`."""
    worst, loss = largest_loss(report.iou_before, iou)
    return Attempt(tuple(kept), iou, worst, loss, report.max_iou_loss is None or loss <= report.max_iou_loss)


def _measure(report: ExportReport, content: bytes, plain: bytes, scored: _Scored) -> tuple[ExportReport, bytes]:
    """Measure the accuracy loss of other backends, the scores by size and the calibration; put them into the card."""
    spec, split, segmenter = scored.spec, scored.split, Segmenter(_load(report.out, content))
    with scored.stage("compare backends") as advance:
        losses = backend_losses(Segmenter(_load(report.out, plain)), content, spec, split, advance)
    with scored.stage("compare input sizes") as advance:
        metrics = scores_by_size(segmenter, spec, split, advance)
    with scored.stage("calibrate confidence") as advance:
        calibration = calibrate(segmenter, spec, scored.pairs, split, advance)
    card = segmenter.card
    trained = card.data.name if card.data else None  # an earlier version did not name the dataset of a score
    # Scores of the float32 weights do not hold for int8, nor scores on another dataset for this one.
    kept = {name: scores for name, scores in card.metrics.items()
            if card.precision == "float32" and scores.get("dataset", trained) == spec.name}
    card = replace(card, metrics={**kept, **metrics}, losses=losses, calibration=calibration)
    return replace(report, losses=losses, metrics=metrics, calibration=calibration), with_card(content, card)


def _load(path: Path, data: bytes, threads: int | None = None) -> Backend:
    """Load an exported file from memory into ONNX Runtime."""
    return backends.load(path.with_suffix(".onnx"), "onnx", threads, data=data)


@contextlib.contextmanager
def _silent(_: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None
