"""Put the model card into an ONNX file."""

from __future__ import annotations

import onnx

from fastscnn.model import card
from fastscnn.model.card import Card


def with_card(model: onnx.ModelProto | bytes, described: Card) -> bytes:
    """Return an ONNX file that carries a card, and no other metadata.

    Args:
        model: a model, or the content of its file.
        described: the card.
    """
    if isinstance(model, bytes):
        model = onnx.load_from_string(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {card.KEY: described.to_json()})
    serialized: bytes = model.SerializeToString()
    return serialized
