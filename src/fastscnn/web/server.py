"""A local web server to try the page, with the headers that WebAssembly threads need.

It answers this machine only, also where a page of another site sends a browser to it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from os import PathLike
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import BoundedSemaphore, Timer
from typing import Any, BinaryIO

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.hosts import host

HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
_HOSTS = ("localhost", "127.0.0.1")  # it listens by IPv4 only
# Not taken from the system's table: with other types, browsers refuse modules and compile wasm slowly.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_SECONDS = 10  # that a client may take for a request, or for the next part of an answer
_LONGEST = 1024  # characters of a path; Python follows the links of one with 30,000 folders for seconds
CONNECTIONS = 64  # at a time; a browser opens six


class Handler(SimpleHTTPRequestHandler):
    timeout = _SECONDS

    def handle(self) -> None:
        """Answer a request that is complete in time. The timeout of the socket alone starts anew with each byte."""
        self._late = Timer(self.timeout, self._hang_up)
        self._late.daemon = True
        self._late.start()
        try:
            super().handle()
        finally:
            self._late.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # the client did
            self.connection.shutdown(SHUT_RDWR)

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Answer a request for a file in the folder; refuse any other."""
        self._late.cancel()
        if host(self.headers.get("Host", "")) not in _HOSTS:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server is for localhost")
            return None
        if len(self.path) > _LONGEST:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return None
        try:
            path, root = Path(self.translate_path(self.path)), Path(self.directory).resolve()
            served = (path, path / "index.html", path / "index.htm")  # for a folder, the base class opens one of the others
            inside = all(place.resolve().is_relative_to(root) for place in served)
        except (OSError, RuntimeError, ValueError):  # a zero byte; links in a circle
            inside = False
        if not inside:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        found: BytesIO | BinaryIO | None = super().send_head()
        return found

    def list_directory(self, path: str | PathLike[str]) -> BytesIO | None:
        """Do not list a folder."""
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def guess_type(self, path: str | PathLike[str]) -> str:
        return _TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Log nothing: the page shows its own status."""


class _Server(ThreadingHTTPServer):
    def __init__(self, *arguments: Any) -> None:
        self._places = BoundedSemaphore(CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # one of a client that hung up is no news
            super().handle_error(request, client_address)


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of `folder` on 127.0.0.1; call its `serve_forever`.

    Args:
        folder: folder to serve.
        port: TCP port; 0: any free port.

    Raises:
        FastSCNNError: the port is in use or not allowed.
    """
    try:
        return _Server(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise FastSCNNError(f"port: {port} cannot be used ({error}); give another --port.") from error
