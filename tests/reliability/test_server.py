"""Requests that a web server should not follow."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fastscnn.web.server import server

HOST = b"Host: localhost\r\n"
OUTSIDE = (
    b"/../secret", b"/..%2fsecret", b"/%2e%2e/secret", b"/%2e%2e%2fsecret", b"/..%5csecret", b"/..\\secret",
    b"/a/../../secret", b"/./../secret", b"//secret", b"///../secret", b"/%252e%252e/secret", b"/..;/secret", b"/out",
    b"/folder/secret", b"/circle", b"/folder/", b"/sub/", b"/sub", b"/%00", b"/index.html%00.png", b"/%ff%fe", b"/\xff\xfe",
    b"/%", b"/%zz", b"/" + b"a" * 60_000, b"/" + b"a/" * 20_000, b"/" + b"../" * 5000 + b"secret",
    b"http://evil.example/secret", b"file:///etc/passwd", b"/etc/passwd",
)  # fmt: skip
FOREIGN = (
    b"", b"Host: evil.example\r\n", b"Host: localhost.evil.example\r\n", b"Host: 192.168.0.1\r\n",
    b"Host: localhost@evil.example\r\n", b"Host: [::1]\r\n", b"Host:\r\n", b"Host: \xff\r\n",
)  # fmt: skip
MALFORMED = (
    b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", b"GET / HTTP/1.1 x\r\n" + HOST + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST / HTTP/1.0\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"PUT /index.html HTTP/1.0\r\n" + HOST + b"Content-Length: 3\r\n\r\nbad",
    b"DELETE /index.html HTTP/1.0\r\n" + HOST + b"\r\n", b"CONNECT evil.example:80 HTTP/1.0\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.0\r\n" + HOST + b"\r\n", b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    b"GET / HTTP/1.0\r\na: " + b"b" * 100_000 + b"\r\n\r\n", b"GET / HTTP/1.0\r\nnot a header\r\n\r\n",
    bytes(range(256)) * 10, b"\0" * 70_000,
)  # fmt: skip
REQUESTS = (
    *(b"GET " + path + b" HTTP/1.0\r\n" + HOST + b"\r\n" for path in OUTSIDE),
    *(b"GET /index.html HTTP/1.0\r\n" + host + b"\r\n" for host in FOREIGN),
    *MALFORMED,
)


def answered(port: int, request: bytes) -> bytes:
    """What the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
            return b""  # it may close before it has read a long request


@pytest.mark.reliability("server")
def test_requests_that_are_not_followed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("hush")
    for name, target in (("out", tmp_path / "secret"), ("folder", tmp_path), ("circle", site / "circle")):
        (site / name).symlink_to(target)
    with server(site, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            for request in REQUESTS:
                answer = answered(serving.server_port, request)
                assert b" 200 " not in answer[:20], request[:80]
                assert b"the page" not in answer, request[:80]
                assert b"hush" not in answer, request[:80]
                whole = answered(serving.server_port, b"GET /index.html HTTP/1.0\r\n" + HOST + b"\r\n")
                assert whole.endswith(b"the page"), f"after {request[:80]!r}"
        finally:
            serving.shutdown()
            thread.join()
    assert (site / "index.html").read_text() == "the page"
    assert capfd.readouterr() == ("", "")
    record_property("cases", len(REQUESTS))
