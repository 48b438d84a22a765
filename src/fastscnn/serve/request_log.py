"""Give each request an id, log it, count it, and end it if its client does not read the answer."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from time import perf_counter
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("fastscnn.serve")
HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LONGEST = 200  # characters of a path in the log
_CLOSED = 499  # in the log only: the client left before its answer


class RequestLog:
    """An ASGI application around another one.

    Args:
        app: the application.
        answered: called with path, status and seconds of each request.
        seconds: that a client may take to read a part of an answer.
    """

    def __init__(self, app: ASGIApp, answered: Callable[[Scope, int, float], None], seconds: float) -> None:
        self._app, self._answered, self._seconds = app, answered, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, identity = perf_counter(), _identity(scope)
        scope.setdefault("state", {})["request_id"] = identity.decode()
        status, sent, complete = _CLOSED, 0, False

        async def counted(message: Message) -> None:
            nonlocal status, sent, complete
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, identity)]}
            async with asyncio.timeout(self._seconds):
                await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
                complete = not message.get("more_body", False)

        try:
            await self._app(scope, receive, counted)
        except TimeoutError:  # the server closes the connection
            pass
        except Exception:
            LOG.exception("%s failed", identity.decode())
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            seconds = perf_counter() - start
            status = status if complete or status >= HTTPStatus.INTERNAL_SERVER_ERROR else _CLOSED
            self._answered(scope, status, seconds)
            _write(scope, identity.decode(), status, seconds, sent)


def _identity(scope: Scope) -> bytes:
    """Return the id that a client or proxy gave, if it is a plain word, or a new one."""
    given: bytes = next((value for name, value in scope["headers"] if name == HEADER), b"")
    return given if _ID.fullmatch(given) else uuid4().hex.encode()


def _write(scope: Scope, identity: str, status: int, seconds: float, sent: int) -> None:
    path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")[:_LONGEST]
    client = scope["client"][0] if scope.get("client") else None
    fields = {"request_id": identity, "method": scope["method"], "path": path, "status": int(status),
              "milliseconds": round(1e3 * seconds, 1), "bytes": sent, "client": client}
    LOG.info("%s %s %s %d %.1f ms %d bytes", *list(fields.values())[:6], extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object on each line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON: time, level, and its fields or its message."""
        head = {"time": datetime.fromtimestamp(record.created, UTC).isoformat(), "level": record.levelname.lower()}
        text = {"message": record.getMessage()} if not hasattr(record, "fields") else record.fields
        trace = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({**head, **text, **trace})
