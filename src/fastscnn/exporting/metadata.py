"""Put the model card into an ONNX file."""

from __future__ import annotations

import dataclasses

import onnx

from fastscnn.model import card
from fastscnn.model.card import Card
from fastscnn.model.onnx_hash import content_sha256


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
