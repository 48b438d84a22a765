"""Servers of live streams on loopback, which can cut, stall, end and come back; frames carry their number."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SOCK_STREAM, socket
from time import sleep
from typing import Any

import numpy as np
import pytest

from fastscnn.base.types import UInt8Array
from fastscnn.media import jpeg

SIZE = (64, 128)
_BITS, _SIDE = 16, 8  # of the number: squares at the bottom, black or white
_PYTHON = "/usr/bin/python3"  # the system's, which has the modules of GStreamer
_SERVER = Path(__file__).with_name("rtsp_server.py")


def picture(number: int) -> UInt8Array:
    """A grey frame whose bottom row shows its number in black and white squares, [64, 128, 3]."""
    image = np.full((*SIZE, 3), 120, np.uint8)
    bits = number >> np.arange(_BITS) & 1
    image[-_SIDE:] = np.repeat(255 * bits, _SIDE).astype(np.uint8)[:, None]
    return image


def number_of(image: UInt8Array) -> int:
    """The number in a `picture`, whatever is drawn below it."""
    row = image[SIZE[0] - _SIDE // 2, :, 1]
    return int(np.sum((row[_SIDE // 2 :: _SIDE] > 127).astype(int) << np.arange(_BITS)))


def free_port(kind: int = SOCK_STREAM) -> int:
    with socket(type=kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Web:
    """An HTTP server: paths -> what answers them. `seen` are the requested paths."""

    def __init__(self, pages: dict[str, Callable[[BaseHTTPRequestHandler], None]], port: int = 0) -> None:
        web, self.seen = self, list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.seen.append(self.path)
                if answer := pages.get(self.path.partition("?")[0]):
                    with suppress(OSError):  # the client has left
                        answer(self)
                else:
                    self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, allow_reuse_address = True, False, True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def whole(content: bytes, kind: str = "application/octet-stream") -> Callable[[BaseHTTPRequestHandler], None]:
    """What answers a file."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


class Camera:
    """A motion JPEG camera: counts its frames, also while nobody watches.

    Attributes:
        cut_at: frames that a client gets; then the connection is closed.
        flows: cleared: nothing is sent.
    """

    def __init__(self, rate: float = 50, cut_at: int = 1 << 30, draw: Callable[[int], UInt8Array] = picture) -> None:
        self.rate, self.cut_at, self.draw, self.flows, self.number = rate, cut_at, draw, threading.Event(), 0
        self.flows.set()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
        handler.end_headers()
        for _ in range(self.cut_at):
            self.flows.wait()
            data = jpeg.encoded(self.draw(self.number), 95)
            self.number += 1
            handler.wfile.write(b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data))
            sleep(1 / self.rate)  # as a camera's frames come


@contextmanager
def rtsp_server(port: int, *user: str) -> Iterator[subprocess.Popen[str]]:
    """GStreamer's RTSP server, or skip the test."""
    try:
        process = subprocess.Popen([_PYTHON, str(_SERVER), str(port), "64x128", "25", *user], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
    except OSError:
        pytest.skip(f"{_PYTHON} is missing")
    assert process.stdout
    assert process.stderr
    try:
        if process.stdout.readline() != "ready\n":
            pytest.skip(f"needs python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-ugly: {process.stderr.read()}")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
