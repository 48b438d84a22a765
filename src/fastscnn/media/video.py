"""Frames of videos, cameras and rows of images.

Decoding is PyAV's (FFmpeg in a wheel), the extra `[video]`; without it this module cannot be imported.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import images

_UNTAGGED = 2  # FFmpeg's AVCOL_SPC_UNSPECIFIED
_STATED = ("mov", "matroska", "avi")  # kinds of files whose headers state the length; elsewhere FFmpeg estimates it
_SLACK = Fraction(1, 2)  # seconds that a video may end before its header says so
_JUMP = Fraction(1, 10)  # seconds back in time that begin another part of a recording; less is jitter
_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    Attributes:
        image: uint8 [H, W, 3] RGB, upright.
        number: its place in the source, from 0.
        pts: when it is shown, in units of the source's `time_base`; grows from frame to frame.
        decode: seconds that reading it took.
    """

    image: UInt8Array
    number: int
    pts: int
    decode: float


@dataclass(frozen=True)
class Source:
    """Frames, and what is known of them before the first is drawn.

    Attributes:
        name: for errors.
        frames: all of them, in the order they are shown; it can be gone through once, in any one thread.
        size: (height, width) of every frame, upright.
        time_base: seconds a unit of `Frame.pts`.
        rate: frames a second; of a variable rate, the mean.
        count: how many frames there are, about; None where nobody knows.
        aspect: width of a pixel over its height.
        sound: the audio, where there is some.
        packets: the audio of the frames drawn so far that nobody has taken yet.
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


def read(path: Path, sound: bool = True) -> Source:
    """The frames of a video file, or of a pipe, which need not be seekable; turned upright as its metadata says.

    Where times jump back, as in recordings that were appended one to another, they go on after what was before.

    Args:
        path: of any kind that FFmpeg reads.
        sound: also collect its audio.

    Raises:
        FastSCNNError: what keeps it from being opened, or that it holds no frame. Going through the frames raises one where
            the file is truncated or broken, or where the size of the picture changes, after all the frames before.
    """
    try:
        # FFmpeg would take a clock that starts anew for one that overflows, and make the video a day longer.
        container = av.open(str(path), options={"correct_ts_overflow": "0"})
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except (av.FFmpegError, OSError) as error:
        raise FastSCNNError(f"{path}: cannot be opened as a video ({error.strerror}); it is none, or was cut off or never "
                            "finished, or comes through a pipe and has its index at its end.") from error
    return _source(str(path), container, sound)


def camera(name: str) -> Source:
    """The frames of a camera, until it is closed.

    Args:
        name: its number; or what the system calls it, on Linux a path such as /dev/video0.

    Raises:
        FastSCNNError: no such camera, and which there are; or what keeps it from being opened. Going through the frames
            raises one where it goes away.
    """
    system = _CAMERAS.get(sys.platform)
    if system is None:
        raise FastSCNNError(f"camera: is read on Linux, macOS and Windows, not on {sys.platform}.")
    known = _cameras(system)
    device = name
    if name.isdecimal():
        device = f"/dev/video{name}" if system == "v4l2" else known[int(name)] if int(name) < len(known) else ""
    if not device or (system == "v4l2" and not Path(device).exists()):
        there = f"there are {', '.join(known)}" if known else "this machine shows none"
        raise FastSCNNError(f"camera {name}: is not there; {there}.")
    try:
        container = _open_camera(system, device)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FastSCNNError(f"camera {name}: cannot be opened ({reason}); see whether another program uses it.") from error
    # Threads that decode a frame each would hold as many frames back.
    return replace(_source(f"camera {name}", container, sound=False, threads=ThreadType.SLICE), count=None)


def _cameras(system: str) -> list[str]:
    """What the cameras of this machine are called."""
    if system == "v4l2":
        return sorted(str(path) for path in Path("/dev").glob("video*"))
    with suppress(av.FFmpegError, ValueError, AttributeError):
        return [device.name for device in av.device.enumerate_input_devices(system) if "video" in device.media_types]
    return []


def _open_camera(system: str, device: str) -> InputContainer:
    name = {"avfoundation": f"{device}:none", "dshow": f"video={device}"}.get(system, device)
    return av.open(name, "r", format=system, timeout=(10, 10))


def stills(paths: Sequence[Path], rate: Fraction) -> Source:
    """Image files as the frames of a video.

    Args:
        paths: at least one; all of one size.
        rate: frames a second.

    Raises:
        FastSCNNError: what `images.read` says of a file. Going through the frames raises it, too, or that the size changes.
    """
    size = images.size(paths[0])

    def frames() -> Iterator[Frame]:
        for number, path in enumerate(paths):
            start = perf_counter()
            image = images.read(path)
            if image.shape[:2] != size:
                raise FastSCNNError(_changed(str(path), size, (image.shape[0], image.shape[1]), number))
            yield Frame(image, number, number, perf_counter() - start)

    return Source(str(paths[0].parent), frames(), size, 1 / rate, rate, len(paths))


def _changed(name: str, before: tuple[int, int], after: tuple[int, int], number: int) -> str:
    return (f"{name}: the picture changes from {before[1]}x{before[0]} to {after[1]}x{after[0]} at frame {number}, "
            "and a video has one size; cut it there.")


def _source(name: str, container: InputContainer, sound: bool, threads: ThreadType = ThreadType.AUTO) -> Source:
    video = container.streams.best("video")
    audio = container.streams.best("audio") if sound else None
    if not isinstance(video, VideoStream):
        raise FastSCNNError(f"{name}: holds no video.")
    if video.width * video.height > images.MAX_PIXELS:
        raise FastSCNNError(f"{name}: has {video.width}x{video.height} pixels, over the limit of "
                            f"{images.MAX_PIXELS // 1_000_000} megapixels; make it smaller first.")
    video.thread_type = threads
    packets: deque[Packet[Any]] = deque()
    rate = video.average_rate or video.guessed_rate or Fraction(25)
    count = video.frames or (round(container.duration * rate / av.time_base) if container.duration else None)
    frames = _decoded(name, container, video, audio, packets)
    first = next(frames, None)  # says the size: that of the stream may be wrong, and does not know what is upright
    if first is None:
        raise FastSCNNError(f"{name}: holds no frame that can be decoded.")
    height, width = first.image.shape[:2]
    aspect = video.sample_aspect_ratio or Fraction(1)
    if (height, width) != (video.height, video.width) == (width, height):
        aspect = 1 / aspect  # it was turned by 90 degrees
    base = video.time_base or 1 / rate
    kept = audio if isinstance(audio, AudioStream) else None
    return Source(name, chain([first], frames), (height, width), base, rate, count, aspect, kept, packets)


def _decoded(
    name: str, container: InputContainer, video: VideoStream, audio: object, packets: deque[Packet[Any]]
) -> Iterator[Frame]:
    """Decodes until the end; closes the container in whichever thread that comes."""
    start = Fraction(container.start_time or 0, av.time_base)  # of the earliest stream: becomes 0, as FFmpeg has it
    clock = _Clock(start)
    number, last, ended, size = 0, -1, Fraction(0), (0, 0)
    base = video.time_base or Fraction(1)
    step = max(1, round(1 / (base * (video.average_rate or 25))))  # for frames without a time
    with container:
        begun = perf_counter()
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    ended = max(ended, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is audio or packet.stream is video:
                    clock.move(packet)
                if packet.stream is audio:
                    if packet.dts is not None:  # an empty one ends every stream
                        packets.append(packet)
                    continue
                for frame in _pictures(packet, number) if packet.stream is video else ():
                    shape = (frame.height, frame.width)
                    if number and shape != size:
                        raise FastSCNNError(_changed(name, size, shape, number))
                    size = shape
                    pts = last + step if frame.pts is None else frame.pts
                    last = max(pts, last + 1)
                    image = _upright(frame)
                    yield Frame(image, number, last, perf_counter() - begun)
                    number, begun = number + 1, perf_counter()
        except (av.FFmpegError, OSError) as error:
            raise FastSCNNError(f"{name}: cannot be decoded past frame {number} ({error.strerror}).") from error
        stated = container.format.name.split(",")[0] in _STATED
        length = Fraction(container.duration or 0, av.time_base) if stated else Fraction(0)
        lasted = ended - start
        if lasted + _SLACK < length:
            raise FastSCNNError(f"{name}: is truncated: it ends after {float(lasted):.1f} of {float(length):.1f} seconds, "
                                f"at frame {number}; copy it again from its source.")


def _pictures(packet: Packet[Any], number: int) -> Sequence[VideoFrame]:
    """What a packet holds; a recording that starts between two key frames starts with packets that cannot be decoded."""
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        if number:
            raise
        return []


class _Clock:
    """Moves the times of packets: `start` becomes 0, and what follows a jump back in time goes on after what was before.

    A jump begins another part of the recording, and all streams of a part move alike, so that sound and picture stay
    together. Each stream enters it with a packet of its own: near the seam those of both parts come mixed.
    """

    def __init__(self, start: Fraction) -> None:
        self._offsets = [-start]  # seconds, a part each
        self._streams: dict[int, tuple[int, Fraction, Fraction]] = {}  # of the last packet: part, time in it, end as moved

    def move(self, packet: Packet[Any]) -> None:
        """Moves the next packet of a stream, in place."""
        base, offsets = packet.time_base, self._offsets
        part, last, end = self._streams.get(packet.stream_index, (0, None, Fraction(0)))
        if packet.dts is not None:
            time = packet.dts * base
            if last is not None and time < last - _JUMP:
                if part == len(offsets) - 1:  # no other stream is there yet
                    offsets.append(max(end for _, _, end in self._streams.values()) - time)
                part = len(offsets) - 1
                offsets[part] = max(offsets[part], end - time)
            self._streams[packet.stream_index] = part, time, time + offsets[part] + (packet.duration or 0) * base
        ticks = round(offsets[part] / base)
        packet.dts = None if packet.dts is None else packet.dts + ticks
        packet.pts = None if packet.pts is None else packet.pts + ticks


def _upright(frame: VideoFrame) -> UInt8Array:
    """The pixels as a player shows them, uint8 [H, W, 3] RGB."""
    # Without a tag, large pictures are BT.709 as players take them, others BT.601 as FFmpeg does.
    matrix = Colorspace.ITU709 if frame.colorspace == _UNTAGGED and frame.height >= 720 else None
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)), np.uint8)
