"""Segmenter: an image in, its full-size labels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal

from fastscnn import images, runtimes, upsample
from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.card import Card
from fastscnn.errors import FastSCNNError
from fastscnn.recipes import MIN_SIDE
from fastscnn.runtimes import Labeller, Runtime
from fastscnn.segmentation import Segmentation
from fastscnn.stream import ordered
from fastscnn.weights import bundled

Size = tuple[int, int] | Literal["native"] | None
_MOST_SCALE = 16


class Segmenter:
    """Labels images with one network on one engine.

    Args:
        runtime: the network, ready to run.
        size: of the network's input: None for the card's own, "native" for each image's, or (height, width).
            Labels come at the image's size whatever it is.
        path: the weight file, for those who report on it.
        scales: times `size`, the sizes at which each image is run; the probabilities of all passes are averaged.
        flip: also run each scale mirrored left to right.
    """

    def __init__(
        self,
        runtime: Runtime,
        size: Size = None,
        path: Path | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        self.runtime, self.path, self.scales, self.flip = runtime, path, tuple(scales), flip
        self.size: tuple[int, int] | Literal["native"] = size or runtime.card.size
        if self.size != "native" and min(self.size) < MIN_SIDE:
            message = f"size: the network needs at least {MIN_SIDE}x{MIN_SIDE}, not {self.size[0]}x{self.size[1]}."
            raise FastSCNNError(message)
        if not self.scales:
            raise FastSCNNError("scales: at least one is needed; 1 is the input size itself.")
        for scale in self.scales:
            if not 0 < scale <= _MOST_SCALE:  # NaN, too, is refused so
                raise FastSCNNError(f"scales: each lies above 0 and at most {_MOST_SCALE}, not {scale:g}.")
            if self.size != "native":
                _scaled(self.size, scale)

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        runtime: str = "auto",
        size: Size = None,
        threads: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        precision: str = "auto",
        streams: int = 1,
    ) -> Segmenter:
        """A segmenter of a weight file.

        Args:
            weights: an .onnx or .safetensors file; None: the weights that the package carries.
            runtime: "onnx", "openvino", "torch", "cuda" or "auto", the fastest that is installed and, by the card, as good.
            size: see the class.
            threads: to compute with; None: all that the process may use.
            scales, flip: see the class.
            precision: "float32", "bfloat16", "float16", "int8" or "auto", the fastest that is, by the card, as good.
            streams: frames that `stream` works on at a time, which share `threads`: more frames, each of them later.

        Raises:
            FastSCNNError: what is wrong with the file or the arguments, or what this machine lacks for them.
        """
        path = Path(weights) if weights is not None else bundled(runtime, precision)
        return cls(runtimes.load(path, runtime, threads, precision, streams), size, path, scales, flip)

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
            FastSCNNError: an image of another dtype, shape or number of channels, or too small at one of the scales.
        """
        self._check(image)
        full = (image.shape[0], image.shape[1])
        if isinstance(self.runtime, Labeller) and len(self.scales) == 1 and not self.flip and not confidence:
            return self._on_device(self.runtime, image, full)
        seconds = {"resize": 0.0, "network": 0.0}
        passes = []
        for scale in self.scales:
            start = perf_counter()
            resized = self._resized(image, scale)
            after_resize = perf_counter()
            passes.append(self.runtime(resized[None])[0])
            if self.flip:
                passes.append(self.runtime(resized[None, :, ::-1])[0, :, :, ::-1])
            seconds["resize"] += after_resize - start
            seconds["network"] += perf_counter() - after_resize
        start = perf_counter()
        # Softmax leaves the order of the classes, so that one pass alone can take the short cut.
        mean = upsample.probabilities(passes, full) if len(passes) > 1 else None
        # On one thread: two of them gain less than waking the second costs, right behind a network that used both.
        labels = upsample.labels(passes[0], full) if mean is None else upsample.argmax(mean)
        after_labels = perf_counter()
        seconds["labels"] = after_labels - start
        probability: Float32Array | None = None
        if confidence:
            probability = upsample.confidence(passes[0], labels) if mean is None else mean.max(axis=0)
            seconds["confidence"] = perf_counter() - after_labels
        return Segmentation(labels, self.card.label_set, probability, seconds)

    def _on_device(self, runtime: Labeller, image: UInt8Array, full: tuple[int, int]) -> Segmentation:
        start = perf_counter()
        resized = self._resized(image, self.scales[0])
        after_resize = perf_counter()
        labels = runtime.labels(resized, full)
        seconds = {"resize": after_resize - start, "network": perf_counter() - after_resize, "labels": 0.0}  # one piece
        return Segmentation(labels, self.card.label_set, seconds=seconds)

    def _resized(self, image: UInt8Array, scale: float) -> UInt8Array:
        """The image as the network takes it at one of the scales."""
        return images.resize(image, _scaled(image.shape[:2] if self.size == "native" else self.size, scale))

    def stream(self, frames: Iterable[UInt8Array], realtime: bool = False) -> Iterator[tuple[UInt8Array, Segmentation]]:
        """The frames with their segmentations, in order, while a thread of its own draws the next ones.

        As many frames are worked on at a time as the segmenter was loaded with `streams`.

        Args:
            frames: images as `segment` takes them; of any length, each drawn when there is room for it.
            realtime: drop frames that come while all streams are busy, as a camera needs it; otherwise `frames` waits.

        Raises:
            What `frames` or `segment` raise, after the results of all frames before.
        """
        return ordered(self.segment, frames, self.runtime.streams, realtime)

    def _check(self, image: UInt8Array) -> None:
        channels = self.card.channels
        if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != channels:
            raise FastSCNNError(f"An image is uint8 [height, width, {channels}], not {image.dtype} {list(image.shape)}.")
        if min(image.shape[:2]) < MIN_SIDE:
            pixels = f"{image.shape[1]}x{image.shape[0]} pixels"
            raise FastSCNNError(f"The image has {pixels}; it needs at least {MIN_SIDE} a side, so make it larger.")


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size (height, width) times `scale`, in whole pixels: halves go up, as mmsegmentation's do."""
    height, width = (int(side * scale + 0.5) for side in size)
    if min(height, width) < MIN_SIDE:
        message = f"scales: {scale:g} makes {height}x{width} of {size[0]}x{size[1]}, and the network needs {MIN_SIDE} a side."
        raise FastSCNNError(message)
    return height, width
