"""What a Segmenter accepts as an image, and its conversion to one array."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.base.errors import ArgumentError
from fastscnn.base.types import UInt8Array
from fastscnn.media import images
from fastscnn.model.architecture import MIN_SIDE

ImageSource = images.Source | UInt8Array


class Pixels(NamedTuple):
    """An image as the network's channels.

    Attributes:
        array: uint8 [H, W, channels]; of a file that was decoded at a fraction of its size, smaller.
        size: (height, width) of the image.
        seconds: "decode", for an image that is a file.
    """

    array: UInt8Array
    size: tuple[int, int]
    seconds: dict[str, float]


def pixels(
    source: ImageSource,
    channels: int,
    bgr: bool = False,
    max_pixels: int = MAX_PIXELS,
    least: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> Pixels:
    """Return an image as the network's channels, checked.

    Args:
        source: a path, bytes, a binary file object, a PIL image, or an array uint8 [H, W, channels]. A grey array [H, W]
            is repeated to RGB, as a grey file is.
        channels: of the network's input.
        bgr: arrays have OpenCV's order: blue, green, red. Other sources are not affected.
        max_pixels: of a file; larger ones are refused before they are decoded.
        least: (height, width) of a file -> the size that is enough; see `images.read_reduced`. None: its own size.

    Returns:
        The pixels, RGB first. An array is not copied if it has this form already.

    Raises:
        ArgumentError: another type, dtype, shape or number of channels, or fewer than 32 pixels a side.
        FastSCNNError: an error of `images.read`.
    """
    start = perf_counter()
    image, size = _array(source, channels, max_pixels, least)
    seconds = {"decode": perf_counter() - start} if is_file(source) else {}
    if bgr and source is image:
        image = image[:, :, ::-1] if channels == 3 else np.dstack([image[:, :, 2::-1], image[:, :, 3:]])
    return Pixels(image, size, seconds)


def is_file(source: object) -> bool:
    """Return whether an image has to be decoded: a path, bytes, a file object or a PIL image."""
    named = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)
    return named or hasattr(source, "read") or _is_pil(source)


def stem(source: ImageSource) -> str:
    """Return the name for the results of an image: the stem of its file name, or "image"."""
    return Path(images.file_name(source) or "image").stem


def _array(
    source: ImageSource, channels: int, max_pixels: int, least: Callable[[tuple[int, int]], tuple[int, int]] | None
) -> tuple[UInt8Array, tuple[int, int]]:
    size: tuple[int, ...] | None = None
    if isinstance(source, np.ndarray):
        grey = source.ndim == 2 and source.dtype == np.uint8 and channels == 3
        image = np.repeat(source[:, :, None], 3, axis=2) if grey else source
    elif source is None:
        raise ArgumentError("An image is needed, not None, which is what cv2.imread returns for a file that it cannot read.")
    elif is_file(source):
        if least is None:
            image = images.read(source, max_pixels)
        else:
            image, size = images.read_reduced(source, least, max_pixels)
    else:
        raise ArgumentError(f"An image is a path, bytes, a binary file object, a PIL image, or an array uint8 [height, width, "
                            f"{channels}], not {type(source).__name__}.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
        raise ArgumentError(f"An image is uint8 [height, width, {channels}], not {image.dtype} {list(image.shape)}."
                            f"{_fix(image, channels)}")
    height, width = size or image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ArgumentError(f"The image is {height}x{width} (HxW) and needs at least {MIN_SIDE} pixels a side; enlarge it.")
    return image, (height, width)


def _is_pil(source: object) -> bool:
    return hasattr(source, "getexif")


def _fix(image: UInt8Array, channels: int) -> str:
    """Return the sentence that says how to fix an array of the wrong kind, or ""."""
    if image.ndim == 4:
        return " Give several images as a list."
    if image.ndim == 3 and image.shape[2] == 3 < channels:
        return f" The weights need {channels - 3} more channels behind RGB: add them with images.stack."
    if image.ndim == 3 and image.shape[2] > channels == 3:
        return " The weights use RGB only: give image[:, :, :3]."
    if np.issubdtype(image.dtype, np.floating):
        return " Convert values from 0 to 1 with (255 * image).round().astype(np.uint8)."
    return ""
