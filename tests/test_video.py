"""Videos and cameras: every frame at its time, upright, in its colours; and what is left where something goes wrong."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, chain, pairwise, product
from pathlib import Path
from random import Random
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from waiting import wait_until

import fastscnn
from fastscnn import Segmenter, cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.inference.segmentation import Segmentation
from fastscnn.media import images

av = pytest.importorskip("av", reason="the extra [video] is not installed")
from fastscnn.media import video  # noqa: E402
from fastscnn.media.video import Frame, Source  # noqa: E402
from fastscnn.media.video_writer import Writer  # noqa: E402

SIZE = (64, 96)
NTSC = Fraction(30000, 1001)
VARIABLE = (0, 3003, 6006, 20000, 23003, 40001, 40101, 90000)  # in 1/90000 seconds
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_onnx: Path) -> Run:
    """Calls `segment` with the words; returns exit code, stdout and stderr, its lines put together."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        rest = ("--weights", tiny_onnx, "--backend", "onnx", "--threads", 2)
        code = cli.main(["segment", *(str(word) for word in (*words, *rest))])
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return code, streams.out, " ".join(streams.err.split())

    return call


def picture(number: int, size: tuple[int, int] = SIZE) -> UInt8Array:
    """A red square that wanders over blue, and the number in bits of green at the bottom."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, :, 2] = 200
    image[8:32, number % 32 : number % 32 + 24] = (200, 0, 0)
    for bit in range(min(10, size[1] // 8)):
        if number >> bit & 1:
            image[-16:, 8 * bit : 8 * bit + 8] = (0, 250, 0)
    return image


def number_of(image: UInt8Array) -> int:
    """What stands in the bits of a `picture` that is as high as `SIZE`, whatever is below it."""
    green = image[SIZE[0] - 12 : SIZE[0] - 4, :, 1].astype(float)
    blue = image[SIZE[0] - 12 : SIZE[0] - 4, :, 2].astype(float)
    return sum(1 << bit for bit in range(min(10, image.shape[1] // 8))
               if (green - blue)[:, 8 * bit + 2 : 8 * bit + 6].mean() > 0)


def make(
    path: Path,
    frames: int | Sequence[int] = 10,
    rate: Fraction = Fraction(25),
    base: Fraction | None = None,
    size: tuple[int, int] = SIZE,
    sound: str = "",
    turned: int = 0,
    draw: Callable[[int], UInt8Array] | None = None,
    tag: int = 0,
    key: int = 5,
    late: int = 0,
    heard: float = 1,
) -> Path:
    """Writes a video with PyAV alone: as good as lossless, frames at `frames` in units of `base`.

    With `sound`, that codec's, over the share `heard` of it.
    """
    times = range(frames) if isinstance(frames, int) else frames
    container = av.open(str(path), "w", options={"output_ts_offset": str(late)})
    stream: Any = container.add_stream("libx264", rate, {"qp": "1", "g": str(key), "bf": "0"})
    stream.height, stream.width, stream.pix_fmt = *size, "yuv420p" if not size[0] % 2 + size[1] % 2 else "yuv444p"
    stream.codec_context.time_base = base = base or 1 / rate
    if tag:
        stream.colorspace = stream.color_primaries = stream.color_trc = tag
    if turned:
        stream.set_display_rotation(turned)
    audio: Any = container.add_stream(sound, 8000) if sound else None
    for number, pts in enumerate(times):
        image = draw(number) if draw else picture(number, size)
        frame = av.VideoFrame.from_ndarray(image).reformat(format=stream.pix_fmt, dst_colorspace=tag or None)
        frame.pts, frame.time_base = pts, base
        container.mux(stream.encode(frame))
    if audio:
        wave = (8000 * np.sin(np.arange(round(8000 * heard * float(times[-1] * base))) / 3)).astype(np.int16)
        tone = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        tone.sample_rate = 8000
        container.mux(audio.encode(tone))
        container.mux(audio.encode())
    container.mux(stream.encode())
    container.close()
    return path


def decoded(path: Path) -> list[tuple[Fraction, UInt8Array]]:
    """Time in seconds and pixels of every frame, by PyAV alone."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound_of(path: Path) -> tuple[str, bytes]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return stream.codec_context.name, b"".join(bytes(packet) for packet in container.demux(stream))


def copy(source: Source, path: Path) -> Writer:
    with Writer(path, source, source.size) as writer:
        for frame in source.frames:
            writer.write(frame.image, frame.pts)
        writer.copy_sound()
    return writer


def files_here() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


# times, sizes, colours, sound


@pytest.mark.parametrize("turned", [0, 90])
def test_frames_that_were_passed_are_freed(turned: int) -> None:
    """At once, not when garbage is collected: hundreds of them are too many."""
    source = video.read(make(Path("in.mp4"), 30, turned=turned))

    def alive() -> int:
        return sum(isinstance(found, av.VideoFrame) for found in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        assert sum(1 for _ in source.frames) == 30
        assert alive() <= before + 2
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("rate", "base", "times"),
    [
        (Fraction(25), Fraction(1, 25), range(10)),
        (NTSC, 1 / NTSC, range(10)),
        (NTSC, Fraction(1, 90_000), VARIABLE),
        (Fraction(30), Fraction(1, 1_000_000), [0, 33_333, 66_667, 100_000, 5_000_000]),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MOV"])
def test_every_frame_keeps_its_time(rate: Fraction, base: Fraction, times: Sequence[int], suffix: str) -> None:
    source = video.read(make(Path("in.mp4"), times, rate, base))
    assert source.size == SIZE
    assert source.count == len(times)
    assert source.aspect == 1
    assert copy(source, Path("new/out" + suffix)).kept
    after = decoded(Path("new/out" + suffix))
    assert [number_of(image) for _, image in after] == list(range(len(times)))
    within = Fraction(1, 2000) if suffix == ".mkv" else 0  # Matroska counts in milliseconds
    assert max(abs(moment - pts * base) for (moment, _), pts in zip(after, times, strict=True)) <= within
    with av.open("new/out" + suffix) as container:
        assert container.duration / 1e6 > times[-1] * base
        if base == 1 / rate:
            assert abs(container.duration / 1e6 - len(times) / rate) < 0.002
            assert abs(container.streams.video[0].average_rate / rate - 1) < 0.001


def test_a_stream_that_begins_late_begins_at_once() -> None:
    make(Path("in.ts"), range(900, 910), base=Fraction(1, 25))
    with av.open("in.ts") as container:
        assert container.start_time > 30e6
    assert [frame.pts for frame in video.read(Path("in.ts")).frames] == [3600 * number for number in range(10)]


def test_sound_and_picture_stay_together() -> None:
    def starts(path: Path) -> list[float]:
        with av.open(str(path)) as container:
            return [float(stream.start_time * stream.time_base) for stream in container.streams]

    copy(video.read(make(Path("in.ts"), range(30, 60), sound="aac", late=5)), Path("out.mkv"))
    before, after = starts(Path("in.ts")), starts(Path("out.mkv"))
    assert before[0] - before[1] > 1, "the picture begins later"
    assert before[1] > 4
    assert after[0] - after[1] == pytest.approx(before[0] - before[1], abs=0.002)
    assert min(after) < 0.03


def packet_times(path: Path, kind: str) -> list[float]:
    with av.open(str(path)) as container:
        return sorted(float(packet.pts * packet.time_base) for packet in container.demux(**{kind: 0}) if packet.size)


def appended(path: Path, late: int = 0, heard: float = 1) -> Path:
    """Twice 20 frames with sound, the clock of the first part `late` seconds ahead of the second's."""
    make(Path("first.ts"), 20, sound="aac", late=late, heard=heard)
    make(Path("second.ts"), 20, sound="aac")
    path.write_bytes(Path("first.ts").read_bytes() + Path("second.ts").read_bytes())
    return path


@pytest.mark.parametrize(("late", "heard"), [(0, 1), (0, 0.4), (100, 1), (100, 0.4)])
def test_parts_appended_one_to_another_go_on(late: int, heard: float) -> None:
    """FFmpeg takes a clock that is set back by a minute and more for one that overflows."""
    assert copy(video.read(appended(Path("in.ts"), late, heard)), Path("out.mp4")).notes == []
    after = decoded(Path("out.mp4"))
    assert [number_of(image) for _, image in after] == [*range(20), *range(20)]
    steps = [float(later - earlier) for (earlier, _), (later, _) in pairwise(after)]
    assert steps[:19] == steps[20:] == [0.04] * 19
    assert 0.04 <= steps[19] < 0.2, "the sound of the first part is over, too"
    sound = packet_times(Path("out.mp4"), "audio")
    parts = [packet_times(Path(name), "audio") for name in ("first.ts", "second.ts")]
    assert len(sound) == len(parts[0]) + len(parts[1])
    beside = parts[1][0] - packet_times(Path("second.ts"), "video")[0]
    assert sound[len(parts[0])] - float(after[20][0]) == pytest.approx(beside, abs=0.002)


def test_frames_alone_go_on_by_one_step() -> None:
    make(Path("part.ts"), 10)
    Path("in.ts").write_bytes(Path("part.ts").read_bytes() * 3)
    assert [frame.pts for frame in video.read(Path("in.ts")).frames] == [3600 * number for number in range(30)]


Steps = st.lists(st.integers(1, 30), min_size=12, max_size=20)  # of a stream in a part; hundredths of a second


def moved(order: Sequence[tuple[int, int]], start: Fraction = Fraction(0)) -> list[list[int]]:
    """Times of two streams by a clock, from (stream, time); each packet lasts 1."""
    clock, times = video._Clock(start), [list[int](), list[int]()]
    for stream, dts in order:
        packet: Any = SimpleNamespace(stream_index=stream, dts=dts, pts=dts + 2, duration=1, time_base=Fraction(1, 100))
        clock.move(packet)
        assert packet.pts == packet.dts + 2
        times[stream].append(packet.dts)
    return times


@settings(deadline=None)
@given(st.lists(st.tuples(Steps, Steps), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_clock_never_goes_back(parts: list[tuple[list[int], list[int]]], random: Random) -> None:
    """Whatever the order in which packets of two streams come; and where parts do not mix, both streams move alike."""
    raw = [[[0, *accumulate(part[stream])] for part in parts] for stream in (0, 1)]
    rows = [list(chain(*raw[stream])) for stream in (0, 1)]
    mixed = [0] * len(rows[0]) + [1] * len(rows[1])
    random.shuffle(mixed)
    waiting = [iter(row) for row in rows]
    for before, after in zip(rows, moved([(stream, next(waiting[stream])) for stream in mixed]), strict=True):
        for (a, b), (c, d) in zip(pairwise(before), pairwise(after), strict=True):
            assert d - c >= (b - a if b > a else 1)
    tidy = moved([(stream, time) for number in range(len(parts))
                  for time, stream in sorted((time, stream) for stream in (0, 1) for time in raw[stream][number])])
    for number in range(len(parts)):
        ends = [sum(len(part) for part in raw[stream][: number + 1]) - 1 for stream in (0, 1)]
        assert tidy[0][ends[0]] - rows[0][ends[0]] == tidy[1][ends[1]] - rows[1][ends[1]]


def test_a_part_without_sound_keeps_the_next_together() -> None:
    order = [(0, 0), (1, 0), (0, 50), (1, 50), (0, 0), (0, 50), (0, 0), (1, 0), (0, 50)]
    assert moved(order) == [[0, 50, 51, 101, 102, 152], [0, 50, 102]]


def test_jitter_is_no_jump() -> None:
    assert moved([(0, 1000), (1, 1003), (0, 1010), (0, 1002), (1, 1010), (0, 1020)], Fraction(10)) == [[0, 10, 2, 20], [3, 10]]


@pytest.mark.parametrize("size", [(65, 97), (64, 97), (65, 96)])
def test_odd_sizes_are_made_even_by_their_edge(size: tuple[int, int]) -> None:
    source = video.read(make(Path("in.mp4"), 3, size=size))
    assert source.size == size
    copy(source, Path("out.mp4"))
    after = decoded(Path("out.mp4"))[0][1]
    assert after.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert abs(after[: size[0], : size[1]].astype(int) - picture(0, size)).mean() < 3
    assert abs(after[-1].astype(int) - after[-2]).max() < 6
    assert abs(after[:, -1].astype(int) - after[:, -2]).max() < 6


@pytest.mark.parametrize("turned", [90, 180, -90])
def test_frames_stand_upright(turned: int) -> None:
    source = video.read(make(Path("in.mp4"), 2, turned=turned))
    expected = np.rot90(picture(0), turned // 90)  # a display matrix turns against the clock
    assert source.size == expected.shape[:2]
    assert abs(next(source.frames).image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("turned", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_pixels_keep_their_shape(turned: int, aspect: Fraction) -> None:
    container = av.open("in.mp4", "w")
    stream: Any = container.add_stream("libx264", 25)
    stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
    stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
    if turned:
        stream.set_display_rotation(turned)
    for number in range(2):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number))))
    container.mux(stream.encode())
    container.close()
    source = video.read(Path("in.mp4"))
    assert source.aspect == aspect
    copy(source, Path("out.mp4"))
    with av.open("out.mp4") as written:
        assert written.streams.video[0].sample_aspect_ratio == aspect


@pytest.mark.parametrize("matrix", [(a, b, c, d) for a, b, c, d in product((-1, 0, 1), repeat=4)
                                    if abs(a) == abs(d) != abs(b) == abs(c)])
def test_turned_and_mirrored_as_the_file_says(matrix: tuple[int, int, int, int]) -> None:
    """The display matrix of an MP4, put there byte for byte; a pixel at (x, y) is shown at (a x + c y, b x + d y)."""
    make(Path("in.mp4"), 1)
    (stored,) = (image for _, image in decoded(Path("in.mp4")))
    a, b, c, d = matrix
    data = bytearray(Path("in.mp4").read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, track, duration; then the matrix
    one = 1 << 16
    data[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    Path("turned.mp4").write_bytes(data)
    source = video.read(Path("turned.mp4"))
    shown = next(source.frames).image
    rows, columns = np.mgrid[: stored.shape[0], : stored.shape[1]]
    right, down = a * columns + c * rows, b * columns + d * rows
    expected = np.empty((np.ptp(down) + 1, np.ptp(right) + 1, 3), np.uint8)
    expected[down - down.min(), right - right.min()] = stored
    assert source.size == expected.shape[:2]
    assert np.array_equal(shown, expected)


def test_an_unknown_codec_of_the_video_is_said() -> None:
    make(Path("a.mkv"), 5)
    Path("a.mkv").write_bytes(Path("a.mkv").read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ"))
    with pytest.raises(FastSCNNError, match=r"a\.mkv: contains video of a codec that FFmpeg cannot decode, or is damaged"):
        video.read(Path("a.mkv"))


def test_an_unknown_codec_of_the_sound_is_left_out(run: Run) -> None:
    make(Path("a.mkv"), 5, sound="aac")
    Path("a.mkv").write_bytes(Path("a.mkv").read_bytes().replace(b"A_AAC", b"A_XYZ"))
    code, _, err = run("a.mkv")
    assert code == 0
    assert "the audio is of a codec that is not known; it is dropped" in " ".join(err.split())
    assert len(decoded(Path("segmented/a.overlay.mp4"))) == 5


def test_frames_that_are_cut_off_are_counted(run: Run) -> None:
    """An eighth of the time scale: the edit list of half a second then ends early, also for players."""
    make(Path("a.mp4"), 12)
    data = bytearray(Path("a.mp4").read_bytes())
    place = data.index(b"mdhd") + 16
    (scale,) = struct.unpack(">I", data[place : place + 4])
    data[place : place + 4] = struct.pack(">I", scale // 8)
    Path("cut.mp4").write_bytes(data)
    code, _, err = run("cut.mp4")
    assert code == 0
    assert re.search(r"cut\.mp4: shows [12] of the 12 frames that it holds; the others are cut off by its edit list", err)
    assert "frames that it holds" not in run("a.mp4")[2]


@pytest.mark.parametrize("text", [
    "ffconcat version 1.0\nfile 'secret.mp4'\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_list_of_other_files_is_no_video(text: str, suffix: str) -> None:
    """FFmpeg goes by the content: a list under the name of a video would open its neighbours."""
    make(Path("secret.mp4"), 2)
    Path(f"list{suffix}").write_text(text)
    with pytest.raises(FastSCNNError, match="cannot be opened as a video"):
        video.read(Path(f"list{suffix}"))


def test_parts_of_a_recording_in_files_beside_it_are_not_read() -> None:
    """Magic Lantern's format continues in files a.m00, a.m01, and so on."""
    header = struct.pack("<4sI8s8x2HI2H4I", b"MLVI", 52, b"v2.0", 0, 2, 0, 1, 0, 1, 0, 25, 1)
    sizes = struct.pack("<4sI8x4H", b"RAWI", 24 + 160, 64, 32, 0, 0) + bytes(160)
    Path("a.mlv").write_bytes(header + sizes)
    os.mkfifo("a.m00")  # opening it would wait
    with pytest.raises(FastSCNNError, match="cannot be opened as a video"):
        video.read(Path("a.mlv"))


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_title_in_latin_1(run: Run, suffix: str) -> None:
    with av.open(f"a{suffix}", "w") as container:
        container.metadata["title"] = "MXller"
        stream: Any = container.add_stream("mpeg4", 25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number))))
        container.mux(stream.encode())
    data = Path(f"a{suffix}").read_bytes()
    assert b"MXller" in data
    Path(f"a{suffix}").write_bytes(data.replace(b"MXller", b"M\xfcller"))
    assert run(f"a{suffix}")[0] == 0


def ramp(number: int, size: tuple[int, int] = SIZE) -> UInt8Array:
    image = np.repeat(np.linspace(0, 255, size[1]).astype(np.uint8)[None, :, None], size[0], axis=0).repeat(3, axis=2)
    image[:16, :16], image[:16, 16:32] = (200, 30, 60), (30, 180, 40)
    return np.ascontiguousarray(image)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_greys_and_colours_come_back(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {codec})
    for number in range(3):
        images.write(Path(f"in/{number}.png"), ramp(number))
    copy(video.stills([Path(f"in/{number}.png") for number in range(3)], Fraction(10)), Path("out.mp4"))
    with av.open("out.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264" if codec == "libx264" else "mpeg4", 10)
        if codec == "libx264":
            assert (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc) == (1, 1, 1, 1)
    back = next(video.read(Path("out.mp4")).frames).image.astype(int)
    assert abs(back[20:] - ramp(0)[20:]).max() <= (6 if codec == "libx264" else 12)
    assert abs((back[20:] - ramp(0)[20:]).mean()) < 0.6
    assert abs(back[4:12, [8, 24]] - ramp(0)[4:12, [8, 24]]).max() <= (6 if codec == "libx264" else 20)


@pytest.mark.parametrize(("size", "matrix", "tag"), [(SIZE, 1, 1), (SIZE, 5, 5), (SIZE, 5, 0), ((720, 32), 1, 0)])
def test_colours_are_read_by_their_tag_or_as_players_take_them(size: tuple[int, int], matrix: int, tag: int) -> None:
    container = av.open("in.mp4", "w")
    stream: Any = container.add_stream("libx264", 25, {"qp": "1"})
    stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
    if tag:
        stream.colorspace = tag
    frame = av.VideoFrame.from_ndarray(np.full((*size, 3), (200, 30, 60), np.uint8))
    container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix)))
    container.mux(stream.encode())
    container.close()
    assert abs(next(video.read(Path("in.mp4")).frames).image.astype(int) - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_as_it_is(suffix: str) -> None:
    make(Path("in.mp4"), 40, sound="aac")
    assert copy(video.read(Path("in.mp4")), Path("out" + suffix)).notes == []
    assert sound_of(Path("out" + suffix)) == sound_of(Path("in.mp4"))
    assert len(sound_of(Path("in.mp4"))[1]) > 1000
    assert video.read(Path("in.mp4"), sound=False).sound is None


def test_sound_that_the_file_cannot_hold_is_left_out_and_said(run: Run) -> None:
    source = video.read(make(Path("in.mkv"), 40, sound="pcm_u8"))
    assert copy(source, Path("out.mp4")).notes == ["out.mp4: .mp4 cannot contain pcm_u8; the audio is dropped."]
    assert not source.packets, "taken out of memory all the same"
    assert run("in.mkv", "--out", "out.mp4")[::2] == (0, "out.mp4: .mp4 cannot contain pcm_u8; the audio is dropped.")
    with av.open("out.mp4") as container:
        assert not container.streams.audio


class _Deaf:
    """A container that takes some packets of audio, and then no more."""

    def __init__(self, container: Any, audio: Any, packets: int, error: Exception) -> None:
        self.container, self.audio, self.packets, self.error = container, audio, packets, error
        self.close = container.close

    def mux(self, packets: Any) -> None:
        if getattr(packets, "stream", None) is self.audio:
            self.packets -= 1
            if self.packets < 0:
                raise self.error
        self.container.mux(packets)


@pytest.mark.parametrize("error", [av.error.ArgumentError, av.error.InvalidDataError])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_sound_that_cannot_be_copied_on_is_left_out_and_said(error: type[Exception], at_the_end: bool) -> None:
    source = video.read(make(Path("in.mp4"), 40, sound="aac"))
    with Writer(Path("out.mp4"), source, source.size) as writer:
        vars(writer)["_container"] = _Deaf(writer._container, writer._audio, 3, error(errno.EINVAL, "refused"))
        for frame in source.frames:
            taken = [source.packets.popleft() for _ in range(len(source.packets))] if at_the_end else []
            writer.write(frame.image, frame.pts)
            source.packets.extend(taken)
        writer.copy_sound()
    assert writer.notes == ["out.mp4: the audio is dropped from 0.4 seconds on: it cannot be copied (refused)."]
    assert len(packet_times(Path("out.mp4"), "audio")) == 3
    assert len(decoded(Path("out.mp4"))) == 40


@pytest.mark.parametrize("error", [av.error.ExternalError(errno.EIO, "no more"), OSError(errno.ENOSPC, "no more")])
def test_a_disk_that_fails_with_the_sound_is_said(error: Exception) -> None:
    source = video.read(make(Path("in.mp4"), 40, sound="aac"))

    def write() -> None:
        with Writer(Path("out.mp4"), source, source.size) as writer:
            for frame in source.frames:
                writer.write(frame.image, frame.pts)
            vars(writer)["_container"] = _Deaf(writer._container, writer._audio, 0, error)
            source.packets.extend(video_sound(Path("in.mp4")))
            writer.copy_sound()

    with pytest.raises(FastSCNNError, match=r"^out.mp4: cannot be written \(no more\); the partial file is removed"):
        write()
    assert files_here() == ["in.mp4"]


def video_sound(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(audio=0) if packet.size]


def test_sound_out_of_order_costs_neither_the_video_nor_the_next(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "JUMP", 1000)
    appended(Path("in.ts"))
    make(Path("next.mp4"), 3)
    code, out, err = run("in.ts", "next.mp4", "--json", "--out", "seen")
    assert re.fullmatch(r"seen/in.overlay.mp4: the audio is dropped from 0.0 seconds on: it cannot .*\.", err)
    assert (code, [json.loads(line)["frames"] for line in out.splitlines()]) == (0, [40, 3])
    assert len(packet_times(Path("seen/in.overlay.mp4"), "audio")) == len(packet_times(Path("first.ts"), "audio"))


def test_without_h264_it_is_mpeg4_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    writer = copy(video.read(make(Path("in.mp4"), 10, NTSC)), Path("out.mp4"))
    assert writer.notes == ["out.mp4: this PyAV has no H.264; the video is MPEG-4 (mp4v), which browsers do not play."]
    assert [moment for moment, _ in decoded(Path("out.mp4"))] == [number / NTSC for number in range(10)]


# what is no whole video


def broken(source: Source) -> tuple[int, str]:
    """How many frames come before the error, and what it says."""
    count = 0
    try:
        for frame in source.frames:
            assert number_of(frame.image) == count
            count += 1
    except FastSCNNError as error:
        return count, str(error)
    pytest.fail("nothing is said")


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_of_a_truncated_video_what_is_there_is_kept(suffix: str, run: Run) -> None:
    path = make(Path("in" + suffix), 50)
    if suffix == ".mp4":  # with its index at the beginning
        with av.open("in.mp4") as whole, av.open("fast.mp4", "w", options={"movflags": "faststart"}) as fast:
            stream = fast.add_stream_from_template(whole.streams.video[0])
            for packet in whole.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    fast.mux(packet)
        path = Path("fast.mp4")
    count, message = broken(video.read(cut(path, 0.6)))
    assert 15 < count < 45
    assert "is truncated: it ends after" in message or "cannot be decoded past frame" in message
    code, _, err = run(path, "--out", "out.mp4")
    assert (code, len(decoded(Path("out.mp4")))) == (1, count)
    assert err == f"fastscnn: {message} The {count} frames before are in out.mp4."


def test_a_recording_that_begins_between_key_frames_is_read(tmp_path: Path) -> None:
    make(Path("in.ts"), 40, key=20)
    data = Path("in.ts").read_bytes()
    Path("late.ts").write_bytes(data[len(data) // 4 // 188 * 188 :])
    numbers = [number_of(frame.image) for frame in video.read(Path("late.ts")).frames]
    assert numbers == list(range(20, 40))


def test_a_size_that_changes_ends_the_video(run: Run) -> None:
    for name, size in (("a.ts", SIZE), ("b.ts", (96, 64))):
        make(Path(name), 8, size=size)
    Path("in.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    said = "in.ts: the frame size changes from 64x96 to 96x64 (HxW) at frame 8, and a video has one size; split it there."
    assert broken(video.read(Path("in.ts"))) == (8, said)
    code, out, err = run("in.ts", "--out", "seen", "--json")
    assert (code, err) == (1, f"fastscnn: {said} The 8 frames before are in seen/in.overlay.mp4.")
    assert json.loads(out)["frames"] == len(decoded(Path("seen/in.overlay.mp4"))) == 8


def without_frames(path: Path) -> None:
    container = av.open(str(path), "w")
    stream: Any = container.add_stream("libx264", 25)
    stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
    container.start_encoding()
    container.close()


def without_key_frames(path: Path) -> None:
    data = make(path, 40, key=40).read_bytes()
    path.write_bytes(data[len(data) // 2 // 188 * 188 :])


def without_video(path: Path) -> None:
    container = av.open(str(path), "w")
    stream: Any = container.add_stream("aac", 8000)
    tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
    tone.sample_rate = 8000
    container.mux([*stream.encode(tone), *stream.encode()])
    container.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.mp4", lambda path: path.write_text("not a video"), "in.mp4: cannot be opened as a video"),
        ("in.mp4", lambda path: path.touch(), "in.mp4: cannot be opened as a video"),
        ("in.mp4", lambda path: cut(make(path), 0.7), "in.mp4: cannot be opened as a video .* is truncated or"),
        ("in.mp4", lambda path: None, "in.mp4: no such file"),
        ("in.mkv", without_frames, "in.mkv: cannot be opened as a video"),
        ("in.ts", without_key_frames, "in.ts: contains no frame that can be decoded"),
        ("in.mp4", without_frames, "in.mp4: "),
        ("in.mp4", without_video, "in.mp4: contains no video"),
        ("in.mp4", lambda path: make(path, size=(16, 32)), "in.mp4: The image is 16x32 .* needs at least 32"),
    ],
)
def test_what_is_no_video_is_said(name: str, content: Callable[[Path], object], message: str, run: Run) -> None:
    content(Path(name))
    before = files_here()
    code, out, err = run(name)
    assert (code, out, files_here()) == (1, "", before)
    assert re.match(f"fastscnn: {message}", err)


def test_a_name_with_percent_signs_is_no_pattern(run: Run) -> None:
    make(Path("in%d%03d%s.mp4"), 3)
    code, out, err = run("in%d%03d%s.mp4", "--out", "out%d%05d.mp4", "--labels", "labels%s", "--json")
    assert (code, err, json.loads(out)["frames"]) == (0, "", 3)
    labels = [f"labels%s/in%d%03d%s.{number:06}.labels.png" for number in range(3)]
    assert files_here() == ["in%d%03d%s.mp4", *labels, "out%d%05d.mp4"]


def test_a_pipe_needs_no_index(run: Run) -> None:
    data = make(Path("whole.ts"), 12).read_bytes()
    os.mkfifo("in.ts")
    Thread(target=lambda: Path("in.ts").write_bytes(data), daemon=True).start()
    code, out, err = run("in.ts", "--out", "out.mp4", "--json")
    assert (code, err, json.loads(out)["frames"]) == (0, "", 12)


# writing that fails, and Ctrl-C


class _Full(io.FileIO):
    """A file on a disk of so many bytes, or where that many are free again after the first try."""

    room, again = 0, False

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _Full.room:
            _Full.room = 1 << 30 if _Full.again else _Full.room
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize(("room", "again"), [(0, False), (40, False), (4000, False), (-10, False), (4000, True)])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(room: int, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full at once, after the beginning, midway, and as the index is written at the end; or midway for a moment."""

    def noise(number: int) -> UInt8Array:
        return np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)

    copy(video.read(make(Path("in.mp4"), draw=noise)), Path("out.mp4"))
    monkeypatch.setattr(_Full, "room", room if room >= 0 else Path("out.mp4").stat().st_size + room)
    monkeypatch.setattr(_Full, "again", again)
    Path("out.mp4").write_text("old")
    said = r"^out.mp4: cannot be written \(No space left on device\); the partial file is removed"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: _Full(path, mode.replace("b", "")))
        with pytest.raises(FastSCNNError, match=said):
            copy(video.read(Path("in.mp4")), Path("out.mp4"))
    assert files_here() == ["in.mp4", "out.mp4"]
    assert Path("out.mp4").read_text() == "old"


def test_an_encoder_that_cannot_be_opened_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    source = video.read(make(Path("in.mp4")))
    with pytest.raises(FastSCNNError, match=r"^out.mp4: cannot be written "), Writer(Path("out.mp4"), source, (64, 0)):
        pass
    assert files_here() == ["in.mp4"]


class _Refusing:
    """An encoder that takes no more frames."""

    def encode(self, frame: object = None) -> list[Any]:
        if frame is not None:
            raise av.error.ExternalError(errno.EINVAL, "refused")
        return []


def test_a_frame_that_the_encoder_refuses_leaves_nothing() -> None:
    source = video.read(make(Path("in.mp4")))

    def write() -> None:
        with Writer(Path("out.mp4"), source, SIZE) as writer:
            writer.write(picture(0), 0)
            vars(writer)["_video"] = _Refusing()
            writer.write(picture(1), 1)

    with pytest.raises(FastSCNNError, match=r"^out.mp4: cannot be written \(refused\)"):
        write()
    assert files_here() == ["in.mp4"]


def test_a_file_where_a_folder_should_be_is_said() -> None:
    Path("seen").touch()
    with pytest.raises(FastSCNNError, match=r"seen/out.mp4: cannot be written \("):
        copy(video.read(make(Path("in.mp4"))), Path("seen/out.mp4"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, FastSCNNError])
def test_whatever_ends_it_the_frames_written_play(error: type[BaseException]) -> None:
    source = video.read(make(Path("in.mp4"), sound="aac"))

    def begin(frames: int) -> None:
        with Writer(Path("out.mp4"), source, source.size) as writer:
            for _ in range(frames):
                frame = next(source.frames)
                writer.write(frame.image, frame.pts)
            raise error

    with pytest.raises(error):
        begin(0)
    assert files_here() == ["in.mp4"], "without a frame there is no file"
    with pytest.raises(error):
        begin(6)
    assert [number_of(image) for _, image in decoded(Path("out.mp4"))] == list(range(6))
    assert files_here() == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_and_sigterm_close_the_file(ending: signal.Signals, tiny_onnx: Path) -> None:
    make(Path("in.mp4"), 400)
    words = f"segment in.mp4 --out out.mp4 --realtime --weights {tiny_onnx} --backend onnx --threads 1"
    process = subprocess.Popen([sys.executable, "-m", "fastscnn", *words.split()], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(part.stat().st_size > 0 for part in Path().glob(".out.mp4.*.part")))
    assert not Path("out.mp4").exists()
    process.send_signal(ending)
    err = " ".join(process.communicate(timeout=60)[1].split())
    assert process.returncode == 130
    count = len(decoded(Path("out.mp4")))
    assert 1 <= count < 400
    assert err.endswith(f"fastscnn: interrupted; {count} of about 400 frames are in out.mp4.")
    assert files_here() == ["in.mp4", "out.mp4"]


# the command


def test_labels_are_those_of_each_frame_alone(run: Run, tiny: Segmenter) -> None:
    make(Path("drive.mp4"), 12, sound="aac")
    code, out, err = run("drive.mp4", "--labels", "ids")
    assert (code, err) == (0, "")
    assert "12 frames," in out
    assert "per second from file to file, 2 at a time; open segmented/drive.overlay.mp4" in " ".join(out.split())
    after = decoded(Path("segmented/drive.overlay.mp4"))
    assert len(after) == len(list(Path("ids").iterdir())) == 12
    assert sound_of(Path("segmented/drive.overlay.mp4")) == sound_of(Path("drive.mp4"))
    for frame, (_, overlay) in zip(video.read(Path("drive.mp4")).frames, after, strict=True):
        ids = images.read_values(Path(f"ids/drive.{frame.number:06d}.labels.png"))[0]
        expected = tiny.segment(frame.image)
        np.testing.assert_array_equal(ids, expected.labels)
        assert {0, 2} <= set(np.unique(ids))
        assert overlay.shape[0] > SIZE[0], "the legend"
        assert abs(overlay[: SIZE[0]].astype(int) - expected.blend(frame.image)).mean() < 12


@pytest.mark.parametrize("width", [32, 34, 47, 48, 62])
def test_the_pixels_of_any_width_are_written(width: int, tmp_path: Path) -> None:
    """Only rows that FFmpeg reads as a whole are handed over without a copy."""
    image = np.full((40, width, 3), (200, 40, 90), np.uint8)
    source = video.Source("", iter(()), (40, width), Fraction(1, 25), Fraction(25), None)
    with Writer(tmp_path / "a.mp4", source, (40, width)) as writer:
        for number in range(3):
            writer.write(image, number)
    for _, frame in decoded(tmp_path / "a.mp4"):
        assert abs(frame[:40, :width].astype(int) - image).max() < 12


def test_the_preset_of_the_encoder(run: Run) -> None:
    make(Path("drive.mp4"), 12)
    sizes = {}
    for preset in ("ultrafast", "medium"):
        assert run("drive.mp4", "--preset", preset)[0] == 0
        assert len(list(decoded(Path("segmented/drive.overlay.mp4")))) == 12
        sizes[preset] = Path("segmented/drive.overlay.mp4").stat().st_size
    assert sizes["medium"] < sizes["ultrafast"]
    assert "ultrafast" in " ".join(run("drive.mp4", "--preset", "fastest")[2].split())


def test_labels_of_frames_without_a_video(run: Run) -> None:
    make(Path("drive.mp4"), 5)
    code, out, _ = run("drive.mp4", "--labels", "ids", "--save", "labels,confidence", "--palette", "--json")
    line = json.loads(out)
    assert (code, line["frames"], line["labels"]) == (0, 5, "ids")
    assert "overlay" not in line
    assert not {"overlay", "encode"} & set(line["milliseconds"])
    assert len(list(Path("ids").glob("drive.00000?.labels.png"))) == len(list(Path("ids").glob("*.confidence.png"))) == 5
    assert not Path("segmented").exists()
    with Image.open("ids/drive.000000.labels.png") as image:
        assert image.mode == "P"
    code, out, _ = run("drive.mp4", "--labels", "ids", "--save", "labels")
    assert "at a time; see ids" in " ".join(out.split())


def test_steady_labels_are_those_of_steady_logits(run: Run, tiny: Segmenter) -> None:
    def noisy(number: int) -> UInt8Array:
        noise = np.random.default_rng(number).normal(0, 40, (*SIZE, 3))
        return (picture(0) // 2 + 60 + noise).clip(0, 255).astype(np.uint8)

    make(Path("drive.mp4"), 8, draw=noisy)
    assert run("drive.mp4", "--labels", "plain")[0] == 0
    code, out, _ = run("drive.mp4", "--labels", "ids", "--smoothing", "--save", "overlay,confidence", "--json")
    assert code == 0
    assert json.loads(out)["milliseconds"]["smoothing"] >= 0
    frames = [image for _, image in decoded(Path("drive.mp4"))]
    expected = [result for _, result in tiny.stream(frames, smoothing=True, confidence=True)]
    for number, result in enumerate(expected):
        np.testing.assert_array_equal(images.read_values(f"ids/drive.{number:06d}.labels.png")[0], result.labels)
        assert result.confidence is not None
        kept = images.read_grey(f"ids/drive.{number:06d}.confidence.png")
        np.testing.assert_allclose(kept / 255, result.confidence, atol=0.003)
    changes = [
        sum(int((before != after).sum()) for before, after in pairwise(
            images.read_values(f"{folder}/drive.{number:06d}.labels.png")[0] for number in range(8)))
        for folder in ("plain", "ids")
    ]
    assert changes[1] < changes[0] / 2


def test_json_is_a_line_a_video_and_nothing_else(run: Run) -> None:
    for name in ("a.mp4", "b.MKV"):
        make(Path(name), 6)
    code, out, err = run("a.mp4", "b.MKV", "gone.mp4", "--json", "--out", "seen")
    assert (code, err) == (1, "fastscnn: gone.mp4: no such file.")
    first, second, third = (json.loads(line) for line in out.splitlines())
    assert third == {"video": "gone.mp4", "error": "gone.mp4: no such file."}
    assert (second["video"], second["overlay"]) == ("b.MKV", "seen/b.overlay.mp4")
    assert list(first["milliseconds"]) == ["decode", "resize", "network", "labels", "overlay", "encode"]
    assert first["fps"] > 0
    assert abs(sum(first["class_percentages"].values()) - 100) < 0.01
    assert {key: first[key] for key in ("size", "frames", "dropped", "backend", "precision", "device")} == {
        "size": [64, 96], "frames": 6, "dropped": 0, "backend": "onnx", "precision": "float32", "device": "cpu",
    }


def test_images_become_a_video(run: Run) -> None:
    for number in (2, 0, 1):
        images.write(Path(f"drive/{number}.png"), picture(number))
    code, _, err = run("drive", "--out", "drive.mp4", "--fps", "12.5")
    assert (code, err) == (0, "")
    after = decoded(Path("drive.mp4"))
    assert [moment for moment, _ in after] == [Fraction(2 * number, 25) for number in range(3)]
    images.write(Path("drive/3.png"), picture(3, (64, 128)))
    code, _, err = run("drive", "--out", "drive.mp4")
    assert (code, len(decoded(Path("drive.mp4")))) == (1, 3)
    assert err.startswith("fastscnn: drive/3.png: the frame size changes from 64x96 to 64x128 (HxW) at frame 3")


def told(frames: Iterator[Frame], event: Event, after: int = 1 << 30) -> Iterator[Frame]:
    """The frames; sets an event once so many have been drawn, or all have passed."""
    for number, frame in enumerate(frames, start=1):
        if number > after:
            event.set()
        yield frame
    event.set()


def test_realtime_keeps_the_pace_and_drops_frames(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    label, read, over = Segmenter.segment, video.read, Event()

    def busy(self: Segmenter, image: UInt8Array, *asked: bool) -> Segmentation:
        assert over.wait(60)
        return label(self, image, *asked)

    def overseen(path: Path, sound: bool) -> Source:
        source = read(path, sound)
        return replace(source, frames=told(source.frames, over))

    monkeypatch.setattr(Segmenter, "segment", busy)
    monkeypatch.setattr(video, "read", overseen)
    make(Path("in.mp4"), 12, sound="aac")
    start = time.perf_counter()
    code, out, err = run("in.mp4", "--realtime", "--json", "--out", "out.mp4", "--labels", "ids")
    assert time.perf_counter() - start > 11 / 25
    assert (code, err) == (0, "")
    line = json.loads(out)
    assert (line["frames"], line["dropped"]) == (3, 9), "two at a time, both busy until all have passed, then the last"
    numbers = [int(path.name.split(".")[1]) for path in sorted(Path("ids").iterdir())]
    assert numbers[-1] == 11
    assert [moment for moment, _ in decoded(Path("out.mp4"))] == [Fraction(number, 25) for number in numbers]
    with av.open("out.mp4") as container:
        assert not container.streams.audio


def test_in_a_thread(run: Run) -> None:
    """Where Python takes no signal handlers."""
    make(Path("in.mp4"), 3)
    results: list[tuple[int, str, str]] = []
    thread = Thread(target=lambda: results.append(run("in.mp4", "--json")))
    thread.start()
    thread.join(60)
    ((code, out, err),) = results
    assert (code, err, json.loads(out)["frames"]) == (0, "", 3)


def test_frames_in_the_making_at_ctrl_c_are_not_dropped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read, ahead = Writer.write, video.read, Event()

    def stopping(self: Writer, image: UInt8Array, pts: int) -> None:
        write(self, image, pts)
        if self.frames == 3:
            assert ahead.wait(60)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Writer, "write", stopping)
    def overseen(path: Path) -> Source:
        source = read(path)
        return replace(source, frames=told(source.frames, ahead, 5))

    monkeypatch.setattr(video, "read", overseen)
    make(Path("in.mp4"), 12)
    code, out, err = run("in.mp4", "--json")
    assert (code, err) == (130, "fastscnn: interrupted; 3 of about 12 frames are in segmented/in.overlay.mp4.")
    assert (json.loads(out)["frames"], json.loads(out)["dropped"]) == (3, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4", "a.png"], "paths: images and videos cannot be mixed"),
        (["a.mp4", "b.mp4", "--out", "c.mp4"], "c.mp4: is one file for 2 videos; give --out a folder."),
        (["a.mp4", "--out", "a.mp4"], "a.mp4: is the video itself"),
        (["a.mp4", "a.overlay.mp4", "--out", "."], "a.overlay.mp4: is an input video, which the overlay of a.mp4"),
        (["a.mp4", "--out", "b.avi"], "b.avi: videos are written as .mp4, .mov, .mkv; use one of these suffixes."),
        (["a.mp4", "--thermal", "a.png"], "thermal: for images only, not for a video or camera."),
        (["a.mp4", "--camera", "0"], "camera: cannot be combined with paths"),
        (["a.png", "--labels", "ids"], "--realtime, --preview, --preset, --labels and --smoothing: for a video or "),
        (["a.png", "--preset", "fast"], "--realtime, --preview, --preset, --labels and --smoothing: for a video or "),
        (["a.mp4", "--save", "overlay,confidence"], "save: for a video or camera, confidence needs --labels DIR"),
        (["a.mp4", "--confidence"], "save: for a video or camera, confidence needs --labels DIR"),
        (["a.mp4", "--ood-mask"], "tiny.onnx: the card has no OOD threshold"),
        (["a.mp4", "--out", "b.mp4", "--save", "labels", "--labels", "ids"], "b.mp4: is a file for the overlay; add"),
        (["a.mp4", "--palette"], "palette: no labels are written; give --labels DIR."),
        (["a.png", "--palette", "--save", "overlay"], "palette: no labels are written; add labels to --save."),
        (["a.mp4", "--labels", "ids", "--save", "labels", "--preset", "fast"], "preset: no overlay is written"),
        (["a.mp4", "--save", "ood-mask"], "save: for a video or camera, a list without overlay needs --labels DIR"),
        (["a.mp4", "--save", "labels"], "save: for a video or camera, labels needs --labels DIR"),
        (["a.mp4", "--save", "overlay,ood-mask"], "tiny.onnx: the card has no OOD threshold"),
        (["a.png", "--out", "a.mp4", "--fps", "0.001"], "must be from 0.01 to 1000, not 0.001"),
        (["a.png", "--out", "b.mp4", "--realtime"], "realtime: for videos only"),
        (["a.mp4", "--latency-budget", "33ms", "--size", "64x96"], "latency-budget: it chooses the size"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "OOD" not in message:  # that needs the card; all others are refused before the network is loaded
        monkeypatch.setattr("fastscnn.backends.load", lambda *_: pytest.fail("loaded"))
    make(Path("a.mp4"), 2)
    images.write(Path("a.png"), picture(0))
    code, out, err = run(*words)
    assert (code, out) == (1 if "OOD" in message else 2, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert files_here() == ["a.mp4", "a.png"]


def test_without_pyav_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "fastscnn.media.video")
    monkeypatch.delattr(fastscnn.media, "video")
    code, _, err = run("a.mp4")
    assert (code, err.startswith("fastscnn: Reading videos (")) == (1, True)
    assert "needs the extra 'video'" in err


# cameras and windows


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a camera that FFmpeg draws, for 0.4 seconds."""
    Path("video9").touch()
    opened = av.open

    def drawn(file: str, *more: Any, **options: Any) -> Any:
        if options.get("format") == "v4l2":
            return opened("testsrc=size=96x64:rate=25:duration=0.4", format="lavfi")
        return opened(file, *more, **options)

    monkeypatch.setattr(av, "open", drawn)
    monkeypatch.setattr(sys, "platform", "linux")
    return "video9"


def test_a_camera_is_recorded(run: Run, fake: str) -> None:
    code, out, err = run("--camera", fake, "--json")
    assert (code, err) == (0, "")
    line = json.loads(out)
    assert line["overlay"] == "segmented/camera.overlay.mp4"
    assert 1 <= len(decoded(Path("segmented/camera.overlay.mp4"))) == line["frames"] <= 10
    source = video.camera(fake)
    assert (source.rate, source.size) == (Fraction(25), SIZE)
    assert source.count is None
    assert source.sound is None


@pytest.mark.parametrize("smoothing", [False, True])
def test_a_latency_budget_keeps_the_shape_of_videos_and_cameras(
    run: Run, fake: str, seen: list[tuple[int, ...]], smoothing: bool
) -> None:
    make(Path("wide.mp4"), 2, size=(64, 300))
    make(Path("square.mp4"), 2, size=(96, 96))
    options = ["--latency-budget", "60000ms", *(["--smoothing"] if smoothing else [])]
    code, _, err = run("wide.mp4", "square.mp4", *options)
    assert code == 0
    assert "Input 64x96 in the shape of each frame, 32x160 at 64x300: " in err
    assert seen[-4:] == [(32, 160)] * 2 + [(64, 64)] * 2
    code, _, err = run("--camera", fake, *options)
    assert code == 0
    assert "Input 64x96: " in err
    assert "for frames of 64x96," in err
    assert seen[-1] == (64, 96)


@pytest.mark.skipif(sys.platform != "linux", reason="names of cameras are those of Linux")
def test_a_camera_that_is_not_there_or_no_camera(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    there, glob = [Path("/dev/video8"), Path("/dev/video7")], Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: there if folder == Path("/dev") else glob(folder, pattern))
    code, _, err = run("--camera", "93")
    assert (code, err) == (1, "fastscnn: camera 93: not found; available: /dev/video7, /dev/video8.")
    there.clear()
    with pytest.raises(FastSCNNError, match=r"^camera /dev/gone: not found; this machine has none"):
        video.camera("/dev/gone")
    Path("video3").touch()
    with pytest.raises(FastSCNNError, match=r"^camera video3: cannot be opened"):
        video.camera("video3")
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(FastSCNNError, match="not on plan9"):
        video.camera("0")


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A screen without a monitor."""
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed")
    pytest.importorskip("tkinter")
    reading, writing = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "320x240x24"], pass_fds=[writing],
                              stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as answer:
        monkeypatch.setenv("DISPLAY", f":{answer.readline().strip()}")
    yield
    server.terminate()
    server.wait()


@pytest.mark.usefixtures("display")
def test_a_preview_shows_every_frame_and_its_cross_ends_the_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastscnn.cli.preview import Window

    shown: list[UInt8Array] = []
    show = Window.show

    def counted(window: Window, image: UInt8Array) -> None:
        show(window, image)
        assert window._photo.width() <= 256
        shown.append(image)
        if len(shown) == 20:
            window.close()

    monkeypatch.setattr(Window, "show", counted)
    make(Path("in.mp4"), 8, size=(64, 640))
    make(Path("long.mp4"), 40)
    assert run("in.mp4", "--preview", "--out", "out.mp4")[0] == 0
    assert len(shown) == len(decoded(Path("out.mp4"))) == 8
    assert run("long.mp4", "--preview", "--out", "out.mp4")[0] == 0
    assert len(decoded(Path("out.mp4"))) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there may always be a screen")
def test_no_preview_without_a_display(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    code, _, err = run(make(Path("in.mp4"), 2), "--preview")
    assert (code, files_here()) == (1, ["in.mp4"])
    assert err.startswith("fastscnn: preview: no window can be opened (")
    assert err.endswith("omit --preview.")


@pytest.mark.slow
def test_a_real_video(run: Run, media_root: Path) -> None:
    code, out, err = run(media_root / "highway.mp4", "--out", "out.mp4", "--json")
    assert (code, err, json.loads(out)["frames"]) == (0, "", 221)
    assert [moment for moment, _ in decoded(Path("out.mp4"))] == [Fraction(number, 25) for number in range(221)]
    assert sound_of(Path("out.mp4")) == sound_of(media_root / "highway.mp4")
