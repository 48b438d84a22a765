"""Compare what a target's runtime returns with our own labels, on labelled images or on generated scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.backends import Backend
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, Float64Array, Int64Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Confusion
from fastscnn.exporting.form import Form
from fastscnn.exporting.targets.target import Runner
from fastscnn.inference.size import in_shape
from fastscnn.media import images
from fastscnn.upsampling import upsample

LEAST_EQUAL = 99.9  # percent of equal labels, for a target in floating point
_MOST_CONFIDENCE = 0.02  # difference; float16 has up to 0.005, and our kernel leaves out classes of up to 3e-4 each
_TIE = 2e-4  # logits that differ less are a tie: each may be off by the 1e-4 that `trace.Verification` allows
_SCENES = 4  # generated, without a dataset


@dataclass(frozen=True)
class Agreement:
    """The output of a target's runtime, compared with our labels of the float32 network in ONNX Runtime.

    Attributes:
        images: number of images; generated street scenes if `iou` is empty.
        equal_labels: percent of pixels with the same label.
        ties: pixels with another label whose two logits differ by less than 2e-4; of equal logits, either label is right.
        others: all other pixels with another label.
        logit_difference: largest absolute difference of a logit; None if the file returns labels.
        confidence_difference: largest absolute difference of a confidence where the labels are equal; None without any.
        iou_before, iou: IoU of each class, and the mIoU under "mIoU", in percent: of our labels and of the target's.
        worst_class, largest_loss: the class that loses most IoU, None if none loses, and its loss in points.
    """

    images: int
    equal_labels: float
    ties: int
    others: int
    logit_difference: float | None = None
    confidence_difference: float | None = None
    iou_before: Mapping[str, float | None] = field(default_factory=dict)
    iou: Mapping[str, float | None] = field(default_factory=dict)
    worst_class: str | None = None
    largest_loss: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether a target in floating point agrees: 99.9 % of the labels, and 0.02 of a confidence. NaN does not."""
        return self.equal_labels >= LEAST_EQUAL and (self.confidence_difference or 0) <= _MOST_CONFIDENCE

    def __str__(self) -> str:
        differences = {"logit": self.logit_difference, "confidence": self.confidence_difference}
        parts = [f"{self.equal_labels:.4f} % equal labels on {self.images} images", f"{self.ties} ties",
                 f"{self.others} other differences"]
        parts += [f"largest {name} difference {value:.1e}" for name, value in differences.items() if value is not None]
        if self.iou:
            before, after = (values["mIoU"] for values in (self.iou_before, self.iou))
            parts.append(f"mIoU {before:.2f} -> {after:.2f} %")
            worst = self.worst_class
            parts.append(f"{worst} loses {self.largest_loss:.3f} points of IoU" if worst else "no class loses IoU")
        return ", ".join(parts)


def largest_loss(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> tuple[str | None, float]:
    """Return the class that loses most IoU, None if none loses, and its loss in points."""
    pairs = ((name, old, after[name]) for name, old in before.items())
    lost = {name: old - new for name, old, new in pairs if old is not None and new is not None and old > new}
    worst = max(lost, key=lambda name: lost[name], default=None)
    return worst, lost[worst] if worst else 0.0


def compare(
    reference: Backend,
    runner: Runner,
    form: Form,
    spec: DatasetSpec | None = None,
    pairs: Sequence[Pair] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Compare a target's runtime with our labels.

    Labels are compared at the size of the file's output; logits are upsampled by our code to the size of the image first.

    Args:
        reference: the float32 network that returns logits.
        runner: the target's runtime.
        form: the form of the target's network.
        spec, pairs: labelled images, for the IoU. Without them, generated scenes are compared.
        progress: called with (done, total) after each image.

    Raises:
        FastSCNNError: a file of the dataset cannot be read, or the runtime returns another shape than it should.
    """
    count = _Count(reference, runner, form)
    total = len(pairs) if spec else _SCENES
    for done, (image, truth) in enumerate(_images(reference.card.channels, form, spec, pairs), start=1):
        count.add(image, truth)
        if progress:
            progress(done, total)
    return count.agreement(total, bool(spec))


def _images(
    channels: int, form: Form, spec: DatasetSpec | None, pairs: Sequence[Pair]
) -> Iterator[tuple[UInt8Array, UInt8Array | None]]:
    """Yield images, each with its labels if there are any."""
    if spec:
        yield from (spec.read(pair) for pair in pairs)
        return
    for scene in scenes(channels, form):
        yield scene, None


def scenes(channels: int, form: Form) -> Iterator[UInt8Array]:
    """Yield four generated street scenes, uint8 [H, W, channels], of the fixed size of the form or of different sizes."""
    sizes = [form.static] * _SCENES if form.static else [(250, 333), (360, 480), (517, 131), (128, 256)]
    for seed, (height, width) in enumerate(sizes):
        drawn = synthetic.draw(max(64, height), max(64, width), seed).image[:height, :width]
        yield images.widened(drawn, channels)


class _Count:
    """Counts the differences, image by image."""

    def __init__(self, reference: Backend, runner: Runner, form: Form) -> None:
        self._reference, self._runner, self._form = reference, runner, form
        self._names = reference.card.label_set.names
        self._confusions = Confusion(len(self._names)), Confusion(len(self._names))
        self._pixels = self._equal = self._ties = 0
        self._logits: float | None = None
        self._confidence: float | None = None

    def add(self, image: UInt8Array, truth: UInt8Array | None) -> None:
        """Run an image both ways, and compare the results."""
        card, form = self._reference.card, self._form
        taken = form.static or (image.shape[:2] if truth is None else in_shape(card.size, image.shape[:2]))
        picture = images.resize(image, taken)[None]
        (logits,), found = self._reference(picture), self._runner(picture)
        size = image.shape[:2] if form.output == "logits" else form.output_size or taken
        expected = upsample.labels(logits, size)
        if form.output == "logits":
            (other,) = _shaped(found, "logits", (1, *logits.shape))
            self._logits = _larger(self._logits, np.abs(other - logits))
            got = upsample.labels(np.asarray(other, np.float32), size)
        else:
            (got,) = _shaped(found, "labels", (1, *size))
        if form.output == "confidence":
            (confidence,) = _shaped(found, "confidence", (1, *size))
            off = np.abs(confidence - upsample.confidence(logits / np.float32(card.temperature), size))[got == expected]
            self._confidence = _larger(self._confidence, off)
        self._pixels += expected.size
        self._equal += int(np.count_nonzero(got == expected))
        self._ties += ties(logits, expected, got)
        if truth is not None:
            truth = _nearest(truth, size)
            for confusion, labels in zip(self._confusions, (expected, got), strict=True):
                confusion.add(labels, truth)

    def agreement(self, total: int, labelled: bool) -> Agreement:
        """Return what was counted."""
        before, after = ({**dict(zip(self._names, confusion.iou(), strict=True)), "mIoU": confusion.miou()} if labelled else {}
                         for confusion in self._confusions)
        others = self._pixels - self._equal - self._ties
        return Agreement(total, 100 * self._equal / self._pixels, self._ties, others, self._logits, self._confidence,
                         before, after, *largest_loss(before, after))


def _larger(before: float | None, values: npt.NDArray[Any]) -> float:
    """Return the largest value so far; NaN if there was one."""
    return float(np.maximum(before or 0.0, values.max(initial=0)))


def _shaped(found: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an output of the runtime. Raise FastSCNNError if it is missing or has another shape."""
    if name not in found or found[name].shape != shape:
        shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in found.items())
        raise FastSCNNError(f"The converted network must return {name} {list(shape)}, but returns {shapes}; "
                            "export for another target.")
    return found[name]


def ties(logits: Float32Array, expected: UInt8Array, got: UInt8Array) -> int:
    """Return the number of pixels whose two labels differ although their logits, interpolated, differ by less than 2e-4.

    Args:
        logits: float32 [C, h, w].
        expected, got: uint8 [H, W].
    """
    y, x = np.nonzero(expected != got)
    gap = _interpolated(logits, expected[y, x], y, x, expected.shape) - _interpolated(logits, got[y, x], y, x, expected.shape)
    return int(np.count_nonzero(np.abs(gap) < _TIE))


def _interpolated(
    logits: Float32Array, classes: UInt8Array, y: Int64Array, x: Int64Array, size: tuple[int, ...]
) -> Float64Array:
    """Return the logit of one class at each of some pixels, interpolated bilinearly."""
    height, width = logits.shape[1:]
    row, column = (np.clip((pixel + 0.5) * (source / target) - 0.5, 0, source - 1)
                   for pixel, source, target in ((y, height, size[0]), (x, width, size[1])))
    top, left = row.astype(np.int64), column.astype(np.int64)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = row - top, column - left
    upper = logits[classes, top, left] * (1 - across) + logits[classes, top, right] * across
    lower = logits[classes, bottom, left] * (1 - across) + logits[classes, bottom, right] * across
    result: Float64Array = upper * (1 - down) + lower * down
    return result


def _nearest(labels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Return labels at another size, each pixel from the nearest one."""
    rows, columns = (((np.arange(target) + 0.5) * source / target).astype(np.int64)
                     for source, target in zip(labels.shape, size, strict=True))
    return labels if labels.shape == size else labels[np.ix_(rows, columns)]
