"""Model card: the description of a network that every weight file carries as JSON.

Versions of the JSON
--------------------
`SCHEMA` counts incompatible changes only. A reader refuses a larger number and says that the file is newer. It keeps
fields that it does not know, so a field can be added without a new number. fastscnn 0.1 wrote no number: that is schema 1.

fastscnn 0.1 refuses an unknown field, but it accepts any content in `recipe`. Files of 0.2 open in 0.1: the JSON keeps the
fields of 0.1 under their old names (`width`, `unknown_below`). New fields are inside `recipe["fastscnn"]`: `schema`,
`content_sha256`, `output` and `fixed_size`. `Card` shows none of this: it has the new names, and its `recipe` is the recipe
alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.model.architecture import MIN_SIDE, congruent
from fastscnn.model.card_fields import Fields, broken, parse
from fastscnn.model.label_set import LabelSet
from fastscnn.version import __version__

KEY = "fastscnn.card"  # metadata key of the card in every file format
SCHEMA = 2  # of the JSON; 1 is fastscnn 0.1
PRECISIONS = ("float32", "float16", "int8")
OUTPUTS = ("logits", "labels", "confidence")
MAX_MIOU_LOSS = 0.5  # points of mIoU that a faster backend may lose and still be chosen by default
MAX_WIDTH_MULT = 8
MAX_CHANNELS = 1024
FRACTIONS = (1.0, 0.75, 0.5, 0.25)  # of the height and width of `Card.size`
_AT = " at "  # in a key of `Card.metrics`: scores at another input size than the card's
_EXTENSION = "fastscnn"  # key inside `recipe` of what 0.1 does not have
RENAMED_RECIPE_FIELDS = {  # name in 0.1 -> name since 0.2
    "width": "width_mult",
    "branches": "reparam_branches",
    "hard_pixels": "ohem_ratio",
    "hard_probability": "ohem_threshold",
    "decayed": "weight_decay_on",
}


class MissingCardError(FastSCNNError):
    """A weight file without a card, such as one of another network."""


@dataclass(frozen=True)
class Data:
    """Training data of a network.

    Attributes:
        name: name of the dataset.
        splits: the splits trained on, joined by `+`.
        images: number of images in them.
        terms: terms of use of the data. They may also bind the weights.
        fingerprint: sha256 of the decoded images and labels.
        extra: fields of a newer version, kept as they were read.
    """

    name: str
    splits: str
    images: int
    terms: str
    fingerprint: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return _flat(self)

    @classmethod
    def read(cls, fields: Fields | None) -> Data | None:
        """Return the data that a card names; None for null.

        Raises:
            FastSCNNError: a missing or malformed field.
        """
        if fields is None:
            return None
        return cls(
            name=fields.text("name"),
            splits=fields.text("splits"),
            images=fields.whole("images"),
            terms=fields.text("terms"),
            fingerprint=fields.text("fingerprint"),
            extra=fields.rest(),
        )


@dataclass(frozen=True)
class Calibration:
    """Temperature and out-of-distribution (OOD) threshold, measured on labelled images by `evaluation.calibrate`.

    Attributes:
        temperature: divisor of the logits before the softmax of the confidence.
        ood_threshold: a pixel whose largest logit is below this is out of distribution.
        split: the split that was measured.
        images: number of images in it.
        ece_before, ece: expected calibration error in percent, without and with the temperature.
        extra: fields of a newer version, kept as they were read.
    """

    temperature: float
    ood_threshold: float
    split: str
    images: int
    ece_before: float
    ece: float
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return _flat(self)

    @classmethod
    def read(cls, fields: Fields | None) -> Calibration | None:
        """Return the calibration in a card; None for null. Raises FastSCNNError for a missing or malformed field."""
        if fields is None:
            return None
        threshold = "ood_threshold" if "ood_threshold" in fields else "unknown_below"
        return cls(
            temperature=fields.number("temperature", above=0),
            ood_threshold=fields.number(threshold),
            split=fields.text("split"),
            images=fields.whole("images"),
            ece_before=fields.number("ece_before", least=0, most=100),
            ece=fields.number("ece", least=0, most=100),
            extra=fields.rest(),
        )


@dataclass(frozen=True)
class Card:
    """Description of a network and its weights.

    Attributes:
        label_set: the classes, in the order of the logits.
        size: (height, width) of the network's input that the weights were trained for.
        variant: variant of the network, a name in `architecture.VARIANTS`.
        channels: channels of the image, 3 for RGB.
        width_mult: factor of the network's channels; 1 is the paper's network.
        precision: arithmetic of the network, a name in `PRECISIONS`.
        data: the training data; None if unknown.
        recipe: every field of the training recipe.
        metrics: split -> scores in percent, and `dataset`, the name of the dataset that was scored (missing in older cards);
            "SPLIT at HxW" -> those at another input size.
        losses: "BACKEND PRECISION" -> loss of accuracy against float32 on labelled images. `miou` and `worst` are in
            points, negative for a gain. `class` is the worst class, `labels` the percentage of equal labels, `split` and
            `images` the data.
        calibration: temperature and OOD threshold; None if not measured.
        parameters_sha256: hash of the tensors, equal in every format made from the same weights.
        content_sha256: of an ONNX file: hash of its graph and weights, see `onnx_hash`. Empty in other files and before 0.2.
        output: what the file returns, a name in `OUTPUTS`. A `Segmenter` needs "logits".
        fixed_size: (height, width) of the only input that the file takes, one image at a time; None: any.
        version: version of fastscnn that wrote the file.
        extra: fields of a newer version, kept as they were read.
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
    output: str = "logits"
    fixed_size: tuple[int, int] | None = None
    version: str = __version__
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return every field under its name in Python, for reports."""
        known = {name: value for name, value in vars(self).items() if name not in ("label_set", "extra", "data", "calibration")}
        return {
            "classes": list(self.label_set.names),
            **known,
            "data": self.data and self.data.to_dict(),
            "calibration": self.calibration and self.calibration.to_dict(),
        }

    def to_json(self) -> str:
        """Return the card as one JSON object that fastscnn 0.1 reads, too; see the module's docstring."""
        return json.dumps({
            "classes": self.label_set.names,
            "colours": self.label_set.colours,
            "size": self.size,
            "variant": self.variant,
            "channels": self.channels,
            "width": self.width_mult,
            "precision": self.precision,
            "data": self.data and self.data.to_dict(),
            "recipe": stored_recipe(self.recipe, self.extra, content_sha256=self.content_sha256, **self._form()),
            "metrics": self.metrics,
            "losses": self.losses,
            "calibration": self.calibration and _renamed(self.calibration.to_dict(), {"ood_threshold": "unknown_below"}),
            "parameters_sha256": self.parameters_sha256,
            "version": self.version,
            **without_extension(self.extra),
        })

    def _form(self) -> dict[str, Any]:
        """Return the fields of a file that does not return logits of any size."""
        stated = {"output": self.output} if self.output != "logits" else {}
        return {**stated, "fixed_size": self.fixed_size} if self.fixed_size else stated

    @property
    def temperature(self) -> float:
        """Divisor of the logits before the softmax of the confidence; 1 if not measured."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def ood_threshold(self) -> float | None:
        """Largest logit below which a pixel is out of distribution; None if not measured."""
        return self.calibration.ood_threshold if self.calibration else None

    def keeps_accuracy(self, backend: str, precision: str) -> bool:
        """Return whether a backend in a precision loses at most `MAX_MIOU_LOSS`, as measured.

        True for float32, and for a float16 file, whose labels the export has compared with those of float32.
        """
        measured = self.losses.get(f"{backend} {precision}")
        own = precision == self.precision == "float16"
        return precision == "float32" or own or (measured is not None and measured["miou"] <= MAX_MIOU_LOSS)

    def inputs(self) -> list[tuple[int, int]]:
        """Return the base sizes (height, width) of the input that a latency budget chooses from, the largest first.

        They are about 1, 3/4, 1/2 and 1/4 times the card's size, in about its shape, without sizes too small for the network.
        Their sides differ from the card's by multiples of 32 (`architecture.congruent`). A file with a fixed size has that one.
        """
        if self.fixed_size:
            return [self.fixed_size]
        height, width = self.size
        heights = [congruent(fraction * height, height) for fraction in FRACTIONS if fraction * min(self.size) >= MIN_SIDE]
        return [(side, congruent(side * width / height, width)) for side in dict.fromkeys(heights)]

    def metric(self, split: str, size: tuple[int, int]) -> str:
        """Return the key in `metrics` of a split at an input size (height, width)."""
        return split if size == self.size else f"{split}{_AT}{hxw(size)}"

    def miou(self, size: tuple[int, int]) -> tuple[str, float] | None:
        """Return the split and the mIoU in percent at an input size (height, width); None if the card has none."""
        splits = [name for name in self.metrics if _AT not in name]
        # The split with scores at most sizes comes first, so that the scores of several sizes are of one split.
        inputs = {split: sum(name.startswith(f"{split}{_AT}") for name in self.metrics) for split in splits}
        for split in sorted(splits, key=lambda split: -inputs[split]):
            if (scores := self.metrics.get(self.metric(split, size))) is not None:
                return split, float(scores["miou"])
        return None

    @classmethod
    def from_json(cls, text: str, source: Path) -> Card:
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
        return cls(
            label_set=_label_set(fields),
            size=fields.size("size", MAX_PIXELS),
            variant=fields.text("variant", "paper"),
            channels=fields.whole("channels", 3, 1, MAX_CHANNELS),
            width_mult=fields.number(width, 1.0, above=0, most=MAX_WIDTH_MULT),
            precision=fields.text("precision", "float32", PRECISIONS),
            data=Data.read(fields.nested("data")),
            recipe=recipe,
            metrics=_metrics(fields),
            losses=_losses(fields),
            calibration=Calibration.read(fields.nested("calibration", None)),
            parameters_sha256=fields.text("parameters_sha256", ""),
            content_sha256=extension.text("content_sha256", ""),
            output=extension.text("output", "logits", OUTPUTS),
            fixed_size=extension.size("fixed_size", MAX_PIXELS) if "fixed_size" in extension else None,
            version=fields.text("version", ""),
            extra=extra(fields, extension),
        )


def _flat(made: Data | Calibration) -> dict[str, Any]:
    return {name: value for name, value in vars(made).items() if name != "extra"} | dict(made.extra)


def _renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in table.items()}


def stored_recipe(recipe: Mapping[str, Any], extra: Mapping[str, Any], **new: Any) -> dict[str, Any]:
    """Return a recipe for JSON: with the schema number, the fields that 0.1 does not have, and those of newer versions."""
    return {**recipe, _EXTENSION: {"schema": SCHEMA, **new, **extra.get(_EXTENSION, {})}}


def without_extension(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a newer version that do not belong into the recipe."""
    return {name: value for name, value in extra.items() if name != _EXTENSION}


def read_recipe(fields: Fields) -> tuple[dict[str, Any], Fields]:
    """Return the recipe, under the current names, and the fields beside it that 0.1 does not have.

    Raises:
        FastSCNNError: a newer schema, or a malformed field.
    """
    recipe = fields.mapping("recipe")
    extension = Fields(recipe.pop(_EXTENSION, {}), fields.source, f"recipe.{_EXTENSION}")
    schema = (fields if "schema" in fields else extension).whole("schema", 1, 1)
    if schema > SCHEMA:
        raise FastSCNNError(f"{fields.source}: was written by a newer fastscnn (card schema {schema}, and this version reads "
                            f"up to {SCHEMA}); install a newer fastscnn.")
    return _renamed(recipe, RENAMED_RECIPE_FIELDS) if schema == 1 else recipe, extension


def extra(fields: Fields, extension: Fields) -> dict[str, Any]:
    """Return the fields of a newer version: what is left once every known field was read."""
    new = extension.rest()
    return {**fields.rest(), **({_EXTENSION: new} if new else {})}


def _label_set(fields: Fields) -> LabelSet:
    names, colours = fields.names("classes"), fields.value("colours")
    if not isinstance(colours, list) or not all(_is_colour(colour) for colour in colours):
        raise fields.error("colours", "each colour must be three whole numbers from 0 to 255")
    try:
        return LabelSet(names, tuple((red, green, blue) for red, green, blue in colours))
    except FastSCNNError as error:
        raise broken(fields.source, "classes", str(error).rstrip(".")) from error


def _is_colour(colour: object) -> bool:
    return isinstance(colour, list) and len(colour) == 3 and all(type(value) is int and 0 <= value <= 255 for value in colour)


def _metrics(fields: Fields) -> dict[str, Any]:
    metrics = fields.mapping("metrics")
    for name, scores in metrics.items():
        known = Fields(scores, fields.source, f"metrics.{name}")
        known.number("miou", least=0, most=100)
        known.number("pixel_accuracy", 0, least=0, most=100)
        known.text("dataset", "")
        for class_, score in known.mapping("iou").items():
            if score is not None:
                Fields({class_: score}, fields.source, f"metrics.{name}.iou").number(class_, least=0, most=100)
    return metrics


def _losses(fields: Fields) -> dict[str, Any]:
    losses = fields.mapping("losses")
    for name, loss in losses.items():
        known = Fields(loss, fields.source, f"losses.{name}")
        known.number("miou", least=-100, most=100)
        known.number("worst", 0, least=-100, most=100)
        known.number("labels", 0, least=0, most=100)
        known.whole("images", 0)
        for text in ("class", "split"):
            known.text(text, "")
    return losses


def check_network(source: Path, described: Card, inputs: Sequence[str], classes: Sequence[int | None]) -> None:
    """Check that a network takes `images` and gives one tensor of as many classes as its card names.

    Args:
        source: the file to name in errors.
        described: its card.
        inputs: names of its inputs.
        classes: of each output [N, classes, h, w] the number of classes; None if it has another rank or any number.

    Raises:
        FastSCNNError: other inputs or outputs, such as labels.
    """
    if described.output != "logits":
        raise FastSCNNError(f"{source}: returns {described.output}, and fastscnn computes labels from logits itself; export it "
                            "with --output logits for fastscnn, or run it by the runtime of its target (docs/deploy.md).")
    if list(inputs) != ["images"] or len(classes) != 1 or classes[0] is None:
        raise FastSCNNError(f"{source}: does not take `images` and give logits; export it again by `fastscnn export`.")
    if classes[0] != len(described.label_set):
        named = len(described.label_set)
        raise FastSCNNError(f"{source}: gives {classes[0]} classes but its card names {named}; export it again.")


def no_model(source: Path) -> FastSCNNError:
    """Return the error for an .onnx file that a backend cannot load."""
    return FastSCNNError(f"{source}: is not an ONNX model that can be run, or it is truncated; export it again.")


def missing(source: Path) -> FastSCNNError:
    """Return the error for a weight file without a card."""
    return MissingCardError(f"{source}: carries no fastscnn card, so its classes and input size are unknown; "
                         "use a file made by `fastscnn train` or `fastscnn export`.")
