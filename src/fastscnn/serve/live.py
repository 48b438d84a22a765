"""The overlays of one live stream, segmented once for all that watch: motion JPEG over HTTP."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from threading import Event, Thread
from time import perf_counter

from fastscnn.base.errors import FastSCNNError
from fastscnn.inference.overlays import VideoOverlays
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import jpeg, live
from fastscnn.media.addresses import Address
from fastscnn.media.stream import ordered
from fastscnn.media.video import Frame, Source
from fastscnn.serve.metrics import Metrics
from fastscnn.serve.request_log import LOG

_BOUNDARY = "frame"
CONTENT_TYPE = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
MOST_VIEWERS = 32
_QUALITY = 85  # of a JPEG
_POLL = 0.5  # seconds until a viewer notices that the service stops
PAUSE = 1.0  # seconds before a stream whose frames have changed their size is opened again


class LiveOverlays:
    """Segments a live stream, one frame at a time, while somebody watches. Of the frames that arrive meanwhile, it takes the
    latest.

    Args:
        address: of the stream.
        segmenter: for its frames.
        metrics: counts them.
        ready: whether the service goes on.

    Attributes:
        viewers: number of viewers.

    Raises:
        FastSCNNError: the stream cannot be opened. Once it is open, it is connected to again without an end.
    """

    def __init__(self, address: Address, segmenter: Segmenter, metrics: Metrics, ready: Callable[[], bool]) -> None:
        self.viewers = 0  # changed in the event loop only
        self._address, self._segmenter, self._metrics, self._ready = address, segmenter, metrics, ready
        self._part = b""
        self._stop = Event()
        self._source = self._opened()

    def start(self) -> None:
        """Start the thread that segments. Call it in the event loop of the viewers."""
        self._loop, self._new = asyncio.get_running_loop(), asyncio.Event()
        Thread(target=self._run, name="fastscnn-live", daemon=True).start()

    def close(self) -> None:
        """End the thread after its frame."""
        self._stop.set()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield new overlays as parts of multipart/x-mixed-replace until the service stops. A slow viewer misses some."""
        self.viewers += 1
        sent = self._part  # of an earlier viewer, and old
        try:
            while self._ready():
                if self._part is sent:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._new.wait(), _POLL)
                else:
                    sent = self._part
                    yield sent
        finally:
            self.viewers -= 1

    def _opened(self) -> Source:
        return live.read(self._address, math.inf, LOG.info, self._stop)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._segment(self._source)
                if not self._stop.wait(PAUSE):
                    self._source = self._opened()
            except FastSCNNError as error:
                LOG.info("%s", error)
        del self._source  # closed once its thread has ended

    def _segment(self, source: Source) -> None:
        """Segment the frames of a source while somebody watches."""
        overlays = VideoOverlays(self._segmenter.card.label_set, source.size)

        def encode(frame: Frame) -> bytes:
            segmentation = self._segmenter.segment(frame.image, keep_image=False)
            return jpeg.encoded(overlays.draw(segmentation, frame.image), _QUALITY)

        watched = (frame for frame in source.frames if self.viewers)
        for frame, image in ordered(encode, watched, 1, realtime=True, stop=self._stop):
            self._metrics.live(perf_counter() - frame.arrived)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            with suppress(RuntimeError):  # the event loop has ended before this frame
                self._loop.call_soon_threadsafe(self._publish, head.encode() + image + b"\r\n")

    def _publish(self, part: bytes) -> None:
        """Wake the viewers that wait."""
        self._part = part
        self._new.set()
        self._new = asyncio.Event()
