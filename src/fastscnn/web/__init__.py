"""How do I segment images in a browser? Static files that any web server can host."""

from __future__ import annotations

import hashlib
import json
from os import PathLike
from pathlib import Path

from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base import files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.hub.download import weight_file
from fastscnn.media import images
from fastscnn.model import onnx_file
from fastscnn.model import weights as model_weights
from fastscnn.model.card import Card
from fastscnn.web import onnxruntime_web

PAGE = Path(__file__).with_name("page")
_MARK = b'<meta name="generator" content="fastscnn">'  # in index.html: identifies a folder that `write` made
_BUILD = b"@BUILD@"  # in sw.js: replaced by a digest of all files, so that browsers notice a change
_SCENE = 3  # seed of the example picture, the same as in `fastscnn demo`


def write(out: Path, ort: Path | None = None, weights: str | PathLike[str] | None = None) -> list[Path]:
    """Write the page: its sources, a network with its card, ONNX Runtime for browsers, and an example picture.

    Args:
        out: folder to write: missing, empty, or written by this function before (its files are replaced).
        ort: folder that holds `onnxruntime_web.FILES`; None: npm downloads them once.
        weights: an .onnx file made by `fastscnn export`, float32 or int8, with RGB input, or its address on the
            hub; None: the bundled weights.

    Returns:
        The files written, all below `out`.

    Raises:
        FastSCNNError: the folder holds other files or cannot be written, the weights cannot run on the page, or
            ONNX Runtime is missing (see `onnxruntime_web.find`).
    """
    _check_ours(out)
    # In WebAssembly int8 is slower.
    path = model_weights.bundled("onnx", "float32") if weights is None else weight_file(weights)
    network, card = _network(path)
    parts = {source.name: source.read_bytes() for source in sorted(PAGE.iterdir())}
    parts |= {f"ort/{name}": data for name, data in onnxruntime_web.find(ort).items()}
    parts["weights.onnx"] = network
    parts["weights-terms.txt"] = path.with_name("LICENSE.md").read_bytes() if weights is None else _terms(path, card).encode()
    size = len(parts["weights.onnx"]) + len(parts["ort/ort-wasm-simd-threaded.wasm"])
    parts["labels.json"] = card_json(card, size).encode()
    scene = synthetic.draw(seed=_SCENE).image
    digests = [hashlib.sha256(data).digest() for data in (*parts.values(), scene.tobytes())]
    build = hashlib.sha256(b"".join(digests)).hexdigest()[:16]
    parts["sw.js"] = parts["sw.js"].replace(_BUILD, build.encode())
    files.write(out / "index.html", parts.pop("index.html"))  # first: after a failure the folder is still recognised
    for name, data in parts.items():
        files.write(out / name, data)
    images.write(out / "scene.png", scene)
    return [out / name for name in ("index.html", *parts, "scene.png")]


def card_json(card: Card, size: int) -> str:
    """Return what the page reads of a card, as JSON.

    Args:
        card: the card of the network.
        size: bytes that the page downloads before it can segment, for its progress bar.

    Returns:
        An object with `names`, `colours` (RGB), `size` ([height, width] of the input), `precision`, `temperature`
        (divides the logits before a softmax), `terms` (of the training data) and `bytes`.
    """
    return json.dumps({
        "names": card.label_set.names,
        "colours": card.label_set.colours,
        "size": card.size,
        "precision": card.precision,
        "temperature": card.temperature,
        "terms": card.data.terms if card.data else "",
        "bytes": size,
    }, indent=1)


def _network(path: Path) -> tuple[bytes, Card]:
    """Return the content of a file that the page can run, read once, and its card. Raises FastSCNNError for any other file."""
    if path.suffix.lower() != ".onnx":
        raise FastSCNNError(f"{path}: the page runs .onnx files only; "
                            f"run `fastscnn export {path} --out {path.stem}.onnx` and give that file to --weights.")
    data = onnx_file.read(path)
    card = OnnxBackend(path, threads=1, data=data).card
    if card.channels != 3:
        raise FastSCNNError(f"{path}: takes {card.channels} channels, but a browser provides RGB only (3 channels); "
                            "give --weights a network that was trained on RGB images.")
    if card.fixed_size:
        raise FastSCNNError(f"{path}: takes images of {hxw(card.fixed_size)} only, but pictures and cameras have any shape; "
                            "export it again without --static.")
    return data, card


def _terms(path: Path, card: Card) -> str:
    """Return the terms of a user's weights, as far as their card states them."""
    if not card.data:
        return f"The model card of {path.name} states no training data and no terms.\n"
    terms = card.data.terms or "not stated"
    return f"Weights: {path.name}\nTraining data: {card.data.name}, {card.data.splits}\nTerms of the training data: {terms}\n"


def _check_ours(out: Path) -> None:
    """Raise FastSCNNError if `out` is a file or holds files that `write` did not make."""
    if out.exists() and not out.is_dir():
        raise FastSCNNError(f"{out}: is a file; --out must name a folder.")
    index = out / "index.html"
    if out.is_dir() and any(out.iterdir()) and not (index.is_file() and _MARK in index.read_bytes()):
        raise FastSCNNError(f"{out}: holds other files; give --out a folder that is new, empty, or written by `fastscnn web`.")
