"""Writing videos: a file is complete under its name, or it does not exist.

PyAV (FFmpeg in a wheel) encodes them. It is the extra `[video]`, and this module cannot be imported without it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import PRESET, PresetName, UInt8Array
from fastscnn.media.video import Source

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # formats that keep timestamps, by FFmpeg's names
_H264, _MPEG4 = "libx264", "mpeg4"
_BT709 = 1
_AT_A_TIME = 16  # pixels that FFmpeg reads, also beyond the end of a row


def check(path: Path) -> None:
    """Raise ArgumentError unless the suffix is that of a format in `FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ArgumentError(f"{path}: videos are written as {', '.join(FORMATS)}; use one of these suffixes.")


class Writer:
    """Writes a video file: frames with the timestamps of their source, and a copy of its audio.

    Use it in a `with` block. The file gets its name when the block ends with at least one frame written, even after an
    error. Until then there is a `.part` file beside it, which is removed if the video cannot be written. Odd sides are
    made even by repeating the last column or row, which H.264 needs for every player. Colours are BT.709 and tagged so.

    Args:
        path: .mp4, .mov or .mkv.
        source: the times and audio of the frames.
        size: (height, width) of the frames.
        preset: of the H.264 encoder: from "ultrafast", for the least time, to "veryslow", for the smallest file.

    Attributes:
        frames: number of frames written.
        kept: whether the file exists, after the block.
        notes: messages for the user: another codec than H.264, audio dropped. Copying the audio may add to them.

    Raises:
        ArgumentError: another suffix.
        FastSCNNError: a file that cannot be written, a full disk, or an encoder that cannot be opened.
    """

    def __init__(self, path: Path, source: Source, size: tuple[int, int], preset: PresetName = PRESET) -> None:
        check(path)
        self.path, self.source, self.size, self._preset = files.expand(path), source, size, preset
        self.frames, self.kept, self.notes = 0, False, list[str]()
        self._codec = _H264 if _H264 in av.codecs_available else _MPEG4
        self._broken = False
        if self._codec == _MPEG4:
            self.notes.append(f"{path}: this PyAV has no H.264; the video is MPEG-4 (mp4v), which browsers do not play.")

    def __enter__(self) -> Self:
        self._part = files.part(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A Python file: FFmpeg's own reports no full disk when it is closed.
            self._file = self._part.open("xb")
        except OSError as error:
            raise FastSCNNError(f"{self.path}: cannot be written ({error.strerror}).") from error
        try:
            self._container = av.open(self._file, "w", format=FORMATS[self.path.suffix.lower()])
            self._video = self._video_stream()
            self._audio = self._audio_stream()
            self._container.start_encoding()
        except BaseException as error:
            self._discard()
            if isinstance(error, (av.FFmpegError, OSError)):
                raise self._failure(error) from error
            raise
        return self

    def _video_stream(self) -> VideoStream:
        height, width = (side + side % 2 for side in self.size)
        # No B-frames: with them, MP4 derives the duration of a variable rate from the decoding order. CRF 20 (0 is
        # lossless, 51 the worst) looks like the original.
        options = {"crf": "20", "preset": self._preset, "bf": "0"} if self._codec == _H264 else {}
        stream = self._container.add_stream(self._codec, self.source.rate, options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        # MPEG-4 allows at most 65535; 60000 represents 24, 25, 30, 50, 60 and 29.97 without rounding.
        context.time_base = self.source.time_base if self._codec == _H264 else Fraction(1, 60_000)
        context.sample_aspect_ratio = self.source.aspect
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        if self._codec == _MPEG4:
            stream.bit_rate = round(width * height * self.source.rate / 5)  # 0.2 bits per pixel
        return stream

    def _audio_stream(self) -> AudioStream | None:
        sound = self.source.sound
        if sound is None:
            return None
        try:
            codec = sound.codec.canonical_name
        except AttributeError:  # PyAV gives a stream that FFmpeg cannot decode no codec
            self.notes.append(f"{self.path}: the audio is of a codec that is not known; it is dropped.")
            return None
        if codec not in self._container.supported_codecs:
            self.notes.append(f"{self.path}: {self.path.suffix} cannot contain {codec}; the audio is dropped.")
            return None
        return self._container.add_stream_from_template(sound)

    def write(self, image: UInt8Array, pts: int) -> None:
        """Write a frame, and the audio up to it.

        Args:
            image: uint8 [H, W, 3] RGB of the given size.
            pts: presentation time in units of the source's `time_base`; later than the previous one.
        """
        bottom, right = self.size[0] % 2, self.size[1] % 2
        if bottom or right:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "edge")
        rgb = _frame(image)
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = pts, self.source.time_base
        try:
            self._container.mux(self._video.encode(frame))
        except (av.FFmpegError, OSError) as error:
            self._broken = True
            raise self._failure(error) from error
        self.frames += 1
        self.copy_sound(pts * self.source.time_base)

    def copy_sound(self, until: Fraction | None = None) -> None:
        """Copy the audio that the source has collected, up to a time in seconds; None for all of it.

        From the first packet that the file does not accept, the audio is dropped, and `notes` says so.
        """
        waiting = self.source.packets
        while waiting and (until is None or (waiting[0].dts or 0) * waiting[0].time_base <= until):
            packet = waiting.popleft()
            if self._audio is not None:
                packet.stream = self._audio
                self._copy(packet)

    def _copy(self, packet: Packet[Any]) -> None:
        moment = float((packet.dts or 0) * packet.time_base)
        try:
            self._container.mux(packet)
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:  # its times or its content
            self._audio = None
            self.notes.append(f"{self.path}: the audio is dropped from {moment:.1f} seconds on: it cannot be copied "
                              f"({error.strerror}).")
        except (av.FFmpegError, OSError) as error:
            self._broken = True
            raise self._failure(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._broken or not self.frames:
            self._discard()
            return
        try:
            self._container.mux(self._video.encode())
            self._container.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self.path)
            self.kept = True
        except (av.FFmpegError, OSError) as failure:
            self._discard()
            raise self._failure(failure) from failure
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        with suppress(av.FFmpegError, OSError, AttributeError):  # the data not written yet is dropped
            self._container.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink()

    def _failure(self, error: av.FFmpegError | OSError) -> FastSCNNError:
        return FastSCNNError(f"{self.path}: cannot be written ({error.strerror or error}); the partial file is removed and an "
                             "old file of that name is kept.")


def _frame(image: UInt8Array) -> VideoFrame:
    """Return an image as a frame, without a copy where that is safe."""
    if image.shape[1] % _AT_A_TIME:
        return VideoFrame.from_ndarray(image)
    return VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), "rgb24")
