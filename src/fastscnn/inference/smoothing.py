"""TemporalSmoothing labels of a video: where the picture stays the same, the logits of earlier frames count on.

A network decides each frame by itself, so that noise alone moves the borders between classes and makes doubtful places
flicker. `TemporalSmoothing` averages the logits along time, cell by cell of their grid at 1/8, and the more of the
past, the less
the cell's mean colour changed: a passing car is no average of the road behind it. After a cut, all is new at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastscnn.base.types import Float32Array, UInt8Array

# Chosen on CamVid's val and on a highway: docs/accuracy.md has the command and the figures.
_MOST = 0.85  # share of the past where nothing changed
_STILL, _MOVED = 3.0, 12.0  # change of a cell's mean in grey levels: all of that share up to the first, none from the second
_CUT = 0.5  # share of the cells that moved from which a frame has nothing to do with the one before
_BLUR, _SAME = 5, 4.0  # pixels each way, and grey levels: what `flicker` takes for a picture that stays the same


class TemporalSmoothing:
    """Averages logits along a video, one frame after another, in their order."""

    def __init__(self) -> None:
        self._means: Float32Array | None = None
        self._logits: Float32Array | None = None

    def __call__(self, image: UInt8Array, logits: Float32Array) -> Float32Array:
        """The logits of a frame, with those of the frames before where the picture did not change.

        Args:
            image: uint8 [H, W, channels], what the network saw.
            logits: float32 [C, ceil(H/8), ceil(W/8)], what it gave.

        Returns:
            float32 of the logits' shape. The first frame's own; also after a cut, or where the size changes.
        """
        means = cell_means(image, logits.shape[1:])
        if self._means is None or self._logits is None or self._logits.shape != logits.shape:
            self._means, self._logits = means, logits
            return logits
        change = _widest(np.abs(means - self._means))
        share = _MOST * np.clip((_MOVED - change) / (_MOVED - _STILL), 0, 1)
        if (change >= _MOVED).mean() > _CUT:
            share[:] = 0
        self._means = means
        self._logits = logits + share * (self._logits - logits)
        return self._logits


def cell_means(image: UInt8Array, cells: tuple[int, ...]) -> Float32Array:
    """Mean of all channels in each of `cells` (rows, columns) parts of 8x8 pixels; those at the end may be smaller.

    Args:
        image: uint8 [H, W, channels].
        cells: ceil(H/8), ceil(W/8).

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
    """How many pixels change their label between two frames where the picture stays the same, and how many stay the same.

    Args:
        labels: of both frames, uint8 [H, W].
        frames: uint8 [H, W, channels]. A pixel stays the same where the mean of the 5x5 around it changes by less than 4
            grey levels.
    """
    before, after = (frame.mean(axis=2, dtype=np.float32) for frame in frames)
    same = np.abs(_blurred(after - before)) < _SAME
    return int((same & (labels[0] != labels[1])).sum()), int(same.sum())


def _widest(change: Float32Array) -> Float32Array:
    """The largest change in each cell and the eight around it, since what moves in one soon reaches the next."""
    padded = np.pad(change, 1, mode="edge")
    tall = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    widest: Float32Array = np.maximum(np.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])
    return widest


def _blurred(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Mean of the `_BLUR` values each way around each one, the edge repeated."""
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (_BLUR // 2, _BLUR // 2)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, width, mode="edge"), _BLUR, axis)
        values = windows.mean(axis=-1)
    return values
