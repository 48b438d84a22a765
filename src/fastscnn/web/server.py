"""A local web server to try the page, with the headers that WebAssembly threads need."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path

from fastscnn.base.errors import FastSCNNError

HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# Not taken from the system's table: with other types, browsers refuse modules and compile wasm slowly.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class _Handler(SimpleHTTPRequestHandler):
    def guess_type(self, path: str | PathLike[str]) -> str:
        return _TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Log nothing: the page shows its own status."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of `folder` on 127.0.0.1; call its `serve_forever`.

    Args:
        folder: folder to serve.
        port: TCP port; 0: any free port.

    Raises:
        FastSCNNError: the port is in use or not allowed.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise FastSCNNError(f"port: {port} cannot be used ({error}); give another --port.") from error
