"""The model card of an image classifier. Its weights initialise a segmentation network and cannot segment."""

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
        """Return the card as one JSON object."""
        return json.dumps(dataclasses.asdict(self) | {"data": self.data and self.data.to_dict()})

    @classmethod
    def from_json(cls, text: str, source: Path) -> ClassifierCard:
        """Parse the output of `to_json`.

        Args:
            text: JSON.
            source: the file to name in errors.

        Raises:
            FastSCNNError: not JSON, or a field that is missing, unknown or malformed.
        """
        try:
            card = json.loads(text)
            if "width" in card:  # before 0.2
                card["width_mult"] = card.pop("width")
            classes, (height, width), data = card.pop("classes"), card.pop("size"), card.pop("data")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise TypeError("classes must be a list of names")
            made = cls(tuple(classes), (int(height), int(width)), data=Data(**data) if data else None, **card)
            sizes = 1 <= max(made.size) <= int(made.shorter) and min(*made.size, made.channels) >= 1
            if not sizes or not 0 < made.width_mult <= 8:
                raise ValueError("size, shorter, channels or width_mult is out of range")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            message = f"{source}: its card is broken ({error!r}); write the file again with this version of fastscnn."
            raise FastSCNNError(message) from error
        return made
