"""Read the model card of an exported network, and put it into one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.model.onnx_hash import content_sha256

_SOURCE = Path("exported.onnx")  # for errors; the network is in memory


def card_of(model: onnx.ModelProto | bytes) -> Card:
    """Return the card of an exported network, without a check of its content."""
    if isinstance(model, bytes):
        model = onnx.load_from_string(model)
    (text,) = (prop.value for prop in model.metadata_props if prop.key == card.KEY)
    return Card.from_json(text, _SOURCE)


def with_card(model: onnx.ModelProto | bytes, described: Card) -> bytes:
    """Return an ONNX file that carries a card, and no other metadata.

    Args:
        model: a model, or the content of its file.
        described: the card; its `content_sha256` is computed here.
    """
    if isinstance(model, bytes):
        model = onnx.load_from_string(model)
    del model.metadata_props[:]
    described = dataclasses.replace(described, content_sha256=content_sha256(model.SerializeToString()))
    onnx.helper.set_model_props(model, {card.KEY: described.to_json()})
    serialized: bytes = model.SerializeToString()
    return serialized
