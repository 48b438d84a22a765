"""Segmenter: an image in, its full-size labels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeVar

import numpy as np

from fastscnn import backends
from fastscnn.backends import Backend, LabelBackend
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BoolArray, Float32Array, UInt8Array
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.smoothing import TemporalSmoothing
from fastscnn.media import images
from fastscnn.media.stream import ordered
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.card import Card
from fastscnn.model.weights import bundled
from fastscnn.upsampling import upsample

Size = tuple[int, int] | Literal["native"] | None
_Item = TypeVar("_Item")
_MOST_SCALE = 16


@dataclass(frozen=True)
class NetworkOutput:
    """What a network gave for an image.

    Attributes:
        input: uint8 [h, w, channels], what it saw in the first pass.
        logits: of each pass, float32 [classes, h/8, w/8].
        seconds: time of each stage so far, by name.
    """

    input: UInt8Array
    logits: list[Float32Array]
    seconds: dict[str, float]


class Segmenter:
    """Labels images with one network on one engine.

    Args:
        backend: the network, ready to run.
        size: of the network's input: None for the card's own, "native" for each image's, or (height, width).
            Labels come at the image's size whatever it is.
        path: the weight file, for those who report on it.
        scales: times `size`, the sizes at which each image is run; the probabilities of all passes are averaged.
        flip: also run each scale mirrored left to right.
    """

    def __init__(
        self,
        backend: Backend,
        size: Size = None,
        path: Path | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        self.backend, self.path, self.scales, self.flip = backend, path, tuple(scales), flip
        self.size: tuple[int, int] | Literal["native"] = size or backend.card.size
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
        backend: str = "auto",
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
            backend: "onnx", "openvino", "torch", "cuda" or "auto", the fastest that is installed and, by the card, as good.
            size: see the class.
            threads: to compute with; None: all that the process may use.
            scales, flip: see the class.
            precision: "float32", "bfloat16", "float16", "int8" or "auto", the fastest that is, by the card, as good.
            streams: frames that `stream` works on at a time, which share `threads`: more frames, each of them later.

        Raises:
            FastSCNNError: what is wrong with the file or the arguments, or what this machine lacks for them.
        """
        path = Path(weights) if weights is not None else bundled(backend, precision)
        return cls(backends.load(path, backend, threads, precision, streams), size, path, scales, flip)

    @property
    def card(self) -> Card:
        """What the weights say of themselves."""
        return self.backend.card

    def segment(self, image: UInt8Array, confidence: bool = False, unknown: bool = False) -> Segmentation:
        """The class of every pixel.

        Args:
            image: uint8 [H, W, channels], RGB and what else the weights were trained on (`images.stack`), at least 32 pixels
                a side.
            confidence: also give the probability of each label, with the card's temperature.
            unknown: also say where nothing is seen that the weights know well, by the card's threshold.

        Raises:
            FastSCNNError: an image of another dtype, shape or number of channels, too small at one of the scales, or `unknown`
                where the card has no threshold or there are several passes.
        """
        self._check(image, unknown)
        if isinstance(self.backend, LabelBackend) and self._single and not confidence and not unknown:
            return self._on_device(self.backend, image, (image.shape[0], image.shape[1]))
        return self.label(image, self.forward(image), confidence, unknown)

    def forward(self, image: UInt8Array) -> NetworkOutput:
        """The first half of `segment`, the network. Raises what that raises."""
        self._check(image)
        seconds = {"resize": 0.0, "network": 0.0}
        inputs, logits = [], []
        for scale in self.scales:
            start = perf_counter()
            inputs.append(self._resized(image, scale))
            after_resize = perf_counter()
            logits.append(self.backend(inputs[-1][None])[0])
            if self.flip:
                logits.append(self.backend(inputs[-1][None, :, ::-1])[0, :, :, ::-1])
            seconds["resize"] += after_resize - start
            seconds["network"] += perf_counter() - after_resize
        return NetworkOutput(inputs[0], logits, seconds)

    def label(self, image: UInt8Array, passes: NetworkOutput, confidence: bool = False, unknown: bool = False) -> Segmentation:
        """The second half of `segment`: what the logits of all passes say of an image. Raises what that raises."""
        self._check(image, unknown)
        full, logits, seconds = (image.shape[0], image.shape[1]), passes.logits, dict(passes.seconds)
        start = perf_counter()
        # Softmax leaves the order of the classes, so that one pass alone can take the short cut.
        mean = None if self._single else self._mean(logits, full)
        # On one thread: two of them gain less than waking the second costs, right behind a network that used both.
        labels = upsample.labels(logits[0], full) if mean is None else upsample.argmax(mean)
        stages = {"labels": perf_counter()}
        probability: Float32Array | None = None
        strange: BoolArray | None = None
        if confidence:
            tempered = self._tempered(logits[0])
            probability = upsample.confidence(tempered, full, self._threads) if mean is None else mean.max(axis=0)
            stages["confidence"] = perf_counter()
        if unknown and self.card.ood_threshold is not None:
            strange = upsample.unknown(logits[0], self.card.ood_threshold, full)
            stages["unknown"] = perf_counter()
        for stage, end in stages.items():
            seconds[stage], start = end - start, end
        return Segmentation(labels, self.card.label_set, probability, strange, seconds)

    def logits(self, image: UInt8Array) -> Float32Array:
        """What the network gives for an image, before anything is made of it: float32 [classes, h, w] at 1/8 of its input.

        Of the first scale, not mirrored. Raises FastSCNNError as `segment`.
        """
        return self.forward(image).logits[0]

    def probabilities(self, image: UInt8Array, seconds: dict[str, float] | None = None) -> Float32Array:
        """The probability of every class at every pixel: softmax at full size, of one pass or the mean of all.

        This is what the paper times as "prob". Where no two classes tie, its argmax over the classes is `segment`'s labels. Of
        one pass the logits are divided by the card's temperature first, as for the confidence.

        Args:
            image: as `segment` takes it.
            seconds: receives those of the stages: resize, network and probabilities.

        Returns:
            float32 [classes, H, W], 4 * classes * H * W bytes of memory: 159 MB for 19 classes at 1024x2048.

        Raises:
            FastSCNNError: as `segment`.
        """
        passes = self.forward(image)
        start = perf_counter()
        result = self._mean(passes.logits, (image.shape[0], image.shape[1]))
        if seconds is not None:
            seconds |= {**passes.seconds, "probabilities": perf_counter() - start}
        return result

    @property
    def _single(self) -> bool:
        """Whether an image takes one pass."""
        return len(self.scales) == 1 and not self.flip

    @property
    def _threads(self) -> int:
        """Threads of each of the images in the making, for what takes long enough to share."""
        return max(1, self.backend.threads // self.backend.streams)

    def _tempered(self, logits: Float32Array) -> Float32Array:
        return logits / np.float32(self.card.temperature)

    def _mean(self, passes: list[Float32Array], full: tuple[int, int]) -> Float32Array:
        """Probabilities [classes, H, W]; of several passes without the temperature, since their mean is softer by itself."""
        passes = [self._tempered(passes[0])] if self._single else passes
        return upsample.probabilities(passes, full, self._threads)

    def _on_device(self, backend: LabelBackend, image: UInt8Array, full: tuple[int, int]) -> Segmentation:
        start = perf_counter()
        resized = self._resized(image, self.scales[0])
        after_resize = perf_counter()
        labels = backend.labels(resized, full)
        seconds = {"resize": after_resize - start, "network": perf_counter() - after_resize, "labels": 0.0}  # one piece
        return Segmentation(labels, self.card.label_set, seconds=seconds)

    def _resized(self, image: UInt8Array, scale: float) -> UInt8Array:
        """The image as the network takes it at one of the scales."""
        return images.resize(image, _scaled(image.shape[:2] if self.size == "native" else self.size, scale))

    def stream(
        self,
        frames: Iterable[UInt8Array],
        realtime: bool = False,
        steady: bool = False,
        confidence: bool = False,
        unknown: bool = False,
    ) -> Iterator[tuple[UInt8Array, Segmentation]]:
        """The frames with their segmentations, in order, while a thread of its own draws the next ones.

        As many frames are worked on at a time as the segmenter was loaded with `streams`.

        Args:
            frames: images as `segment` takes them; of any length, each drawn when there is room for it.
            realtime: drop frames that come while all streams are busy, as a camera needs it; otherwise `frames` waits.
            steady: let earlier frames count where the picture stays the same, against flicker; see `steady.TemporalSmoothing`.
            confidence, unknown: as `segment` takes them.

        Raises:
            What `frames` or `segment` raise, after the results of all frames before; FastSCNNError where `steady` is asked of
            several passes.
        """
        if not steady:
            segment = partial(self.segment, confidence=confidence, unknown=unknown)
            return ordered(segment, frames, self.backend.streams, realtime)
        passes = self.steadied(ordered(self.forward, frames, self.backend.streams, realtime))
        return ((image, self.label(image, each, confidence, unknown)) for image, each in passes)

    def steadied(self, passes: Iterable[tuple[_Item, NetworkOutput]]) -> Iterator[tuple[_Item, NetworkOutput]]:
        """The passes of a video's frames, in their order, with what earlier frames say; see `steady.TemporalSmoothing`.

        Raises:
            FastSCNNError: of several passes a frame, before the first is drawn.
        """
        if not self._single:
            raise FastSCNNError("steady: takes one pass over each frame; leave scales and flip out.")
        return self._steadied(passes, TemporalSmoothing())

    @staticmethod
    def _steadied(
        passes: Iterable[tuple[_Item, NetworkOutput]], steady: TemporalSmoothing
    ) -> Iterator[tuple[_Item, NetworkOutput]]:
        for item, each in passes:
            start = perf_counter()
            logits = [steady(each.input, each.logits[0])]
            yield item, NetworkOutput(each.input, logits, {**each.seconds, "steady": perf_counter() - start})

    def check_ood(self) -> None:
        """Raises FastSCNNError where the card has no threshold for what is unknown, or an image takes several passes."""
        if not self._single:
            raise FastSCNNError("unknown: its threshold is that of one pass over each image; leave scales and flip out.")
        if self.card.ood_threshold is None:
            raise FastSCNNError(f"{self.path or 'The weights'}: the card has no threshold for what is unknown; "
                                "`fastscnn export --data` finds it on labelled images.")

    def _check(self, image: UInt8Array, unknown: bool = False) -> None:
        if unknown:
            self.check_ood()
        channels = self.card.channels
        if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != channels:
            cure = ""
            if image.ndim == 3 and image.shape[2] == 3 < channels:
                cure = f" The weights were trained on {channels - 3} more behind RGB: put them there by `images.stack`."
            elif image.ndim == 3 and image.shape[2] > channels == 3:
                cure = " The weights know RGB alone: give image[:, :, :3]."
            raise FastSCNNError(f"An image is uint8 [height, width, {channels}], not {image.dtype} {list(image.shape)}.{cure}")
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
