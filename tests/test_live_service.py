"""`serve --source`: overlays of a live stream over HTTP, from cameras on loopback."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from streams import SIZE, Camera, Web, free_port, number_of
from test_serve import serving
from waiting import wait_until

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import addresses

pytest.importorskip("av", reason="the extra [video] is not installed")
from fastscnn.media import live
from fastscnn.serve import live as service
from fastscnn.serve.app import Limits, create_app
from fastscnn.serve.live import LiveOverlays
from fastscnn.serve.metrics import Metrics

THREADS = {"fastscnn-live", "fastscnn-reader", "fastscnn-source"}


@pytest.fixture
def camera() -> Camera:
    return Camera(rate=50)


@pytest.fixture
def web(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(live, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(service, "PAUSE", 0.05)
    before = set(threading.enumerate())
    server = Web({"/live": camera})
    yield server
    server.close()
    wait_until(lambda: not {thread.name for thread in set(threading.enumerate()) - before} & THREADS)  # the stream is closed


def picture_in(part: bytes) -> UInt8Array:
    head, _, rest = part.partition(b"\r\n\r\n")
    assert head.startswith(b"--frame\r\nContent-Type: image/jpeg\r\n")
    assert int(head.rpartition(b" ")[2]) == len(rest) - 2
    return np.asarray(Image.open(io.BytesIO(rest[:-2])))


class Watched:
    """A service without its routes."""

    def __init__(self, web: Web, segmenter: Segmenter) -> None:
        self.ready, self.metrics = True, Metrics(lambda: 0)
        self.overlays = LiveOverlays(addresses.read(f"{web.url}/live"), segmenter, self.metrics, lambda: self.ready)

    async def watch(self, count: int) -> list[UInt8Array]:
        """Take parts as one viewer, who then leaves."""
        parts = self.overlays.parts()
        found: list[UInt8Array] = []
        async with asyncio.timeout(30):
            while len(found) < count:
                found.append(picture_in(await anext(parts)))
        await parts.aclose()
        return found

    def overlays_drawn(self) -> float:
        lines = self.metrics.text().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("fastscnn_live_latency_seconds_count")))


async def sent(camera: Camera, frames: int) -> None:
    """Wait until the camera has sent so many more frames."""
    end = camera.number + frames
    async with asyncio.timeout(30):
        while camera.number < end:
            await asyncio.sleep(0.01)


def test_viewers_see_the_latest_overlays_and_share_them(web: Web, camera: Camera, tiny: Segmenter) -> None:
    watched = Watched(web, tiny)

    async def run() -> tuple[list[UInt8Array], list[UInt8Array]]:
        watched.overlays.start()
        await sent(camera, 10)
        assert watched.overlays_drawn() == 0, "nobody watches"
        one, two = await asyncio.gather(watched.watch(5), watched.watch(5))
        watched.overlays.close()
        return one, two

    one, two = asyncio.run(run())
    numbers = [number_of(image) for image in one]
    assert numbers == sorted(set(numbers)), "each frame once, none late"
    assert one[0].shape[0] > SIZE[0], "with the legend"
    assert one[0].shape[1] == SIZE[1]
    assert set(numbers) & {number_of(image) for image in two}, "of the same frames"
    assert watched.overlays_drawn() < 12, "each frame is segmented once for all viewers"
    assert watched.overlays.viewers == 0


def test_a_late_viewer_gets_no_old_frame(web: Web, camera: Camera, tiny: Segmenter) -> None:
    watched = Watched(web, tiny)

    async def run() -> tuple[int, int]:
        watched.overlays.start()
        await watched.watch(2)
        await sent(camera, 15)
        before = camera.number
        image = (await watched.watch(1))[0]
        watched.overlays.close()
        return before, number_of(image)

    before, found = asyncio.run(run())
    assert found >= before - 10, "of 50 frames a second"


def test_the_stream_comes_back_with_another_size(web: Web, camera: Camera, tiny: Segmenter) -> None:
    watched, draw = Watched(web, tiny), camera.draw

    async def run() -> int:
        watched.overlays.start()
        high = (await watched.watch(1))[0].shape[0]
        camera.draw = lambda number: draw(number)[:32]
        async with asyncio.timeout(30):
            while (height := (await watched.watch(1))[0].shape[0]) == high:
                pass
        watched.overlays.close()
        return int(high - height)

    assert asyncio.run(run()) == 32


def test_viewers_end_with_the_service(web: Web, tiny: Segmenter) -> None:
    watched = Watched(web, tiny)

    async def run() -> None:
        watched.overlays.start()
        async with asyncio.timeout(30):
            async for _ in watched.overlays.parts():
                watched.ready = False
        watched.overlays.close()

    asyncio.run(run())
    assert watched.overlays.viewers == 0


def test_the_routes(web: Web, tiny: Segmenter) -> None:
    app = create_app(tiny, Limits(token="secret"), addresses.read(f"{web.url}/live?key=S3cret"))
    with TestClient(app) as client:
        assert client.get("/live").status_code == 401
        assert '<a href="live">' in client.get("/").text
        assert "S3cret" not in client.get("/").text + client.get("/openapi.json").text
    plain = TestClient(create_app(tiny, Limits()))
    assert plain.get("/live").status_code == 404
    assert 'href="live"' not in plain.get("/").text


def test_too_many_viewers(web: Web, tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_VIEWERS", 0)
    with TestClient(create_app(tiny, Limits(), addresses.read(f"{web.url}/live"))) as client:
        answer = client.get("/live")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_source_that_is_not_there(tiny: Segmenter, tiny_onnx: object, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with pytest.raises(FastSCNNError, match=rf"^http://127.0.0.1:{port}: cannot be opened \(Connection refused\)\.$"):
        create_app(tiny, Limits(), addresses.read(f"http://me:S3cret@127.0.0.1:{port}/live"))
    words = ["serve", "--port", "0", "--weights", str(tiny_onnx), "--source", f"http://me:S3cret@127.0.0.1:{port}/live"]
    assert cli.main(words) == 1
    printed = capsys.readouterr().err
    assert f"http://127.0.0.1:{port}: cannot be opened" in " ".join(printed.split())
    assert "S3cret" not in printed


@pytest.mark.slow
def test_sigterm_ends_viewers_and_service(web: Web, tiny_onnx: Path) -> None:
    with serving("--weights", str(tiny_onnx), "--source", f"{web.url}/live") as (address, process):
        with httpx.stream("GET", f"{address}/live", timeout=30) as answer:
            assert answer.headers["content-type"] == service.CONTENT_TYPE
            assert answer.headers["cache-control"] == "no-store"
            parts = answer.iter_bytes()
            assert next(parts).startswith(b"--frame\r\n")
            process.send_signal(signal.SIGTERM)
            for _ in parts:  # complete: without its end, httpx would raise an error
                pass
        assert process.wait(10) == 0
