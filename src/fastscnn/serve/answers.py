"""The answer to an image: class percentages, labels or an overlay, in the type that the client accepts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from fastscnn.annotations import rle
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import jpeg, png

JSON, PNG, JPEG = TYPES = ("application/json", "image/png", "image/jpeg")
Shapes = Literal["none", "rle", "polygons"]
_DECIMALS = 3
_QUALITY = 92  # of a JPEG


class Region(BaseModel):
    """A class, or one region of it."""

    label: str = Field(description="Name of the class.")
    id: int = Field(description="Id of the class.")
    rle: dict[str, Any] | None = Field(default=None, description="Mask of the class in COCO's run-length encoding.")
    polygon: list[tuple[float, float]] | None = Field(
        default=None, description="Outline of a region: x and y of each corner, in pixels."
    )


class Answer(BaseModel):
    """What the network sees in an image."""

    size: tuple[int, int] = Field(description="Height and width of the image.")
    class_percentages: dict[str, float] = Field(description="Percentage of the pixels of each class.")
    confidence: float | None = Field(default=None, description="Mean probability of the labels, from 0 to 1, if requested.")
    regions: list[Region] | None = Field(default=None, description="Masks or outlines, if requested.")
    milliseconds: dict[str, float] = Field(description="Time of each stage.")
    backend: str
    precision: str
    device: str
    verified: bool = Field(description="Whether the weights equal those that their card was written for, by its hash.")


def accepted(accept: str) -> str | None:
    """Return the type of the answer for an Accept header (RFC 9110, 12.5.1); None if it accepts none of `TYPES`.

    The type with the highest weight, of equal ones the first in `TYPES`, so JSON if there is no header.

    Examples:
        >>> accepted("image/*;q=0.8, image/jpeg"), accepted("*/*"), accepted("text/html")
        ('image/jpeg', 'application/json', None)
    """
    weights = {kind: _weight(accept or "*/*", kind) for kind in TYPES}
    best = max(TYPES, key=lambda kind: weights[kind])
    return best if weights[best] > 0 else None


def _weight(accept: str, kind: str) -> float:
    """Return the weight that an Accept header gives a type: that of the most specific range that matches it."""
    found = (-1, 0.0)
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        matches = {"*/*": 0, f"{kind.partition('/')[0]}/*": 1, kind: 2}
        if name in matches:
            found = max(found, (matches[name], _quality(parameters)))
    return found[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def encoded(segmentation: Segmentation, kind: str, shapes: Shapes, segmenter: Segmenter) -> bytes:
    """Return the body of an answer.

    Args:
        segmentation: of the image, with its confidence if the client wants it; for an overlay, with the image.
        kind: one of `TYPES`. PNG: the labels, or 255 times the confidence; JPEG: the overlay.
        shapes: what JSON contains of the regions.
        segmenter: names backend and precision.
    """
    if kind == JPEG:
        return jpeg.encoded(segmentation.overlay(), _QUALITY)
    if kind == PNG and segmentation.confidence is not None:
        return png.encoded(np.rint(255 * segmentation.confidence).astype(np.uint8))
    if kind == PNG:
        return png.encoded(segmentation.labels)
    return _described(segmentation, shapes, segmenter).model_dump_json(exclude_none=True).encode()


def _described(segmentation: Segmentation, shapes: Shapes, segmenter: Segmenter) -> Answer:
    percentages, confidence = segmentation.class_percentages(), segmentation.confidence
    height, width = segmentation.labels.shape
    return Answer(
        size=(height, width),
        class_percentages={name: round(percent, _DECIMALS) for name, percent in percentages.items()},
        confidence=None if confidence is None else round(float(confidence.mean()), _DECIMALS + 1),
        regions=None if shapes == "none" else _regions(segmentation, shapes),
        milliseconds={stage: round(1e3 * seconds, _DECIMALS) for stage, seconds in segmentation.seconds.items()},
        backend=segmenter.backend.name,
        precision=segmenter.backend.precision,
        device=segmenter.backend.device,
        verified=segmenter.verified,
    )


def _regions(segmentation: Segmentation, shapes: Shapes) -> list[Region]:
    names, labels = segmentation.label_set.names, segmentation.labels
    if shapes == "rle":
        return [Region(label=names[number], id=number, rle=rle.encode(labels == number))
                for number in np.unique(labels).tolist()]
    return [Region(label=names[each.label], id=each.label, polygon=each.points.tolist()) for each in segmentation.polygons()]
