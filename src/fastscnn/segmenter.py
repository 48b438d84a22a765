"""Segmenter: an image in, its full-size labels out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Literal

from fastscnn import images, runtimes, upsample
from fastscnn.arrays import UInt8Array
from fastscnn.card import Card
from fastscnn.errors import FastSCNNError
from fastscnn.recipes import MIN_SIDE
from fastscnn.runtimes import Runtime
from fastscnn.segmentation import Segmentation
from fastscnn.weights import bundled

Size = tuple[int, int] | Literal["native"] | None


class Segmenter:
    """Labels images with one network on one engine.

    Args:
        runtime: the network, ready to run.
        size: of the network's input: None for the card's own, "native" for each image's, or (height, width).
            Labels come at the image's size whatever it is.
        path: the weight file, for those who report on it.
    """

    def __init__(self, runtime: Runtime, size: Size = None, path: Path | None = None) -> None:
        self.runtime, self.path = runtime, path
        self.size: tuple[int, int] | Literal["native"] = size or runtime.card.size
        if self.size != "native" and min(self.size) < MIN_SIDE:
            message = f"size: the network needs at least {MIN_SIDE}x{MIN_SIDE}, not {self.size[0]}x{self.size[1]}."
            raise FastSCNNError(message)

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        runtime: str = "auto",
        size: Size = None,
        threads: int | None = None,
    ) -> Segmenter:
        """A segmenter of a weight file.

        Args:
            weights: an .onnx or .safetensors file; None: the weights that the package carries.
            runtime: "onnx", "torch" or "auto".
            size: see the class.
            threads: to compute with; None: all that the process may use.

        Raises:
            FastSCNNError: what is wrong with the file or the arguments.
        """
        path = Path(weights) if weights is not None else bundled(runtime)
        return cls(runtimes.load(path, runtime, threads), size, path)

    @property
    def card(self) -> Card:
        """What the weights say of themselves."""
        return self.runtime.card

    def segment(self, image: UInt8Array, confidence: bool = False) -> Segmentation:
        """The class of every pixel.

        Args:
            image: uint8 [H, W, channels], RGB, at least 32 pixels a side.
            confidence: also give the probability of each label.

        Raises:
            FastSCNNError: an image of another dtype, shape or number of channels, or too small.
        """
        self._check(image)
        start = perf_counter()
        resized = image if self.size == "native" else images.resize(image, self.size)
        after_resize = perf_counter()
        logits = self.runtime(resized[None])[0]
        after_network = perf_counter()
        labels = upsample.labels(logits, (image.shape[0], image.shape[1]))
        after_labels = perf_counter()
        probability = upsample.confidence(logits, labels) if confidence else None
        seconds = {
            "resize": after_resize - start,
            "network": after_network - after_resize,
            "labels": after_labels - after_network,
        }
        if confidence:
            seconds["confidence"] = perf_counter() - after_labels
        return Segmentation(labels, self.card.label_set, probability, seconds)

    def _check(self, image: UInt8Array) -> None:
        channels = self.card.channels
        if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != channels:
            raise FastSCNNError(f"An image is uint8 [height, width, {channels}], not {image.dtype} {list(image.shape)}.")
        if min(image.shape[:2]) < MIN_SIDE:
            pixels = f"{image.shape[1]}x{image.shape[0]} pixels"
            raise FastSCNNError(f"The image has {pixels}; it needs at least {MIN_SIDE} a side, so make it larger.")
