"""Segmentation: the labels of one image, and how they are shown and kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from fastscnn import images
from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.errors import FastSCNNError
from fastscnn.labels import LabelSet


@dataclass(frozen=True)
class Segmentation:
    """The labels of one image.

    Attributes:
        labels: uint8 [H, W], train id of every pixel.
        label_set: what the ids mean.
        confidence: float32 [H, W], probability of each label, where it was asked for.
        seconds: time of each stage, by name.
    """

    labels: UInt8Array
    label_set: LabelSet
    confidence: Float32Array | None = None
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def shares(self) -> dict[str, float]:
        """Percent of the pixels by class name, every class."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.label_set))
        return {name: 100 * int(count) / self.labels.size for name, count in zip(self.label_set.names, counts, strict=True)}

    def colours(self) -> UInt8Array:
        """The labels in their classes' colours, uint8 [H, W, 3] RGB."""
        return self.label_set.palette()[self.labels]

    def overlay(self, image: UInt8Array, opacity: float = 0.55) -> UInt8Array:
        """The image under its labels' colours, with a legend of the classes present.

        Args:
            image: uint8 [H, W, 3] RGB of the labels' size.
            opacity: of the colours, 0 to 1.

        Returns:
            uint8 [H + legend, W, 3] RGB.
        """
        if image.shape[:2] != self.labels.shape:
            raise FastSCNNError(f"The image is {image.shape[:2]}, its labels {self.labels.shape}; they must be the same size.")
        blended = np.asarray(cv2.addWeighted(image, 1 - opacity, self.colours(), opacity, 0), np.uint8)
        return np.concatenate([blended, self._legend(image.shape[1])])

    def save_labels(self, path: Path) -> None:
        """Writes the labels as an 8-bit single-channel PNG of class ids."""
        images.write(path, self.labels)

    def _legend(self, width: int) -> UInt8Array:
        """A strip [rows, width, 3] that names the classes present, the largest first."""
        shares = self.shares()
        present = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
        scale = min(max(width / 1600, 0.35), 1.2)  # text that reads on a thumbnail and on a 4K frame
        font, thickness, pad = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.5 * scale)), round(16 * scale)
        line = round(36 * scale)
        entries = []  # name, text, x, row
        x = row = 0
        for name in present:
            text = f"{name} {shares[name]:.0f} %" if shares[name] >= 1 else f"{name} < 1 %"
            needed = line + cv2.getTextSize(text, font, scale, thickness)[0][0] + 2 * pad
            if x and x + needed > width:
                x, row = 0, row + 1
            entries.append((name, text, x, row))
            x += needed
        strip = np.full(((row + 1) * line + pad, width, 3), 24, np.uint8)
        for name, text, x, row in entries:
            top = pad // 2 + row * line
            colour = self.label_set.colours[self.label_set.index(name)]
            cv2.rectangle(strip, (x + pad, top + line // 6), (x + pad + line * 2 // 3, top + line * 5 // 6), colour, cv2.FILLED)
            origin = (x + pad + line, top + line * 3 // 4)
            cv2.putText(strip, text, origin, font, scale, (235, 235, 235), thickness, cv2.LINE_AA)
        return strip
