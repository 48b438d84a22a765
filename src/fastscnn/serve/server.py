"""Run the service: uvicorn with limits for slow clients, and an end that answers what was accepted."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastscnn.base.errors import FastSCNNError
from fastscnn.serve.request_log import LOG, JsonFormatter

_HEAD_SECONDS = 10  # for the first head of a connection; later ones have uvicorn's own limit
_IDLE_SECONDS = 15  # of a connection between two requests
_CONNECTIONS = 512  # at a time; more are closed
_HEAD_BYTES = 16_384


class _Protocol(H11Protocol):
    """Closes connections that send no complete head in time, and those over the limit."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
        self.loop.call_later(_HEAD_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if self._began is None and not self.transport.is_closing():
            self.transport.abort()

    @property
    def _began(self) -> object:
        """The first request, if its head is complete: uvicorn declares the attribute without the None that it begins with."""
        return self.cycle


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.ready = False  # type: ignore[union-attr] # a FastAPI
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0: any free one.

    Raises:
        FastSCNNError: the host is unknown, or the port in use or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise FastSCNNError(f"{host}:{port} cannot be used ({reason}); give another --port or --host.") from error


def run(app: FastAPI, listening: socket.socket, timeout: float, json_logs: bool) -> None:
    """Serve until SIGINT or SIGTERM. Requests that were accepted are answered first.

    Args:
        app: the service.
        listening: made by `bind`.
        timeout: seconds that the answers of accepted requests may take at the end.
        json_logs: write each line of the log as JSON; to stderr.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json_logs else logging.Formatter("%(asctime)s %(message)s"))
    for name in (LOG.name, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    options: dict[str, Any] = {
        "http": _Protocol, "ws": "none", "log_config": None, "access_log": False, "server_header": False,
        "timeout_keep_alive": _IDLE_SECONDS, "timeout_graceful_shutdown": max(1, round(2 * timeout)),
        "h11_max_incomplete_event_size": _HEAD_BYTES, "backlog": _CONNECTIONS,
    }  # fmt: skip
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn has its own handler, and sends the signal again at its end
    try:
        with suppress(KeyboardInterrupt):
            _Server(uvicorn.Config(app, **options)).run([listening])
    finally:
        signal.signal(signal.SIGTERM, before)
