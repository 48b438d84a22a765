"""Hash the content of an ONNX file, without the `onnx` package and without the model card.

The tensors of an ONNX file are fused or quantised, so the card's `parameters_sha256` cannot be computed from them. The card
therefore also holds `content_sha256`: the hash of the file's graph and weights. It detects damaged or mixed-up files, not
an attacker, who could change the card too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.card import Card

_METADATA = 14  # field number of ModelProto.metadata_props (onnx.proto)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf


def content_sha256(data: bytes) -> str:
    """Return the sha256 over every field of an ONNX file except its metadata, which holds the model card.

    Args:
        data: content of the file, with or without metadata.

    Raises:
        ValueError: not a serialised ONNX model.
    """
    content, view = hashlib.sha256(), memoryview(data)
    for number, start, end in _fields(data):
        if number != _METADATA:
            content.update(view[start:end])
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


def _fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The top-level fields of a protobuf message: field number, and where the field with its tag starts and ends."""
    place = 0
    while place < len(data):
        tag, end = _varint(data, place)
        kind = tag & 7
        if kind == _VARINT:
            _, end = _varint(data, end)
        elif kind == _BYTES:
            length, end = _varint(data, end)
            end += length
        elif kind in (_FIXED64, _FIXED32):
            end += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if end > len(data):
            raise ValueError("the last field is truncated")
        yield tag >> 3, place, end
        place = end


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The integer of variable length at a place, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):  # ten bytes at most
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("no integer of variable length")
