"""A web server for trying the page on this machine, with the headers that threads in the browser need."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path

from fastscnn.base.errors import FastSCNNError

HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# Not left to the system's table: browsers refuse modules, and compile wasm slowly, under other types.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class _Handler(SimpleHTTPRequestHandler):
    def guess_type(self, path: str | PathLike[str]) -> str:
        return _TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Nothing: the page says what it does."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of `folder` that only this machine reaches; `port` 0 takes a free one. Call its `serve_forever`.

    Raises:
        FastSCNNError: the port is taken, or not one that may be used.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise FastSCNNError(f"port: {port} cannot be used ({error}); give another --port.") from error
