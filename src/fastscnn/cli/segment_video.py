"""segment, of videos and cameras: frames in, a video of overlays out, and the labels of each frame where they are asked for."""

from __future__ import annotations

import json as json_
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.clips import Clip
from fastscnn.cli.console import STDERR, STDOUT, complain, print_stages, progress_bar

if TYPE_CHECKING:
    from fastscnn.base.types import UInt8Array
    from fastscnn.cli.preview import Window
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import NetworkOutput, Segmenter
    from fastscnn.media.video import Frame, Source

_KEPT = 10_000  # frames, the last ones, whose times the medians are of: a camera may run for days


@dataclass(frozen=True)
class VideoOptions:
    """What is made of the frames, as the flags of `segment` say it."""

    labels: Path | None
    preview: bool
    steady: bool
    confidence: bool
    unknown: bool


def run(segmenter: Segmenter, clips: Sequence[Clip], wish: VideoOptions, json: bool) -> int:
    """Labels one after another; returns the exit code."""
    code = 0
    with _window() if wish.preview else nullcontext() as window:
        for clip in clips:
            with _stopped() as stop:
                tally = _label(segmenter, clip, wish, window, stop, json)
            if json:
                print(json_.dumps(tally.line()), flush=True)
            elif tally.frames:
                _print(tally)
            if tally.error:
                complain(tally.error)
                code = 1
            if stop.is_set() and tally.expected is not None:  # else Ctrl-C is the way to end it
                complain(f"interrupted; {tally.frames} of about {tally.expected} frames are in {clip.target}.")
                return 130
            if stop.is_set() or (window is not None and not window.open):
                break
    return code


@contextmanager
def _window() -> Iterator[Window]:
    try:
        from fastscnn.cli.preview import Window
    except ImportError as error:
        raise FastSCNNError(f"preview: needs tkinter, which this Python lacks ({error}); leave --preview out.") from error
    window = Window("fastscnn")
    try:
        yield window
    finally:
        window.close()


@contextmanager
def _stopped() -> Iterator[Event]:
    """Set by the first Ctrl-C or SIGTERM, so that no frame is torn on its way into the file; a second ends all as usual."""
    stop = Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: object) -> None:
        restore()
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


@dataclass(frozen=True)
class _Done:
    """What a worker makes of a frame: uint8 [H + legend, W, 3], percent by class, seconds by stage."""

    overlay: UInt8Array
    shares: dict[str, float]
    seconds: dict[str, float]


@dataclass
class _Tally:
    """What came of a video."""

    clip: Clip
    segmenter: Segmenter
    expected: int | None = None  # frames, about
    size: tuple[int, int] | None = None
    frames: int = 0
    drawn: int = 0
    dropped: int = 0
    seconds: float = 0.0
    error: str = ""
    shares: dict[str, float] = field(default_factory=dict)  # sums of percents
    times: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))  # milliseconds

    def add(self, frame: Frame, done: _Done, encode: float) -> None:
        """Counts a frame that is written."""
        seconds = {"decode": frame.decode, **done.seconds, "encode": encode}
        self.times.append({stage: 1e3 * value for stage, value in seconds.items()})
        self.shares = {name: self.shares.get(name, 0) + share for name, share in done.shares.items()}
        self.frames += 1
        self.dropped = frame.number + 1 - self.frames

    def counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames, counted as they are drawn."""
        for frame in frames:
            self.drawn += 1
            yield frame

    def share(self) -> dict[str, float]:
        """Mean percent of the pixels by class name."""
        return {name: total / self.frames for name, total in self.shares.items()}

    def line(self) -> dict[str, Any]:
        """What `--json` prints."""
        line: dict[str, Any] = {"video": str(self.clip.job.image)}
        if self.frames:
            backend = self.segmenter.backend
            line |= {
                "overlay": str(self.clip.target),
                "size": self.size,
                "frames": self.frames,
                "dropped": self.dropped,
                "fps": round(self.frames / self.seconds, 2),
                "share": {name: round(share, 3) for name, share in self.share().items()},
                "milliseconds": {stage: round(median(frame[stage] for frame in self.times), 3) for stage in self.times[0]},
                "backend": backend.name,
                "precision": backend.precision,
            }
        return {**line, "error": self.error} if self.error else line


def _label(
    segmenter: Segmenter, clip: Clip, wish: VideoOptions, window: Window | None, stop: Event, quiet: bool
) -> _Tally:
    """Labels one video: a thread decodes, several label, and this one encodes."""
    from fastscnn.inference.segmentation import legend
    from fastscnn.media.video_writer import Writer

    tally = _Tally(clip, segmenter)
    start, writer, said = perf_counter(), None, 0
    try:
        source = clip.open()
        source = replace(source, frames=tally.counted(source.frames))
        tally.expected, tally.size = source.count, source.size
        names = segmenter.card.label_set.names  # all of them: the legend's size must not change from frame to frame
        strip = legend(segmenter.card.label_set, dict(zip(names, names, strict=True)), source.size[1])
        size = (source.size[0] + strip.shape[0], source.size[1])
        with Writer(clip.target, source, size) as writer, progress_bar("segment", quiet, rate=True) as advance:
            said = _say(writer.notes)
            for frame, done in _work(segmenter, source, clip, wish, strip):
                begun = perf_counter()
                writer.write(done.overlay, frame.pts)
                tally.add(frame, done, perf_counter() - begun)
                advance(frame.number + 1, source.count)
                if window is not None:
                    window.show(done.overlay)
                if stop.is_set() or (window is not None and not window.open):
                    break
            else:
                tally.dropped = tally.drawn - tally.frames  # else what is in the making is not labelled, but not dropped
                writer.copy_sound()
    except FastSCNNError as error:
        named = str(clip.job.image) in str(error) or str(clip.target) in str(error)
        kept = f" The {tally.frames} frames before are in {clip.target}." if writer is not None and writer.kept else ""
        tally.error = f"{'' if named else f'{clip.job.image}: '}{error}{kept}"
        if not kept:
            tally.frames = 0
    tally.seconds = perf_counter() - start
    if writer is not None:
        _say(writer.notes[said:])
    return tally


def _say(notes: Sequence[str]) -> int:
    """Prints what a user should know; returns how much that was."""
    for note in notes:
        STDERR.print(note, soft_wrap=True)
    return len(notes)


def _work(
    segmenter: Segmenter, source: Source, clip: Clip, wish: VideoOptions, strip: UInt8Array
) -> Iterator[tuple[Frame, _Done]]:
    """The frames with what is made of them, in order, several in the making at a time."""
    from fastscnn.media.stream import ordered

    streams = segmenter.backend.streams

    def finish(frame: Frame, segmentation: Segmentation) -> _Done:
        start = perf_counter()
        overlay = np.concatenate([segmentation.blend(frame.image), strip])
        shares = segmentation.class_percentages()
        seconds = {**segmentation.seconds, "overlay": perf_counter() - start}
        if wish.labels is not None:
            start = perf_counter()
            stem = wish.labels / f"{clip.job.result.name}.{frame.number:06d}"
            segmentation.save_labels(stem.with_name(f"{stem.name}.labels.png"))
            segmentation.save_confidence(stem.with_name(f"{stem.name}.confidence.png"))
            segmentation.save_ood_mask(stem.with_name(f"{stem.name}.unknown.png"))
            seconds["write"] = perf_counter() - start
        return _Done(overlay, shares, seconds)

    if not wish.steady:
        def whole(frame: Frame) -> _Done:
            return finish(frame, segmenter.segment(frame.image, wish.confidence, wish.unknown))

        return ordered(whole, source.frames, streams, clip.live)

    def second_half(seen: tuple[Frame, NetworkOutput]) -> _Done:
        frame, passes = seen
        return finish(frame, segmenter.label(frame.image, passes, wish.confidence, wish.unknown))

    # Two rows of workers, since what lies between them goes frame by frame.
    first = ordered(lambda frame: segmenter.forward(frame.image), source.frames, streams, clip.live)
    return ((frame, done) for (frame, _), done in ordered(second_half, segmenter.steadied(first), streams))


def _print(tally: _Tally) -> None:
    backend = tally.segmenter.backend
    print_stages(f"{backend.name} {backend.precision}, {backend.threads} threads", tally.times, [tally.share()])
    dropped = f", {tally.dropped} dropped" if tally.dropped else ""
    STDOUT.print(f"{tally.frames} frames{dropped}, {tally.frames / tally.seconds:.1f} per second from file to file, "
                 f"{backend.streams} at a time; look at {tally.clip.target}", soft_wrap=True)
