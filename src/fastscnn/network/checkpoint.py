"""Read and write PyTorch weights: safetensors files with the model card in their metadata; never pickles."""

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
from fastscnn.model import architecture, card
from fastscnn.model.card import Card
from fastscnn.network import classifier_card
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import Backbone, Classifier, FastSCNN, fused

Tensors = dict[str, Tensor]


def save(path: Path, model: FastSCNN, description: Card) -> Card:
    """Write the fused network and its card atomically.

    Returns:
        The card as written, with the hash of the tensors.

    Raises:
        FastSCNNError: the file cannot be written.
    """
    tensors = fused(model).state_dict()
    described = dataclasses.replace(description, parameters_sha256=digest(tensors), content_sha256="")
    save_tensors(path, tensors, {card.KEY: described.to_json()})
    return described


def load(path: Path) -> tuple[FastSCNN, Card]:
    """Return the network of a weight file, in evaluation mode on the CPU, and its card.

    Raises:
        FastSCNNError: missing, not safetensors, truncated, an image classifier, without a card, or the tensors do not match
            the card.
    """
    tensors, metadata = load_tensors(path)
    if classifier_card.KEY in metadata:
        raise FastSCNNError(f"{path}: is an image classifier and cannot segment; "
                            f"fine-tune it with `fastscnn train RECIPE --init {path}`.")
    if card.KEY not in metadata:
        raise card.missing(path)
    described = Card.from_json(metadata[card.KEY], path)
    _check_variant(path, described.variant)
    model = FastSCNN(len(described.label_set), described.channels, described.variant, described.width_mult)
    _fill(path, model, tensors, len(described.label_set), described.parameters_sha256)
    return model.eval(), described


def save_classifier(path: Path, model: Classifier, description: ClassifierCard) -> None:
    """Write a classifier and its card atomically.

    Raises:
        FastSCNNError: the file cannot be written.
    """
    tensors = model.state_dict()
    described = dataclasses.replace(description, parameters_sha256=digest(tensors))
    save_tensors(path, tensors, {classifier_card.KEY: described.to_json()})


def load_classifier(path: Path) -> tuple[Classifier, ClassifierCard]:
    """Return the image classifier of a weight file, in evaluation mode on the CPU, and its card.

    Raises:
        FastSCNNError: as in `load`; or the file holds a segmentation network.
    """
    tensors, metadata = load_tensors(path)
    if classifier_card.KEY not in metadata:
        raise FastSCNNError(f"{path}: is not an image classifier; use a file made by `fastscnn train imagenet`.")
    described = ClassifierCard.from_json(metadata[classifier_card.KEY], path)
    _check_variant(path, described.variant)
    model = Classifier(len(described.classes), described.channels, described.variant, described.width_mult)
    _fill(path, model, tensors, len(described.classes), described.parameters_sha256)
    return model.eval(), described


def load_any(path: Path) -> tuple[FastSCNN, Card] | tuple[Classifier, ClassifierCard]:
    """Return what `load` or `load_classifier` returns, depending on the file."""
    return load_classifier(path) if classifier_card.KEY in load_tensors(path)[1] else load(path)


def _check_variant(path: Path, variant: str) -> None:
    if variant not in architecture.VARIANTS:
        raise FastSCNNError(f"{path}: the model card names the unknown variant {variant!r}; upgrade fastscnn.")


def _fill(path: Path, model: Backbone, tensors: Tensors, classes: int, sha256: str) -> None:
    """Load the tensors of a file into the network that its card describes, and check their hash."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise FastSCNNError(f"{path}: the tensors do not match the model card of {classes} classes ({reason}); "
                            "copy the file again from its source.") from error
    if sha256 != digest(tensors):
        raise FastSCNNError(f"{path}: the tensors do not match parameters_sha256 in the model card; "
                            "copy the file again from its source.")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and values, independent of order and file format."""
    hash_ = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hash_.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hash_.update(tensor.numpy().tobytes())
    return hash_.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata atomically as safetensors.

    Raises:
        FastSCNNError: the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, safetensors.torch.save(contiguous, metadata))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        FastSCNNError: missing, truncated, or not safetensors; the message names a pickle as such.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file starts with the length of its header, which may look like a pickle, then the header's brace.
        if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):
            raise FastSCNNError(f"{path}: is a pickle, which can run code and is not read; save the tensors as safetensors.")
        with safetensors.safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FastSCNNError(f"{path}: is not a safetensors file or is truncated ({error}); use a .safetensors file made by "
                            "`fastscnn train`, or copy it again from its source.") from error
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror or error}).") from error
