"""Card: what a weight file says of itself. It rides as JSON inside every file that holds weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.architecture import MIN_SIDE
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

KEY = "fastscnn.card"  # the metadata key under which every file format carries the card
PRECISIONS = ("float32", "int8")
MAX_MIOU_LOSS = 0.5  # points of mIoU that a faster engine may lose before it is no longer taken by itself
_FRACTIONS = (1.0, 0.75, 0.5, 0.25)  # of `Card.size`, each way
_AT = " at "  # in the names of `Card.metrics`, before an input that is not the card's own
_WIDEST = 8


@dataclass(frozen=True)
class Data:
    """What the weights were trained on.

    Attributes:
        name: name of the dataset.
        splits: the splits trained on, joined by `+`.
        images: how many images those hold.
        terms: under which terms the data may be used, which may bind the weights too.
        fingerprint: sha256 over the decoded images and labels.
    """

    name: str
    splits: str
    images: int
    terms: str
    fingerprint: str


@dataclass(frozen=True)
class Calibration:
    """What the logits of a file say of its own certainty, as measured on labelled images; see `calibrate`.

    Attributes:
        temperature: divides the logits before the softmax of a confidence.
        ood_threshold: best logit below which nothing is seen that the weights know well.
        split, images: what it was measured on.
        ece_before, ece: expected calibration error there, in percent, without and with the temperature.
    """

    temperature: float
    ood_threshold: float
    split: str
    images: int
    ece_before: float
    ece: float


@dataclass(frozen=True)
class Card:
    """What a weight file says of itself.

    Attributes:
        label_set: the classes, in the order of the logits.
        size: (height, width) of the network's input that the weights were trained for.
        variant: layout of the network, a name in `architecture.VARIANTS`.
        channels: channels of the image, 3 for RGB.
        width_mult: factor of the network's channels; 1 is the paper's network.
        precision: of its arithmetic, a name in `PRECISIONS`.
        data: what the weights were trained on; None where that is not known.
        recipe: every field of the recipe they were trained with.
        metrics: split -> scores in percent, as measured at the end of the training; "SPLIT at HxW" -> those at another input.
        losses: "ENGINE PRECISION" -> what is lost against float32 on labelled images: `miou` and `worst` in points (less
            than 0 where something is gained), `class` the worst one, `labels` the percent that stay, `split`, `images`.
        calibration: how far its probabilities can be trusted; None where that was not measured.
        parameters_sha256: hash of the tensors, the same in every format made of the same weights.
        content_sha256: of an ONNX file: hash of its graph and weights; see `onnx_hash`. Empty in other files and before 0.2.
        version: version of fastscnn that made the file.
    """

    label_set: LabelSet
    size: tuple[int, int]
    variant: str = "paper"
    channels: int = 3
    width_mult: float = 1.0
    precision: str = "float32"
    data: Data | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    parameters_sha256: str = ""
    content_sha256: str = ""
    version: str = __version__

    def to_json(self) -> str:
        """The card as one JSON object."""
        card = dataclasses.asdict(self)
        labels = card.pop("label_set")
        return json.dumps({"classes": labels["names"], "colours": labels["colours"], **card})

    @property
    def temperature(self) -> float:
        """Of a confidence's softmax; 1 where it was not measured."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def ood_threshold(self) -> float | None:
        """Best logit below which a pixel is unknown; None where it was not measured."""
        return self.calibration.ood_threshold if self.calibration else None

    def keeps_accuracy(self, engine: str, precision: str) -> bool:
        """Whether an engine was measured to lose no more than `MAX_MIOU_LOSS` in that precision; float32 never loses any."""
        measured = self.losses.get(f"{engine} {precision}")
        return precision == "float32" or (measured is not None and measured["miou"] <= MAX_MIOU_LOSS)

    def inputs(self) -> list[tuple[int, int]]:
        """The sizes (height, width) of input that a budget chooses from, the card's own first: all, 3/4, 1/2 and 1/4 of it,
        without those that are too small for the network."""
        sizes = [(round(self.size[0] * fraction), round(self.size[1] * fraction)) for fraction in _FRACTIONS]
        return [size for size in sizes if min(size) >= MIN_SIDE]

    def metric(self, split: str, size: tuple[int, int]) -> str:
        """The name in `metrics` of the scores of a split at an input (height, width)."""
        return split if size == self.size else f"{split}{_AT}{size[0]}x{size[1]}"

    def miou(self, size: tuple[int, int]) -> tuple[str, float] | None:
        """The split and the mIoU in percent that the card holds for an input (height, width); None where it holds none."""
        splits = [name for name in self.metrics if _AT not in name]
        # The split that knows most inputs comes first, so that figures of several inputs are of one split.
        inputs = {split: sum(name.startswith(f"{split}{_AT}") for name in self.metrics) for split in splits}
        for split in sorted(splits, key=lambda split: -inputs[split]):
            if (scores := self.metrics.get(self.metric(split, size))) is not None:
                return split, float(scores["miou"])
        return None

    @classmethod
    def from_json(cls, text: str, source: Path) -> Card:
        """Reads what `to_json` wrote; `source` is the file to name in errors.

        Raises:
            FastSCNNError: not JSON, or a field that is missing, unknown or of the wrong form.
        """
        try:
            card = json.loads(text)
            if "width" in card:  # before 0.2
                card["width_mult"] = card.pop("width")
            classes = card.pop("classes")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise TypeError("classes is a list of names")
            label_set = LabelSet(tuple(classes), tuple(tuple(colour) for colour in card.pop("colours")))
            height, width = card.pop("size")
            data, calibration = card.pop("data"), card.pop("calibration", None)  # the second: younger than some cards
            if calibration and "unknown_below" in calibration:  # before 0.2
                calibration["ood_threshold"] = calibration.pop("unknown_below")
            known = Calibration(**calibration) if calibration else None
            made = cls(label_set, (int(height), int(width)), data=Data(**data) if data else None, calibration=known, **card)
            if min(*made.size, made.channels) < 1:
                raise ValueError("size and channels are at least 1")
            if not 0 < made.width_mult <= _WIDEST:
                raise ValueError(f"width_mult lies above 0 and at most {_WIDEST}")
            if not 0 < made.temperature < inf:
                raise ValueError("temperature lies above 0")
            if not isfinite(made.ood_threshold or 0):
                raise ValueError("ood_threshold is a finite number")
            if made.precision not in PRECISIONS:
                raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {made.precision!r}")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, FastSCNNError) as error:
            raise FastSCNNError(f"{source}: its card is broken ({error!r}); make the file anew with this fastscnn.") from error
        return made


def check_network(source: Path, described: Card, inputs: Sequence[str], classes: Sequence[int | None]) -> None:
    """Refuses a network that does not take `images` and give one tensor of as many classes as its card names.

    Args:
        source: the file to name in errors.
        described: its card.
        inputs: names of its inputs.
        classes: of each output [N, classes, h, w]; None for one of another rank, or of any number.
    """
    if list(inputs) != ["images"] or len(classes) != 1 or classes[0] is None:
        raise FastSCNNError(f"{source}: does not take `images` and give logits; export it again by `fastscnn export`.")
    if classes[0] != len(described.label_set):
        named = len(described.label_set)
        raise FastSCNNError(f"{source}: gives {classes[0]} classes but its card names {named}; export it again.")


def no_model(source: Path) -> FastSCNNError:
    """The error for an .onnx file that an engine does not load."""
    return FastSCNNError(f"{source}: is no ONNX model that can be run, or is truncated; export it again.")


def missing(source: Path) -> FastSCNNError:
    """The error for a weight file without a card."""
    return FastSCNNError(f"{source}: carries no fastscnn card, so its classes and input size are unknown; "
                         "use a file made by `fastscnn train` or `fastscnn export`.")
