"""Hash the content of an ONNX file, without the `onnx` package and without the model card.

The tensors of an ONNX file are fused or quantised, so the card's `parameters_sha256` cannot be computed from them. The card
therefore also holds `content_sha256`: the hash of the file's graph and weights. It detects damaged or mixed-up files, not
an attacker, who could change the card too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.card import Card
from fastscnn.model.protobuf import Reader

_METADATA = 14  # field number of ModelProto.metadata_props (onnx.proto)


def content_sha256(data: bytes) -> str:
    """Return the sha256 over every field of an ONNX file except its metadata, which holds the model card.

    Args:
        data: content of the file, with or without metadata.

    Raises:
        ValueError: not a serialised ONNX model.
    """
    content, view, begin = hashlib.sha256(), memoryview(data), 0
    for tag, _, end in Reader(data).fields():
        if tag >> 3 != _METADATA:
            content.update(view[begin:end])
        begin = end
    return content.hexdigest()


def check(path: Path, data: bytes, card: Card) -> None:
    """Check the content of an ONNX file against its card; a card without `content_sha256` (before 0.2) passes.

    Args:
        path: the file to name in errors.
        data: its content.
        card: its card.

    Raises:
        FastSCNNError: the graph or the weights are not those that the card was written for.
    """
    if not card.content_sha256:
        return
    try:
        same = content_sha256(data) == card.content_sha256
    except ValueError:
        same = False
    if not same:
        raise FastSCNNError(f"{path}: the graph or the weights do not match content_sha256 in the model card; "
                            "copy the file again from its source, or export it again.")

