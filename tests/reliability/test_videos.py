"""Damaged videos."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promises import Some, refusal

av = pytest.importorskip("av", reason="the extra [video] is not installed")
from fastscnn.media import video  # noqa: E402

SIZE, FRAMES = (64, 96), 30
KINDS = {
    "mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "mpg": "mpeg2video", "webm": "libvpx", "mov": "mjpeg",
}  # fmt: skip


def made(path: Path, codec: str) -> bytes:
    """A video in which a square moves."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, 25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(FRAMES):
            image = np.zeros((*SIZE, 3), np.uint8)
            image[8:32, number : number + 24] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path.read_bytes()


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def changed(data: bytes, draw: random.Random, first: float = 0.0, count: int = 20) -> bytes:
    damaged = bytearray(data)
    for _ in range(count):
        damaged[draw.randrange(int(first * len(data)), len(data))] = draw.randrange(256)
    return bytes(damaged)


def removed(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start + draw.randrange(1, 2000) :]


def emptied(data: bytes, draw: random.Random) -> bytes:
    start, length = draw.randrange(len(data)), draw.randrange(1, 2000)
    return (data[:start] + bytes(length) + data[start + length :])[: len(data)]


def shuffled(data: bytes, draw: random.Random) -> bytes:
    blocks = [data[start : start + 512] for start in range(0, len(data), 512)]
    draw.shuffle(blocks)
    return b"".join(blocks)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut early": lambda data, draw: cut(data[: len(data) // 3], draw),
    "cut": cut,
    "header": lambda data, draw: changed(data[:200], draw) + data[200:],
    "bytes": changed,
    "many bytes": lambda data, draw: changed(data, draw, count=500),
    "end": lambda data, draw: changed(data, draw, first=0.8),
    "removed": removed,
    "emptied": emptied,
    "twice": lambda data, draw: data + cut(data, draw),
    "shuffled": shuffled,
}


def shown(path: Path) -> Iterator[int]:
    """Yield the time of each frame of a video."""
    source = video.read(path)
    for frame in source.frames:
        assert frame.image.shape == (*source.size, 3)
        yield frame.pts


@pytest.mark.reliability("videos")
def test_damaged_videos(tmp_path: Path, some: Some, record_property: Callable[[str, object], None]) -> None:
    whole = {kind: made(tmp_path / f"whole.{kind}", codec) for kind, codec in KINDS.items()}
    cases, refused, frames = some((kind, damage) for kind in KINDS for damage in DAMAGES), 0, 0
    for number, (kind, damage) in enumerate(cases):
        path = tmp_path / f"damaged.{kind}"
        path.write_bytes(DAMAGES[damage](whole[kind], random.Random(number)))
        times: list[int] = []
        message = refusal(times.extend, shown(path))
        assert message is None or message.startswith(f"{path}: ")
        assert all(before < after for before, after in pairwise(times))
        refused, frames = refused + (message is not None), frames + len(times)
    assert 0 < frames <= 2 * FRAMES * len(cases)
    record_property("with an error", refused)
    record_property("frames read", frames)
    record_property("cases", len(cases))
