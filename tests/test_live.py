"""Live streams from servers on loopback: which frames come, what a cut, a stall or a restart does, and what stays secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from socket import SOCK_DGRAM, socket
from time import perf_counter, sleep
from typing import Any

import pytest
from streams import SIZE, Camera, Web, free_port, number_of, picture, rtsp_server, whole
from waiting import wait_until

import fastscnn
from fastscnn import cli
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.media import addresses, images

av = pytest.importorskip("av", reason="the extra [video] is not installed")
from fastscnn.media import live, video  # noqa: E402
from fastscnn.media.video import Frame, Source  # noqa: E402

SECRET = "S3cret"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(live, "LONGEST_DELAY", 0.2)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_onnx: Path) -> Run:
    """Calls `segment` with the words; returns exit code, stdout and stderr, its lines put together."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        rest = ("--weights", tiny_onnx, "--backend", "onnx", "--threads", 1)
        code = cli.main(["segment", *(str(word) for word in (*words, *rest))])
        printed = capsys.readouterr()
        return code, printed.out, " ".join(printed.err.split())

    return call


@pytest.fixture
def web() -> Iterator[Callable[..., Web]]:
    """Starts HTTP servers."""
    servers: list[Web] = []

    def start(pages: dict[str, Any], port: int = 0) -> Web:
        servers.append(Web(pages, port))
        return servers[-1]

    yield start
    for server in servers:
        with suppress(OSError):
            server.close()


def first(source: Source, count: int) -> list[Frame]:
    return [frame for frame, _ in zip(source.frames, range(count), strict=False)]


def until(source: Source, said: list[str], text: str) -> None:
    """Take frames until a message has the text; the stream may still deliver those that arrived before."""
    end = perf_counter() + 60
    for _ in source.frames:
        assert perf_counter() < end, said
        if any(text in found for found in said):
            return


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(frame.image) for frame in frames]


# addresses


@pytest.mark.parametrize(("text", "place"), [
    ("rtsp://10.0.0.9:8554/front/stream-1", "rtsp://10.0.0.9:8554/front/stream-1"),
    ("http://cam.local/live.m3u8", "http://cam.local/live.m3u8"),
    ("rtsp://cam", "rtsp://cam"),
    ("rtsp://me@cam/stream1", "rtsp://cam"),
    ("rtsp://me:S3cret@cam/stream1", "rtsp://cam"),
    ("rtsp://cam/user=a&password=S3cret", "rtsp://cam"),
    ("rtsp://cam/stream1?key=S3cret", "rtsp://cam"),
    ("rtsp://cam/stream1#S3cret", "rtsp://cam"),
])
def test_the_place_of_an_address_has_no_secret(text: str, place: str) -> None:
    assert addresses.read(text).place == place


def test_a_first_connection_that_fails_names_the_whole_address(run: Run) -> None:
    code, _, err = run(f"rtsp://127.0.0.1:{free_port()}/front/stream1")
    assert code == 1
    assert re.search(r"rtsp://127\.0\.0\.1:\d+/front/stream1: cannot be opened \(Connection refused\)\.", err)


@pytest.mark.parametrize(("text", "name", "stem"), [
    ("rtsp://cam", "rtsp://cam", "cam"),
    ("RTSP://me:S3cret@192.168.1.9:8554/a/b?token=S3cret#S3cret", "rtsp://192.168.1.9:8554", "192.168.1.9"),
    ("rtsp://me:%40S3cret@[fe80::1]:554/user=a&password=S3cret", "rtsp://[fe80::1]:554", "fe80--1"),
    ("https://cam.local/live.m3u8?key=S3cret", "https://cam.local", "cam.local"),
    ("udp://@239.0.0.1:5000", "udp://239.0.0.1:5000", "239.0.0.1"),
    ("udp://:5000", "udp://:5000", "udp"),
])
def test_an_address_is_named_without_its_secrets(text: str, name: str, stem: str) -> None:
    assert addresses.is_stream(text)
    address = addresses.read(text)
    assert (address.name, address.stem, address.url) == (name, stem, text)
    assert SECRET not in repr(address)


@pytest.mark.parametrize("text", [
    "rtsp://me:S3cret/x@cam/live", "rtsp://me:S3cret?x@cam/live", "rtsp://me:S3cret#x@cam/live", "rtsp:///S3cret",
    "rtsp://me:S3cret@cam:S3cret/live", "udp://cam", "http://[S3cret/live", "rtsp://cam/S3cret live", "rtsp://cam/S3cret\x1b",
    "rtmp://me:S3cret@cam/live", "S3cret",
])
def test_wrong_addresses_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        live.read(text)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", ["rtsp:/cam", "rtsp", "a/rtsp://cam", "file:///etc/passwd", "tcp://cam", "concat:a|b", "rtmp://a"])
def test_what_is_no_stream(text: str) -> None:
    assert not addresses.is_stream(text)


@pytest.mark.parametrize(("words", "message"), [
    (["rtmp://me:S3cret@cam/live"], "rtmp://cam: is an address, and addresses are not opened here"),
    (["a.png", "--out", "rtsp://me:S3cret@cam/live"], "rtsp://cam: is an address, and addresses are not opened here"),
    (["--camera", "rtsp://me:S3cret@cam/live"], "rtsp://cam: is an address, and addresses are not opened here"),
    (["--camera=rtsp://me:S3cret@cam/live"], "rtsp://cam: is an address, and addresses are not opened here"),
    (["rtsp://me:S3cret/@cam/live"], "rtsp://: the host or port of this address cannot be read"),
    (["rtsp://me:S3cret@cam/live", "a.png"], "rtsp://cam: a live stream cannot be combined with others, files or a camera"),
    (["rtsp://me:S3cret@cam/live", "--camera", "0"], "rtsp://cam: a live stream cannot be combined with others"),
    (["rtsp://me:S3cret@cam/live", "--quiet", "rtsp://me:S3cret@cam/2"], "rtsp://cam: give every PATH in one place"),
    (["--preview", "rtsp://me:S3cret@cam/live", "--fps", "x"], "could not convert string to float"),
    (["rtsp://me:S3cret@cam/live", "--annotations", "coco"], "annotations: for images only"),
])
def test_no_message_has_a_secret(run: Run, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "read", lambda *_, **__: pytest.fail("connected"))
    code, out, err = run(*words, "--verbose")
    assert (code in (1, 2), out) == (True, "")
    assert message in err
    assert SECRET not in err


def test_paths_and_files_open_no_connection(web: Callable[..., Web], run: Run) -> None:
    """Only a word that starts with a scheme does: neither a path, nor the content of a file."""
    server = web({})
    for read in (lambda path: video.read(Path(path)), images.read):
        with pytest.raises(FastSCNNError):
            read(f"{server.url}/a.mp4")
    for name, text in {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{server.url}/a.ts\n",
        "b.mp4": f"ffconcat version 1.0\nfile '{server.url}/a.ts'\n",
        "c.mkv": f"{server.url}/a.ts\n",
        "d.mp4": f"[reference]\nRef1={server.url}/a.ts\n",
    }.items():
        Path(name).write_text(text)
        assert run(name)[0] == 1
    Path("http:", "127.0.0.1:1").mkdir(parents=True)
    Path("http:", "127.0.0.1:1", "b.png").write_bytes(b"x")
    assert "http:/127.0.0.1:1/b.png: is not an image" in run("http://127.0.0.1:1/b.png")[2], "a file of that name is a file"
    assert server.seen == []


# motion JPEG


def test_motion_jpeg(web: Callable[..., Web]) -> None:
    camera = Camera(rate=50)
    source = live.read(f"{web({'/live': camera}).url}/live")
    frames = first(source, 20)
    found = numbers(frames)
    assert found == list(range(found[0], found[0] + 20)), "each frame of the camera, in order"
    assert [frame.number for frame in frames] == list(range(20))
    assert (source.size, source.count, source.sound) == (SIZE, None, None)
    seconds = float((frames[-1].pts - frames[1].pts) * source.time_base)
    assert seconds == pytest.approx(frames[-1].arrived - frames[1].arrived, abs=0.1), "at the times at which they arrive"
    assert all(before.pts < after.pts for before, after in pairwise(frames))


def test_a_cut_is_connected_again_and_times_go_on(web: Callable[..., Web]) -> None:
    camera, said = Camera(rate=100, cut_at=15), list[str]()
    source = live.read(f"{web({'/live': camera}).url}/live?key={SECRET}", on_message=said.append)
    start = perf_counter()
    frames = first(source, 35)
    lasted = perf_counter() - start
    found = numbers(frames)
    assert all(before < after for before, after in pairwise(found)), "none twice, none late"
    assert found[-1] > 15, "of later connections"
    assert float(frames[-1].pts * source.time_base) == pytest.approx(lasted, abs=0.5), "a gap lasts as long as it lasted"
    name = r"http://127\.0\.0\.1:\d+: "
    assert re.fullmatch(name + r"(the server has ended the stream|cannot be decoded past frame 15 \(.+\)); "
                        r"connecting again in 0\.\d seconds\.", said[0])
    assert re.fullmatch(name + r"connected again after \d\.\d seconds\.", said[1])


@pytest.mark.slow
def test_a_stall_is_noticed(web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 1)
    camera, said = Camera(rate=50), list[str]()

    def say(text: str) -> None:
        said.append(text)
        camera.flows.set()

    source = live.read(f"{web({'/live': camera}).url}/live", on_message=say)
    assert len(first(source, 5)) == 5
    camera.flows.clear()
    until(source, said, "connected again")
    assert "the server sends no data; connecting again in" in said[0]
    assert len(first(source, 5)) == 5


def test_stop_ends_the_frames(web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next frame, or while it waits for another connection."""
    monkeypatch.setattr(live, "FIRST_DELAY", 600)
    monkeypatch.setattr(live, "LONGEST_DELAY", 600)
    stop, said = threading.Event(), list[str]()

    def say(text: str) -> None:
        said.append(text)
        stop.set()

    source = live.read(f"{web({'/live': Camera(rate=100, cut_at=15)}).url}/live", 3600, say, stop)
    assert 10 < len(first(source, 1000)) <= 15
    assert len(said) == 1
    assert first(live.read(f"{web({'/live': Camera()}).url}/live", stop=stop), 1000) == []


def test_a_server_that_restarts(web: Callable[..., Web]) -> None:
    server, said, waits = web({"/live": Camera(rate=50, cut_at=20)}), list[str](), list[str]()

    def say(text: str) -> None:
        said.append(text)
        found = re.findall(r"again in ([\d.]+) seconds", text)
        waits.extend(found)
        if found and len(waits) == 4:
            web({"/live": Camera(rate=50)}, server.port)

    source = live.read(f"{server.url}/live", on_message=say)
    assert len(first(source, 5)) == 5
    server.close()
    assert len(first(source, 40)) == 40
    assert waits == ["0.1", "0.1", "0.2", "0.2"], "0.05, 0.1, 0.2 and no longer, as rounded"
    assert "Connection refused" in said[1]


@pytest.mark.parametrize("patience", [0.0, 0.4])
def test_patience_ends(web: Callable[..., Web], patience: float) -> None:
    server = web({"/live": Camera(rate=100, cut_at=10)})
    source = live.read(f"{server.url}/live", patience)
    assert len(first(source, 1)) == 1
    server.close()
    start = perf_counter()
    message = "given up after 0.4 seconds" if patience else "has ended the stream|cannot be decoded"
    with pytest.raises(FastSCNNError, match=message) as error:
        first(source, 100)
    assert perf_counter() - start < 5
    assert error.value.__cause__ is None


def test_another_size_ends_the_video(web: Callable[..., Web]) -> None:
    camera = Camera(rate=100, cut_at=10, draw=lambda number: picture(number)[: 64 if number < 10 else 32])
    source = live.read(f"{web({'/live': camera}).url}/live")
    with pytest.raises(FastSCNNError, match=r"^http://\S+: the frame size changes from 64x128 to 32x128 \(HxW\) at frame \d+"):
        first(source, 100)


# HTTP: lists, redirects, errors


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(401)


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three segments of a stream, a second of 25 frames each."""
    folder = tmp_path_factory.mktemp("segments")
    with av.open(str(folder / "list.m3u8"), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}) as container:
        stream = container.add_stream("libx264", 25, {"g": "25", "bf": "0", "qp": "4"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(75):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number))))
        container.mux(stream.encode())
    return [file.read_bytes() for file in sorted(folder.glob("*.ts"))]


def playlist(*names: str, end: bool = False) -> bytes:
    lines = "".join(f"#EXTINF:1,\n{name}\n" for name in names)
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{lines}{'#EXT-X-ENDLIST' if end else ''}\n".encode()


@pytest.mark.slow
def test_hls_plays_the_newest_segment_at_its_speed(web: Callable[..., Web], segments: list[bytes]) -> None:
    pages = {"/list": whole(playlist("0.ts", "1.ts", "2.ts"), "application/vnd.apple.mpegurl")}
    source = live.read(f"{web(pages | {f'/{n}.ts': whole(data) for n, data in enumerate(segments)}).url}/list")
    start = perf_counter()
    frames = first(source, 20)
    found = numbers(frames)
    assert found[0] >= 50
    assert found == list(range(found[0], found[0] + 20))
    assert perf_counter() - start > 0.6, "a segment arrives at once, its frames at their times"


@pytest.mark.slow
@pytest.mark.parametrize("lists", [False, True])
def test_hls_without_new_segments_has_ended(
    lists: bool, web: Callable[..., Web], segments: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The playlist stays the same, or it goes on to name segments that are not there."""
    monkeypatch.setattr(live, "_HLS_SILENCE", 3)
    said, asked = list[str](), list[float]()

    def listed(handler: BaseHTTPRequestHandler) -> None:
        asked.append(perf_counter())
        number = int(asked[-1] - asked[0]) if lists else 0
        content = playlist(*(f"{number + n}.ts" for n in range(3)))
        head = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{number}\n".encode()
        whole(content.replace(b"#EXTM3U\n", head), "application/vnd.apple.mpegurl")(handler)

    source = live.read(f"{web({'/list': listed} | {f'/{n}.ts': whole(data) for n, data in enumerate(segments)}).url}/list", 0,
                       said.append)
    with pytest.raises(FastSCNNError, match="the server has ended the stream"):
        first(source, 1000)
    assert 3 < perf_counter() - asked[0] < 20


def test_a_list_cannot_read_files(web: Callable[..., Web], segments: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 1)  # FFmpeg asks for a list with no usable segment until then
    secret = Path("secret.ts").absolute()
    secret.write_bytes(segments[0])
    server = web({"/0.ts": whole(segments[0])})
    with av.open(str(secret)) as container:
        assert next(container.decode(video=0)).height == SIZE[0], "it could be shown"

    def opened(entry: str) -> str:
        evil = web({"/list": whole(playlist(entry), "application/vnd.apple.mpegurl")})
        try:
            return str(live.read(f"{evil.url}/list").size)
        except FastSCNNError as error:
            return str(error)

    entries = [f"{server.url}/0.ts", f"file://{secret}", str(secret), f"concat:{server.url}/0.ts|file:{secret}",
               f"subfile,,start,0,end,0,,:{secret}", f"crypto+file://{secret}", "data:text/plain,x", "udp://127.0.0.1:9",
               "rtsp://127.0.0.1:9/x"]
    with ThreadPoolExecutor() as pool:
        plain, *others = pool.map(opened, entries)
    assert plain == str(SIZE), "a list of the same form is played"
    assert all(re.search("cannot be opened|no frame|no video", found) for found in others), others
    assert server.seen == ["/0.ts"]


@pytest.mark.parametrize(("page", "message"), [
    (redirect("/live"), r"cannot be opened \(Input/output error; if it is a redirect, give the address that it leads to\)"),
    (redirect("file:///etc/passwd"), "cannot be opened"),
    (refuse, r"cannot be opened \(Server returned 401 Unauthorized"),
    (whole(b"<html>no video</html>", "text/html"), "cannot be opened"),
    (whole(playlist("0.ts", end=True), "application/vnd.apple.mpegurl"), "is a recording of 1 seconds, not a live stream"),
    (whole(b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"), "cannot be opened"),
    (whole(b"ffconcat version 1.0\nfile '0.ts'\n"), "cannot be opened"),
])
def test_what_is_no_live_stream(web: Callable[..., Web], segments: list[bytes], page: Any, message: str) -> None:
    server = web({"/": page, "/live": Camera(), "/0.ts": whole(segments[0])})
    with pytest.raises(FastSCNNError, match=rf"^{server.url}: {message}") as error:
        live.read(f"http://me:{SECRET}@127.0.0.1:{server.port}/?key={SECRET}")
    assert SECRET not in str(error.value)
    assert error.value.__context__ is None or error.value.__suppress_context__, "FFmpeg's error names the address"


@pytest.mark.parametrize("scheme", ["rtsp", "http", "https", "udp"])
def test_a_silent_server(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 1)
    with socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(FastSCNNError, match=rf"^{scheme}://127.0.0.1:{port}: cannot be opened \(the server sends no data"):
            live.read(f"{scheme}://me:{SECRET}@127.0.0.1:{port}/live")


@pytest.mark.parametrize("scheme", ["rtsp", "http", "https"])
def test_nobody_there(scheme: str) -> None:
    port = free_port()
    with pytest.raises(FastSCNNError, match=rf"^{scheme}://127.0.0.1:{port}: cannot be opened \("):
        live.read(f"{scheme}://me:{SECRET}@127.0.0.1:{port}/live")


# UDP


class Sender:
    """Sends MPEG-TS by UDP until it is closed."""

    def __init__(self, port: int) -> None:
        self._closed, self.number = threading.Event(), 0
        self._thread = threading.Thread(target=self._send, args=(port,), daemon=True)
        self._thread.start()

    def _send(self, port: int) -> None:
        with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as container:
            stream = container.add_stream("libx264", 25, {"g": "5", "bf": "0", "tune": "zerolatency", "qp": "4"})
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            while not self._closed.wait(1 / 25):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(self.number))))
                self.number += 1

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


@pytest.mark.slow
def test_udp_survives_noise_and_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 2)
    port, closed, later = free_port(SOCK_DGRAM), threading.Event(), list[Sender]()
    sender = Sender(port)

    def heard(text: str) -> None:
        if closed.is_set() and "the server sends no data; connecting again" in text and not later:
            later.append(Sender(port))

    source = live.read(f"udp://127.0.0.1:{port}", on_message=heard)
    assert numbers(first(source, 10))[-1] <= sender.number
    with socket(type=SOCK_DGRAM) as noise:
        for byte in range(20):
            noise.sendto(bytes([byte]) * 1316, ("127.0.0.1", port))
    assert len(first(source, 10)) == 10
    sender.close()
    closed.set()
    while not later:
        first(source, 1)
    assert numbers(first(source, 10))[-1] < 60, "those of the second sender"
    later[0].close()


@pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="needs /proc/net/udp")
def test_udp_listens_on_the_given_address_only() -> None:
    port = free_port(SOCK_DGRAM)
    sender = Sender(port)
    source = live.read(f"udp://127.0.0.1:{port}")
    bound = [line.split()[1] for line in Path("/proc/net/udp").read_text().splitlines() if f":{port:04X} " in line]
    assert "0100007F" in bound[0]
    assert all(not place.startswith("00000000") for place in bound)
    assert len(first(source, 2)) == 2
    sender.close()


# RTSP


@pytest.mark.slow
def test_rtsp_with_a_password_and_a_restart() -> None:
    port, said = free_port(), list[str]()
    with rtsp_server(port, "me", SECRET):
        with pytest.raises(FastSCNNError, match=rf"^rtsp://127.0.0.1:{port}: cannot be opened \(Server returned 401"):
            live.read(f"rtsp://me:wrong@127.0.0.1:{port}/live")
        source = live.read(f"rtsp://me:{SECRET}@127.0.0.1:{port}/live", on_message=said.append)
        frames = first(source, 30)
        assert source.size == SIZE
        seconds = float((frames[-1].pts - frames[0].pts) * source.time_base)
        assert seconds == pytest.approx(29 / 25, abs=0.3)
    with rtsp_server(port, "me", SECRET):
        more = first(source, 60)
    assert frames[-1].pts < more[0].pts
    assert [frame.number for frame in more] == list(range(more[0].number, more[0].number + 60))
    assert any("connected again after" in text for text in said)
    assert SECRET not in "".join(said)


@pytest.mark.slow
def test_rtsp_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 1)
    port, said = free_port(), list[str]()
    with rtsp_server(port) as process:

        def say(text: str) -> None:
            said.append(text)
            process.send_signal(signal.SIGCONT)

        source = live.read(f"rtsp://127.0.0.1:{port}/live", on_message=say)
        assert len(first(source, 10)) == 10
        process.send_signal(signal.SIGSTOP)
        until(source, said, "connected again")
        assert "the server sends no data; connecting again in" in said[0]
        assert len(first(source, 5)) == 5


# segment


@pytest.mark.slow
def test_the_video_goes_on_after_a_cut(web: Callable[..., Web], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(rate=50, cut_at=40)
    server = web({"/live": camera})
    monkeypatch.setattr(live.read, "__defaults__", (0.5, None, None))

    def leave() -> None:
        camera.cut_at = 0
        server.close()

    threading.Timer(2.5, leave).start()
    code, out, err = run(f"http://me:{SECRET}@127.0.0.1:{server.port}/live?key={SECRET}", "--json", "--labels", "ids")
    assert code == 1, "the stream has ended"
    line = json.loads(out)
    assert line["video"] == server.url
    assert line["overlay"] == "segmented/127.0.0.1.overlay.mp4"
    assert line["milliseconds"]["latency"] > line["milliseconds"]["network"]
    assert "given up after" in line["error"]
    assert "connected again after" in err
    with av.open(line["overlay"]) as container:
        shown = [(frame.pts * frame.time_base, number_of(frame.to_ndarray(format="rgb24")))
                 for frame in container.decode(video=0)]
    assert len(shown) == line["frames"]
    assert shown[-1][1] > 40, "of the second connection"
    assert all(one[0] < two[0] and one[1] < two[1] for one, two in pairwise(shown))
    assert shown[-1][0] > Fraction(1)
    assert all(SECRET not in text for text in (out, err, *map(str, Path().rglob("*"))))


@pytest.mark.slow
@pytest.mark.parametrize("stalled", [True, False])
def test_ctrl_c_ends_at_once_while_nothing_comes(web: Callable[..., Web], tiny_onnx: Path, stalled: bool) -> None:
    camera = Camera(rate=50) if stalled else Camera(rate=50, cut_at=50)
    server = web({"/live": camera})
    words = [f"{server.url}/live", "--weights", str(tiny_onnx), "--backend", "onnx", "--threads", "1", "--json"]
    source = os.pathsep.join((str(Path(fastscnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    process = subprocess.Popen([sys.executable, "-m", "fastscnn", "segment", *words], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source})
    said = process.stderr
    assert said
    wait_until(lambda: camera.number >= 50 or process.poll() is not None)
    if stalled:
        camera.flows.clear()
        sleep(1)  # of silence
    else:
        server.close()
        wait_until(lambda: "connecting" in said.readline())
    start = perf_counter()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert perf_counter() - start < 5
    assert process.returncode == 0, err
    assert json.loads(out)["frames"] > 0
    assert Path("segmented/127.0.0.1.overlay.mp4").exists()


EXIT = """
import atexit, sys, threading
@atexit.register  # before `live`, so it is called after it
def ended():
    reader.join(2)
    print("waits" if reader.is_alive() else "ended")
from fastscnn.base.errors import FastSCNNError
from fastscnn.media import live
def read():
    try:
        for frame in live.read(sys.argv[1], on_message=print).frames:
            print("reads", flush=True)
    except FastSCNNError:
        pass
reader = threading.Thread(target=read, daemon=True)
reader.start()
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["a connection", "motion JPEG", "HLS"])
def test_a_program_that_ends_ends_its_waits(kind: str, web: Callable[..., Web], segments: list[bytes]) -> None:
    """FFmpeg would call Python, which has ended."""
    asked, camera = threading.Event(), Camera(rate=50)

    def silent(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        handler.rfile.read(1)

    pages = {"a connection": silent, "motion JPEG": camera, "HLS": whole(playlist("0.ts"), "application/vnd.apple.mpegurl")}
    server = web({"/live": pages[kind], "/0.ts": whole(segments[0])})
    command = [sys.executable, "-c", EXIT, f"{server.url}/live"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if kind == "a connection":
        assert asked.wait(60)
    else:
        assert process.stdout
        assert process.stdout.readline() == "reads\n"
    camera.flows.clear()
    out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out.replace("reads\n", "")) == (0, "ended\n")


@pytest.mark.slow
def test_quiet_hides_what_happens_to_the_stream(
    web: Callable[..., Web], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.read, "__defaults__", (0.3, None, None))
    server = web({"/live": Camera(rate=50, cut_at=30)})
    threading.Timer(2, server.close).start()
    _, _, err = run(f"{server.url}/live", "--quiet", "--json")
    assert err.count("fastscnn: ") == 1
    assert "connecting again" not in err
