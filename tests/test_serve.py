"""The HTTP service: its answers, what it refuses, and how it behaves under load and at its end."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco
from waiting import wait_until

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import jpeg, png
from fastscnn.serve.answers import TYPES, accepted
from fastscnn.serve.app import Limits, create_app

ROOT = Path(__file__).parents[1]
SEGMENT = "/v1/segment"
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def image(stripes: Scene) -> bytes:
    return png.encoded(stripes.image)


@pytest.fixture
def client(tiny: Segmenter) -> Iterator[TestClient]:
    with TestClient(create_app(tiny, Limits(max_body=100_000))) as client:
        yield client


def pixels(content: bytes) -> UInt8Array:
    return np.asarray(Image.open(io.BytesIO(content)))


# answers


def test_json_has_the_percentages(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(SEGMENT, content=image, headers=PNG).json()
    expected = tiny.segment(stripes.image)
    assert answer["size"] == [128, 192]
    assert answer["class_percentages"] == pytest.approx(expected.class_percentages(), abs=1e-3)
    assert set(answer["milliseconds"]) == {"decode", "resize", "network", "labels"}
    assert (answer["backend"], answer["precision"]) == (tiny.backend.name, tiny.backend.precision)
    assert answer["device"] == "cpu"
    assert not {"confidence", "regions"} & set(answer)


def test_png_holds_the_labels_of_segment(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(SEGMENT, content=image, headers={**PNG, "Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels(answer.content), tiny.segment(stripes.image).labels)


def test_png_with_confidence(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(f"{SEGMENT}?confidence=true", content=image, headers={**PNG, "Accept": "image/png"})
    expected = tiny.segment(stripes.image, confidence=True).confidence
    assert expected is not None
    np.testing.assert_array_equal(pixels(answer.content), np.rint(255 * expected).astype(np.uint8))
    answer = client.post(f"{SEGMENT}?confidence=true", content=image, headers=PNG)
    assert answer.json()["confidence"] == pytest.approx(float(expected.mean()), abs=1e-4)


def test_jpeg_is_the_overlay(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(SEGMENT, content=image, headers={**PNG, "Accept": "image/jpeg"})
    assert answer.content == jpeg.encoded(tiny.segment(stripes.image).overlay(), 92)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_masks_by_the_code_of_coco(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(f"{SEGMENT}?shapes=rle", content=image, headers=PNG).json()
    labels = tiny.segment(stripes.image).labels
    assert [region["label"] for region in answer["regions"]] == [tiny.card.label_set.names[n] for n in np.unique(labels)]
    for region in answer["regions"]:
        np.testing.assert_array_equal(coco.decode(region["rle"]), labels == region["id"])


def test_polygons(client: TestClient, image: bytes, tiny: Segmenter, stripes: Scene) -> None:
    answer = client.post(f"{SEGMENT}?shapes=polygons", content=image, headers=PNG).json()
    expected = tiny.segment(stripes.image).polygons()
    assert [(region["id"], region["polygon"]) for region in answer["regions"]] == [
        (polygon.label, polygon.points.tolist()) for polygon in expected
    ]


@pytest.mark.parametrize("size", ["native", "96x128"])
def test_another_input_size(client: TestClient, image: bytes, tiny_onnx: Path, stripes: Scene, size: str) -> None:
    answer = client.post(f"{SEGMENT}?size={size}", content=image, headers={**PNG, "Accept": "image/png"})
    expected = Segmenter.load(tiny_onnx, "onnx", size=size, threads=1).segment(stripes.image).labels
    np.testing.assert_array_equal(pixels(answer.content), expected)


def test_a_form(client: TestClient, image: bytes) -> None:
    sent = client.post(SEGMENT, files={"image": ("street.png", image, "image/png")}, data={"more": "text"})
    assert sent.json()["size"] == [128, 192]


def test_the_card_and_the_description(client: TestClient, tiny: Segmenter) -> None:
    assert client.get("/v1/card").json() == json.loads(tiny.card.to_json())
    assert [client.get(f"/health/{kind}").json() for kind in ("live", "ready")] == [{"status": "ok"}] * 2
    assert set(client.get("/openapi.json").json()["paths"]) == {
        SEGMENT, "/v1/card", "/health/live", "/health/ready", "/metrics"
    }  # fmt: skip
    for page in ("/", "/docs"):
        text = client.get(page).text
        assert "<html" in text
        assert "https://" not in text  # scripts and styles come from the service itself


def test_requests_are_counted(client: TestClient, image: bytes) -> None:
    client.post(SEGMENT, content=image, headers=PNG)
    client.post(SEGMENT, content=b"x", headers=PNG)
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'fastscnn_requests_total{path="/v1/segment",status="200"} 1.0' in text
    assert 'fastscnn_requests_total{path="/v1/segment",status="422"} 1.0' in text
    assert 'fastscnn_requests_total{path="other",status="404"} 1.0' in text
    assert 'fastscnn_stage_seconds_count{stage="network"} 1.0' in text
    assert "fastscnn_images 0.0" in text


def test_a_request_has_an_id(client: TestClient) -> None:
    assert client.get("/health/live", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    strange = client.get("/health/live", headers={"X-Request-ID": "two words"}).headers["x-request-id"]
    assert len(strange) == 32
    answer = client.post(SEGMENT, content=b"x", headers=PNG)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


RANGES = st.tuples(st.sampled_from([*TYPES, "image/*", "*/*", "text/html"]), st.integers(0, 10))


@given(st.lists(RANGES, min_size=1, max_size=5))
def test_the_chosen_type_has_the_highest_weight(ranges: list[tuple[str, int]]) -> None:
    header = ", ".join(f"{name};q={weight / 10}" for name, weight in ranges)

    def weight(kind: str) -> float:
        names = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        return next((max(w for n, w in ranges if n == name) for name in names if any(n == name for n, _ in ranges)), 0)

    found = accepted(header)
    assert weight(found) == max(map(weight, TYPES)) if found else max(map(weight, TYPES)) == 0


# what is refused


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "message"),
    [
        ("", {"Content-Type": "text/plain"}, b"x", 415, "The content type 'text/plain' is not accepted; send an image file"),
        ("", {}, b"x", 415, "The content type '' is not accepted"),
        ("", PNG, b"x", 422, "is not an image that can be read"),
        ("", PNG, b"", 422, "The request has no image"),
        ("", PNG, bytes(100_001), 413, "larger than 100,000 bytes, the limit of this service"),
        ("", {**PNG, "Accept": "text/html"}, b"x", 406, "Accept one of application/json, image/png, image/jpeg."),
        ("?size=1", PNG, b"x", 422, "size: "),
        ("?size=20x20", PNG, b"x", 422, "size: height: must be at least 32, not 20"),
        ("?size=9999x9999", PNG, b"x", 422, "size: 9999x9999 has more than 8,388,608 pixels"),
        ("?shapes=circles", PNG, b"x", 422, "shapes: Input should be 'none', 'rle' or 'polygons'."),
        ("", {"Content-Type": "multipart/form-data"}, b"x", 422, "The form cannot be read"),
        ("", {"Content-Type": "multipart/form-data; boundary=b"}, b"--b--", 422, "The form has no file in the field 'image'."),
    ],
)
def test_what_is_refused(
    client: TestClient, query: str, headers: dict[str, str], content: bytes, status: int, message: str
) -> None:
    answer = client.post(f"{SEGMENT}{query}", content=content, headers=headers)
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.json()


def test_a_body_without_a_length_is_limited_too(client: TestClient) -> None:
    answer = client.post(SEGMENT, content=(bytes(1000) for _ in range(200)), headers=PNG)
    assert answer.status_code == 413


def test_an_image_that_is_cut_off(client: TestClient, image: bytes) -> None:
    answer = client.post(SEGMENT, content=image[: len(image) // 2], headers=PNG)
    assert answer.status_code == 422
    assert "truncated" in answer.json()["error"]


@pytest.mark.parametrize(("path", "status"), [(SEGMENT, 405), ("/v1/%2e%2e/card", 404), ("/x", 404)])
def test_other_routes(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request_id"}


def test_a_token(tiny: Segmenter, image: bytes) -> None:
    with TestClient(create_app(tiny, Limits(token="secret"))) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            answer = client.post(SEGMENT, content=image, headers={**PNG, **headers})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post(SEGMENT, content=image, headers={**PNG, "Authorization": "Bearer secret"}).status_code == 200
        for path in ("/v1/card", "/metrics"):
            assert client.get(path).status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/swagger/swagger-ui.css"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize(("host", "status"), [
    ("localhost", 200), ("127.0.0.1:8000", 200), ("LOCALHOST:80", 200), ("[::1]", 200), ("[::1]:8000", 200),
    ("evil.example", 421), ("", 421), ("localhost.evil.example", 421), ("[::1", 421), ("127.0.0.1.evil:80", 421),
])
def test_other_hosts_are_refused(tiny: Segmenter, host: str, status: int) -> None:
    with TestClient(create_app(tiny, Limits(hosts=("localhost", "127.0.0.1", "::1")))) as client:
        assert client.get("/v1/card", headers={"Host": host}).status_code == status


def test_weights_with_more_channels_are_refused(tiny: Segmenter) -> None:
    class Thermal:
        channels = 4

    class Other:
        card, path = Thermal(), Path("thermal.onnx")

    with pytest.raises(FastSCNNError, match=r"thermal\.onnx: need 1 more channels behind RGB"):
        create_app(Other(), Limits())  # type: ignore[arg-type]


# load


@dataclass
class _Blocked:
    """A backend that waits until it is let go, after the first call."""

    inner: Any
    streams: int = 1
    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    first: bool = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, images: UInt8Array) -> Float32Array:
        if not self.first:
            self.begun.release()
            assert self.go.wait(20)
        self.first = False
        result: Float32Array = self.inner(images)
        return result


def test_a_full_queue_is_said_and_recovers(tiny: Segmenter, image: bytes) -> None:
    backend = _Blocked(tiny.backend)
    with TestClient(create_app(Segmenter(backend), Limits(queue=2))) as client, ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(client.post, SEGMENT, content=image, headers=PNG) for _ in range(3)]
        assert backend.begun.acquire(timeout=20)
        wait_until(lambda: "fastscnn_images 3.0" in client.get("/metrics").text)
        refused = client.post(SEGMENT, content=image, headers=PNG)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.post(SEGMENT, headers=PNG).status_code == 503  # before the body is read
        backend.go.set()
        assert [each.result().status_code for each in taken] == [200] * 3
        assert client.post(SEGMENT, content=image, headers=PNG).status_code == 200


def test_an_image_that_waits_too_long_is_given_up(tiny: Segmenter, image: bytes) -> None:
    backend = _Blocked(tiny.backend)
    with TestClient(create_app(Segmenter(backend), Limits(queue=2, timeout=0.3))) as client:
        assert client.post(SEGMENT, content=image, headers=PNG).status_code == 503
        backend.go.set()
        assert client.post(SEGMENT, content=image, headers=PNG).status_code == 200


# the server


def _follow(lines: Iterable[str], log: Callable[[str], None]) -> None:
    for line in lines:
        log(line)


def _listens(address: str) -> bool:
    try:
        httpx.get(f"{address}/health/ready")
    except httpx.TransportError:
        return False
    return True


@contextmanager
def serving(*options: str, log: Callable[[str], None] = lambda _: None, **variables: str) -> Iterator[tuple[str, Any]]:
    """Run `fastscnn serve` on a free port; yield its address and process."""
    command = [sys.executable, "-m", "fastscnn", "serve", "--port", "0", "--threads", "2", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables})
    assert process.stderr
    try:
        address = next(line for line in process.stderr if "http://" in line).split()[0]
        reader = threading.Thread(target=_follow, args=(process.stderr, log), daemon=True)
        reader.start()
        wait_until(lambda: _listens(address) or process.poll() is not None)
        assert process.poll() is None
        yield address, process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        reader.join(10)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
def test_the_end_answers_what_was_accepted(tiny_onnx: Path, image: bytes) -> None:
    """SIGTERM while eight clients send: each connection that was accepted gets a whole answer."""
    lines: list[str] = []
    with serving("--weights", str(tiny_onnx), "--json-logs", log=lines.append) as (address, process):
        stop, found, refused = threading.Event(), list[int](), list[str]()

        def send() -> None:
            while not stop.is_set():
                try:
                    found.append(httpx.post(f"{address}{SEGMENT}", content=image, headers=PNG, timeout=20).status_code)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:  # accepted by the system, not by the service
                    refused.append(repr(error))
                    return

        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(send)
            wait_until(lambda: len(found) >= 50)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            stop.set()
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    answered = [line for line in logged if line.get("path") == SEGMENT]
    assert set(found) <= {200, 503}
    assert len(answered) == len(found)  # the service logs nothing that its client did not get
    assert {line["status"] for line in answered} <= {200, 503}


@pytest.mark.slow
def test_slow_and_strange_clients(tiny_onnx: Path, image: bytes) -> None:
    with serving("--weights", str(tiny_onnx), "--timeout", "1") as (address, _), ExitStack() as stack:
        host, port = address.removeprefix("http://").split(":")
        slow = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(100)]
        for one in slow[:50]:
            head = ("POST /v1/segment HTTP/1.1", "Host: localhost", "Content-Type: image/png", "Content-Length: 9")
            one.sendall("\r\n".join((*head, "", "x")).encode())
        for one in slow[50:]:
            one.sendall(b"POST /v1/seg")
        begun = perf_counter()
        assert httpx.post(f"{address}{SEGMENT}", content=image, headers=PNG).status_code == 200
        assert perf_counter() - begun < 5
        for one in slow[:50]:
            one.settimeout(20)
            assert one.recv(100).startswith(b"HTTP/1.1 408 ")
        for one in slow[50:]:
            one.settimeout(30)
            assert one.recv(100) == b""  # closed
        for text in (b"\0\xff\r\n\r\n", b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection((host, int(port)), 10) as strange:
                strange.sendall(text)
                assert strange.recv(100).startswith((b"HTTP/1.1 4", b"HTTP/1.1 421"))


@pytest.mark.slow
def test_the_documented_clients(tmp_path: Path) -> None:
    """The lines with curl in docs/serve.md, as they stand but for the port, and the example in Python."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    scene = synthetic.draw(360, 480).image
    (tmp_path / "street.jpg").write_bytes(jpeg.encoded(scene, 92))
    lines = [line for line in (ROOT / "docs" / "serve.md").read_text().splitlines() if line.startswith("curl ")]
    assert len(lines) >= 3
    with serving() as (address, _):
        printed = [
            subprocess.run(["bash", "-c", line.replace("localhost:8000", address.removeprefix("http://"))], cwd=tmp_path,
                           check=True, capture_output=True, text=True).stdout
            for line in lines
        ]  # fmt: skip
        client = [sys.executable, str(ROOT / "examples" / "serve" / "client.py"), address, "street.jpg"]
        said = subprocess.run(client, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed[0])
    assert found["size"] == [360, 480]
    with Segmenter.load(threads=2, streams=2) as segmenter:
        expected = segmenter.segment(tmp_path / "street.jpg")
    np.testing.assert_array_equal(pixels((tmp_path / "street.labels.png").read_bytes()), expected.labels)
    assert (tmp_path / "street.overlay.jpg").read_bytes() == jpeg.encoded(expected.overlay(), 92)
    assert said.startswith("street.jpg ")
    assert "Road" in said


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (["--host", "0.0.0.0"], {}, "host: 0.0.0.0 can be reached from other machines; give --token-file FILE"),
        (["--token-file", "missing"], {}, "missing: the token cannot be read"),
        (["--token-file", "empty"], {}, "empty: must hold one token without spaces"),
        ([], {"FASTSCNN_TOKEN": " "}, "FASTSCNN_TOKEN is empty"),
        (["--weights", "missing.onnx"], {}, "missing.onnx: "),
        (["--host", "no.such.host.invalid"], {"FASTSCNN_TOKEN": "x"}, "no.such.host.invalid:8000 cannot be used"),
    ],
)
def test_a_wrong_call(
    options: list[str], variables: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from fastscnn import cli

    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["serve", *options]) == (2 if "--host" in options and not variables else 1)
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    from fastscnn import cli

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 1
    assert f"127.0.0.1:{port} cannot be used (Address already in use); give another --port" in capsys.readouterr().err
