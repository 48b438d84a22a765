"""Frames of videos, cameras and sequences of images.

PyAV (FFmpeg in a wheel) decodes them. It is the extra `[video]`, and this module cannot be imported without it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from math import inf
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from fastscnn.base import files
from fastscnn.base.arguments import MAX_PIXELS, hxw
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import images

# What FFmpeg reads, but lists of other files and addresses, which a file of any name can be, and what is no file. For an mlv,
# FFmpeg opens files beside it that have almost its name.
_LISTS = {"concat", "dash", "hls", "imf", "ismv", "lavfi", "mlv", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}
_FORMATS = sorted(name for names in av.formats_available for name in names.split(",") if name not in _LISTS)
# For `av.open`: titles of old cameras and converters are not in UTF-8; nothing here reads them. PyAV 19 replaces them anyway.
UNDECODABLE: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
_UNTAGGED = 2  # FFmpeg's AVCOL_SPC_UNSPECIFIED
_STATED = ("mov", "matroska", "avi")  # formats whose header states the length; for others FFmpeg estimates it
_SLACK = Fraction(1, 2)  # seconds by which a video may be shorter than its header states
JUMP = Fraction(1, 10)  # seconds back in time that start a new part of a recording; less is jitter
_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    Attributes:
        image: uint8 [H, W, 3] RGB, upright.
        number: its index in the source, from 0.
        pts: presentation time in units of the source's `time_base`; it increases from frame to frame.
        decode: seconds spent reading it.
        arrived: `time.perf_counter()` when its data was there, before it was decoded; for latencies.
    """

    image: UInt8Array
    number: int
    pts: int
    decode: float
    arrived: float = 0.0


@dataclass(frozen=True)
class Source:
    """Frames, and their properties known before the first is read.

    Attributes:
        name: for errors.
        frames: all of them, in presentation order; an iterator for a single pass, in any one thread.
        size: (height, width) of every frame, upright.
        time_base: seconds per unit of `Frame.pts`.
        rate: frames per second; the mean if it varies.
        count: approximate number of frames; None if unknown.
        aspect: width of a pixel over its height.
        sound: the audio; None if there is none.
        packets: the audio of the frames read so far that was not taken yet.
        notes: messages for the user, complete after the last frame.
    """

    name: str
    frames: Iterator[Frame]
    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    count: int | None
    aspect: Fraction = Fraction(1)
    sound: AudioStream | None = None
    packets: deque[Packet[Any]] = field(default_factory=deque)
    notes: list[str] = field(default_factory=list)


def read(path: Path, sound: bool = True) -> Source:
    """Return the frames of a video file or a pipe, which need not be seekable, upright by its metadata.

    If times jump back, as in concatenated recordings, they continue after the previous ones.

    Args:
        path: of any format that FFmpeg reads.
        sound: also collect its audio.

    Raises:
        FastSCNNError: the file cannot be opened or contains no frame. Iterating over the frames raises it, after all earlier
            frames, if the file is truncated or broken or the size of the frames changes.
    """
    try:
        # By default FFmpeg treats a clock that restarts as one that overflows, and makes the video a day longer.
        # An absolute path: FFmpeg takes what stands before a colon in a relative one for the protocol of an address.
        options = {"correct_ts_overflow": "0", "protocol_whitelist": "file", "format_whitelist": ",".join(_FORMATS)}
        container = av.open(str(files.expand(path).absolute()), options=options, **UNDECODABLE)
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.{files.download_hint(path)}") from None
    except (av.FFmpegError, OSError) as error:
        raise FastSCNNError(f"{path}: cannot be opened as a video ({error.strerror}); it is not a video, is truncated or "
                            "unfinished, or comes through a pipe and has its index at its end.") from error
    return source_of(str(path), container, sound)


def camera(name: str) -> Source:
    """Return the frames of a camera, until it is closed.

    Args:
        name: its index or the system's name for it, on Linux a path such as /dev/video0.

    Raises:
        FastSCNNError: no such camera, with a list of those that exist, or it cannot be opened. Iterating over the frames
            raises it if the camera is disconnected.
    """
    system = _CAMERAS.get(sys.platform)
    if system is None:
        raise FastSCNNError(f"camera: works on Linux, macOS and Windows, not on {sys.platform}.")
    known = _cameras(system)
    device = name
    if name.isdecimal():
        device = f"/dev/video{name}" if system == "v4l2" else known[int(name)] if int(name) < len(known) else ""
    if not device or (system == "v4l2" and not Path(device).exists()):
        there = f"available: {', '.join(known)}" if known else "this machine has none"
        raise FastSCNNError(f"camera {name}: not found; {there}.")
    try:
        container = _open_camera(system, device)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FastSCNNError(f"camera {name}: cannot be opened ({reason}); check whether another program uses it.") from error
    # Frame threads would delay the output by one frame for each thread.
    return replace(source_of(f"camera {name}", container, sound=False, threads=ThreadType.SLICE), count=None)


def _cameras(system: str) -> list[str]:
    """Return the names of this machine's cameras."""
    if system == "v4l2":
        return sorted(str(path) for path in Path("/dev").glob("video*"))
    with suppress(av.FFmpegError, ValueError, AttributeError):
        return [device.name for device in av.device.enumerate_input_devices(system) if "video" in device.media_types]
    return []


def _open_camera(system: str, device: str) -> InputContainer:
    name = {"avfoundation": f"{device}:none", "dshow": f"video={device}"}.get(system, device)
    return av.open(name, "r", format=system, timeout=(10, 10))


def stills(paths: Sequence[Path], rate: Fraction) -> Source:
    """Return image files as the frames of a video.

    Args:
        paths: at least one; all of the same size.
        rate: frames per second.

    Raises:
        FastSCNNError: an error of `images.read`. Iterating over the frames raises it too, also if the size changes.
    """
    size = images.size(paths[0])

    def frames() -> Iterator[Frame]:
        for number, path in enumerate(paths):
            start = perf_counter()
            image = images.read(path)
            if image.shape[:2] != size:
                raise FastSCNNError(_changed(str(path), size, (image.shape[0], image.shape[1]), number))
            yield Frame(image, number, number, perf_counter() - start, start)

    return Source(str(paths[0].parent), frames(), size, 1 / rate, rate, len(paths))


def paced(source: Source, longest: float = inf) -> Source:
    """Return a source whose frames arrive at the times they are shown, if they can be decoded as fast as that.

    Args:
        source: without sound.
        longest: seconds to wait for a frame; a longer wait is a jump of its clock, and is left out.
    """

    def frames() -> Iterator[Frame]:
        start = perf_counter()
        for frame in source.frames:
            wait = start + float(frame.pts * source.time_base) - perf_counter()
            if wait > longest:
                start, wait = start - wait, 0.0
            sleep(max(0.0, wait))
            yield replace(frame, arrived=perf_counter())

    return replace(source, frames=frames())


def _changed(name: str, before: tuple[int, int], after: tuple[int, int], number: int) -> str:
    return (f"{name}: the frame size changes from {hxw(before)} to {hxw(after)} (HxW) at frame {number}, "
            "and a video has one size; split it there.")


def source_of(
    name: str, container: InputContainer, sound: bool, threads: ThreadType = ThreadType.AUTO, lossy: bool = False
) -> Source:
    """Return the frames of an open container.

    Args:
        name: for errors.
        container: closed after the last frame, or if this raises an error.
        sound: also collect its audio.
        threads: of the decoder; frame threads delay the output by one frame for each thread.
        lossy: skip damaged frames, as a network delivers them; otherwise the first one is an error.

    Raises:
        FastSCNNError: see `read`.
    """
    try:
        return _opened(name, container, sound, threads, lossy)
    except FastSCNNError:
        container.close()
        raise


def _opened(name: str, container: InputContainer, sound: bool, threads: ThreadType, lossy: bool) -> Source:
    video = container.streams.best("video")
    audio = container.streams.best("audio") if sound else None
    if not isinstance(video, VideoStream):
        raise FastSCNNError(f"{name}: contains no video.")
    if getattr(video, "codec_context", None) is None:
        raise FastSCNNError(f"{name}: contains video of a codec that FFmpeg cannot decode, or is damaged.")
    if video.width * video.height > MAX_PIXELS:
        raise FastSCNNError(f"{name}: has frames of {video.height}x{video.width} (HxW), over the limit of "
                            f"{MAX_PIXELS // 1_000_000} megapixels; reduce its size first.")
    video.thread_type = threads
    packets: deque[Packet[Any]] = deque()
    rate = video.average_rate or video.guessed_rate or Fraction(25)
    count = video.frames or (round(container.duration * rate / av.time_base) if container.duration else None)
    notes: list[str] = []
    frames = _decoded(name, container, video, audio, packets, notes, lossy)
    first = next(frames, None)  # gives the size: the stream's may be wrong, and is not upright
    if first is None:
        raise FastSCNNError(f"{name}: contains no frame that can be decoded.")
    height, width = first.image.shape[:2]
    aspect = video.sample_aspect_ratio or Fraction(1)
    if (height, width) != (video.height, video.width) == (width, height):
        aspect = 1 / aspect  # it was rotated by 90 degrees
    base = video.time_base or 1 / rate
    kept = audio if isinstance(audio, AudioStream) else None
    return Source(name, chain([first], frames), (height, width), base, rate, count, aspect, kept, packets, notes)


def _decoded(
    name: str, container: InputContainer, video: VideoStream, audio: object, packets: deque[Packet[Any]], notes: list[str],
    lossy: bool,
) -> Iterator[Frame]:  # fmt: skip
    """Decode until the end, then close the container, in the thread that reads the last frame."""
    start = Fraction(container.start_time or 0, av.time_base)  # of the earliest stream: becomes 0, as in FFmpeg
    clock = _Clock(start)
    number, last, ended, size = 0, -1, Fraction(0), (0, 0)
    base = video.time_base or Fraction(1)
    step = max(1, round(1 / (base * (video.average_rate or 25))))  # for frames without a time
    with container:
        begun = perf_counter()
        try:
            for packet in container.demux():
                arrived = perf_counter()
                if packet.pts is not None:
                    ended = max(ended, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is audio or packet.stream is video:
                    clock.move(packet)
                if packet.stream is audio:
                    if packet.dts is not None:  # an empty packet ends every stream
                        packets.append(packet)
                    continue
                for frame in _pictures(packet, not number or lossy) if packet.stream is video else ():
                    shape = (frame.height, frame.width)
                    if number and shape != size:
                        raise FastSCNNError(_changed(name, size, shape, number))
                    size = shape
                    pts = last + step if frame.pts is None else frame.pts
                    last = max(pts, last + 1)
                    image = _upright(frame)
                    yield Frame(image, number, last, perf_counter() - begun, arrived)
                    number, begun = number + 1, perf_counter()
        except (av.FFmpegError, OSError) as error:
            raise FastSCNNError(f"{name}: cannot be decoded past frame {number} ({error.strerror}).") from error
        stated = container.format.name.split(",")[0] in _STATED
        length = Fraction(container.duration or 0, av.time_base) if stated else Fraction(0)
        lasted = ended - start
        if lasted + _SLACK < length:
            raise FastSCNNError(f"{name}: is truncated: it ends after {float(lasted):.1f} of {float(length):.1f} seconds, "
                                f"at frame {number}; copy it again from its source.")
        if number < video.frames:  # as players show it: a cut that keeps the whole stream, or times that are wrong
            notes.append(f"{name}: shows {number} of the {video.frames} frames that it holds; the others are cut off by its "
                         "edit list or its times.")


def _pictures(packet: Packet[Any], skip: bool) -> Sequence[VideoFrame]:
    """Return the frames of a packet; none if it is damaged and may be skipped.

    A recording cut between two key frames starts with packets that cannot be decoded.
    """
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        if not skip:
            raise
        return []


class _Clock:
    """Shifts the times of packets: `start` becomes 0, and times after a jump back continue after the previous ones.

    A jump starts a new part of the recording. All streams of a part are shifted equally, so that sound and picture stay
    in sync. Each stream enters a part with its own packet: near the seam, packets of both parts are mixed.
    """

    def __init__(self, start: Fraction) -> None:
        self._offsets = [-start]  # seconds, one for each part
        self._streams: dict[int, tuple[int, Fraction, Fraction]] = {}  # of the last packet: part, time in it, shifted end

    def move(self, packet: Packet[Any]) -> None:
        """Shift the next packet of a stream, in place."""
        base, offsets = packet.time_base, self._offsets
        part, last, end = self._streams.get(packet.stream_index, (0, None, Fraction(0)))
        if packet.dts is not None:
            time = packet.dts * base
            if last is not None and time < last - JUMP:
                if part == len(offsets) - 1:  # this stream is the first in the new part
                    offsets.append(max(end for _, _, end in self._streams.values()) - time)
                part = len(offsets) - 1
                offsets[part] = max(offsets[part], end - time)
            self._streams[packet.stream_index] = part, time, time + offsets[part] + (packet.duration or 0) * base
        ticks = round(offsets[part] / base)
        packet.dts = None if packet.dts is None else packet.dts + ticks
        packet.pts = None if packet.pts is None else packet.pts + ticks


def _upright(frame: VideoFrame) -> UInt8Array:
    """Return the pixels as a player shows them, uint8 [H, W, 3] RGB."""
    # Without a tag, large frames count as BT.709, as in players, and others as BT.601, as in FFmpeg.
    matrix = Colorspace.ITU709 if frame.colorspace == _UNTAGGED and frame.height >= 720 else None
    pixels = np.asarray(frame.to_ndarray(format="rgb24", src_colorspace=matrix), np.uint8)
    # PyAV 18 keeps `frame.side_data` in the frame, to which it refers: the frame would live until garbage is collected.
    found: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    return np.ascontiguousarray(_shown(pixels, bytes(found or b"")))


def _shown(pixels: UInt8Array, matrix: bytes) -> UInt8Array:
    """Return pixels [H, W, 3] turned and mirrored by FFmpeg's display matrix, to the nearest of the eight orientations.

    Args:
        pixels: as stored.
        matrix: nine int32 in the byte order of the machine: a, b, u, c, d, v, x, y, w. A pixel at (x, y) is shown at
            (a x + c y, b x + d y), up to a shift. b"": as stored.
    """
    if len(matrix) != 9 * 4:
        return pixels
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    right, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
