"""segment for videos and cameras: a video of overlays, and on request the labels of each frame."""

from __future__ import annotations

import json as json_
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.cli.clips import Clip
from fastscnn.cli.console import complain, note, print_stages, progress_bar, show
from fastscnn.cli.results import described

if TYPE_CHECKING:
    from fastscnn.base.types import PresetName, ResultName, UInt8Array
    from fastscnn.cli.preview import Window
    from fastscnn.inference.overlays import VideoOverlays
    from fastscnn.inference.segmentation import Segmentation
    from fastscnn.inference.segmenter import NetworkOutput, Segmenter
    from fastscnn.media.video import Frame, Source

_KEPT = 10_000  # most recent frames whose times enter the medians: a camera may run for days


@dataclass(frozen=True)
class VideoOptions:
    """The options of `segment` that apply to videos and cameras."""

    what: tuple[ResultName, ...]
    labels: Path | None  # the folder for the results of each frame
    palette: bool
    preset: PresetName
    preview: bool
    smoothing: bool


def run(segmenter: Segmenter, clips: Sequence[Clip], options: VideoOptions, json: bool) -> int:
    """Segment one video after another; return the exit code."""
    code = 0
    with _window() if options.preview else nullcontext() as window:
        for clip in clips:
            with _stopped() as stop:
                stats = _label(segmenter, clip, options, window, stop, json)
            if json:
                print(json_.dumps(stats.line()), flush=True)
            elif stats.frames:
                _print(stats)
            if stats.error:
                complain(stats.error)
                code = 1
            if stop.is_set() and stats.expected is not None:  # else Ctrl-C is how to stop
                complain(f"interrupted; {stats.frames} of about {stats.expected} frames are in {stats.place}.")
                return 130
            if stop.is_set() or (window is not None and not window.open):
                break
    return code


@contextmanager
def _window() -> Iterator[Window]:
    try:
        from fastscnn.cli.preview import Window
    except ImportError as error:
        raise FastSCNNError(f"preview: needs tkinter, which this Python does not have ({error}); omit --preview.") from error
    window = Window("fastscnn")
    try:
        yield window
    finally:
        window.close()


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets, so that the file is completed; the second acts as usual.

    Outside the main thread, where Python allows no signal handlers, the event is never set.
    """
    stop = threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: object) -> None:
        restore()
        stop.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


@dataclass(frozen=True)
class _Done:
    """A finished frame: uint8 [H + legend, W, 3] if it is wanted, percent by class, seconds by stage."""

    overlay: UInt8Array | None
    percentages: dict[str, float]
    seconds: dict[str, float]


@dataclass
class VideoStats:
    """Counts and times of a video."""

    clip: Clip
    segmenter: Segmenter
    options: VideoOptions
    expected: int | None = None  # frames, about
    size: tuple[int, int] | None = None
    frames: int = 0
    taken: int = 0
    dropped: int = 0
    seconds: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)  # of the source
    percentages: dict[str, float] = field(default_factory=dict)  # sums of percents
    times: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))  # milliseconds

    @property
    def place(self) -> Path:
        """Where the results are: the video of overlays, or else the folder of the labels."""
        return self.clip.target if "overlay" in self.options.what or self.options.labels is None else self.options.labels

    def add(self, frame: Frame, done: _Done, encode: dict[str, float]) -> None:
        """Count a written frame."""
        seconds = {"decode": frame.decode, **done.seconds, **encode}
        if self.clip.live:
            seconds["latency"] = perf_counter() - frame.arrived
        self.times.append({stage: 1e3 * value for stage, value in seconds.items()})
        self.percentages = {name: self.percentages.get(name, 0) + share for name, share in done.percentages.items()}
        self.frames += 1
        self.dropped = frame.number + 1 - self.frames

    def counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the same frames, counted as they are taken."""
        for frame in frames:
            self.taken += 1
            yield frame

    @property
    def latency(self) -> str:
        """The latency of the last frame, for the progress line; "" if the video is not live."""
        return f"{self.times[-1]['latency']:.0f} ms latency" if self.clip.live else ""

    def class_percentages(self) -> dict[str, float]:
        """Return the mean percentage of pixels by class name."""
        return {name: total / self.frames for name, total in self.percentages.items()}

    def line(self) -> dict[str, Any]:
        """Return the JSON line."""
        line: dict[str, Any] = {"video": self.clip.name}
        if self.frames:
            backend = self.segmenter.backend
            line |= {
                **({"overlay": str(self.clip.target)} if "overlay" in self.options.what else {}),
                **({"labels": str(self.options.labels)} if self.options.labels else {}),
                "size": self.size,
                "frames": self.frames,
                "dropped": self.dropped,
                "fps": round(self.frames / self.seconds, 2),
                "class_percentages": {name: round(percent, 3) for name, percent in self.class_percentages().items()},
                "milliseconds": {stage: round(median(frame[stage] for frame in self.times), 3) for stage in self.times[0]},
                "backend": backend.name,
                "precision": backend.precision,
                "device": backend.device,
                "verified": self.segmenter.verified,
            }
        return {**line, "error": self.error} if self.error else line


def _label(
    segmenter: Segmenter, clip: Clip, options: VideoOptions, window: Window | None, stop: threading.Event, quiet: bool
) -> VideoStats:
    """Segment one video: a thread decodes, several segment, and this one encodes."""
    from fastscnn.inference.overlays import VideoOverlays
    from fastscnn.media.video_writer import Writer

    stats = VideoStats(clip, segmenter, options)
    start, printed = perf_counter(), 0
    writer: Writer | None = None
    try:
        source = clip.open()
        stats.notes = source.notes
        source = replace(source, frames=stats.counted(source.frames))
        stats.expected, stats.size = source.count, source.size
        overlays = VideoOverlays(segmenter.card.label_set, source.size)
        writing = Writer(clip.target, source, overlays.size, options.preset) if "overlay" in options.what else nullcontext()
        with writing as writer, progress_bar("segment", quiet, rate=True) as advance:
            printed = _print_notes(writer.notes) if writer else 0
            for frame, done in _work(segmenter, source, clip, options, overlays, stop):
                begun = perf_counter()
                if writer is not None and done.overlay is not None:
                    writer.write(done.overlay, frame.pts)
                shown = perf_counter()
                if window is not None and done.overlay is not None:
                    window.show(done.overlay)
                stats.add(frame, done, {"encode": shown - begun} if writer else {})
                advance(frame.number + 1, source.count, stats.latency)
                if stop.is_set() or (window is not None and not window.open):
                    break
            else:
                if not stop.is_set():  # after a stop, frames in progress are not dropped ones
                    stats.dropped = stats.taken - stats.frames
                    if writer is not None:
                        writer.copy_sound()
    except FastSCNNError as error:
        named = clip.name in str(error) or str(stats.place) in str(error)
        some = writer.kept if writer is not None else stats.frames
        kept = f" The {stats.frames} frames before are in {stats.place}." if some else ""
        stats.error = f"{'' if named else f'{clip.name}: '}{error}{kept}"
        if not kept:
            stats.frames = 0
    stats.seconds = perf_counter() - start
    _print_notes(stats.notes)
    if writer is not None:
        _print_notes(writer.notes[printed:])
    return stats


def _print_notes(notes: Sequence[str]) -> int:
    """Print the notes of the writer; return their number."""
    for text in notes:
        note(text)
    return len(notes)


def _work(
    segmenter: Segmenter, source: Source, clip: Clip, options: VideoOptions, overlays: VideoOverlays, stop: threading.Event
) -> Iterator[tuple[Frame, _Done]]:
    """Yield the frames with their results in order; several are in progress at a time."""
    from fastscnn.media.stream import ordered

    streams = segmenter.backend.streams

    drawn = "overlay" in options.what or options.preview
    maps = [name for name in options.what if name != "overlay"]
    confidence, ood_mask = "confidence" in maps, "ood_mask" in maps

    def finish(frame: Frame, segmentation: Segmentation) -> _Done:
        start, overlay, seconds = perf_counter(), None, dict(segmentation.seconds)
        if drawn:
            overlay = overlays.draw(segmentation, frame.image)
            seconds["overlay"] = perf_counter() - start
        if options.labels is not None:
            start = perf_counter()
            segmentation.save_files(options.labels / f"{clip.job.result.name}.{frame.number:06d}", maps, options.palette)
            seconds["write"] = perf_counter() - start
        return _Done(overlay, segmentation.class_percentages(), seconds)

    if not options.smoothing:
        def whole(frame: Frame) -> _Done:
            return finish(frame, segmenter.segment(frame.image, confidence, ood_mask))

        return ordered(whole, source.frames, streams, clip.live, stop)

    def second_half(seen: tuple[Frame, NetworkOutput]) -> _Done:
        frame, passes = seen
        return finish(frame, segmenter.label(passes, confidence, ood_mask))

    # Two pools of workers: smoothing between them needs the frames in order.
    first = ordered(lambda frame: segmenter.forward(frame.image), source.frames, streams, clip.live, stop)
    return ((frame, done) for (frame, _), done in ordered(second_half, segmenter.smoothed(first), streams, stop=stop))


def _print(stats: VideoStats) -> None:
    backend = stats.segmenter.backend
    print_stages(described(stats.segmenter), stats.times, [stats.class_percentages()])
    dropped = f", {stats.dropped} dropped" if stats.dropped else ""
    show(f"{stats.frames} frames{dropped}, {stats.frames / stats.seconds:.1f} per second from file to file, "
         f"{backend.streams} at a time; {'open' if stats.place == stats.clip.target else 'see'} {stats.place}")
