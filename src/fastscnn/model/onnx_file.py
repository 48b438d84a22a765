"""Read ONNX files, checked before a backend gets them."""

from __future__ import annotations

from pathlib import Path

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import card, onnx_graph, onnx_hash
from fastscnn.model.card import Card

_MAX_BYTES = 2**31  # protobuf has no larger messages


def load(path: Path, data: bytes | None = None) -> tuple[bytes, Card]:
    """Return the content of a file that `fastscnn export` made, and its card.

    Args:
        path: the file.
        data: its content, if it is in memory; `path` then only names it in errors.

    Raises:
        FastSCNNError: it cannot be read, `onnx_graph.check` refuses it, or it changed after its card was written.
        MissingCardError: it has no card.
    """
    data = read(path) if data is None else data
    metadata = onnx_graph.check(path, data)
    if card.KEY not in metadata:
        raise card.missing(path)
    described = Card.from_json(metadata[card.KEY], path)
    onnx_hash.check(path, data, described)
    return data, described


def load_foreign(path: Path) -> bytes:
    """Return the content of a file without a card. Raises FastSCNNError as `load` does."""
    data = read(path)
    onnx_graph.check(path, data)
    return data


def read(path: Path) -> bytes:
    """Return the content of a file, not checked yet. Raises FastSCNNError if it is too large or cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise FastSCNNError(f"{path}: is not a file; give an .onnx file.")
        if path.stat().st_size >= _MAX_BYTES:
            raise FastSCNNError(f"{path}: has 2 GiB or more, which no ONNX file can have; use a smaller network.")
        return path.read_bytes()
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
