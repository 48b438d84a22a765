"""segment, of videos and cameras: frames in, a video of overlays out, and the labels of each frame where they are asked for."""

from __future__ import annotations

import json as json_
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from fastscnn import inputs
from fastscnn.cli._console import STDERR, STDOUT, complain, print_stages, progress_bar
from fastscnn.errors import FastSCNNError

if TYPE_CHECKING:
    from fastscnn.arrays import UInt8Array
    from fastscnn.cli._preview import Window
    from fastscnn.inputs import Job
    from fastscnn.segmentation import Segmentation
    from fastscnn.segmenter import Passes, Segmenter
    from fastscnn.video import Frame, Source

_KEPT = 10_000  # frames, the last ones, whose times the medians are of: a camera may run for days


@dataclass(frozen=True)
class Clip:
    """A video to label: how its frames are had, where the overlays go, and whether frames that come while busy are dropped."""

    open: Callable[[], Source]
    job: Job
    target: Path
    live: bool


@dataclass(frozen=True)
class Wish:
    """What is made of the frames, as the flags of `segment` say it."""

    labels: Path | None
    preview: bool
    steady: bool
    confidence: bool
    unknown: bool


def clips(paths: Sequence[Path], camera: str | None, out: Path, fps: float, realtime: bool) -> list[Clip]:
    """What is to be labelled: videos, a camera, or images that become one video; nothing where only images are meant.

    Raises:
        FastSCNNError: what does not go together, or PyAV is missing.
    """
    if camera is None and not (paths and any(inputs.is_video(path) for path in (out, *paths))):
        return []
    try:
        from fastscnn import video
    except ImportError as error:
        raise FastSCNNError(f"video: needs PyAV ({error}); pip install 'fastscnn[video]'.") from error
    into_file = inputs.is_video(out)
    folder = out.parent if into_file else out
    if camera is not None:
        if paths:
            raise FastSCNNError("camera: is labelled alone; give the other paths in a call of their own.")
        jobs, live = [inputs.Job(Path(camera), folder / "camera")], True
        openers: list[Callable[[], Source]] = [partial(video.camera, camera)]
    elif not any(inputs.is_video(path) for path in paths):
        images, live = inputs.find(paths, out), False
        if realtime:
            raise FastSCNNError("realtime: goes with a video, which has a pace of its own; images have none.")
        if not 0.01 <= fps <= 1000:
            raise FastSCNNError(f"fps: lies between 0.01 and 1000, not {fps:g}.")
        jobs = [inputs.Job(images[0].image.parent, folder / out.stem)]
        openers = [partial(video.stills, [job.image for job in images], Fraction(fps).limit_denominator(1001))]
    else:
        if not all(inputs.is_video(path) for path in paths):
            raise FastSCNNError("paths: are videos, or images and folders of images; give the one and the other in two calls.")
        jobs, live = inputs.find(paths, folder), realtime
        openers = [partial(_paced if realtime else video.read, job.image) for job in jobs]
    if into_file and len(jobs) > 1:
        raise FastSCNNError(f"{out}: is one file for {len(jobs)} videos; give a folder.")
    targets = [out if into_file else job.beside(".overlay.mp4") for job in jobs]
    given = {job.image.resolve() for job in jobs}
    for job, target in zip(jobs, targets, strict=True):
        if target.resolve() in given:
            lost = "the video itself" if target.resolve() == job.image.resolve() else \
                   f"a video that is given, and the overlay of {job.image} would be written over it"
            raise FastSCNNError(f"{target}: is {lost}; give --out another name.")
    return [Clip(opener, job, target, live) for opener, job, target in zip(openers, jobs, targets, strict=True)]


def sizes(clips: Sequence[Clip]) -> Iterator[tuple[int, int]]:
    """(height, width) of the videos that can be opened twice; what is wrong with one is said when its turn has come."""
    for clip in clips:
        if not clip.job.image.is_fifo():
            try:
                yield clip.open().size
            except FastSCNNError:
                continue


def run(segmenter: Segmenter, clips: Sequence[Clip], wish: Wish, json: bool) -> int:
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
        from fastscnn.cli._preview import Window
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
            runtime = self.segmenter.runtime
            line |= {
                "overlay": str(self.clip.target),
                "size": self.size,
                "frames": self.frames,
                "dropped": self.dropped,
                "fps": round(self.frames / self.seconds, 2),
                "share": {name: round(share, 3) for name, share in self.share().items()},
                "milliseconds": {stage: round(median(frame[stage] for frame in self.times), 3) for stage in self.times[0]},
                "runtime": runtime.name,
                "precision": runtime.precision,
            }
        return {**line, "error": self.error} if self.error else line


def _label(
    segmenter: Segmenter, clip: Clip, wish: Wish, window: Window | None, stop: Event, quiet: bool
) -> _Tally:
    """Labels one video: a thread decodes, several label, and this one encodes."""
    from fastscnn.recording import Writer
    from fastscnn.segmentation import legend

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


def _work(segmenter: Segmenter, source: Source, clip: Clip, wish: Wish, strip: UInt8Array) -> Iterator[tuple[Frame, _Done]]:
    """The frames with what is made of them, in order, several in the making at a time."""
    from fastscnn.stream import ordered

    streams = segmenter.runtime.streams

    def finish(frame: Frame, segmentation: Segmentation) -> _Done:
        start = perf_counter()
        overlay = np.concatenate([segmentation.blend(frame.image), strip])
        shares = segmentation.shares()
        seconds = {**segmentation.seconds, "overlay": perf_counter() - start}
        if wish.labels is not None:
            start = perf_counter()
            stem = wish.labels / f"{clip.job.result.name}.{frame.number:06d}"
            segmentation.save_labels(stem.with_name(f"{stem.name}.labels.png"))
            segmentation.save_confidence(stem.with_name(f"{stem.name}.confidence.png"))
            segmentation.save_unknown(stem.with_name(f"{stem.name}.unknown.png"))
            seconds["write"] = perf_counter() - start
        return _Done(overlay, shares, seconds)

    if not wish.steady:
        def whole(frame: Frame) -> _Done:
            return finish(frame, segmenter.segment(frame.image, wish.confidence, wish.unknown))

        return ordered(whole, source.frames, streams, clip.live)

    def second_half(seen: tuple[Frame, Passes]) -> _Done:
        frame, passes = seen
        return finish(frame, segmenter.label(frame.image, passes, wish.confidence, wish.unknown))

    # Two rows of workers, since what lies between them goes frame by frame.
    first = ordered(lambda frame: segmenter.forward(frame.image), source.frames, streams, clip.live)
    return ((frame, done) for (frame, _), done in ordered(second_half, segmenter.steadied(first), streams))


def _paced(path: Path) -> Source:
    """A video whose frames come when they are shown."""
    from fastscnn import video

    source = video.read(path, sound=False)

    def frames() -> Iterator[Frame]:
        start = perf_counter()
        for frame in source.frames:
            sleep(max(0.0, float(frame.pts * source.time_base) - (perf_counter() - start)))
            yield frame

    return replace(source, frames=frames())


def _print(tally: _Tally) -> None:
    runtime = tally.segmenter.runtime
    print_stages(f"{runtime.name} {runtime.precision}, {runtime.threads} threads", tally.times, [tally.share()])
    dropped = f", {tally.dropped} dropped" if tally.dropped else ""
    STDOUT.print(f"{tally.frames} frames{dropped}, {tally.frames / tally.seconds:.1f} per second from file to file, "
                 f"{runtime.streams} at a time; look at {tally.clip.target}", soft_wrap=True)
