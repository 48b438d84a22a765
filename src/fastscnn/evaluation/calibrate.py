"""Calibrate the confidence of a network, and find its threshold for out-of-distribution (OOD) pixels.

Temperature scaling follows Guo et al. 2017, "On Calibration of Modern Neural Networks": one number divides all logits. It is
fitted to labelled images by maximum likelihood, and changes no label. The OOD score is the maximum logit (Hendrycks et al.
2022, "Scaling Out-of-Distribution Detection for Real-World Settings"): it is rarely below the threshold in pixels of known
classes, and often in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, Int64Array, UInt8Array
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.evaluation.metrics import Reliability
from fastscnn.inference.segmenter import Segmenter
from fastscnn.model.card import Calibration
from fastscnn.model.label_set import IGNORE_INDEX
from fastscnn.upsampling import upsample

_POINTS = 400_000  # pixels sampled from all images
_KNOWN = 0.05  # fraction of the pixels of known classes below the threshold
_LOWEST, _HIGHEST = 0.1, 10.0  # range of temperatures


def calibrate(
    segmenter: Segmenter,
    spec: DatasetSpec,
    pairs: Sequence[Pair],
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure the temperature and the OOD threshold of a segmenter's weights.

    Args:
        segmenter: the network at the input size to calibrate for.
        spec: the dataset, with the same classes in the same order.
        pairs: its images and labels.
        split: name of their split, for the card.
        progress: called with (done, total) after each image.

    Returns:
        The temperature, the threshold of the maximum logit, and the expected calibration error (ECE) in percent with and
        without the temperature.

    Raises:
        FastSCNNError: a broken file, or no labelled pixel among the sampled ones.
    """
    random = np.random.default_rng(0)
    logits, best, truth = [], [], []
    for done, pair in enumerate(pairs, start=1):
        image, labels = spec.read(pair)
        found = segmenter.logits(image)
        row, column = (random.integers(0, side, max(1, _POINTS // len(pairs))) for side in labels.shape)
        counted = labels[row, column] != IGNORE_INDEX
        row, column = row[counted], column[counted]
        logits.append(_at(found, labels.shape, row, column))
        best.append(_at(found.max(axis=0, keepdims=True), labels.shape, row, column)[0])
        truth.append(labels[row, column])
        if progress:
            progress(done, len(pairs))
    values, classes = np.concatenate(logits, axis=1), np.concatenate(truth)
    if not classes.size:
        raise FastSCNNError(f"{spec.root}: the split {split!r} has no labelled pixels to calibrate with; use another split.")
    temperature = _temperature(values, classes)
    before, after = (_error(values / np.float32(divisor), classes) for divisor in (1, temperature))
    threshold = float(np.quantile(np.concatenate(best), _KNOWN))
    return Calibration(round(temperature, 3), round(threshold, 3), split, len(pairs), round(before, 3), round(after, 3))


def _at(planes: Float32Array, size: tuple[int, ...], row: Int64Array, column: Int64Array) -> Float32Array:
    """Interpolate planes [C, h, w] bilinearly to `size`, at the given pixels only; return [C, pixels]."""
    down, right = (upsample.axis(*lengths) for lengths in zip(planes.shape[1:], size, strict=True))
    left, far = right.low[right.cell[column]], right.high[right.cell[column]]
    across = right.weight[column]
    upper, lower = (
        planes[:, y, left] + (planes[:, y, far] - planes[:, y, left]) * across
        for y in (down.low[down.cell[row]], down.high[down.cell[row]])
    )
    at: Float32Array = upper + (lower - upper) * down.weight[row]
    return at


def _temperature(logits: Float32Array, truth: UInt8Array) -> float:
    """Return the temperature with the lowest mean negative log-likelihood, to 0.1 %.

    There, the logit of the true class is on average the one that the network expects, which falls as the temperature rises.
    """
    below = logits - logits.max(axis=0)
    right = float(np.take_along_axis(below, truth[None].astype(np.int64), axis=0).mean(dtype=np.float64))

    def expected(temperature: float) -> float:
        weights = np.exp(below / np.float32(temperature))
        return float(((weights * below).sum(axis=0) / weights.sum(axis=0)).mean(dtype=np.float64))

    low, high = _LOWEST, _HIGHEST
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if expected(middle) < right else (middle, high)
    return math.sqrt(low * high)


def _error(logits: Float32Array, truth: UInt8Array) -> float:
    """Return the expected calibration error of logits [C, pixels], in percent."""
    best = logits.max(axis=0)
    reliability = Reliability()
    reliability.add(1 / np.exp(logits - best).sum(axis=0), logits.argmax(axis=0).astype(np.uint8), truth)
    return reliability.error()
