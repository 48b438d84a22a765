"""Live streams from the network: RTSP over TCP, HTTP(S) with MJPEG or HLS, and MPEG-TS over UDP.

PyAV (FFmpeg in a wheel) receives and decodes them. It is the extra `[video]`, and this module cannot be imported without it.
"""

from __future__ import annotations

import atexit
import errno
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from ipaddress import ip_address
from itertools import count
from threading import Event, get_ident
from time import perf_counter, sleep
from types import SimpleNamespace

import av
import av.container.core
from av.codec.context import Flags, ThreadType
from av.container import InputContainer

from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.media import addresses
from fastscnn.media.addresses import Address
from fastscnn.media.video import UNDECODABLE, Frame, Source, paced, source_of

PATIENCE = 300.0  # seconds
SILENCE = 10  # seconds without data until a stream counts as lost
_HLS_SILENCE = 60  # seconds without a frame: a segment may last 10 seconds, and arrives as a whole
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds between attempts
_TIME_BASE = Fraction(1, 90_000)
_TIMEOUTS = (av.error.ExitError, av.error.TimeoutError)  # of PyAV and of the operating system
_SILENT = "the server sends no data"
_INSIDE: set[int] = set()  # threads that wait for FFmpeg
_ENDS = Event()  # the process ends
_LAST_WAIT = 3.0  # seconds that an ending process waits for them at most; FFmpeg notices within 0.1


@dataclass(frozen=True)
class _Rules:
    """What FFmpeg may use for a scheme: nothing else, whatever the server sends."""

    protocols: str
    formats: str


_WEB_FORMATS = "mpjpeg,hls,mpegts,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,flv"
_RULES = {
    "rtsp": _Rules("tcp", "rtsp"),
    "http": _Rules("http,tcp", _WEB_FORMATS),
    "https": _Rules("https,tls,tcp", _WEB_FORMATS),
    "udp": _Rules("udp", "mpegts"),
}


def read(
    address: str | Address,
    patience: float = PATIENCE,
    on_message: Callable[[str], None] | None = None,
    stop: Event | None = None,
) -> Source:
    """Connect to a live stream and return its frames, as they arrive.

    A stream that ends, breaks or sends no data for 10 seconds is connected to again, after 0.5 seconds, 1, 2 and so on up to
    30. The times of the frames go on: a gap lasts in `Frame.pts` as long as it lasted. Damaged frames are skipped.
    Take the frames in a thread that never waits, such as that of `Segmenter.stream` with `realtime`, or they queue up.

    Args:
        address: rtsp://, http://, https:// (MJPEG or HLS) or udp:// (MPEG-TS). Results name it without user, password, path and
            query.
        patience: seconds without a frame after which it gives up; 0: at once.
        on_message: called with a sentence when the stream is lost and when it is back, by the thread that takes the frames.
        stop: once set, the frames end: when the next one arrives, or when the stream is lost.

    Raises:
        ArgumentError: not such an address.
        FastSCNNError: the first connection fails, or the stream is a recording. Iterating over the frames raises it when
            `patience` is over, or if the size of the frames changes.

    Examples:
        for frame, result in segmenter.stream((frame.image for frame in live.read("rtsp://camera/live").frames), realtime=True):
            print(result)
    """
    given = address if isinstance(address, Address) else addresses.read(address)
    try:
        first = _connected(given)
    except FastSCNNError as error:
        raise FastSCNNError(f"{given.place}: {_sentence(given, error)}.") from None
    frames = _going_on(given, first, patience, on_message or (lambda _: None), stop or Event())
    return replace(first, frames=frames, count=None, time_base=_TIME_BASE)


def _going_on(
    address: Address, source: Source, patience: float, say: Callable[[str], None], stop: Event
) -> Iterator[Frame]:
    """Yield the frames of one connection after another."""
    start, size, number, last = perf_counter(), source.size, 0, -1
    while True:
        offset: int | None = None
        try:
            for frame in source.frames:
                if stop.is_set():
                    return
                if frame.image.shape[:2] != size:
                    break
                pts = round(frame.pts * source.time_base / _TIME_BASE)
                if offset is None:
                    offset = round((perf_counter() - start) / _TIME_BASE) - pts
                last = max(last + 1, pts + offset)
                yield replace(frame, number=number, pts=last)
                number += 1
            reason = "the server has ended the stream"
        except FastSCNNError as error:
            reason = _SILENT if isinstance(error.__cause__, _TIMEOUTS) else _sentence(address, error)
        if source.count is not None:  # a file that a server plays
            return
        lost = perf_counter()
        found = _again(address, reason, patience, say, stop)
        if found is None:
            return
        source = found
        if source.size != size:
            raise FastSCNNError(f"{address.name}: the frame size changes from {hxw(size)} to {hxw(source.size)} (HxW) at frame "
                                f"{number}, and a video has one size; start again.")
        if source.count is not None:
            raise FastSCNNError(f"{address.name}: the stream has ended.")
        say(f"{address.name}: connected again after {perf_counter() - lost:.1f} seconds.")


def _again(address: Address, reason: str, patience: float, say: Callable[[str], None], stop: Event) -> Source | None:
    """Return the next connection that works; None once it shall stop."""
    delay, lost = FIRST_DELAY, perf_counter()
    while perf_counter() - lost < patience:
        if stop.is_set() or _ENDS.is_set():
            return None
        wait = min(delay, max(0.0, patience - (perf_counter() - lost)))
        say(f"{address.name}: {reason}; connecting again in {wait:.1f} seconds.")
        if stop.wait(wait):
            return None
        try:
            return _connected(address)
        except FastSCNNError as error:
            reason = _sentence(address, error)
        delay = min(2 * delay, LONGEST_DELAY)
    given_up = f"; given up after {patience:g} seconds" if patience else ""
    raise FastSCNNError(f"{address.name}: {reason}{given_up}.")


def _sentence(address: Address, error: FastSCNNError) -> str:
    return str(error).removeprefix(f"{address.name}: ").rstrip(".")


def _connected(address: Address) -> Source:
    """Return the frames of one connection. Errors name the address without its secrets, and have no cause, which names them."""
    start = perf_counter()
    try:
        with _inside():
            container = _opened(address)
    except (av.FFmpegError, OSError) as error:
        if perf_counter() - start >= SILENCE:  # of RTSP it is invalid data, of TLS an input/output error
            raise FastSCNNError(f"{address.name}: cannot be opened ({_SILENT}).") from None
        moved = "; if it is a redirect, give the address that it leads to" if error.errno == errno.EIO else ""
        raise FastSCNNError(f"{address.name}: cannot be opened ({_reason(error)}{moved}).") from None
    kind = container.format.name
    if container.duration and address.scheme != "rtsp":
        length = container.duration / av.time_base
        container.close()
        raise FastSCNNError(f"{address.name}: is a recording of {length:.0f} seconds, not a live stream; download it first.")
    for video in container.streams.video:
        if video.codec_context is not None:  # None: of a codec that FFmpeg cannot decode
            video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            video.codec_context.flags |= Flags.low_delay
    try:
        with _inside():
            source = source_of(address.name, container, sound=False, threads=ThreadType.SLICE, lossy=True)
    except FastSCNNError as error:
        raise FastSCNNError(str(error)) from None
    source = replace(source, frames=_received(source.frames))
    if kind == "hls":  # a segment of several seconds arrives at once
        return paced(source, SILENCE)
    if kind == "mpjpeg":  # its frames have no times
        return replace(source, frames=_timed(source.frames), time_base=_TIME_BASE)
    return source


def _opened(address: Address) -> InputContainer:
    rules = _RULES[address.scheme]
    options = {"protocol_whitelist": rules.protocols, "format_whitelist": rules.formats,
               "analyzeduration": "1000000",  # a second is enough to find the size, and more is delay
               "timeout": str(SILENCE * 1_000_000)}
    if address.scheme == "rtsp":
        options |= {"rtsp_transport": "tcp", "allowed_media_types": "video"}
    elif address.scheme == "udp":
        options |= {"overrun_nonfatal": "1", **_listening(address.host)}
    else:
        options |= {"max_redirects": "0", "seekable": "0", "live_start_index": "-1"}
    if address.scheme == "https":
        options |= {"tls_verify": "1", "ca_file": ssl.get_default_verify_paths().cafile or ""}
    silence = SILENCE if address.scheme in ("rtsp", "udp") else _HLS_SILENCE
    container: InputContainer = av.open(address.url, options=options, timeout=(SILENCE, silence), **UNDECODABLE)
    return container


def _received(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield frames, and note while FFmpeg is waited for."""
    while True:
        with _inside():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


@contextmanager
def _inside() -> Iterator[None]:
    """Note that this thread waits for FFmpeg; none begins to once the process ends."""
    _INSIDE.add(get_ident())
    try:
        if _ENDS.is_set():
            raise FastSCNNError("the process ends.")
        yield
    finally:
        _INSIDE.discard(get_ident())


@atexit.register
def _end_waits() -> None:
    """Let FFmpeg return in all threads. While it waits it calls PyAV, which calls Python: that crashes once Python has ended.

    For PyAV, each look at its clock is an age after the one before, so all its limits of time are over.
    """
    _ENDS.set()
    vars(av.container.core)["time"] = SimpleNamespace(monotonic=count(1e12, 1e12).__next__)
    end = perf_counter() + _LAST_WAIT
    while _INSIDE and perf_counter() < end:
        sleep(0.01)


def _listening(host: str) -> dict[str, str]:
    """Return the option that listens on one address of this machine only; FFmpeg would listen on all of them."""
    try:
        if ip_address(host).is_multicast:
            return {}
    except ValueError:
        pass
    return {"localaddr": host} if host else {}


def _reason(error: av.FFmpegError | OSError) -> str:
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):
        return "the server sends no video of a kind that is accepted"
    return str(error.strerror or type(error).__name__)


def _timed(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield frames with the times at which they arrived."""
    start = perf_counter()
    for frame in frames:
        yield replace(frame, pts=round((frame.arrived - start) / _TIME_BASE))
