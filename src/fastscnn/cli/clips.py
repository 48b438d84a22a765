"""The videos that `segment` reads (files, a camera, a live stream, or images as a video), and where their overlays go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.cli.console import note
from fastscnn.media import inputs
from fastscnn.media.addresses import Address

if TYPE_CHECKING:
    from fastscnn.media.inputs import Job
    from fastscnn.media.video import Source


@dataclass(frozen=True)
class Clip:
    """A video to segment.

    Attributes:
        open: opens it.
        name: for messages and JSON.
        job: its path, and where its results go.
        target: the video of overlays.
        live: whether frames that arrive while busy are dropped.
    """

    open: Callable[[], Source]
    name: str
    job: Job
    target: Path
    live: bool


def clips(paths: Sequence[Path | Address], camera: str | None, out: Path, fps: float, realtime: bool) -> list[Clip]:
    """Return the videos to segment; an empty list if the paths are images that do not become a video.

    For images that become a video, print what is left out of the folders.

    Raises:
        FastSCNNError: arguments that exclude each other, or PyAV is missing.
    """
    recorded = [path for path in paths if isinstance(path, Path)]
    streams = [path for path in paths if isinstance(path, Address)]
    if camera is None and not streams and not (recorded and any(inputs.is_video(path) for path in (out, *recorded))):
        return []
    try:
        from fastscnn.media import video_writer

        if inputs.is_video(out):
            video_writer.check(out)
        if not streams:
            return _recorded(recorded, camera, out, fps, realtime)
    except ImportError as error:
        raise missing_extra(f"Reading videos ({error})", "video") from error
    if len(paths) > 1 or camera is not None:
        raise ArgumentError(f"{streams[0].name}: a live stream cannot be combined with others, files or a camera; use a call "
                            "for each.")
    return [_stream(streams[0], out)]


def _stream(address: Address, out: Path) -> Clip:
    from fastscnn.media import live

    context = copy_context()  # the frames are read in a thread, whose context does not have --quiet

    def say(text: str) -> None:
        context.run(note, text)

    into_file = inputs.is_video(out)
    job = inputs.Job(Path(address.stem), (out.parent if into_file else out) / address.stem)
    target = out if into_file else job.beside(".overlay.mp4")
    return Clip(partial(live.read, address, on_message=say), address.name, job, target, live=True)


def _recorded(paths: Sequence[Path], camera: str | None, out: Path, fps: float, realtime: bool) -> list[Clip]:
    """Return the clips of a camera or of files."""
    from fastscnn.media import video

    into_file = inputs.is_video(out)
    folder = out.parent if into_file else out
    if camera is not None:
        if paths:
            raise ArgumentError("camera: cannot be combined with paths; use two calls.")
        jobs, live = [inputs.Job(Path(camera), folder / "camera")], True
        openers: list[Callable[[], Source]] = [partial(video.camera, camera)]
    elif not any(inputs.is_video(path) for path in paths):
        found, live = inputs.find(paths, out), False
        if found.left_out:
            note(found.left_out)
        if realtime:
            raise ArgumentError("realtime: for videos only; images have no speed of their own.")
        jobs = [inputs.Job(found.jobs[0].image.parent, folder / out.stem)]
        openers = [partial(video.stills, [job.image for job in found.jobs], Fraction(fps).limit_denominator(1001))]
    else:
        if not all(inputs.is_video(path) for path in paths):
            raise ArgumentError("paths: images and videos cannot be mixed; use two calls.")
        jobs, live = inputs.find(paths, folder).jobs, realtime
        openers = [partial(_paced if realtime else video.read, job.image) for job in jobs]
    if into_file and len(jobs) > 1:
        raise ArgumentError(f"{out}: is one file for {len(jobs)} videos; give --out a folder.")
    targets = [out if into_file else job.beside(".overlay.mp4") for job in jobs]
    _refuse_inputs(jobs, targets)
    return [Clip(opener, str(job.image), job, target, live)
            for opener, job, target in zip(openers, jobs, targets, strict=True)]


def _refuse_inputs(jobs: Sequence[Job], targets: Sequence[Path]) -> None:
    """Raise ArgumentError if an overlay would overwrite a video to segment."""
    given = {job.image.resolve() for job in jobs}
    for job, target in zip(jobs, targets, strict=True):
        if target.resolve() in given:
            lost = "the video itself" if target.resolve() == job.image.resolve() else \
                   f"an input video, which the overlay of {job.image} would overwrite"
            raise ArgumentError(f"{target}: is {lost}; give --out another name.")


def sizes(clips: Sequence[Clip]) -> Iterator[tuple[int, int]]:
    """Yield (height, width) of the videos that can be opened twice; a broken video fails later, with a message."""
    for clip in clips:
        if not clip.job.image.is_fifo():
            try:
                yield clip.open().size
            except FastSCNNError:
                continue


def _paced(path: Path) -> Source:
    """Return a video whose frames arrive at the times they are shown."""
    from fastscnn.media import video

    return video.paced(video.read(path, sound=False))
