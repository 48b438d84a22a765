"""Teachers: networks whose class probabilities become soft labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from fastscnn.backends.protocol import MAX_THREADS
from fastscnn.base import files, machine
from fastscnn.base.arguments import MAX_PIXELS, hxw, whole
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import BackendName, Float32Array, PrecisionName, UInt8Array
from fastscnn.data.spec import DatasetSpec
from fastscnn.distillation import description
from fastscnn.distillation.foreign import ForeignNetwork
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import NetworkSize, Size, network_scales, network_size
from fastscnn.model.card import MissingCardError

_OF_FILE = ("multiple", "mean", "std", "order", "layout", "output", "output_name", "output_layout")


@dataclass(frozen=True)
class Teacher:
    """A network that makes soft labels.

    Attributes:
        classes: class names, in the order of the probabilities.
        channels: channels of the image that it takes, 3 for RGB.
        source: name and sha256 of the weight file.
        terms: terms of use of its training data or weights.
        verified: the weights equal those that their card was written for (`Segmenter.verified`); never for an ONNX file of
            another network.
        settings: all else that the probabilities depend on, as in JSON.
        probabilities: called with an image uint8 [H, W, channels]; returns float32 [C, h, w], where h is at least H and w at
            least W.
    """

    classes: tuple[str, ...]
    channels: int
    source: str
    terms: str
    verified: bool
    settings: Mapping[str, Any]
    probabilities: Callable[[UInt8Array], Float32Array]

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
    ) -> Teacher:
        """Load a teacher.

        Args:
            weights: an .onnx or .safetensors file of fastscnn, or its address on the hub (`Segmenter.load`); a .toml that
                describes an ONNX file of another network (`distillation.description`); None for the bundled weights.
            backend, precision: see `Segmenter.load`. ONNX files of other networks run with "onnx" in "float32" only.
            size, threads, scales, flip: see `Segmenter.load`. The size replaces that of a .toml.

        Raises:
            ArgumentError: a wrong name, size or number.
            FastSCNNError: a file that is missing, broken or wrong, or an ONNX file that does not fit its description.
        """
        if weights is not None and files.expand(weights).suffix.lower() == ".toml":
            if backend not in ("auto", "onnx") or precision not in ("auto", "float32"):
                raise ArgumentError(f"{weights}: an ONNX file of another network runs with the backend onnx in float32 only; "
                                    "omit backend and precision.")
            return cls._described(files.expand(weights), size, threads, scales, flip)
        try:
            return cls.of(Segmenter.load(weights, backend, size, threads, scales, flip, precision))
        except MissingCardError as error:
            raise FastSCNNError(f"{error} An ONNX file of another network needs a .toml that describes it; give that as the "
                                "weights (docs/datasets.md).") from error

    @classmethod
    def of(cls, segmenter: Segmenter) -> Teacher:
        """Return a segmenter as a teacher."""
        card = segmenter.card
        source = _source(segmenter.path) if segmenter.path else f"weights without a file, sha256 {card.parameters_sha256}"
        settings = {"size": _text(segmenter.size), "shape_kept": segmenter.shape_kept, "scales": segmenter.scales,
                    "flip": segmenter.flip, "tile": segmenter.tile and hxw(segmenter.tile)}
        terms = card.data.terms if card.data else DatasetSpec.terms
        return cls(card.label_set.names, card.channels, source, terms, segmenter.verified, _as_json(settings),
                   segmenter.probabilities)

    @classmethod
    def _described(cls, path: Path, size: Size, threads: int | None, scales: Sequence[float], flip: bool) -> Teacher:
        given = description.load(path)
        chosen = network_size(size) or given.size
        passes = network_scales(scales, chosen, MAX_PIXELS)
        count = machine.threads() if threads is None else whole("threads", threads, 1, MAX_THREADS)
        network = ForeignNetwork(given, chosen, count, passes, flip)
        settings = {"size": _text(chosen), "scales": passes, "flip": flip, **{key: getattr(given, key) for key in _OF_FILE}}
        return cls(given.classes, 3, _source(given.model), given.terms, False, _as_json(settings), network.probabilities)


def _source(path: Path) -> str:
    return f"{path.name}, sha256 {files.digest(path)}"


def _text(size: NetworkSize) -> str:
    return size if isinstance(size, str) else hxw(size)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON stores them, so that they equal what is read from a file."""
    stored: dict[str, Any] = json.loads(json.dumps(settings))
    return stored
