"""The routes of the service, as a FastAPI application."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from fastscnn.base.arguments import height_width, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.hosts import host
from fastscnn.base.types import UInt8Array
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images
from fastscnn.media.addresses import Address
from fastscnn.serve.answers import JPEG, PNG, TYPES, Answer, Shapes, accepted, encoded
from fastscnn.serve.body import FIELD, Bodies
from fastscnn.serve.metrics import CONTENT_TYPE, Metrics
from fastscnn.serve.request_log import RequestLog
from fastscnn.serve.workers import FullError, Workers
from fastscnn.version import __version__

if TYPE_CHECKING:
    from fastscnn.serve.live import LiveOverlays

_MOST_INPUT = 2048 * 4096  # pixels of the network's input that a client may choose
_OPEN = ("/", "/docs", "/openapi.json")  # paths that need no token
_OPEN_BELOW = ("/health/", "/swagger/")  # and what lies below these
_LINK = '<a href="live">live overlay</a> · '
_SIZE = r"^(native|[1-9][0-9]{1,4}x[1-9][0-9]{1,4})$"
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {"schema": {"type": "object", "properties": {FIELD: _FILE}, "required": [FIELD]}},
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The client left before its image was complete."},
    401: {"description": "The token is missing or wrong."},
    406: {"description": f"The client accepts none of {', '.join(TYPES)}."},
    408: {"description": "The image did not arrive in time."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is neither an image nor a form."},
    422: {"description": "The image cannot be read, or a wrong parameter."},
    503: {"description": "The queue is full; try again after the seconds in Retry-After."},
}


@dataclass(frozen=True)
class Limits:
    """What the service accepts.

    Attributes:
        queue: images that wait at most.
        max_body: bytes of a request at most.
        timeout: seconds that a request may take to arrive, wait and be segmented, each.
        token: that clients send as `Authorization: Bearer TOKEN`; None: no token is needed.
        hosts: names under which browsers may address the service; None: any. It protects a service for this machine from
            pages of other sites (DNS rebinding).
    """

    queue: int = 16
    max_body: int = 32_000_000
    timeout: float = 30.0
    token: str | None = None
    hosts: tuple[str, ...] | None = None


def create_app(segmenter: Segmenter, limits: Limits, source: Address | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        segmenter: as many images are segmented at a time as it has streams.
        limits: what is accepted.
        source: a live stream, whose overlays are shown at /live; needs PyAV.

    Raises:
        FastSCNNError: the weights need more channels than an image file has, or the stream cannot be opened.

    Examples:
        >>> import fastscnn
        >>> from fastapi.testclient import TestClient
        >>> from fastscnn.data import synthetic
        >>> from fastscnn.media import png
        >>> image = png.encoded(synthetic.draw(360, 480).image)
        >>> with TestClient(create_app(fastscnn.Segmenter.load(threads=1), Limits())) as client:
        ...     answer = client.post("/v1/segment", content=image, headers={"Content-Type": "image/png"})
        >>> answer.status_code, answer.json()["size"]
        (200, [360, 480])
    """
    if segmenter.card.channels != 3:
        raise FastSCNNError(f"{segmenter.path or 'The weights'}: need {segmenter.card.channels - 3} more channels behind RGB, "
                            "which no image file has; serve weights that were trained on RGB images.")
    segmenter.segment(np.zeros((*segmenter.card.size, 3), np.uint8))  # the first one takes several times as long
    workers = Workers(segmenter.backend.streams, limits.queue)
    metrics = Metrics(lambda: workers.taken)
    bodies = Bodies(limits.max_body, limits.timeout)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        if overlays is not None:
            overlays.start()
        yield
        if overlays is not None:
            overlays.close()
        workers.close()

    app = FastAPI(title="fastscnn", version=__version__, lifespan=life, redoc_url=None, docs_url=None,
                  description="Segments images of streets: the class of every pixel.")
    # FastAPI's own page of documentation loads its scripts from another host.
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="swagger")
    app.state.ready = False
    _add_errors(app)
    app.add_middleware(_Guard, limits=limits)
    answered = partial(_count, metrics)
    app.add_middleware(RequestLog, answered=answered, seconds=limits.timeout)
    _add_information(app, segmenter, metrics, _LINK if source else "")
    overlays = _add_live(app, source, segmenter, metrics) if source else None

    @app.post("/v1/segment", response_model=Answer, responses={
        200: {"description": "Class percentages; labels (PNG) or, with `confidence`, 255 times the probability of each label; "
                             "or an overlay (JPEG).", "content": {PNG: {"schema": _FILE}, JPEG: {"schema": _FILE}}},
        **_ERRORS,
    }, openapi_extra=_BODY)
    async def segment(
        request: Request,
        confidence: Annotated[bool, Query(description="Also the probability of the labels.")] = False,
        size: Annotated[str | None, Query(pattern=_SIZE, description="Network input size, HxW or native.")] = None,
        shapes: Annotated[Shapes, Query(description="Regions in the JSON answer: a mask of each class, or polygons.")] = "none",
    ) -> Response:
        """Segment one image.

        The Accept header chooses the answer: application/json, image/png (class ids) or image/jpeg (overlay).
        """
        kind = accepted(request.headers.get("accept", ""))
        if kind is None:
            raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, f"Accept one of {', '.join(TYPES)}.")
        sized = _sized(segmenter, size)
        workers.check()  # before the body is read: a refused one is discarded as it arrives
        image = await bodies.image(request)

        def work() -> tuple[bytes, dict[str, float]]:
            source = _limited(image) if sized.size == "native" else image
            found = sized.segment(source, confidence=confidence, keep_image=kind == JPEG)
            return encoded(found, kind, shapes, sized), found.seconds

        content, stages = await workers.run(work, limits.timeout)
        metrics.segmented(stages)
        timing = ", ".join(f"{stage};dur={1e3 * seconds:.1f}" for stage, seconds in stages.items())
        return Response(content, media_type=kind, headers={"Server-Timing": timing, "Vary": "Accept"})

    return app


def _add_live(app: FastAPI, source: Address, segmenter: Segmenter, metrics: Metrics) -> LiveOverlays:
    """Add the route of the live stream."""
    from fastscnn.serve.live import CONTENT_TYPE, MOST_VIEWERS, LiveOverlays

    overlays = LiveOverlays(source, segmenter, metrics, lambda: bool(app.state.ready))

    @app.get("/live", response_class=StreamingResponse, responses={
        200: {"description": "Overlays, one JPEG after another.", "content": {"multipart/x-mixed-replace": {"schema": _FILE}}},
        401: _ERRORS[401], 503: {"description": "Too many viewers."}})
    async def live() -> StreamingResponse:
        """Show the overlays of the live stream as motion JPEG, until the client leaves."""
        if overlays.viewers >= MOST_VIEWERS:
            raise FullError
        headers = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}
        return StreamingResponse(overlays.parts(), media_type=CONTENT_TYPE, headers=headers)

    return overlays


def _add_information(app: FastAPI, segmenter: Segmenter, metrics: Metrics, link: str) -> None:
    """Add the routes with information on the service and its weights; `link` is HTML for the page."""
    card: dict[str, Any] = json.loads(segmenter.card.to_json())
    page = Path(__file__).with_name("page.html").read_text("utf-8").replace("<!-- live -->", link)

    @app.get("/v1/card", responses={401: _ERRORS[401]})
    async def model_card() -> dict[str, Any]:
        """Return the model card of the weights: classes, colours, input size, data, terms and scores."""
        return card

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer as long as the process works."""
        return {"status": "ok"}

    @app.get("/health/ready", responses={503: {"description": "It starts or stops."}})
    async def ready() -> dict[str, str]:
        """Answer whether images are accepted."""
        if not app.state.ready:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "The service stops.")
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: _ERRORS[401]})
    async def prometheus() -> Response:
        """Return counters in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json", title=app.title, swagger_js_url="swagger/swagger-ui-bundle.js",
            swagger_css_url="swagger/swagger-ui.css", swagger_favicon_url="swagger/favicon-32x32.png",
        )  # fmt: skip

    @app.get("/", include_in_schema=False)
    async def try_it() -> HTMLResponse:
        return HTMLResponse(page)


def _sized(segmenter: Segmenter, size: str | None) -> Segmenter:
    """Return the segmenter with another input size on the same backend."""
    if size is None:
        return segmenter
    if size == "native":
        return Segmenter(segmenter.backend, "native", segmenter.path)
    height, width = height_width(size)
    if height * width > _MOST_INPUT:
        raise FastSCNNError(f"size: {size} has more than {_MOST_INPUT:,} pixels, the most that this service accepts.")
    return Segmenter(segmenter.backend, (height, width), segmenter.path)


def _limited(image: bytes) -> UInt8Array:
    """Return the pixels of an image that the network is to run on at its own size."""
    pixels = images.read(image)
    if pixels.shape[0] * pixels.shape[1] > _MOST_INPUT:
        raise FastSCNNError(f"size: the image is {hxw(pixels.shape)} and has more than {_MOST_INPUT:,} pixels, the most that "
                            "this service accepts as native; give HxW.")
    return pixels


class _Guard:
    """Refuses a wrong host and a wrong token. An ASGI application around another one."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        limits, headers = self._limits, request.headers
        if limits.hosts is not None and host(headers.get("host", "")) not in limits.hosts:
            message = f"This service answers to {' and '.join(limits.hosts)} only."
            return _error(request, HTTPStatus.MISDIRECTED_REQUEST, message)
        if limits.token is None or request.url.path in _OPEN or request.url.path.startswith(_OPEN_BELOW):
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), limits.token.encode()):
            return None
        return _error(request, HTTPStatus.UNAUTHORIZED, "Send the token of this service: Authorization: Bearer TOKEN.",
                      {"WWW-Authenticate": "Bearer"})


def _add_errors(app: FastAPI) -> None:
    """Let each error be a sentence in JSON."""

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        return _error(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(FastSCNNError)
    async def _(request: Request, error: FastSCNNError) -> Response:
        return _error(request, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.exception_handler(FullError)
    async def _(request: Request, _error_: FullError) -> Response:
        return _error(request, HTTPStatus.SERVICE_UNAVAILABLE, "The service is busy; try again later.", {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        return _error(request, HTTPStatus.UNPROCESSABLE_ENTITY, f"{found['loc'][-1]}: {found['msg']}.")


def _error(request: Request, status: int, message: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": message, "request_id": request.state.request_id}, int(status), headers)


def _count(metrics: Metrics, scope: Scope, status: int, seconds: float) -> None:
    """Count an answer under the path of its route, or with all others that have none."""
    metrics.answered(str(getattr(scope.get("route"), "path", "other")), status, seconds)
