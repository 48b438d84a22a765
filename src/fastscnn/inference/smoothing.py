"""Temporal smoothing: averages the logits of a video over time in static regions, which halves flicker there.

A network segments each frame independently, so noise alone moves borders between classes and makes uncertain regions
flicker. `TemporalSmoothing` averages the logits over time, cell by cell of their grid at 1/8. The less the mean colour of
a cell changed, the larger is the weight of the past. A passing car is therefore not mixed with the road behind it. After a
cut, the average starts again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import Float32Array, UInt8Array

# Chosen on CamVid val and on a highway video: docs/accuracy.md has the command and the figures.
_MAX_PAST = 0.85  # weight of the past in a cell that did not change
_STILL, _MOVED = 3.0, 12.0  # change of a cell's mean in grey levels: full weight up to the first, none from the second
_CUT = 0.5  # fraction of moved cells above which a frame counts as a new scene
_BLUR, _SAME = 5, 4.0  # pixels each way, and grey levels: the change below which `flicker` counts a pixel as static


class TemporalSmoothing:
    """Averages the logits of a video. Call it with every frame, in order."""

    def __init__(self) -> None:
        self._means: Float32Array | None = None
        self._logits: Float32Array | None = None

    def __call__(self, image: UInt8Array, logits: Float32Array) -> Float32Array:
        """Return the logits of a frame, averaged with those of earlier frames where the image did not change.

        Args:
            image: uint8 [H, W, channels], the network's input.
            logits: float32 [C, ceil(H/8), ceil(W/8)], its output.

        Returns:
            float32 of the logits' shape. The first frame, and one after a cut or a change of size, keeps its own logits.
        """
        means = cell_means(image, logits.shape[1:])
        if self._means is None or self._logits is None or self._logits.shape != logits.shape:
            self._means, self._logits = means, logits
            return logits
        change = _widest(np.abs(means - self._means))
        past = _MAX_PAST * np.clip((_MOVED - change) / (_MOVED - _STILL), 0, 1)
        if (change >= _MOVED).mean() > _CUT:
            past[:] = 0
        self._means = means
        self._logits = logits + past * (self._logits - logits)
        return self._logits


def cell_means(image: UInt8Array, cells: tuple[int, ...]) -> Float32Array:
    """Return the mean of all channels in each cell of 8x8 pixels; the last cells of an axis may be smaller.

    Args:
        image: uint8 [H, W, channels].
        cells: rows and columns of cells, (ceil(H/8), ceil(W/8)).

    Returns:
        float32 of shape `cells`.
    """
    missing = [8 * count - side for count, side in zip(cells, image.shape[:2], strict=True)]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    tall = image.reshape(cells[0], 8, -1).sum(axis=1, dtype=np.uint16)
    means: Float32Array = tall.reshape(*cells, -1).mean(axis=2, dtype=np.float32) / 8
    return means


def flicker(labels: tuple[UInt8Array, UInt8Array], frames: tuple[UInt8Array, UInt8Array]) -> tuple[int, int]:
    """Return how many static pixels change their label between two frames, and how many pixels are static.

    Args:
        labels: of both frames, uint8 [H, W].
        frames: uint8 [H, W, channels]. A pixel is static if the mean of the 5x5 pixels around it changes by less than 4
            grey levels.
    """
    before, after = (frame.mean(axis=2, dtype=np.float32) for frame in frames)
    same = np.abs(_blurred(after - before)) < _SAME
    return int((same & (labels[0] != labels[1])).sum()), int(same.sum())


def _widest(change: Float32Array) -> Float32Array:
    """Return the largest change in each cell and the eight around it, since motion soon reaches the next cell."""
    padded = np.pad(change, 1, mode="edge")
    tall = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    widest: Float32Array = np.maximum(np.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])
    return widest


def _blurred(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the mean over `_BLUR` x `_BLUR` values around each value, with the edge repeated."""
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (_BLUR // 2, _BLUR // 2)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, width, mode="edge"), _BLUR, axis)
        values = windows.mean(axis=-1)
    return values
