"""Segmentation: the labels of one image, and how they are shown and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BoolArray, Float32Array, UInt8Array
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet


@dataclass(frozen=True)
class Segmentation:
    """The labels of one image.

    Attributes:
        labels: uint8 [H, W], train id of every pixel.
        label_set: what the ids mean.
        confidence: float32 [H, W], probability of each label, where it was asked for.
        unknown: bool [H, W], where the network saw nothing that it knows well, where it was asked for.
        seconds: time of each stage, by name.
    """

    labels: UInt8Array
    label_set: LabelSet
    confidence: Float32Array | None = None
    unknown: BoolArray | None = None
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def class_percentages(self) -> dict[str, float]:
        """Percent of the pixels by class name, every class."""
        counts = Image.fromarray(self.labels).histogram()  # of 256 values; NumPy's would widen every label first
        return {name: 100 * count / self.labels.size for name, count in zip(self.label_set.names, counts, strict=False)}

    def colours(self) -> UInt8Array:
        """The labels in their classes' colours, uint8 [H, W, 3] RGB."""
        return np.array(self._painted(), np.uint8)

    def _painted(self) -> Image.Image:
        painted = Image.fromarray(self.labels)
        painted.putpalette(self.label_set.palette().tobytes())
        return painted.convert("RGB")

    def overlay(self, image: UInt8Array, opacity: float = 0.55) -> UInt8Array:
        """The image under its labels' colours, with a legend of the classes present.

        Args:
            image: uint8 [H, W, 3] RGB of the labels' size.
            opacity: of the colours, 0 to 1.

        Returns:
            uint8 [H + legend, W, 3] RGB.
        """
        shares = self.class_percentages()
        present = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
        texts = {name: f"{name} {shares[name]:.0f} %" if shares[name] >= 1 else f"{name} < 1 %" for name in present}
        return np.concatenate([self.blend(image, opacity), legend(self.label_set, texts, image.shape[1])])

    def blend(self, image: UInt8Array, opacity: float = 0.55) -> UInt8Array:
        """The image under its labels' colours, without a legend: uint8 [H, W, 3] RGB of an image of that size.

        What is unknown, where that was asked for, keeps the image's own colours.
        """
        if image.shape[:2] != self.labels.shape:
            raise FastSCNNError(f"The image is {image.shape[:2]}, its labels {self.labels.shape}; they must be the same size.")
        blended = np.array(Image.blend(Image.fromarray(image), self._painted(), opacity), np.uint8)
        if self.unknown is not None:
            np.copyto(blended, image, where=self.unknown[..., None])
        return blended

    def save_labels(self, path: Path) -> None:
        """Writes the labels as an 8-bit single-channel PNG of class ids."""
        images.write(path, self.labels)

    def save_confidence(self, path: Path) -> None:
        """Writes the confidence, where it was asked for, as an 8-bit grey PNG: 255 times the probability."""
        if self.confidence is not None:
            images.write(path, np.rint(255 * self.confidence).astype(np.uint8))

    def save_ood_mask(self, path: Path) -> None:
        """Writes what is unknown, where it was asked for, as an 8-bit grey PNG: 255 there, else 0."""
        if self.unknown is not None:
            images.write(path, np.where(self.unknown, np.uint8(255), np.uint8(0)))


def legend(label_set: LabelSet, texts: Mapping[str, str], width: int) -> UInt8Array:
    """A strip [rows, width, 3] of classes in their colours.

    Args:
        label_set: what the classes look like.
        texts: by the name of a class, what stands beside its colour; in that order.
        width: pixels; a new row is begun where it is full.
    """
    line = min(max(width // 40, 14), 48)  # pixels: reads on a thumbnail and on a 4K frame
    font = ImageFont.load_default(0.62 * line)
    entries = []  # name, text, x, row
    x = row = 0
    for name, text in texts.items():
        needed = 2 * line + round(font.getlength(text))
        if x and x + needed > width:
            x, row = 0, row + 1
        entries.append((name, text, x, row))
        x += needed
    strip = Image.new("RGB", (width, (row + 1) * line + line // 2), (24, 24, 24))
    draw = ImageDraw.Draw(strip)
    for name, text, x, row in entries:
        left, top = x + line // 2, row * line + line // 4
        colour = label_set.colours[label_set.index(name)]
        draw.rectangle((left, top + line // 6, left + line * 2 // 3, top + line * 5 // 6), fill=colour)
        draw.text((left + line, top + line // 2), text, fill=(235, 235, 235), font=font, anchor="lm")
    return np.array(strip, np.uint8)
