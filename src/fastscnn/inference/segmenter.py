"""Segmenter: an image in, its full-size labels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import numpy as np

from fastscnn import backends
from fastscnn.backends import Backend, LabelBackend
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import BackendName, BoolArray, DeviceName, Float32Array, PrecisionName, UInt8Array
from fastscnn.hub.download import weight_file
from fastscnn.inference import sources
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.size import BaseSize, NetworkSize, Size, in_shape, network_scales, network_size, scaled
from fastscnn.inference.smoothing import TemporalSmoothing
from fastscnn.inference.sources import ImageSource, Pixels
from fastscnn.inference.tiles import MAX_TILED_PIXELS, MIN_TILE, Tile, tile_size, tiled
from fastscnn.media import images
from fastscnn.media.stream import ordered
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.card import Card
from fastscnn.model.weights import bundled
from fastscnn.upsampling import upsample

__all__ = ["ImageSource", "NetworkOutput", "Segmenter", "Size"]

_ENOUGH = 2  # times the network's input, the least size at which a file is decoded
_Item = TypeVar("_Item")
_Source = TypeVar("_Source", bound=ImageSource)


@dataclass(frozen=True)
class NetworkOutput:
    """The output of the network for one image.

    Attributes:
        image: uint8 [H, W, channels], the image.
        input: uint8 [h, w, channels], the network's input in the first pass.
        logits: float32 [classes, h/8, w/8] of each pass.
        size: (height, width) of the labels.
        seconds: time of each stage so far, by name.
    """

    image: UInt8Array
    input: UInt8Array
    logits: list[Float32Array]
    size: tuple[int, int]
    seconds: dict[str, float]


class Segmenter:
    """Segments images with one network on one backend.

    It can be pickled, deep-copied and sent to spawned processes, which load its weight file again.

    Args:
        backend: the network, ready to run.
        size: of the network's input. (height, width) or "HxW": exactly this size. "native": the size of each image. A
            `size.BaseSize`: about this area, in the shape of each image (`size.in_shape`). None: the card's size as the base
            size, or the only size that the file takes. Labels always have the size of the image.
        path: the weight file.
        scales: times `size`, the sizes at which each image is run; the probabilities of all passes are averaged.
        flip: also run each scale mirrored left to right.
        tile: run the network on overlapping tiles of this size, (height, width), "HxW" or "auto" for the card's size, and
            blend their logits. The image is not resized unless `size` or `scales` is given; None as the size means "native".
            Files of up to 1,000 megapixels are read; without tiles, up to 40.

    Raises:
        ArgumentError: a wrong size, scale or tile, or another size than the only one of a file (`Card.fixed_size`).
        FastSCNNError: the card's own size is below 32x32, and no other is given.

    Examples:
        >>> import fastscnn
        >>> from fastscnn.data import synthetic
        >>> image = synthetic.draw(360, 480).image  # uint8 [360, 480, 3], RGB
        >>> with fastscnn.Segmenter.load(size="360x480") as segmenter:
        ...     one = segmenter(image)
        ...     two = segmenter([image, image], confidence=True)
        >>> one.labels.shape, len(two)
        ((360, 480), 2)
    """

    def __init__(
        self,
        backend: Backend,
        size: Size = None,
        path: Path | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        tile: Tile = None,
    ) -> None:
        self._backend: Backend | None = backend
        self.path, self.flip = path, flip
        self._file = path and path.absolute()  # for copies that are made after a change of the working folder
        card = backend.card
        self.tile = tile_size(tile, card.size)
        self.size: NetworkSize = network_size(size) or ("native" if self.tile else BaseSize(*card.size))
        if self.size != "native" and min(self.size) < MIN_SIDE:
            raise FastSCNNError(f"{path or 'The weights'}: the card's input size is {hxw(card.size)}, and the "
                                f"network needs at least {MIN_SIDE}x{MIN_SIDE}; give a size.")
        self.scales = network_scales(scales, self.size, self.max_pixels)
        if card.fixed_size:
            self.size = self._fixed_size(card.fixed_size, size)

    def _fixed_size(self, fixed: tuple[int, int], asked: Size) -> tuple[int, int]:
        """Return the only input size of a file. Raise ArgumentError if the arguments need another one."""
        if (asked is not None and self.size != fixed) or self.scales != (1.0,) or self.tile:
            raise ArgumentError(f"{self.path or 'The network'}: takes images of {hxw(fixed)} only, because it was exported "
                                "with --static; omit size, scales and tile, or use a file that was exported without --static.")
        return fixed

    @classmethod
    def load(
        cls,
        weights: str | PathLike[str] | None = None,
        backend: BackendName = "auto",
        size: Size = None,
        threads: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        precision: PrecisionName = "auto",
        streams: int = 1,
        tile: Tile = None,
        device: DeviceName | None = None,
    ) -> Segmenter:
        """Return a segmenter of a weight file.

        Args:
            weights: an .onnx or .safetensors file, or an address of the Hugging Face Hub, `hf://OWNER/NAME[@REVISION][/FILE]`
                (`hub.download.weight_file`); None for the bundled weights.
            backend: "onnx", "openvino", "torch" or "cuda"; "auto" is the fastest one that is installed and keeps the
                accuracy, by the card.
            size: see the class.
            threads: CPU threads; None for all that the process may use.
            scales, flip: see the class.
            precision: "float32", "bfloat16", "float16" or "int8"; "auto" is the fastest one that keeps the accuracy.
            streams: frames that `stream` processes at the same time, which share `threads`: more frames per second, but
                each one takes longer.
            tile: see the class.
            device: where the network runs: "cpu", "cuda", "tensorrt", "coreml", "directml" or "openvino-gpu". None: "cpu", or
                "cuda" for the backend "cuda". Others than "cpu" run .onnx files with the backend "onnx", and need another
                package of ONNX Runtime (docs/deploy.md). `segmenter.backend.notes` says what does not run on the device.

        Raises:
            ArgumentError: a wrong name, size or number.
            FastSCNNError: a weight file that is missing or broken, or a backend or device that this machine does not have.

        Examples:
            >>> import fastscnn
            >>> fastscnn.Segmenter.load(backend="onnx", precision="float32", threads=1)
            Segmenter(weights='camvid.onnx', backend='onnx', precision='float32', size='360x480', threads=1)
        """
        # Loading takes seconds, so all checks that need no card come first.
        size = network_size(size)
        in_tiles = tile_size(tile, (MIN_TILE, MIN_TILE)) is not None
        scales = network_scales(scales, size, MAX_TILED_PIXELS if in_tiles else MAX_PIXELS)
        path = bundled(backend, precision, device) if weights is None else weight_file(weights, backend, precision)
        loaded = backends.load(path, backend, threads, precision, streams, device=device)
        return cls(loaded, size, path, scales, flip, tile)

    @property
    def backend(self) -> Backend:
        """The network, ready to run. Raises FastSCNNError after `close`."""
        if self._backend is None:
            raise FastSCNNError("The segmenter is closed; load another one.")
        return self._backend

    @property
    def max_pixels(self) -> int:
        """The pixels of the largest file that is read, which protects from files that fill the memory."""
        return MAX_TILED_PIXELS if self.tile else MAX_PIXELS

    @property
    def card(self) -> Card:
        """The model card of the weights."""
        return self.backend.card

    @property
    def verified(self) -> bool:
        """Whether the weights equal those that the card was written for, by its hash.

        False for ONNX files whose card has no hash: those of fastscnn 0.1, or of other tools. Damage to them is not noticed.
        """
        return self.backend.name not in ("onnx", "openvino") or bool(self.card.content_sha256)

    def close(self) -> None:
        """Release the network and its memory. The segmenter cannot be used after that; closing it again does nothing."""
        self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._backend is None:
            return "Segmenter(closed)"
        parts: dict[str, object] = {
            "weights": self.path.name if self.path else None,
            "backend": self.backend.name,
            "precision": self.backend.precision,
            "size": self.size if self.size == "native" else hxw(self.size),
            "threads": self.backend.threads,
        }
        if self.backend.device != "cpu":
            parts["device"] = self.backend.device
        if not self._single:
            parts |= {"scales": self.scales, "flip": self.flip}
        if self.tile:
            parts["tile"] = hxw(self.tile)
        if self.backend.streams > 1:
            parts["streams"] = self.backend.streams
        return f"Segmenter({', '.join(f'{name}={value!r}' for name, value in parts.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let pickle, copy and spawned processes load the same weight file with the same settings."""
        if self._file is None:
            raise FastSCNNError("This segmenter was made without a weight file and cannot be copied or sent to another "
                                "process; make one with Segmenter.load(FILE).")
        backend = self.backend
        return type(self).load, (
            self._file, backend.name, self.size, backend.threads, self.scales, self.flip, backend.precision,
            backend.streams, self.tile, backend.device,
        )  # fmt: skip

    @overload
    def __call__(
        self,
        images: ImageSource,
        confidence: bool = False,
        ood_mask: bool = False,
        bgr: bool = False,
        keep_image: bool = True,
    ) -> Segmentation: ...

    @overload
    def __call__(
        self,
        images: list[Any] | tuple[Any, ...],
        confidence: bool = False,
        ood_mask: bool = False,
        bgr: bool = False,
        keep_image: bool = True,
    ) -> list[Segmentation]: ...

    def __call__(
        self, images: Any, confidence: bool = False, ood_mask: bool = False, bgr: bool = False, keep_image: bool = True
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or each image of a list or tuple.

        Args:
            images: as `segment` accepts it, or a list or tuple of those. As many are processed at a time as the segmenter
                has streams.
            confidence, ood_mask, bgr, keep_image: see `segment`.

        Returns:
            A Segmentation; for a list or tuple, a list of them in the same order.

        Raises:
            FastSCNNError: see `segment`.
        """
        work = partial(self.segment, confidence=confidence, ood_mask=ood_mask, bgr=bgr, keep_image=keep_image)
        if isinstance(images, list | tuple):
            return [result for _, result in ordered(work, images, self.backend.streams)]
        return work(images)

    def segment(
        self,
        image: ImageSource,
        confidence: bool = False,
        ood_mask: bool = False,
        bgr: bool = False,
        keep_image: bool = True,
    ) -> Segmentation:
        """Return the class of every pixel of one image.

        Args:
            image: a path (no URL), the bytes of an image file, a binary file object, a PIL image, or an array uint8
                [H, W, channels]. The channels are RGB and the extra channels of the weights (`images.stack`). A grey array
                [H, W] is repeated to RGB. At least 32 pixels a side.
            confidence: also return the probability of each label, with the card's temperature.
            ood_mask: also return where the image shows nothing that the weights were trained on, by the card's threshold.
            bgr: the array is in OpenCV's order: blue, green, red.
            keep_image: the result holds the image, for its overlay. If False, a JPEG file of at least four times the height
                and width of the network's input is decoded at a half to an eighth of its size (`decoded_size` of the
                result).

        Raises:
            ArgumentError: an image of another type, dtype, shape or number of channels, or too small.
            FastSCNNError: a file that cannot be read, or `ood_mask` if the card has no threshold or there are several
                passes.

        Examples:
            >>> import fastscnn
            >>> from fastscnn.data import synthetic
            >>> scene = synthetic.draw()
            >>> segmentation = fastscnn.Segmenter.load().segment(scene.image)
            >>> segmentation.labels.shape == scene.labels.shape
            True
        """
        if ood_mask:
            self.check_ood()
        pixels = self._pixels(image, bgr, keep_image)
        if isinstance(self.backend, LabelBackend) and self._single and not (self.tile or confidence or ood_mask):
            result = self._on_device(self.backend, pixels)
        else:
            result = self._label(self._forward(pixels), confidence, ood_mask)
        decoded = _shape(pixels.array)
        return replace(
            result,
            stem=sources.stem(image),
            image=pixels.array if keep_image else None,
            decoded_size=None if decoded == pixels.size else decoded,
        )

    def forward(self, image: ImageSource, bgr: bool = False) -> NetworkOutput:
        """Run the network: the first half of `segment`. Raises what `segment` raises."""
        return self._forward(self._pixels(image, bgr))

    def label(self, output: NetworkOutput, confidence: bool = False, ood_mask: bool = False) -> Segmentation:
        """Make labels of the network's output: the second half of `segment`. Raises what `segment` raises."""
        if ood_mask:
            self.check_ood()
        return self._label(output, confidence, ood_mask)

    def _pixels(self, image: ImageSource, bgr: bool = False, whole: bool = True) -> Pixels:
        least = None if whole or self.tile else self._least
        return sources.pixels(image, self.card.channels, bgr, self.max_pixels, least)

    def _least(self, image: tuple[int, int]) -> tuple[int, int]:
        """Return the size that is enough for the labels of an image: below it, the labels change more than by resizing."""
        if min(image) < MIN_SIDE:  # refused soon, with a message of its own
            return image
        height, width = self.input_size(image, max(self.scales))
        return _ENOUGH * height, _ENOUGH * width

    def _forward(self, pixels: Pixels) -> NetworkOutput:
        image, seconds = pixels.array, {**pixels.seconds, "resize": 0.0, "network": 0.0}
        inputs, logits = [], []
        for scale in self.scales:
            start = perf_counter()
            inputs.append(self._resized(pixels, scale))
            after_resize = perf_counter()
            logits.append(self._run(inputs[-1]))
            if self.flip:
                logits.append(self._run(inputs[-1][:, ::-1])[:, :, ::-1])
            seconds["resize"] += after_resize - start
            seconds["network"] += perf_counter() - after_resize
        return NetworkOutput(image, inputs[0], logits, pixels.size, seconds)

    def _run(self, image: UInt8Array) -> Float32Array:
        """Return the logits of one input of the network."""
        backend = self.backend

        def network(part: UInt8Array) -> Float32Array:
            logits: Float32Array = backend(part[None])[0]
            return logits

        return tiled(network, image, self.tile) if self.tile else network(image)

    def _label(self, output: NetworkOutput, confidence: bool, ood_mask: bool) -> Segmentation:
        full, logits, seconds = output.size, output.logits, dict(output.seconds)
        start = perf_counter()
        # Softmax keeps the order of the classes, so the labels of a single pass need no probabilities.
        mean = None if self._single else self._mean(logits, full)
        # On one thread: directly after a network that used two, waking the second takes longer than it saves.
        labels = upsample.labels(logits[0], full) if mean is None else upsample.argmax(mean)
        ends = {"labels": perf_counter()}
        probability: Float32Array | None = None
        mask: BoolArray | None = None
        if confidence:
            tempered = self._tempered(logits[0])
            probability = upsample.confidence(tempered, full, self._threads) if mean is None else mean.max(axis=0)
            ends["confidence"] = perf_counter()
        if ood_mask and self.card.ood_threshold is not None:
            mask = upsample.ood_mask(logits[0], self.card.ood_threshold, full)
            ends["ood_mask"] = perf_counter()
        for stage, end in ends.items():
            seconds[stage], start = end - start, end
        return Segmentation(labels, self.card.label_set, probability, mask, output.image, seconds)

    def logits(self, image: ImageSource, bgr: bool = False) -> Float32Array:
        """Return the network's output before any further step: float32 [classes, h, w] at 1/8 of its input.

        It is that of the first scale, not mirrored. Raises what `segment` raises.
        """
        return self.forward(image, bgr).logits[0]

    def probabilities(self, image: ImageSource, seconds: dict[str, float] | None = None, bgr: bool = False) -> Float32Array:
        """Return the probability of every class at every pixel: softmax at full size, of one pass or the mean of all.

        The paper times this as "prob". Its argmax is `segment`'s labels wherever no two classes tie. The logits of a single
        pass are divided by the card's temperature first, as for the confidence.

        Args:
            image, bgr: see `segment`.
            seconds: receives the time of each stage: resize, network and probabilities.

        Returns:
            float32 [classes, H, W], 4 * classes * H * W bytes of memory: 159 MB for 19 classes at 1024x2048.

        Raises:
            FastSCNNError: see `segment`.
        """
        output = self.forward(image, bgr)
        start = perf_counter()
        result = self._mean(output.logits, output.size)
        if seconds is not None:
            seconds |= {**output.seconds, "probabilities": perf_counter() - start}
        return result

    @property
    def _single(self) -> bool:
        """Whether each image needs a single pass only."""
        return len(self.scales) == 1 and not self.flip

    @property
    def _threads(self) -> int:
        """The threads for each image, if several are processed at a time."""
        return max(1, self.backend.threads // self.backend.streams)

    def _tempered(self, logits: Float32Array) -> Float32Array:
        return logits / np.float32(self.card.temperature)

    def _mean(self, passes: list[Float32Array], full: tuple[int, int]) -> Float32Array:
        """Return probabilities [classes, H, W]. Several passes get no temperature, since their mean is softer already."""
        passes = [self._tempered(passes[0])] if self._single else passes
        return upsample.probabilities(passes, full, self._threads)

    def _on_device(self, backend: LabelBackend, pixels: Pixels) -> Segmentation:
        start = perf_counter()
        resized = self._resized(pixels, self.scales[0])
        after_resize = perf_counter()
        labels = backend.labels(resized, pixels.size)
        # The network and the labels are one step on the device.
        seconds = {**pixels.seconds, "resize": after_resize - start, "network": perf_counter() - after_resize, "labels": 0.0}
        return Segmentation(labels, self.card.label_set, seconds=seconds)

    @property
    def shape_kept(self) -> bool:
        """Whether the network's input has the shape of each image. False: it has exactly the size that was given."""
        return self.size == "native" or isinstance(self.size, BaseSize)

    def input_size(self, image: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Return the size (height, width) of the network's input for an image of (height, width), times `scale`.

        Raises:
            ArgumentError: it is below 32x32.
        """
        if self.size == "native":
            return scaled(image, scale)
        return scaled(in_shape(self.size, image) if self.shape_kept else self.size, scale)

    def _resized(self, pixels: Pixels, scale: float) -> UInt8Array:
        return images.resize(pixels.array, self.input_size(pixels.size, scale), self.max_pixels)

    def stream(
        self,
        frames: Iterable[_Source],
        realtime: bool = False,
        smoothing: bool = False,
        confidence: bool = False,
        ood_mask: bool = False,
        bgr: bool = False,
        keep_image: bool = True,
    ) -> Iterator[tuple[_Source, Segmentation]]:
        """Yield each frame with its segmentation, in order, while another thread reads the next frames.

        As many frames are processed at a time as the segmenter has streams.

        Args:
            frames: images as `segment` accepts them, of any length; each is read when there is room for it.
            realtime: drop frames that arrive while all streams are busy, as a camera needs it; otherwise `frames` waits.
            smoothing: smooth labels over time in static regions; see `smoothing.TemporalSmoothing`.
            confidence, ood_mask, bgr, keep_image: see `segment`; smoothing keeps every image.

        Raises:
            FastSCNNError: `smoothing` with several passes; or an error of `segment`. That, and what `frames` raises, comes
                after the results of all earlier frames.
        """
        if not smoothing:
            segment = partial(self.segment, confidence=confidence, ood_mask=ood_mask, bgr=bgr, keep_image=keep_image)
            return ordered(segment, frames, self.backend.streams, realtime)
        outputs = self.smoothed(ordered(partial(self.forward, bgr=bgr), frames, self.backend.streams, realtime))
        return ((frame, self.label(output, confidence, ood_mask)) for frame, output in outputs)

    def smoothed(self, outputs: Iterable[tuple[_Item, NetworkOutput]]) -> Iterator[tuple[_Item, NetworkOutput]]:
        """Yield a video's outputs, in order, smoothed over time; see `smoothing.TemporalSmoothing`.

        Raises:
            FastSCNNError: several passes a frame. It is raised at once, not with the first output.
        """
        if not self._single:
            raise FastSCNNError("smoothing: needs a single pass over each frame; omit scales and flip.")
        return _smooth(outputs)

    def check_ood(self) -> None:
        """Raise FastSCNNError if the card has no OOD threshold, or an image takes several passes."""
        if not self._single:
            raise FastSCNNError("ood_mask: its threshold holds for a single pass over each image; omit scales and flip.")
        if self.card.ood_threshold is None:
            raise FastSCNNError(f"{self.path or 'The weights'}: the card has no OOD threshold; "
                                "`fastscnn export --data` measures it on labelled images.")


def _smooth(outputs: Iterable[tuple[_Item, NetworkOutput]]) -> Iterator[tuple[_Item, NetworkOutput]]:
    smooth = TemporalSmoothing()
    for item, output in outputs:
        start = perf_counter()
        logits = [smooth(output.input, output.logits[0])]
        yield item, replace(output, logits=logits, seconds={**output.seconds, "smoothing": perf_counter() - start})


def _shape(image: UInt8Array) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
