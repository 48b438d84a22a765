"""Read the image of a request, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

FIELD = "image"
_RAW = ("image/", "application/octet-stream")  # octet-stream: what clients send if they know no type
_MULTIPART = "multipart/form-data"
_ROOM = 8  # bodies of the largest size that are in memory at a time


class Bodies:
    """Reads bodies; all that are being read at a time share a limit of memory.

    Args:
        max_bytes: of one body.
        seconds: that a client may take to send it.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.max_bytes, self.seconds = max_bytes, seconds
        self._held = 0  # bytes; changed in the event loop only

    async def image(self, request: Request) -> bytes:
        """Return the image file in a request: its body, or the field "image" of a form.

        Raises:
            HTTPException: 408 too slow, 413 too large, 415 another content type, 422 no image in it, 503 no memory for it.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _MULTIPART and not kind.startswith(_RAW):
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                                f"The content type {kind[:80]!r} is not accepted; send an image file as image/jpeg, image/png "
                                f"or another image type, or as the field {FIELD!r} of {_MULTIPART}.")
        if int(request.headers.get("content-length", 0)) > self.max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(request)
        except TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT,
                                f"The body was not complete after {self.seconds:g} seconds.") from None
        body = await _part(request.headers, body) if kind == _MULTIPART else body
        if not body:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "The request has no image; send an image file as its body.")
        return body

    async def _read(self, request: Request) -> bytes:
        chunks, size = [], 0
        try:
            async for chunk in request.stream():
                size, self._held = size + len(chunk), self._held + len(chunk)
                chunks.append(chunk)
                if size > self.max_bytes:
                    raise self._too_large()
                if self._held > _ROOM * self.max_bytes:
                    raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Too many bodies at a time; try again later.",
                                        {"Retry-After": "1"})
            return b"".join(chunks)
        except ClientDisconnect:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "The client closed the connection.") from None
        finally:
            self._held -= size

    def _too_large(self) -> HTTPException:
        return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                             f"The body is larger than {self.max_bytes:,} bytes, the limit of this service (--max-body).",
                             {"Connection": "close"})


async def _part(headers: Headers, body: bytes) -> bytes:
    """Return the content of the form's file."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, whole(), max_files=1, max_fields=8, max_part_size=len(body)).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"The form cannot be read: {error}.") from None
    found = form.get(FIELD)
    if found is None or isinstance(found, str):
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"The form has no file in the field {FIELD!r}.")
    content = await found.read()
    await form.close()
    return content
