"""serve: the HTTP service."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from fastscnn.base import machine
from fastscnn.base.arguments import whole
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.base.hosts import LOOPBACK
from fastscnn.cli.console import configure, note
from fastscnn.cli.flags import load
from fastscnn.cli.options import (
    Backend,
    Precision,
    Quiet,
    Size,
    Threads,
    Verbose,
    Weights,
    described,
    number_within,
    path,
    switch,
    value,
)
from fastscnn.media import addresses
from fastscnn.media.addresses import Address

USAGE = "[options]"
STREAMS = "source"  # the option that takes the address of a live stream
_TOKEN = "FASTSCNN_TOKEN"
_PACKAGES = ("fastapi", "fastapi_swagger", "multipart", "prometheus_client", "uvicorn")


def run(
    *,
    weights: Weights = None,
    host: Annotated[str, value("HOST", str), described(
        "Address to listen on. One that other machines can reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, value("PORT", int), described("TCP port; 0: any free one.")] = 8000,
    workers: Annotated[int | None, value("N", lambda text: whole("workers", int(text), 1, 64), "threads + 1"), described(
        "Images segmented at a time; they share the threads.")] = None,
    queue: Annotated[int, value("N", lambda text: whole("queue", int(text), 0, 10_000)), described(
        "Images that wait at most; more are answered with 503.")] = 16,
    max_body: Annotated[float, value("MB", number_within(0.001, 1000)), described("Largest request, in megabytes.")] = 32.0,
    timeout: Annotated[float, value("SECONDS", number_within(0.1, 3600)), described(
        "Time for a request to arrive, and then to be answered.")] = 30.0,
    token_file: Annotated[Path | None, path("FILE"), described(
        f"File with the token that clients send; or set {_TOKEN}.")] = None,
    source: Annotated[Address | None, value("URL", addresses.read), described(
        "Live stream whose overlays are shown at /live: an address that starts with rtsp://, http://, https:// or udp:// "
        "(docs/serve.md).")] = None,
    json_logs: Annotated[bool, switch("Write the log as JSON lines.")] = False,
    backend: Backend = "auto",
    precision: Precision = "auto",
    size: Size = None,
    threads: Threads = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Segment images over HTTP.

    POST an image to /v1/segment. The Accept header chooses the answer: class percentages and shapes (application/json), labels
    (image/png) or an overlay (image/jpeg). /docs describes all routes.
    """
    configure(quiet, verbose)
    try:
        from fastscnn.serve import server
        from fastscnn.serve.app import Limits, create_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise missing_extra("serve", "serve") from error
    if source is not None and find_spec("av") is None:
        raise missing_extra("--source", "video")
    token = _token(token_file)
    local = host in LOOPBACK
    if not local and token is None:
        raise ArgumentError(f"host: {host} can be reached from other machines; give --token-file FILE or set {_TOKEN}.")
    with server.bind(host, port) as listening:  # before the weights are loaded, because the port may be in use
        most = (threads or machine.threads()) + 1  # one waits for the event loop while the others compute
        segmenter = load(weights, backend, size, threads, precision=precision, streams=min(workers or most, most))
        hosts = LOOPBACK if local else None
        app = create_app(segmenter, Limits(queue, round(1e6 * max_body), timeout, token, hosts), source)
        name = f"[{host}]" if ":" in host else host
        note(f"http://{name}:{listening.getsockname()[1]} ({segmenter.backend.streams} at a time; stop with Ctrl-C)")
        server.run(app, listening, timeout, json_logs)
    return 0


def _token(file: Path | None) -> str | None:
    """Return the token, if there is one."""
    if file is None:
        found = os.environ.get(_TOKEN)
        if found is not None and not found.strip():
            raise FastSCNNError(f"{_TOKEN} is empty; set it to the token, or unset it.")
        return found and found.strip()
    try:
        found = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise FastSCNNError(f"{file}: the token cannot be read ({reason}).") from error
    if not found or len(found.split()) != 1:
        raise FastSCNNError(f"{file}: must hold one token without spaces.")
    return found
