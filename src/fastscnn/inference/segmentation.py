"""Segmentation: the labels of one image, how they are shown, and how they are saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from fastscnn.annotations.polygons import MIN_AREA, TOLERANCE, Polygon, trace
from fastscnn.base import files
from fastscnn.base.arguments import MAX_PIXELS, hxw, is_number
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.base.types import BoolArray, Float32Array, ResultName, UInt8Array
from fastscnn.data.legend import legend
from fastscnn.media import images, label_maps, png
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

_SHOWN_WIDTH = 1024  # pixels of the picture in a notebook
_OVERLAY_SIDE = 60_000  # pixels: with its legend, within the 65,500 of a JPEG
_NAMED_CLASSES = 3  # in the repr
RESULTS: Mapping[ResultName, str] = {
    "labels": ".labels.png", "overlay": ".overlay.jpg", "confidence": ".confidence.png", "ood_mask": ".ood.png",
}  # of each result, the suffix of its file


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The labels of one image.

    Attributes:
        labels: uint8 [H, W], class id of every pixel.
        label_set: the names and colours of the ids.
        confidence: float32 [H, W], probability of each label; None unless requested.
        ood_mask: bool [H, W], True where the image shows nothing that the weights were trained on; None unless requested.
        image: uint8 [H, W, channels], the segmented image, not a copy; None if unknown.
        seconds: time of each stage, by name.
        stem: file name of the results that `save` writes, without a suffix.
        decoded_size: (height, width) at which the image's file was decoded, if that is less than its own size; else None.

    Examples:
        >>> import fastscnn, numpy as np
        >>> labels = np.zeros((60, 80), np.uint8)
        >>> labels[:, 60:] = 1
        >>> segmentation = fastscnn.Segmentation(labels, fastscnn.LabelSet(("road", "car")))
        >>> segmentation
        Segmentation(60x80: road 75 %, car 25 %)
        >>> segmentation.class_percentages()
        {'road': 75.0, 'car': 25.0}
        >>> [path.name for path in segmentation.save("results", "street").values()]
        ['street.labels.png']
    """

    labels: UInt8Array
    label_set: LabelSet
    confidence: Float32Array | None = None
    ood_mask: BoolArray | None = None
    image: UInt8Array | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    stem: str = "image"
    decoded_size: tuple[int, int] | None = None

    def __repr__(self) -> str:
        percent = self.class_percentages()
        largest = [name for name in self._present(percent) if percent[name] >= 1][:_NAMED_CLASSES]
        parts = [f"{name} {percent[name]:.0f} %" for name in largest]
        parts += [name for name in ("confidence", "ood_mask") if getattr(self, name) is not None]
        size = hxw(self.labels.shape)
        return f"Segmentation({size}: {', '.join(parts)})" if parts else f"Segmentation({size})"

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook shows: the overlay, or the labels' colours if the image is unknown."""
        shown = self.colours() if self.image is None else self.overlay()
        height, width = shown.shape[:2]
        if width > _SHOWN_WIDTH:
            shown = images.resize(shown, (max(1, round(height * _SHOWN_WIDTH / width)), _SHOWN_WIDTH))
        return png.encoded(shown)

    def class_percentages(self) -> dict[str, float]:
        """Return the percentage of the pixels by class name, for every class."""
        counts = label_maps.counts(self.labels).tolist()
        return {name: 100 * count / self.labels.size for name, count in zip(self.label_set.names, counts, strict=False)}

    def colours(self) -> UInt8Array:
        """Return the labels in their classes' colours, uint8 [H, W, 3] RGB."""
        return label_maps.painted(self.labels, self.label_set.palette())

    def polygons(self, tolerance: float = TOLERANCE, min_area: int = MIN_AREA) -> list[Polygon]:
        """Return the outlines of the connected regions of each class, the largest first; see `annotations.polygons.trace`.

        Pixels of the OOD mask are in no polygon.

        Args:
            tolerance: largest distance of the outlines from the exact ones, in pixels; 0 keeps them exact.
            min_area: a region of fewer pixels becomes part of a neighbour.
        """
        labels = self.labels if self.ood_mask is None else np.where(self.ood_mask, np.uint8(IGNORE_INDEX), self.labels)
        return trace(labels, tolerance, min_area)

    @staticmethod
    def _present(percent: Mapping[str, float]) -> list[str]:
        """Return the classes that have pixels, the largest first."""
        return sorted((name for name in percent if percent[name] > 0), key=lambda name: -percent[name])

    def overlay(self, image: UInt8Array | None = None, opacity: float = 0.55) -> UInt8Array:
        """Return the image blended with its labels' colours, above a legend of the classes present.

        Over 40 megapixels, or 60,000 pixels a side, image and labels are first reduced to these limits.

        Args:
            image: uint8 [H, W, 3] RGB or [H, W] grey of the labels' size, extra channels are ignored; None for the
                segmented image.
            opacity: of the colours, from 0 to 1.

        Returns:
            uint8 [H + legend, W, 3] RGB; smaller for images over the limits.

        Raises:
            FastSCNNError: the image is unknown, or its size or type is wrong.
        """
        percent = self.class_percentages()
        texts = {name: f"{name} {percent[name]:.0f} %" if percent[name] >= 1 else f"{name} < 1 %"
                 for name in self._present(percent)}
        shown = self._reduced(image)
        height, width = shown.labels.shape
        strip = legend(self.label_set, texts, width)
        result = np.empty((height + len(strip), width, 3), np.uint8)
        shown.blend(opacity=opacity, result=result[:height])
        result[height:] = strip
        return result

    def _reduced(self, image: UInt8Array | None) -> Segmentation:
        """Return the labels, mask and image within the limits of an overlay: every nth pixel, n in fractions."""
        rgb = self._rgb(self.image if image is None else image)
        height, width = self.labels.shape
        scale = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5, _OVERLAY_SIDE / max(height, width))
        if scale == 1:
            return replace(self, image=rgb)
        rows, columns = (((np.arange(max(1, int(scale * side))) + 0.5) / scale).astype(int) for side in (height, width))
        mask = None if self.ood_mask is None else self.ood_mask[rows[:, None], columns]
        labels, rgb = self.labels[rows[:, None], columns], rgb[rows[:, None], columns]
        return replace(self, labels=labels, image=rgb, ood_mask=mask)

    def blend(
        self, image: UInt8Array | None = None, opacity: float = 0.55, result: UInt8Array | None = None
    ) -> UInt8Array:
        """Return the image blended with its labels' colours, without a legend: uint8 [H, W, 3] RGB.

        Pixels of the OOD mask, if there is one, keep the image's own colours.

        Args:
            image, opacity: as for `overlay`; the errors are those of `overlay`, too.
            result: uint8 [H, W, 3] to fill, contiguous and not the image itself; None for a new one.
        """
        if not is_number(opacity) or not 0 <= opacity <= 1:
            raise ArgumentError(f"opacity: must be a number from 0 to 1, not {opacity!r}.")
        rgb = self._rgb(self.image if image is None else image)
        if result is None:
            result = np.empty_like(rgb)
        fills = result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable
        if result.shape != rgb.shape or not fills or np.may_share_memory(result, rgb):
            raise ArgumentError(f"result: must be uint8 {list(rgb.shape)}, contiguous, writeable and not the image itself.")
        label_maps.blend(rgb, self.labels, self.label_set.palette(), opacity, result)
        if self.ood_mask is not None:
            np.copyto(result, rgb, where=self.ood_mask[..., None])
        return result

    def _rgb(self, image: UInt8Array | None) -> UInt8Array:
        """Return the first three channels of an image of the labels' size."""
        if image is None:
            raise FastSCNNError("The image of these labels is unknown; give it: overlay(image).")
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] < 3 or image.dtype != np.uint8:
            raise ArgumentError(f"The image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}.")
        if image.shape[:2] != self.labels.shape:
            sizes = [hxw(shape) for shape in (image.shape[:2], self.labels.shape)]
            raise ArgumentError(f"The image is {sizes[0]} (HxW) and its labels are {sizes[1]}; they must have the same size.")
        return np.ascontiguousarray(image[:, :, :3])

    def save(
        self,
        folder: str | PathLike[str],
        stem: str | None = None,
        what: Collection[ResultName] | None = None,
        palette: bool = False,
    ) -> dict[ResultName, Path]:
        """Write results to a folder. Old files are replaced.

        Args:
            folder: where to write; it is created if it is missing.
            stem: file name without suffixes; None for the stem of the image's file, or "image".
            what: some of "labels", "overlay", "confidence" and "ood_mask"; None for all that there is.
            palette: see `save_labels`.

        Returns:
            The files written: "labels" (STEM.labels.png), "overlay" (STEM.overlay.jpg, if the image is known), "confidence"
            (STEM.confidence.png) and "ood_mask" (STEM.ood.png), if requested from the segmenter.

        Raises:
            ArgumentError: a stem that is empty or names another folder, or an unknown result.
            FastSCNNError: a result that there is not, or a file that cannot be written.
        """
        name = self.stem if stem is None else stem
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ArgumentError(f"stem: must be a file name without a folder, not {name!r}.")
        return self.save_files(files.expand(folder) / name, self.results() if what is None else what, palette)

    def results(self) -> tuple[ResultName, ...]:
        """Return the names of all results that can be saved."""
        there = {"labels": True, "overlay": self.image is not None, "confidence": self.confidence is not None,
                 "ood_mask": self.ood_mask is not None}
        return tuple(name for name in RESULTS if there[name])

    def save_files(self, result: Path, what: Collection[ResultName], palette: bool = False) -> dict[ResultName, Path]:
        """Write results, as `save` does; return the files written.

        Args:
            result: path of the files without their suffixes, such as results/street.
            what, palette: as for `save`.

        Raises:
            ArgumentError: an unknown result.
            FastSCNNError: a result that there is not, or a file that cannot be written.
        """
        wanted: tuple[str, ...] = (what,) if isinstance(what, str) else tuple(what)
        for word in wanted:
            if word not in RESULTS:
                raise unknown("result", word, RESULTS)
        written = {name: result.with_name(result.name + suffix) for name, suffix in RESULTS.items() if name in wanted}
        writers: Mapping[ResultName, Callable[[Path], None]] = {
            "labels": lambda path: self.save_labels(path, palette),
            "overlay": lambda path: images.write(path, self.overlay()),
            "confidence": self.save_confidence,
            "ood_mask": self.save_ood_mask,
        }
        for name, path in written.items():
            writers[name](path)
        return written

    def save_labels(self, path: str | PathLike[str], palette: bool = False) -> None:
        """Write the labels as an 8-bit PNG of class ids.

        Args:
            path: the file.
            palette: write an indexed PNG with the colours of the classes, which viewers show in colour. Its indices are the
                ids: Pillow reads them, but OpenCV reads the colours.
        """
        path = files.expand(path)
        if path.suffix.lower() != ".png":
            raise FastSCNNError(f"{path}: labels are written as .png, which changes no id.")
        files.write(path, png.encoded(self.labels, self.label_set.palette() if palette else None), durable=False)

    def save_confidence(self, path: str | PathLike[str]) -> None:
        """Write the confidence as an 8-bit grey PNG: 255 times the probability.

        Raises:
            FastSCNNError: there is no confidence, or the file cannot be written.
        """
        if self.confidence is None:
            raise FastSCNNError(f"{path}: there is no confidence to save; segment with confidence=True.")
        values = 255 * self.confidence
        images.write(files.expand(path), np.rint(values, out=values).astype(np.uint8))

    def save_ood_mask(self, path: str | PathLike[str]) -> None:
        """Write the OOD mask as an 8-bit grey PNG: 255 where it is True, else 0.

        Raises:
            FastSCNNError: there is no OOD mask, or the file cannot be written.
        """
        if self.ood_mask is None:
            raise FastSCNNError(f"{path}: there is no OOD mask to save; segment with ood_mask=True.")
        images.write(files.expand(path), np.where(self.ood_mask, np.uint8(255), np.uint8(0)))
