"""ClassifierCard: what a weight file of a classifier says of itself. Such a file labels nothing: one goes on from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.card import Data
from fastscnn.version import __version__

KEY = "fastscnn.classifier"  # the metadata key under which the file carries it, where others carry `card.KEY`


@dataclass(frozen=True)
class ClassifierCard:
    """Facts about one classifier's weights.

    Attributes:
        classes: names, in the order of the logits.
        size: input (height, width), cut out of the middle of an image.
        shorter: what the shorter side of that image is resized to before, in pixels.
        variant: layout of the network.
        channels: channels of the input.
        width_mult: factor of the network's channels.
        data: what it was trained on.
        recipe: every field of the training recipe.
        metrics: figures by split, in percent: top1 and top5.
        parameters_sha256: hash over the tensors.
        version: version of fastscnn that made the file.
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

    def to_json(self) -> str:
        """The card as one JSON object."""
        return json.dumps(dataclasses.asdict(self) | {"data": self.data and self.data.to_dict()})

    @classmethod
    def from_json(cls, text: str, source: Path) -> ClassifierCard:
        """Reads what `to_json` wrote; `source` is the file to name in errors.

        Raises:
            FastSCNNError: not JSON, or a field that is missing, unknown or of the wrong form.
        """
        try:
            card = json.loads(text)
            if "width" in card:  # before 0.2
                card["width_mult"] = card.pop("width")
            classes, (height, width), data = card.pop("classes"), card.pop("size"), card.pop("data")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise TypeError("classes is a list of names")
            made = cls(tuple(classes), (int(height), int(width)), data=Data(**data) if data else None, **card)
            sizes = 1 <= max(made.size) <= int(made.shorter) and min(*made.size, made.channels) >= 1
            if not sizes or not 0 < made.width_mult <= 8:
                raise ValueError("size, shorter, channels or width lies out of bounds")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise FastSCNNError(f"{source}: its card is broken ({error!r}); make the file anew with this fastscnn.") from error
        return made
