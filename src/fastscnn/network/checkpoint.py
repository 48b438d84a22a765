"""Weight files of the training side: safetensors with the card in their metadata. Nothing here is a pickle."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.network import classifier_card
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import VARIANTS, Backbone, Classifier, FastSCNN, fused

Tensors = dict[str, Tensor]


def save(path: Path, model: FastSCNN, description: Card) -> Card:
    """Writes the network that runs (`fused`) and its card in one piece; returns the card with its hash."""
    tensors = fused(model).state_dict()
    described = dataclasses.replace(description, parameters_sha256=digest(tensors))
    save_tensors(path, tensors, {card.KEY: described.to_json()})
    return described


def load(path: Path) -> tuple[FastSCNN, Card]:
    """The network of a weight file, in evaluation mode on the CPU, and its card.

    Raises:
        FastSCNNError: missing, not safetensors, truncated, of a classifier, without card, or tensors that do not fit the card.
    """
    tensors, metadata = load_tensors(path)
    if classifier_card.KEY in metadata:
        raise FastSCNNError(f"{path}: is of a classifier of images and labels no pixels; "
                            f"go on from it by `fastscnn train RECIPE --init {path}`.")
    if card.KEY not in metadata:
        raise card.missing(path)
    described = Card.from_json(metadata[card.KEY], path)
    _check_variant(path, described.variant)
    model = FastSCNN(len(described.label_set), described.channels, described.variant, described.width_mult)
    _fill(path, model, tensors, len(described.label_set), described.parameters_sha256)
    return model.eval(), described


def save_classifier(path: Path, model: Classifier, description: ClassifierCard) -> None:
    """Writes a classifier and its card in one piece."""
    tensors = model.state_dict()
    described = dataclasses.replace(description, parameters_sha256=digest(tensors))
    save_tensors(path, tensors, {classifier_card.KEY: described.to_json()})


def load_classifier(path: Path) -> tuple[Classifier, ClassifierCard]:
    """The classifier of a weight file, in evaluation mode on the CPU, and its card.

    Raises:
        FastSCNNError: as `load`; of a network that labels pixels, in the place of a classifier's.
    """
    tensors, metadata = load_tensors(path)
    if classifier_card.KEY not in metadata:
        raise FastSCNNError(f"{path}: is of no classifier of images; use a file that `fastscnn train imagenet` made.")
    described = ClassifierCard.from_json(metadata[classifier_card.KEY], path)
    _check_variant(path, described.variant)
    model = Classifier(len(described.classes), described.channels, described.variant, described.width_mult)
    _fill(path, model, tensors, len(described.classes), described.parameters_sha256)
    return model.eval(), described


def load_any(path: Path) -> tuple[FastSCNN, Card] | tuple[Classifier, ClassifierCard]:
    """What `load` or `load_classifier` gives, whichever the file is of."""
    return load_classifier(path) if classifier_card.KEY in load_tensors(path)[1] else load(path)


def _check_variant(path: Path, variant: str) -> None:
    if variant not in VARIANTS:
        raise FastSCNNError(f"{path}: its network is of the unknown variant {variant!r}; upgrade fastscnn.")


def _fill(path: Path, model: Backbone, tensors: Tensors, classes: int, sha256: str) -> None:
    """Puts the tensors of a file into the network that its card describes."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise FastSCNNError(f"{path}: its tensors do not fit its card of {classes} classes ({reason})") from error
    if sha256 != digest(tensors):
        raise FastSCNNError(f"{path}: its tensors are not those that its card was written for; copy it again from its source.")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, independent of order and file format."""
    hash_ = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hash_.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hash_.update(tensor.numpy().tobytes())
    return hash_.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors and metadata as safetensors, in one piece."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, safetensors.torch.save(contiguous, metadata))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        FastSCNNError: missing, truncated, or not safetensors; a pickle is refused as such.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file starts with the length of its header, any eight bytes, and the header's brace.
        if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):
            raise FastSCNNError(f"{path}: is a pickle, which can run code and is not read; save it as safetensors.")
        with safetensors.safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        message = f"{path}: is no safetensors file or is truncated ({error}); copy it again from its source."
        raise FastSCNNError(message) from error
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror or error}).") from error
