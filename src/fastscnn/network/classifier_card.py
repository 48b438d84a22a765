"""The model card of an image classifier. Its weights initialise a segmentation network and cannot segment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastscnn.base.arguments import MAX_PIXELS
from fastscnn.model.card import (
    MAX_CHANNELS,
    MAX_WIDTH_MULT,
    Data,
    extra,
    read_recipe,
    stored_recipe,
    without_extension,
)
from fastscnn.model.card_fields import Fields, parse
from fastscnn.version import __version__

KEY = "fastscnn.classifier"  # metadata key in the file; segmentation networks have `card.KEY`


@dataclass(frozen=True)
class ClassifierCard:
    """Description of the weights of one classifier.

    Attributes:
        classes: class names, in the order of the logits.
        size: (height, width) of the input, a centre crop of the resized image.
        shorter: length to which the shorter side of the image is resized before the crop, in pixels.
        variant: variant of the network, a name in `architecture.VARIANTS`.
        channels: channels of the image.
        width_mult: factor of the network's channels; 1 is the paper's network.
        data: the training data; None if unknown.
        recipe: every field of the training recipe.
        metrics: split -> top1 and top5 accuracy in percent.
        parameters_sha256: hash of the tensors.
        version: version of fastscnn that wrote the file.
        extra: fields of a newer version, kept as they were read.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    shorter: int
    variant: str = "paper"
    channels: int = 3
    width_mult: float = 1.0
    data: Data | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parameters_sha256: str = ""
    version: str = __version__
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the card as one JSON object that fastscnn 0.1 reads, too; see the module `model.card`."""
        return json.dumps({
            "classes": self.classes,
            "size": self.size,
            "shorter": self.shorter,
            "variant": self.variant,
            "channels": self.channels,
            "width": self.width_mult,
            "data": self.data and self.data.to_dict(),
            "recipe": stored_recipe(self.recipe, self.extra),
            "metrics": self.metrics,
            "parameters_sha256": self.parameters_sha256,
            "version": self.version,
            **without_extension(self.extra),
        })

    @classmethod
    def from_json(cls, text: str, source: Path) -> ClassifierCard:
        """Parse the output of `to_json`, of this version or of another.

        Args:
            text: JSON.
            source: the file to name in errors.

        Raises:
            FastSCNNError: not JSON, a newer schema, or a field that is missing or malformed; it names file and field.
        """
        fields = parse(text, source)
        recipe, extension = read_recipe(fields)
        width = "width_mult" if "width_mult" in fields else "width"
        size = fields.size("size", MAX_PIXELS)
        return cls(
            classes=fields.names("classes"),
            size=size,
            shorter=fields.whole("shorter", least=max(size), most=MAX_PIXELS),
            variant=fields.text("variant", "paper"),
            channels=fields.whole("channels", 3, 1, MAX_CHANNELS),
            width_mult=fields.number(width, 1.0, above=0, most=MAX_WIDTH_MULT),
            data=Data.read(fields.nested("data")),
            recipe=recipe,
            metrics=_metrics(fields),
            parameters_sha256=fields.text("parameters_sha256", ""),
            version=fields.text("version", ""),
            extra=extra(fields, extension),
        )


def _metrics(fields: Fields) -> dict[str, Any]:
    metrics = fields.mapping("metrics")
    for split, scores in metrics.items():
        known = Fields(scores, fields.source, f"metrics.{split}")
        for name in ("top1", "top5"):
            known.number(name, 0, least=0, most=100)
    return metrics
