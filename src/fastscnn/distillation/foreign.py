"""An ONNX file of another network, run as its description says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastscnn.backends.foreign_onnx import ForeignOnnx
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.distillation.description import Description
from fastscnn.inference.size import NetworkSize, scaled
from fastscnn.media import images
from fastscnn.upsampling import upsample

_LEAST = 1e-12  # probability whose logarithm is taken instead of that of 0
_TOLERANCE = 0.02  # of the sum of probabilities; float16 needs it


class TeacherError(FastSCNNError):
    """The network does not fit its description, so that no image can be used."""


class ForeignNetwork:
    """A described network.

    Args:
        given: the description.
        size: of the input, (height, width) or "native".
        threads: number of CPU threads.
        scales, flip: as in `Segmenter`.

    Raises:
        FastSCNNError: an ONNX file that is missing, broken, or does not fit.
    """

    def __init__(self, given: Description, size: NetworkSize, threads: int, scales: Sequence[float], flip: bool) -> None:
        self.given, self.size, self.threads, self.scales, self.flip = given, size, threads, scales, flip
        try:
            self._network = ForeignOnnx(given.model, threads, given.output_name)
        except FastSCNNError as error:
            raise FastSCNNError(f"{given.path}: {error}") from error
        batch, channels, self._height, self._width = self._planes(self._network.shape)
        if batch not in (None, 1) or channels not in (None, 3):
            raise FastSCNNError(f"{given.model}: takes {_shape(self._network.shape)}, which is not one image of 3 channels in "
                                f"the layout {given.layout!r}; correct layout in {given.path}, or export it with a batch of 1.")
        if size != "native":
            self._check(size)

    def probabilities(self, image: UInt8Array) -> Float32Array:
        """Return the probability of each class: the mean of all passes, interpolated bilinearly before the softmax.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            float32 [C, h, w]; h is the larger one of H and the heights of the network's outputs, w likewise.

        Raises:
            TeacherError: the network does not fit its description.
            ArgumentError: an input below 32x32.
        """
        passes = []
        for scale in self.scales:
            values = self._input(image, scale)
            passes.append(self._logits(values))
            if self.flip:
                passes.append(self._logits(values[:, ::-1])[:, :, ::-1])
        sizes = [image.shape[:2], *(logits.shape[1:] for logits in passes)]
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        return upsample.probabilities(passes, (height, width), self.threads)

    def _input(self, image: UInt8Array, scale: float) -> Float32Array:
        """Return the network's input, float32 [h, w, 3]."""
        height, width = scaled((image.shape[0], image.shape[1]) if self.size == "native" else self.size, scale)
        if self.size == "native":
            height, width = (-(-side // self.given.multiple) * self.given.multiple for side in (height, width))
        self._check((height, width))
        pixels = images.resize(image, (height, width), MAX_PIXELS)
        channels = pixels if self.given.order == "rgb" else pixels[:, :, ::-1]
        mean, std = np.array(self.given.mean, np.float32), np.array(self.given.std, np.float32)
        return (channels.astype(np.float32) - mean) / std

    def _check(self, size: tuple[int, int]) -> None:
        """Raise TeacherError if the ONNX file is made for another size only."""
        if self._height not in (None, size[0]) or self._width not in (None, size[1]):
            only = f"{self._height or 'H'}x{self._width or 'W'}"
            raise TeacherError(f"{self.given.model}: takes {only} only, not {hxw(size)}; use that size, without scales, or "
                               "export it with a dynamic height and width.")

    def _logits(self, values: Float32Array) -> Float32Array:
        """Return the logits of an input [h, w, 3], float32 [C, h, w] of any h and w."""
        given, classes = self.given, len(self.given.classes)
        batch = values[None] if given.layout == "nhwc" else values.transpose(2, 0, 1)[None]
        try:
            found = self._network(batch)
        except FastSCNNError as error:
            raise TeacherError(str(error)) from error
        if found.ndim != 4 or len(found) != 1:
            raise TeacherError(f"{given.model}: its output is {_shape(found.shape)}, not one image of {classes} channels; "
                               f"choose another one by output_name in {given.path}.")
        planes = found[0] if given.output_layout == "nchw" else found[0].transpose(2, 0, 1)
        if len(planes) != classes:
            raise TeacherError(f"{given.path}: classes has {classes} names, but the output of {given.model} "
                               f"is {_shape(found.shape)} in the layout {given.output_layout!r}; correct classes or "
                               "output_layout.")
        planes = np.ascontiguousarray(planes)
        if not np.isfinite(planes).all():
            raise TeacherError(f"{given.model}: its output contains NaN or infinity; correct mean and std in {given.path}, or "
                               "use other weights.")
        return self._as_logits(planes)

    def _as_logits(self, planes: Float32Array) -> Float32Array:
        """Return logits as they are, and probabilities as their logarithms, whose softmax they are."""
        sums_to_1 = bool(planes.min() >= 0 and np.abs(planes.sum(axis=0) - 1).max() <= _TOLERANCE)
        if sums_to_1 != (self.given.output == "probabilities"):
            fix = ('are probabilities; write output = "probabilities"' if sums_to_1 else
                   'are not probabilities, which add up to 1; write output = "logits"')
            raise TeacherError(f"{self.given.path}: the values of {self.given.model} {fix}.")
        return np.log(np.maximum(planes, np.float32(_LEAST))) if sums_to_1 else planes

    def _planes(self, shape: Sequence[int | None]) -> tuple[int | None, int | None, int | None, int | None]:
        """Return a shape of the input as (batch, channels, height, width)."""
        batch, *rest = shape
        channels, height, width = rest if self.given.layout == "nchw" else (rest[2], *rest[:2])
        return batch, channels, height, width


def _shape(shape: Sequence[int | None]) -> str:
    """Return a shape in words; `?` where any number is accepted."""
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"
