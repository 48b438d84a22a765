"""A browser page that labels pictures, videos and a camera where they are: static files that any web server can hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fastscnn.backends.onnx import OnnxBackend
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.model import weights
from fastscnn.model.card import Card
from fastscnn.web import engine

PAGE = Path(__file__).with_name("page")
_MARK = b'<meta name="generator" content="fastscnn">'  # in index.html: how a folder of ours is known again
_BUILD = b"@BUILD@"  # in sw.js: becomes the digest of all other files, so that browsers see when one of them changed
_SCENE = 3  # the drawn street that the page begins with, that of `fastscnn segment`


def write(out: Path, ort: Path | None = None) -> list[Path]:
    """Writes the page with all it needs: its sources, the bundled weights, what their card says, ONNX Runtime for browsers,
    and a drawn scene to begin with.

    Args:
        out: the folder: missing, empty, or one that this function wrote before, whose files are replaced.
        ort: a folder that holds the files of `engine.FILES`; None: npm fetches them, once.

    Returns:
        The files, all below `out`.

    Raises:
        FastSCNNError: the folder holds other things, cannot be written, or what `engine.find` says.
    """
    _check_ours(out)
    path = weights.bundled("onnx", "float32")  # in a browser's WebAssembly the int8 file is the slower one
    parts = {source.name: source.read_bytes() for source in sorted(PAGE.iterdir())}
    parts |= {f"ort/{name}": data for name, data in engine.find(ort).items()}
    parts["weights.onnx"] = path.read_bytes()
    parts["weights-terms.txt"] = path.with_name("LICENSE.md").read_bytes()
    size = len(parts["weights.onnx"]) + len(parts["ort/ort-wasm-simd-threaded.wasm"])
    parts["labels.json"] = described(OnnxBackend(path, threads=1).card, size).encode()
    drawn = synthetic.draw(seed=_SCENE).image
    digests = [hashlib.sha256(data).digest() for data in (*parts.values(), drawn.tobytes())]
    build = hashlib.sha256(b"".join(digests)).hexdigest()[:16]
    parts["sw.js"] = parts["sw.js"].replace(_BUILD, build.encode())
    files.write(out / "index.html", parts.pop("index.html"))  # first: if the rest fails, the folder is known as ours
    for name, data in parts.items():
        files.write(out / name, data)
    images.write(out / "scene.png", drawn)
    return [out / name for name in ("index.html", *parts, "scene.png")]


def described(card: Card, size: int) -> str:
    """What the page needs of a card, as JSON: names, colours (RGB), size (height, width) and terms; and the bytes
    that it loads before it can label, for its progress bar."""
    return json.dumps({
        "names": card.label_set.names,
        "colours": card.label_set.colours,
        "size": card.size,
        "terms": card.data.terms if card.data else "",
        "bytes": size,
    }, indent=1)


def _check_ours(out: Path) -> None:
    """Refuses a folder that holds what we did not write."""
    if out.exists() and not out.is_dir():
        raise FastSCNNError(f"{out}: is a file; --out names a folder.")
    index = out / "index.html"
    if out.is_dir() and any(out.iterdir()) and not (index.is_file() and _MARK in index.read_bytes()):
        raise FastSCNNError(f"{out}: holds other files; give --out a folder that is new, empty, or written by `fastscnn web`.")
