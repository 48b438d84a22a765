"""Writing videos: a file that is whole under its name, or not there.

Encoding is PyAV's (FFmpeg in a wheel), the extra `[video]`; without it this module cannot be imported.
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
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media.video import Source

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # those that keep timestamps, by FFmpeg's names
_H264, _MPEG4 = "libx264", "mpeg4"
_BT709 = 1


class Writer:
    """A video file in the making: frames with the timestamps of their source, and its audio, as it is.

    It bears its name once the `with` block is left with a frame written, whatever ended the block; until then, and where
    it cannot be written, there is only a `.part` beside, which is removed. Odd sides are made even by repeating the last
    column or row, which H.264 as every player reads it needs. Colours are BT.709, and say so.

    Args:
        path: .mp4, .mov or .mkv.
        source: where the frames come from: their times and audio.
        size: (height, width) of the frames that will be written.

    Attributes:
        frames: how many have been written.
        kept: whether the file is there, after the block.
        notes: what a user should know of it: another codec than H.264, audio left out. Copying the audio may add to them.

    Raises:
        FastSCNNError: a path that is no such file, cannot be written, or fills the disk; an encoder that cannot be opened.
    """

    def __init__(self, path: Path, source: Source, size: tuple[int, int]) -> None:
        if path.suffix.lower() not in FORMATS:
            raise FastSCNNError(f"{path}: videos are written as {', '.join(FORMATS)}.")
        self.path, self.source, self.size = path, source, size
        self.frames, self.kept, self.notes = 0, False, list[str]()
        self._codec = _H264 if _H264 in av.codecs_available else _MPEG4
        self._broken = False
        if self._codec == _MPEG4:
            self.notes.append(f"{path}: this PyAV has no H.264; the video is MPEG-4 (mp4v), which browsers do not play.")

    def __enter__(self) -> Self:
        self._part = files.part(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Through Python's file: FFmpeg's own keeps quiet about a full disk when it closes.
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
        # No B-frames: with them MP4 takes the order of decoding for the length of a variable rate. Level 20 of the scale
        # that ends at 51 is hard to tell from the original.
        options = {"crf": "20", "preset": "veryfast", "bf": "0"} if self._codec == _H264 else {}
        stream = self._container.add_stream(self._codec, self.source.rate, options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        # MPEG-4 counts to 65535 at most; 60000 holds 24, 25, 30, 50, 60 and 29.97 without rounding.
        context.time_base = self.source.time_base if self._codec == _H264 else Fraction(1, 60_000)
        context.sample_aspect_ratio = self.source.aspect
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        if self._codec == _MPEG4:
            stream.bit_rate = round(width * height * self.source.rate / 5)  # a fifth of a bit a pixel
        return stream

    def _audio_stream(self) -> AudioStream | None:
        sound = self.source.sound
        if sound is None:
            return None
        if sound.codec.canonical_name not in self._container.supported_codecs:
            self.notes.append(f"{self.path}: {self.path.suffix} holds no {sound.codec.canonical_name}; the audio is left out.")
            return None
        return self._container.add_stream_from_template(sound)

    def write(self, image: UInt8Array, pts: int) -> None:
        """Adds a frame, and the audio up to it.

        Args:
            image: uint8 [H, W, 3] RGB of the size that was announced.
            pts: when it is shown, in units of the source's `time_base`; later than the one before.
        """
        bottom, right = self.size[0] % 2, self.size[1] % 2
        if bottom or right:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "edge")
        rgb = VideoFrame.from_ndarray(image)
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
        """Copies the audio that the source has collected, up to a time in seconds; None: all of it.

        From a packet that the file does not take on, it is left out, and `notes` say so.
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
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:  # its times, or what it holds
            self._audio = None
            self.notes.append(f"{self.path}: the audio is left out from {moment:.1f} seconds on, since it cannot be copied "
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
        with suppress(av.FFmpegError, OSError, AttributeError):  # what it has not written yet has no place to go
            self._container.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink()

    def _failure(self, error: av.FFmpegError | OSError) -> FastSCNNError:
        return FastSCNNError(f"{self.path}: cannot be written ({error.strerror or error}); what was begun is removed, and an "
                             "old file of that name kept.")
