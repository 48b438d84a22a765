"""Overlays of a video, which all have the same size: each frame with its labels, and a legend of all classes below."""

from __future__ import annotations

import numpy as np

from fastscnn.base.types import UInt8Array
from fastscnn.data.legend import legend
from fastscnn.inference.segmentation import Segmentation
from fastscnn.model.label_set import LabelSet


class VideoOverlays:
    """Draws the overlays of frames of one size.

    Args:
        label_set: classes and colours.
        size: (height, width) of the frames.

    Attributes:
        size: (height, width) of the overlays.

    Examples:
        >>> import fastscnn
        >>> VideoOverlays(fastscnn.Segmenter.load().card.label_set, (360, 480)).size
        (395, 480)
    """

    def __init__(self, label_set: LabelSet, size: tuple[int, int]) -> None:
        self._legend = legend(label_set, dict(zip(label_set.names, label_set.names, strict=True)), size[1])
        self.size = (size[0] + len(self._legend), size[1])

    def draw(self, segmentation: Segmentation, image: UInt8Array) -> UInt8Array:
        """Return the overlay of a frame, uint8 [H + legend, W, 3] RGB. `image` is the frame, uint8 [H, W, 3] RGB."""
        overlay = np.empty((*self.size, 3), np.uint8)
        segmentation.blend(image, result=overlay[: len(image)])
        overlay[len(image) :] = self._legend
        return overlay
