"""The last step of an export: write the files of a target, run them in its runtime, and keep them if they agree."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fastscnn.backends import Backend
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.exporting.agreement import compare, scenes
from fastscnn.exporting.form import Form
from fastscnn.exporting.layers import wrong_layer
from fastscnn.exporting.quantize import Stage
from fastscnn.exporting.report import AccuracyLossError, ExportReport
from fastscnn.exporting.targets import Exported, Target


def deliver(
    report: ExportReport,
    target: Target,
    exported: Exported,
    reference: Backend,
    stage: Stage,
    spec: DatasetSpec | None = None,
    pairs: Sequence[Pair] = (),
) -> ExportReport:
    """Write the files of a target to `report.out`, if its runtime agrees with our labels.

    Args:
        report: what was measured before.
        target: the target.
        exported: the network.
        reference: the float32 network that returns logits.
        stage: shows the progress of a named step.
        spec, pairs: labelled images to compare on; generated scenes without them.

    Returns:
        The report, with the agreement and the size of the files.

    Raises:
        AccuracyLossError: a class loses more than `report.max_iou_loss`. Nothing is written.
        FastSCNNError: fewer than 99.9 % of the labels are equal (not with int8), with the layer that differs; the
            converter or the runtime fails; or a file cannot be written.
    """
    with files.staged(report.out) as path:
        with stage(f"write for {target.name}"), _named_errors(target):
            target.write(exported, path)
        if target.load and not _is_verified(target, exported.form):
            with stage(f"compare {target.name}") as advance, _named_errors(target):
                runner = target.load(path, exported.card)
                found = compare(reference, runner, exported.form, spec, pairs, advance)
            report = replace(report, agreement=found)
            _check(report, target, exported, stage)
        written = [file for file in path.parent.rglob("*") if file.is_file()]
        return replace(report, file_size=sum(file.stat().st_size for file in written), runtime=target.runtime)


@contextlib.contextmanager
def _named_errors(target: Target) -> Iterator[None]:
    """Turn errors of a converter or a runtime, which can be of any class, into one sentence."""
    try:
        yield
    except (FastSCNNError, OSError):  # OSError: of the disk, see `files.staged`
        raise
    except Exception as error:
        raise FastSCNNError(f"target {target.name}: its converter or runtime fails ({_short(error)}); install the versions of "
                            "docs/deploy.md, or export for another target.") from error


def _short(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)


def _is_verified(target: Target, form: Form) -> bool:
    """Return whether the file is the network itself that was verified, or measured in int8, before."""
    return target.name == "onnx" and form == Form(precision=form.precision) and form.precision != "float16"


def _check(report: ExportReport, target: Target, exported: Exported, stage: Stage) -> None:
    """Raise an error if the target's runtime differs too much from our labels."""
    found, limit, form = report.agreement, report.max_iou_loss, exported.form
    assert found is not None
    if not form.int8 and not found.passed:
        raise FastSCNNError(f"{report.out}: not written, because the target {target.name} in {form.precision} differs from "
                            f"our labels: {found}. {_cause(target, exported, stage)} Export for another target, or in another "
                            "precision.")
    if limit is not None and found.largest_loss > limit:
        raise AccuracyLossError(f"{report.out}: not written, because {found.worst_class} loses {found.largest_loss:.3f} points "
                                f"of IoU with the target {target.name} in {form.precision}; the limit is {limit}.", report)


def _cause(target: Target, exported: Exported, stage: Stage) -> str:
    """Return a sentence that names the layer that differs."""
    try:
        return wrong_layer(target, exported, list(scenes(exported.card.channels, exported.form)), stage)
    except Exception as error:  # of any class: converters may refuse a part of a network. What was measured must not be lost.
        return f"The layers cannot be compared ({_short(error)})."
